"""Where derivatives are checked: the numbers of ``wrt``, and a random direction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import dask_awkward as dak
import numpy as np

from dak_diff.api import jvp, plan, vjp
from dak_diff.checking.numbers import computed, random_like
from dak_diff.checking.precision import DOUBLE, SINGLE, Precision
from dak_diff.engine.values import leaf_values
from dak_diff.graph.active import ancestors
from dak_diff.graph.content_token import content_token
from dak_diff.graph.seeds import Operand, as_operand, from_pieces
from dak_diff.graph.wrt import Target, flatten_nested, resolve

__all__ = ["Point", "as_seed"]


def as_seed(pieces: list, like: Any, label: str) -> Any:
    """Values of the partitions of a collection, as what a seed may be."""
    if not isinstance(like, dak.Array):
        return pieces[0]
    return from_pieces(pieces, like._meta, label, content_token(pieces))


@dataclass(frozen=True)
class _Input:
    """A collection to move: its numbers, and a direction to move it in."""

    collection: Any
    target: Target
    pieces: list
    direction: list
    tangent: Any


@dataclass(frozen=True)
class Point:
    """Where derivatives are checked."""

    inputs: tuple[_Input, ...]
    seed: int
    method: str

    @classmethod
    def of(cls, wrt: Any, seed: int, method: str) -> Point:
        collections = [collection for _, collection in flatten_nested(wrt)]
        targets = [resolve(collection) for collection in collections]
        rng, inputs = np.random.default_rng([seed, 0]), []
        for collection, target, pieces in zip(collections, targets, computed(collections), strict=True):
            direction = random_like(pieces, rng)
            tangent = as_seed(direction, collection, "direction")
            inputs.append(_Input(collection, target, pieces, direction, tangent))
        return cls(tuple(inputs), seed, method)

    @property
    def wrt(self) -> list:
        return [given.collection for given in self.inputs]

    def of_layer(self, layer: Any) -> Point:
        """The inputs that an inner layer depends on."""
        known = set(ancestors(layer.dask, [layer.name]))
        return replace(self, inputs=tuple(given for given in self.inputs if given.target.base in known))

    def derived(self, expr: Any, order: int) -> Any:
        """The derivative of order ``order - 1`` along the direction: what is differentiated once more."""
        for _ in range(order - 1):
            expr = self.jvp(expr)
        return expr

    def jvp(self, expr: Any) -> Any:
        tangents = [given.tangent for given in self.inputs]
        # The jvp of what is linear in an input does not depend on it.
        return jvp(expr, self.wrt, tangents, method=self.method, disconnected="zero")

    def vjp(self, expr: Any, cotangent: Any) -> list:
        return list(vjp(expr, self.wrt, cotangent, method=self.method, disconnected="zero"))

    def operands(self) -> list[tuple[Target, Operand]]:
        return [(given.target, as_operand(given.target, given.tangent)) for given in self.inputs]

    def precision(self, expr: Any) -> Precision:
        """Single if anything on the way is."""
        activity = plan(expr, self.wrt, self.method, "zero")
        values = [activity.samples.get(name) for name in activity.order if activity.influence[name]]
        pieces = [given.pieces for given in self.inputs]
        leaves = [leaf for value in [*values, *pieces] for leaf in leaf_values(value)]
        single = any(getattr(leaf, "dtype", None) in ("f2", "f4", "c8") for leaf in leaves)
        return SINGLE if single else DOUBLE
