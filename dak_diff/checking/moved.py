"""The graph of an expression at another point.

A layer ``wrt + step * direction`` stands in the place of ``wrt``, and every layer that hangs on it runs
again, selections included.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import awkward as ak
import dask_awkward as dak
import numpy as np
from dask._task_spec import TaskRef
from dask.base import tokenize

from dak_diff.checking.numbers import float_leaves, map_floats
from dak_diff.checking.point import Point
from dak_diff.graph.active import ancestors
from dak_diff.graph.collections import as_collection
from dak_diff.graph.layers import assemble, label_of, map_layer, partitionwise, repaired, single_task
from dak_diff.graph.seeds import Operand
from dak_diff.graph.tasks import OnPrimals, any_typetracer, select
from dak_diff.graph.wrt import Target

__all__ = ["moved"]


class _Move:
    """``value + step * direction`` in some columns of a value."""

    def __init__(self, columns: tuple, step: float):
        self.columns, self.step = columns, step

    def __call__(self, value: Any, direction: Any) -> Any:
        if any_typetracer((value, direction)):
            for part in (direction, *(select(value, absolute) for absolute, _ in self.columns)):
                if dak.lib.core.is_typetracer(part):
                    ak.typetracer.touch_data(part)
            return value
        if not self.step:
            # Not value + 0 * direction: that loses the sign of a zero.
            return value
        for absolute, relative in self.columns:
            moves = iter(float_leaves(select(direction, relative)))
            column = map_floats(select(value, absolute), lambda leaf, moves=moves: self._moved(leaf, moves))
            value = ak.with_field(value, column, absolute) if absolute else column
        return value

    def _moved(self, leaf: Any, moves: Iterator[np.ndarray]) -> Any:
        return leaf + self.step * next(moves).reshape(np.shape(leaf))[()]


def moved(expr: Any, point: Point, step: float) -> Any:
    """``expr`` as it is where ``wrt`` is moved by ``step`` along the direction of the point."""
    graph, operands = expr.dask, point.operands()
    token = tokenize(step, [(target.base, target.columns, seed.token) for target, seed in operands])
    layers: dict[str, Any] = {}
    renamed: dict[str, str] = {}
    for _, seed in operands:
        layers.update(seed.graph.layers if seed.graph is not None else {})
    for name in ancestors(graph, [expr.name]):
        layer, upstream = graph.layers[name], {d: graph.layers[d] for d in graph.dependencies.get(name, ())}
        rename = {dep: renamed[dep] for dep in upstream if dep in renamed}
        if rename:
            renamed[name] = f"again-{label_of(name)}-{tokenize(name, token)}"
            run = partial(OnPrimals, label=label_of(name), owner="")
            layers[renamed[name]] = map_layer(layer, renamed[name], run, rename, upstream)
        else:
            layers[name] = repaired(layer)
        for i, (target, seed) in enumerate(operands):
            if target.base == name:
                below = renamed.get(name, name)
                renamed[name] = f"moved-{label_of(name)}-{tokenize(below, token, i)}"
                layers[renamed[name]] = _move_layer(renamed[name], below, target, seed, step)
    output = renamed.get(expr.name, expr.name)
    return as_collection(expr, assemble(layers, graph, output), output)


def _move_layer(name: str, below: str, target: Target, seed: Operand, step: float) -> Any:
    move = _Move(target.columns, step)
    if target.on_all_partitions:
        return single_task(name, move, TaskRef((below, 0)), seed.as_task_argument())
    operands = [(below, ("i",)), seed.as_operand()]
    read = [str(operand) for operand, index in operands if index is not None]
    return partitionwise(name, move, operands, dict.fromkeys(read, (target.collection.npartitions,)))
