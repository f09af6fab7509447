"""Histograms and cuts that have derivatives: every value is spread, every step is a slope.

A histogram of events is a step function of their values, so its derivative says nothing. Spread by a
Gaussian, a value moves smoothly from one bin to the next.
"""

from __future__ import annotations

from typing import Any

import awkward as ak
import dask_awkward as dak
import numpy as np
from dask.base import is_dask_collection
from dask_awkward.lib import core as _core

from dak_diff.engine.buffer import Buffer
from dak_diff.engine.values import leaf_values, wrapped
from dak_diff.graph.layers import as_list
from dak_diff.graph.sums import add_arrays, tree_over
from dak_diff.graph.tasks import any_typetracer
from dak_diff.parameter import Parameter
from dak_diff.rules.kernel_sums import bin_contents
from dak_diff.rules.namespace import namespace
from dak_diff.rules.primitive import raw
from dak_diff.rules.structure import where

__all__ = ["soft_cut", "soft_histogram"]

#: exp(-x) is 0 in double precision beyond it.
_CERTAIN = 800.0


def soft_histogram(values: Any, edges: Any, bandwidth: Any, weights: Any = None) -> Any:
    """Contents of the bins of a histogram in which every value is spread by a Gaussian.

    ``sum_i w_i [Phi((e_{b+1} - x_i) / h) - Phi((e_b - x_i) / h)]``: the integral over each bin of a
    kernel density estimate of bandwidth h, in events.

    Parameters
    ----------
    values : dask_awkward.Array, ak.Array or numpy.ndarray
        Real numbers, in lists of any depth; None is left out.
    edges : sequence of float, or vector parameter
        Increasing, two or more, in units of ``values``. The first and the last may be infinite.
    bandwidth : float or parameter
        The width of the Gaussian, positive, in units of ``values``. Small beside a bin it gives the
        ordinary histogram; its derivative is then that of few values, and noisy.
    weights : number, parameter or array, optional
        Broadcast with ``values`` (one weight an event for lists of values): an array in memory beside one
        in memory, a collection beside a collection. A value whose weight is None is left out.

    Returns
    -------
    dask_awkward.Array, ak.Array or numpy.ndarray
        ``n * var * float64 -> nbins * float64``, in units of the weights: of a collection lazily, one
        partition that all partitions are summed into; of an ``ak.Array`` or NumPy array at once, in kind.
        float64 also for float32; derivatives by float32 are float32.

    Raises
    ------
    ValueError
        If the edges are not one-dimensional, fewer than two, not increasing or ``nan``; if the bandwidth is
        no single positive number; if values and weights do not broadcast or have other partitions
        (``IncompatiblePartitions``).
    TypeError
        If values or weights are no real numbers (records, strings, complex numbers), or a collection is
        given where a number, a parameter or an array in memory is needed.
    ImportError
        If SciPy is missing.

    Notes
    -----
    Laziness: a partition-wise layer ``soft-histogram`` and a tree; nothing runs. Reads the columns that
    ``values`` and ``weights`` read.
    Differentiable by all four arguments in both modes, to any order. No kinks. ``nan`` lies in no bin,
    infinity beyond every finite edge: both have derivative 0, by their weights too.
    A task holds blocks of values, never a value for each pair of value and bin.
    A rule for the bandwidth of n values that are about normal: ``1.06 std n**-0.2`` [1]_.

    References
    ----------
    .. [1] Silverman, *Density Estimation for Statistics and Data Analysis*, Chapman and Hall 1986.
    .. [2] Simpson and Heinrich, *neos: End-to-End-Optimised Summary Statistics for High Energy
       Physics*, arXiv:2203.05570.

    Examples
    --------
    >>> import awkward as ak, dask_awkward as dak, dak_diff, numpy as np
    >>> mass = dak.from_awkward(ak.Array([[80.0, 91.0], [], [92.0]]), npartitions=2)
    >>> scale = dak_diff.parameter(1.0, name="scale")
    >>> h = dak_diff.soft_histogram(mass * scale, [70.0, 90.0, 110.0], bandwidth=2.0)
    >>> np.round(h.compute(), 3).to_list()
    [1.467, 1.533]
    >>> np.round(dak_diff.jvp(h, wrt=scale).compute(), 2).to_list()
    [-27.15, 27.15]
    """
    edges = edges if is_dask_collection(edges) else _as_edges(edges)
    weights = 1.0 if weights is None else weights
    lazy = [x for x in (values, edges, bandwidth, weights) if is_dask_collection(x)]
    if not lazy:
        return _filled(values, edges, bandwidth, weights)
    if not isinstance(values, dak.Array):
        raise TypeError(_beside("soft_histogram", values, lazy[0]))
    _check_parameter(edges, "edges")
    edges = edges if isinstance(edges, Parameter) else _checked_edges(edges)
    _check_parameter(bandwidth, "bandwidth")
    if not isinstance(weights, (dak.Array, Parameter)) and (is_dask_collection(weights) or np.ndim(weights)):
        raise TypeError(
            "beside a collection of values the weights are a number, a parameter, or a collection with its "
            f"partitions, not {type(weights).__name__}; dak.from_awkward makes one"
        )
    if isinstance(weights, Parameter) and weights.ndim:
        raise ValueError("weights as a parameter are one number; take one for each value from a collection")
    _check_partitions("soft_histogram", values, weights)
    meta = _filled(*(x._meta if is_dask_collection(x) else x for x in (values, edges, bandwidth, weights)))
    filled = dak.map_partitions(
        _filled, values, edges, bandwidth, weights, label="soft-histogram", meta=meta, traverse=False
    )
    return _summed(filled, len(edges) - 1)


def soft_cut(values: Any, threshold: Any, width: Any) -> Any:
    """A smooth weight in place of the cut ``values > threshold``: the logistic function.

    ``1 / (1 + exp(-(x - threshold) / width))``: 1/2 at the threshold, from 0.02 to 0.98 within four widths
    on either side.

    Parameters
    ----------
    values : dask_awkward.Array, ak.Array, numpy.ndarray or float
        Real numbers, of any structure.
    threshold : number, parameter or array
        In units of ``values``.
    width : number, parameter or array
        In units of ``values``, not 0. Negative: keeps what lies below the threshold.

    Returns
    -------
    as ``values``
        ``n * var * float64 -> n * var * float64``, between 0 and 1, without unit; float32 stays float32.
        Lazily of a collection, at once of anything else.

    Raises
    ------
    ValueError
        If the width is a number or a parameter, and 0 or ``nan``: take ``values > threshold`` itself. If
        collections have other partitions (``IncompatiblePartitions``).
    TypeError
        If the threshold or the width is a reduced scalar, or a collection beside values in memory.

    Notes
    -----
    Laziness: one partition-wise layer ``soft-cut``. Differentiable by all three arguments in both modes, to
    any order. No kinks. Far below the threshold it keeps its digits, until it underflows. ``nan`` stays
    ``nan``; at infinity the derivative is 0.

    References
    ----------
    .. [1] Simpson and Heinrich, *neos: End-to-End-Optimised Summary Statistics for High Energy
       Physics*, arXiv:2203.05570.

    Examples
    --------
    >>> import awkward as ak, dask_awkward as dak, dak_diff, numpy as np
    >>> pt = dak.from_awkward(ak.Array([[20.0, 30.0], [], [45.0]]), npartitions=2)
    >>> cut = dak_diff.parameter(30.0, name="cut")
    >>> passed = dak.sum(dak_diff.soft_cut(pt, cut, width=5.0))
    >>> round(float(passed.compute()), 4), round(float(dak_diff.grad(passed, cut).compute()), 4)
    (1.5718, -0.08)
    """
    known = width.value if isinstance(width, Parameter) else width
    if isinstance(known, (int, float, np.number)) and (known == 0 or np.isnan(known)):
        raise ValueError(f"soft_cut needs a width other than {known!r}; a hard cut is values > threshold")
    lazy = [x for x in (values, threshold, width) if is_dask_collection(x)]
    if lazy:
        if not isinstance(values, dak.Array):
            raise TypeError(_beside("soft_cut", values, lazy[0]))
        for x, what in ((threshold, "threshold"), (width, "width")):
            if not isinstance(x, dak.Array):
                _check_parameter(x, what)
                if not isinstance(x, Parameter) and np.ndim(x):
                    raise TypeError(
                        f"beside a collection the {what} of soft_cut is a number, a parameter, or a "
                        "collection with the same partitions: make one with dak.from_awkward"
                    )
        _check_partitions("soft_cut", *lazy)
        return dak.map_partitions(
            _logistic, values, threshold, width, label="soft-cut", output_divisions=1, traverse=False
        )
    return _logistic(values, threshold, width)


def _logistic(x: Any, threshold: Any, width: Any) -> Any:
    # Beyond it is 0 or 1, and the derivative 0, also at infinity.
    z = np.minimum(np.maximum((threshold - x) / width, -_CERTAIN), _CERTAIN)
    # 1 / (1 + exp(z)) without its overflow, and with the digits of its tail; NumPy warns of nan here.
    with np.errstate(invalid="ignore"):
        return np.exp(-np.logaddexp(0, z))


# ---------------------------------------------------------------- what may be given


def _beside(name: str, values: Any, other: Any) -> str:
    return (
        f"{name} of {type(values).__name__} takes no collections beside it, {other!r} is one. "
        "Make the values a collection with dak.from_awkward, or give p.value of a parameter."
    )


def _check_partitions(name: str, *given: Any) -> None:
    arrays = [x for x in given if isinstance(x, dak.Array)]
    if dak.partition_compatibility(*arrays) == dak.PartitionCompatibility.NO:
        raise _core.IncompatiblePartitions(name, *arrays)


def _as_edges(edges: Any) -> Any:
    """Edges that are numbers as an array of them."""
    if isinstance(edges, (ak.Array, np.ndarray, Buffer)):
        return edges
    edges = list(edges) if np.iterable(edges) else edges
    if isinstance(edges, list) and any(isinstance(x, (Parameter, Buffer)) for x in edges):
        raise TypeError("to differentiate by edges give all of them as one vector: parameter([...])")
    return np.asarray(edges, dtype=np.float64)


def _check_parameter(x: Any, what: str) -> None:
    if is_dask_collection(x) and not isinstance(x, Parameter):
        raise TypeError(
            f"the {what} must be known when the graph is built: a number or a parameter, not {x!r}"
        )


def _check_numbers(array: ak.Array, what: str) -> None:
    form = array.layout.form
    while hasattr(form, "content") and form.parameter("__array__") not in ("string", "bytestring"):
        form = form.content
    kind = np.dtype(form.primitive).kind if isinstance(form, ak.forms.NumpyForm) else ""
    if not (kind and kind in "fiub") and not isinstance(form, ak.forms.EmptyForm):
        raise TypeError(
            f"soft_histogram takes real numbers, the {what} are {array.type.content}; "
            "take the column to fill, as events.jets.pt"
        )


def _checked_edges(edges: Any) -> Any:
    edges = _flat(edges) if isinstance(edges, ak.Array) and edges.ndim == 1 else _value(edges)
    plain = raw(edges)
    if np.ndim(plain) != 1 or len(plain) < 2 or not bool((plain[1:] > plain[:-1]).all()):
        raise ValueError(f"the edges of a histogram are two or more increasing numbers, not {plain!r}")
    return edges


def _checked_bandwidth(bandwidth: Any) -> Any:
    bandwidth = _value(bandwidth)
    plain = raw(bandwidth)
    if np.ndim(plain) or not 0 < plain < np.inf:
        raise ValueError(f"the bandwidth of a histogram is one positive number, not {plain!r}")
    return bandwidth


# ---------------------------------------------------------------- in the tasks


def _filled(values: Any, edges: Any, bandwidth: Any, weights: Any) -> Any:
    """The histogram of one array."""
    edges, bandwidth = _checked_edges(edges), _checked_bandwidth(bandwidth)
    array = values if isinstance(values, ak.Array) else ak.Array(values)
    _check_numbers(array, "values")
    if not isinstance(weights, ak.Array) and np.ndim(_value(weights)):
        weights = ak.Array(weights)
    if isinstance(weights, ak.Array):
        _check_numbers(weights, "weights")
        # What is None in one of them is None in both.
        array, weights = ak.broadcast_arrays(array, weights)
    if any_typetracer((array, weights)):
        ak.typetracer.touch_data(array)
        if isinstance(weights, ak.Array):
            ak.typetracer.touch_data(weights)
        return ak.Array(ak.Array(np.zeros(len(edges) - 1)).layout.to_typetracer(forget_length=True))
    x = _flat(array)
    w = _flat(weights) if isinstance(weights, ak.Array) else _value(weights)
    finite = namespace(raw(x)).isfinite(raw(x))
    if not bool(finite.all()):
        x, w = where(finite, x, 0.0), where(finite, w, 0.0)
    contents = wrapped(bin_contents(edges, x, w, bandwidth))
    return ak.Array(contents) if isinstance(values, ak.Array) else contents


def _flat(array: ak.Array) -> Any:
    """All numbers of an array, without None, as one array of an algebra or a plain one."""
    leaves = leaf_values(ak.materialize(ak.flatten(array, axis=None)))
    return leaves[0] if leaves else np.zeros(0)


def _value(x: Any) -> Any:
    return x.value if isinstance(x, Buffer) else x


def _summed(filled: dak.Array, bins: int) -> dak.Array:
    graph, name = tree_over(filled, "sum-histograms", (), as_list, add_arrays)
    return _core.new_array_object(graph, name, meta=filled._meta, divisions=(0, bins))
