"""Metadata for the Hub: the header of a model card with its scores (`model-index`), and `.eval_results` files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zoo.errors import InputError
from zoo.folder.provenance import headline
from zoo.tasks import Task

__all__ = ["EVAL_RESULTS", "eval_results", "front_matter"]

EVAL_RESULTS = ".eval_results/perception-zoo-"
"""How the paths of the files begin that `eval_results` makes; others in that folder are not ours."""

_METRIC_TYPES = {"miou": "mean_iou"}
"""The Hub's name of a metric where it differs from ours."""
_YAML_WORDS = ("true", "false", "null", "yes", "no", "on", "off", "y", "n")
_LEAKED = ("trained_on", "neighbours_of_training")
"""Kinds of caveats with which a figure is not shown as a bare score."""


def front_matter(config: Mapping[str, Any], task: Task, rows: Sequence[Mapping[str, Any]]) -> str:
    """The header of a card, without the lines around it. It is YAML; its nested values are written as JSON.

    The Hub shows scores without any note, so figures from frames that were trained on, or from their neighbours, are
    left out.

    Args:
        config: Content of `config.json`.
        task: Of the model.
        rows: Accuracy rows.
    """
    licence = config["licence"]["weights"]
    values: dict[str, Any] = {"library_name": "perception-zoo"}
    if licence == "Apache-2.0":
        values["license"] = "apache-2.0"
    else:
        values |= {"license": "other", "license_name": licence, "license_link": "LICENSE"}
    if config.get("modality") == "camera":  # the Hub has no tasks for point clouds
        values["pipeline_tag"] = task.pipeline_tag
    values["tags"] = [tag for tag in ("perception-zoo", config["task"], config.get("modality"), "driving") if tag]
    lines = [f"{key}: {_scalar(value)}" for key, value in values.items()]
    results = [json.dumps(result, ensure_ascii=False) for result in _results(config, task, rows)]
    if results:
        lines += [
            "model-index:",
            f"- name: {_scalar(config['name'])}",
            "  results:",
            *(f"  - {each}" for each in results),
        ]
    return "\n".join(lines)


def _scalar(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w.-]*", value) and value.lower() not in _YAML_WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)


def _shown(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], str, float]]:
    for row in rows:
        first = headline(row)
        title, value = first.title, row.get(first.key)
        leaked = any(caveat["kind"] in _LEAKED for caveat in row.get("caveats", ()))
        if value is not None and not leaked:
            yield row, title, value


def _results(config: Mapping[str, Any], task: Task, rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    files = {entry["sha256"]: entry["file"] for entry in config["artefacts"]}
    for row, title, value in _shown(rows):
        key = row.get("headline", "miou")
        file = files.get(row["artefact_sha256"], row["artefact_sha256"])
        yield {
            "task": {"type": task.pipeline_tag, "name": config["task"]},
            "dataset": {
                "type": row["data"],
                "name": f"{row['data']} {row['split']}, {row['group']}, {row['frames']} frames",
                "config": row["group"],
                "split": row["split"],
            },
            "metrics": [{"type": _METRIC_TYPES.get(key, key), "name": f"{title} of {file}", "value": round(value, 4)}],
        }


def eval_results(
    config: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], datasets: Mapping[str, str]
) -> dict[str, str]:
    """Files for `.eval_results`, by path: the scores on data sets whose Hub id the user named.

    Each measured file has a file of its own, since the Hub expects one value per task in a file. The id of a task is
    `SPLIT_GROUP`, for example `val_night`; the data set's `eval.yaml` must define it. As in `model-index`, figures from
    frames that were trained on, or from their neighbours, are left out.

    Source: https://huggingface.co/docs/hub/eval-results.

    Args:
        config: Content of `config.json`.
        rows: Rows of `metrics.json`.
        datasets: Hub id (`org/name`) by the kind of data set.

    Raises:
        InputError: If there is no score to show on one of the data sets.
    """
    names = {entry["sha256"]: entry["file"] for entry in config["artefacts"]}
    files: dict[str, list[dict[str, Any]]] = {}
    scored = set()
    for row, title, value in _shown([row for row in rows if row.get("kind") != "latency"]):
        scored.add(row["data"])
        if row["data"] not in datasets or row["artefact_sha256"] not in names:
            continue
        file = names[row["artefact_sha256"]]
        path = f"{EVAL_RESULTS}{row['data']}-{file.replace('/', '-')}.yaml"
        files.setdefault(path, []).append(
            {
                "dataset": {"id": datasets[row["data"]], "task_id": f"{row['split']}_{row['group']}"},
                "value": round(value, 4),
                "notes": f"{title}, {row['frames']} frames, {file}",
            }
        )
    if lacking := sorted(set(datasets) - scored):
        have = ", ".join(sorted(scored)) or "none"
        raise InputError(f"{config['name']} has no score on {lacking[0]} to show on the Hub; it has scores on: {have}")
    return {path: "".join(f"- {json.dumps(entry)}\n" for entry in entries) for path, entries in files.items()}
