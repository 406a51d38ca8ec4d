"""The stream of augmented sweeps, whose order is a function of the seed alone, and what a recipe needs to know of them.

Position `p` of the stream always has the same sweep and the same augmentation, as that of images
(`zoo.training.samples`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset

from zoo.classes import ClassTable
from zoo.data.dataset import Dataset
from zoo.errors import InputError
from zoo.frame import Frame, SensorFacts, Sweep
from zoo.inputs.points import PointsInput
from zoo.inputs.range_image import RangeImageInput
from zoo.sensors import sensor_axes, unit_vector
from zoo.training.augment import sample_generator
from zoo.training.augment_points import PointAugmentation, augment, laser_mix
from zoo.training.paste_objects import Cutout, cut_out, ground_labels, paste, thing_labels
from zoo.training.samples import Source, stream_order

__all__ = [
    "Collate",
    "Percent",
    "SweepStream",
    "label_subset",
    "labelled_sweeps",
    "sensor_of",
    "sweep_of",
    "tensors_of",
]

Percent = Literal[1, 5, 10, 25, 100]
"""Shares of the labels that are trained on in published comparisons."""
_SWEEPS_WITH_OBJECTS = 400
"""Objects to paste are cut from at most this many sweeps of a data set."""
SweepInput = PointsInput | RangeImageInput
Batch = tuple[tuple[torch.Tensor, ...], torch.Tensor]
"""The arrays of a batch in the order in which the model takes them, and `(N,)` labels."""


def label_subset(kind: str, frames: Sequence[Frame], percent: Percent) -> tuple[Frame, ...]:
    """The frames that published comparisons with a share of the labels train on.

    With N = 100 over the percentage: in nuScenes the Nth, 2Nth and so on of the split's scenes, in the order of
    `scene.json`, and in other data sets every Nth sweep, beginning with the first.

    Source: code of SLidR (Sautier et al., 2022), which counts nuScenes' scenes and keeps those whose number is a
    multiple of N, and takes `[::N]` of SemanticKITTI's sorted files.

    Raises:
        InputError: If nuScenes has fewer than N scenes.
    """
    step = 100 // percent
    if kind != "nuscenes":
        return tuple(frames[::step])
    rows = {frame.scene: frame.meta["scene_row"] for frame in frames}
    chosen = set(sorted(rows, key=lambda scene: rows[scene])[step - 1 :: step])
    if not chosen:
        raise InputError(f"--labels {percent}: every {step}th of {len(rows)} scenes is none; choose a larger share")
    return tuple(frame for frame in frames if frame.scene in chosen)


def labelled_sweeps(dataset: Dataset) -> tuple[Frame, ...]:
    """The frames with a labelled sweep; A2D2 has camera images without one.

    Raises:
        InputError: If there is none, or a frame has several lidars.
    """
    found = tuple(frame for frame in dataset.frames if frame.lidars and sweep_of(frame).labels_source is not None)
    if not found:
        raise InputError(f"{dataset.kind} {dataset.split} has no labels for its points to train on")
    return found


def sweep_of(frame: Frame) -> Sweep:
    """The newest sweep of a frame with one lidar.

    Raises:
        InputError: If the frame has another number of lidars.
    """
    if len(frame.lidars) != 1 or not next(iter(frame.lidars.values())):
        names = ", ".join(frame.lidars) or "none"
        raise InputError(f"frame {frame.id} has {len(frame.lidars)} lidars ({names}); training needs sweeps of one")
    ((sweep, *_),) = frame.lidars.values()
    return sweep


def sensor_of(frames: Sequence[Frame]) -> SensorFacts:
    """The facts about the training sweeps that the model folder records.

    What the reader of the first data set states, and where it does not, the median number of points of up to 16 sweeps.
    Intensities of sweeps are always 0 to 1.
    """
    chosen = [sweep_of(frame) for frame in frames[:: -(-len(frames) // 16)]]
    facts = dataclasses.replace(chosen[0].sensor or SensorFacts(), intensity_scale="0-1")
    if facts.points is None:
        facts = dataclasses.replace(facts, points=int(np.median([len(sweep.points) for sweep in chosen])))
    return facts


class SweepStream(TorchDataset):
    """Augmented sweeps, prepared for the model, by position.

    Args:
        sources: Data sets to draw from, with label maps.
        total: Number of positions.
        input: The model's input, with the sensor of the training data.
        augmentation: Augmentation settings.
        seed: Seed of all random choices.
        cache: Keep the sweeps in memory, as the input reads them.
        classes: The model's; needed to paste objects.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        total: int,
        input: SweepInput,
        augmentation: PointAugmentation,
        seed: int,
        cache: bool = True,
        classes: ClassTable | None = None,
    ) -> None:
        if not sources or any(not source.frames for source in sources):
            raise InputError("a training data set has no sweeps; check the split in its folder")
        self.sources = sources
        self.order = stream_order([len(s.frames) for s in sources], [s.weight for s in sources], total, seed)
        self.input = input
        self.augmentation = augmentation
        self.seed = seed
        points = input.points if isinstance(input, RangeImageInput) else input
        # (3, 3): forward, left and up of the points.
        axes = sensor_axes(points.sensor or SensorFacts())
        self._level = np.array([unit_vector(axis) for axis in axes], np.float32)
        self._intensity, self._ring = (
            points.channels.index(name) if name in points.channels else None for name in ("intensity", "ring")
        )
        self._cache: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] | None = {} if cache else None
        self._ground: tuple[int, ...] = ()
        self._objects: list[dict[int, list[Cutout]]] = [{} for _ in sources]
        if augmentation.instance_paste:
            if classes is None:
                raise InputError("instance_paste needs the classes of the model")
            self._ground = ground_labels(classes)
            self._objects = [self._cut_out(source, thing_labels(classes)) for source in range(len(sources))]
            if not any(self._objects):
                raise InputError(
                    "--augmentation.instance-paste: the training sweeps contain no object that stands on visible "
                    "ground; set it to 0"
                )

    def __len__(self) -> int:
        return len(self.order)

    def decoded(self, source: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The points as the model takes them, and their labels in the model's classes.

        Raises:
            InputError: If there are no labels, or not one per point, or the sweep does not fit the sensor.
        """
        key = (source, index)
        if self._cache is not None and key in self._cache:
            return self._cache[key]
        frame = self.sources[source].frames[index]
        labels, label_map = sweep_of(frame).labels, self.sources[source].label_map
        assert labels is not None
        assert label_map is not None
        points = self.input.read(frame)
        if len(labels) != len(points):
            raise InputError(f"frame {frame.id} has {len(points):,} points and {len(labels):,} labels")
        found = points, label_map[labels]
        if self._cache is not None:
            self._cache[key] = found
        return found

    def fill_cache(self) -> None:
        """Reads every sweep up front, so that forked worker processes share the memory."""
        for source, entry in enumerate(self.sources):
            for index in range(len(entry.frames)):
                self.decoded(source, index)

    def _cut_out(self, source: int, things: Sequence[int]) -> dict[int, list[Cutout]]:
        """Objects from sweeps spread over a data set, by class."""
        frames = self.sources[source].frames
        found: dict[int, list[Cutout]] = {}
        for index in range(0, len(frames), -(-len(frames) // _SWEEPS_WITH_OBJECTS)):
            points, labels = self.decoded(source, index)
            instances = sweep_of(frames[index]).instances
            for each in cut_out(self._levelled(points), labels, instances, things, self._ground):
                found.setdefault(each.label, []).append(each)
        return found

    def __getitem__(self, position: int) -> tuple[Any, np.ndarray]:
        """The prepared sweep, and `(N,)` labels of its points."""
        source, _, index = (int(value) for value in self.order[position])
        generator = sample_generator(self.seed, 0, position)
        points, labels = self._augmented(source, index, generator)
        if generator.random() < self.augmentation.laser_mix:
            other = int(generator.integers(len(self.sources[source].frames)))
            points, labels = laser_mix((points, labels), self._augmented(source, other, generator), generator)
        points[:, :3] = points[:, :3] @ self._level
        return self.input.prepare(points), labels

    def _augmented(self, source: int, index: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Points forward, to the left and up, and their labels."""
        points, labels = self.decoded(source, index)
        points = self._levelled(points)
        if (objects := self._objects[source]) and generator.random() < self.augmentation.instance_paste:
            points, labels = paste(points, labels, objects, self._ground, generator)
        sensor = sweep_of(self.sources[source].frames[index]).sensor or SensorFacts()
        return augment(
            points,
            labels,
            self.augmentation,
            generator,
            intensity=self._intensity,
            ring=self._ring,
            beams=sensor.beams,
        )

    def _levelled(self, points: np.ndarray) -> np.ndarray:
        """A copy whose first three columns are forward, to the left and up."""
        levelled = points.copy()
        levelled[:, :3] = points[:, :3] @ self._level.T
        return levelled


def tensors_of(input: SweepInput, prepared: Sequence[Any], names: Sequence[str]) -> tuple[torch.Tensor, ...]:
    """Several prepared sweeps as one batch, in the order `names` in which the model takes them."""
    arrays: Mapping[str, np.ndarray] = input.together(prepared)
    return tuple(torch.from_numpy(np.ascontiguousarray(arrays[name])) for name in names)


class Collate:
    """Joins items of a `SweepStream` to a `Batch`.

    Args:
        input: The model's input.
        names: Names of the model's inputs, in order.
    """

    def __init__(self, input: SweepInput, names: Sequence[str]) -> None:
        self.input, self.names = input, tuple(names)

    def __call__(self, items: Sequence[tuple[Any, np.ndarray]]) -> Batch:
        """The batch."""
        prepared, labels = zip(*items, strict=True)
        return tensors_of(self.input, prepared, self.names), torch.from_numpy(np.concatenate(labels).astype(np.int64))
