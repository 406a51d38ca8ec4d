"""The training loop shared by all recipes: optimiser, schedule, checkpoints, exact resume, progress and logs.

A recipe defines its settings, data and loss in a subclass of `Recipe` whose settings extend `RunSettings`. `run` does
the rest:

- It checks the settings, and refuses the folder of another run, before anything is written.
- All randomness is a function of the seed and the step, and the complete state is saved, so a run that was interrupted
  and resumed produces the same weights, bit for bit, as an uninterrupted one.
- It keeps the weights of the step with the best score on held-back data, or the last ones if the recipe has no score.
  With `average_decay`, these are the moving average of the weights.
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
    """Base class of recipes.

    Attributes:
        name: Name for `zoo train NAME`.
        score_name: Name of the score, used as its column in the log.
        settings: Settings of the run.
    """

    name: ClassVar[str]
    score_name: ClassVar[str] = "score"

    def __init__(self, settings: RunSettings) -> None:
        self.settings = settings

    @abstractmethod
    def build(self, device: torch.device) -> nn.Module:
        """Returns the model with its initial weights on the CPU. torch's generator has been seeded.

        Nothing has been written at this point, so this is the place to read the data and check everything that can be
        checked.

        Args:
            device: Device on which the model will be trained.
        """

    @abstractmethod
    def batches(self, first_step: int, rank: int, world_size: int) -> Iterable[Any]:
        """Batches of this process from `first_step` to the last step, each a function of the seed and the step."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Any, device: torch.device) -> torch.Tensor:
        """Scalar loss of one batch.

        Args:
            model: Model, wrapped by Fabric for mixed precision and distributed training.
            batch: One of `batches`.
            device: Device of the model.
        """

    def train_mode(self, model: nn.Module) -> None:
        """Puts the model into training mode before each step."""
        model.train()

    def score(self, model: nn.Module, fabric: Any) -> float | None:
        """Score on held-back data, higher is better; `None` if the recipe has none.

        Args:
            model: Model in evaluation mode, with the weights that would be kept.
            fabric: `lightning_fabric.Fabric` of this process, for its device, rank and `all_reduce`.
        """
        return None

    @abstractmethod
    def publish(self, folder: Path, model: nn.Module, record: dict[str, Any]) -> None:
        """Writes the finished model.

        Args:
            folder: New folder.
            model: Model with its final weights.
            record: Record of the run, for the provenance.
        """

    def record(self) -> dict[str, Any]:
        """Entries to add to the provenance, such as the data."""
        return {}


def run(recipe: Recipe) -> Path:
    """Trains a model and returns its folder, `out/model`.

    Raises:
        InputError: If a setting, the data or the initial weights are invalid, `out` contains another run, or the run
            was stopped by `max_minutes` or a non-finite loss.
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
        raise InputError(f"stopped at step {state.step} of {settings.steps}; continue with --resume")
    folder = settings.out / _MODEL
    if fabric.is_global_zero:
        model.load_state_dict(state.final_weights())
        recipe.publish(folder, model, {**state.record(recipe), **recipe.record()})
    fabric.barrier()
    return folder


def _train(
    recipe: Recipe, fabric: Any, model: nn.Module, wrapped: nn.Module, optimiser: torch.optim.Optimizer, state: _State
) -> None:
    """Runs the remaining steps."""
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
    """Runs one optimiser step and returns the loss."""
    settings = recipe.settings
    for group in optimiser.param_groups:
        group["lr"] = rate
    # A seed per step makes dropout and the like reproducible when a run is resumed.
    torch.manual_seed(hash((settings.seed, step, fabric.global_rank)) % 2**31)
    recipe.train_mode(model)
    loss = recipe.loss(wrapped, batch, fabric.device)
    if not torch.isfinite(loss):
        raise InputError(f"the loss became {loss.item()} at step {step}; lower --learning-rate")
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
        model: Model whose weights are averaged.
        decay: Weight of the old average in each step. It is lower in early steps, so that the initial weights fade
            quickly.
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
    """Everything that is needed to resume a run."""

    def __init__(self, settings: RunSettings, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        self.path = settings.out / _CHECKPOINT
        self.model = model
        self.optimiser = optimiser
        self.average = WeightAverage(model, settings.average_decay) if settings.average_decay else None
        self.step = 0
        self.seconds = 0.0
        self.mean_loss = float("nan")
        """Running mean of the loss, which continues seamlessly after a resume."""
        self.best_score = float("-inf")
        self.best_step = 0
        self.best: dict[str, torch.Tensor] | None = None
        self.scores: list[list[float]] = []

    def to(self, device: torch.device) -> None:
        """Moves the averaged weights. Fabric moves the model and the optimiser."""
        if self.average:
            self.average.values = {name: value.to(device) for name, value in self.average.values.items()}

    def after_step(self, model: nn.Module, loss: float) -> None:
        """Updates the state after an optimiser step."""
        if self.average:
            self.average.update(model, self.step)
        self.mean_loss = loss if self.mean_loss != self.mean_loss else 0.98 * self.mean_loss + 0.02 * loss
        self.step += 1

    @contextmanager
    def kept_weights(self, model: nn.Module) -> Iterator[None]:
        """Puts the model into evaluation mode, with the averaged weights if there are any, inside a `with` block."""
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
        """Records a score and keeps the weights if they are the best so far."""
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
        """Writes a checkpoint atomically."""
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
        """Restores the last checkpoint, if there is one."""
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
        self.mean_loss = stored.get("mean_loss", float("nan"))  # missing from checkpoints of earlier versions

    def record(self, recipe: Recipe) -> dict[str, Any]:
        """Record of the run, for the provenance."""
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
    """Writes `state` (tensors and plain values) to `path` atomically."""
    with atomic_file(path) as handle:
        torch.save(state, handle)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Loads a file written by `save_checkpoint`; only tensors and plain values are accepted.

    Raises:
        InputError: If the file is damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"checkpoint {path} cannot be read: {str(error).splitlines()[0]}") from error


def _refuse_other_run(settings: RunSettings) -> None:
    """Raises an `InputError` if the folder contains a run that these settings do not continue.

    A folder with settings but no checkpoint is accepted: that run failed before it had computed anything worth keeping.
    """
    out, path = settings.out, settings.out / "settings.json"
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; expected a folder or a new name")
    if (out / _MODEL).exists():
        raise InputError(f"{out} contains a finished run (model in {out / _MODEL}); choose another folder")
    if not (out / _CHECKPOINT).exists():
        if settings.resume:
            print(f"no checkpoint to resume from in {out}; starting from scratch", file=sys.stderr)
        return
    if not path.exists():
        raise InputError(f"{out} contains a checkpoint but no settings.json; choose another folder")
    if not settings.resume:
        raise InputError(f"{out} already contains a run; continue it with --resume or choose another folder")
    try:
        former = dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged, so the run cannot be resumed; choose another folder") from error
    if changed := changed_settings(settings, former):
        raise InputError(f"{out} contains a run with different settings ({', '.join(changed)}); use the same ones")


class _Progress:
    """Progress bar with the running mean of the loss and the last score, shown by the first process only."""

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
        """Minutes since this process started training."""
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
    """Makes glibc keep freed memory instead of returning it to the system after every tensor.

    On two cores this reduced a training step of a small convnet from 1.14 to 0.79 s (`benchmarks/training_step.py`) by
    avoiding page faults. Has no effect if the C library has no `mallopt`.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mmap_max, trim_threshold, top_pad = -4, -1, -2  # the constants of malloc.h
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 2**28)
