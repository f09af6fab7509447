"""Forward mode over a graph: tangent layers beside the layers of the value.

An active layer gets a layer ``jvp-<label>-<token>`` that works on pairs of primal and
tangents; a layer that hangs on active ones but has no derivative takes the primals out of
their pairs (``primal-<label>-<token>``), so nothing is computed twice; every other layer
keeps its name. Nothing runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import dask_awkward as dak
from dask._task_spec import TaskRef
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from dak_diff.graph.active import Activity, State
from dak_diff.graph.layers import assemble, label_of, map_layer, partitionwise, repaired, single_task
from dak_diff.graph.seeds import Operand
from dak_diff.graph.tasks import OnPrimals, Pushforward, Seed, TakePrimal, TakeTangent

__all__ = ["Forward"]


class Forward:
    """The tangent graph of one expression.

    Parameters
    ----------
    activity : Activity
        What lies between the expression and its targets.
    seeds : sequence of tuple of Operand
        For each target its tangents, one a direction.
    """

    def __init__(self, activity: Activity, seeds: Sequence[tuple[Operand, ...]]):
        self.activity, self.seeds = activity, seeds
        self.graph, self.expr, self.targets = activity.graph, activity.expr, activity.targets
        tokens = [[seed.token for seed in directions] for directions in seeds]
        self.owner = activity.owner
        bases = [(t.base, t.columns) for t in self.targets]
        self.token = tokenize(activity.method, bases, tokens, self.owner)
        self.layers: dict[str, Any] = {}
        self.pairs: dict[str, str] = {}
        self.primals: dict[str, str] = {}
        for directions in seeds:
            for seed in directions:
                if seed.graph is not None:
                    self.layers.update({n: repaired(layer) for n, layer in seed.graph.layers.items()})
                    self.graph = HighLevelGraph.merge(self.graph, seed.graph)
        self._build()

    def _build(self) -> None:
        for name in self.activity.order:
            self._add_seeded(name)

    def _add_seeded(self, name: str) -> None:
        """The layer of a derivative for one of the value, with the tangents that are put in behind it."""
        self._add(name, self.activity.states[name])
        for i, target in enumerate(self.targets):
            if target.base == name:
                self._seed(name, i)

    def _add(self, name: str, state: State) -> None:
        layer, upstream = self.graph.layers[name], self.activity.upstream(name)
        label = label_of(name)
        if state is State.KEPT:
            self.layers[name] = repaired(layer)
        elif state is State.PRIMAL:
            plain = {dep for dep in upstream if self.activity.states[dep] is State.KEPT}
            rename = {dep: self._below(dep) for dep in upstream if dep not in plain}
            new = self._new_name("primal", name)
            self.layers[new] = map_layer(
                layer,
                new,
                lambda fn: OnPrimals(self.activity.held(name, fn), label, self.owner, name),
                rename,
                upstream,
            )
            self.primals[name] = new
        else:
            new = self._new_name("jvp", name)
            method = self.activity.method
            wrap = partial(Pushforward, label=label, owner=self.owner, method=method, origin=name)
            self.layers[new] = map_layer(
                layer, new, wrap, {dep: self._below(dep) for dep in upstream}, upstream
            )
            self.pairs[name] = new

    def _seed(self, name: str, i: int) -> None:
        target, seeds = self.targets[i], self.seeds[i]
        fn, below = Seed(target.columns, target.label, self.owner), self._below(name)
        token = tokenize(below, target.columns, [s.token for s in seeds], self.owner)
        new = f"seed-{label_of(name)}-{token}"
        if target.on_all_partitions:
            arguments = (seed.as_task_argument() for seed in seeds)
            self.layers[new] = single_task(new, fn, TaskRef((below, 0)), *arguments)
        else:
            operands = [(below, ("i",)), *(seed.as_operand() for seed in seeds)]
            names = [below, *(seed.name for seed in seeds if seed.name and seed.partitioned)]
            numblocks = dict.fromkeys(names, (target.collection.npartitions,))
            self.layers[new] = partitionwise(new, fn, operands, numblocks)
        self.pairs[name] = new

    def _new_name(self, role: str, name: str, *what: Any) -> str:
        return f"{role}-{label_of(name)}-{tokenize(name, what, self.token)}"

    def _below(self, name: str) -> str:
        """The layer that gives a value as it is known so far: its pair, its primal, or itself."""
        return self.pairs.get(name) or self.primals.get(name, name)

    def value(self) -> tuple[HighLevelGraph, str]:
        """The graph of the value that comes with the tangent, and the name of its layer."""
        return self._output(self.expr, "value", TakePrimal(self.owner))

    def tangent(self) -> tuple[HighLevelGraph, str]:
        """The graph of the tangent, and the name of its layer."""
        return self._output(self.expr, "jvp-tangent", TakeTangent(self.owner))

    def _output(self, expr: Any, role: str, taker: Callable, *what: Any) -> tuple[HighLevelGraph, str]:
        below = self._below(expr.name)
        name = self._new_name(role, expr.name, below, *what)
        if isinstance(expr, dak.Array):
            layer: Any = partitionwise(name, taker, [(below, ("i",))], {below: (expr.npartitions,)})
        else:
            layer = single_task(name, taker, TaskRef((below, 0)))
        return assemble({**self.layers, name: layer}, self.graph, name), name
