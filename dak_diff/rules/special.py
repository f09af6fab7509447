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

Refused: Bessel functions and ``zeta`` by their order, distributions by their shape (``gammainc`` by ``a``).

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
from dak_diff.rules.structure import imag, real, where

__all__ = ["BOUNDED", "FLAT", "partials_of"]

_2_SQRTPI = 2 / math.sqrt(math.pi)
_SQRT2PI = math.sqrt(2 * math.pi)
_FAR = 4.0
_OUT = 6.0

#: Where an argument is infinite and the function constant: its horizontal asymptotes.
FLAT: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("erf", "erfc", "expit", "ndtr"), np.isinf),
    **dict.fromkeys(("erfcx", "log_ndtr", "log_expit"), np.isposinf),
    **dict.fromkeys(("expm1", "exp2", "exp10"), np.isneginf),
    **dict.fromkeys(("i0e", "i1e", "ive"), lambda *args: np.isinf(args[-1])),
}

#: The real domain ends, and the formula goes on beyond it.
BOUNDED = frozenset({"logit", "log1p"})


def partials_of(ufunc: np.ufunc) -> tuple[Callable[..., Any] | float, ...] | None:
    """The partials of a ufunc of ``scipy.special``; None for any other and for one without formulas."""
    special = sys.modules.get("scipy.special")
    # zeta is a function around a ufunc that is not public.
    homes = (special, sys.modules.get("scipy.special._ufuncs"))
    if special is None or all(getattr(home, ufunc.__name__, None) is not ufunc for home in homes):
        return None
    return _table(special).get(ufunc.__name__)


@cache
def _table(sp: ModuleType) -> dict[str, tuple[Callable[..., Any] | float, ...]]:
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
        "loggamma": (lambda out, x: sp.psi(x),),
        "rgamma": (lambda out, x: -out * sp.psi(x),),
        "betaln": (lambda out, a, b: sp.psi(a) - sp.psi(a + b), lambda out, a, b: sp.psi(b) - sp.psi(a + b)),
        "beta": (
            lambda out, a, b: out * (sp.psi(a) - sp.psi(a + b)),
            lambda out, a, b: out * (sp.psi(b) - sp.psi(a + b)),
        ),
        "_zeta": (_by_order("zeta"), lambda out, s, q: -s * sp.zeta(s + 1.0, q)),
        # distributions by their argument: the density
        "gammainc": (_by_shape("gammainc"), lambda out, a, x: _gamma_density(sp, a, x)),
        "gammaincc": (_by_shape("gammaincc"), lambda out, a, x: -_gamma_density(sp, a, x)),
        "chdtr": (_by_shape("chdtr"), lambda out, v, x: 0.5 * _gamma_density(sp, 0.5 * v, 0.5 * x)),
        "chdtrc": (_by_shape("chdtrc"), lambda out, v, x: -0.5 * _gamma_density(sp, 0.5 * v, 0.5 * x)),
        "pdtr": (0.0, lambda out, k, m: -_gamma_density(sp, np.floor(raw(k)) + 1.0, m)),
        "pdtrc": (0.0, lambda out, k, m: _gamma_density(sp, np.floor(raw(k)) + 1.0, m)),
        "betainc": (*[_by_shape("betainc")] * 2, lambda out, a, b, x: _beta_density(sp, a, b, x)),
        "betaincc": (*[_by_shape("betaincc")] * 2, lambda out, a, b, x: -_beta_density(sp, a, b, x)),
        "stdtr": (_by_shape("stdtr"), lambda out, v, x: _student_density(sp, v, x)),
        # relative entropies
        "entr": (lambda out, x: -np.log(x) - 1.0,),
        "rel_entr": (lambda out, x, y: _log_of_ratio(x, y) + 1.0, lambda out, x, y: -_zero_over_zero(x, y)),
        "kl_div": (lambda out, x, y: _log_of_ratio(x, y), lambda out, x, y: 1.0 - _zero_over_zero(x, y)),
        # resonances: DLMF 7.10.2
        "wofz": (lambda out, z: _faddeeva(out, z)[0],),
        "voigt_profile": (
            lambda out, x, s, g: _voigt(sp, x, s, g)[0],
            lambda out, x, s, g: _voigt(sp, x, s, g)[1],
            lambda out, x, s, g: _voigt(sp, x, s, g)[2],
        ),
        # logarithms with a factor that may be zero
        "xlogy": (lambda out, x, y: np.log(y), lambda out, x, y: _zero_over_zero(x, y)),
        "xlog1py": (lambda out, x, y: np.log1p(y), lambda out, x, y: _zero_over_zero(x, 1 + y)),
        # Bessel functions, DLMF 10.6.1 and 10.29.1: no quotient by x, which may be 0
        "i0": (lambda out, x: sp.i1(x),),
        "i1": (lambda out, x: 0.5 * (sp.i0(x) + sp.iv(2.0, x)),),
        "iv": (_by_order("iv"), lambda out, v, x: 0.5 * (sp.iv(v - 1.0, x) + sp.iv(v + 1.0, x))),
        "j0": (lambda out, x: -sp.j1(x),),
        "j1": (lambda out, x: 0.5 * (sp.j0(x) - sp.jv(2.0, x)),),
        "jv": (_by_order("jv"), lambda out, v, x: 0.5 * (sp.jv(v - 1.0, x) - sp.jv(v + 1.0, x))),
        "y0": (lambda out, x: -sp.y1(x),),
        "y1": (lambda out, x: 0.5 * (sp.y0(x) - sp.yv(2.0, x)),),
        "yv": (_by_order("yv"), lambda out, v, x: 0.5 * (sp.yv(v - 1.0, x) - sp.yv(v + 1.0, x))),
        "k0": (lambda out, x: -sp.k1(x),),
        "k1": (lambda out, x: -0.5 * (sp.k0(x) + sp.kv(2.0, x)),),
        "kv": (_by_order("kv"), lambda out, v, x: -0.5 * (sp.kv(v - 1.0, x) + sp.kv(v + 1.0, x))),
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


def _refusing(words: str) -> Callable[..., Any]:
    def refuse(*_: Any) -> Any:
        raise NoRuleError(words)

    return refuse


def _by_order(name: str) -> Callable[..., Any]:
    """Refused: no closed form."""
    return _refusing(
        f"no derivative rule for {name} (argument 0): its derivative by the order has no closed form. "
        f"Keep what depends on wrt out of the order."
    )


def _by_shape(name: str) -> Callable[..., Any]:
    """Refused: no closed form."""
    return _refusing(
        f"no derivative rule for {name} but by its last argument: by its shape there is no closed form. "
        "Keep what depends on wrt out of the shape."
    )


def _gamma_density(sp: ModuleType, a: Any, x: Any) -> Any:
    return np.exp(sp.xlogy(a - 1.0, x) - x - sp.gammaln(a))


def _beta_density(sp: ModuleType, a: Any, b: Any, x: Any) -> Any:
    return np.exp(sp.xlogy(a - 1.0, x) + sp.xlog1py(b - 1.0, -x) - sp.betaln(a, b))


def _student_density(sp: ModuleType, v: Any, x: Any) -> Any:
    half = 0.5 * (v + 1.0)
    norm = sp.gammaln(half) - sp.gammaln(0.5 * v) - 0.5 * np.log(math.pi * v)
    return np.exp(norm - half * np.log1p(x * x / v))


def _faddeeva(out: Any, z: Any) -> tuple[Any, Any]:
    """Derivatives of ``w(z)`` and of ``z w(z)``; far out in the upper half plane terms cancel.

    There they come from ``w(z) = i/sqrt(pi) sum_k c_k z^(-2k - 1)`` (DLMF 7.12.1), of which 36 terms are
    exact to rounding beyond 6. Its real part vanishes on the real axis, where it is ``exp(-z^2)``.
    """
    slope = -2.0 * z * out + 1j * _2_SQRTPI
    whole = out + z * slope
    far = (abs(raw(z)) > _OUT) & (raw(z).imag >= 0)
    if not far.any():
        return slope, whole
    y = 1.0 / where(far, z, _OUT)
    square, term = y * y, y
    by_w: Any = 0.0
    by_zw: Any = 0.0
    for k in range(36):
        by_w = by_w - (2 * k + 1) * term * y
        by_zw = by_zw - 2 * k * term
        term = term * square * ((2 * k + 1) / 2)
    real_axis = far & (abs(raw(z).imag) < 0.1)
    near = where(real_axis, z, _OUT)
    gauss = where(real_axis, np.exp(-near * near), 0.0)
    factor = 0.5j * _2_SQRTPI
    slope = where(far, factor * by_w - 2.0 * near * gauss, slope)
    return slope, where(far, factor * by_zw + (1.0 - 2.0 * near * near) * gauss, whole)


def _voigt(sp: ModuleType, x: Any, sigma: Any, gamma: Any) -> tuple[Any, Any, Any]:
    """``Re w(z) / (sigma sqrt(2 pi))`` with ``z = (x + i gamma) / (sigma sqrt(2))``, by all three."""
    z = (x + 1j * gamma) / (math.sqrt(2) * sigma)
    slope, whole = _faddeeva(sp.wofz(z), z)
    by_x = slope / (math.sqrt(2) * _SQRT2PI * sigma * sigma)
    return real(by_x), -real(whole) / (_SQRT2PI * sigma * sigma), -imag(by_x)


def _zero_over_zero(x: Any, y: Any) -> Any:
    """``x / y``, but 0 where both are: ``0 log(y)`` is constant."""
    both = (raw(x) == 0) & (raw(y) == 0)
    return where(both, 0.0, x / where(both, 1.0, y))


def _log_of_ratio(x: Any, y: Any) -> Any:
    """``log(x / y)``; at ``x = 0`` still with the slope by ``y`` that it has elsewhere."""
    zero = raw(x) == 0
    return np.log(where(zero, 1.0, x / y)) + where(zero, np.log(x) - np.log(y), 0.0)


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
