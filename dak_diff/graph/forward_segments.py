"""Forward mode with many tangents: the layers between two barriers as one function of a partition.

Layer by layer, all tangents of everything would travel from task to task. Here a segment (see
:mod:`dak_diff.graph.segments`) becomes one layer ``jvp-<labels>-<token>``, which makes the tangents of its
results a chunk of directions at a time; barriers are as in :mod:`dak_diff.graph.forward`. Nothing runs.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import dask_awkward as dak
from dask.base import tokenize
from dask.blockwise import Blockwise
from dask.highlevelgraph import HighLevelGraph

from dak_diff.engine.histograms import with_components
from dak_diff.graph.active import Activity, State
from dak_diff.graph.forward import Forward
from dak_diff.graph.histograms import LazyHistogram
from dak_diff.graph.layers import label_of, partitionwise, repaired
from dak_diff.graph.seeds import Operand
from dak_diff.graph.segment_tasks import Step
from dak_diff.graph.segments import Inputs, LayerNode, gather, readers
from dak_diff.graph.tangent_tasks import PickResult, PushSegment
from dak_diff.graph.tasks import CallTask, TakeTangents

__all__ = ["ForwardSegments"]


class ForwardSegments(Forward):
    """The graph of many tangents of several expressions, by parameters.

    Parameters
    ----------
    activities : sequence of Activity
        What lies between each expression and the same targets; of one owner.
    seeds : sequence of tuple of Operand
        For each target its tangents, one a direction.
    chunk : int or None
        How many directions at a time; None: chosen in each task.
    """

    def __init__(
        self, activities: Sequence[Activity], seeds: Sequence[tuple[Operand, ...]], chunk: int | None
    ):
        self.chunk, self.width = chunk, len(seeds[0])
        self.ends = {activity.expr.name for activity in activities}
        super().__init__(_joined(activities), seeds)

    def tangents(
        self, expr: Any, directions: slice, shape: tuple[int, ...]
    ) -> tuple[HighLevelGraph, str, Any]:
        """The graph of several tangents along trailing axes, the name of its layer, and its meta."""
        take = TakeTangents(self.owner, directions, shape)
        meta = None
        if isinstance(expr, dak.Array):
            meta = take.meta(expr._meta)
        elif isinstance(expr, LazyHistogram) and shape:
            meta = with_components(expr.empty, shape)
        return *self._output(expr, "jvp-jacobian", take, directions.start, shape), meta

    # ---------------------------------------------------------------- layers

    def _build(self) -> None:
        # What a layer reads depends on the segments, and these on all expressions.
        self.token = tokenize(self.token, self.chunk, sorted(self.ends))
        nodes = self._nodes()
        depth, segments = gather(nodes)
        read_by = readers(nodes)
        barriers = [node.name for node in nodes if node.barrier]
        for level in range(max(depth.values(), default=0) + 1):
            for segment in segments:
                if segment.depth == level:
                    members = set(segment.members)
                    outputs = [
                        name
                        for name in segment.members
                        if name in self.ends or not members.issuperset(read_by.get(name, ()))
                    ]
                    self._add_segment(segment.members, tuple(outputs))
            for name in barriers:
                if depth[name] == level:
                    self._add_seeded(name)

    def _nodes(self) -> list[LayerNode]:
        """The touched layers; all others are added as they are."""
        nodes: dict[str, LayerNode] = {}
        for name in self.activity.order:
            if self.activity.states[name] is State.KEPT:
                self._add_seeded(name)
            else:
                reads = tuple(dep for dep in self.activity.upstream(name) if dep in nodes)
                nodes[name] = LayerNode(name, reads, not isinstance(self.graph.layers[name], Blockwise))
        return list(nodes.values())

    def _add_segment(self, members: list[str], outputs: tuple[str, ...]) -> None:
        inputs, inside = Inputs(), set(members)
        resolved = {}
        for name in members:
            layer = repaired(self.graph.layers[name])
            given = inputs.resolve(layer, inside, lambda dep: dep, self._below)
            resolved[name] = (self.activity.held(name, CallTask(layer.task)), given)
        reads = {
            name: [what for kind, what in given if kind == "step"] for name, (_, given) in resolved.items()
        }
        steps = [
            Step(name, label_of(name), fn, tuple(given), active=self.activity.states[name] is State.ACTIVE)
            for name in _depth_first(outputs, reads)
            for fn, given in [resolved[name]]
        ]
        method = self.activity.method
        fn = PushSegment(tuple(steps), outputs, method, self.owner, self.width, self.chunk)
        labels = list(dict.fromkeys(map(label_of, outputs)))
        new = f"jvp-{'-'.join(labels[-3:])}-{tokenize(members, outputs, self.token)}"
        self.layers[new] = partitionwise(new, fn, list(inputs.operands.values()), inputs.numblocks)
        blocks = {new: (len(self.graph.layers[members[0]]),)}
        for position, name in enumerate(outputs):
            layer = new
            if len(outputs) > 1:
                layer = self._new_name("pick", name, new)
                self.layers[layer] = partitionwise(layer, PickResult(position), [(new, ("i",))], blocks)
            known = self.pairs if self.activity.states[name] is State.ACTIVE else self.primals
            known[name] = layer


def _depth_first(outputs: Sequence[str], reads: Mapping[str, list[str]]) -> list[str]:
    """Steps in an order in which what is computed is soon used up."""
    ordered: dict[str, None] = {}
    stack = list(reversed(outputs))
    while stack:
        missing = [r for r in reads[stack[-1]] if r not in ordered]
        if missing:
            stack.extend(reversed(missing))
        else:
            ordered[stack.pop()] = None
    return list(ordered)


def _joined(activities: Sequence[Activity]) -> Activity:
    """What lies between several expressions and their targets, as if they were one."""
    joined = copy.copy(activities[0])
    joined.graph = HighLevelGraph.merge(*(activity.graph for activity in activities))
    joined.follow(activity.expr.name for activity in activities)
    joined.states = {name: state for activity in activities for name, state in activity.states.items()}
    joined.without_floats = set().union(*(activity.without_floats for activity in activities))
    return joined
