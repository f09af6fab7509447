"""Partials by the complex step: ``df/dx = Im f(x + i h) / h`` with a tiny ``h``.

There is no difference of nearby numbers, hence no cancellation: for an analytic ``f``
the error is ``O(h**2)``, below rounding for h = 1e-20 (1e-10 in single precision).
Source: W. Squire and G. Trapp, SIAM Review 40 (1998) 110.

It is right only where the complex loop continues the real function. Hence an
allow-list with, for each ufunc, the open real domain on which that holds; outside
it the formula serves. A ufunc that is in no table is stepped only after its complex
loop was seen to agree with the real one, value and slope, at the very points asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dak_diff.errors import ComplexStepError, NoRuleError
from dak_diff.rules.namespace import namespace
from dak_diff.rules.primitive import dtype_of

__all__ = ["ALLOWED", "complex_step_partial", "has_complex_loop", "parts", "step_size"]


def _everywhere(margin: float, *args: Any) -> bool:
    return True


def _nonzero_denominator(margin: float, x: Any, y: Any) -> Any:
    return abs(y) > margin


def _nonzero(margin: float, x: Any) -> Any:
    return abs(x) > margin


def _positive(margin: float, x: Any, *_: Any) -> Any:
    return x > margin


def _above_minus_one(margin: float, x: Any) -> Any:
    return x > margin - 1


def _inside_one(margin: float, x: Any) -> Any:
    return abs(x) < 1 - margin


def _above_one(margin: float, x: Any) -> Any:
    return x > 1 + margin


def _modest(margin: float, x: Any) -> Any:
    # Beyond, NumPy's complex loops overflow although the real function does not.
    return abs(x) < 350


#: ufunc -> the open real domain on which its complex loop continues it. The error of a
#: step h at distance d from a singularity is (h/d)**2, hence a margin.
ALLOWED: dict[np.ufunc, Callable[..., Any]] = {
    np.add: _everywhere,
    np.subtract: _everywhere,
    np.multiply: _everywhere,
    np.divide: _nonzero_denominator,
    np.negative: _everywhere,
    np.positive: _everywhere,
    np.square: _everywhere,
    np.reciprocal: _nonzero,
    np.exp: _everywhere,
    np.exp2: _everywhere,
    np.expm1: _everywhere,
    np.sin: _everywhere,
    np.cos: _everywhere,
    np.tan: _everywhere,
    np.arctan: _everywhere,
    np.sinh: _modest,
    np.cosh: _modest,
    np.tanh: _modest,
    np.arcsinh: _everywhere,
    np.log: _positive,
    np.log2: _positive,
    np.log10: _positive,
    np.sqrt: _positive,
    np.power: _positive,
    np.float_power: _positive,
    np.log1p: _above_minus_one,
    np.arcsin: _inside_one,
    np.arccos: _inside_one,
    np.arctanh: _inside_one,
    np.arccosh: _above_one,
}


def has_complex_loop(ufunc: np.ufunc) -> bool:
    """Whether the ufunc maps double-precision complex numbers to complex numbers."""
    complex_loop = "D" * ufunc.nin + "->" + "D" * ufunc.nout
    return complex_loop in ufunc.types


def complex_step_partial(ufunc: np.ufunc, args: tuple, i: int, out: Any, formula: Callable | None) -> Any:
    """Partial of a ufunc by its argument ``i``, at plain real arrays.

    Parameters
    ----------
    out : array
        The real result, for the check of ufuncs that are in no table.
    formula : callable, optional
        Serves outside the domain, and alone where the ufunc is not allowed.
    """
    complex_data = dtype_of(out).kind == "c"
    if formula is not None and (ufunc not in ALLOWED or complex_data):
        return formula(out, *args)
    if complex_data:
        raise ComplexStepError(
            f"no derivative formula for {ufunc.__name__}, and a complex step cannot differentiate "
            f"it at complex values (argument {i}). Give it a rule with dak_diff.custom_jvp."
        )
    xp = namespace(*args)
    single = dtype_of(args[i]) == np.float32
    step = step_size(single)
    margin, floor, ceiling = (1e-6, 1e-30, 1e20) if single else (1e-10, 1e-280, 1e100)
    stepped = ufunc(
        *args[:i], xp.asarray(args[i]) + xp.asarray(1j * step, dtype=_complex(args[i])), *args[i + 1 :]
    )
    partial = stepped.imag / step
    if formula is None:
        _check_continuation(ufunc, i, stepped.real, out)
        _check_slope(ufunc, args, i, out, partial)
        return partial
    # Below the floor the imaginary part has lost digits to underflow.
    inside = ALLOWED[ufunc](margin, *args) & (abs(stepped.imag) > floor) & (abs(args[i]) < ceiling)
    if bool(inside.all()):
        return partial
    return xp.where(inside, partial, formula(out, *args))


def _complex(x: Any) -> np.dtype:
    return np.dtype(np.complex64 if dtype_of(x) == np.float32 else np.complex128)


def step_size(single: bool) -> float:
    """So small that its square is lost in rounding, and not lost itself."""
    return 1e-10 if single else 1e-20


def parts(stepped: Any, out: Any, single: bool) -> Any:
    """Where the real part of what complex numbers gave is not what the real ones gave."""
    return ~namespace(out).isclose(stepped, out, rtol=1e-4 if single else 1e-9, atol=0, equal_nan=True)


def _check_continuation(ufunc: np.ufunc, i: int, stepped: Any, out: Any) -> None:
    """Refuse a complex loop that does not continue the real function where it is evaluated."""
    parted = parts(stepped, out, dtype_of(out) == np.float32)
    if bool(parted.any()):
        raise _refused(ufunc, i, "does not continue the real function", parted)


def _check_slope(ufunc: np.ufunc, args: tuple, i: int, out: Any, partial: Any) -> None:
    """Refuse a complex loop that loses the derivative, as ``abs`` does, by a difference quotient.

    No conclusion is drawn where the real function is not smooth, or too noisy, on the scale of the step.
    """
    xp = namespace(out)
    x = xp.asarray(args[i])
    eps = float(max(np.finfo(dtype_of(out)).eps, np.finfo(x.dtype).eps))
    h = eps ** (1 / 3) * xp.where(x == 0, xp.ones((), dtype=x.dtype), abs(x))
    right, left = ((ufunc(*args[:i], x + s * h, *args[i + 1 :]) - out) / h * s for s in (1, -1))
    slope = (right + left) / 2
    doubt = 1e-3 * (abs(partial) + abs(slope)) + abs(right - left) + 100 * eps * abs(out) / h
    lost = abs(partial - slope) > doubt
    if bool(lost.any()):
        raise _refused(ufunc, i, "loses the derivative", lost)


def _refused(ufunc: np.ufunc, i: int, what: str, where: Any) -> NoRuleError:
    return NoRuleError(
        f"no derivative formula for {ufunc.__name__} (argument {i}), and its complex loop {what} "
        f"at {int(where.sum())} of the points asked for. Give it a rule with dak_diff.custom_jvp."
    )
