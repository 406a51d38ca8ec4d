"""What someone without this package needs to run an exported file: every step from picture to labels, as data and text.

The contract has three parts, each a table of steps in the order in which they are done: `before` (the caller's steps
up to the file's input), `inside` (the file itself), `after` (the caller's steps from the file's output to labels at the
picture's own size). Every step has a `text` that says all of it, and its parameters as data. Only what is in use is
listed: a model that normalises each image by its own statistics has no constants in its contract.

It is written into the file's metadata (`contract`), into the file's entry in `config.json`, and into the model card.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["TRIANGLE", "Contract", "joined"]

Contract = Mapping[str, Mapping[str, Any]]
"""`before`, `inside` and `after`, each a table of steps."""

TRIANGLE = "bilinear with half-pixel centres"
"""What the contracts call the resize filter."""


def joined(*contracts: Contract) -> dict[str, dict[str, Any]]:
    """One contract of several parts, such as an input's and a task's; the steps keep their order."""
    return {
        part: {name: step for contract in contracts for name, step in contract[part].items()}
        for part in ("before", "inside", "after")
    }
