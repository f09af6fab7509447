"""Partials of the ufuncs of ``scipy.special`` that densities and likelihoods are made of.

SciPy is never imported here: who holds one of its ufuncs has imported it, and then the table
is found through ``sys.modules``. Every partial is written with ufuncs, so it is differentiated
through the same tables, to any order.

Values at edges and kinks:

- ``xlogy(x, y)`` by ``y`` is ``x / y``, and 0 at ``x = y = 0``, where the function is constant in
  ``y``; by ``x`` it is ``log(y)``: ``-inf`` at ``y = 0``, ``nan`` below. ``xlog1py`` likewise.
- ``logit`` at 0 and 1, ``erfinv`` at -1 and 1, ``erfcinv`` at 0 and 2, ``ndtri`` at 0 and 1:
  ``inf`` (``-inf`` for ``erfcinv``); outside that interval ``nan``, as the value.
- ``gammaln``, ``gamma``, ``psi`` at 0, -1, -2, ...: what SciPy says of ``psi`` and of the zeta function
  there, which is infinite or ``nan``.
- ``i0e``, ``i1e``, ``ive`` have a kink at 0: the mean of both sides, 0 for ``i0e`` and 1/2 for ``i1e``.
- Where a function is constant at infinity (``erf``, ``expit``, ``ndtr``, ...) its derivative is 0.

Refused: ``iv``, ``ive`` and ``zeta`` by their order.

Sources: Abramowitz and Stegun, chapters 6, 7 and 9, and the NIST Digital Library of Mathematical
Functions (DLMF); single formulas are cited where they stand.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from dak_diff.errors import NoRuleError
from dak_diff.rules.primitive import raw
from dak_diff.rules.structure import where

__all__ = ["BOUNDED", "FLAT", "partials_of"]

_2_SQRTPI = 2 / math.sqrt(math.pi)
_SQRT2PI = math.sqrt(2 * math.pi)
_FAR = 4.0

#: Where an argument is infinite and the function constant: its horizontal asymptotes.
FLAT: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("erf", "erfc", "expit", "ndtr"), np.isinf),
    **dict.fromkeys(("erfcx", "log_ndtr", "log_expit"), np.isposinf),
    **dict.fromkeys(("expm1", "exp2", "exp10"), np.isneginf),
    **dict.fromkeys(("i0e", "i1e", "ive"), lambda *args: np.isinf(args[-1])),
}

#: The real domain ends, and the formula goes on beyond it.
BOUNDED = frozenset({"logit", "log1p"})


def partials_of(ufunc: np.ufunc) -> tuple[Callable[..., Any], ...] | None:
    """The partials of a ufunc of ``scipy.special``; None for any other and for one without formulas."""
    special = sys.modules.get("scipy.special")
    # zeta is a function around a ufunc that is not public.
    homes = (special, sys.modules.get("scipy.special._ufuncs"))
    if special is None or all(getattr(home, ufunc.__name__, None) is not ufunc for home in homes):
        return None
    return _table(special).get(ufunc.__name__)


@cache
def _table(sp: ModuleType) -> dict[str, tuple[Callable[..., Any], ...]]:
    """Name of a ufunc -> its partials, functions of (result, arguments)."""
    return {
        # the error function and its inverses
        "erf": (lambda out, x: _2_SQRTPI * np.exp(-x * x),),
        "erfc": (lambda out, x: -_2_SQRTPI * np.exp(-x * x),),
        "erfcx": (_erfcx,),
        "erfinv": (lambda out, x: np.exp(out * out) / _2_SQRTPI,),
        "erfcinv": (lambda out, x: -np.exp(out * out) / _2_SQRTPI,),
        # the normal distribution
        "ndtr": (lambda out, x: np.exp(-0.5 * x * x) / _SQRT2PI,),
        "log_ndtr": (lambda out, x: _inverse_mills_ratio(sp, out, x),),
        "ndtri": (lambda out, x: _SQRT2PI * np.exp(0.5 * out * out),),
        # the logistic function: 1 - expit(x) has no digits left at large x, expit(-x) has
        "expit": (lambda out, x: out * sp.expit(-x),),
        "logit": (lambda out, x: 1 / (x * (1 - x)),),
        "log_expit": (lambda out, x: sp.expit(-x),),
        # the gamma function
        "gamma": (lambda out, x: out * sp.psi(x),),
        "gammaln": (lambda out, x: sp.psi(x),),
        "psi": (lambda out, x: sp.zeta(2.0, x),),
        "_zeta": (_by_order("zeta"), lambda out, s, q: -s * sp.zeta(s + 1.0, q)),
        # logarithms with a factor that may be zero
        "xlogy": (lambda out, x, y: np.log(y), lambda out, x, y: _zero_over_zero(x, y)),
        "xlog1py": (lambda out, x, y: np.log1p(y), lambda out, x, y: _zero_over_zero(x, 1 + y)),
        # modified Bessel functions, DLMF 10.29.1: no quotient by x, which may be 0
        "i0": (lambda out, x: sp.i1(x),),
        "i1": (lambda out, x: 0.5 * (sp.i0(x) + sp.iv(2.0, x)),),
        "iv": (_by_order("iv"), lambda out, v, x: 0.5 * (sp.iv(v - 1.0, x) + sp.iv(v + 1.0, x))),
        "i0e": (lambda out, x: _scaled_bessel(sp, out, 0.0, x),),
        "i1e": (lambda out, x: _scaled_bessel(sp, out, 1.0, x),),
        "ive": (_by_order("ive"), lambda out, v, x: _scaled_bessel(sp, out, v, x)),
        # what NumPy has under the same name
        "expm1": (lambda out, x: np.exp(x),),
        "log1p": (lambda out, x: 1 / (1 + x),),
        "exp2": (lambda out, x: out * math.log(2),),
        "exp10": (lambda out, x: out * math.log(10),),
        "cbrt": (lambda out, x: 1 / (3 * np.square(out)),),
    }


def _by_order(name: str) -> Callable[..., Any]:
    """Refused: no closed form."""

    def refuse(*_: Any) -> Any:
        raise NoRuleError(
            f"no derivative rule for {name} (argument 0): its derivative by the order has no closed form. "
            f"Keep what depends on wrt out of the order."
        )

    return refuse


def _zero_over_zero(x: Any, y: Any) -> Any:
    """``x / y``, but 0 where both are: ``0 log(y)`` is constant."""
    both = (raw(x) == 0) & (raw(y) == 0)
    return where(both, 0.0, x / where(both, 1.0, y))


def _inverse_mills_ratio(sp: ModuleType, out: Any, x: Any) -> Any:
    """Density over distribution of the normal distribution, which both underflow in the far left tail.

    There it is ``sqrt(2) (y + k(y))`` with ``y = -x / sqrt(2)``, see :func:`_fraction`; up to 0 it comes
    from ``erfcx(y)``, and on the right from the logarithms.
    """
    y = x * -math.sqrt(0.5)
    far, right = raw(y) > _FAR, raw(x) > 0
    tail = where(far, y, _FAR)
    middle = 2 / (_SQRT2PI * sp.erfcx(where(far | right, 0.0, y)))
    square = where(right, 0.5 * x * x, 0.0)
    ratio = where(right, np.exp(-square - where(right, out, 0.0)) / _SQRT2PI, middle)
    return where(far, math.sqrt(2) * (tail + _fraction(tail)), ratio)


def _erfcx(out: Any, x: Any) -> Any:
    """``2 x erfcx(x) - 2/sqrt(pi)``, whose terms cancel at large x: there ``-2 k(x) erfcx(x)``."""
    far = raw(x) > _FAR
    near = 2 * where(far, 0.0, x) * where(far, 1.0, out) - _2_SQRTPI
    return where(far, -2 * _fraction(where(far, x, _FAR)) * out, near)


def _fraction(x: Any) -> Any:
    """``k(x)`` in ``erfcx(x) = 1 / (sqrt(pi) (x + k(x)))``, a continued fraction (DLMF 7.9.3).

    ``k = (1/2) / (x + (2/2) / (x + (3/2) / (x + ...)))``: exact to rounding from :data:`_FAR` on.
    """
    k: Any = 0.0
    for n in range(30, 0, -1):
        k = 0.5 * n / (x + k)
    return k


def _scaled_bessel(sp: ModuleType, out: Any, v: Any, x: Any) -> Any:
    """Derivative of ``exp(-abs(x)) I_v(x)``, whose terms cancel at large x: there by Hankel's expansion.

    ``exp(-x) I_v(x) = sum_k a_k x^(-k - 1/2) / sqrt(2 pi)`` (DLMF 10.40.1); the derivative is taken term
    by term and divided by the sum. Thirty terms are exact to rounding beyond 25, if v is not large.
    """
    sign = np.sign(raw(x))
    far = abs(raw(x)) > np.maximum(25.0, np.square(raw(v)))
    y = 1 / where(far, sign * x, 25.0)
    power: Any = 1.0
    total: Any = 0.0
    slope: Any = 0.0
    for k in range(30):
        total = total + power
        slope = slope + (k + 0.5) * power
        power = power * y * ((2 * k + 1) ** 2 - 4 * np.square(raw(v))) / (8 * (k + 1))
    near = 0.5 * (sp.ive(v - 1.0, x) + sp.ive(v + 1.0, x)) - sign * out
    return where(far, -sign * y * slope / total * out, near)
