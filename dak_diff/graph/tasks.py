"""What runs inside a task of a derivative graph.

The same functions also run on typetracers, when dask-awkward finds out which columns are
read. There is no derivative then: they run the plain function, so a tangent reads the
columns that its value reads. Everything here pickles.
"""

from __future__ import annotations

import copy
import operator
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import awkward as ak
import dask.local
import dask_awkward as dak
import numpy as np
from dask._task_spec import GraphNode
from dask.blockwise import blockwise_token
from dask.sizeof import sizeof
from dask.utils import key_split

from dak_diff.engine.awkward_internals import is_absent
from dak_diff.engine.histograms import with_components
from dak_diff.engine.loaded import histogram_types
from dak_diff.engine.matching import match_leaves
from dak_diff.engine.nests import map_parts
from dak_diff.engine.transform import pushforward, transposed
from dak_diff.engine.values import (
    Pair,
    derivative_like,
    is_float,
    leaf_values,
    map_leaves,
    numbered,
    separated,
    stopped,
)
from dak_diff.errors import NoRuleError
from dak_diff.graph.forwarded import Forwarded
from dak_diff.rules.primitive import raw
from dak_diff.rules.structure import concatenate, reshape

__all__ = [
    "CallTask",
    "Compose",
    "OnPrimals",
    "Pushforward",
    "Seed",
    "TakePrimal",
    "TakeTangent",
    "TakeTangents",
    "WithoutFloats",
    "function_of",
    "inside",
]


@sizeof.register(Pair)  # type: ignore[untyped-decorator]
def _sizeof_pair(pair: Pair) -> int:
    tangents = (t for ts in pair.tangents.values() for t in ts if t is not None)
    return int(sizeof(pair.primal) + sum(sizeof(raw(t)) for t in tangents))


def _walk(value: Any) -> Iterator[Any]:
    value = value.primal if isinstance(value, Pair) else value
    value = value.values if isinstance(value, Forwarded) else value
    if isinstance(value, (list, tuple)):
        for v in value:
            yield from _walk(v)
    else:
        yield value


def any_typetracer(args: tuple) -> bool:
    """Whether this is a run that only finds out which columns are read."""
    return any(dak.lib.core.is_typetracer(v) for v in _walk(args))


def primals(value: Any, owner: str) -> Any:
    """The value without the tangents of one derivative."""
    if isinstance(value, Pair):
        return value.primal if value.owner == owner else value
    return map_parts(value, lambda part: primals(part, owner)) if isinstance(value, (list, tuple)) else value


def on_typetracers(fn: Callable, args: tuple) -> Any:
    """``fn`` on typetracers; a number beside arrays becomes an array of one element.

    That is how dask-awkward computes metas. A typetracer without dimensions as the first
    argument of a ufunc fails in Awkward.
    """
    if any(isinstance(v, ak.Array) for v in _walk(args)):
        args = tuple(_promoted(v) for v in args)
    return fn(*args)


def _promoted(value: Any) -> Any:
    if dak.lib.core.is_typetracer(value) and getattr(value, "ndim", None) == 0 and hasattr(value, "dtype"):
        return ak.Array(ak.to_layout(value, primitive_policy="promote"))
    return value


@contextmanager
def noting(where: str, of_partition: bool = True) -> Iterator[None]:
    """Add to any error where it happened (Python 3.11 shows it below the message)."""
    try:
        yield
    except Exception as error:
        if hasattr(error, "add_note"):
            key = running_key() if of_partition else None
            partition = f", partition {key[1]} of {key_split(key)!r}" if isinstance(key, tuple) else ""
            error.add_note(f"This happened in dak_diff, {where}{partition}.")
        raise


def running_key() -> Any:
    """The key of the task that runs here; None if no scheduler of Dask's runs it.

    Found where schedulers have it: as an operand of every task it would be in every graph.
    """
    frame: Any = sys._getframe()
    while frame is not None:
        if frame.f_code is dask.local.execute_task.__code__:
            return frame.f_locals["key"]
        frame = frame.f_back
    worker = sys.modules.get("distributed.worker")
    return getattr(worker and worker.thread_state, "key", None)


def stop(value: Any) -> Any:
    """The value as a constant."""
    return value if any_typetracer((value,)) else stopped(value)


class _Labelled:
    """A function with the label and name of the layer it came from, and the derivative it belongs to."""

    def __init__(self, fn: Callable, label: str, owner: str, origin: str = ""):
        self.fn, self.label, self.owner, self.origin = fn, label, owner, origin

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.label}>"


class Pushforward(_Labelled):
    """The function of an active layer, on pairs."""

    def __init__(self, fn: Callable, label: str, owner: str, method: str, origin: str = ""):
        super().__init__(fn, label, owner, origin)
        self.method = method

    def __call__(self, *args: Any) -> Any:
        if any_typetracer(args):
            return on_typetracers(self.fn, primals(args, self.owner))
        with noting(f"in the tangent of layer {self.label!r}"):
            return pushforward(self.fn, args, self.method, self.owner)


class Transposed(Pushforward):
    """The function of an active layer, and its transpose, tried while the graph is built."""

    def __call__(self, *args: Any) -> Any:
        return transposed(self.fn, args, self.method, self.owner)


class OnPrimals(_Labelled):
    """The function of a layer that hangs on active ones but has no derivative itself."""

    def __call__(self, *args: Any) -> Any:
        args = primals(args, self.owner)
        return on_typetracers(self.fn, args) if any_typetracer(args) else self.fn(*args)


class WithoutFloats(_Labelled):
    """A function that gave no floating-point numbers when the graph was built, held to it."""

    def __call__(self, *args: Any) -> Any:
        result = self.fn(*args)
        if not any_typetracer((result,)) and any(map(is_float, leaf_values(result))):
            raise NoRuleError(
                f"layer {self.label!r} gives floating-point numbers, but gave none when the graph was built, "
                "so their derivative would be lost. The type of what a function returns must not depend on "
                "values."
            )
        return result


class CallTask:
    """A task of Dask's as a function of the values of its ``n`` blockwise operands."""

    def __init__(self, task: Any):
        self.task = task

    def __call__(self, *args: Any) -> Any:
        return self.task({blockwise_token(i): arg for i, arg in enumerate(args)})


#: dask-histogram scales and adds the histogram in place that another task gave.
_IN_PLACE = frozenset({operator.iadd, operator.isub, operator.imul, operator.itruediv})


class CallNode:
    """A materialised task as a function of the values of its dependencies."""

    def __init__(self, node: Any, dependencies: tuple):
        self.node, self.dependencies = node, dependencies

    def __call__(self, *args: Any) -> Any:
        if getattr(self.node, "func", None) in _IN_PLACE:
            args = tuple(map(copy.copy, args))
        return self.node(dict(zip(self.dependencies, args, strict=True)))


class Compose:
    """``outer(inner(x))``: one node of a tree reduction as one function."""

    def __init__(self, outer: Callable, inner: Callable):
        self.outer, self.inner = outer, inner

    def __call__(self, *args: Any) -> Any:
        return self.outer(self.inner(*args))


def function_of(fn: Any) -> Any:
    """The user's function inside one of ours."""
    while True:
        if isinstance(fn, Compose):
            fn = fn.inner
        elif isinstance(fn, _Labelled):
            fn = fn.fn
        elif isinstance(fn, CallNode):
            fn = getattr(fn.node, "func", None)
        elif hasattr(fn, "__wrapped__"):
            fn = fn.__wrapped__
        else:
            return fn


def inside(part: Any, attribute: str) -> Iterator[Any]:
    """An attribute of a function of ours and of those inside it: ``owner``, ``origin``, ``steps``."""
    if isinstance(part, (list, tuple)):
        for p in part:
            yield from inside(p, attribute)
    elif isinstance(part, GraphNode):
        yield from inside(getattr(part, "func", None), attribute)
    elif type(part).__module__.startswith("dak_diff.graph"):
        for name, value in vars(part).items():
            if name == attribute:
                yield value
            yield from inside(value, attribute)


class Seed:
    """Puts tangents on columns of a value; adds to what is already there.

    Parameters
    ----------
    columns : tuple of (path, path)
        Where the columns are in the value, and where in the tangents.
    label : str
        What the columns are called in messages.
    """

    def __init__(self, columns: tuple, label: str, owner: str):
        self.columns, self.label, self.owner = columns, label, owner

    def __call__(self, value: Any, *tangents: Any) -> Any:
        if any_typetracer((value, *tangents)):
            for tangent in tangents:
                if dak.lib.core.is_typetracer(tangent):
                    ak.typetracer.touch_data(tangent)
            return primals(value, self.owner)
        with noting(f"where the tangent of {self.label} is put in"):
            pair = as_pair(value, self.owner, len(tangents))
            for absolute, relative in self.columns:
                pair = _seed_column(pair, absolute, [select(t, relative) for t in tangents])
            return pair


def select(value: Any, path: tuple[str, ...]) -> Any:
    """A column of a record; without a path the value itself."""
    return value[path] if path and isinstance(value, (ak.Array, ak.Record)) else value


def as_pair(value: Any, owner: str, width: int = 1) -> Pair:
    """The value as a pair of this derivative."""
    return value if isinstance(value, Pair) and value.owner == owner else Pair(value, {}, width, owner)


def _seed_column(pair: Pair, path: tuple[str, ...], tangents: list) -> Pair:
    column = pushforward(lambda value: separated(select(value, path)), (pair,), owner=pair.owner)
    matched = [{} if tangent is None else match_leaves(column.primal, tangent) for tangent in tangents]
    merged = dict(column.tangents)
    for i in dict.fromkeys(i for directions in matched for i in directions):
        seeds = tuple(directions.get(i) for directions in matched)
        merged[i] = tuple(map(_add, column.tangents.get(i, (None,) * len(seeds)), seeds))
    column = Pair(column.primal, merged, pair.width, pair.owner)
    if not path:
        return column
    return pushforward(lambda base, what: ak.with_field(base, what, path), (pair, column), owner=pair.owner)


def _add(old: Any, new: Any) -> Any:
    return old if new is None else new if old is None else old + new


class TakeTangent:
    """The tangent of one direction, with the full structure of the value."""

    def __init__(self, owner: str, direction: int = 0):
        self.owner, self.direction = owner, direction

    def __call__(self, value: Any) -> Any:
        if any_typetracer((value,)):
            return primals(value, self.owner)
        pair = as_pair(value, self.owner)
        chosen = {i: tangents[self.direction] for i, tangents in pair.tangents.items()}
        return derivative_like(pair.primal, {i: t for i, t in chosen.items() if t is not None})


class TakeTangents:
    """The tangents of several directions, along trailing axes behind every floating-point number.

    Parameters
    ----------
    directions : slice
        Which.
    shape : tuple of int
        Of the trailing axes.
    """

    def __init__(self, owner: str, directions: slice, shape: tuple[int, ...]):
        self.owner, self.directions, self.shape = owner, directions, shape

    def __call__(self, value: Any) -> Any:
        if any_typetracer((value,)):
            # A reduced number has touched what it was computed from.
            return self.meta(value) if isinstance(value, ak.Array) else value
        pair = as_pair(value, self.owner, self.directions.stop)
        # While columns are sought a value has no tangents.
        none = (None,) * self.directions.stop

        def on_leaf(leaf: Any, is_text: bool, i: int) -> Any:
            if is_text or is_absent(leaf) or not is_float(leaf):
                return leaf if is_text or is_absent(leaf) else np.zeros_like(leaf)
            zero = np.zeros_like(raw(leaf))
            given = [zero if t is None else t for t in pair.tangents.get(i, none)[self.directions]]
            return _stacked(given, np.shape(leaf), self.shape)

        if not isinstance(pair.primal, histogram_types()):
            return map_leaves(pair.primal, numbered(on_leaf))
        stacked = [on_leaf(leaf, False, i) for i, leaf in enumerate(leaf_values(pair.primal))]
        more = with_components(pair.primal, self.shape)
        return map_leaves(more, numbered(lambda leaf, is_text, i: stacked[i]))

    def meta(self, value: Any) -> Any:
        """What comes of a typetracer: the same on an array of length zero."""
        ak.typetracer.touch_data(value)
        empty = self(ak.typetracer.length_zero_if_typetracer(value))
        return ak.Array(empty.layout.to_typetracer(forget_length=True), behavior=empty.behavior)


def _stacked(tangents: list, shape: tuple[int, ...], trailing: tuple[int, ...]) -> Any:
    """Tangents of one shape along trailing axes; they may be arrays of another derivative."""
    columns = (reshape(t, shape=(*shape, 1)) for t in tangents)
    return reshape(concatenate(*columns, axis=-1), shape=shape + trailing)


class TakePrimal:
    """The value itself, out of its pair."""

    def __init__(self, owner: str):
        self.owner = owner

    def __call__(self, value: Any) -> Any:
        return primals(value, self.owner)
