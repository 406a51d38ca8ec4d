"""The stream of training samples, whose order is a function of the seed alone.

Position `p` of the stream always has the same frame and the same augmentation, regardless of the number of workers and
processes and of the step at which a run was resumed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from zoo.errors import InputError
from zoo.frame import Frame
from zoo.inputs.preprocessing import Preprocessing
from zoo.training.augment import Augmentation, distort, resize_crop_flip, sample_generator

__all__ = ["SampleStream", "Source", "loader", "stream_order"]


@dataclass(frozen=True)
class Source:
    """Frames of one data set and their share of the samples.

    Attributes:
        frames: Training frames.
        label_map: `(256,)` uint8 map from the data set's labels to the model's; labels without a counterpart map to the
            model's ignore index. `None` for a recipe that needs no labels.
        weight: Share of the samples, relative to the other sources.
    """

    frames: Sequence[Frame]
    label_map: np.ndarray | None = None
    weight: float = 1.0


def stream_order(lengths: Sequence[int], weights: Sequence[float], total: int, seed: int) -> np.ndarray:
    """`(total, 3)` int64: source, epoch of the source, and frame index at every position.

    Each source goes through its frames in a new random order every epoch.
    """
    share = np.array(weights, np.float64) / sum(weights)
    chosen = np.random.default_rng([seed, 1]).choice(len(lengths), size=total, p=share)
    order = np.empty((total, 3), np.int64)
    order[:, 0] = chosen
    for source, length in enumerate(lengths):
        positions = np.flatnonzero(chosen == source)
        rank = np.arange(len(positions))
        order[positions, 1] = rank // length
        epochs = -(-len(positions) // length)
        permutations = [np.random.default_rng([seed, 2, source, epoch]).permutation(length) for epoch in range(epochs)]
        order[positions, 2] = np.concatenate(permutations)[rank] if epochs else 0
    return order


class SampleStream(Dataset):
    """Augmented, normalised samples by position.

    Args:
        sources: Data sets to draw from.
        total: Number of positions.
        crop: (height, width) of a sample.
        augmentation: Augmentation settings.
        preprocessing: Preprocessing of the model, whose normalisation is applied to each sample.
        ignore_index: The model's label for ignored pixels.
        seed: Seed of all random choices.
        cache: Keep decoded frames in memory.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        total: int,
        crop: tuple[int, int],
        augmentation: Augmentation,
        preprocessing: Preprocessing,
        ignore_index: int,
        seed: int,
        cache: bool = True,
    ) -> None:
        if not sources or any(not source.frames for source in sources):
            raise InputError("a training data set has no frames; check the split in its folder")
        self.sources = sources
        self.order = stream_order([len(s.frames) for s in sources], [s.weight for s in sources], total, seed)
        self.crop = crop
        self.augmentation = augmentation
        self.preprocessing = preprocessing
        self.ignore_index = ignore_index
        self.seed = seed
        self._cache: dict[tuple[int, int], tuple[np.ndarray, np.ndarray | None]] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.order)

    def decoded(self, source: int, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """The image and its labels in the model's classes; `None` for the labels if the source has no label map.

        Raises:
            InputError: If labels are needed but the frame has none, or image and labels differ in size.
        """
        key = (source, index)
        if self._cache is not None and key in self._cache:
            return self._cache[key]
        frame = self.sources[source].frames[index]
        label_map = self.sources[source].label_map
        image, labels = frame.camera.image, None
        if label_map is not None:
            labels = frame.camera.labels
            if labels is None:
                raise InputError(f"frame {frame.id} has no labels to train on")
            if image.shape[:2] != labels.shape:
                raise InputError(f"frame {frame.id}: image {image.shape[:2]} and labels {labels.shape} differ in size")
            labels = label_map[labels]
        if self._cache is not None:
            self._cache[key] = (image, labels)
        return image, labels

    def fill_cache(self) -> None:
        """Decodes every frame up front, so that forked worker processes share the memory."""
        for source, entry in enumerate(self.sources):
            for index in range(len(entry.frames)):
                self.decoded(source, index)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, torch.Tensor] | torch.Tensor:
        """`(3, h, w)` float32 image and `(h, w)` int64 labels; the image alone from a source without a label map."""
        source, _, index = (int(value) for value in self.order[position])
        image, labels = self.decoded(source, index)
        height, _ = self.preprocessing.resized_size(*image.shape[:2])
        # Scales are relative to the size at which the model sees the image during inference.
        factor = height / image.shape[0]
        low, high = self.augmentation.scale
        augmentation = dataclasses.replace(self.augmentation, scale=(factor * low, factor * high))
        generator = sample_generator(self.seed, 0, position)
        image, labels = resize_crop_flip(image, labels, self.crop, augmentation, generator, self.ignore_index)
        array = self.preprocessing.normalise(distort(image, augmentation, generator))
        if labels is None:
            return torch.from_numpy(array)
        return torch.from_numpy(array), torch.from_numpy(labels.astype(np.int64))


class _Positions(Sampler[int]):
    """Positions of one process, starting at `first`."""

    def __init__(self, first: int, total: int, rank: int, world_size: int) -> None:
        self._range = range(first + rank, total, world_size)

    def __iter__(self) -> Iterator[int]:
        return iter(self._range)

    def __len__(self) -> int:
        return len(self._range)


def loader(
    stream: Any,
    *,
    batch: int,
    first_step: int,
    workers: int,
    rank: int = 0,
    world_size: int = 1,
    collate: Callable[[Any], Any] | None = None,
) -> DataLoader:
    """Batches of this process, starting at `first_step`.

    Args:
        stream: Samples by position: a torch data set with a length.
        batch: Total size over all processes.
        first_step: Step of the first batch.
        workers: Number of processes that prepare samples.
        rank: Number of this process.
        world_size: Number of processes.
        collate: Joins a list of samples to a batch; `None` stacks tensors.
    """
    if batch % world_size:
        raise InputError(f"batch {batch} is not a multiple of {world_size}, the number of processes")
    return DataLoader(
        stream,
        batch_size=batch // world_size,
        sampler=_Positions(first_step * batch, len(stream), rank, world_size),
        num_workers=workers,
        collate_fn=collate,
        drop_last=True,
        persistent_workers=False,
    )
