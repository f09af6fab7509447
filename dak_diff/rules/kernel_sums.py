"""Sums of a Gaussian kernel over many points: what smooth histograms are made of.

With ``g_0 = Phi``, the distribution function of the normal distribution, and ``g_m`` its m-th derivative
(the density times a Hermite polynomial),

``K_{m,s}(p, c, w, h)_j = h**-m sum_i w_i g_m(s (p_j - c_i) / h)``

is closed under differentiation, because ``g_{m+2}(u) = -u g_{m+1}(u) - m g_m(u)``:

- by ``p_j``: ``s K_{m+1,s}``; by ``c`` along ``c_dot``: ``-s K_{m+1,s}(p, c, w c_dot, h)``;
- by ``h``: ``h K_{m+2,s}``, the heat equation;
- transposed in ``w``: ``K_{m,-s}(c, p, k_bar, h)``.

The contents of bins are differences of ``K_{0,+}`` over edges, but taken value by value between tails, so
that they are never negative and keep their digits far from the values.

Evaluated in blocks, edge by edge: memory is that of the arguments, never of all pairs of them.

Sources: B. W. Silverman, *Density Estimation for Statistics and Data Analysis*, Chapman and Hall 1986;
Hermite polynomials: DLMF 18.9.1, 18.7.12.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from dak_diff.rules.elementwise import scale
from dak_diff.rules.namespace import atomic, moved, namespace
from dak_diff.rules.primitive import Primitive, raw
from dak_diff.rules.structure import concatenate, index

__all__ = ["bin_contents", "bin_shares", "kernel_sum"]

_SQRT2PI = math.sqrt(2 * math.pi)
#: exp(-u**2 / 2) is 0 in double precision beyond it.
_NOTHING = 40.0
#: Elements of a block: temporaries stay in the cache of a processor; a device wants few large kernels.
_BLOCK, _BLOCK_ON_DEVICE = 8192, 1 << 22


class KernelSum(Primitive):
    """``K_{m,s}(p, c, w, h)``: finite points and centers of any precision, summed in float64.

    ``w`` is an array as long as ``c``, or a number; ``h`` a positive number.
    """

    name = "kernel_sum"
    kind = "custom"

    @atomic
    def impl(self, points: Any, centers: Any, weights: Any, bandwidth: Any, *, order: int, sign: int) -> Any:
        xp, h = namespace(points, centers, weights), float(bandwidth)
        points, centers, weights = (_there(xp, x) for x in (points, centers, weights))
        function = _derivative(xp, order)
        out = xp.zeros(len(points), dtype=np.float64)
        with np.errstate(over="ignore"):
            if len(points) <= len(centers):
                few = points.tolist()
                for block in _blocks(xp, len(centers)):
                    c, w = _double(centers[block]), _part(weights, block)
                    for j, point in enumerate(few):
                        out[j] += _weighted_sum(w, function((point - c) / (sign * h)))
            else:
                each = weights.tolist() if np.ndim(weights) else [float(weights)] * len(centers)
                few = list(zip(centers.tolist(), each, strict=True))
                for block in _blocks(xp, len(points)):
                    p, total = _double(points[block]), out[block]
                    for center, weight in few:
                        total += weight * function((p - center) / (sign * h))
        for _ in range(order):
            out /= h
        return out

    def residuals(self, out: Any, args: tuple, params: dict, active: tuple, method: str) -> tuple:
        return (*args, params["order"], params["sign"])

    def push(self, residuals: tuple, tangents: tuple) -> Any:
        (p, c, w, h, m, s), (p_dot, c_dot, w_dot, h_dot) = residuals, tangents
        terms = []
        if p_dot is not None:
            terms.append(scale(s * self(p, c, w, h, order=m + 1, sign=s), p_dot))
        if c_dot is not None:
            terms.append(-s * self(p, c, scale(w, c_dot), h, order=m + 1, sign=s))
        if w_dot is not None:
            terms.append(self(p, c, w_dot, h, order=m, sign=s))
        if h_dot is not None:
            terms.append(scale(h * self(p, c, w, h, order=m + 2, sign=s), h_dot))
        return sum(terms[1:], terms[0])

    def pull(self, residuals: tuple, cotangent: Any, active: tuple[bool, ...]) -> tuple:
        p, c, w, h, m, s = residuals
        by_p = self(p, c, w, h, order=m + 1, sign=s) if active[0] else None
        by_c = self(c, p, cotangent, h, order=m + 1, sign=-s) if active[1] else None
        by_w = self(c, p, cotangent, h, order=m, sign=-s) if active[2] else None
        by_h = self(p, c, w, h, order=m + 2, sign=s) if active[3] else None
        return (
            None if by_p is None else scale(s * by_p, cotangent),
            None if by_c is None else scale(-s * by_c, w),
            by_w,
            None if by_h is None else scale(h * by_h, cotangent),
        )


kernel_sum = KernelSum()


class BinContents(Primitive):
    """Each value spread by a Gaussian: what lies between neighbouring edges.

    ``n_b = sum_i w_i [Phi((e_{b+1} - x_i) / h) - Phi((e_b - x_i) / h)]``: finite values, increasing edges,
    which may end at infinity.
    """

    name = "bin_contents"
    kind = "custom"

    @atomic
    def impl(self, edges: Any, values: Any, weights: Any, bandwidth: Any) -> Any:
        xp, h = namespace(edges, values, weights), float(bandwidth)
        values, weights = _there(xp, values), _there(xp, weights)
        out = xp.zeros(len(edges) - 1, dtype=np.float64)
        with np.errstate(over="ignore"):
            for block in _blocks(xp, len(values)):
                x, w = _double(values[block]), _part(weights, block)
                for b, share in enumerate(_shares(xp, edges.tolist(), x, h)):
                    out[b] += _weighted_sum(w, share)
        return out

    def residuals(self, out: Any, args: tuple, params: dict, active: tuple, method: str) -> tuple:
        return args

    def push(self, residuals: tuple, tangents: tuple) -> Any:
        (e, x, w, h), (e_dot, x_dot, w_dot, h_dot) = residuals, tangents
        terms, at_edges = [], []
        if e_dot is not None:
            at_edges.append(scale(kernel_sum(e, x, w, h, order=1, sign=1), e_dot))
        if x_dot is not None:
            at_edges.append(-kernel_sum(e, x, scale(w, x_dot), h, order=1, sign=1))
        if h_dot is not None:
            at_edges.append(scale(h * kernel_sum(e, x, w, h, order=2, sign=1), h_dot))
        if at_edges:
            total = sum(at_edges[1:], at_edges[0])
            terms.append(index(total, key=slice(1, None)) - index(total, key=slice(None, -1)))
        if w_dot is not None:
            terms.append(self(e, x, w_dot, h))
        return sum(terms[1:], terms[0])

    def pull(self, residuals: tuple, cotangent: Any, active: tuple[bool, ...]) -> tuple:
        e, x, w, h = residuals
        at_edges = _at_edges(cotangent)
        by_e = kernel_sum(e, x, w, h, order=1, sign=1) if active[0] else None
        by_x = kernel_sum(x, e, at_edges, h, order=1, sign=-1) if active[1] else None
        by_h = kernel_sum(e, x, w, h, order=2, sign=1) if active[3] else None
        return (
            None if by_e is None else scale(by_e, at_edges),
            None if by_x is None else scale(-by_x, w),
            bin_shares(e, x, cotangent, h) if active[2] else None,
            None if by_h is None else scale(h * by_h, at_edges),
        )


bin_contents = BinContents()


class BinShares(Primitive):
    """For each value the numbers ``c`` of the bins, by its shares of them: ``bin_contents`` transposed.

    ``sum_b c_b [Phi((e_{b+1} - x_i) / h) - Phi((e_b - x_i) / h)]``. Not a sum over edges of differences of
    ``c``: where a bin is nearly empty ``c`` may be huge (1 / n), and what remains of it would be rounding.
    """

    name = "bin_shares"
    kind = "custom"

    @atomic
    def impl(self, edges: Any, values: Any, numbers: Any, bandwidth: Any) -> Any:
        xp, h = namespace(edges, values, numbers), float(bandwidth)
        values = _there(xp, values)
        out = xp.zeros(len(values), dtype=np.float64)
        with np.errstate(over="ignore"):
            for block in _blocks(xp, len(values)):
                shares = _shares(xp, edges.tolist(), _double(values[block]), h)
                for share, number in zip(shares, numbers.tolist(), strict=True):
                    out[block] += scale(number, share, mutual=True)
        return out

    def residuals(self, out: Any, args: tuple, params: dict, active: tuple, method: str) -> tuple:
        return args

    def push(self, residuals: tuple, tangents: tuple) -> Any:
        (e, x, c, h), (e_dot, x_dot, c_dot, h_dot) = residuals, tangents
        at_edges, terms = _at_edges(c), []
        if e_dot is not None:
            terms.append(kernel_sum(x, e, scale(at_edges, e_dot), h, order=1, sign=-1))
        if x_dot is not None:
            terms.append(scale(-kernel_sum(x, e, at_edges, h, order=1, sign=-1), x_dot))
        if c_dot is not None:
            terms.append(self(e, x, c_dot, h))
        if h_dot is not None:
            terms.append(scale(h * kernel_sum(x, e, at_edges, h, order=2, sign=-1), h_dot))
        return sum(terms[1:], terms[0])

    def pull(self, residuals: tuple, cotangent: Any, active: tuple[bool, ...]) -> tuple:
        e, x, c, h = residuals
        at_edges = _at_edges(c)
        by_e = kernel_sum(e, x, cotangent, h, order=1, sign=1) if active[0] else None
        by_x = kernel_sum(x, e, at_edges, h, order=1, sign=-1) if active[1] else None
        by_h = kernel_sum(x, e, at_edges, h, order=2, sign=-1) if active[3] else None
        return (
            None if by_e is None else scale(by_e, at_edges),
            None if by_x is None else scale(-by_x, cotangent),
            bin_contents(e, x, cotangent, h) if active[2] else None,
            None if by_h is None else scale(h * by_h, cotangent),
        )


bin_shares = BinShares()


def _at_edges(numbers: Any) -> Any:
    """How much more the bin before each edge has than the one behind it."""
    none = namespace(raw(numbers)).zeros(1)
    return concatenate(none, numbers) - concatenate(numbers, none)


def _shares(xp: Any, edges: list[float], x: Any, h: float) -> Iterator[Any]:
    """Bin by bin, how much of each value lies in it."""
    tail, below = _smaller_tail(xp, (edges[0] - x) / h)
    for edge in edges[1:]:
        last_tail, last_below = tail, below
        tail, below = _smaller_tail(xp, (edge - x) / h)
        yield (tail - last_tail) + (below ^ last_below)


def _blocks(xp: Any, length: int) -> Iterator[slice]:
    block = _BLOCK if xp is np else _BLOCK_ON_DEVICE
    return (slice(start, start + block) for start in range(0, length, block))


def _there(xp: Any, x: Any) -> Any:
    """An array beside those of a device; edges are given on the host."""
    return moved(x, xp.ndarray) if np.ndim(x) else x


def _double(x: Any) -> Any:
    return x.astype(np.float64, copy=False)


def _part(weights: Any, block: slice) -> Any:
    return _double(weights[block]) if np.ndim(weights) else float(weights)


def _weighted_sum(weights: Any, x: Any) -> Any:
    return x @ weights if np.ndim(weights) else x.sum() * weights


def _smaller_tail(xp: Any, u: Any) -> tuple[Any, Any]:
    """``Phi(u)`` without the 1 that it is near at positive ``u``, where it has no digits left; and where."""
    positive = u >= 0
    tail = _special(xp).ndtr(-abs(u))
    return xp.where(positive, -tail, tail), positive


def _derivative(xp: Any, order: int) -> Callable[[Any], Any]:
    """``g_m``: the normal distribution function, or its m-th derivative."""
    if order == 0:
        return _special(xp).ndtr

    def derivative(u: Any) -> Any:
        # Beyond, the polynomial would be infinite where the density is 0.
        u = u.clip(-_NOTHING, _NOTHING)
        polynomial, following = 1.0, -u
        for m in range(1, order):
            polynomial, following = following, -u * following - m * polynomial
        return polynomial * xp.exp(-0.5 * u * u) / _SQRT2PI

    return derivative


def _special(xp: Any) -> ModuleType | Any:
    """``scipy.special``, or the same of CuPy."""
    try:
        if xp.__name__ == "cupy":
            import cupyx.scipy.special as special
        else:
            import scipy.special as special
    except ImportError as error:
        raise ImportError('smooth histograms need SciPy: pip install "dak_diff[hist]"') from error
    return special
