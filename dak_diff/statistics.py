"""Means and variances over partitions, as tree reductions: what dask-awkward lacks.

A partition gives its *moments*: count, mean, and sum of squared deviations from the mean. Nodes of the
tree combine moments; the difference of large sums is never taken.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import awkward as ak
import dask_awkward as dak
import numpy as np
from dask_awkward.lib import core as _core

from dak_diff.engine.item_types import item_types
from dak_diff.graph.sums import tree_over
from dak_diff.graph.tasks import stop

__all__ = ["mean", "std", "var"]


def mean(x: Any, axis: int | None = None) -> Any:
    """Mean of a collection over all its partitions, lazily.

    Parameters
    ----------
    x : dask_awkward.Array
        Numbers; for a mean of records take their columns one by one.
    axis : int or None
        None: of everything. 0: over events, for each position in their lists, for lists of depth one.
        Others: within events, what ``dask_awkward.mean`` gives.

    Returns
    -------
    dask_awkward.Scalar or Array
        ``n * var * float64 -> float64`` for None, ``-> m * float64`` in one partition for 0, with m the
        length of the longest list. float64 also for float32 and integers, complex128 for complex
        numbers, as ``ak.mean``; ``nan`` of nothing; None is left out. Units of ``x``.

    Raises
    ------
    TypeError
        If ``x`` is no collection of numbers, or ``axis=0`` of lists in lists.

    Notes
    -----
    Laziness: a partition-wise layer and a tree; nothing runs. Reads the columns that ``x`` reads.
    Differentiable in both modes; a gradient by ``x`` is 1 / count. No kinks.

    References
    ----------
    .. [1] Chan, Golub and LeVeque, *Algorithms for computing the sample variance*,
       The American Statistician 37 (1983) 242.

    Examples
    --------
    >>> import awkward as ak, dask_awkward as dak, dak_diff
    >>> from dak_diff.statistics import mean
    >>> x = dak.from_awkward(ak.Array([[1.0, 2.0], [], [6.0]]), npartitions=2)
    >>> float(mean(x).compute())
    3.0
    >>> mean(x, axis=0).compute().to_list()
    [3.5, 2.0]
    >>> dak_diff.grad(mean(x**2), wrt=x).compute().to_list()
    [[0.6666666666666666, 1.3333333333333333], [], [4.0]]
    """
    if _is_within_events(x, axis, "mean"):
        return dak.mean(x, axis=axis)
    return _reduced(x, axis, "mean", _mean_of)


def var(x: Any, axis: int | None = None, ddof: int = 0) -> Any:
    """Variance of a collection over all its partitions, lazily.

    Parameters
    ----------
    x : dask_awkward.Array
        Numbers.
    axis : int or None
        As for :func:`mean`.
    ddof : int
        The sum of squared deviations is divided by ``count - ddof``; 1 gives the unbiased estimate.

    Returns
    -------
    dask_awkward.Scalar or Array
        As :func:`mean`, but float64 also for complex numbers. The square of the units of ``x``.
        ``nan`` of nothing, and where ``count == ddof``.

    Raises
    ------
    TypeError
        As :func:`mean`.

    Notes
    -----
    Stable: for ``1e8 + noise`` as exact as the noise is known. Laziness as for :func:`mean`.
    Differentiable in both modes; a gradient by ``x`` is ``2 (x - mean) / (count - ddof)``. No kinks.

    References
    ----------
    .. [1] Chan, Golub and LeVeque, *Algorithms for computing the sample variance*,
       The American Statistician 37 (1983) 242.

    Examples
    --------
    >>> import awkward as ak, dask_awkward as dak, dak_diff
    >>> from dak_diff.statistics import var
    >>> x = dak.from_awkward(ak.Array([[1.0, 2.0], [], [6.0]]), npartitions=2)
    >>> float(var(x, ddof=1).compute())
    7.0
    >>> dak_diff.grad(var(x, ddof=1), wrt=x).compute().to_list()
    [[-2.0, -1.0], [], [3.0]]
    """
    if _is_within_events(x, axis, "var"):
        return dak.var(x, axis=axis, ddof=ddof)
    return _reduced(x, axis, "var", partial(_var_of, ddof=ddof))


def std(x: Any, axis: int | None = None, ddof: int = 0) -> Any:
    """Standard deviation of a collection over all its partitions, lazily: the square root of :func:`var`.

    Parameters
    ----------
    x : dask_awkward.Array
        Numbers.
    axis : int or None
        As for :func:`mean`.
    ddof : int
        As for :func:`var`.

    Returns
    -------
    dask_awkward.Scalar or Array
        As :func:`var`, in units of ``x``.

    Raises
    ------
    TypeError
        As :func:`mean`.

    Notes
    -----
    Laziness as for :func:`mean`. Kink: where all elements are equal the derivative is 0, the mean of all
    directions; a gradient elsewhere is ``(x - mean) / ((count - ddof) std)``.

    References
    ----------
    .. [1] Chan, Golub and LeVeque, *Algorithms for computing the sample variance*,
       The American Statistician 37 (1983) 242.

    Examples
    --------
    >>> import awkward as ak, dask_awkward as dak, dak_diff
    >>> from dak_diff.statistics import std
    >>> x = dak.from_awkward(ak.Array([[2.0, 4.0, 4.0], [4.0, 5.0], [], [5.0, 7.0, 9.0]]), npartitions=2)
    >>> float(std(x).compute())
    2.0
    >>> float(dak_diff.jvp(std(x), wrt=x, tangents=x).compute())
    2.0
    """
    if _is_within_events(x, axis, "std"):
        return dak.std(x, axis=axis, ddof=ddof)
    return _reduced(x, axis, "std", partial(_std_of, ddof=ddof))


def _is_within_events(x: Any, axis: int | None, name: str) -> bool:
    if not isinstance(x, dak.Array):
        raise TypeError(f"{name} takes a dask_awkward.Array, not {type(x).__name__}; in memory use ak.{name}")
    return axis is not None and axis not in (0, -x.ndim)


def _reduced(x: dak.Array, axis: int | None, name: str, of_moments: Callable) -> Any:
    """``of_moments`` of the moments of all partitions: a partition-wise layer and a tree."""
    content = x._meta.type.content
    if not _holds_numbers(x._meta):
        raise TypeError(f"{name} takes numbers, not {content}; take columns one by one")
    flat = axis is None or x.ndim == 1
    if not flat and x.ndim != 2:
        raise TypeError(f"{name} with axis=0 takes lists of depth one, not {content}")
    moments = dak.map_partitions(_moments_of_all if flat else _moments_of_columns, x, label="moments")
    finalize = partial(_finalized, of_moments=of_moments, flat=flat)
    graph, layer = tree_over(moments, name, (name, of_moments, flat), _rows, _combined, finalize)
    meta = finalize(_rows([moments._meta]))
    if flat:
        return _core.new_scalar_object(graph, layer, meta=meta)
    return _core.new_array_object(graph, layer, meta=meta, npartitions=1)


def _holds_numbers(meta: ak.Array) -> bool:
    if ak.fields(meta) or item_types(meta) & {"string", "bytes"}:
        return False
    try:
        ak.sum(meta, axis=None)
    except (TypeError, ValueError):
        return False
    return True


# ---------------------------------------------------------------- in the tasks


def _moments_of_all(x: ak.Array) -> ak.Array:
    """Moments of all numbers, of length one."""
    row = ak.flatten(_in_double(x), axis=None)[np.newaxis]
    count = ak.count(row, axis=1)
    origin = _origin(ak.sum(row, axis=1), count)
    return _moments(count, origin, row - origin, lambda y: ak.sum(y, axis=1), lambda y: y)


def _moments_of_columns(x: ak.Array) -> ak.Array:
    """Moments for each position in the lists."""
    x = ak.drop_none(_in_double(x), axis=0)
    count = ak.count(x, axis=0)
    origin = _origin(ak.sum(x, axis=0), count)
    away = x - _spread(origin, x)
    return _moments(count, origin, away, lambda y: ak.sum(y, axis=0), lambda y: _spread(y, x))


def _moments(count: Any, origin: Any, away: Any, total: Callable, spread: Callable) -> ak.Array:
    """``m * {count, origin, offset, squares}`` from the distances to an origin near the mean.

    The mean is ``origin + offset``, kept apart: rounded to one number it would be too coarse for the
    squares, if it is large. Being a mere origin, it is a constant; derivatives go through the offset.
    """
    offset = total(away) / np.maximum(count, 1)
    with np.errstate(invalid="ignore"):
        squares = total(_square(away - spread(offset)))
    return ak.zip({"count": count, "origin": origin, "offset": offset, "squares": squares})


def _rows(moments: list) -> ak.Array:
    """The moments that a node of the tree gets, one list each."""
    return ak.concatenate([m[np.newaxis] for m in moments])


def _combined(rows: ak.Array) -> ak.Array:
    """Moments of the union: Chan, Golub and LeVeque's formula for any number of parts."""
    counts = rows["count"]
    count = ak.sum(counts, axis=0)
    origin = _origin(ak.sum(counts * (rows["origin"] + rows["offset"]), axis=0), count)
    away = rows["origin"] - _spread(origin, rows) + rows["offset"]
    offset = ak.sum(counts * away, axis=0) / np.maximum(count, 1)
    with np.errstate(invalid="ignore"):
        between = counts * _square(away - _spread(offset, rows))
    squares = ak.sum(rows["squares"] + between, axis=0)
    return ak.zip({"count": count, "origin": origin, "offset": offset, "squares": squares})


def _origin(total: ak.Array, count: ak.Array) -> ak.Array:
    """About the mean; 0 where that is no number: distances from infinity would be none, either."""
    return ak.nan_to_num(stop(total / np.maximum(count, 1)), nan=0.0, posinf=0.0, neginf=0.0)


def _spread(columns: ak.Array, x: ak.Array) -> ak.Array:
    """One number for each position in the lists of ``x``, repeated where the lists have it."""
    return ak.unflatten(columns[ak.flatten(ak.local_index(x, axis=1))], ak.num(x, axis=1))


def _in_double(x: ak.Array) -> ak.Array:
    """Sums are taken in double precision."""
    return ak.values_astype(x, np.complex128 if _is_complex(x) else np.float64)


def _is_complex(x: ak.Array) -> bool:
    return bool(item_types(x) & {"complex64", "complex128"})


def _square(x: ak.Array) -> ak.Array:
    return abs(x) ** 2 if _is_complex(x) else x * x


def _finalized(rows: ak.Array, of_moments: Callable, flat: bool) -> Any:
    moments = _combined(rows)
    result = ak.where(moments["count"] > 0, of_moments(moments), np.nan)
    return result[0] if flat else result


def _mean_of(moments: ak.Array) -> ak.Array:
    return moments["origin"] + moments["offset"]


def _var_of(moments: ak.Array, ddof: int) -> ak.Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        return moments["squares"] / (moments["count"] - ddof)


def _std_of(moments: ak.Array, ddof: int) -> ak.Array:
    with np.errstate(invalid="ignore"):
        return np.sqrt(_var_of(moments, ddof))
