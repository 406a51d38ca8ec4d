"""Measuring models: counts per image, figures per weather and light condition with intervals, and the report.

`evaluate` takes any iterable of frames and any callable from a frame to a prediction; `Session` runs several models on
several data sets and can be interrupted.
"""

from zoo.evaluate.core import evaluate
from zoo.evaluate.suite import Session

__all__ = ["Session", "evaluate"]
