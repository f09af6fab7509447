"""The kind *elementwise*: the author writes one partial per argument.

For ``y = f(x_1, ..., x_n)`` taken element by element, ``y_dot = sum_i p_i x_dot_i``
and ``x_bar_i = conj(p_i) y_bar`` with ``p_i = df/dx_i``, a function of the result and
the arguments. The engine undoes broadcasting, so rules never mention shapes.

A zero tangent is a true zero: ``p_i x_dot_i`` is 0 where ``x_dot_i`` is 0 even if
``p_i`` is infinite or NaN (see :data:`scale`). So a branch that ``where`` did not take,
or a square root of an empty sum, never poisons a derivative. Likewise a function with a
horizontal asymptote is constant at infinity (``1 / (1 + exp(-x))`` past overflow): there,
and only there, a partial of 0 wins over an infinite tangent.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from dak_diff.errors import NoRuleError
from dak_diff.rules.complex_step import complex_step_partial, has_complex_loop
from dak_diff.rules.namespace import atomic, namespace
from dak_diff.rules.numba_ufuncs import compile_complex_loop, compiles_on_demand, is_of_numba
from dak_diff.rules.primitive import (
    UFUNCS,
    NonDifferentiable,
    Primitive,
    Traced,
    dtype_of,
    raw,
)
from dak_diff.rules.special import BOUNDED, FLAT, partials_of
from dak_diff.rules.structure import conjugated, where

__all__ = ["Elementwise", "NoRule", "pulled", "scale"]

Partial = Callable[..., Any] | float


class Scale(Primitive):
    """``p * t``, but 0 wherever ``t`` is 0, and with ``mutual`` wherever ``p`` is; a boolean ``p`` selects.

    y_dot = p_dot t + p t_dot; x_bar likewise. No kink. Used for every partial.
    """

    name = "scale"
    kind = "custom"

    @atomic
    def impl(self, p: Any, t: Any, *, mutual: bool = False) -> Any:
        xp = namespace(p, t)
        if getattr(p, "dtype", None) == np.bool_:
            return xp.where(p, t, xp.zeros((), dtype=t.dtype))[()] if hasattr(t, "dtype") else p * t
        with np.errstate(all="ignore"):
            product = p * t
            # One cheap sum tells whether any element can be 0 * inf or 0 * nan.
            if not _all_finite(product):
                zero = (t == 0) | (p == 0) if mutual else t == 0
                product = xp.where(zero, xp.zeros((), dtype=dtype_of(product)), product)[()]
        return product

    def residuals(self, out: Any, args: tuple, params: dict, active: tuple, method: str) -> tuple:
        p, t = args
        held = params.get("mutual", False) and not _all_finite(t)
        return (p, t, raw(p) == 0 if held else None)

    def push(self, residuals: tuple, tangents: tuple) -> Any:
        (p, t, zero), (p_dot, t_dot) = residuals, tangents
        if p_dot is None:
            y_dot = self(p, t_dot)
        elif t_dot is None:
            y_dot = self(t, p_dot)
        else:
            y_dot = self(t, p_dot) + self(p, t_dot)
        return y_dot if zero is None else where(zero, 0.0, y_dot)

    def pull(self, residuals: tuple, cotangent: Any, active: tuple[bool, ...]) -> tuple:
        p, t, zero = residuals
        cotangent = cotangent if zero is None else where(zero, 0.0, cotangent)
        return (
            self(np.conjugate(t), cotangent) if active[0] else None,
            self(conjugated(p), cotangent) if active[1] else None,
        )


scale = Scale()


class Elementwise(Primitive):
    """A ufunc (or one output of it) given by its partials.

    Parameters
    ----------
    ufunc : numpy.ufunc
        Evaluated as it is, so the primal is the user's value bit for bit.
    partials : tuple of callable or float, or None
        ``p_i(out, *args)``, a constant, or 0 where the argument has no influence.
        None: no formula, the complex step serves.
    output : int, optional
        Which output of a ufunc that has several.
    flat : callable, optional
        ``flat(*args)``: where an argument is infinite and the result constant, or a tuple of that: where it
        is constant in each argument.
    bounded : bool
        The real domain ends, and the formula goes on beyond it.
    """

    kind = "elementwise"

    def __init__(
        self,
        ufunc: np.ufunc,
        partials: tuple[Partial, ...] | None,
        output: int | None = None,
        flat: Callable[..., Any] | None = None,
        bounded: bool = False,
    ):
        self.ufunc, self.partials, self.output, self.flat = ufunc, partials, output, flat
        self.bounded = bounded
        self.name = ufunc.__name__ if output is None else f"{ufunc.__name__}[{output}]"

    def __reduce__(self) -> tuple:
        return (_of_ufunc, (self.ufunc, self.output or 0))

    def impl(self, *args: Any, call: Callable | None = None) -> Any:
        out = (call or self.ufunc)(*args)
        return out if self.output is None else out[self.output]

    def residuals(self, out: Any, args: tuple, params: dict, active: tuple, method: str) -> tuple:
        with np.errstate(all="ignore"):
            partials = tuple(
                self._partial(i, out, args, method) if active[i] else None for i in range(len(args))
            )
            flat = None
            if self.flat is not None and any(_is_doubtful(p) for p in partials if p is not None):
                flat = self.flat(*map(raw, args))
        return (partials, flat)

    def _partial(self, i: int, out: Any, args: tuple, method: str) -> Any:
        formula = None if self.partials is None else self.partials[i]
        if isinstance(formula, (int, float)):
            return formula
        nested = any(isinstance(arg, Traced) for arg in args)
        if method != "dual" and not nested and (formula is None or method == "complex-step"):
            bounded = None if formula is None else partial(self._within_domain, formula)
            if compiles_on_demand(self.ufunc):
                compile_complex_loop(self.ufunc, i)
            return complex_step_partial(self.ufunc, args, i, out, bounded)
        if formula is None:
            raise NoRuleError(
                f"no derivative formula for {self.name} (argument {i}), and a complex step "
                + ("serves first derivatives only." if nested else "needs method='auto'.")
            )
        return self._within_domain(formula, out, *args)

    def _within_domain(self, formula: Callable, out: Any, *args: Any) -> Any:
        """The formula; outside the real domain the value is nan, and so is its derivative."""
        value = formula(out, *args)
        if self.bounded and not _all_finite(out):
            return where(np.isnan(raw(out)), np.nan, value)
        return value

    def push(self, residuals: tuple, tangents: tuple) -> Any:
        partials, flat = residuals
        total = None
        for i, (p, tangent) in enumerate(zip(partials, tangents, strict=True)):
            if tangent is None or _is_zero(p):
                continue
            term = _times(p, _unless_flat(flat, i, tangent))
            total = term if total is None else total + term
        return total

    def pull(self, residuals: tuple, cotangent: Any, active: tuple[bool, ...]) -> tuple:
        partials, flat = residuals
        return tuple(
            pulled(conjugated(p), _unless_flat(flat, i, cotangent)) if on and not _is_zero(p) else None
            for i, (p, on) in enumerate(zip(partials, active, strict=True))
        )


def _unless_flat(flat: Any, i: int, derivative: Any) -> Any:
    """A derivative on its way through argument i, zero where the function is constant."""
    here = flat[i] if isinstance(flat, tuple) else flat
    return derivative if here is None else where(here, 0.0, derivative)


def _of_ufunc(ufunc: np.ufunc, output: int) -> Primitive:
    return UFUNCS[ufunc][output]


def _is_doubtful(partial: Any) -> bool:
    """Whether some element is zero or not finite: there an asymptote may be the reason."""
    values = raw(partial)
    return hasattr(values, "all") and not (values.all() and _all_finite(values))


def _is_zero(partial: Any) -> bool:
    # Not of a number of NumPy, which is 0 at this point alone: there, as in arrays, 0 * inf is nan.
    return type(partial) in (int, float) and partial == 0


def _times(partial: Any, tangent: Any, mutual: bool = False) -> Any:
    if isinstance(partial, (int, float)):
        if partial == 1:
            return tangent
        if partial == -1:
            return -tangent
    return scale(partial, tangent, mutual=mutual)


def pulled(partial: Any, cotangent: Any) -> Any:
    """A partial of zero gives zero also to an infinite cotangent, as forward mode has it.

    There the tangent is zero before it meets the infinite partial: sqrt of a sum of squares.
    """
    return _times(partial, cotangent, mutual=True)


def _all_finite(x: Any) -> bool:
    with np.errstate(all="ignore"):
        return bool(np.isfinite(raw(x).sum() if np.ndim(raw(x)) else raw(x)))


def unknown_ufunc(ufunc: np.ufunc) -> tuple[Primitive, ...]:
    """A ufunc outside NumPy: by its formula if it is one of ``scipy.special``'s, else by the complex step.

    Where it has no complex loop either: an error when used.
    """
    partials = partials_of(ufunc)
    if partials is not None:
        name = ufunc.__name__
        return (Elementwise(ufunc, partials, flat=FLAT.get(name), bounded=name in BOUNDED),)
    if compiles_on_demand(ufunc):
        # No loop says yet what its results are; the rule is asked only if they are floating-point numbers.
        return (Elementwise(ufunc, None),)
    if ufunc.types and all(not set(loop.split("->")[1]) & set("efdgFDGO") for loop in ufunc.types):
        reason = "its results are no floating-point numbers"
        return tuple(NonDifferentiable(ufunc.__name__, reason, ufunc) for _ in range(ufunc.nout))
    if ufunc.signature is not None or ufunc.nout != 1:
        return (NoRule(ufunc),)
    if not has_complex_loop(ufunc):
        return (NoRule(ufunc, _NO_SIGNATURE) if is_of_numba(ufunc) else NoRule(ufunc),)
    return (Elementwise(ufunc, None),)


_NO_SIGNATURE = (
    "its signatures have no complex numbers. Give numba.vectorize complex128 after float64, or no signatures"
)


class NoRule(Primitive):
    """A ufunc that has neither a formula nor a complex loop: refused when something needs it."""

    kind = "not implemented"

    def __init__(self, ufunc: np.ufunc, reason: str = "it has no formula and no complex loop"):
        self.ufunc, self.name, self.reason = ufunc, ufunc.__name__, reason

    def impl(self, *args: Any, call: Callable | None = None) -> Any:
        return (call or self.ufunc)(*args)

    def residuals(self, out: Any, args: tuple, params: dict, active: tuple, method: str) -> tuple:
        raise NoRuleError(
            f"no derivative rule for {self.name} (argument {active.index(True)}): {self.reason}. "
            f"Write the expression with operations of the documented map, or keep what depends "
            f"on wrt out of it."
        )

    push = pull = residuals  # type: ignore[assignment]


UFUNCS.factory = unknown_ufunc
