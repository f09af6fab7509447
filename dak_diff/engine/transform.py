"""``pushforward`` and ``pullback``: a function of plain values to its derivative.

This is what the engine offers to the graph and to :mod:`dak_diff.eager`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dak_diff.engine.dual import Dual, dual
from dak_diff.engine.level import new_level
from dak_diff.engine.tape import Node, Tape, backward
from dak_diff.engine.values import Pair, is_float, map_leaves
from dak_diff.rules import ufuncs
from dak_diff.rules.primitive import Primitive

__all__ = ["METHODS", "Pullback", "lift", "lower", "pullback", "pushforward", "used_primitives"]

METHODS = ("auto", "dual", "complex-step")

#: The tables of rules are filled when their modules are imported.
RULES = ufuncs.PARTIALS


def pushforward(fn: Callable, args: tuple, method: str = "auto") -> Pair:
    """Run ``fn`` on arguments some of which are pairs; the result as a pair.

    Parameters
    ----------
    args : tuple
        Values; a :class:`~dak_diff.engine.values.Pair` (at any depth) carries tangents.
    """
    level = new_level()
    width = max((pair.width for pair in _pairs(args)), default=1)
    out = fn(*(lift(arg, level, method) for arg in args))
    return lower(out, level, width)


def _pairs(value: Any) -> list[Pair]:
    if isinstance(value, Pair):
        return [value]
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        return [pair for v in value for pair in _pairs(v)]
    return []


def lift(value: Any, level: int, method: str) -> Any:
    """The value with every pair in it made an array that carries its tangents."""
    if isinstance(value, (tuple, list)):
        return type(value)(lift(v, level, method) for v in value)
    if isinstance(value, dict):
        return {k: lift(v, level, method) for k, v in value.items()}
    if not isinstance(value, Pair):
        return value
    position = iter(range(10**9))

    def on_leaf(leaf: Any, is_text: bool) -> Any:
        tangents = value.tangents.get(next(position))
        return leaf if tangents is None else dual(level, leaf, tangents, method)

    return map_leaves(value.primal, on_leaf)


def lower(value: Any, level: int, width: int) -> Pair:
    """The pair of a value and of the tangents that it carries at one level."""
    tangents: dict[int, tuple] = {}
    position = iter(range(10**9))

    def on_leaf(leaf: Any, is_text: bool) -> Any:
        i = next(position)
        if isinstance(leaf, Dual) and leaf.level == level:
            tangents[i] = leaf.tangents
            return leaf.primal
        return leaf

    return Pair(map_leaves(value, on_leaf), tangents, width)


def used_primitives(fn: Callable, args: tuple) -> list[Primitive]:
    """The primitives that ``fn`` applies to what carries a derivative, each once, in order."""
    level = new_level()
    record: list[Node] = []

    def lift_pair(value: Any) -> Any:
        if isinstance(value, Pair):
            position = iter(range(10**9))
            return map_leaves(
                value.primal,
                lambda leaf, _: (
                    Tape.leaf(level, leaf, record, "auto") if next(position) in value.tangents else leaf
                ),
            )
        return type(value)(map(lift_pair, value)) if isinstance(value, (tuple, list)) else value

    fn(*map(lift_pair, args))
    return list(dict.fromkeys(node.primitive for node in record if node.primitive is not None))


class Pullback:
    """The transposed linear map of a function at a point; holds primitives and arrays only."""

    def __init__(self, record: list[Node], inputs: dict[int, int], outputs: dict[int, int]):
        self.record, self.inputs, self.outputs = record, inputs, outputs

    def __call__(self, cotangents: dict[int, Any]) -> dict[int, Any]:
        """Cotangents of the input leaves, by position, from those of the output leaves."""
        seeds: dict[int, Any] = {}
        for leaf, cotangent in cotangents.items():
            if leaf in self.outputs:
                node = self.outputs[leaf]
                seeds[node] = seeds[node] + cotangent if node in seeds else cotangent
        reached = backward(self.record, seeds)
        return {leaf: reached[node] for leaf, node in self.inputs.items() if node in reached}


def pullback(fn: Callable, primals: tuple, method: str = "auto") -> tuple[Any, Pullback]:
    """The value of ``fn(*primals)`` and its pullback with respect to every float leaf."""
    level = new_level()
    record: list[Node] = []
    inputs: dict[int, int] = {}
    position = iter(range(10**9))

    def on_input(leaf: Any, is_text: bool) -> Any:
        i = next(position)
        if is_text or not is_float(leaf):
            return leaf
        lifted = Tape.leaf(level, leaf, record, method)
        inputs[i] = lifted.node
        return lifted

    out = fn(*map_leaves(primals, on_input))
    outputs: dict[int, int] = {}
    position = iter(range(10**9))

    def on_output(leaf: Any, is_text: bool) -> Any:
        i = next(position)
        if isinstance(leaf, Tape) and leaf.level == level:
            outputs[i] = leaf.node
            return leaf.primal
        return leaf

    value = map_leaves(out, on_output)
    return value, Pullback(record, inputs, outputs)
