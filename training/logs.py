"""Logs of a training run: `log.csv`, `curves.png`, and TensorBoard events if that package is installed."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from zoo.files import write_bytes

__all__ = ["RunLog"]

_FIRST = ("step", "seconds", "loss", "learning_rate")


class RunLog:
    """The log of one run.

    Args:
        folder: Output folder of the run.
        score: Name of the score on held-back data, which is the last column.
        step: Step at which the run resumes. Later rows come from steps after the last checkpoint; they are dropped,
            because these steps are repeated.
    """

    def __init__(self, folder: Path, score: str, step: int = 0) -> None:
        self.path = folder / "log.csv"
        self.columns = (*_FIRST, score)
        self.rows = [row for row in self._read() if step and int(row["step"]) <= step]
        self._events = _events(folder / "tensorboard", step)
        self._write()

    def add(self, *, step: int, seconds: float, loss: float, learning_rate: float, score: float | None = None) -> None:
        """Adds one row to the CSV file and its values to the TensorBoard events.

        Args:
            step: Number of completed steps.
            seconds: Training time, including the time before the run was resumed.
            loss: Running mean of the loss.
            learning_rate: Learning rate of the last step.
            score: Score on held-back data, if it was evaluated at this step.
        """
        values = (step, round(seconds, 1), loss, learning_rate, score)
        row = {name: "" if value is None else repr(value) for name, value in zip(self.columns, values, strict=True)}
        self.rows.append(row)
        with self.path.open("a", encoding="utf-8", newline="") as handle:
            csv.DictWriter(handle, self.columns).writerow(row)
        if self._events is not None:
            for name, value in zip(self.columns[2:], values[2:], strict=True):
                if value is not None:
                    self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Draws `curves.png` and closes the TensorBoard events."""
        if self._events is not None:
            self._events.close()
        if self.rows:
            write_bytes(self.path.parent / "curves.png", self._curves())

    def _read(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with self.path.open(encoding="utf-8", newline="") as handle:
            # A killed process may leave a partial row at the end.
            return [
                row for row in csv.DictReader(handle) if row.keys() == set(self.columns) and None not in row.values()
            ]

    def _write(self) -> None:
        buffer = io.StringIO(newline="")
        writer = csv.DictWriter(buffer, self.columns)
        writer.writeheader()
        writer.writerows(self.rows)
        write_bytes(self.path, buffer.getvalue().encode())

    def _curves(self) -> bytes:
        """A PNG with the loss, the learning rate and the score over the steps."""
        from matplotlib.figure import Figure

        shown = [name for name in self.columns[2:] if any(row[name] for row in self.rows)]
        figure = Figure(figsize=(7, 2.2 * len(shown)), layout="constrained")
        for axis, name in zip(figure.subplots(len(shown), sharex=True, squeeze=False)[:, 0], shown, strict=True):
            points = [(int(row["step"]), float(row[name])) for row in self.rows if row[name]]
            axis.plot(*zip(*points, strict=True), marker="." if len(points) < 50 else None)
            axis.set_ylabel(name.replace("_", " "))
            axis.grid(alpha=0.3)
        figure.axes[-1].set_xlabel("step")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=100)
        return buffer.getvalue()


def _events(folder: Path, step: int) -> Any:
    """A writer of TensorBoard events, or `None` without the package (extra `train`)."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    # Hides the events of steps that are about to be repeated, just as their rows are dropped from log.csv.
    return SummaryWriter(str(folder), purge_step=step + 1 if step else None)
