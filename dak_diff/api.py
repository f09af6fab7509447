"""Derivatives of collections: lazy functions from a graph to the graph of its derivative."""

from __future__ import annotations

import numbers
from typing import Any

import dask_awkward as dak
import numpy as np
from dask.highlevelgraph import HighLevelGraph

from dak_diff.engine.transform import check_method
from dak_diff.errors import OptimizedGraphError
from dak_diff.graph.active import Activity
from dak_diff.graph.collections import as_collection
from dak_diff.graph.draw import picture_of, render
from dak_diff.graph.forward import Forward
from dak_diff.graph.histograms import LazyHistogram, as_expression
from dak_diff.graph.reverse import Reverse
from dak_diff.graph.seeds import as_operand
from dak_diff.graph.tasks import stop
from dak_diff.graph.wrt import Target, beside, flatten_nested, resolve, unflatten_nested
from dak_diff.parameter import Parameter, derive

__all__ = [
    "grad",
    "jvp",
    "match_nest",
    "plan",
    "stop_gradient",
    "value_and_grad",
    "value_and_jvp",
    "visualize",
    "vjp",
]


def jvp(
    expr: Any, wrt: Any, tangents: Any = None, *, method: str = "auto", disconnected: str = "raise"
) -> Any:
    """Directional derivative of a collection (forward mode), as a lazy collection.

    Parameters
    ----------
    expr : dask_awkward.Array, Scalar or Record, or a histogram of dask-histogram or hist.dask
        What is differentiated. Histograms (storages Double and Weight) have derivatives by their weights.
    wrt : collection, or nested list, tuple or dict of collections
        What it is differentiated by: a collection inside the graph of ``expr``; a column
        (``events.Jet.pt``: the record it is selected from is perturbed, so every path through
        the column counts); a :func:`~dak_diff.parameter`.
    tangents : collection, ak.Array, number, or a nest of them as ``wrt``; optional
        The direction. A collection must be partitioned as ``wrt``, an array is split at the
        partitions, a number stands for an array full of it; none given: ones.
    method : {"auto", "dual", "complex-step"}
        Where partials come from: formulas, and the complex step where there is none;
        formulas only; the complex step wherever it is exact.
    disconnected : {"raise", "zero"}
        What to do if no path leads from ``wrt`` to ``expr``.

    Returns
    -------
    dask_awkward.Array or Scalar, or histogram
        The sum over ``wrt`` of J_i t_i, of the type of ``expr``, dtype included
        (``n * var * float32 -> n * var * float32``; a histogram with its flow bins).
        Units: units of ``expr`` per unit of seed.
        Integers, booleans and text in records ride along: 0, False, the text itself.

    Raises
    ------
    DisconnectedError
        If ``expr`` does not depend on ``wrt``.
    TypeError
        If ``wrt`` has no floating-point numbers.
    StructureError
        If the tangent has another type (now) or other lengths (in the task).
    NoRuleError
        If an operation on the way has no derivative, now if that can be known.
    OptimizedGraphError
        If the graph has lost its operations in ``dask.optimize`` or ``persist``.

    Notes
    -----
    Laziness: adds one layer for the operations between two reductions over partitions, one for each step
    of a reduction, one for each seed and one for the result; nothing runs. Dask fuses them as it fuses the
    layers of the value.
    The tangent reads the columns that its value reads.
    Kinks and ties: see docs/explain/kinks.md.

    References
    ----------
    .. [1] Griewank and Walther, *Evaluating Derivatives*, 2nd ed., SIAM 2008, ch. 3.

    Examples
    --------
    >>> import awkward as ak, dask_awkward as dak, dak_diff
    >>> x = dak.from_awkward(ak.Array([[1.0, 2.0], [], [3.0]]), npartitions=2)
    >>> dak_diff.jvp(x**2, wrt=x).compute().to_list()
    [[2.0, 4.0], [], [6.0]]
    """
    return value_and_jvp(expr, wrt, tangents, method=method, disconnected=disconnected)[1]


def value_and_jvp(
    expr: Any, wrt: Any, tangents: Any = None, *, method: str = "auto", disconnected: str = "raise"
) -> tuple[Any, Any]:
    """The value of a collection and its directional derivative, from one forward pass.

    Parameters are those of :func:`jvp`.

    Returns
    -------
    value, tangent
        Two collections in one graph: ``dask.compute(value, tangent)`` runs the forward pass once.
        The value is that of ``expr`` bit for bit.

    Notes
    -----
    Structure: ``(n * var * float64, n * var * float64)`` for an array of that type.
    Laziness, errors, units and kinks: as for :func:`jvp`.

    Examples
    --------
    >>> import awkward as ak, dask, dask_awkward as dak, dak_diff
    >>> x = dak.from_awkward(ak.Array([1.0, 2.0, 3.0]), npartitions=3)
    >>> value, slope = dak_diff.value_and_jvp(dak.sum(x**2), wrt=x)
    >>> [float(v) for v in dask.compute(value, slope)]
    [14.0, 12.0]
    """
    activity = plan(expr, wrt, method, disconnected)
    directions = match_nest(wrt, tangents)
    seeds = [(as_operand(t, d),) for t, d in zip(activity.targets, directions, strict=True)]
    forward, end = Forward([activity], seeds), activity.expr
    return as_collection(end, *forward.value(end)), as_collection(end, *forward.tangent(end))


def vjp(
    expr: Any,
    wrt: Any,
    cotangents: Any = None,
    *,
    method: str = "auto",
    residuals: str = "keep",
    disconnected: str = "raise",
) -> Any:
    """Transposed derivative of a collection applied to a cotangent (reverse mode), lazily.

    Parameters
    ----------
    expr : dask_awkward.Array, Scalar or Record, or a histogram of dask-histogram or hist.dask
        What is differentiated.
    wrt : collection, or nested list, tuple or dict of collections
        As for :func:`jvp`.
    cotangents : collection, ak.Array, NumPy array, histogram or number, optional
        One number for each of ``expr``: a collection partitioned as ``expr``, an array (split at
        the partitions), or a number for all; none given: ones. Of a histogram: an array for its values, with
        or without flow bins (zero), or a histogram with its axes, which brings the variances, too.
    method : {"auto", "dual", "complex-step"}
        Where partials come from.
    residuals : {"keep", "recompute"}
        Keep what the forward pass knows until the backward pass needs it, or read a partition and run its
        forward pass again: less memory across a reduction, more time. Functions must then give the same at
        every call: one that draws random numbers without a seed gives the gradient of another draw.
    disconnected : {"raise", "zero"}
        What to do if no path leads from a ``wrt`` to ``expr``.

    Returns
    -------
    collection, or the nesting of ``wrt``
        For each ``wrt`` the sum over ``expr`` of cotangent times derivative, of the type of that
        ``wrt`` (``n * var * float64 -> n * var * float64``). Units: units of ``expr`` times those of the
        cotangent, per unit of ``wrt``. In records integers become 0, booleans False, text stays.

    Raises
    ------
    DisconnectedError, TypeError, NoRuleError, OptimizedGraphError
        As for :func:`jvp`.
    StructureError
        If the cotangent has another type than ``expr`` (now) or other lengths (in the task).

    Notes
    -----
    Laziness: the partition-wise layers between two reductions become two layers (``fwd-``, ``vjp-``),
    reductions and other layers are transposed task by task; nothing runs. What all partitions use
    (a parameter, a reduced scalar) gets the sum over partitions, by a tree, in float64.
    Kinks and ties: see docs/explain/kinks.md.

    References
    ----------
    .. [1] Griewank and Walther, *Evaluating Derivatives*, 2nd ed., SIAM 2008, ch. 3.4.

    Examples
    --------
    >>> import awkward as ak, dask_awkward as dak, dak_diff
    >>> x = dak.from_awkward(ak.Array([[1.0, 2.0], [], [3.0]]), npartitions=2)
    >>> dak_diff.vjp(dak.sum(x**2, axis=1), wrt=x).compute().to_list()
    [[2.0, 4.0], [], [6.0]]
    """
    activity = plan(expr, wrt, method, disconnected, reverse=True)
    return reverse_of(activity, wrt, cotangents, residuals)[1]


def grad(
    expr: Any, wrt: Any, *, method: str = "auto", residuals: str = "keep", disconnected: str = "raise"
) -> Any:
    """The gradient of a scalar collection (reverse mode), in the nesting of ``wrt``, lazily.

    Parameters, errors, laziness and kinks are those of :func:`vjp`; ``expr`` must be a scalar.

    Returns
    -------
    collection, or the nesting of ``wrt``
        Each of the type of its ``wrt``. Units: units of ``expr`` per unit of ``wrt``.

    Raises
    ------
    TypeError
        If ``expr`` is no scalar.

    Examples
    --------
    >>> import awkward as ak, dask_awkward as dak, dak_diff
    >>> x = dak.from_awkward(ak.Array([[1.0, 2.0], [3.0]]), npartitions=2)
    >>> p = dak_diff.parameter(0.5, name="p")
    >>> float(dak_diff.grad(dak.sum(p * x**2), wrt=p).compute())
    14.0
    """
    return value_and_grad(expr, wrt, method=method, residuals=residuals, disconnected=disconnected)[1]


def value_and_grad(
    expr: Any, wrt: Any, *, method: str = "auto", residuals: str = "keep", disconnected: str = "raise"
) -> tuple[Any, Any]:
    """The value of a scalar collection and its gradient, from one forward pass.

    Parameters, errors, laziness and kinks are those of :func:`vjp`; ``expr`` must be a scalar.

    Returns
    -------
    value, gradient
        In one graph: ``dask.compute(value, gradient)`` reads the sources once and runs the forward
        pass once. After optimisation that is at most three tasks a partition (four where a
        reduction gives each partition a cotangent of its own), and the trees.

    Examples
    --------
    >>> import awkward as ak, dask, dask_awkward as dak, dak_diff
    >>> x = dak.from_awkward(ak.Array([[1.0, 2.0], [3.0]]), npartitions=2)
    >>> value, gradient = dask.compute(*dak_diff.value_and_grad(dak.sum(x**2), wrt=x))
    >>> float(value), gradient.to_list()
    (14.0, [[2.0, 4.0], [6.0]])
    """
    _require_scalar(expr)
    return reverse_of(plan(expr, wrt, method, disconnected, reverse=True), wrt, 1.0, residuals)


def stop_gradient(x: Any) -> Any:
    """The same values, taken for constants by every derivative.

    Parameters
    ----------
    x : collection, ak.Array, NumPy array or number
        Also inside functions that are differentiated.

    Returns
    -------
    The same kind of thing, of the same type (``n * var * float64 -> n * var * float64``).

    Notes
    -----
    Laziness: adds one layer to a collection; nothing runs. What it returns still depends on ``x``,
    with derivative zero: that is no :class:`~dak_diff.errors.DisconnectedError`.

    Examples
    --------
    >>> import awkward as ak, dask_awkward as dak, dak_diff
    >>> x = dak.from_awkward(ak.Array([1.0, 2.0, 3.0]), npartitions=2)
    >>> dak_diff.jvp(x * dak_diff.stop_gradient(x), wrt=x).compute().to_list()
    [1.0, 2.0, 3.0]
    """
    if isinstance(x, dak.Array):
        return dak.map_partitions(stop, x, label="stop-gradient", output_divisions=1)
    return derive(stop, x) if isinstance(x, (dak.Scalar, Parameter)) else stop(x)


def visualize(
    *collections: Any, filename: str | None = "derivative", format: str | None = None, detail: str = "layers"
) -> Any:
    """Draw the graph of collections: sources, segments, barriers, cotangent sums (needs graphviz).

    Parameters
    ----------
    *collections : collection, or nested lists, tuples and dicts of collections
        Drawn in one picture: what ``value_and_grad`` returns, or any graph.
    filename : str or None
        Where to write the picture, without its ending; None: only return it.
    format : str, optional
        "png" (default), "svg", "pdf", "dot", ...
    detail : {"layers", "operations"}
        One box a layer, tangents operation by operation; or all segments opened.

    Returns
    -------
    IPython.display.Image, SVG or None; graphviz.Source without a file name
        As ``dask.visualize`` does.

    Notes
    -----
    Structure: any collection. Laziness: nothing runs. Roles differ by colour and shape, what travels along
    an edge by colour and line: values solid, tangents bold, residuals dashed, cotangents dotted.

    Examples
    --------
    >>> import awkward as ak, dask_awkward as dak, dak_diff
    >>> x = dak.from_awkward(ak.Array([[1.0, 2.0], [3.0]]), npartitions=2)
    >>> both = dak_diff.value_and_grad(dak.sum(x**2), wrt=x)
    >>> dak_diff.visualize(both, filename="gradient", detail="operations")  # doctest: +SKIP
    """
    parts = [part for _, part in flatten_nested(collections)]
    graph = HighLevelGraph.merge(*(part.dask for part in parts))
    return render(picture_of(graph, detail), filename, format)


def _require_scalar(expr: Any) -> None:
    if isinstance(as_expression(expr), (dak.Array, dak.Record, LazyHistogram)) or (
        isinstance(expr, Parameter) and expr.ndim
    ):
        raise TypeError(
            f"grad needs a scalar, not {expr!r}; use vjp with a cotangent of its type, or jacobian"
        )
    if getattr(expr, "dtype", np.dtype(float)).kind == "c":
        raise TypeError(
            f"grad needs a real number, {expr!r} is complex: take its real part or its absolute value, or "
            "use vjp with a cotangent"
        )


def reverse_of(activity: Activity, wrt: Any, cotangents: Any, residuals: str) -> tuple[Any, Any]:
    """The value of what was planned, and its cotangents in the nesting of ``wrt``."""
    if residuals not in ("keep", "recompute"):
        raise ValueError(f'residuals must be "keep" or "recompute", not {residuals!r}')
    whole = Target(activity.expr, activity.expr.name, (((), ()),))
    seed = as_operand(whole, 1.0 if cotangents is None else cotangents, "cotangent")
    reverse = Reverse(activity, seed, residuals == "keep")
    gradients = [
        as_collection(target.collection, *result)
        for target, result in zip(activity.targets, reverse.gradients(), strict=True)
    ]
    return as_collection(activity.expr, *reverse.value()), unflatten_nested(wrt, gradients)


def plan(
    expr: Any,
    wrt: Any,
    method: str = "auto",
    disconnected: str = "raise",
    reverse: bool = False,
    explaining: bool = False,
) -> Activity:
    """Check the arguments of a derivative, and find what lies between ``expr`` and ``wrt``."""
    expr = as_expression(expr)
    _check(expr, method, disconnected)
    targets = [resolve(collection) for _, collection in flatten_nested(wrt)]
    _refuse_namesakes([collection for _, collection in flatten_nested(wrt)])
    if not targets:
        raise TypeError("wrt is empty: there is nothing to differentiate by")
    if not isinstance(expr.dask, HighLevelGraph):
        raise OptimizedGraphError(
            f"{expr.name!r} was persisted: its operations are gone, so nothing leads to wrt "
            f"{targets[0].label}. Differentiate the collection as it was before that; what was persisted "
            "may be a source."
        )
    zero = disconnected == "zero"
    return Activity(expr, targets, expr.dask, method, zero, reverse, explaining)


def _refuse_namesakes(collections: list) -> None:
    """Two parameters of one name and value are one to Dask: their derivatives cannot be told apart."""
    known: dict[str, Any] = {}
    for collection in collections:
        if (
            isinstance(collection, Parameter)
            and known.setdefault(collection.name, collection) is not collection
        ):
            raise ValueError(
                f"wrt has two parameters {collection!r}: those of one name and value are one. "
                "Give each a name of its own."
            )


def _check(expr: Any, method: str, disconnected: str) -> None:
    known = (dak.Array, dak.Scalar, Parameter, LazyHistogram)
    if not isinstance(expr, known):
        raise TypeError(
            f"expr must be a dask-awkward Array, Scalar or Record or a histogram, not {type(expr).__name__}"
        )
    check_method(method)
    if disconnected not in ("raise", "zero"):
        raise ValueError(f'disconnected must be "raise" or "zero", not {disconnected!r}')


def match_nest(wrt: Any, tangents: Any) -> list:
    """The tangent of each target, from a nest like that of ``wrt``."""
    if tangents is None or isinstance(tangents, numbers.Real):
        return [1.0 if tangents is None else tangents for _ in flatten_nested(wrt)]
    return list(beside(wrt, tangents, "the tangents must nest as wrt"))
