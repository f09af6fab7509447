"""Derivatives by all components of parameters at once: a lazy function from a graph to a graph."""

from __future__ import annotations

import math
from typing import Any

import awkward as ak
import numpy as np

from dak_diff.api import plan
from dak_diff.graph.collections import as_collection
from dak_diff.graph.forward import Forward
from dak_diff.graph.seeds import NONE, Operand, unit
from dak_diff.graph.wrt import flatten_nested, unflatten_nested
from dak_diff.parameter import Parameter

__all__ = ["jacobian"]


def jacobian(expr: Any, wrt: Any, *, method: str = "auto", disconnected: str = "raise") -> Any:
    """Derivatives of collections by every component of parameters, from one pass over the data, lazily.

    Parameters
    ----------
    expr : dask_awkward.Array or Scalar, or nested list, tuple or dict of these
        What is differentiated.
    wrt : Parameter, or nested list, tuple or dict of parameters
        Numbers and NumPy arrays.
    method : {"auto", "dual", "complex-step"}
        Where partials come from.
    disconnected : {"raise", "zero"}
        What to do if no path leads from a ``wrt`` to an ``expr``.

    Returns
    -------
    collection, or the nesting of ``expr`` outside and of ``wrt`` inside
        Each of the type of its ``expr``, with trailing axes of the shape of its parameter behind every
        floating-point number (``n * var * float64 -> n * var * 3 * float64``; a number: none). Units:
        units of ``expr`` per unit of ``wrt``.

    Raises
    ------
    TypeError
        If a ``wrt`` is no parameter of numbers: by a collection that would be a matrix of all its elements.
    DisconnectedError, NoRuleError, OptimizedGraphError
        As :func:`~dak_diff.jvp`.

    Notes
    -----
    Laziness: the layers of :func:`~dak_diff.jvp`, with one tangent for each component; nothing runs. All
    tangents of a partition are held at once. Kinks and ties: see docs/explain/kinks.md.

    References
    ----------
    .. [1] A. Griewank and A. Walther, *Evaluating Derivatives*, 2nd ed., SIAM 2008, ch. 3.

    Examples
    --------
    >>> import awkward as ak, dask_awkward as dak, dak_diff
    >>> x = dak.from_awkward(ak.Array([[1.0, 2.0], [], [3.0]]), npartitions=2)
    >>> p = dak_diff.parameter([0.5, 2.0], name="p")
    >>> dak_diff.jacobian(x * p[0] + p[1] ** 2, wrt=p).compute().to_list()
    [[[1.0, 4.0], [2.0, 4.0]], [], [[3.0, 4.0]]]
    """
    parameters = [collection for _, collection in flatten_nested(wrt)]
    for parameter in parameters:
        if not isinstance(parameter, Parameter) or isinstance(parameter.value, ak.Array):
            raise TypeError(
                f"jacobian and hessian take parameters that are numbers or NumPy arrays, not {parameter!r}; "
                "jvp, vjp and hvp give products of any Jacobian or Hessian and a vector"
            )
    rows = [_row(e, wrt, parameters, method, disconnected) for _, e in flatten_nested(expr)]
    return unflatten_nested(expr, rows)


def _row(expr: Any, wrt: Any, parameters: list[Parameter], method: str, disconnected: str) -> Any:
    """The derivatives of one collection by all components of all parameters."""
    shapes = [np.shape(parameter.value) for parameter in parameters]
    sizes = [math.prod(shape) for shape in shapes]
    seeds: list[tuple[Operand, ...]] = []
    for j, (shape, size) in enumerate(zip(shapes, sizes, strict=True)):
        own = [unit(shape, i) for i in range(size)]
        seeds.append((*[NONE] * sum(sizes[:j]), *own, *[NONE] * sum(sizes[j + 1 :])))
    forward = Forward(plan(expr, wrt, method, disconnected), seeds)
    starts = np.cumsum([0, *sizes]).tolist()
    blocks = []
    for start, size, shape in zip(starts, sizes, shapes, strict=False):
        blocks.append(as_collection(expr, *forward.tangents(slice(start, start + size), shape)))
    return unflatten_nested(wrt, blocks)
