"""A materialised layer in reverse: tree reductions, concatenation, repartition, scalar arithmetic."""

from __future__ import annotations

import operator
from collections.abc import Callable
from graphlib import TopologicalSorter
from typing import Any

import numpy as np
from dask._task_spec import Alias, GraphNode, Task, TaskRef

from dak_diff.engine.values import Cotangents
from dak_diff.graph.cotangent_tasks import AddCotangents
from dak_diff.graph.layers import layer_of, task_nodes
from dak_diff.graph.tasks import CallNode, function_of

__all__ = ["TransposedLayer"]

#: Functions that choose no path by the values they get.
_ARITHMETIC = frozenset(
    {operator.add, operator.sub, operator.mul, operator.truediv, operator.neg, operator.pos}
)


def _is_known(transpose: Callable, constants: tuple) -> bool:
    """Whether the transpose of arithmetic does not depend on the numbers: nan in their place does no harm."""
    if not all(isinstance(constant, (float, np.floating)) for constant in constants):
        return False
    pulled = transpose(Cotangents({0: 1.0}), *constants)
    return bool(pulled) and all(np.isfinite(c).all() for given in pulled for c in given.values())


class TransposedLayer:
    """A materialised layer turned round, task by task.

    Attributes
    ----------
    tasks : dict
        The transposed tasks.
    external : dict
        Layer it reads -> partition -> (task, entry) that give cotangents to it.
    inner : dict
        Tree -> inner node that it reads -> the same.
    """

    def __init__(
        self,
        layer: Any,
        layer_name: str,
        cotangent: str | None,
        name: str,
        active: dict[str, bool],
        transpose: Callable,
        upstream: list[Any],
        stand_ins: dict[str, Any],
        given_inside: dict[Any, list[tuple[Any, int | None]]],
    ):
        self.name, self.active, self.transpose, self.stand_ins = name, active, transpose, stand_ins
        self.tasks: dict[Any, GraphNode] = {}
        self.external: dict[str, dict[int, list[tuple[Any, int | None]]]] = {
            source: {} for source, on in active.items() if on
        }
        nodes = task_nodes(layer, upstream)
        order = TopologicalSorter(
            {
                key: sorted((d for d in node.dependencies if d in nodes), key=str)
                for key, node in nodes.items()
            }
        )
        self.inner: dict[str, dict[Any, list[tuple[Any, int | None]]]] = {}
        given = {key: list(parts) for key, parts in given_inside.items()}
        for key in nodes:
            if key[0] == layer_name and cotangent is not None:
                given.setdefault(key, []).append(((cotangent, *key[1:]), None))
        for key in reversed(list(order.static_order())):
            if key in given:
                self._transpose(nodes, nodes[key], self._sum(given[key]), given)

    def _sum(self, given: list[tuple[Any, int | None]]) -> Any:
        if len(given) == 1 and given[0][1] is None:
            return given[0][0]
        return self._add(AddCotangents(tuple(position for _, position in given)), *(k for k, _ in given))

    def _add(self, fn: Callable, *keys: Any, constants: tuple = ()) -> Any:
        key = (self.name, len(self.tasks))
        self.tasks[key] = Task(key, fn, *(TaskRef(k) for k in keys), *constants)
        return key

    def _transpose(self, nodes: dict, node: GraphNode, cotangent: Any, given: dict) -> None:
        if isinstance(node, Alias):
            self._give(nodes, node.target, (cotangent, None), given)
            return
        order = tuple(sorted(node.dependencies, key=str))
        active = tuple(dep in nodes or self.active.get(layer_of(dep), False) for dep in order)
        if not any(active):
            return
        transpose = self.transpose(CallNode(node, order), active)
        constants = tuple(self.stand_ins.get(dep[0]) for dep in order)
        if function_of(node.func) in _ARITHMETIC and _is_known(transpose, constants):
            task = self._add(transpose, cotangent, constants=constants)
        else:
            task = self._add(transpose, cotangent, *order)
        for entry, dep in enumerate(dep for dep, on in zip(order, active, strict=True) if on):
            self._give(nodes, dep, (task, entry), given)

    def _give(self, nodes: dict, dep: Any, what: tuple[Any, int | None], given: dict) -> None:
        if dep in nodes:
            given.setdefault(dep, []).append(what)
        elif dep[0] in self.external:
            self.external[dep[0]].setdefault(dep[1], []).append(what)
        else:
            self.inner.setdefault(layer_of(dep), {}).setdefault(dep, []).append(what)
