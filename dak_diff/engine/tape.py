"""The tape algebra: an array holds its primal and its place in a record of what was done.

Reverse mode inside one partition: the forward pass appends a :class:`Node` for every
primitive that met an active argument; :func:`backward` walks the record from its end.
A node holds a primitive and residual arrays, no closures, so that a record pickles.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dak_diff.rules.namespace import home
from dak_diff.rules.primitive import NonDifferentiable, Primitive, Traced, dtype_of, is_inexact, raw
from dak_diff.rules.structure import move_like, real_if, sum_to_shape

__all__ = ["Node", "Tape", "backward"]


class Node(NamedTuple):
    """One recorded primitive; ``parents`` are positions in the record, -1 for constants.

    ``spaces`` are shape, dtype and array class of each argument.
    """

    primitive: Primitive | None
    residuals: tuple
    parents: tuple[int, ...]
    spaces: tuple[tuple[tuple[int, ...], np.dtype, type], ...]


_CONSUMED = Node(None, (), (), ())


class Tape(Traced):
    """A primal and the position of the node that made it."""

    __slots__ = ("method", "node", "record")

    def __init__(self, level: int, primal: Any, record: list[Node], node: int, method: str):
        self.level, self.primal, self.record, self.node, self.method = level, primal, record, node, method

    @classmethod
    def leaf(cls, level: int, primal: Any, record: list[Node], method: str) -> Tape:
        record.append(Node(None, (), (), ()))
        return cls(level, primal, record, len(record) - 1, method)

    def process(self, primitive: Primitive, args: tuple, params: dict) -> Any:
        mine = tuple(isinstance(arg, Tape) and arg.level == self.level for arg in args)
        primals = tuple(arg.primal if is_mine else arg for arg, is_mine in zip(args, mine, strict=True))
        out = primitive(*primals, **params)
        if isinstance(primitive, NonDifferentiable) or not is_inexact(out):
            return out
        self.record.append(
            Node(
                primitive,
                primitive.residuals(out, primals, params, mine, self.method),
                tuple(arg.node if is_mine else -1 for arg, is_mine in zip(args, mine, strict=True)),
                tuple((np.shape(arg), dtype_of(arg), home(raw(arg))) for arg in primals),
            )
        )
        return Tape(self.level, out, self.record, len(self.record) - 1, self.method)


def backward(
    record: list[Node], seeds: dict[int, Any], watched: set[int], consume: bool = False
) -> dict[int, Any]:
    """Cotangents of watched nodes of a record, from those of its outputs.

    Parameters
    ----------
    seeds : dict
        Position of a node -> its cotangent.
    watched : set of int
        Positions of the nodes whose cotangents are wanted.
    consume : bool
        Let go of what each node holds once it has served; the record is of no use afterwards.

    Returns
    -------
    dict
        Position of a watched node -> its cotangent; what nothing reached is absent.
    """
    cotangents = dict(seeds)
    reached = {}
    for position in range(len(record) - 1, -1, -1):
        cotangent = cotangents.pop(position, None)
        if cotangent is None:
            continue
        if position in watched:
            reached[position] = cotangent
        node = record[position]
        if consume:
            record[position] = _CONSUMED
        if node.primitive is None:
            continue
        active = tuple(parent >= 0 for parent in node.parents)
        pulled = node.primitive.pull(node.residuals, cotangent, active)
        for parent, x_bar, space in zip(node.parents, pulled, node.spaces, strict=True):
            if parent >= 0 and x_bar is not None:
                x_bar = _fit(x_bar, *space)
                cotangents[parent] = cotangents[parent] + x_bar if parent in cotangents else x_bar
    return reached


def _fit(cotangent: Any, shape: tuple[int, ...], dtype: np.dtype, to: type) -> Any:
    """Broadcasting undone, once for all rules; the cotangent in its primal's dtype and library."""
    if np.shape(cotangent) != shape:
        cotangent = sum_to_shape(cotangent, shape=shape)
    return move_like(real_if(cotangent, dtype), to)
