"""The array library of recorded arrays: the functions of its base, each call written down."""

from __future__ import annotations

from typing import Any

import numpy as np

from dak_diff.programs.array import Recorded, array_class, call
from dak_diff.programs.recorder import Tracked, current
from dak_diff.programs.symbols import Symbol
from dak_diff.rules.namespace import is_array, register_library

__all__ = ["Library", "library_over"]


class Library:
    """The functions of one base module (numpy, cupy), on recorded arrays.

    Parameters
    ----------
    base : module
        Does what is recorded.
    """

    def __init__(self, base: Any):
        self.base = base
        self.ndarray = array_class(base)
        self.ndarray.library = self
        self.__name__ = base.__name__
        register_library(self.ndarray, self, record=call)

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.base, name)
        if not callable(function) or isinstance(function, type):
            return function

        def recorded(*args: Any, **kwargs: Any) -> Any:
            return call(function, *args, **kwargs)

        recorded.__name__ = name
        setattr(self, name, recorded)
        return recorded

    def asarray(self, x: Any, dtype: Any = None, copy: bool | None = None) -> Any:
        """As the base has it; what is an array of this library already is itself."""
        if isinstance(x, Recorded) and not copy and x.ndim and dtype in (None, x.dtype):
            return x
        if isinstance(x, (Tracked, list, tuple)):
            options = {} if dtype is None else {"dtype": np.dtype(dtype)}
            return call(self.base.array if copy else self.base.asarray, x, **options)
        array = self.base.array(x, dtype=dtype, copy=True) if copy else self.base.asarray(x, dtype=dtype)
        return self._constant(array)

    def array(self, x: Any, dtype: Any = None, copy: bool = True) -> Any:
        """As the base has it."""
        return self.asarray(x, dtype=dtype, copy=copy)

    def _constant(self, array: Any) -> Any:
        recorder = current()
        return array if recorder is None else self.ndarray(recorder, recorder.constant(array), array)

    def broadcast_arrays(self, *arrays: Any) -> list:
        """What has the shape already is itself; each other one is broadcast on its own."""
        shapes = [x.shape if hasattr(x, "shape") else () for x in arrays]
        shape = _broadcast_shape(shapes)
        return [
            x if _same_shape(own, shape) else self.broadcast_to(x, shape)
            for x, own in zip(arrays, shapes, strict=True)
        ]


def _same_shape(a: tuple, b: tuple) -> bool:
    return len(a) == len(b) and all(m is n or m == n for m, n in zip(a, b, strict=True))


def _broadcast_shape(shapes: list[tuple]) -> tuple:
    """The common shape, of the very lengths that the arrays have: each comparison is a guard."""
    ndim = max(map(len, shapes), default=0)
    out: list[Any] = []
    for axis in range(-ndim, 0):
        length: Any = 1
        for shape in shapes:
            if len(shape) >= -axis and shape[axis] is not length:
                mine = shape[axis]
                if (type(length) is int and length == 1) or not (mine == length or mine == 1):
                    if not (type(length) is int and length == 1) and length != 1:
                        raise ValueError("shape mismatch: objects cannot be broadcast to a single shape")
                    length = mine
        out.append(length)
    return tuple(out)


_libraries: dict[Any, Library] = {}


def library_over(base: Any) -> Library:
    """The library of recorded arrays over a base, made at first use."""
    found = _libraries.get(base)
    if found is None:
        found = _libraries.setdefault(base, Library(base))
    return found


def is_symbol(x: Any) -> bool:
    """Whether a length belongs to a recording."""
    return isinstance(x, Symbol)


def is_base_array(x: Any) -> bool:
    """Whether ``x`` is an array of a base, not recorded."""
    return is_array(x) and not isinstance(x, Recorded)
