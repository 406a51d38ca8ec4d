"""The model card: `README.md` of a model folder, rendered from its JSON files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zoo.contract import joined
from zoo.errors import InputError
from zoo.folder.provenance import headline, row_note
from zoo.inputs import input_class, input_from_json
from zoo.tasks import Task, task_from_json

__all__ = ["render_card"]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"


def _interval(value: Sequence[float] | None) -> str:
    return "" if value is None else f" [{100 * value[0]:.1f}, {100 * value[1]:.1f}]"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _task(config: Mapping[str, Any]) -> Task:
    return task_from_json(config["task"], config.get("output", {}))


def _contracts(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The contract of each exported file, derived from the configuration and not copied from the entry."""
    inputs = [input_from_json(section) for section in config["inputs"]]
    task = _task(config)
    return {
        artefact["file"]: joined(inputs[artefact.get("stage", 0)].contract(artefact), task.contract(artefact))
        for artefact in config["artefacts"]
        if {"inputs", "outputs"} <= artefact.keys()
    }


def render_card(config: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown of the card.

    Args:
        config: Content of `config.json`.
        rows: Rows of `metrics.json`.

    Raises:
        InputError: If the configuration or a row lacks a value that the card shows.
    """
    from importlib.resources import files  # not needed for prediction, and slows down the cold start

    import jinja2

    from zoo.data import camvid, embedded

    known = {"camvid": camvid.CAVEATS, "synthetic": embedded.CAVEATS}
    accuracy = [row for row in rows if row.get("kind") != "latency"]
    template = files("zoo.model_cards").joinpath("card.md.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    try:
        return environment.from_string(template).render(
            config=config,
            task=_task(config),
            source=input_class(config["inputs"][0]["kind"]).example,
            rows=accuracy,
            latency=[row for row in rows if row.get("kind") == "latency"],
            note=row_note,
            headline=headline,
            caveats=[" ".join(known[data]) for data in dict.fromkeys(row["data"] for row in accuracy) if data in known],
            percent=_percent,
            interval=_interval,
            ratio=_ratio,
            contracts=_contracts(config),
        )
    except (jinja2.TemplateError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"the card of {config.get('name')} cannot be written: {error or type(error).__name__}"
        ) from error
