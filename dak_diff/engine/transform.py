"""``pushforward`` and ``pullback``: a function of plain values to its derivative.

This is what the engine offers to the graph and to :mod:`dak_diff.eager`.
"""

from __future__ import annotations

import copyreg
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from dak_diff.engine.awkward_internals import is_absent, recording, synchronize
from dak_diff.engine.corrections import watch_corrections
from dak_diff.engine.dual import Dual, dual
from dak_diff.engine.histograms import watch_fills
from dak_diff.engine.level import new_level
from dak_diff.engine.nests import is_nest, map_parts
from dak_diff.engine.tape import Node, Tape, backward
from dak_diff.engine.values import (
    Cotangents,
    Pair,
    is_float,
    leaf_values,
    map_leaves,
    map_residuals,
    numbered,
    settled,
)
from dak_diff.engine.vectors import watch_vectors
from dak_diff.rules.namespace import home
from dak_diff.rules.primitive import Primitive, raw
from dak_diff.rules.structure import move_like

__all__ = [
    "METHODS",
    "Taping",
    "Transpose",
    "check_method",
    "lift",
    "lower",
    "pullback",
    "pushforward",
    "used_primitives",
    "watching",
]

METHODS = ("auto", "dual", "complex-step")


def check_method(method: str) -> None:
    """Refuse what is no way to get partials."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}")


def pushforward(fn: Callable, args: tuple, method: str = "auto", owner: str = "") -> Pair:
    """Run ``fn`` on arguments some of which are pairs; the result as a pair.

    Parameters
    ----------
    args : tuple
        Values; a :class:`~dak_diff.engine.values.Pair` of this owner (at any depth) carries tangents.
    """
    level = new_level()
    width = max((pair.width for pair in _pairs(args, owner)), default=1)
    out = watching(lambda: fn(*(lift(arg, level, method, owner) for arg in args)))
    return lower(out, level, width, owner)


def _reduce_pair(pair: Pair) -> tuple:
    # Awkward packs what it pickles; the tangents must go the same way.
    same = pushforward(settled, (pair,), owner=pair.owner)
    return (Pair, (same.primal, same.tangents, pair.width, pair.owner))


copyreg.pickle(Pair, _reduce_pair)


def _pairs(value: Any, owner: str) -> list[Pair]:
    if isinstance(value, Pair):
        return [value] if value.owner == owner else []
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        return [pair for v in value for pair in _pairs(v, owner)]
    return []


def lift(value: Any, level: int, method: str, owner: str = "") -> Any:
    """The value with every pair in it made an array that carries its tangents."""
    _watch_libraries()
    return _map_active(value, owner, lambda leaf, tangents: dual(level, leaf, tangents, method))


def _watch_libraries() -> bool:
    return any([watch_fills(), watch_vectors(), watch_corrections()])


def watching(attempt: Callable[[], Any]) -> Any:
    """What ``attempt()`` gives; once more if it failed, and was the one to load a library to be watched."""
    _watch_libraries()
    try:
        return attempt()
    except Exception:
        if not _watch_libraries():
            raise
        return attempt()


def _map_active(value: Any, owner: str, on_active: Callable[[Any, tuple], Any]) -> Any:
    """The value with the primal of every pair in it, of whose leaves those with tangents are replaced."""
    if is_nest(value):
        return map_parts(value, lambda part: _map_active(part, owner, on_active))
    if not isinstance(value, Pair) or value.owner != owner:
        return value
    position = itertools.count()

    def on_leaf(leaf: Any, is_text: bool) -> Any:
        i = next(position)
        return on_active(leaf, value.tangents[i]) if i in value.tangents else leaf

    return map_leaves(value.primal, on_leaf)


def lower(value: Any, level: int, width: int, owner: str = "") -> Pair:
    """The pair of a value and of the tangents that it carries at one level."""
    tangents: dict[int, tuple] = {}
    position = itertools.count()

    def on_leaf(leaf: Any, is_text: bool) -> Any:
        i = next(position)
        if isinstance(leaf, Dual) and leaf.level == level:
            tangents[i] = leaf.tangents
            return leaf.primal
        return leaf

    pair = Pair(map_leaves(value, on_leaf), tangents, width, owner)
    synchronize()
    return pair


def used_primitives(fn: Callable, args: tuple, owner: str) -> list[Primitive]:
    """The primitives that ``fn`` applies to what carries a derivative, each once, in order."""
    taping = Taping()
    fn(*(taping.lift(arg, owner) for arg in args))
    return list(dict.fromkeys(node.primitive for node in taping.record if node.primitive is not None))


def transposed(fn: Callable, args: tuple, method: str, owner: str) -> Pair:
    """As :func:`pushforward`, but backwards: the result with tangents of one where its transpose exists."""
    taping = Taping(method)
    (value,), transpose = taping.finish((fn(*(taping.lift(arg, owner) for arg in args)),))
    leaves = leaf_values(value)
    ones = {i: np.ones_like(leaves[i]) for i in transpose.outputs[0]}
    transpose((ones,))
    return Pair(value, {i: (one,) for i, one in ones.items()}, 1, owner)


class Transpose:
    """The transposed linear map of a function of several values.

    Parameters
    ----------
    record : list of Node
        What was done.
    watched : tuple of dict
        For each watched value: position of a leaf -> its node.
    outputs : tuple of dict
        For each result: position of a leaf -> its node.
    homes : dict of int to type
        Node -> its array class, for results on a device: their cotangents may come from the host.
    """

    def __init__(
        self,
        record: list[Node],
        watched: tuple[dict[int, int], ...],
        outputs: tuple[dict[int, int], ...],
        homes: dict[int, type],
    ):
        self.record, self.watched, self.outputs, self.homes = record, watched, outputs, homes
        self.consumed = False

    def __call__(
        self, cotangents: tuple[dict[int, Any] | None, ...], consume: bool = False
    ) -> tuple[Cotangents, ...]:
        """Cotangents of the leaves of the watched values, from those of the leaves of the results.

        With ``consume`` this is the last call, and needs less memory.
        """
        if self.consumed:
            raise RuntimeError("this pullback was called with consume=True: what it knew is gone")
        self.consumed = consume
        seeds: dict[int, Any] = {}
        for nodes, given in zip(self.outputs, cotangents, strict=True):
            for leaf, cotangent in (given or {}).items():
                if leaf in nodes:
                    node = nodes[leaf]
                    cotangent = move_like(cotangent, self.homes.get(node, np.ndarray))
                    seeds[node] = seeds[node] + cotangent if node in seeds else cotangent
        watched = {n for nodes in self.watched for n in nodes.values()}
        reached = backward(self.record, seeds, watched, consume)
        synchronize()
        return tuple(
            Cotangents({leaf: reached[n] for leaf, n in nodes.items() if n in reached})
            for nodes in self.watched
        )

    def map_leaves(self, on_leaf: Callable[[Any, bool], Any]) -> Transpose:
        """The same map with other residuals; see :func:`~dak_diff.engine.values.map_leaves`."""
        record = [node._replace(residuals=map_residuals(node.residuals, on_leaf)) for node in self.record]
        return Transpose(record, self.watched, self.outputs, self.homes)


class Taping:
    """A tape being written.

    Parameters
    ----------
    method : str
        Where partials come from.
    """

    def __init__(self, method: str = "auto"):
        _watch_libraries()
        self.level, self.method = new_level(), method
        self.record: list[Node] = []
        self.watched: list[dict[int, int]] = []

    def watch(self, value: Any) -> Any:
        """The value on the tape; the transpose will give the cotangents of its float leaves."""
        nodes: dict[int, int] = {}
        self.watched.append(nodes)

        def on_leaf(leaf: Any, is_text: bool, i: int) -> Any:
            if is_text or is_absent(leaf) or not is_float(leaf):
                return leaf
            if not (isinstance(leaf, Tape) and leaf.level == self.level):
                leaf = Tape.leaf(self.level, leaf, self.record, self.method)
            nodes[i] = leaf.node
            return leaf

        return map_leaves(value, numbered(on_leaf))

    def lift(self, value: Any, owner: str) -> Any:
        """The value with every pair in it put on the tape, where it carries tangents."""
        return _map_active(
            value, owner, lambda leaf, _: Tape.leaf(self.level, leaf, self.record, self.method)
        )

    def finish(self, results: tuple) -> tuple[tuple, Transpose]:
        """The plain results, and the transpose from them to what was watched."""
        outputs: list[dict[int, int]] = []
        homes: dict[int, type] = {}

        def on_leaf(leaf: Any, is_text: bool, i: int) -> Any:
            if isinstance(leaf, Tape) and leaf.level == self.level:
                outputs[-1][i] = leaf.node
                if (where := home(raw(leaf))) is not np.ndarray:
                    homes[leaf.node] = where
                return leaf.primal
            return leaf

        values = []
        for result in results:
            outputs.append({})
            values.append(map_leaves(result, numbered(on_leaf)))
        synchronize()
        return tuple(values), Transpose(self.record, tuple(self.watched), tuple(outputs), homes)


def pullback(fn: Callable, primals: tuple, method: str = "auto") -> tuple[Any, Callable]:
    """The value of ``fn(*primals)``, and its pullback: leaves of the value to leaves of ``primals``."""

    def taped() -> tuple[tuple, Transpose]:
        taping = Taping(method)
        with recording():
            return taping.finish((fn(*taping.watch(primals)),))

    (value,), transpose = watching(taped)
    return value, lambda cotangents, consume=False: transpose((cotangents,), consume)[0]
