"""What a model was trained on, as recorded in its configuration, and what that means for evaluation frames.

`provenance.trained_on` in `config.json` is a list, newest data first, followed by that of the initial weights:

| key | contents |
| --- | --- |
| `name` | name of the data set in `zoo.data.terms` |
| `split`, `fingerprint` | as read |
| `frames`, `held_back` | number of frames trained on, and held back for model selection |
| `scenes` | by scene, the stretches of time trained on: `[first, last]` in seconds |
| `places` | for the synthetic world instead of `scenes`: seeds of the places trained on, as `[first, last]` |
| `by` | only for the data of initial weights: the model trained on it |
| `unrecorded` | true for initial weights whose folder records nothing |
| `origin` | only if the run recorded nothing: how the entry was determined |

A measured row of `metrics.json` has `caveats`, derived from this record and the measured frames, and may have `also`:
figures that put its own into perspective. Each has `what`, `data`, `split`, `group`, the headline figure (`miou` and
`miou_interval` for segmentation), `rpd` (may be null), `origin`, and `measured_here`, which is false for figures that
others report.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.data.dataset import Dataset
from zoo.data.terms import places_of, terms_of
from zoo.frame import Frame

__all__ = ["NEIGHBOUR_S", "Shown", "caveats", "figures_of", "headline", "row_caveats", "row_note", "trained_on"]

NEIGHBOUR_S = 10.0
"""A frame this close to a training frame of the same scene shows almost the same image."""
_STRETCH_S = 2.0  # training frames at most this far apart belong to one stretch


def trained_on(dataset: Dataset, frames: Sequence[Frame], held_back: int = 0) -> dict[str, Any]:
    """The entry of `provenance.trained_on` for one data set.

    Args:
        dataset: The data set.
        frames: The frames trained on.
        held_back: Number of frames used only to choose the checkpoint.
    """
    times: dict[str, list[float]] = {}
    rendered: set[int] = set()
    for place, frame in zip(places_of(dataset, frames), frames, strict=True):
        if isinstance(place, int):
            rendered.add(place)
            continue
        of_place = times.setdefault(place, [])
        if frame.timestamp_us is not None:
            of_place.append(frame.timestamp_us / 1e6)
    return {
        "name": terms_of(dataset).name,
        "split": dataset.split,
        "fingerprint": dataset.fingerprint(),
        "frames": len(frames),
        "held_back": held_back,
        "scenes": {place: _stretches(of_place, _STRETCH_S) for place, of_place in times.items()},
        **({"places": _stretches(rendered, 1)} if rendered else {}),
    }


def _stretches(values: Iterable[float], gap: float) -> list[list[float]]:
    """Runs of values at most `gap` apart, as `[first, last]`."""
    stretches: list[list[float]] = []
    for value in sorted(values):
        if stretches and value - stretches[-1][1] <= gap:
            stretches[-1][1] = round(value, 3)
        else:
            stretches.append([round(value, 3), round(value, 3)])
    return stretches


def caveats(config: Mapping[str, Any], dataset: Dataset, frames: Sequence[Frame]) -> list[dict[str, Any]]:
    """Caveats to show with figures from these frames, because of what the model was trained on.

    Args:
        config: Content of the model's `config.json`.
        dataset: The data set that the frames come from.
        frames: The measured frames.

    Returns:
        Entries with `kind` and `text`: `training_unknown` (the folder does not record what it was trained on),
        `trained_on` (on these frames themselves), `neighbours_of_training` (on frames of the same scene, at most
        `NEIGHBOUR_S` apart) or `same_scene` (further apart, or without times). The latter three have `frames`, the
        number of such frames, and `nearest_s` if times are known. Empty if no scene is shared.
    """
    recorded = config.get("provenance", {}).get("trained_on")
    if recorded is None:
        text = "the model folder does not record which frames the model was trained on"
        return [{"kind": "training_unknown", "text": text}]
    unrecorded = [entry.get("by", "the model") for entry in recorded if entry.get("unrecorded")]
    name = terms_of(dataset).name
    same_data = [entry for entry in recorded if entry.get("name") == name]
    nearest = [
        _distance(frame, place, same_data) for place, frame in zip(places_of(dataset, frames), frames, strict=True)
    ]
    near = [distance for distance in nearest if distance is not None and distance <= NEIGHBOUR_S]
    far = [distance for distance in nearest if distance is not None and distance > NEIGHBOUR_S]
    found: list[dict[str, Any]] = [
        {"kind": "training_unknown", "text": f"the folder of its initial weights, {by}, does not record their data"}
        for by in unrecorded
    ]
    if near and min(near) == 0:
        found.append(_entry("trained_on", near, len(frames), "lie within a stretch of video that was trained on"))
    elif near:
        found.append(_entry("neighbours_of_training", near, len(frames), "are neighbours of training frames"))
    if far:
        found.append(_entry("same_scene", far, len(frames), "show a scene that was trained on"))
    return found


def _distance(frame: Frame, place: str | int, recorded: Sequence[Mapping[str, Any]]) -> float | None:
    """Seconds to the nearest training frame of the same place: infinity without times, `None` if there is none."""
    if isinstance(place, int):
        ranges = [each for entry in recorded for each in entry.get("places", ())]
        return math.inf if any(first <= place <= last for first, last in ranges) else None
    stretches = [stretch for entry in recorded for stretch in entry["scenes"].get(place, ())]
    if not any(place in entry["scenes"] for entry in recorded):
        return None
    if frame.timestamp_us is None or not stretches:
        return math.inf
    time = frame.timestamp_us / 1e6
    outside = min(max(first - time, time - last) for first, last in stretches)
    return outside if outside > 0.001 else 0.0  # stored times are rounded to a millisecond


def _entry(kind: str, distances: Sequence[float], total: int, what: str) -> dict[str, Any]:
    nearest = min(distances)
    text = f"{len(distances)} of {total} frames {what}"
    if not math.isfinite(nearest):
        return {"kind": kind, "frames": len(distances), "text": text}
    if nearest > 0:
        text += f" (same drive, {nearest:.1f} s apart at the nearest, {max(distances):.1f} s at most)"
    return {"kind": kind, "frames": len(distances), "nearest_s": round(nearest, 3), "text": text}


def row_caveats(
    rows: Sequence[Mapping[str, Any]],
    config: Mapping[str, Any],
    datasets: Mapping[str, Dataset],
    members: Mapping[str, Mapping[str, Sequence[Frame]]],
    former: Sequence[Mapping[str, Any]] = (),
) -> list[dict[str, Any]]:
    """Measured rows with `caveats` added, and with `also` taken over from a former row for the same frames and file.

    A row whose rPD is relative to frames near training frames gets the caveat `source_near_training`: the ratio is
    too low because its denominator is too high.

    Args:
        rows: Rows for `metrics.json`.
        config: Content of the model's `config.json`.
        datasets: The measured data sets, by kind.
        members: By kind and group, the frames of each group.
        former: Rows already in the folder.
    """
    found = {
        (kind, group): caveats(config, datasets[kind], frames)
        for kind, groups in members.items()
        for group, frames in groups.items()
    }
    result = []
    for row in rows:
        own = list(found.get((row["data"], row["group"]), ()))
        source = tuple((row.get("source") or ":").split(":", 1))
        near = [c for c in found.get(source, ()) if c["kind"] in ("trained_on", "neighbours_of_training")]
        if near and row.get("rpd") is not None:
            text = f"rPD is too low: its denominator, {':'.join(source)}, was measured next to training frames"
            own.append({"kind": "source_near_training", "text": text})
        also: list[dict[str, Any]] = next((old["also"] for old in former if old.get("also") and _same(old, row)), [])
        result.append({**row, "caveats": own, **({"also": also} if also else {})})
    return result


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one.get(key) == other.get(key) for key in ("artefact_sha256", "data", "split", "group", "fingerprint"))


@dataclass(frozen=True)
class Shown:
    """How to show a figure of a measured row.

    Attributes:
        key: Key of the figure in the row; `KEY_interval` has its 95 % interval.
        title: Its name, without the unit.
        unit: Unit after multiplication by `scale`.
        scale: Factor for display: 100 for per cent.
        digits: Decimal places of the bounds of the interval.
        higher_is_better: False for errors.
    """

    key: str
    title: str
    unit: str = "%"
    scale: float = 100.0
    digits: int = 1
    higher_is_better: bool = True

    @property
    def heading(self) -> str:
        """Title and unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def value(self, row: Mapping[str, Any], more: int = 1) -> str:
        """The figure in its unit, with `more` digits than the bounds; empty if the row has none."""
        value = row.get(self.key)
        return "" if value is None else f"{self.scale * value:.{self.digits + more}f}"

    def interval(self, row: Mapping[str, Any]) -> str:
        """The 95 % interval in brackets, after a space; empty if there is none."""
        bounds = row.get(f"{self.key}_interval")
        return "" if bounds is None else f" [{', '.join(f'{self.scale * bound:.{self.digits}f}' for bound in bounds)}]"


_SEGMENTATION = tuple(
    Shown(key, title, higher_is_better=key != "ece")
    for key, title in (
        ("miou", "mIoU"),
        ("pixel_accuracy", "pixel accuracy"),
        ("mean_class_accuracy", "mean class accuracy"),
        ("ece", "ECE"),
        ("iiou", "iIoU"),
        ("miou_valid_pixels", "mIoU, valid pixels"),
    )
)
"""Figures of rows that were recorded before rows stated theirs: all of them are from segmentation models."""


def figures_of(row: Mapping[str, Any]) -> list[Shown]:
    """The figures of a measured row, the headline figure first."""
    columns = [Shown(**column) for column in row["columns"]] if "columns" in row else list(_SEGMENTATION)
    return sorted(columns, key=lambda column: column.key != row.get("headline", "miou"))


def headline(row: Mapping[str, Any]) -> Shown:
    """The headline figure of a measured row."""
    return figures_of(row)[0]


def row_note(row: Mapping[str, Any]) -> str:
    """The note to show with a row, in one line: its caveats, then figures that put its own into perspective."""
    notes = [caveat["text"] for caveat in row.get("caveats", ())]
    return "; ".join([*notes, *(f"also {_figure(also)}" for also in row.get("also", ()))])


def _figure(also: Mapping[str, Any]) -> str:
    first = headline(also)
    unit = "" if first.unit == "%" else f" {first.unit}"
    rpd = f", rPD {also['rpd']:.2f}" if also.get("rpd") is not None else ""
    origin = also["origin"] if also["measured_here"] else f"reported by {also['origin']}, not measured here"
    return (
        f"{first.title} {first.value(also, 0)}{unit}{first.interval(also)}{rpd} on {also['data']} {also['split']} "
        f"{also['group']}: {also['what']} ({origin})"
    )
