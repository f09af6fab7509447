"""Forward mode over a graph: tangent layers beside the layers of the value.

Walks the layers between ``wrt`` and ``expr`` in topological order. An *active* layer gets
a layer ``jvp-<label>-<token>`` that works on pairs of primal and tangents; a layer that
hangs on active ones but has no floating-point results takes the primals out of their
pairs (``primal-<label>-<token>``), so nothing is computed twice; every other layer keeps
its name. Nothing runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
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
from dak_diff.graph.wrt import Target, field_selection

__all__ = ["Forward", "ancestors", "label_of"]

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
    role: str
    primitives: tuple[str, ...] = ()


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
    """

    expr: Any
    targets: list[Target]
    seeds: list[tuple[Operand, ...]]
    method: str
    rows: list[Row] = field(default_factory=list)
    layers: dict[str, Any] = field(default_factory=dict)
    pairs: dict[str, str] = field(default_factory=dict)
    primals: dict[str, str] = field(default_factory=dict)
    columns: dict[str, set[tuple[str, ...]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        graphs = [self.expr.dask, *(s.graph for seeds in self.seeds for s in seeds if s.graph)]
        self.graph = HighLevelGraph.merge(*graphs)
        self.token = tokenize(
            self.method,
            [(t.base, t.columns, [s.token for s in seeds]) for t, seeds in zip(self.targets, self.seeds, strict=True)],
        )
        self._walk()

    # ---------------------------------------------------------------- the walk

    def _walk(self) -> None:
        order = ancestors(self.graph, [self.expr.name])
        self._check_connected(order)
        probe = Probe()
        by_base: dict[str, list[int]] = {}
        for i, target in enumerate(self.targets):
            by_base.setdefault(target.base, []).append(i)
        for name in order:
            layer = self.graph.layers[name]
            upstream = [dep for dep in self.graph.dependencies.get(name, ()) if self._touched(dep)]
            columns = self._active_columns(layer, upstream)
            if not columns:
                self._keep_or_rewire(name, layer, upstream, probe)
            else:
                self._push(name, layer, columns, probe)
            for i in by_base.get(name, ()):
                self._seed(name, self.targets[i], self.seeds[i], probe)
        if self.expr.name not in self.pairs and self.expr.name not in self.primals:
            self._raise_disconnected()

    def _touched(self, name: str) -> bool:
        return name in self.pairs or name in self.primals

    def _active_columns(self, layer: Any, upstream: list[str]) -> set[tuple[str, ...]]:
        """The active columns of a layer's result: ``{()}`` is all of it, empty is none."""
        active = [dep for dep in upstream if dep in self.pairs]
        selected = field_selection(layer)
        if not active or selected is None or selected[0] not in self.pairs:
            return {()} if active else set()
        operand, paths = selected
        found = set()
        for column in self.columns[operand]:
            for path in paths:
                if column[: len(path)] == path:
                    # One path unwraps its column, a list of fields keeps them.
                    found.add(column[len(path) :] if len(paths) == 1 and not isinstance(paths, set) else column)
                elif path[: len(column)] == column:
                    found.add(() if len(paths) == 1 else path)
        return found

    def _push(self, name: str, layer: Any, columns: set, probe: Probe) -> None:
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
            self.rows.append(Row(name, "not differentiable"))
            return
        new = self._new_name("jvp", name)
        self.layers[new] = map_layer(layer, new, wrap, {**self.primals, **self.pairs}, self._upstream(name))
        self.pairs[name] = new
        self.columns[name] = columns
        self.rows.append(Row(name, "active", probe.primitives(name)))

    def _keep_or_rewire(self, name: str, layer: Any, upstream: list[str], probe: Probe) -> None:
        probe.run(name, layer, OnPrimals_of(name))
        if any(dep in self.primals for dep in upstream):
            self._rewire(name, layer)
            self.rows.append(Row(name, "not differentiable"))
        else:
            self.layers[name] = repaired(layer)
            self.rows.append(Row(name, "inactive"))

    def _rewire(self, name: str, layer: Any) -> None:
        """A layer without derivative that reads active ones: its primals come out of their pairs."""
        new = self._new_name("primal", name)
        rename = {**{dep: pair for dep, pair in self.pairs.items() if dep not in self.layers}, **self.primals}
        self.layers[new] = map_layer(layer, new, OnPrimals_of(name), rename, self._upstream(name))
        self.primals[name] = new

    def _seed(self, name: str, target: Target, seeds: tuple[Operand, ...], probe: Probe) -> None:
        fn = Seed(tuple(target.columns), target.label)
        below = self.pairs.get(name) or self.primals.get(name, name)
        new = f"seed-{label_of(name)}-{tokenize(below, target.columns, [s.token for s in seeds])}"
        npartitions = _npartitions(self.graph.layers[name])
        if target.on_all_partitions:
            self.layers[new] = single_task(new, fn, TaskRef((below, 0)), *(s.as_task_argument() for s in seeds))
        else:
            operands = [(below, ("i",)), *(s.as_operand() for s in seeds)]
            blocks = {below: (npartitions,), **{s.name: (npartitions,) for s in seeds if s.name}}
            self.layers[new] = partitionwise(new, fn, operands, blocks)
        for seed in seeds:
            self.layers.update({n: repaired(layer) for n, layer in (seed.graph.layers if seed.graph else {}).items()})
        active = {absolute for absolute, _ in target.columns}
        self.columns[name] = self.columns.get(name, set()) | active
        self.pairs[name] = new
        probe.seed(name, fn, len(seeds))

    # ---------------------------------------------------------------- results

    def outputs(self, takers: Mapping[str, Callable]) -> tuple[HighLevelGraph, dict[str, str]]:
        """Final layers, one for each taker; the graph that holds them all, and their names."""
        name = self.expr.name
        below = self.pairs.get(name) or self.primals[name]
        names, layers = {}, dict(self.layers)
        for role, taker in takers.items():
            new = f"{role}-{label_of(name)}-{tokenize(below, role, self.token)}"
            layers[new] = (
                single_task(new, taker, TaskRef((below, 0)))
                if not isinstance(self.expr, dak.Array)
                else partitionwise(new, taker, [(below, ("i",))], {below: (self.expr.npartitions,)})
            )
            names[role] = new
        return _assemble(layers, self.graph, names.values()), names

    def tangents(self, width: int = 1) -> tuple[HighLevelGraph, dict[str, str]]:
        takers: dict[str, Callable] = {"value": TakePrimal()}
        for direction in range(width):
            takers["tangent" if width == 1 else f"tangent{direction}"] = TakeTangent(direction)
        return self.outputs(takers)

    # ---------------------------------------------------------------- helpers

    def _upstream(self, name: str) -> dict[str, Any]:
        return {dep: self.graph.layers[dep] for dep in self.graph.dependencies.get(name, ())}

    def _new_name(self, role: str, name: str) -> str:
        return f"{role}-{label_of(name)}-{tokenize(name, self.token)}"

    def _check_connected(self, order: list[str]) -> None:
        for target in self.targets:
            if target.base in order:
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

    def _raise_disconnected(self) -> None:
        raise self._disconnected(self.targets[0])


def OnPrimals_of(name: str) -> Callable:  # noqa: N802
    return partial(OnPrimals, label=label_of(name))


def _npartitions(layer: Any) -> int:
    return len(layer.get_output_keys())


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


