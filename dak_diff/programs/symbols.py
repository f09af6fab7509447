"""Lengths that know how they were computed.

A :class:`Symbol` is an ``int``, since Awkward asks for one. Arithmetic on it makes another; a comparison, or
its truth, decides a branch and is a guard. Where Python takes the number out of it (``int(n)``, a dict's key)
the number is guarded. C code takes it unseen (``range(n)``): for that there are tentative guards.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from dak_diff.programs.program import Variable
from dak_diff.programs.recorder import Recorder, Tracked

__all__ = ["Symbol", "choose", "symbol"]


class Symbol(int, Tracked):
    """An integer of a recording.

    Attributes
    ----------
    held : int or numpy.integer
        What stands in its place when a function is called: NumPy's integers are typed, Python's are not.
    """

    def _pinned(self) -> int:
        if not self.recorder.closed:
            self.recorder.guard(self.variable, int.__int__(self))
        return int.__int__(self)

    __int__ = _pinned

    def __index__(self) -> int:
        return self._pinned()

    def __hash__(self) -> int:
        return hash(self._pinned())

    def __float__(self) -> float:
        return float(self._pinned())

    def __complex__(self) -> complex:
        return complex(self._pinned())

    def __repr__(self) -> str:
        return repr(self._pinned())

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(self._pinned(), spec)

    def __reduce__(self) -> tuple:
        return (int, (self._pinned(),))

    def __bool__(self) -> bool:
        return bool(self != 0)

    def __copy__(self) -> Symbol:
        return self

    def __deepcopy__(self, memo: dict) -> Symbol:
        return self

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        from dak_diff.programs.array import call, leads

        if method != "__call__" or any(map(leads, inputs)):
            return NotImplemented
        return call(ufunc, *inputs, **kwargs)

    def _itself(self, *_: Any) -> Symbol:
        return self

    __pos__ = __trunc__ = __floor__ = __ceil__ = __round__ = _itself

    def item(self) -> Any:
        """The number as one of Python's."""
        return self if type(self.held) is int else unary(self, _item)


class NumpySymbol(Symbol):
    """An integer that NumPy made: it is typed."""

    dtype = property(lambda self: self.held.dtype)
    shape = ()
    ndim = 0
    size = 1

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        """In another type."""
        from dak_diff.programs.array import call

        return call(np.asarray, self, dtype=dtype)


def symbol(recorder: Recorder, variable: Variable, real: Any) -> Symbol:
    """The symbol of an integer."""
    cls = NumpySymbol if isinstance(real, np.integer) else Symbol
    made = cls(real)
    made.recorder, made.variable, made.held = recorder, variable, real
    return made


def choose(function: Callable, *args: Any) -> Any:
    """A function of lengths as one instruction: what it decides inside is no guard."""
    known = next((x.recorder for x in args if isinstance(x, Symbol) and not x.recorder.closed), None)
    if known is None:
        return function(*(x.held if isinstance(x, Symbol) else x for x in args))
    real, said = known.take_apart(args)
    out = function(*real)
    (variable,) = known.emit(function, said, {}, (out,))
    return symbol(known, variable, out)


def _item(x: Any) -> Any:
    return x.item()


def unary(x: Symbol, function: Callable) -> Any:
    """A function of one length."""
    out = function(x.held)
    if x.recorder.closed:
        return out
    (variable,) = x.recorder.emit(function, (x.variable,), {}, (out,))
    return symbol(x.recorder, variable, out)


def _binary(function: Callable, reflected: bool = False) -> Callable:
    def method(self: Symbol, other: Any) -> Any:
        if self.recorder.closed:
            a, b = self.held, other.held if isinstance(other, Symbol) else other
            return function(b, a) if reflected else function(a, b)
        if not isinstance(other, (int, float, np.number)):
            return NotImplemented
        if type(other) is int and (other, function) in _NEUTRAL and not (reflected and function not in _BOTH):
            return self
        real, said = zip(
            *map(self.recorder.take_apart, (other, self) if reflected else (self, other)), strict=True
        )
        out = function(*real)
        from dak_diff.programs.array import wrap

        (variable,) = self.recorder.emit(function, said, {}, (out,))
        return wrap(self.recorder, variable, out)

    return method


_NEUTRAL = {(0, operator.add), (0, operator.sub), (1, operator.mul), (1, operator.floordiv)}
_BOTH = {operator.add, operator.mul}

for _function in (
    *(operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, operator.truediv),
    *(operator.pow, operator.and_, operator.or_, operator.xor, operator.lshift, operator.rshift),
):
    _name = _function.__name__.rstrip("_")
    setattr(Symbol, f"__{_name}__", _binary(_function))
    setattr(Symbol, f"__r{_name}__", _binary(_function, reflected=True))


def _divmod(self: Symbol, other: Any) -> Any:
    return self // other, self % other


def _rdivmod(self: Symbol, other: Any) -> Any:
    return other // self, other % self


Symbol.__divmod__, Symbol.__rdivmod__ = _divmod, _rdivmod  # type: ignore[assignment, method-assign]
_UNARY: tuple[Callable, ...] = (operator.neg, operator.abs, operator.invert)
for _function in _UNARY:
    setattr(Symbol, f"__{_function.__name__}__", lambda self, function=_function: unary(self, function))


def _comparison(function: Callable) -> Callable:
    def method(self: Symbol, other: Any) -> Any:
        if isinstance(other, Symbol) and other.variable is self.variable:
            return function(0, 0)
        if not isinstance(other, (int, float, np.number)):
            return NotImplemented
        if self.recorder.closed:
            return bool(function(int.__int__(self), other))
        real, said = zip(*map(self.recorder.take_apart, (self, other)), strict=True)
        out = bool(function(*real))
        (variable,) = self.recorder.emit(function, said, {}, (out,))
        self.recorder.guard(variable, out)
        return out

    return method


for _function in (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge):
    setattr(Symbol, f"__{_function.__name__}__", _comparison(_function))
