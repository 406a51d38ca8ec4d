"""How to run an exported file without this package: every step from image to labels, as data and as text.

The contract has three parts, each a table of steps in execution order: `before` (the caller's steps up to the file's
input), `inside` (the file itself), `after` (the caller's steps from the file's output to labels at the image's original
size). Every step has a `text` that describes it completely, and its parameters as data. Only steps in use are listed: a
model that normalises each image by its own statistics has no constants in its contract.

It is stored in the file's metadata (`contract`) and its entry in `config.json`, and printed in the model card.
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
    """Several contracts, such as an input's and a task's, merged into one; the steps keep their order."""
    return {
        part: {name: step for contract in contracts for name, step in contract[part].items()}
        for part in ("before", "inside", "after")
    }
