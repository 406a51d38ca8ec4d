"""The model card: `README.md` of a model folder, rendered from its JSON files; nothing in it is written by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zoo.condition import TIMES_OF_DAY, WEATHERS
from zoo.contract import joined
from zoo.errors import InputError
from zoo.folder.licences import Link, chain_of, commercial_use
from zoo.folder.model_index import front_matter
from zoo.folder.plain import plain_program
from zoo.folder.provenance import Shown, figures_of, headline, row_note
from zoo.inputs import input_class, input_from_json
from zoo.tasks import Task, task_from_json

__all__ = ["WEAK_IOU", "render_card"]

WEAK_IOU = 0.25
"""Classes below this IoU are listed as known failures."""
_POOLED = ("all", "shifted", "reference")
"""Groups that are not conditions of their own."""


def render_card(
    config: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    parity: Sequence[Mapping[str, Any]] = (),
    pictures: str = "",
) -> str:
    """Markdown of the card.

    Args:
        config: Content of `config.json`.
        rows: Rows of `metrics.json`, and of `benchmark.json` if the folder has one.
        parity: Rows of `parity.json`.
        pictures: Path from the card to the model folder, with a slash at the end; empty inside the folder.

    Raises:
        InputError: If the configuration or a row lacks a value that the card shows.
    """
    from importlib.resources import files  # not needed for prediction, and slows down the cold start

    import jinja2

    template = files("zoo.model_cards").joinpath("card.md.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    try:
        return environment.from_string(template).render(**_facts(config, rows, parity), pictures=pictures)
    except (jinja2.TemplateError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"the card of {config.get('name')} cannot be written: {error or type(error).__name__}"
        ) from error


def _facts(
    config: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], parity: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    from zoo.data import camvid, embedded

    known = {"camvid": camvid.CAVEATS, "synthetic": embedded.CAVEATS}
    task = task_from_json(config["task"], config.get("output", {}))
    accuracy = [row for row in rows if row.get("kind") != "latency"]
    contracts = _contracts(config, task)
    chain = chain_of(config)
    return {
        "config": config,
        "header": front_matter(config, task, accuracy),
        "task": task,
        "source": input_class(config["inputs"][0]["kind"]).example,
        "command": getattr(task, "command", "zoo info {name}").format(name=config["name"]),
        "rows": accuracy,
        "columns": _columns(accuracy),
        "latency": [row for row in rows if row.get("kind") == "latency"],
        "parity": parity,
        "names": {entry["sha256"]: entry["file"] for entry in config["artefacts"]},
        "note": row_note,
        "headline": headline,
        "caveats": [" ".join(known[data]) for data in dict.fromkeys(row["data"] for row in accuracy) if data in known],
        "ratio": _ratio,
        "answer": _answer,
        "contracts": contracts,
        "programs": {file: plain_program(file, contract) for file, contract in contracts.items()},
        "chain": chain,
        "allows": _allows(chain),
        "conditions": _conditions(accuracy),
        "failures": _failures(accuracy),
    }


def _contracts(config: Mapping[str, Any], task: Task) -> dict[str, dict[str, Any]]:
    """The contract of each exported file, derived from the configuration and not copied from the entry."""
    inputs = [input_from_json(section) for section in config["inputs"]]
    return {
        artefact["file"]: joined(inputs[artefact.get("stage", 0)].contract(artefact), task.contract(artefact))
        for artefact in config["artefacts"]
        if {"inputs", "outputs"} <= artefact.keys()
    }


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[Shown]:
    """The figures that some row has, the headline figure first."""
    every = dict.fromkeys(figure for row in rows for figure in figures_of(row))
    return [figure for figure in every if any(row.get(figure.key) is not None for row in rows)]


def _conditions(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Conditions with results, and those without."""
    groups = list(dict.fromkeys(row["group"] for row in rows if row["group"] not in _POOLED))
    measured = {group.partition("-")[0] for group in groups if "+" not in group}  # fog-120m is fog
    missing = [name for name in (*TIMES_OF_DAY, *WEATHERS) if name not in measured]
    return {"measured": groups, "missing": missing}


def _failures(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[tuple[str, float]]]]:
    """Weak classes of each condition, weakest first, once if the files agree to the digits shown."""
    found: dict[str, list[tuple[str, float]]] = {}
    for row in rows:
        if row["group"] in _POOLED:
            continue
        weak = [(name, value) for name, value in row.get("iou", {}).items() if value is not None and value < WEAK_IOU]
        if weak:
            where = f"{row['data']} {row['split']} {row['group']}"
            found.setdefault(where, sorted(weak, key=lambda each: each[1]))
    return list(found.items())


def _allows(chain: Sequence[Link]) -> str:
    if not chain:
        return "Its licences are not recorded, so no permission can be given here."
    if commercial_use(chain):
        return "Every part of its licence chain allows commercial use."
    forbid = [link.terms.name for link in chain if link.terms.commercial is False and link.part != "weights"]
    if forbid:
        return f"Not for commercial use: {', '.join(forbid)} do{'es' if len(forbid) == 1 else ''} not allow it."
    return "Whether commercial use is allowed is unknown."


def _answer(value: bool | None) -> str:
    return {True: "yes", False: "no", None: "unknown"}[value]


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
