"""A Jacobian by reverse mode: one vjp for each number of an expression. Nothing runs."""

from __future__ import annotations

import math
from typing import Any

import awkward as ak
import dask_awkward as dak
import numpy as np
from dask._task_spec import TaskRef
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from dak_diff.graph.active import Activity
from dak_diff.graph.layers import label_of, single_task
from dak_diff.graph.reverse import Reverse
from dak_diff.graph.seeds import Operand, as_operand, unit
from dak_diff.graph.tangent_tasks import StackRows
from dak_diff.graph.tasks import TakeTangents
from dak_diff.graph.wrt import Target
from dak_diff.parameter import Parameter

__all__ = ["JacobianRows", "known_shape"]


def known_shape(activity: Activity) -> tuple[int, ...] | None:
    """The shape of the floating-point numbers of an expression, None where it is not known."""
    expr = activity.expr
    if isinstance(expr, Parameter):
        known = isinstance(expr.value, (float, np.floating, np.ndarray)) and expr.dtype.kind == "f"
        return np.shape(expr.value) if known else None
    if isinstance(expr, dak.Scalar):
        return () if isinstance(activity.samples.get(expr.name), (float, np.floating)) else None
    if not isinstance(expr, dak.Array) or expr.npartitions != 1 or not expr.known_divisions:
        return None
    shape: list[int] = [expr.divisions[-1] - expr.divisions[0]]
    form = expr._meta.layout.form
    while isinstance(form, ak.forms.RegularForm) and not form.parameters:
        shape.append(form.size)
        form = form.content
    if not isinstance(form, ak.forms.NumpyForm) or form.parameters or np.dtype(form.primitive).kind != "f":
        return None
    return (*shape, *form.inner_shape)


class JacobianRows:
    """The graph of the Jacobian of one expression by parameters, row by row.

    Parameters
    ----------
    activity : Activity
        What lies between the expression and its targets; the shape of the expression is known.
    shapes : list of tuple of int
        Of the parameters.
    """

    def __init__(self, activity: Activity, shapes: list[tuple[int, ...]]):
        shape = known_shape(activity)
        assert shape is not None
        self.activity, self.shapes, self.shape = activity, shapes, shape
        self.rows = [Reverse(activity, self._seed(i)) for i in range(math.prod(shape))]

    def _seed(self, i: int) -> Operand:
        expr = self.activity.expr
        if not isinstance(expr, dak.Array):
            return unit(self.shape, i)
        cotangent = np.zeros(self.shape, dtype=self._dtype)
        cotangent.flat[i] = 1.0
        return as_operand(Target(expr, expr.name, (((), ()),)), ak.Array(cotangent), "cotangent")

    @property
    def _dtype(self) -> np.dtype:
        expr = self.activity.expr
        if not isinstance(expr, dak.Array):
            return np.dtype(expr.dtype)
        form = expr._meta.layout.form
        return np.dtype(str(form.type).rsplit(" * ", 1)[-1])

    def blocks(self) -> list[tuple[HighLevelGraph, str, Any]]:
        """For each parameter a graph, the name of its layer, and its meta."""
        gradients = [reverse.gradients() for reverse in self.rows]
        value = self.rows[0].value()
        return [self._block(j, value, [given[j] for given in gradients]) for j in range(len(self.shapes))]

    def _block(
        self, j: int, value: tuple[HighLevelGraph, str], rows: list[tuple[HighLevelGraph, str]]
    ) -> tuple[HighLevelGraph, str, Any]:
        expr, parts = self.activity.expr, [value, *rows]
        names = [name for _, name in parts]
        new = f"vjp-jacobian-{label_of(expr.name)}-{tokenize(names, j)}"
        fn = StackRows(self.shape, self.shapes[j], self._dtype)
        graph = HighLevelGraph.merge(*(graph for graph, _ in parts))
        layer = single_task(new, fn, *(TaskRef((name, 0)) for name in names))
        take = TakeTangents("", slice(0, math.prod(self.shapes[j])), self.shapes[j])
        meta = take.meta(expr._meta) if isinstance(expr, dak.Array) else None
        layers, depend = {**graph.layers, new: layer}, {**graph.dependencies, new: set(names)}
        return HighLevelGraph(layers, depend), new, meta
