"""Which execution provider runs each node of an ONNX Runtime session, and which nodes run on the wrong one.

ONNX Runtime silently assigns every node that a device does not support to its CPU provider, and the session still
reports the device as its own. Nodes that only compute shapes are placed on the CPU deliberately, by the providers
themselves, because their values are needed there; `session.disable_cpu_ep_fallback` would refuse those too.

Source: ONNX Runtime 1.24, `Session_GetEpGraphAssignmentInfo`; node names are those after the basic optimisations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["RECORD", "PlacedNode", "count_nodes", "misplaced", "placed_nodes"]

RECORD = ("session.record_ep_graph_assignment_info", "1")
"""Session configuration entry that `placed_nodes` needs."""
_READ_NO_VALUES = ("Shape", "Size")


@dataclass(frozen=True)
class PlacedNode:
    """One node and the execution provider that runs it."""

    name: str
    operator: str
    provider: str

    def __str__(self) -> str:
        return f"{self.name or 'unnamed'} ({self.operator}) on {self.provider}"


def placed_nodes(session: Any) -> list[PlacedNode] | None:
    """All nodes of a session created with `RECORD`; `None` before ONNX Runtime 1.24, which does not report them."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return None
    return [
        PlacedNode(node.name, f"{node.domain}.{node.op_type}" if node.domain else node.op_type, part.ep_name)
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
    ]


def count_nodes(nodes: Sequence[PlacedNode]) -> dict[str, int]:
    """Number of nodes by provider, largest first."""
    return dict(Counter(node.provider for node in nodes).most_common())


def misplaced(nodes: Sequence[PlacedNode], provider: str, shape_nodes: Collection[str]) -> list[PlacedNode]:
    """Nodes that compute on the data but run on a provider other than `provider`.

    Args:
        nodes: All nodes of the session.
        provider: The requested provider.
        shape_nodes: Names of the nodes that only compute shapes; see `zoo.engines.onnx_file.shape_nodes`.
    """
    return [
        node
        for node in nodes
        if node.provider != provider and node.operator not in _READ_NO_VALUES and node.name not in shape_nodes
    ]
