"""Parts of the segmenter recipe: training data, initial weights, class weights, evaluation on held-back frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from zoo.class_maps import class_map
from zoo.classes import ClassTable
from zoo.data import open_dataset
from zoo.data.dataset import Dataset
from zoo.errors import InputError
from zoo.evaluate.metrics.counts import count_pairs
from zoo.folder.architecture import EncoderHead, build
from zoo.folder.catalogue import Entry, entry
from zoo.folder.model_folder import ModelFolder
from zoo.folder.weights import assign, parse
from zoo.frame import Frame
from zoo.inputs.image import ImageInput
from zoo.inputs.preprocessing import Preprocessing
from zoo.tasks.segmentation2d import Segmentation2DTask
from zoo.training.publish import Start, Used
from zoo.training.samples import Source

__all__ = ["class_weights", "count_frames", "initial_model", "read_training_data", "split_training"]


def read_training_data(
    settings: Any, choose: Callable[[Dataset], tuple[Frame, ...]] = lambda dataset: dataset.frames
) -> tuple[ClassTable, list[Source], list[tuple[Frame, np.ndarray]], list[Used]]:
    """The model's classes, the training sources, the held-back frames with their label maps, and the data's records.

    Args:
        settings: Of the recipe: `model`, `data`, `mixture` and `holdout`.
        choose: The frames of a data set whose labels may be used, for training or held back.
    """
    datasets = [_open(value) for value in settings.data]
    if not entry(settings.model).architecture.get("head"):
        raise InputError(f"--model {settings.model} has no head; choose a model with a segmentation head")
    classes = datasets[0].classes
    shares = settings.mixture or (1.0,) * len(datasets)
    sources: list[Source] = []
    holdout: list[tuple[Frame, np.ndarray]] = []
    used: list[Used] = []
    for dataset, share in zip(datasets, shares, strict=True):
        label_map = _label_map(dataset.classes, classes)
        usable = dataclasses.replace(dataset, frames=choose(dataset))
        frames, held = split_training(usable, 0.0 if sources else settings.holdout)
        if not sources:
            holdout = [(frame, label_map) for frame in held]
        sources.append(Source(frames, label_map, share))
        used.append(Used(dataset, frames, len(held)))
    return classes, sources, holdout, used


def _open(value: str) -> Dataset:
    kind, separator, root = value.partition("=")
    if not separator or not root:
        raise InputError(f"--data {value}: expected KIND=DIR, for example camvid=/data/CamVid")
    return open_dataset(kind, Path(root), "train")


def _label_map(source: ClassTable, target: ClassTable) -> np.ndarray:
    """`(256,)` uint8 map from a data set's labels to the model's; labels without a counterpart are ignored."""
    table = class_map(source, target).copy()
    table[len(source) :] = target.ignore_index
    table[table >= len(target)] = target.ignore_index
    return table


def split_training(dataset: Dataset, holdout: float) -> tuple[tuple[Frame, ...], tuple[Frame, ...]]:
    """Frames to train on, and frames held back: the last scenes or, for CamVid, the end of each day sequence."""
    if dataset.kind == "camvid":
        from zoo.data.camvid import training_split

        return training_split(dataset, holdout)
    frames = dataset.frames
    cut = len(frames) - round(len(frames) * holdout)
    while 0 < cut < len(frames) and frames[cut].scene == frames[cut - 1].scene:
        cut -= 1  # never split a scene between training and held-back frames
    if cut == 0:
        raise InputError(f"{dataset.kind} train has a single scene, which cannot be split; use --holdout 0")
    return frames[:cut], frames[cut:]


def initial_model(settings: Any, classes: ClassTable) -> tuple[EncoderHead, Entry, Start]:
    """The model with its initial weights, the catalogue entry of its architecture, and the origin of the weights.

    Raises:
        InputError: If the weights cannot be read or downloaded. There is no fallback to random weights.
    """
    chosen = entry(settings.model)
    model = build(chosen.architecture, len(classes), pretrained=settings.init == "imagenet")
    if settings.init == "random":
        return model, chosen, Start.random()
    if settings.init == "imagenet":
        return model, chosen, Start.imagenet(chosen.architecture)
    from zoo.loading import find_folder

    folder = ModelFolder.open(find_folder(settings.init))
    file = folder.artefact("torch")["file"]
    _start_from(model, parse(folder.read_bytes(file), str(folder.path / file)), folder, classes)
    return model, chosen, Start.folder(folder)


def _start_from(model: nn.Module, weights: dict[str, torch.Tensor], folder: ModelFolder, classes: ClassTable) -> None:
    """Loads the weights of the encoder and, if present, the head; classifier rows are converted with the class map."""
    own = model.state_dict()
    if not any(name.startswith("encoder.") for name in weights):
        weights = {f"encoder.{name}": value for name, value in weights.items()}
    source = folder.task.classes
    if source is not None and source.names != classes.names:
        weights = {
            name: _map_rows(value, own[name], source, classes)
            if name in own and value.shape != own[name].shape
            else value
            for name, value in weights.items()
        }
    taken = {name: value for name, value in weights.items() if name in own}
    lacking = [name for name in own if name.startswith("encoder.") and name not in taken]
    if lacking:
        raise InputError(
            f"the weights in {folder.path} do not fit the encoder: missing {lacking[0]} and {len(lacking) - 1} more"
        )
    assign(model, {**own, **taken}, str(folder.path))


def _map_rows(value: torch.Tensor, own: torch.Tensor, source: ClassTable, target: ClassTable) -> torch.Tensor:
    """Classifier rows for other classes: for each target class, the mean over the source classes mapped to it."""
    if value.shape[0] != len(source) or own.shape[0] != len(target) or value.shape[1:] != own.shape[1:]:
        return own
    table = class_map(source, target)[: len(source)]
    rows = [value[torch.from_numpy(table == label)] for label in range(len(target))]
    return torch.stack([row.mean(0) if len(row) else own[i] for i, row in enumerate(rows)])


def _camera_labels(frame: Frame) -> np.ndarray | None:
    return frame.camera.labels


def class_weights(
    sources: Sequence[Source],
    num_classes: int,
    labels_of: Callable[[Frame], np.ndarray | None] = _camera_labels,
) -> torch.Tensor:
    """`(num_classes,)` class weights: the square root of median frequency over frequency, at most 4.

    Frequencies are estimated from a few hundred frames per source. The mean weight over the labels is 1.

    Args:
        sources: Data sets.
        num_classes: Of the model.
        labels_of: The labels of a frame, in the data set's classes.
    """
    counts = np.zeros(256)
    for source in sources:
        chosen = source.frames[:: max(1, len(source.frames) // 200)]
        of_source = np.zeros(256)
        for frame in chosen:
            labels = labels_of(frame)
            if labels is not None and source.label_map is not None:
                of_source += np.bincount(source.label_map[labels].ravel(), minlength=256)
        counts += of_source / max(1.0, of_source.sum()) * source.weight
    counts = counts[:num_classes]
    present = counts > 0
    weights = np.zeros(len(counts))
    weights[present] = np.sqrt(np.median(counts[present]) / counts[present])
    weights[present] = np.minimum(weights[present], 4.0)
    weights *= counts.sum() / (weights * counts).sum()
    return torch.tensor(weights, dtype=torch.float32)


def count_frames(
    model: Any,
    frames: Sequence[tuple[Frame, np.ndarray]],
    classes: ClassTable,
    preprocessing: Preprocessing,
    device: torch.device,
) -> np.ndarray:
    """`(K, K + 1)` float64 confusion matrix (truth by prediction), summed over the frames as whole images.

    Args:
        model: Model in evaluation mode.
        frames: Frames, each with the `(256,)` map from its data set's labels to the model's.
        classes: The model's K classes.
        preprocessing: Preprocessing of the model.
        device: Device of the model.
    """
    total = np.zeros((len(classes), len(classes) + 1), np.float64)
    task, whole = Segmentation2DTask(classes), ImageInput(preprocessing=preprocessing)
    for frame, label_map in frames:
        prepared = whole.prepare(frame.camera.image)
        with torch.inference_mode():
            logits = model(torch.from_numpy(prepared.arrays["image"][None]).to(device))[0].float().cpu().numpy()
        labels = task.decode({"logits": logits}, prepared).labels
        truth = frame.camera.labels
        assert truth is not None
        total += count_pairs(label_map[truth], labels, len(classes), classes.ignore_index)
    return total
