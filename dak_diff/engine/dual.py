"""The dual algebra: an array holds its primal and k tangents.

``f(x + eps x_dot) = f(x) + eps J x_dot``. One pass carries k directions; a tangent that
is None is zero, and costs nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dak_diff.rules.namespace import home
from dak_diff.rules.primitive import NonDifferentiable, Primitive, Traced, dtype_of, is_inexact, raw
from dak_diff.rules.structure import broadcast_to, index, move_like, real_if

__all__ = ["Dual", "dual"]

#: Up to so many elements it costs nothing to see whether a tangent is zero.
_SMALL = 1024


class Dual(Traced):
    """A primal and its tangents at one level.

    Parameters
    ----------
    level : int
        Which derivative computation the tangents belong to.
    primal : array
        Plain, or of an algebra further out.
    tangents : tuple of array or None
        One for each direction, of the primal's shape and dtype.
    method : {"auto", "dual", "complex-step"}
        Where partials come from.
    """

    __slots__ = ("method", "tangents")

    def __init__(self, level: int, primal: Any, tangents: tuple, method: str):
        self.level, self.primal, self.tangents, self.method = level, primal, tangents, method

    def process(self, primitive: Primitive, args: tuple, params: dict) -> Any:
        mine = [isinstance(arg, Dual) and arg.level == self.level for arg in args]
        primals = tuple(arg.primal if is_mine else arg for arg, is_mine in zip(args, mine, strict=True))
        out = primitive(*primals, **params)
        if isinstance(primitive, NonDifferentiable) or not is_inexact(out):
            return out
        residuals = primitive.residuals(out, primals, params, tuple(mine), self.method)
        tangents: list[Any] = []
        for direction in range(len(self.tangents)):
            directions = tuple(
                arg.tangents[direction] if is_mine else None for arg, is_mine in zip(args, mine, strict=True)
            )
            if all(tangent is None for tangent in directions):
                tangents.append(None)
            else:
                tangents.append(_fit(primitive.push(residuals, directions), out))
        if primitive is index and 0 < np.size(out) <= _SMALL:
            # Of the components of a vector parameter each moves in one direction only. What is zero before is
            # left alone: of arrays without elements, on which a graph is tried, all tangents are.
            tangents = [
                None if _is_zero(after) and not _is_zero(before) else after
                for before, after in zip(args[0].tangents, tangents, strict=True)
            ]
        return dual(self.level, out, tuple(tangents), self.method)


def dual(level: int, primal: Any, tangents: tuple, method: str) -> Any:
    """A :class:`Dual`, or the bare primal where every tangent is zero."""
    if all(tangent is None for tangent in tangents):
        return primal
    return Dual(level, primal, tangents, method)


def _is_zero(tangent: Any) -> bool:
    """Whether a tangent is exactly zero in every element: a true zero, see docs/explain/kinks.md."""
    return tangent is not None and not isinstance(tangent, Traced) and not np.any(tangent)


def _fit(tangent: Any, out: Any) -> Any:
    """The tangent in the shape, dtype and array library of the result."""
    if tangent is None:
        return None
    tangent = move_like(tangent, home(raw(out)))
    if np.shape(tangent) != np.shape(out):
        tangent = broadcast_to(tangent, shape=np.shape(out))
    return real_if(tangent, dtype_of(out))
