"""Which layers lie between ``wrt`` and an expression, and what becomes of each.

Walks the graph once, in topological order, and follows every target column by column: a
field selection is followed exactly, anything else passes all on. Shared by both modes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from graphlib import TopologicalSorter
from itertools import islice
from typing import Any

from dask.highlevelgraph import HighLevelGraph

from dak_diff.errors import DisconnectedError, NoRuleError, OptimizedGraphError
from dak_diff.graph.layers import label_of
from dak_diff.graph.probe import Probe, hidden_parameters, may_be_float
from dak_diff.graph.tasks import OnPrimals, Pushforward, Seed, Transposed, WithoutFloats, inside
from dak_diff.graph.wrt import Path, Target, field_selection
from dak_diff.rules.primitive import Primitive

__all__ = ["Activity", "State", "ancestors"]


class State(Enum):
    """What becomes of a layer in a derivative graph."""

    KEPT = "reads nothing that depends on wrt: stays as it is"
    PRIMAL = "reads values that depend on wrt, has no derivative itself"
    ACTIVE = "carries a derivative"


def ancestors(graph: HighLevelGraph, names: Iterable[str]) -> list[str]:
    """Every layer that ``names`` depend on, and themselves, in topological order."""
    found: dict[str, set[str]] = {}
    stack = list(names)
    while stack:
        name = stack.pop()
        if name not in found:
            found[name] = set(graph.dependencies.get(name, ()))
            stack.extend(found[name])
    # In the order in which the layers were made: the same in every process.
    rank = {name: i for i, name in enumerate(graph.layers)}
    ordered = {
        name: sorted(found[name], key=rank.__getitem__) for name in sorted(found, key=rank.__getitem__)
    }
    return list(TopologicalSorter(ordered).static_order())


@dataclass
class Activity:
    """The state of every layer on the way to an expression.

    Parameters
    ----------
    expr : collection
        What is differentiated.
    targets : list of Target
        What it is differentiated by.
    graph : HighLevelGraph
        Holds the expression.
    method : str
        Where partials come from.
    zero_if_disconnected : bool
        A target that does not reach the expression is no error.
    reverse : bool
        A layer that has a transpose needs no pushforward.
    explaining : bool
        Also find out which primitives each active layer uses.

    Attributes
    ----------
    order : list of str
        The layers, in topological order.
    states : dict of str to State
        What becomes of each.
    influence : dict
        Layer -> target -> the columns of its result that the target reaches; ``()`` is all of it.
    owner : str
        Tells the pairs of this derivative from those of one that is itself differentiated.
    arrived : set of str
        The layers that a target reaches from upstream.
    primitives : dict
        Active layer -> what it applies to values that carry a derivative.
    samples : dict
        Layer -> what it gives on empty arrays, where that is known.
    without_floats : set of str
        The layers on the way that have no derivative since they give no floating-point numbers.
    """

    expr: Any
    targets: list[Target]
    graph: HighLevelGraph
    method: str
    zero_if_disconnected: bool = False
    reverse: bool = False
    explaining: bool = False
    order: list[str] = field(default_factory=list)
    owner: str = ""
    states: dict[str, State] = field(default_factory=dict)
    influence: dict[str, dict[int, set[Path]]] = field(default_factory=dict)
    arrived: set[str] = field(default_factory=set)
    primitives: dict[str, list[Primitive]] = field(default_factory=dict)
    samples: dict[str, Any] = field(default_factory=dict)
    without_floats: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.follow([self.expr.name])
        self._check_present()
        self.owner = f"order {1 + max(_order(self.graph.layers[name]) for name in self.order)}"
        probe = Probe(self.graph, self.owner)
        for name in self.order:
            self._check_constants(self.graph.layers[name], name)
            self.influence[name] = self._reached(name)
            if self.influence[name]:
                self.arrived.add(name)
            self.states[name] = self._state(name, probe)
            for i, target in enumerate(self.targets):
                if target.base == name:
                    columns = {absolute for absolute, _ in target.columns}
                    self.influence[name].setdefault(i, set()).update(columns)
                    probe.seed(name, Seed(target.columns, target.label, self.owner))
        self.samples = probe.samples()
        if not self.zero_if_disconnected:
            for i, target in enumerate(self.targets):
                if i not in self.influence[self.expr.name]:
                    raise self._disconnected(target)

    def follow(self, outputs: Iterable[str]) -> None:
        """Put the layers that lead to some outputs in order."""
        self.order = ancestors(self.graph, outputs)
        self._rank = {name: i for i, name in enumerate(self.order)}

    def upstream(self, name: str) -> dict[str, Any]:
        """The layers that a layer reads, in the order of the graph: the same in every process."""
        read = self.graph.dependencies.get(name, ())
        return {dep: self.graph.layers[dep] for dep in sorted(read, key=self._rank.__getitem__)}

    def held(self, name: str, fn: Callable) -> Callable:
        """The function of a layer, held to what was found out about it."""
        return WithoutFloats(fn, label_of(name), self.owner) if name in self.without_floats else fn

    def is_base(self, name: str) -> bool:
        return any(target.base == name for target in self.targets)

    def _reached(self, name: str) -> dict[int, set[Path]]:
        selected = field_selection(self.graph.layers[name])
        reached: dict[int, set[Path]] = {}
        for dep in self.graph.dependencies.get(name, ()):
            for target, columns in self.influence[dep].items():
                if selected is not None and selected[0] == dep:
                    columns = _select(columns, *selected[1:])
                else:
                    columns = {()}
                if columns:
                    reached.setdefault(target, set()).update(columns)
        return reached

    def _state(self, name: str, probe: Probe) -> State:
        layer, upstream = self.graph.layers[name], self.upstream(name)
        carried = any(self.states[dep] is State.ACTIVE or self.is_base(dep) for dep in upstream)
        if self.influence[name] and carried:
            value = self._probed(name, layer, probe)
            if value is None or may_be_float(value) or not probe.agrees(name, layer):
                if self.explaining:
                    self.primitives[name] = probe.primitives(layer)
                return State.ACTIVE
            self.without_floats.add(name)
            probe.plain(name)
            return State.PRIMAL
        probe.run(name, layer, partial(OnPrimals, label=label_of(name), owner=self.owner))
        kept = all(self.states[dep] is State.KEPT for dep in upstream)
        return State.KEPT if kept else State.PRIMAL

    def _check_constants(self, layer: Any, name: str) -> None:
        """A parameter that a function holds as a constant has no derivative: never a silent zero."""
        wanted = {target.base for target in self.targets if target.on_all_partitions}
        for parameter in hidden_parameters(layer) if wanted else ():
            if wanted & set(ancestors(parameter.dask, [parameter.name])):
                raise NoRuleError(
                    f"layer {label_of(name)!r} holds the parameter {parameter.name!r} as a constant, so its "
                    "derivative would be lost (dask-awkward does not see collections in that argument). "
                    "Pass it through dak.map_partitions: dak.map_partitions(ak.fill_none, x, parameter)."
                )

    def _probed(self, name: str, layer: Any, probe: Probe) -> Any:
        options: dict[str, Any] = {"label": label_of(name), "owner": self.owner, "method": self.method}
        try:
            return probe.run(name, layer, partial(Pushforward, **options))
        except NoRuleError as error:
            if self.reverse:
                # A rule for reverse mode may be one that cannot be transposed.
                with contextlib.suppress(NoRuleError):
                    return probe.run(name, layer, partial(Transposed, **options))
            raise NoRuleError(
                f"{error}\nIt is needed in layer {label_of(name)!r}, between wrt "
                f"{', '.join(t.label for t in self.targets)} and the output {self.expr.name!r}."
            ) from None

    def _check_present(self) -> None:
        for target in self.targets:
            if any(
                _holds(self.graph.layers[name], target.base) for name in self.order if name != target.base
            ):
                raise self._optimised(target)
            if target.base in self.order:
                continue
            if any(target.base in _replaced(self.graph.layers[name]) for name in self.order):
                raise NoRuleError(
                    f"wrt {target.label} lies inside a derivative: {self.expr.name!r} is made of layers that "
                    "took its place, where it can no longer be perturbed. Differentiate by it first, or by "
                    "what it was computed from; dak_diff.hvp takes it alone."
                )
            if self.zero_if_disconnected:
                continue
            if any(_is_fused(self.graph.layers[name]) for name in self.order):
                raise OptimizedGraphError(
                    f"no path leads from wrt {target.label} to {self.expr.name!r}. Operations may be gone: "
                    "part of the graph is made of tasks, as after dask.optimize or persist; differentiate "
                    "the collection as it was before that. Or it does not depend on it: "
                    'disconnected="zero" gives a derivative of zero.'
                )
            raise self._disconnected(target)

    def _optimised(self, target: Target) -> OptimizedGraphError:
        return OptimizedGraphError(
            f"operations between wrt {target.label} and {self.expr.name!r} are gone: the graph, or part of "
            "it, went through dask.optimize or persist, as to_delayed and to_dask_array do. Differentiate "
            "the collection as it was before that; a persisted collection may be a source."
        )

    def _disconnected(self, target: Target) -> DisconnectedError:
        return DisconnectedError(
            f"the output {self.expr.name!r} does not depend on wrt {target.label}: no path leads from it "
            'to the output. Pass disconnected="zero" if a derivative of zero is what you mean.'
        )


def _order(layer: Any) -> int:
    """How often a layer has been differentiated."""
    owners = inside(_tasks(layer), "owner")
    return max((int(owner.removeprefix("order ")) for owner in owners if owner), default=0)


def _replaced(layer: Any) -> set[str]:
    """The layers that a layer of a derivative took the place of."""
    tasks = _tasks(layer)
    return {*inside(tasks, "origin"), *(step.name for steps in inside(tasks, "steps") for step in steps)}


def _tasks(layer: Any) -> list[Any]:
    """What a layer runs; one task stands for all of a materialised layer."""
    tasks = [getattr(layer, "task", None), getattr(layer, "tree_node_func", None)]
    materialized = (task for task in getattr(layer, "mapping", {}).values() if hasattr(task, "func"))
    return [*tasks, *islice(materialized, 1)]


def _select(columns: set[Path], paths: list[Path], keeps: bool) -> set[Path]:
    """The columns left after selecting ``paths``."""
    found = set()
    for column in columns:
        for path in paths:
            if column[: len(path)] == path:
                found.add(column if keeps else column[len(path) :])
            elif path[: len(column)] == column:
                found.add(path if keeps else ())
    return found


def _holds(layer: Any, base: str) -> bool:
    """Whether a graph that was optimised away holds the tasks of a source."""
    tasks = getattr(layer, "mapping", {}) if type(layer).__name__ == "MaterializedLayer" else {}
    return any(isinstance(key, tuple) and key[0] == base for key in tasks)


def _is_fused(layer: Any) -> bool:
    task = getattr(layer, "task", None)
    fused = task is not None and getattr(task.func, "__name__", "") == "_execute_subgraph"
    return fused or type(layer).__name__ == "MaterializedLayer"
