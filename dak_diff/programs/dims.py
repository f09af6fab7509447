"""Which arrays of a recording have the same shape: what is known by construction needs no guard."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from dak_diff.programs import operations
from dak_diff.programs.recorder import Tracked
from dak_diff.programs.symbols import Symbol

__all__ = ["NO_DIMS", "Dims", "dims_of"]


class Dims:
    """The lengths of an array, shared by arrays that are known to be of one shape.

    Parameters
    ----------
    lengths : tuple of int, optional
        If they are known.
    look : callable, optional
        Gives them when they are asked for first.
    """

    __slots__ = ("_lengths", "_look")

    def __init__(self, lengths: tuple | None = None, look: Callable[[], tuple] | None = None):
        self._lengths, self._look = lengths, look

    def __call__(self) -> tuple:
        if self._lengths is None:
            assert self._look is not None
            self._lengths, self._look = self._look(), None
        return self._lengths


NO_DIMS = Dims(())
_SAME_SHAPE: frozenset[Any] = frozenset(
    (operations.astype, operations.copy, np.ascontiguousarray, np.nan_to_num, np.zeros_like, np.ones_like)
)
_SHAPED: frozenset[Any] = frozenset((np.zeros, np.ones, np.empty, np.full))


def dims_of(function: Callable, args: tuple, result: Any) -> Dims | None:
    """The shape of a result where it is known without looking, as that of an argument or as a given one."""
    if not np.ndim(result):
        return NO_DIMS
    first: Any = args[0] if args else 0
    if isinstance(function, np.ufunc):
        return _common(args) if function.signature is None else None
    if function in _SAME_SHAPE:
        return getattr(first, "dims", None)
    if function in _SHAPED:
        return _given(first)
    if function is np.broadcast_to:
        return _given(args[1])
    if function is operator.getitem and np.ndim(first) == 1:
        key = args[1]
        positions = isinstance(key, Tracked) and not isinstance(key, Symbol) and key.held.dtype.kind in "iu"
        return getattr(key, "dims", None) if positions else None
    return None


def _common(args: tuple) -> Dims | None:
    """Of arguments that all have one shape, but for numbers."""
    arrays = [x for x in args if np.ndim(getattr(x, "held", x))]
    shapes = {id(getattr(x, "dims", None)): getattr(x, "dims", None) for x in arrays}
    return next(iter(shapes.values())) if len(shapes) == 1 else None


def _given(shape: Any) -> Dims | None:
    lengths = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    known = all(isinstance(n, Symbol) or (type(n) is int and n >= 0) for n in lengths)
    return Dims(lengths) if known else None
