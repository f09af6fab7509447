"""Every ufunc of NumPy, each in exactly one table.

``PARTIALS``: one partial per argument, as a function of (result, arguments).
``ZERO``: the derivative is zero wherever it exists.
``NOT_NUMBERS``: the results are booleans or integers.
``NOT_IMPLEMENTED``: refused, with the reason.

Kinks (the whole list is in docs/explain/kinks.md): ``abs'(0) = 0``; equal arguments of ``maximum``
and ``minimum`` have half each; ``sqrt'(0) = inf``; ``hypot`` and ``arctan2`` have
derivative 0 at the origin. Source of the formulas: Abramowitz and Stegun, chapters 4 and 6.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from dak_diff.errors import NoRuleError
from dak_diff.rules.elementwise import Elementwise, NoRule, Partial
from dak_diff.rules.primitive import UFUNCS, NonDifferentiable, Primitive, dtype_of, raw
from dak_diff.rules.structure import where

__all__ = ["NOT_IMPLEMENTED", "NOT_NUMBERS", "PARTIALS", "ZERO"]

_LN2, _LN10 = float(np.log(2)), float(np.log(10))


def _power_by_base(out: Any, x: Any, y: Any) -> Any:
    # y = 0 is constant in x, also at x = 0 where x**(y-1) is infinite, and of nan.
    slope = y * np.power(x, y - 1.0)
    constant = raw(y) == 0
    return where(constant & ~(abs(raw(x)) > 0), 0.0, slope) if np.any(constant) else slope


def _power_by_exponent(out: Any, x: Any, y: Any) -> Any:
    # 0**y is constant for y > 0; a negative base has no real derivative: log gives nan.
    return where((raw(x) == 0) & (raw(y) > 0), 0.0, out * np.log(where(raw(x) == 0, 1.0, x)))


def _choice(beats: Callable[..., Any], nan_wins: bool) -> tuple[Partial, Partial]:
    """Partials of a choice between two arguments: half of each where they are equal."""

    def first_wins(x: Any, y: Any) -> Any:
        return beats(x, y) | np.isnan(x if nan_wins else y)

    def of_first(out: Any, x: Any, y: Any) -> Any:
        x, y = raw(x), raw(y)
        return _halved(first_wins(x, y), x == y, out)

    def of_second(out: Any, x: Any, y: Any) -> Any:
        x, y = raw(x), raw(y)
        return _halved(~first_wins(x, y), x == y, out)

    return of_first, of_second


def _halved(wins: Any, equal: Any, out: Any) -> Any:
    """Booleans, which only select, as long as no arguments are equal."""
    return where(equal, dtype_of(out).type(0.5), wins) if np.any(equal) else wins


def _over_hypot(out: Any, x: Any) -> Any:
    return where(raw(out) == 0, 0.0, x / where(raw(out) == 0, 1.0, out))


def _arctan2_by_y(out: Any, y: Any, x: Any) -> Any:
    # Twice divided by the radius: x**2 + y**2 would overflow beyond 1e154.
    r = np.hypot(x, y)
    return _over_hypot(r, x) / where(raw(r) == 0, 1.0, r)


def _arctan2_by_x(out: Any, y: Any, x: Any) -> Any:
    r = np.hypot(x, y)
    return -_over_hypot(r, y) / where(raw(r) == 0, 1.0, r)


def _logaddexp_by(x: Any, other: Any) -> Any:
    # Not exp(x - out): at large arguments the difference has no digits left.
    return where(np.isneginf(raw(x)), 0.0, 1 / (1 + np.exp(other - x)))


def _logaddexp2_by(x: Any, other: Any) -> Any:
    return where(np.isneginf(raw(x)), 0.0, 1 / (1 + np.exp2(other - x)))


def _absolute(out: Any, x: Any) -> Any:
    # For complex x the engine takes the real part of p * x_dot.
    if dtype_of(x).kind == "c":
        return where(raw(out) == 0, 0.0, np.conjugate(x) / where(raw(out) == 0, 1.0, out))
    return np.sign(raw(x))


def _sign(out: Any, x: Any) -> float:
    if dtype_of(x).kind == "c":
        raise NoRuleError("no derivative rule for sign of complex numbers; write x / abs(x)")
    return 0.0


class _Conjugate(Primitive):
    """y_dot = conj(x_dot); x_bar = conj(y_bar). No kink."""

    name = "conjugate"
    kind = "linear"

    def impl(self, x: Any, *, call: Callable | None = None) -> Any:
        return (call or np.conjugate)(x)

    def residuals(self, out: Any, args: tuple, params: dict, active: tuple, method: str) -> tuple:
        return ()

    def push(self, residuals: tuple, tangents: tuple) -> Any:
        return np.conjugate(tangents[0])

    def pull(self, residuals: tuple, cotangent: Any, active: tuple[bool, ...]) -> tuple:
        return (np.conjugate(cotangent),)


conjugate = _Conjugate()


def _inverse(y: Any) -> Any:
    # Python's own zero does not divide: a count of nothing.
    return math.copysign(math.inf, y) if type(y) in (int, float) and y == 0 else 1 / y


PARTIALS: dict[np.ufunc, tuple[Partial, ...] | list[tuple[Partial, ...]]] = {
    # arithmetic
    np.add: (1, 1),
    np.subtract: (1, -1),
    np.multiply: (lambda out, x, y: y, lambda out, x, y: x),
    np.divide: (lambda out, x, y: _inverse(y), lambda out, x, y: -out / y),
    np.negative: (-1,),
    np.positive: (1,),
    np.reciprocal: (lambda out, x: -np.square(out),),
    np.square: (lambda out, x: 2 * x,),
    np.power: (_power_by_base, _power_by_exponent),
    np.float_power: (_power_by_base, _power_by_exponent),
    np.remainder: (1, lambda out, x, y: -np.floor_divide(raw(x), raw(y))),
    np.fmod: (1, lambda out, x, y: -np.rint((raw(x) - raw(out)) / raw(y))),
    # roots, exponentials, logarithms
    np.sqrt: (lambda out, x: 0.5 / out,),
    np.cbrt: (lambda out, x: 1 / (3 * np.square(out)),),
    np.exp: (lambda out, x: out,),
    np.exp2: (lambda out, x: out * _LN2,),
    np.expm1: (lambda out, x: np.exp(x),),
    np.log: (lambda out, x: 1 / x,),
    np.log2: (lambda out, x: 1 / (x * _LN2),),
    np.log10: (lambda out, x: 1 / (x * _LN10),),
    np.log1p: (lambda out, x: 1 / (1 + x),),
    np.logaddexp: (lambda out, x, y: _logaddexp_by(x, y), lambda out, x, y: _logaddexp_by(y, x)),
    np.logaddexp2: (lambda out, x, y: _logaddexp2_by(x, y), lambda out, x, y: _logaddexp2_by(y, x)),
    # trigonometric and hyperbolic
    np.sin: (lambda out, x: np.cos(x),),
    np.cos: (lambda out, x: -np.sin(x),),
    np.tan: (lambda out, x: 1 + np.square(out),),
    np.arcsin: (lambda out, x: 1 / np.sqrt((1 - x) * (1 + x)),),
    np.arccos: (lambda out, x: -1 / np.sqrt((1 - x) * (1 + x)),),
    np.arctan: (lambda out, x: 1 / (1 + np.square(x)),),
    np.arctan2: (_arctan2_by_y, _arctan2_by_x),
    np.hypot: (lambda out, x, y: _over_hypot(out, x), lambda out, x, y: _over_hypot(out, y)),
    np.sinh: (lambda out, x: np.cosh(x),),
    np.cosh: (lambda out, x: np.sinh(x),),
    np.tanh: (lambda out, x: 1 / np.square(np.cosh(x)),),
    np.arcsinh: (lambda out, x: 1 / np.hypot(x, 1.0),),
    np.arccosh: (lambda out, x: 1 / (np.sqrt(x - 1) * np.sqrt(x + 1)),),
    np.arctanh: (lambda out, x: 1 / ((1 - x) * (1 + x)),),
    np.deg2rad: (float(np.pi / 180),),
    np.radians: (float(np.pi / 180),),
    np.rad2deg: (float(180 / np.pi),),
    np.degrees: (float(180 / np.pi),),
    # pieces
    np.absolute: (_absolute,),
    np.fabs: (_absolute,),
    np.maximum: _choice(operator.gt, nan_wins=True),
    np.minimum: _choice(operator.lt, nan_wins=True),
    np.fmax: _choice(operator.gt, nan_wins=False),
    np.fmin: _choice(operator.lt, nan_wins=False),
    np.sign: (_sign,),
    np.copysign: (lambda out, x, y: np.copysign(1.0, raw(y)) * np.sign(raw(x)), 0),
    np.heaviside: (0, lambda out, x, y: raw(x) == 0),
    np.nextafter: (1, 0),
    np.ldexp: (lambda out, x, n: np.ldexp(1.0, n), 0),
    # several outputs: one row each
    np.modf: [(1,), (0,)],
    np.frexp: [(lambda out, x: np.ldexp(1.0, -np.frexp(raw(x))[1]),), (0,)],
    np.divmod: [(0, 0), (1, lambda out, x, y: -np.floor_divide(raw(x), raw(y)))],
}

#: Where an argument is infinite and the function constant: its horizontal asymptotes.
FLAT: dict[np.ufunc, Callable[..., Any]] = {
    np.divide: lambda x, y: np.isinf(y),
    np.reciprocal: lambda x: np.isinf(x),
    np.power: lambda x, y: np.isinf(x) & (y < 0),
    np.float_power: lambda x, y: np.isinf(x) & (y < 0),
    np.exp: lambda x: np.isinf(x) & (x < 0),
    np.exp2: lambda x: np.isinf(x) & (x < 0),
    np.expm1: lambda x: np.isinf(x) & (x < 0),
    np.tanh: lambda x: np.isinf(x),
    np.arctan: lambda x: np.isinf(x),
    np.arctan2: lambda y, x: np.isinf(y) | np.isinf(x),
    np.logaddexp: lambda x, y: (np.isneginf(x), np.isneginf(y)),
    np.logaddexp2: lambda x, y: (np.isneginf(x), np.isneginf(y)),
}

#: The real domain ends, and the formula goes on beyond it.
BOUNDED = frozenset({np.log, np.log2, np.log10, np.log1p, np.arccosh, np.arctanh})

ZERO: dict[np.ufunc, str] = dict.fromkeys(
    (np.floor, np.ceil, np.trunc, np.rint, np.floor_divide, np.spacing), "piecewise constant"
)

_COMPARISONS = (np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal)
_LOGIC = (np.logical_and, np.logical_or, np.logical_xor, np.logical_not)
_PROPERTIES = (np.isfinite, np.isinf, np.isnan, np.isnat, np.signbit)
_BITS = (np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert, np.left_shift, np.right_shift)
_INTEGERS = (np.gcd, np.lcm, np.bitwise_count)

NOT_NUMBERS: dict[np.ufunc, str] = {
    **dict.fromkeys((*_COMPARISONS, *_LOGIC, *_PROPERTIES), "its results are booleans"),
    **dict.fromkeys((*_BITS, *_INTEGERS), "defined for integers and booleans only"),
}

NOT_IMPLEMENTED: dict[np.ufunc, str] = {
    getattr(np, name): "np.matmul and np.einsum of NumPy arrays have one"
    for name in ("matmul", "vecdot", "matvec", "vecmat")
    if hasattr(np, name)
}


def _register() -> None:
    for ufunc, rows in PARTIALS.items():
        outputs = rows if isinstance(rows, list) else [rows]
        UFUNCS[ufunc] = tuple(
            Elementwise(ufunc, row, None if ufunc.nout == 1 else i, FLAT.get(ufunc), ufunc in BOUNDED)
            for i, row in enumerate(outputs)
        )
    for table in (ZERO, NOT_NUMBERS):
        for ufunc, reason in table.items():
            UFUNCS[ufunc] = (NonDifferentiable(ufunc.__name__, reason, ufunc),)
    for ufunc, reason in NOT_IMPLEMENTED.items():
        UFUNCS[ufunc] = (NoRule(ufunc, reason),)
    UFUNCS[np.conjugate] = (conjugate,)


_register()
