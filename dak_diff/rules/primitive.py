"""What a primitive is, and how a call finds the algebra that must handle it.

A *primitive* is an operation on flat arrays. Its rule is a linear map, held as
data (so that it pickles): ``residuals`` are computed once from the primal, then
``push`` carries a tangent forward and ``pull`` carries a cotangent back.

Calling a primitive (:meth:`Primitive.__call__`) looks for the innermost algebra
among the arguments. Each algebra strips its own level and calls the primitive
again, until only plain arrays are left; rules are written with primitives and
ufuncs only, so they are differentiated the same way one level further out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from dak_diff.errors import NoRuleError

__all__ = ["UFUNCS", "Primitive", "Traced", "apply_ufunc", "dtype_of", "is_inexact", "raw"]


class _UfuncRegistry(dict[np.ufunc, tuple["Primitive", ...]]):
    """Each ufunc to its primitives, one an output; ``factory`` makes those of unknown ufuncs."""

    factory: Callable[[np.ufunc], tuple[Primitive, ...]]

    def __missing__(self, ufunc: np.ufunc) -> tuple[Primitive, ...]:
        return self.setdefault(ufunc, self.factory(ufunc))


UFUNCS = _UfuncRegistry()


def apply_ufunc(ufunc: np.ufunc, *args: Any, call: Callable | None = None) -> Any:
    """``ufunc(*args)`` through the rules; ``call`` evaluates it on plain arrays."""
    primitives = UFUNCS[ufunc]
    outputs = tuple(primitive(*args, call=call) for primitive in primitives)
    return outputs if ufunc.nout > 1 else outputs[0]


class Traced(NDArrayOperatorsMixin, ABC):
    """An array of some algebra (dual, tape): a primal and what hangs on it."""

    __slots__ = ("level", "primal")
    __array_priority__ = 1000

    level: int
    primal: Any

    @abstractmethod
    def process(self, primitive: Primitive, args: tuple, params: dict) -> Any:
        """Evaluate ``primitive`` at this array's level."""

    shape = property(lambda self: np.shape(self.primal))
    ndim = property(lambda self: np.ndim(self.primal))
    size = property(lambda self: np.size(self.primal))
    dtype = property(lambda self: dtype_of(self.primal))

    def __len__(self) -> int:
        return len(self.primal)

    def __deepcopy__(self, memo: dict) -> Traced:
        # Never changed in place; and a copy of a tape would be another tape.
        return self

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **kwargs: Any) -> Any:
        if method != "__call__" or kwargs:
            raise NoRuleError(f"no derivative rule for numpy.{ufunc.__name__}.{method} with {kwargs}")
        return apply_ufunc(ufunc, *args)


def raw(x: Any) -> Any:
    """The plain array (NumPy, CuPy or a Python number) under every algebra."""
    while isinstance(x, Traced):
        x = x.primal
    return x


def dtype_of(x: Any) -> np.dtype:
    """Dtype of an array or of a Python number (float64, complex128, int64, bool)."""
    return x.dtype if hasattr(x, "dtype") else np.asarray(x).dtype


def is_inexact(x: Any) -> bool:
    """Whether a value can carry a derivative: floating point, real or complex, or unknown objects."""
    return dtype_of(x).kind in "fcO"


class Primitive(ABC):
    """One operation on flat arrays and its linear map.

    Attributes
    ----------
    name : str
        What error messages and :func:`dak_diff.explain` call it.
    kind : str
        elementwise, linear, selection, custom or nondifferentiable.
    """

    name: str
    kind: str

    def __call__(self, *args: Any, **params: Any) -> Any:
        top = None
        for arg in args:
            if isinstance(arg, Traced) and (top is None or arg.level > top.level):
                top = arg
        if top is None:
            return self.impl(*args, **params)
        return top.process(self, args, params)

    @abstractmethod
    def impl(self, *args: Any, **params: Any) -> Any:
        """The value, on plain arrays."""

    @abstractmethod
    def residuals(self, out: Any, args: tuple, params: dict, active: tuple[bool, ...], method: str) -> tuple:
        """What ``push`` and ``pull`` need to know of the primal: arrays and plain data.

        ``method`` says where partials come from: "auto", "dual" or "complex-step".
        """

    @abstractmethod
    def push(self, residuals: tuple, tangents: tuple) -> Any:
        """Tangent of the result, from the tangents of the arguments (None is zero)."""

    @abstractmethod
    def pull(self, residuals: tuple, cotangent: Any, active: tuple[bool, ...]) -> tuple:
        """Cotangents of the arguments (None where not active).

        They may still have the broadcast shape; the engine sums it away, once.
        """

    def __reduce__(self) -> Any:
        # A global of the module that defines it: residuals pickle by the name of their rule.
        return self.name

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name}>"


class NonDifferentiable(Primitive):
    """A primitive whose derivative is zero wherever it exists, or whose values are no numbers.

    Parameters
    ----------
    reason : str
        Why.
    function : callable, optional
        The value on plain arrays, where the caller does not bring its own.
    """

    kind = "nondifferentiable"

    def __init__(self, name: str, reason: str, function: Callable | None = None):
        self.name, self.reason, self._function = name, reason, function

    def impl(self, *args: Any, call: Callable | None = None, **params: Any) -> Any:
        function = call or self._function
        assert function is not None
        return function(*args)

    def residuals(self, *_: Any) -> tuple:
        raise AssertionError(f"{self.name} is never linearised: {self.reason}")

    push = pull = residuals  # type: ignore[assignment]
