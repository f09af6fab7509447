"""Forward mode over a graph: tangent layers beside the layers of the value.

Walks the layers between ``wrt`` and ``expr`` in topological order. An *active* layer gets
a layer ``jvp-<label>-<token>`` that works on pairs of primal and tangents; a layer that
hangs on active ones but has no floating-point results takes the primals out of their
pairs (``primal-<label>-<token>``), so nothing is computed twice; every other layer keeps
its name. Nothing runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from graphlib import TopologicalSorter
from typing import Any

import dask_awkward as dak
from dask._task_spec import TaskRef
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from dak_diff.errors import DisconnectedError, NoRuleError, OptimizedGraphError
from dak_diff.graph.layers import dependencies_of, map_layer, partitionwise, repaired, single_task
from dak_diff.graph.probe import Probe, may_be_float
from dak_diff.graph.seeds import Operand
from dak_diff.graph.tasks import OnPrimals, Pushforward, Seed, TakePrimal, TakeTangent
from dak_diff.graph.wrt import Path, Target, field_selection
from dak_diff.rules.primitive import Primitive

__all__ = ["Forward", "Row", "ancestors", "label_of"]

_TOKEN = re.compile(r"-[0-9a-f]{32}$")
_OBJECT = re.compile(r"<(?:[\w.\-]*[.\-])?(\w+) object at 0x[0-9a-f]+>")


def label_of(name: str) -> str:
    """A layer name without its token: what the user recognises."""
    return _OBJECT.sub(r"\1", _TOKEN.sub("", name)).strip("-<>")


def ancestors(graph: HighLevelGraph, names: Iterable[str]) -> list[str]:
    """Every layer that ``names`` depend on, and themselves, in topological order."""
    found: dict[str, set[str]] = {}
    stack = list(names)
    while stack:
        name = stack.pop()
        if name not in found:
            found[name] = set(graph.dependencies.get(name, ()))
            stack.extend(found[name])
    ordered = {name: sorted(found[name]) for name in sorted(found)}
    return list(TopologicalSorter(ordered).static_order())


@dataclass
class Row:
    """What happens to one layer, for :func:`dak_diff.explain`."""

    name: str
    active: bool
    primitives: list[Primitive] | None = None


@dataclass
class Forward:
    """The derivative graph of one expression by some targets.

    Parameters
    ----------
    expr : collection
        What is differentiated.
    targets : list of Target
        What it is differentiated by.
    seeds : list of tuple of Operand
        For each target its tangents, one a direction.
    method : str
        Where partials come from.
    zero_if_disconnected : bool
        A target that does not reach the expression is no error.
    explaining : bool
        Also find out which primitives each active layer uses.
    """

    expr: Any
    targets: list[Target]
    seeds: Sequence[tuple[Operand, ...]]
    method: str
    zero_if_disconnected: bool = False
    explaining: bool = False
    rows: list[Row] = field(default_factory=list)
    layers: dict[str, Any] = field(default_factory=dict)
    pairs: dict[str, str] = field(default_factory=dict)
    primals: dict[str, str] = field(default_factory=dict)
    influence: dict[str, dict[int, set[Path]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        graphs = [self.expr.dask, *(s.graph for seeds in self.seeds for s in seeds if s.graph)]
        self.graph = HighLevelGraph.merge(*graphs)
        self.token = tokenize(
            self.method,
            [
                (t.base, t.columns, [s.token for s in seeds])
                for t, seeds in zip(self.targets, self.seeds, strict=True)
            ],
        )
        self._walk()

    # ---------------------------------------------------------------- the walk

    def _walk(self) -> None:
        order = ancestors(self.graph, [self.expr.name])
        self._check_present(order)
        probe = Probe()
        for name in order:
            layer = self.graph.layers[name]
            self.influence[name] = self._influence(name, layer)
            upstream = self.graph.dependencies.get(name, ())
            if self.influence[name] and any(dep in self.pairs for dep in upstream):
                self._push(name, layer, probe)
            else:
                self._keep(name, layer, probe)
            for i, target in enumerate(self.targets):
                if target.base == name:
                    self._seed(name, i, probe)
        if not self.zero_if_disconnected:
            for i, target in enumerate(self.targets):
                if i not in self.influence[self.expr.name]:
                    raise self._disconnected(target)

    def _influence(self, name: str, layer: Any) -> dict[int, set[Path]]:
        """Target -> the columns of this layer's result that it reaches; ``()`` is all of it."""
        selected = field_selection(layer)
        reached: dict[int, set[Path]] = {}
        for dep in self.graph.dependencies.get(name, ()):
            for target, columns in self.influence[dep].items():
                if selected is not None and selected[0] == dep:
                    columns = _select(columns, selected[1])
                else:
                    columns = {()}
                if columns:
                    reached.setdefault(target, set()).update(columns)
        return reached

    def _push(self, name: str, layer: Any, probe: Probe) -> None:
        wrap = partial(Pushforward, label=label_of(name), method=self.method)
        try:
            value = probe.run(name, layer, wrap)
        except NoRuleError as error:
            raise NoRuleError(
                f"{error}\nIt is needed in layer {label_of(name)!r}, between wrt "
                f"{', '.join(t.label for t in self.targets)} and the output {self.expr.name!r}."
            ) from None
        if value is not None and not may_be_float(value):
            probe.plain(name)
            self._rewire(name, layer)
            self.rows.append(Row(name, active=False))
            return
        primitives = probe.primitives(layer) if self.explaining else None
        new = self._new_name("jvp", name)
        self.layers[new] = map_layer(layer, new, wrap, {**self.primals, **self.pairs}, self._upstream(name))
        self.pairs[name] = new
        self.rows.append(Row(name, True, primitives))

    def _keep(self, name: str, layer: Any, probe: Probe) -> None:
        probe.run(name, layer, _on_primals(name))
        upstream = self.graph.dependencies.get(name, ())
        if all(dep in self.layers for dep in upstream):
            self.layers[name] = repaired(layer)
        else:
            self._rewire(name, layer)
        self.rows.append(Row(name, active=False))

    def _rewire(self, name: str, layer: Any) -> None:
        """A layer without derivative that reads active ones: its primals come out of their pairs."""
        new = self._new_name("primal", name)
        rename = {**{dep: pair for dep, pair in self.pairs.items() if dep not in self.layers}, **self.primals}
        self.layers[new] = map_layer(layer, new, _on_primals(name), rename, self._upstream(name))
        self.primals[name] = new

    def _seed(self, name: str, i: int, probe: Probe) -> None:
        target, seeds = self.targets[i], self.seeds[i]
        fn = Seed(target.columns, target.label)
        below = self._below(name)
        new = f"seed-{label_of(name)}-{tokenize(below, target.columns, [s.token for s in seeds])}"
        if target.on_all_partitions:
            self.layers[new] = single_task(
                new, fn, TaskRef((below, 0)), *(s.as_task_argument() for s in seeds)
            )
        else:
            blocks = (target.collection.npartitions,)
            operands = [(below, ("i",)), *(s.as_operand() for s in seeds)]
            numblocks = dict.fromkeys((below, *(s.name for s in seeds if s.partitioned and s.name)), blocks)
            self.layers[new] = partitionwise(new, fn, operands, numblocks)
        for seed in seeds:
            if seed.graph is not None:
                self.layers.update({n: repaired(layer) for n, layer in seed.graph.layers.items()})
        self.influence[name].setdefault(i, set()).update(absolute for absolute, _ in target.columns)
        self.pairs[name] = new
        probe.seed(name, fn, len(seeds))

    # ---------------------------------------------------------------- results

    def output(self, role: str, taker: Callable) -> tuple[HighLevelGraph, str]:
        """A last layer that takes something out of the pair of the expression, and its graph."""
        below = self._below(self.expr.name)
        name = f"{role}-{label_of(self.expr.name)}-{tokenize(below, role, self.token)}"
        if isinstance(self.expr, dak.Array):
            layer = partitionwise(name, taker, [(below, ("i",))], {below: (self.expr.npartitions,)})
        else:
            layer = single_task(name, taker, TaskRef((below, 0)))
        return _assemble({**self.layers, name: layer}, self.graph, [name]), name

    def value(self) -> tuple[HighLevelGraph, str]:
        return self.output("value", TakePrimal())

    def tangent(self) -> tuple[HighLevelGraph, str]:
        return self.output("tangent", TakeTangent())

    # ---------------------------------------------------------------- helpers

    def _upstream(self, name: str) -> dict[str, Any]:
        return {dep: self.graph.layers[dep] for dep in self.graph.dependencies.get(name, ())}

    def _new_name(self, role: str, name: str) -> str:
        return f"{role}-{label_of(name)}-{tokenize(name, self.token)}"

    def _below(self, name: str) -> str:
        """The layer that gives a value as it is known so far: its pair, or its primal."""
        return self.pairs.get(name) or self.primals.get(name, name)

    def _check_present(self, order: list[str]) -> None:
        for target in self.targets:
            if target.base in order or self.zero_if_disconnected:
                continue
            if any(_is_fused(self.graph.layers[name]) for name in order):
                raise OptimizedGraphError(
                    f"wrt {target.label} is not in the graph of {self.expr.name!r}, which went through "
                    "dask.optimize or persist and has lost its operations. Differentiate the collection "
                    "as it was before that; a persisted collection may be a source."
                )
            raise self._disconnected(target)

    def _disconnected(self, target: Target) -> DisconnectedError:
        return DisconnectedError(
            f"the output {self.expr.name!r} does not depend on wrt {target.label}: no path leads from it "
            'to the output. Pass disconnected="zero" if a derivative of zero is what you mean.'
        )


def _on_primals(name: str) -> Callable:
    return partial(OnPrimals, label=label_of(name))


def _select(columns: set[Path], paths: list[Path]) -> set[Path]:
    """The columns left after selecting ``paths``: one path unwraps, a list of fields keeps."""
    found = set()
    for column in columns:
        for path in paths:
            if column[: len(path)] == path:
                found.add(column[len(path) :] if len(paths) == 1 else column)
            elif path[: len(column)] == column:
                found.add(() if len(paths) == 1 else path)
    return found


def _is_fused(layer: Any) -> bool:
    task = getattr(layer, "task", None)
    fused = task is not None and getattr(task.func, "__name__", "") == "_execute_subgraph"
    return fused or type(layer).__name__ == "MaterializedLayer"


def _assemble(layers: dict[str, Any], graph: HighLevelGraph, names: Iterable[str]) -> HighLevelGraph:
    dependencies = {}
    known = set(layers)
    for name, layer in layers.items():
        if name in graph.layers:
            dependencies[name] = set(graph.dependencies.get(name, ()))
        else:
            dependencies[name] = dependencies_of(layer, known)
    whole = HighLevelGraph(layers, dependencies)
    needed = ancestors(whole, names)
    return HighLevelGraph({n: layers[n] for n in needed}, {n: dependencies[n] for n in needed})
