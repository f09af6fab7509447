"""Whole functions by the complex step, opt-in: compiled code and other functions that cannot be seen into.

``f(x + i h x_dot) = f(x) + i h J x_dot`` to rounding, if ``f`` is analytic and every operation in it
continues to complex numbers. That is for the user to say; what can be checked is checked.
Source: W. Squire and G. Trapp, SIAM Review 40 (1998) 110.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dak_diff.engine.custom import Call, Rule, RuledFunction, float_leaves, vector
from dak_diff.engine.values import settled
from dak_diff.errors import ComplexStepError, NoRuleError, StructureError
from dak_diff.rules.complex_step import parts, step_size
from dak_diff.rules.namespace import namespace
from dak_diff.rules.primitive import Traced, dtype_of

__all__ = ["ComplexStep", "complex_step"]


class _StepRule(Rule):
    """y_dot = Im f(x + i h x_dot) / h; no transpose."""

    def impl(self, *leaves: Any, call: Call) -> Any:
        # First on real numbers: what numba compiles for complex ones must not be taken for these.
        call.out = settled(self.function.fn(*call.arguments(leaves)))
        return vector(float_leaves(call.out))

    def residuals(self, out: Any, args: tuple, params: dict, active: tuple, method: str) -> tuple:
        if any(isinstance(arg, Traced) for arg in args) or any(dtype_of(arg).kind == "c" for arg in args):
            raise ComplexStepError(
                f"complex_step({self.name}) gives first derivatives by real numbers only. For more, give "
                f"{self.name} a rule with dak_diff.custom_jvp."
            )
        return (params["call"], args)

    def push(self, residuals: tuple, tangents: tuple) -> Any:
        call, leaves = residuals
        single = any(dtype_of(leaf) == np.float32 for leaf in leaves)
        step, dtype = step_size(single), np.complex64 if single else np.complex128
        stepped = self._stepped(
            call.arguments(tuple(_moved(x, t, step, dtype) for x, t in zip(leaves, tangents, strict=True)))
        )
        real, moved = float_leaves(call.out), float_leaves(stepped)
        if real.keys() != moved.keys() or any(np.shape(real[i]) != np.shape(moved[i]) for i in real):
            raise StructureError(
                f"{self.name!r} gives another structure for complex numbers than for real ones"
            )
        for i, leaf in moved.items():
            self._check(real[i], leaf, single)
        return vector({i: leaf.imag / step for i, leaf in moved.items()})

    def _stepped(self, args: tuple) -> Any:
        try:
            return settled(self.function.fn(*args))
        except Exception as error:
            reason = (str(error).strip().splitlines() or [""])[0]
            raise ComplexStepError(
                f"{self.name!r} does not take complex numbers, so it has no complex step: "
                f"{type(error).__name__}: {reason}. Comparisons, functions of math instead of NumPy, and "
                "real arrays that are filled are usual causes. Compare real parts, or give it a rule with "
                "dak_diff.custom_jvp."
            ) from error

    def _check(self, real: Any, stepped: Any, single: bool) -> None:
        if dtype_of(stepped).kind != "c":
            raise ComplexStepError(
                f"{self.name!r} gives real numbers for complex ones: its derivative is lost inside, as abs, "
                f"float and real arrays lose it. Give {self.name} a rule with dak_diff.custom_jvp."
            )
        parted = parts(stepped.real, real, single)
        if bool(parted.any()):
            raise ComplexStepError(
                f"{self.name!r} takes another path for complex numbers than for real ones, at "
                f"{int(parted.sum())} places. Comparisons of complex numbers are usual causes: compare real "
                "parts."
            )

    def pull(self, residuals: tuple, cotangent: Any, active: tuple[bool, ...]) -> tuple:
        raise NoRuleError(
            f"no reverse rule for complex_step({self.name}): the complex step goes forward. Use jvp, or give "
            f"{self.name} a rule with dak_diff.custom_vjp or dak_diff.custom_jvp."
        )


def _moved(x: Any, tangent: Any, step: float, dtype: Any) -> Any:
    xp = namespace(x)
    x = xp.asarray(x).astype(dtype)
    return x if tangent is None else x + xp.asarray(1j * step, dtype=dtype) * tangent


class ComplexStep(RuledFunction):
    """What :func:`complex_step` makes of a function."""

    _primitive = _StepRule


def complex_step(fn: Callable) -> ComplexStep:
    """Differentiate a whole function by the complex step, forwards: compiled code, opaque kernels.

    Parameters
    ----------
    fn : callable
        A function of arrays that is analytic and takes complex numbers: ``@numba.njit`` over ``ak.Array``
        in ``dak.map_partitions``, for one. It must not compare complex numbers, nor use ``abs``.

    Returns
    -------
    ComplexStep
        The function. Differentiated forwards it is called on the real arrays, for the value, and once a
        direction on complex ones.

    Raises
    ------
    ComplexStepError
        When it is differentiated: if it does not take complex numbers, gives real numbers for them (the
        derivative was lost inside), or takes another path; for second derivatives.
    NoRuleError
        In reverse mode: say how with :func:`~dak_diff.custom_vjp` or :func:`~dak_diff.custom_jvp`.

    Notes
    -----
    Structure: ``n * var * float64 -> n * var * float64``, or any other. Exact to rounding: h = 1e-20 (1e-10
    in single precision) cancels nothing. Units: of the value per unit of seed. That ``abs`` of some part is
    dropped inside a sum cannot be seen: ``dak_diff.testing.check_grads`` finds it.

    References
    ----------
    .. [1] Squire and Trapp, *Using complex variables to estimate derivatives of real functions*,
       SIAM Review 40 (1998) 110.

    Examples
    --------
    >>> import awkward as ak, numpy as np, dak_diff
    >>> @dak_diff.complex_step
    ... def opaque(x):
    ...     return ak.Array(np.asarray(ak.flatten(x)) ** 2)
    >>> dak_diff.eager.jvp(opaque, (ak.Array([[1.0, 2.0], [4.0]]),))[1].to_list()
    [2.0, 4.0, 8.0]
    """
    return ComplexStep(fn)
