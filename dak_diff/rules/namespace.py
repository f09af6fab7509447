"""Which array library a flat array belongs to, and what libraries do differently."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

__all__ = [
    "atomic",
    "binned_sum",
    "home",
    "is_array",
    "is_host",
    "is_weak",
    "kept",
    "module_of",
    "moved",
    "namespace",
    "owners",
    "register_library",
]


_libraries: dict[type, ModuleType | Any] = {}
_recorders: dict[type, Callable] = {}
_F = TypeVar("_F", bound=Callable[..., Any])


def register_library(cls: type, library: Any, record: Callable) -> None:
    """Make ``cls`` the array class of a library that records: ``record(function, *args)`` calls and notes."""
    _libraries[cls], _recorders[cls] = library, record


def atomic(function: _F) -> _F:
    """A function that is one step of a recorded program.

    For what decides by the elements, or loops over them: unrolled it would hold for one length alone. It
    writes to none of its arguments, and its results are in memory of their own.
    """

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if _recorders:
            for arg in (*args, *kwargs.values()):
                record = _recorders.get(type(arg))
                if record is not None:
                    return record(call, *args, **kwargs)
        return function(*args, **kwargs)

    call.is_atomic = True  # type: ignore[attr-defined]
    return call  # type: ignore[return-value]


def module_of(cls: type) -> ModuleType | Any:
    """The library that ``cls`` is the array class of, numpy for all else (CuPy has no namespace to ask)."""
    found = _libraries.get(cls)
    if found is None:
        library = sys.modules.get(cls.__module__.partition(".")[0])
        found = library if library is not None and getattr(library, "ndarray", None) is cls else np
        _libraries[cls] = found
    return found


def namespace(*arrays: Any) -> ModuleType | Any:
    """The array library of the first argument that is not a host array or a number."""
    for array in arrays:
        cls = type(array)
        if cls is not np.ndarray and (library := module_of(cls)) is not np:
            return library
    return np


def is_host(library: Any) -> bool:
    """Whether the arrays of a library are NumPy's, or recorded ones of it."""
    return library is np or getattr(library, "base", None) is np


def is_weak(x: Any) -> bool:
    """Whether ``x`` is a floating-point number of Python's, which takes the dtype of what it meets."""
    return type(x) in (float, complex) or bool(getattr(x, "is_weak", False))


def home(x: Any) -> type:
    """The array class of the library that a plain array or number belongs to."""
    cls: type = np.ndarray if type(x) is np.ndarray else module_of(type(x)).ndarray
    return cls


def is_array(x: Any) -> bool:
    """Whether ``x`` is a plain array of some library, with or without dimensions."""
    return isinstance(x, np.ndarray) or module_of(type(x)) is not np


def moved(x: Any, to: type) -> Any:
    """A plain array or number in the library of another array class; what is there already is itself."""
    if home(x) is to:
        return x
    return x.get()[()] if to is np.ndarray else module_of(to).asarray(x)


def kept(x: Any) -> Any:
    """An array of the user's as it is now: residuals outlive the operation, and it may be written to."""
    if not is_array(x) or not np.ndim(x) or (isinstance(x, np.ndarray) and not x.flags.writeable):
        return x
    return x.copy()


@atomic
def owners(counts: Any) -> Any:
    """0 ``counts[0]`` times, 1 ``counts[1]`` times, ...: CuPy's ``repeat`` takes no array of counts."""
    xp = namespace(counts)
    if xp is np:
        return np.repeat(np.arange(len(counts)), counts)
    stops = counts.cumsum()
    total = int(stops[-1]) if len(stops) else 0
    # CuPy's bincount takes the memory of its result for each block of threads; in place it adds unsigned
    # integers, but no signed ones.
    steps = xp.zeros(total + 1, dtype=np.uint64)
    xp.add.at(steps, stops[:-1], 1)
    return steps[:total].cumsum().view(np.int64)


@atomic
def binned_sum(x: Any, positions: Any, length: int) -> Any:
    """Zeros with each x added at its position, in double precision; CuPy adds no complex numbers in place."""
    xp = namespace(x)
    if x.dtype.kind == "c":
        total = binned_sum(x.real, positions, length) + 1j * binned_sum(x.imag, positions, length)
    elif xp is np:
        total = np.bincount(positions, weights=x, minlength=length)
    else:
        total = xp.zeros(length, dtype=np.float64)
        xp.add.at(total, positions, x)
    return total.astype(x.dtype)
