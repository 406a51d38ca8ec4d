"""Recipe: a segmenter, trained by pixel cross entropy.

Presets:
    `thesis`: as in Golombiewski, "Domain Generalization for Vision Perception Models by Camera-Lidar Contrastive
        Pretraining" (master's thesis, TU Berlin, 2024), section 4.2.2: SGD with momentum 0.9, no weight decay, learning
        rate 1e-2 with polynomial decay to 1e-4, batch 8, 80,000 iterations, crops of 224 x 224, random resize, crop,
        flip and photometric distortion. It needs a GPU for about a day and has not been run for this repository.
    `cpu`: what 2 cores do in at most an hour: AdamW, crops of 240 x 320, averaged weights, night-camera augmentation.

Commands, hardware, hours and scores of the bundled models stand in `training/README.md`.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from zoo.architecture import SegmentationModel
from zoo.errors import InputError, require
from zoo.files import write_json
from zoo.frame import Frame
from zoo.inference import InferenceMode, labels_and_scores, predict_logits
from zoo.preprocessing import Preprocessing
from zoo.training.augment import Augmentation
from zoo.training.loop import (
    Log,
    WeightAverage,
    keep_freed_memory,
    load_checkpoint,
    poly_factor,
    save_checkpoint,
)
from zoo.training.publish import Used
from zoo.training.samples import SampleStream, Source, loader
from zoo.training.settings import AtLeastOne, Name, Range, RunSettings, check, plain

__all__ = ["PRESETS", "Settings", "dice_loss", "train"]


@dataclass(frozen=True, kw_only=True)
class Settings(RunSettings):
    """Every setting of the recipe; the values land as `settings.json` in the output folder."""

    model: str
    """The architecture, as the name of a catalogue entry; gives preprocessing and inference too. Classes, licence and
    training data follow from this run."""
    name: Annotated[str, Name()] = ""
    """Name of the finished model; by default made up of start, architecture and data. A name of the catalogue is
    refused unless architecture, classes and training data are that entry's."""
    data: Annotated[tuple[str, ...], AtLeastOne()]
    """Training data as KIND=DIR, several times for a mixture; the first one's classes are the model's."""
    mixture: Annotated[tuple[float, ...], Range(above=0, at_most=1e6)] = ()
    """Share of the samples of each data set; equal by default."""
    init: str = "imagenet"
    """Start of the encoder: imagenet, random, or a model folder or name (head included where its shapes fit)."""
    frozen_encoder: bool = False
    """Train the head alone; the encoder stays in evaluation mode."""
    crop: Annotated[tuple[int, int], Range(at_least=32, at_most=8192)] = (224, 224)
    """Height and width of a training sample in pixels."""
    class_weights: Literal["none", "sqrt-median"] = "none"
    """Weights of the cross entropy: none, or the square root of median frequency over frequency."""
    dice: Annotated[float, Range(at_least=0, at_most=100)] = 0.0
    """Weight of the soft Dice loss that is added to the cross entropy; 0 for none."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """How samples are varied."""
    holdout: Annotated[float, Range(at_least=0, below=1)] = 0.0
    """Share of the first data set held back to decide which step is kept (the last scenes; of CamVid the end of each
    sequence, `val` and its neighbours included, and never nothing); 0: none."""
    cache: bool = False
    """Keep decoded training frames in memory."""

    def conflicts(self) -> Iterator[str]:
        """Values that do not go together."""
        yield from super().conflicts()
        if self.mixture and len(self.mixture) != len(self.data):
            yield f"--mixture has {len(self.mixture)} shares, but there are {len(self.data)} data sets"
        if not self.holdout and self.data[0].startswith("camvid="):
            yield (
                "--holdout 0: val lies within CamVid's training sequences, so their ends are always held back; "
                "give a share above 0"
            )


PRESETS: dict[str, dict[str, Any]] = {
    "thesis": {},
    "cpu": {
        "steps": 3000,
        "crop": (240, 320),
        "optimiser": "adamw",
        "learning_rate": 1e-3,
        "minimum_learning_rate": 1e-6,
        "warmup": 150,
        "weight_decay": 0.05,
        "clip_norm": 5.0,
        "class_weights": "sqrt-median",
        "average_decay": 0.998,
        "augmentation": Augmentation(scale=(0.6, 1.9), photometric=1.0, low_light=0.35, degrade=0.12),
        "holdout": 0.15,
        "evaluate_every": 250,
        "checkpoint_every": 100,
        "workers": 1,
        "cache": True,
        "init": "random",
    },
}


def train(settings: Settings) -> Path:
    """Runs the recipe and returns the finished model folder, `out/model`.

    Raises:
        InputError: If a setting, the data or the initial weights cannot be used, or `out` holds another run.
    """
    try:
        from lightning_fabric import Fabric
    except ImportError as error:
        raise require("lightning-fabric", "train", "training") from error
    from zoo.training.publish import describe, publish
    from zoo.training.segmenter_parts import initial_model

    keep_freed_memory()
    check(settings)
    _refuse_other_run(settings)
    fabric = Fabric(accelerator=settings.device, devices=settings.devices, precision=settings.precision)
    fabric.launch()
    recipe = _Data.read(settings)
    torch.manual_seed(settings.seed)
    model, entry, start = initial_model(settings, recipe.classes)
    facts = describe(settings, entry, start, recipe.used, recipe.classes)
    preprocessing = Preprocessing.from_json(entry.preprocessing)
    if settings.frozen_encoder:
        model.encoder.requires_grad_(False)
    optimiser = _optimiser(model, settings)
    weights = _class_weights(recipe, settings)
    stream = SampleStream(
        recipe.sources,
        total=settings.steps * settings.batch,
        crop=settings.crop,
        augmentation=settings.augmentation,
        preprocessing=preprocessing,
        ignore_index=recipe.classes.ignore_index,
        seed=settings.seed,
        cache=settings.cache,
    )
    average = WeightAverage(model, settings.average_decay) if settings.average_decay else None
    state = _State(settings, model, optimiser, average)
    if settings.resume:
        state.restore()
    if settings.cache:
        stream.fill_cache()
    if fabric.is_global_zero:  # not before everything that was asked for has been found
        write_json(settings.out / "settings.json", plain(settings))
    log = Log(settings.out / "log.jsonl")
    if fabric.device.type == "cpu":
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    wrapped, optimiser = fabric.setup(model, optimiser)
    if average:
        average.values = {name: value.to(fabric.device) for name, value in average.values.items()}
    batches = loader(
        stream,
        batch=settings.batch,
        first_step=state.step,
        workers=settings.workers,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    started = time.monotonic()
    progress = _Progress(settings, state, enabled=fabric.is_global_zero)
    with progress:
        for image, labels in batches:
            factor = poly_factor(
                state.step,
                settings.steps,
                power=settings.power,
                warmup=settings.warmup,
                minimum=settings.minimum_learning_rate / settings.learning_rate,
            )
            for group in optimiser.param_groups:
                group["lr"] = settings.learning_rate * factor
            # Dropout and the like draw from the step's own seed, so a resumed run draws the same.
            torch.manual_seed(hash((settings.seed, state.step, fabric.global_rank)) % 2**31)
            wrapped.train()
            if settings.frozen_encoder:
                model.encoder.eval()
            image = image.to(fabric.device, memory_format=torch.channels_last)
            logits = wrapped(image)
            loss = _loss(logits, labels.to(fabric.device), recipe.classes.ignore_index, weights, settings.dice)
            if not torch.isfinite(loss):
                raise InputError(f"the loss became {loss.item()} at step {state.step}; lower the learning rate")
            fabric.backward(loss)
            if settings.clip_norm:
                fabric.clip_gradients(wrapped, optimiser, max_norm=settings.clip_norm)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            if average:
                average.update(model, state.step)
            state.step += 1
            state.seconds += time.monotonic() - started
            started = time.monotonic()
            state.note_loss(float(loss.detach()))
            progress.advance(state.mean_loss)
            last = state.step == settings.steps
            if recipe.holdout and (state.step % settings.evaluate_every == 0 or last):
                score = _holdout_score(model, average, recipe, preprocessing, fabric)
                state.note_score(score)
                progress.note_score(score)
                if fabric.is_global_zero:
                    log.write(step=state.step, loss=state.mean_loss, holdout_miou=score, seconds=state.seconds)
            out_of_time = settings.max_minutes and progress.minutes >= settings.max_minutes
            if fabric.is_global_zero and (state.step % settings.checkpoint_every == 0 or last or out_of_time):
                state.save()
                log.write(step=state.step, loss=state.mean_loss, learning_rate=settings.learning_rate * factor)
            if out_of_time:
                break
    if state.step < settings.steps:
        raise InputError(f"stopped at step {state.step} of {settings.steps}; go on with --resume")
    folder = settings.out / "model"
    if fabric.is_global_zero:
        model.load_state_dict(state.final_weights())
        publish(folder, model, facts, state.record(recipe))
    fabric.barrier()
    return folder


def _refuse_other_run(settings: Settings) -> None:
    """Raises an `InputError` if the folder holds a run that these settings do not continue.

    Settings without a checkpoint are what is left of a run that failed before it had computed anything worth keeping;
    they do not stand in the way.
    """
    path, checkpoint = settings.out / "settings.json", settings.out / "last.pt"
    if settings.out.exists() and not settings.out.is_dir():
        raise InputError(f"--out {settings.out} is a file; expected a folder or a new name")
    if not checkpoint.exists():
        if settings.resume:
            print(f"nothing to resume in {settings.out}: it holds no checkpoint; starting anew", file=sys.stderr)
        return
    if not path.exists():
        raise InputError(f"{settings.out} holds a checkpoint, but no settings.json; choose another folder")
    if not settings.resume:
        raise InputError(f"{settings.out} holds a run already; go on with --resume or choose another folder")
    values, former = plain(settings), json.loads(path.read_text())
    free = {"resume", "max_minutes", "workers", "cache", "checkpoint_every", "out"}
    defaults = {field.name: field.default for field in dataclasses.fields(Settings)}  # of settings newer than the run
    former["augmentation"] = {**plain(Augmentation()), **former.get("augmentation", {})}
    changed = [key for key in values if key not in free and values[key] != former.get(key, defaults[key])]
    if changed:
        raise InputError(f"{settings.out} holds a run with another {', '.join(changed)}; give the same settings")


@dataclass(frozen=True)
class _Data:
    classes: Any
    sources: list[Source]
    holdout: list[tuple[Frame, np.ndarray]]
    used: list[Used]

    @classmethod
    def read(cls, settings: Settings) -> _Data:
        from zoo.training.segmenter_parts import read_training_data

        return cls(*read_training_data(settings))


def _optimiser(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    if settings.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=0.9)
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


def _class_weights(data: _Data, settings: Settings) -> torch.Tensor | None:
    """`(num_classes,)` weights with a mean of 1 over the pixels, from at most 200 frames of each source."""
    if settings.class_weights == "none":
        return None
    counts = np.zeros(256)
    for source in data.sources:
        chosen = source.frames[:: max(1, len(source.frames) // 200)]
        of_source = np.zeros(256)
        for frame in chosen:
            labels = frame.camera.labels
            if labels is not None:
                of_source += np.bincount(source.label_map[labels].ravel(), minlength=256)
        counts += of_source / max(1.0, of_source.sum()) * source.weight
    counts = counts[: len(data.classes)]
    present = counts > 0
    weights = np.zeros(len(counts))
    weights[present] = np.sqrt(np.median(counts[present]) / counts[present])
    weights[present] = np.minimum(weights[present], 4.0)
    weights *= counts.sum() / (weights * counts).sum()
    return torch.tensor(weights, dtype=torch.float32)


def _loss(
    logits: torch.Tensor, labels: torch.Tensor, ignore_index: int, weights: torch.Tensor | None, dice: float = 0.0
) -> torch.Tensor:
    """Pixel cross entropy at the labels' size, mean over the pixels that count, plus `dice` times the Dice loss."""
    logits = F.interpolate(logits.float(), size=labels.shape[-2:], mode="bilinear", align_corners=False)
    weights = None if weights is None else weights.to(logits.device)
    loss = F.cross_entropy(logits, labels, weight=weights, ignore_index=ignore_index)
    return loss + dice * dice_loss(logits, labels, ignore_index) if dice else loss


def dice_loss(logits: torch.Tensor, labels: torch.Tensor, ignore_index: int) -> torch.Tensor:
    """One minus the soft Dice coefficient, mean over the classes that occur in the batch.

    Source: Milletari et al., "V-Net" (2016), section 3, with one term per class and sums over the whole batch.

    Args:
        logits: `(B, C, H, W)` float.
        labels: `(B, H, W)` int64; pixels of `ignore_index` do not count.
        ignore_index: Label that is left out.

    Returns:
        A scalar in [0, 1].
    """
    counts = (labels != ignore_index)[:, None]
    probabilities = logits.softmax(1) * counts
    truth = torch.zeros_like(probabilities).scatter_(1, torch.where(counts, labels[:, None], 0), counts.float())
    overlap = (probabilities * truth).sum((0, 2, 3))
    size, true_size = probabilities.sum((0, 2, 3)), truth.sum((0, 2, 3))
    present = true_size > 0
    return (1 - 2 * overlap[present] / (size + true_size)[present]).mean() if present.any() else logits.sum() * 0


def _holdout_score(
    model: SegmentationModel, average: WeightAverage | None, data: _Data, preprocessing: Preprocessing, fabric: Any
) -> float:
    """mIoU on the held-back frames (whole images), with the averaged weights if there are any."""
    from zoo.evaluate.metrics import count_pairs, mean_iou

    own = {name: value.detach().clone() for name, value in model.state_dict().items()} if average else None
    if average:
        model.load_state_dict(average.values)
    model.eval()

    @torch.inference_mode()
    def run(image: np.ndarray) -> np.ndarray:
        return model(torch.from_numpy(image).to(fabric.device)).float().cpu().numpy()

    total = np.zeros((len(data.classes), len(data.classes) + 1), np.float64)
    mode = InferenceMode()
    for frame, label_map in data.holdout[fabric.global_rank :: fabric.world_size]:
        prepared = preprocessing(frame.camera.image)
        logits = predict_logits(prepared.array, run, model.stride, mode)
        labels, _ = labels_and_scores(logits, model.stride, prepared)
        truth = frame.camera.labels
        assert truth is not None
        total += count_pairs(label_map[truth], labels, len(data.classes), data.classes.ignore_index)
    summed = fabric.all_reduce(torch.from_numpy(total), reduce_op="sum").cpu().numpy()
    if own:
        model.load_state_dict(own)
    return float(mean_iou(summed, "skip"))


class _State:
    """All that a resumed run needs."""

    def __init__(
        self, settings: Settings, model: nn.Module, optimiser: torch.optim.Optimizer, average: WeightAverage | None
    ) -> None:
        self.path = settings.out / "last.pt"
        self.settings = settings
        self.model = model
        self.optimiser = optimiser
        self.average = average
        self.step = 0
        self.seconds = 0.0
        self.best_score = -1.0
        self.best_step = 0
        self.best: dict[str, torch.Tensor] | None = None
        self.scores: list[list[float]] = []
        self.mean_loss: float | None = None
        """Running mean of the loss; part of the state, so that it goes on where it was after a resume."""

    def note_loss(self, loss: float) -> None:
        self.mean_loss = loss if self.mean_loss is None else 0.98 * self.mean_loss + 0.02 * loss

    def current_weights(self) -> dict[str, torch.Tensor]:
        return self.average.values if self.average else self.model.state_dict()

    def note_score(self, score: float) -> None:
        self.scores.append([self.step, score])
        if score > self.best_score:
            self.best_score, self.best_step = score, self.step
            self.best = {name: value.detach().cpu().clone() for name, value in self.current_weights().items()}

    def final_weights(self) -> dict[str, torch.Tensor]:
        return self.best or self.current_weights()

    def save(self) -> None:
        save_checkpoint(
            self.path,
            {
                "step": self.step,
                "seconds": self.seconds,
                "model": self.model.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "average": self.average.values if self.average else None,
                "best": self.best,
                "best_score": self.best_score,
                "best_step": self.best_step,
                "scores": self.scores,
                "mean_loss": self.mean_loss,
            },
        )

    def restore(self) -> None:
        if not self.path.exists():
            return
        stored = load_checkpoint(self.path)
        self.model.load_state_dict(stored["model"])
        self.optimiser.load_state_dict(stored["optimiser"])
        if self.average:
            self.average.values = stored["average"]
        self.step, self.seconds = stored["step"], stored["seconds"]
        self.best, self.best_score, self.best_step = stored["best"], stored["best_score"], stored["best_step"]
        self.scores = stored["scores"]
        self.mean_loss = stored.get("mean_loss")  # checkpoints of earlier versions have none

    def record(self, data: _Data) -> dict[str, Any]:
        """What the model folder tells about its training."""
        import platform

        return {
            "recipe": "zoo train segmenter",
            "command": shlex.join(["zoo", *sys.argv[1:]]),
            "settings": plain(self.settings),
            "data": [used.summary for used in data.used],
            "training_frames": [len(source.frames) for source in data.sources],
            "holdout_frames": len(data.holdout),
            "seconds": round(self.seconds, 1),
            "kept_step": self.best_step if self.best else self.step,
            "holdout_miou": self.scores,
            "torch": torch.__version__,
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        }


class _Progress:
    """A progress bar with the smoothed loss and the last score; silent on processes other than the first."""

    def __init__(self, settings: Settings, state: _State, *, enabled: bool) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._score = ""
        self._started = time.monotonic()
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            disable=not enabled,
        )
        self._task = self._bar.add_task("training", total=settings.steps, completed=state.step, note="")

    @property
    def minutes(self) -> float:
        return (time.monotonic() - self._started) / 60

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, loss: float) -> None:
        self._bar.update(self._task, advance=1, note=f"loss {loss:.3f} {self._score}")

    def note_score(self, score: float) -> None:
        self._score = f"held-back mIoU {100 * score:.1f}"
