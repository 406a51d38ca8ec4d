"""Evaluation of models: metrics per weather and light condition with confidence intervals, and the report.

`evaluate` takes any iterable of frames and any callable from a frame to a prediction. `Session` evaluates several
models on several data sets and can be interrupted and resumed.
"""

from zoo.evaluate.core import evaluate
from zoo.evaluate.suite import Session

__all__ = ["Session", "evaluate"]
