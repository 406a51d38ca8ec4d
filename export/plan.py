"""Plans an export: the example that torch traces, the free axes, and the steps that move into the graph."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from zoo.engines import TensorSpec
from zoo.errors import InputError
from zoo.predictor import Predictor

__all__ = ["REWRITES", "Plan", "plan_for"]

REWRITES = {("normalise", "pad", "upsample", "argmax"): "zoo.export.rewrite:fuse_image_steps"}
"""The function that inserts steps into a graph, by the input's steps followed by the task's."""


@dataclass(frozen=True)
class Plan:
    """How a model is exported.

    Attributes:
        lengths: Length of each axis of the example input.
        free: Names of the dynamic axes.
        inputs: Specs of the finished file's inputs.
        in_graph: Steps that move into the graph.
        rewrite: Function that inserts them into the graph; `None` if there are none.
    """

    lengths: Mapping[str, int]
    free: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    in_graph: tuple[str, ...] = ()
    rewrite: Callable[[Any], Any] | None = None


def plan_for(predictor: Predictor, dynamic: Collection[str], size: tuple[int, int] | None, move_steps: bool) -> Plan:
    """Plans the export of one model.

    Args:
        predictor: Source model, loaded with the torch engine.
        dynamic: `batch` and `size`, or one of them: what stays free.
        size: Fixed (height, width) of the file's input; `None` for a dynamic size.
        move_steps: Move the steps of input and task into the graph.

    Raises:
        InputError: If the model cannot be exported like this, or `zoo predict` could not run the file.
    """
    name, task = predictor.name, predictor.task
    if len(predictor.stages) > 1:
        raise InputError(f"{name} has {len(predictor.stages)} stages; so far, only single-stage models can be exported")
    spec = predictor.engine.spec
    planned = predictor.input.export_plan(spec, size=size, move_steps=move_steps, what=name)
    axes = {
        axis
        for tensor in spec.inputs
        for axis, side in zip(tensor.axes, tensor.shape, strict=True)
        if side is None and ("batch" if axis == "batch" else "size") in dynamic
    }
    lengths = {"batch": 2 if "batch" in dynamic else 1, **planned.lengths}
    plan = Plan(lengths, tuple(sorted(axes)), planned.inputs)
    if not move_steps:
        return plan
    steps = (*planned.in_graph, *task.in_graph)
    if steps not in REWRITES:
        raise InputError(
            f"--uint8-input is not available for {name}, which reads {predictor.input.kind} for the task {task.name}; "
            "omit --uint8-input"
        )
    module, function = REWRITES[steps].split(":")
    rewrite = partial(getattr(importlib.import_module(module), function), **planned.settings)
    return Plan(lengths, plan.free, planned.inputs, steps, rewrite)
