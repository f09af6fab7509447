"""Derivatives by all components of parameters at once: a lazy function from a graph to a graph."""

from __future__ import annotations

import math
from typing import Any

import awkward as ak
import numpy as np

from dak_diff.api import plan
from dak_diff.graph.active import Activity
from dak_diff.graph.collections import as_collection
from dak_diff.graph.forward import Forward
from dak_diff.graph.jacobian_rows import JacobianRows, known_shape
from dak_diff.graph.seeds import NONE, Operand, unit
from dak_diff.graph.wrt import flatten_nested, unflatten_nested
from dak_diff.parameter import Parameter

__all__ = ["jacobian"]

#: One vjp, with a forward pass of its own, costs as much as 11 tangents of a batch where all of them reach
#: every bin of a histogram, as 46 where each moves one factor of the weights (benchmarks/run_jacobian.py).
_TANGENTS_PER_VJP = 20


def jacobian(
    expr: Any,
    wrt: Any,
    *,
    method: str = "auto",
    mode: str = "auto",
    chunk: int | None = None,
    disconnected: str = "raise",
) -> Any:
    """Derivatives of collections by every component of parameters, lazily.

    Parameters
    ----------
    expr : dask_awkward.Array, Scalar or Record, or histogram, or nested list, tuple or dict of these
        What is differentiated.
    wrt : Parameter, or nested list, tuple or dict of parameters
        Numbers and NumPy arrays.
    method : {"auto", "dual", "complex-step"}
        Where partials come from.
    mode : {"auto", "forward", "reverse"}
        One tangent for each component of the parameters, all from one pass over the data, or one
        :func:`~dak_diff.vjp` for each number of all ``expr``. Auto: reverse where more than 20 components
        come on each number: a vjp costs as much as 11 to 46 tangents of a batch.
    chunk : int, optional
        Forward: at most so many tangents at a time inside a partition. None: as many as fit into half a
        gigabyte if each were as large as the inputs of the partition, at least one.
    disconnected : {"raise", "zero"}
        What to do if no path leads from a ``wrt`` to an ``expr``.

    Returns
    -------
    collection, or the nesting of ``expr`` outside and of ``wrt`` inside
        Each of the type of its ``expr``, with trailing axes of the shape of its parameter behind every
        floating-point number (``n * var * float64 -> n * var * 3 * float64``; a number: none; a histogram:
        one more axis of integers for each). Units:
        units of ``expr`` per unit of ``wrt``.

    Raises
    ------
    TypeError
        If a ``wrt`` is no parameter of numbers: by a collection that would be a matrix of all its elements.
        For ``mode="reverse"``, if it is not known when the graph is built how many numbers ``expr`` has: it
        must be a number, an expression of parameters, or an array of one partition with known divisions and
        regular lists.
    ValueError
        If ``mode`` or ``chunk`` are none of the above.
    DisconnectedError, NoRuleError, OptimizedGraphError
        As :func:`~dak_diff.jvp`.

    Notes
    -----
    Laziness: forward, the partition-wise layers between two reductions become one layer ``jvp-``, of all
    ``expr`` together (nest what shares work); reverse, the layers of :func:`~dak_diff.vjp` once for each
    number. Nothing runs.
    Memory: forward, a partition holds the tangents of one chunk, and all tangents of what its layer hands
    on: the partial sums before a reduction; with a result that is not reduced that is the result. The
    primal pass is made once for each chunk. Components that do not move a partition cost nothing.
    Kinks and ties: see docs/explain/kinks.md.

    References
    ----------
    .. [1] Griewank and Walther, *Evaluating Derivatives*, 2nd ed., SIAM 2008, ch. 3.

    Examples
    --------
    >>> import awkward as ak, dask_awkward as dak, dak_diff
    >>> x = dak.from_awkward(ak.Array([[1.0, 2.0], [], [3.0]]), npartitions=2)
    >>> p = dak_diff.parameter([0.5, 2.0], name="p")
    >>> dak_diff.jacobian(x * p[0] + p[1] ** 2, wrt=p).compute().to_list()
    [[[1.0, 4.0], [2.0, 4.0]], [], [[3.0, 4.0]]]
    """
    if mode not in ("auto", "forward", "reverse"):
        raise ValueError(f'mode must be "auto", "forward" or "reverse", not {mode!r}')
    if chunk is not None and (type(chunk) is not int or chunk < 1):
        raise ValueError(f"chunk must be a positive integer or None, not {chunk!r}")
    parameters = [collection for _, collection in flatten_nested(wrt)]
    for parameter in parameters:
        if not isinstance(parameter, Parameter) or isinstance(parameter.value, ak.Array):
            raise TypeError(
                f"jacobian and hessian take parameters that are numbers or NumPy arrays, not {parameter!r}; "
                "jvp, vjp and hvp give products of any Jacobian or Hessian and a vector"
            )
    activities = [plan(e, wrt, method, disconnected) for _, e in flatten_nested(expr)]
    shapes = [np.shape(parameter.value) for parameter in parameters]
    if _is_reverse(mode, activities, sum(map(math.prod, shapes))):
        rows = [JacobianRows(activity, shapes).blocks() for activity in activities]
    else:
        rows = _forward(activities, shapes, chunk)
    blocks = [
        unflatten_nested(wrt, [as_collection(activity.expr, *block) for block in row])
        for activity, row in zip(activities, rows, strict=True)
    ]
    return unflatten_nested(expr, blocks)


def _is_reverse(mode: str, activities: list[Activity], components: int) -> bool:
    """Whether one vjp for each output is asked for, or costs less than one tangent for each component."""
    known = [known_shape(activity) for activity in activities]
    for activity, shape in zip(activities, known, strict=True):
        if mode == "reverse" and shape is None:
            raise TypeError(
                f"how many numbers {activity.expr.name!r} has is not known when the graph is built, so "
                'mode="reverse" cannot make one vjp for each: that takes a number, an expression of '
                "parameters, or an array of floating-point numbers that has one partition, known divisions "
                'and regular lists. Pass mode="forward", or reduce it first.'
            )
    if mode != "auto":
        return mode == "reverse"
    # A derivative again: forward over reverse costs less.
    if any(shape is None for shape in known) or any(a.owner != "order 1" for a in activities):
        return False
    outputs = sum(math.prod(shape) for shape in known if shape is not None)
    return 0 < outputs * _TANGENTS_PER_VJP < components


def _forward(
    activities: list[Activity], shapes: list[tuple[int, ...]], chunk: int | None
) -> list[list[tuple]]:
    """For each expression and each parameter a graph, the name of its layer, and its meta."""
    sizes = [math.prod(shape) for shape in shapes]
    seeds: list[tuple[Operand, ...]] = []
    for j, (shape, size) in enumerate(zip(shapes, sizes, strict=True)):
        own = [unit(shape, i) for i in range(size)]
        seeds.append((*[NONE] * sum(sizes[:j]), *own, *[NONE] * sum(sizes[j + 1 :])))
    starts = np.cumsum([0, *sizes]).tolist()
    # Together, so that they share their segments; derivatives of another order have other pairs.
    owners = dict.fromkeys(activity.owner for activity in activities)
    forwards = {owner: Forward([a for a in activities if a.owner == owner], seeds, chunk) for owner in owners}
    return [
        [
            forwards[activity.owner].tangents(activity.expr, slice(start, start + size), shape)
            for start, size, shape in zip(starts, sizes, shapes, strict=False)
        ]
        for activity in activities
    ]
