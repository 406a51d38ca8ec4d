"""The loop of every recipe: state, optimiser, schedule, checkpoints, exact resume, progress, logs.

A recipe is its settings, its data and its step: a subclass of `Recipe` whose settings extend `RunSettings`. `run` does
the rest, the same for all of them:

- The settings are checked, and another run's folder is refused, before anything is written.
- Everything random is a function of the seed and the step, and the state is saved as a whole, so a run that was stopped
  and resumed makes the same weights, bit for bit, as one that was not.
- The weights that are kept are those of the step with the best score on held-back data, or the last ones where the
  recipe has no score; with `average_decay`, the moving average of the weights takes their place.
"""

from __future__ import annotations

import ctypes
import json
import platform
import shlex
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from zoo.errors import InputError, require
from zoo.files import atomic_file, write_json
from zoo.training.logs import RunLog
from zoo.training.settings import RunSettings, changed_settings, check, plain

__all__ = ["Recipe", "WeightAverage", "keep_freed_memory", "load_checkpoint", "poly_factor", "run", "save_checkpoint"]


class Recipe(ABC):
    """What one kind of training is, apart from the loop.

    Attributes:
        name: As in `zoo train NAME`.
        score_name: What `score` measures, the name of its column in the log.
        settings: All settings of the run.
    """

    name: ClassVar[str]
    score_name: ClassVar[str] = "score"

    def __init__(self, settings: RunSettings) -> None:
        self.settings = settings

    @abstractmethod
    def build(self, device: torch.device) -> nn.Module:
        """The model with its initial weights, on the CPU; torch's generator is seeded.

        Reads all data and checks all that can be checked, because nothing has been written yet.

        Args:
            device: Where the model is going to be trained.
        """

    @abstractmethod
    def batches(self, first_step: int, rank: int, world_size: int) -> Iterable[Any]:
        """This process's batches from `first_step` to the last step, each a function of the seed and its step."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Any, device: torch.device) -> torch.Tensor:
        """A scalar to minimise.

        Args:
            model: The model, wrapped for precision and several processes.
            batch: One of `batches`.
            device: Where the model is.
        """

    def train_mode(self, model: nn.Module) -> None:
        """Puts the model into training mode before each step."""
        model.train()

    def score(self, model: nn.Module, fabric: Any) -> float | None:
        """A score of the model on held-back data, larger is better; `None` if there is none.

        Args:
            model: In evaluation mode, with the weights that would be kept.
            fabric: The process's `lightning_fabric.Fabric`: its device, its rank, `all_reduce`.
        """
        return None

    @abstractmethod
    def publish(self, folder: Path, model: nn.Module, record: dict[str, Any]) -> None:
        """Writes what the run made.

        Args:
            folder: To make.
            model: With its final weights.
            record: How the run went, for the provenance.
        """

    def record(self) -> dict[str, Any]:
        """What the recipe adds to the provenance: its data."""
        return {}


def run(recipe: Recipe) -> Path:
    """Trains, and returns the folder of the finished model, `out/model`.

    Raises:
        InputError: If a setting, the data or the initial weights cannot be used, `out` holds another run, or the run
            was stopped by `max_minutes` or a loss that is not finite.
    """
    try:
        from lightning_fabric import Fabric
    except ImportError as error:
        raise require("lightning-fabric", "train", "training") from error

    settings = recipe.settings
    check(settings)
    _refuse_other_run(settings)
    keep_freed_memory()
    fabric = Fabric(accelerator=settings.device, devices=settings.devices, precision=settings.precision)
    fabric.launch()
    torch.manual_seed(settings.seed)
    model = recipe.build(fabric.device)
    optimiser = _optimiser(model, settings)
    state = _State(settings, model, optimiser)
    if settings.resume:
        state.restore()
    if fabric.is_global_zero:
        write_json(settings.out / "settings.json", plain(settings))
    wrapped, optimiser = fabric.setup(model, optimiser)
    state.to(fabric.device)
    _train(recipe, fabric, model, wrapped, optimiser, state)
    if state.step < settings.steps:
        raise InputError(f"stopped at step {state.step} of {settings.steps}; go on with --resume")
    folder = settings.out / _MODEL
    if fabric.is_global_zero:
        model.load_state_dict(state.final_weights())
        recipe.publish(folder, model, {**state.record(recipe), **recipe.record()})
    fabric.barrier()
    return folder


def _train(
    recipe: Recipe, fabric: Any, model: nn.Module, wrapped: nn.Module, optimiser: torch.optim.Optimizer, state: _State
) -> None:
    """Does the steps that are left."""
    settings, first = recipe.settings, fabric.is_global_zero
    log = RunLog(settings.out, recipe.score_name, state.step) if first else None
    progress = _Progress(settings, state, recipe.score_name, enabled=first)
    batches = recipe.batches(state.step, fabric.global_rank, fabric.world_size)
    started = time.monotonic()
    with progress:
        for batch in batches:
            rate = settings.learning_rate * _factor(settings, state.step)
            loss = _step(recipe, fabric, model, wrapped, optimiser, batch, state.step, rate)
            state.after_step(model, loss)
            state.seconds += time.monotonic() - started
            started = time.monotonic()
            progress.advance(state.mean_loss)
            last = state.step == settings.steps
            score = None
            if state.step % settings.evaluate_every == 0 or last:
                with state.kept_weights(model):
                    score = recipe.score(model, fabric)
                if score is not None:
                    state.note_score(score)
                    progress.note_score(score)
            out_of_time = bool(settings.max_minutes) and progress.minutes >= settings.max_minutes
            if log and (score is not None or state.step % settings.log_every == 0 or last or out_of_time):
                log.add(step=state.step, seconds=state.seconds, loss=state.mean_loss, learning_rate=rate, score=score)
            if first and (state.step % settings.checkpoint_every == 0 or last or out_of_time):
                state.save()
            if out_of_time:
                break
    if log:
        log.close()


def _step(
    recipe: Recipe,
    fabric: Any,
    model: nn.Module,
    wrapped: nn.Module,
    optimiser: torch.optim.Optimizer,
    batch: Any,
    step: int,
    rate: float,
) -> float:
    """One optimiser step; gives the loss."""
    settings = recipe.settings
    for group in optimiser.param_groups:
        group["lr"] = rate
    # Dropout and the like draw from the step's own seed, so a resumed run draws the same.
    torch.manual_seed(hash((settings.seed, step, fabric.global_rank)) % 2**31)
    recipe.train_mode(model)
    loss = recipe.loss(wrapped, batch, fabric.device)
    if not torch.isfinite(loss):
        raise InputError(f"the loss became {loss.item()} at step {step}; lower the learning rate")
    fabric.backward(loss)
    if settings.clip_norm:
        fabric.clip_gradients(wrapped, optimiser, max_norm=settings.clip_norm)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return float(loss.detach())


def _factor(settings: RunSettings, step: int) -> float:
    return poly_factor(
        step,
        settings.steps,
        power=settings.power,
        warmup=settings.warmup,
        minimum=settings.minimum_learning_rate / settings.learning_rate,
    )


def poly_factor(step: int, steps: int, *, power: float, warmup: int = 0, minimum: float = 0.0) -> float:
    """Learning rate at `step` relative to the base rate: linear warm-up, then polynomial decay to `minimum`.

    Source: Golombiewski, "Domain Generalization for Vision Perception Models by Camera-Lidar Contrastive Pretraining"
    (master's thesis, TU Berlin, 2024), section 4.2.2: polynomial decay with a minimum.
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return (1 - minimum) * (1 - min(progress, 1.0)) ** power + minimum


def _optimiser(model: nn.Module, settings: RunSettings) -> torch.optim.Optimizer:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    if settings.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=0.9)
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


class WeightAverage:
    """Exponential moving average of a model's weights and buffers.

    Args:
        model: Whose weights are averaged.
        decay: Weight of the old average in each step; early steps use less, so that the start is forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Moves the average towards the model's weights."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            if value.dtype.is_floating_point:
                self.values[name].lerp_(value, 1 - decay)
            else:
                self.values[name].copy_(value)


class _State:
    """All that a resumed run needs."""

    def __init__(self, settings: RunSettings, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        self.path = settings.out / _CHECKPOINT
        self.model = model
        self.optimiser = optimiser
        self.average = WeightAverage(model, settings.average_decay) if settings.average_decay else None
        self.step = 0
        self.seconds = 0.0
        self.mean_loss = float("nan")
        """Running mean of the loss; part of the state, so that it goes on where it was after a resume."""
        self.best_score = float("-inf")
        self.best_step = 0
        self.best: dict[str, torch.Tensor] | None = None
        self.scores: list[list[float]] = []

    def to(self, device: torch.device) -> None:
        """Moves the average; model and optimiser are moved by Fabric."""
        if self.average:
            self.average.values = {name: value.to(device) for name, value in self.average.values.items()}

    def after_step(self, model: nn.Module, loss: float) -> None:
        """Counts a step that has been done."""
        if self.average:
            self.average.update(model, self.step)
        self.mean_loss = loss if self.mean_loss != self.mean_loss else 0.98 * self.mean_loss + 0.02 * loss
        self.step += 1

    @contextmanager
    def kept_weights(self, model: nn.Module) -> Iterator[None]:
        """The model in evaluation mode, with the averaged weights if there are any, for as long as the block runs."""
        model.eval()
        if self.average is None:
            yield
            return
        own = {name: value.detach().clone() for name, value in model.state_dict().items()}
        model.load_state_dict(self.average.values)
        try:
            yield
        finally:
            model.load_state_dict(own)

    def note_score(self, score: float) -> None:
        """Keeps the weights if they are the best so far."""
        self.scores.append([self.step, score])
        if score > self.best_score:
            self.best_score, self.best_step = score, self.step
            self.best = {name: value.detach().cpu().clone() for name, value in self._current().items()}

    def final_weights(self) -> dict[str, torch.Tensor]:
        """The weights to publish."""
        return self.best or self._current()

    def _current(self) -> dict[str, torch.Tensor]:
        return self.average.values if self.average else self.model.state_dict()

    def save(self) -> None:
        """Writes everything in one step."""
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
        """Goes back to the last checkpoint, if there is one."""
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
        self.mean_loss = stored.get("mean_loss", float("nan"))  # checkpoints of earlier versions have none

    def record(self, recipe: Recipe) -> dict[str, Any]:
        """How the run went, for the provenance."""
        return {
            "recipe": f"zoo train {recipe.name}",
            "command": shlex.join(["zoo", *sys.argv[1:]]),
            "settings": plain(recipe.settings),
            "seconds": round(self.seconds, 1),
            "kept_step": self.best_step if self.best else self.step,
            f"holdout_{recipe.score_name}": self.scores,
            "torch": torch.__version__,
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        }


_CHECKPOINT = "last.pt"
_MODEL = "model"


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes `state` (tensors and plain values) to `path` in one step."""
    with atomic_file(path) as handle:
        torch.save(state, handle)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` wrote; nothing but tensors and plain values is accepted.

    Raises:
        InputError: If the file is damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"checkpoint {path} cannot be read: {str(error).splitlines()[0]}") from error


def _refuse_other_run(settings: RunSettings) -> None:
    """Raises an `InputError` if the folder holds a run that these settings do not continue.

    Settings without a checkpoint are what is left of a run that failed before it had computed anything worth keeping;
    they do not stand in the way.
    """
    out, path = settings.out, settings.out / "settings.json"
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; expected a folder or a new name")
    if (out / _MODEL).exists():
        raise InputError(f"{out} holds a finished run, its model in {out / _MODEL}; choose another folder")
    if not (out / _CHECKPOINT).exists():
        if settings.resume:
            print(f"nothing to resume in {out}: it holds no checkpoint; starting anew", file=sys.stderr)
        return
    if not path.exists():
        raise InputError(f"{out} holds a checkpoint, but no settings.json; choose another folder")
    if not settings.resume:
        raise InputError(f"{out} holds a run already; go on with --resume or choose another folder")
    try:
        former = dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged, so the run cannot be resumed; choose another folder") from error
    if changed := changed_settings(settings, former):
        raise InputError(f"{out} holds a run with another {', '.join(changed)}; give the same settings")


class _Progress:
    """A progress bar with the running mean of the loss and the last score; silent on all processes but the first."""

    def __init__(self, settings: RunSettings, state: _State, score_name: str, *, enabled: bool) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._score_name = score_name
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
        """Since this start."""
        return (time.monotonic() - self._started) / 60

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, loss: float) -> None:
        self._bar.update(self._task, advance=1, note=f"loss {loss:.3f} {self._score}")

    def note_score(self, score: float) -> None:
        self._score = f"held-back {self._score_name} {score:.3f}"


def keep_freed_memory() -> None:
    """Tells glibc to keep freed memory instead of returning it to the system after every tensor.

    On two cores this took a training step of a small convnet from 1.14 to 0.79 s (`benchmarks/training_step.py`): the
    time went into page faults. Does nothing where the C library has no `mallopt`.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mmap_max, trim_threshold, top_pad = -4, -1, -2  # the constants of malloc.h
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 2**28)
