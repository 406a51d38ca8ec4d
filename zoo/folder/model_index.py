"""Metadata for the Hub: the header of a model card with its scores (`model-index`), and `.eval_results` files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zoo.folder.provenance import headline
from zoo.tasks import Task

__all__ = ["eval_results", "front_matter"]

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


def eval_results(rows: Sequence[Mapping[str, Any]], datasets: Mapping[str, str]) -> dict[str, str]:
    """Files for `.eval_results`, by path: the scores on data sets whose Hub id the user named.

    Args:
        rows: Accuracy rows.
        datasets: Hub id (`org/name`) by the kind of data set.
    """
    files: dict[str, list[dict[str, Any]]] = {}
    for row, title, value in _shown(rows):
        if row["data"] in datasets:
            files.setdefault(f".eval_results/{row['data']}.yaml", []).append(
                {
                    "dataset": {"id": datasets[row["data"]], "task_id": f"{row['split']}_{row['group']}"},
                    "value": round(value, 4),
                    "notes": f"{title}, {row['frames']} frames, file {row['artefact_sha256']}",
                }
            )
    return {path: "".join(f"- {json.dumps(entry)}\n" for entry in entries) for path, entries in files.items()}
