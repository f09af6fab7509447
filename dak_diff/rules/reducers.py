"""Awkward's reducers: one value out of every segment of a flat array.

A segment is ``x[offsets[i]:offsets[i + 1]]``. The value itself always comes from the
caller's kernel (``call``), so it is the user's bit for bit; what is written here is
the derivative, in terms of :func:`segment_sum`, its transpose :func:`segment_spread`,
and selection by the element picked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from dak_diff.rules.elementwise import pulled, scale
from dak_diff.rules.namespace import atomic, binned_sum, is_host, namespace, owners
from dak_diff.rules.primitive import NonDifferentiable, Primitive, dtype_of, raw
from dak_diff.rules.structure import Linear, conjugated, index, real_if, scatter_add, where

__all__ = ["REDUCERS", "Segments", "segment_spread", "segment_sum"]


class Segments:
    """Where the segments of a flat array begin and end.

    Parameters
    ----------
    offsets : array of int64
        ``n + 1`` non-decreasing numbers from 0 to the length of the array.
    """

    def __init__(self, offsets: Any):
        self.offsets = offsets

    def __reduce__(self) -> tuple:
        return (type(self), (self.offsets,))

    @property
    def count(self) -> int:
        return self.offsets.shape[0] - 1

    @cached_property
    def sizes(self) -> Any:
        return self.offsets[1:] - self.offsets[:-1]

    @cached_property
    def parents(self) -> Any:
        """For each element the segment it lies in."""
        return owners(self.sizes)

    def spread(self, x: Any) -> Any:
        """For each element what ``x`` holds for its segment."""
        return np.repeat(x, self.sizes) if is_host(namespace(x)) else x[self.parents]


@atomic
def _host_sums(x: Any, offsets: Any) -> Any:
    out = np.zeros(len(offsets) - 1, dtype=x.dtype)
    if len(x):
        starts = offsets[:-1]
        filled = offsets[1:] > starts
        out[filled] = np.add.reduceat(x, starts[filled])
    return out


class _SegmentSum(Linear):
    """y_dot_i = sum of x_dot over segment i; x_bar = y_bar of its segment."""

    name = "segment_sum"

    def impl(self, x: Any, *, segments: Segments) -> Any:
        if segments.count == 1:
            return x.sum(keepdims=True)
        if is_host(namespace(x)):
            return _host_sums(x, segments.offsets)
        # CuPy's add.reduceat takes differences of a cumulative sum: one nan would be everywhere.
        return binned_sum(x, segments.parents, segments.count)

    def transposed(self, cotangent: Any, shape: tuple, dtype: np.dtype, params: dict) -> Any:
        return segment_spread(cotangent, **params)


class _SegmentSpread(Linear):
    """The transpose of :func:`segment_sum`: each element gets the value of its segment."""

    name = "segment_spread"

    def impl(self, x: Any, *, segments: Segments) -> Any:
        if segments.count == 1:
            return namespace(x).broadcast_to(x, (segments.sizes[0].item(),))
        return segments.spread(x)

    def transposed(self, cotangent: Any, shape: tuple, dtype: np.dtype, params: dict) -> Any:
        return segment_sum(cotangent, **params)


segment_sum = _SegmentSum()
segment_spread = _SegmentSpread()


class Reduction(Primitive):
    """A reducer of one array; the value is ``call(x)``."""

    kind = "custom"

    def __reduce__(self) -> tuple:
        return (_reducer, (self.name,))

    def impl(self, *args: Any, call: Callable, segments: Segments, **params: Any) -> Any:
        return call(*args)


class Sum(Reduction):
    """y_dot = segment sum of x_dot; x_bar = spread of y_bar. Empty segments give 0."""

    name = "sum"
    kind = "linear"

    def residuals(self, out: Any, args: tuple, params: dict, active: tuple, method: str) -> tuple:
        return (params["segments"], dtype_of(out), dtype_of(args[0]))

    def push(self, residuals: tuple, tangents: tuple) -> Any:
        segments, out_dtype, _ = residuals
        return segment_sum(real_if(tangents[0], out_dtype), segments=segments)

    def pull(self, residuals: tuple, cotangent: Any, active: tuple[bool, ...]) -> tuple:
        segments, _, dtype = residuals
        return (segment_spread(real_if(cotangent, dtype), segments=segments),)


class Prod(Reduction):
    """y_dot = sum_i x_dot_i prod_{j != i} x_j, right also where some x_j are zero.

    The products without one factor are those of all factors before it times those of
    all factors after it: no division, so zeros need no special case.
    """

    name = "prod"

    def residuals(self, out: Any, args: tuple, params: dict, active: tuple, method: str) -> tuple:
        segments = params["segments"]
        return (_product_of_others(args[0], segments), segments)

    def push(self, residuals: tuple, tangents: tuple) -> Any:
        others, segments = residuals
        return segment_sum(scale(others, tangents[0]), segments=segments)

    def pull(self, residuals: tuple, cotangent: Any, active: tuple[bool, ...]) -> tuple:
        others, segments = residuals
        spread = segment_spread(cotangent, segments=segments)
        return (scale(conjugated(others), spread),)


def _product_of_others(x: Any, segments: Segments) -> Any:
    offsets = segments.offsets
    first = index(offsets, key=segments.parents)
    last = index(offsets[1:], key=segments.parents) - 1
    position = namespace(offsets).arange(first.shape[0])
    before = _running_product(x, position - first, -1)
    after = _running_product(x, last - position, 1)
    return before * after


def _running_product(x: Any, room: Any, step: int) -> Any:
    """Product of the ``room`` elements before (step -1) or after (step 1) each element.

    Doubles the length of the products in each pass: log2(longest segment) passes.
    """
    xp = namespace(room)
    longest = room.max().item() if room.shape[0] else 0
    position = xp.arange(room.shape[0])

    def shifted(values: Any, by: int) -> Any:
        inside = room >= by
        return where(inside, index(values, key=xp.where(inside, position + step * by, position)), 1.0)

    product, by = shifted(x, 1), 1
    while by < longest:
        product = product * shifted(product, by)
        by *= 2
    return product


class Extreme(Reduction):
    """min and max: y_dot = x_dot of the element picked, the first among equals.

    Empty segments, and those where the initial value wins, have derivative 0.
    """

    kind = "selection"

    def __init__(self, name: str):
        self.name = name

    def residuals(self, out: Any, args: tuple, params: dict, active: tuple, method: str) -> tuple:
        segments, x, y = params["segments"], raw(args[0]), raw(out)
        xp = namespace(x)
        spread = segments.spread(y)
        hits = xp.nonzero((x == spread) | (xp.isnan(x) & xp.isnan(spread)))[0]
        owners = segments.parents[hits]
        first = xp.ones(hits.shape[0], dtype=bool)
        first[1:] = owners[1:] != owners[:-1]
        picked = xp.zeros(segments.count, dtype=xp.int64)
        found = xp.zeros(segments.count, dtype=bool)
        picked[owners[first]] = hits[first]
        found[owners[first]] = True
        return (picked, found, np.shape(x))

    def push(self, residuals: tuple, tangents: tuple) -> Any:
        picked, found, shape = residuals
        if shape == (0,):
            return None
        return where(found, index(tangents[0], key=picked), 0.0)

    def pull(self, residuals: tuple, cotangent: Any, active: tuple[bool, ...]) -> tuple:
        picked, found, shape = residuals
        if shape == (0,):
            return (None,)
        return (scatter_add(where(found, cotangent, 0.0), key=picked, shape=shape),)


class SumOfSquares(Reduction):
    """y = sum x**2 in float64: y_dot = 2 sum x x_dot."""

    name = "sumofsquares"

    def residuals(self, out: Any, args: tuple, params: dict, active: tuple, method: str) -> tuple:
        return (2 * _widened(args[0], out), params["segments"])

    def push(self, residuals: tuple, tangents: tuple) -> Any:
        slope, segments = residuals
        return segment_sum(scale(slope, tangents[0]), segments=segments)

    def pull(self, residuals: tuple, cotangent: Any, active: tuple[bool, ...]) -> tuple:
        slope, segments = residuals
        return (pulled(slope, segment_spread(cotangent, segments=segments)),)


class SumOfPowers(SumOfSquares):
    """y = sum x**n in float64: y_dot = n sum x**(n - 1) x_dot."""

    name = "sumofpowers"

    def residuals(self, out: Any, args: tuple, params: dict, active: tuple, method: str) -> tuple:
        n = params["n"]
        x = _widened(args[0], out)
        return (0.0 * x if n == 0 else n * x ** (n - 1), params["segments"])


class CenteredSumOfSquares(Reduction):
    """y = sum (x - m)**2, one m a segment: y_dot = 2 sum (x - m)(x_dot - m_dot)."""

    name = "centered_sumofsquares"

    def residuals(self, out: Any, args: tuple, params: dict, active: tuple, method: str) -> tuple:
        x, means = args
        segments = params["segments"]
        return (2 * (_widened(x, out) - segment_spread(means, segments=segments)), segments)

    def push(self, residuals: tuple, tangents: tuple) -> Any:
        slope, segments = residuals
        x_dot, m_dot = tangents
        terms = []
        if x_dot is not None:
            terms.append(segment_sum(scale(slope, x_dot), segments=segments))
        if m_dot is not None:
            terms.append(
                -segment_sum(scale(slope, segment_spread(m_dot, segments=segments)), segments=segments)
            )
        return sum(terms[1:], terms[0])

    def pull(self, residuals: tuple, cotangent: Any, active: tuple[bool, ...]) -> tuple:
        slope, segments = residuals
        x_bar = pulled(slope, segment_spread(cotangent, segments=segments))
        return (
            x_bar if active[0] else None,
            -segment_sum(x_bar, segments=segments) if active[1] else None,
        )


def _widened(x: Any, out: Any) -> Any:
    return real_if(x, dtype_of(out))


_POSITIONS, _COUNTS, _LOGIC = "yields positions", "counts elements", "yields booleans"

#: Name of Awkward's reducer -> its primitive.
REDUCERS: dict[str, Primitive] = {
    "sum": Sum(),
    "prod": Prod(),
    "min": Extreme("min"),
    "max": Extreme("max"),
    "sumofsquares": SumOfSquares(),
    "sumofpowers": SumOfPowers(),
    "centered_sumofsquares": CenteredSumOfSquares(),
    "argmin": NonDifferentiable("argmin", _POSITIONS),
    "argmax": NonDifferentiable("argmax", _POSITIONS),
    "count": NonDifferentiable("count", _COUNTS),
    "count_nonzero": NonDifferentiable("count_nonzero", _COUNTS),
    "any": NonDifferentiable("any", _LOGIC),
    "all": NonDifferentiable("all", _LOGIC),
}


def _reducer(name: str) -> Primitive:
    return REDUCERS[name]
