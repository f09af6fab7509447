"""Partition-wise layers gathered into segments between barriers.

A *barrier* is a layer that is not partition-wise: a reduction, or any materialised layer.
All touched partition-wise layers that are connected without crossing a barrier form a
*segment*: one function of one partition, one tape.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Node", "Segment", "gather"]


@dataclass
class Node:
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


def gather(nodes: list[Node]) -> tuple[dict[str, int], list[Segment]]:
    """Depth of each layer (how many barriers lie before it), and the segments.

    A layer goes as deep as what reads it allows, so that one segment takes in all it can.

    Parameters
    ----------
    nodes : list of Node
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
