"""Partition-wise layers gathered into segments between barriers.

A *barrier* is a layer that is not partition-wise: a reduction, or any materialised layer.
All touched partition-wise layers that are connected without crossing a barrier form a
*segment*: one function of one partition, one tape.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dask._task_spec import DataNode, TaskRef

from dak_diff.graph.layers import operand_name

__all__ = ["Inputs", "LayerNode", "Segment", "gather", "readers"]


@dataclass
class LayerNode:
    """A touched layer.

    Parameters
    ----------
    reads : tuple of str
        The touched layers it reads.
    barrier : bool
        It is not partition-wise.
    """

    name: str
    reads: tuple[str, ...]
    barrier: bool = False


@dataclass
class Segment:
    """Connected partition-wise layers, in topological order."""

    depth: int
    members: list[str] = field(default_factory=list)


def gather(nodes: list[LayerNode]) -> tuple[dict[str, int], list[Segment]]:
    """Depth of each layer (how many barriers lie before it), and the segments.

    A layer goes as deep as what reads it allows, so that one segment takes in all it can.

    Parameters
    ----------
    nodes : list of LayerNode
        In topological order.
    """
    known = {node.name: node for node in nodes}
    depth: dict[str, int] = {}
    for node in nodes:
        steps = (depth[r] + (not node.barrier and known[r].barrier) for r in node.reads)
        depth[node.name] = max(steps, default=0)
    latest: dict[str, int] = {}
    for node in reversed(nodes):
        depth[node.name] = latest.get(node.name, depth[node.name])
        for r in node.reads:
            allowed = depth[node.name] - (not node.barrier and known[r].barrier)
            latest[r] = min(latest.get(r, allowed), allowed)
    parent: dict[str, str] = {}
    for node in nodes:
        if node.barrier:
            continue
        parent[node.name] = node.name
        for r in node.reads:
            if r in parent and depth[r] == depth[node.name]:
                parent[_root(parent, r)] = _root(parent, node.name)
    return depth, _segments(parent, depth)


def _root(parent: Mapping[str, str], name: str) -> str:
    while parent[name] != name:
        name = parent[name]
    return name


def _segments(parent: Mapping[str, str], depth: Mapping[str, int]) -> list[Segment]:
    found: dict[str, Segment] = {}
    for name in parent:
        root = _root(parent, name)
        found.setdefault(root, Segment(depth[name])).members.append(name)
    return list(found.values())


def readers(nodes: Iterable[Any]) -> dict[str, list[str]]:
    """For each layer, the touched layers that read it."""
    result: dict[str, list[str]] = {}
    for node in nodes:
        for r in node.reads:
            result.setdefault(r, []).append(node.name)
    return result


class Inputs:
    """What a segment reads from outside, each once.

    Attributes
    ----------
    operands : dict
        (layer, whether partition by partition) -> operand and index of the segment's own layer.
    numblocks : dict
        Operand -> its number of partitions.
    """

    def __init__(self) -> None:
        self.operands: dict[tuple[str, bool], tuple[Any, Any]] = {}
        self.numblocks: dict[str, tuple[int, ...]] = {}
        self._positions: dict[tuple[str, bool], int] = {}

    def read(self, name: str, operand: Any, index: Any, blocks: Any = None) -> tuple[str, int]:
        """Where the value of a layer is among the inputs."""
        key = (name, index is not None)
        if key not in self.operands:
            self._positions[key] = len(self.operands)
            self.operands[key] = (operand, index)
            if blocks is not None:
                self.numblocks[operand] = tuple(blocks)
        return ("input", self._positions[key])

    def resolve(
        self,
        layer: Any,
        members: Collection[str],
        source: Callable[[str], str],
        value: Callable[[str], str],
    ) -> list[tuple[str, Any]]:
        """Where the operands of a member come from: ("step", name), ("input", position), ("constant", value).

        Parameters
        ----------
        source : callable
            Which layer a dependency stands for.
        value : callable
            Which layer gives the value of that.
        """
        found: list[tuple[str, Any]] = []
        for operand, index in layer.indices:
            dep = operand_name(operand) if index is None else operand
            if dep is None:
                found.append(("constant", operand.value if isinstance(operand, DataNode) else operand))
            elif dep in layer.io_deps:
                found.append(self.read(dep, layer.io_deps[dep], ("i",)))
            elif (read := source(dep)) in members:
                found.append(("step", read))
            elif index is None:
                below = value(read)
                found.append(self.read(read, operand if below == dep else TaskRef((below, 0)), None))
            else:
                found.append(self.read(read, value(read), ("i",), layer.numblocks[dep]))
        return found
