"""Forward mode over a graph: values and tangents together, a segment at a time.

A segment (see :mod:`dak_diff.graph.segments`) that carries a derivative becomes one layer
``jvp-<labels>-<token>`` on pairs of primal and tangents; so does a barrier, function by function. One that
hangs on active layers but has no derivative takes the primals out of their pairs
(``primal-<label>-<token>``), so nothing is computed twice; every other layer keeps its name. Nothing runs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import dask_awkward as dak
from dask._task_spec import TaskRef
from dask.base import tokenize
from dask.blockwise import Blockwise
from dask.highlevelgraph import HighLevelGraph

from dak_diff.engine.histograms import with_components
from dak_diff.graph.active import Activity, State
from dak_diff.graph.histograms import LazyHistogram
from dak_diff.graph.layers import assemble, label_of, map_layer, partitionwise, repaired, single_task
from dak_diff.graph.seeds import Operand
from dak_diff.graph.segment_tasks import Step
from dak_diff.graph.segments import Inputs, LayerNode, gather, readers
from dak_diff.graph.tangent_tasks import PickResult, PushSegment
from dak_diff.graph.tasks import (
    CallTask,
    OnPrimals,
    Pushforward,
    Seed,
    TakePrimal,
    TakeTangent,
    TakeTangents,
)
from dak_diff.graph.wrt import Target

__all__ = ["Forward"]


class Forward:
    """The tangent graph of several expressions.

    Parameters
    ----------
    activities : sequence of Activity
        What lies between each expression and the same targets; of one owner.
    seeds : sequence of tuple of Operand
        For each target its tangents, one a direction.
    chunk : int or None
        How many directions at a time inside a task; None: chosen in each task.
    """

    def __init__(
        self, activities: Sequence[Activity], seeds: Sequence[tuple[Operand, ...]], chunk: int | None = None
    ):
        self.activity, self.seeds, self.chunk = _joined(activities), seeds, chunk
        self.width = len(seeds[0])
        self.ends = {activity.expr.name for activity in activities}
        self.graph, self.targets = self.activity.graph, self.activity.targets
        self.owner, self.method = self.activity.owner, self.activity.method
        bases = [(t.base, t.columns) for t in self.targets]
        tokens = [[seed.token for seed in directions] for directions in seeds]
        # What a layer reads depends on the segments, and these on all expressions.
        self.token = tokenize(self.method, bases, tokens, self.owner, chunk, sorted(self.ends))
        self.layers: dict[str, Any] = {}
        #: layer -> layer of its value with tangents, or without
        self.pairs: dict[str, str] = {}
        self.primals: dict[str, str] = {}
        for directions in seeds:
            for seed in directions:
                if seed.graph is not None:
                    self.layers.update({n: repaired(layer) for n, layer in seed.graph.layers.items()})
                    self.graph = HighLevelGraph.merge(self.graph, seed.graph)
        self._build()

    # ---------------------------------------------------------------- results

    def value(self, expr: Any) -> tuple[HighLevelGraph, str]:
        """The graph of the value that comes with the tangent, and the name of its layer."""
        return self._output(expr, "value", TakePrimal(self.owner))

    def tangent(self, expr: Any) -> tuple[HighLevelGraph, str]:
        """The graph of the tangent in one direction, and the name of its layer."""
        return self._output(expr, "jvp-tangent", TakeTangent(self.owner))

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

    def _output(self, expr: Any, role: str, taker: Callable, *what: Any) -> tuple[HighLevelGraph, str]:
        below = self._below(expr.name)
        name = self._new_name(role, expr.name, below, *what)
        if isinstance(expr, dak.Array):
            layer: Any = partitionwise(name, taker, [(below, ("i",))], {below: (expr.npartitions,)})
        else:
            layer = single_task(name, taker, TaskRef((below, 0)))
        return assemble({**self.layers, name: layer}, self.graph, name), name

    # ---------------------------------------------------------------- layers

    def _build(self) -> None:
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
                    self._add_barrier(name)
                    self._seed_layer(name)

    def _nodes(self) -> list[LayerNode]:
        """The touched layers; all others are added as they are, with the tangents that are put in there."""
        nodes: dict[str, LayerNode] = {}
        for name in self.activity.order:
            layer = self.graph.layers[name]
            if self.activity.states[name] is State.KEPT:
                self.layers[name] = repaired(layer)
                self._seed_layer(name)
            else:
                reads = tuple(dep for dep in self.activity.upstream(name) if dep in nodes)
                nodes[name] = LayerNode(name, reads, not isinstance(layer, Blockwise))
        return list(nodes.values())

    def _add_barrier(self, name: str) -> None:
        layer, upstream = self.graph.layers[name], self.activity.upstream(name)
        label = label_of(name)
        if self.activity.states[name] is State.PRIMAL:
            plain = {dep for dep in upstream if self.activity.states[dep] is State.KEPT}
            rename = {dep: self._below(dep) for dep in upstream if dep not in plain}
            new = self.primals[name] = self._new_name("primal", name)

            def wrap(fn: Callable) -> Callable:
                return OnPrimals(self.activity.held(name, fn), label, self.owner, name)
        else:
            rename = {dep: self._below(dep) for dep in upstream}
            new = self.pairs[name] = self._new_name("jvp", name)
            wrap = partial(Pushforward, label=label, owner=self.owner, method=self.method, origin=name)
        self.layers[new] = map_layer(layer, new, wrap, rename, upstream)

    def _seed_layer(self, name: str) -> None:
        """Layers that put tangents on the value of a layer, for each target that it is."""
        for target, seeds in self._seeds_of(name):
            fn, below = Seed(target.columns, target.label, self.owner), self._below(name)
            token = tokenize(below, target.columns, [s.token for s in seeds], self.owner)
            new = f"seed-{label_of(name)}-{token}"
            if target.on_all_partitions:
                arguments = (seed.as_task_argument() for seed in seeds)
                self.layers[new] = single_task(new, fn, TaskRef((below, 0)), *arguments)
            else:
                blocks = (target.collection.npartitions,)
                operands = [(below, ("i",)), *(seed.as_operand() for seed in seeds)]
                names = [below, *(seed.name for seed in seeds if seed.name and seed.partitioned)]
                self.layers[new] = partitionwise(new, fn, operands, dict.fromkeys(names, blocks))
            self.pairs[name] = new

    def _seeds_of(self, name: str) -> list[tuple[Target, tuple[Operand, ...]]]:
        """The targets that a layer is, with their tangents."""
        return [(t, s) for t, s in zip(self.targets, self.seeds, strict=True) if t.base == name]

    def _add_segment(self, members: list[str], outputs: tuple[str, ...]) -> None:
        inputs, inside = Inputs(), set(members)
        steps: dict[str, Step] = {}
        for name in members:
            layer = repaired(self.graph.layers[name])
            fn = self.activity.held(name, CallTask(layer.task))
            given = tuple(inputs.resolve(layer, inside, lambda dep: dep, self._below))
            seeds = tuple(
                (Seed(t.columns, t.label, self.owner), tuple(_place(inputs, t, o) for o in operands))
                for t, operands in self._seeds_of(name)
            )
            active = self.activity.states[name] is State.ACTIVE
            steps[name] = Step(name, label_of(name), fn, given, active=active, seeds=seeds)
        ordered = tuple(steps[name] for name in _depth_first(outputs, steps))
        fn = PushSegment(ordered, outputs, self.method, self.owner, self.width, self.chunk)
        labels = list(dict.fromkeys(map(label_of, outputs)))
        new = f"jvp-{'-'.join(labels[-3:])}-{tokenize(members, outputs, self.token)}"
        self.layers[new] = partitionwise(new, fn, list(inputs.operands.values()), inputs.numblocks)
        blocks = {new: (len(self.graph.layers[members[0]]),)}
        for position, name in enumerate(outputs):
            active, layer = self.activity.states[name] is State.ACTIVE, new
            if len(outputs) > 1:
                layer = self._new_name("jvp" if active else "primal", name, new)
                self.layers[layer] = partitionwise(layer, PickResult(position), [(new, ("i",))], blocks)
            (self.pairs if active else self.primals)[name] = layer

    def _new_name(self, role: str, name: str, *what: Any) -> str:
        return f"{role}-{label_of(name)}-{tokenize(name, what, self.token)}"

    def _below(self, name: str) -> str:
        """The layer that gives a value as it is known so far: its pair, its primal, or itself."""
        return self.pairs.get(name) or self.primals.get(name, name)


def _place(inputs: Inputs, target: Target, operand: Operand) -> int:
    """Where a tangent is among the inputs of a segment."""
    own = (target.collection.npartitions,) if operand.name and operand.partitioned else None
    return inputs.read(f"tangent {operand.token}", *operand.as_operand(), own)[1]


def _depth_first(outputs: Sequence[str], steps: Mapping[str, Step]) -> list[str]:
    """Steps in an order in which what is computed is soon used up."""
    ordered: dict[str, None] = {}
    stack = list(reversed(outputs))
    while stack:
        reads = [what for kind, what in steps[stack[-1]].operands if kind == "step"]
        missing = [r for r in reads if r not in ordered]
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
