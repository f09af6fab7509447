"""What a function of one partition takes and gives: arrays, numbers, and nests of them.

A *leaf* is one buffer of such a value, counted depth first. :class:`Pair` is a value with
tangents on some of its leaves; it holds plain arrays only, so it pickles, has a size and
spills like any other data.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np

from dak_diff.engine.active_histogram import contents
from dak_diff.engine.awkward_internals import (
    base_backend,
    buffer_type_of,
    diff_backend,
    indexes_elements,
    is_absent,
    leaf_data,
    map_layout,
    materialized,
    on_base,
    pack,
    positions,
    refuse_categorical_numbers,
)
from dak_diff.engine.buffer import Buffer
from dak_diff.engine.histograms import map_contents
from dak_diff.engine.loaded import histogram_types
from dak_diff.engine.nests import is_nest, map_parts, named_parts
from dak_diff.errors import StructureError
from dak_diff.rules.namespace import home, is_array, moved
from dak_diff.rules.primitive import Traced, dtype_of, raw
from dak_diff.rules.structure import move_like

__all__ = [
    "Cotangents",
    "Kept",
    "Pair",
    "array_layout",
    "derivative_like",
    "element_positions",
    "is_active",
    "is_float",
    "leaf_values",
    "map_leaves",
    "map_residuals",
    "numbered",
    "on_backend",
    "refuse_opaque",
    "separated",
    "settled",
    "stopped",
    "whole_layout",
    "wrapped",
]

_NUMBERS = (bool, int, float, complex, np.generic)


@dataclass(frozen=True)
class Pair:
    """A primal value and the tangents of its leaves.

    Parameters
    ----------
    primal : value
        As the function itself gives it.
    tangents : dict of int to tuple
        Position of a leaf -> one tangent for each direction (None is zero).
    width : int
        How many directions.
    owner : str
        Which derivative it belongs to: to any other one a pair is a value like any other.
    """

    primal: Any
    tangents: dict[int, tuple]
    width: int = 1
    owner: str = ""


class Cotangents(dict[int, Any]):
    """Position of a leaf -> its cotangent, an array of an algebra or a plain one.

    Leaves without one are absent, so a record of many columns never grows arrays of zeros.
    """

    def map_leaves(self, on_leaf: Callable[[Any, bool], Any]) -> Cotangents:
        """As :func:`map_leaves`."""
        return Cotangents({i: on_leaf(cotangent, False) for i, cotangent in self.items()})


class Kept:
    """A value of the user's among residuals: functions of arrays take and give it.

    Parameters
    ----------
    value : value
        Arrays, numbers, nests of them, anything else.
    """

    def __init__(self, value: Any):
        self.value = value

    def map_leaves(self, on_leaf: Callable[[Any, bool], Any]) -> Kept:
        """As :func:`map_leaves`."""
        return Kept(map_leaves(self.value, on_leaf))


def map_residuals(part: Any, on_leaf: Callable[[Any, bool], Any]) -> Any:
    """As :func:`map_leaves`, of what primitives keep: bare arrays in tuples and dicts."""
    if isinstance(part, tuple):
        return tuple(map_residuals(p, on_leaf) for p in part)
    if isinstance(part, dict):
        return {k: map_residuals(p, on_leaf) for k, p in part.items()}
    if isinstance(part, Kept):
        return part.map_leaves(on_leaf)
    is_leaf = isinstance(part, (Traced, np.generic, float, complex)) or is_array(part)
    return on_leaf(part, False) if is_leaf else part


def is_float(x: Any) -> bool:
    """Whether a leaf is floating point, real or complex."""
    return dtype_of(x).kind in "fc"


def map_leaves(value: Any, on_leaf: Callable[[Any, bool], Any]) -> Any:
    """The value with ``on_leaf(leaf value, is text)`` in place of every leaf.

    The result stays on a plain backend unless a leaf became active.
    """
    if isinstance(value, Pair):
        primal = map_leaves(value.primal, on_leaf)
        tangents = {
            i: tuple(None if t is None else on_leaf(t, False) for t in ts) for i, ts in value.tangents.items()
        }
        return Pair(primal, tangents, value.width, value.owner)
    if hasattr(type(value), "map_leaves"):
        return value.map_leaves(on_leaf)
    if isinstance(value, ak.Array):
        return _highlevel(_map_layout(value.layout, on_leaf), value)
    if isinstance(value, ak.Record):
        layout = value.layout
        return _highlevel(ak.record.Record(_map_layout(layout.array, on_leaf), layout.at), value)
    if is_nest(value):
        return map_parts(value, lambda part: map_leaves(part, on_leaf))
    if isinstance(value, histogram_types()):
        return map_contents(value, on_leaf)
    if isinstance(value, Buffer):
        return wrapped(on_leaf(value.value, False))
    if isinstance(value, _NUMBERS) or is_array(value):
        return wrapped(on_leaf(value, False))
    return value


def refuse_opaque(value: Any, where: str = "") -> None:
    """A derivative in what is no array, number, histogram, text or nest of these would be lost.

    Raises
    ------
    StructureError
        With the class and the place of what it is.
    """
    if is_nest(value):
        for place, part in named_parts(value):
            refuse_opaque(part, where + place)
        return
    histogram = isinstance(value, histogram_types())
    known = isinstance(value, (ak.Array, ak.Record, Buffer, str, bytes, type(None), *_NUMBERS))
    if not (contents(value) if histogram else known or is_array(value) or hasattr(type(value), "map_leaves")):
        what = f"histogram with storage {value.storage_type.__name__}" if histogram else type(value).__name__
        raise StructureError(
            f"the result has a {what}{f' at {where}' if where else ''}, which is not looked into for a "
            "derivative. Return arrays, numbers, histograms with storage Double or Weight, and tuples, lists "
            "and dicts of these."
        )


def wrapped(value: Any) -> Any:
    """An array of an algebra as functions of arrays take and give it; anything else as it is."""
    return buffer_type_of(value)(value) if isinstance(value, Traced) else value


def _highlevel(layout: Any, like: Any) -> Any:
    return type(like)(layout, behavior=like.behavior, attrs=like._attrs)


def _map_layout(layout: Any, on_leaf: Callable[[Any, bool], Any]) -> Any:
    data = [on_leaf(leaf, is_text) for leaf, is_text in leaf_data(layout)]
    base = base_backend(layout.backend)
    backend = diff_backend(base) if any(isinstance(x, Traced) for x in data) else base
    new = iter(data)
    asarray = backend.nplike.asarray

    def on_index(i: Any) -> Any:
        return asarray(i.value if isinstance(i, Buffer) else i)

    return map_layout(layout, backend, on_index, lambda leaf: asarray(next(new)))


def numbered(on_leaf: Callable) -> Callable[[Any, bool], Any]:
    """A function of leaves, for :func:`map_leaves`, that is also told how many came before."""
    position = itertools.count()
    return lambda leaf, is_text: on_leaf(leaf, is_text, next(position))


def is_active(value: Any) -> bool:
    """Whether a value may carry a derivative."""
    if isinstance(value, (ak.Array, ak.Record)):
        backend = value.layout.backend if isinstance(value, ak.Array) else value.layout.array.backend
        return base_backend(backend) is not backend
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        return any(map(is_active, value))
    if isinstance(value, histogram_types()):
        return any(isinstance(leaf, Traced) for leaf in contents(value))
    return isinstance(value, Buffer) and value.active


def stopped(value: Any) -> Any:
    """The same numbers, as constants."""
    return map_leaves(value, lambda leaf, is_text: raw(leaf))


def leaf_values(value: Any) -> list[Any]:
    """All leaves of a value."""
    found: list[Any] = []

    def on_leaf(leaf: Any, is_text: bool) -> Any:
        found.append(leaf)
        return leaf

    map_leaves(value, on_leaf)
    return found


def separated(value: Any) -> Any:
    """The value, read where it is virtual, in another layout only if a buffer of it is referenced twice.

    Such a buffer (``x[[0, 0, 1]]``) could not hold a derivative for each element.
    """

    def on_array(array: Any) -> Any:
        refuse_categorical_numbers(whole_layout(array))
        if isinstance(array, ak.Record):
            return _highlevel(ak.record.Record(pack(materialized(array_layout(array))), 0), array)
        array = _highlevel(materialized(array.layout), array)
        return _highlevel(pack(array.layout), array) if _refers_twice(array) else array

    return _map_arrays(value, on_array)


def settled(value: Any) -> Any:
    """The value in the layout that pickling gives it, so that leaves are the same in every process."""

    def on_array(array: Any) -> Any:
        absent = any(is_absent(leaf) for leaf, _ in leaf_data(whole_layout(array)))
        return array if absent else ak.to_packed(array)

    return _map_arrays(value, on_array)


def on_backend(value: Any, backend: Any) -> Any:
    """The value with its arrays on another base; what is active stays so, numbers are nowhere."""
    if isinstance(value, (ak.Array, ak.Record)):
        return on_base(value, backend)
    if is_nest(value):
        return map_parts(value, lambda part: on_backend(part, backend))
    to = backend.nplike.ndarray
    if isinstance(value, Buffer) and is_array(raw(value.value)):
        return wrapped(move_like(value.value, to))
    return moved(value, to) if is_array(value) else value


def _map_arrays(value: Any, on_array: Callable[[Any], Any]) -> Any:
    """The value with ``on_array`` of every Awkward array and record in it."""
    if isinstance(value, (ak.Array, ak.Record)):
        return on_array(value)
    if is_nest(value) and not isinstance(value, Cotangents):
        return map_parts(value, lambda part: _map_arrays(part, on_array))
    return value


def _refers_twice(value: ak.Array) -> bool:
    if not indexes_elements(value.layout):
        return False
    return any(
        found is not None and not _increasing(found) and np.unique(found).size != found.size
        for found, (leaf, _) in zip(element_positions(value), leaf_data(value.layout), strict=True)
        if is_float(leaf)
    )


def _increasing(found: Any) -> bool:
    flat = found.reshape(-1)
    return bool((flat[1:] > flat[:-1]).all())


def whole_layout(value: Any) -> Any:
    """The layout of an array, or of the array that a record is an entry of."""
    return value.layout.array if isinstance(value, ak.Record) else value.layout


def element_positions(value: Any) -> list[Any]:
    """For each leaf of :func:`whole_layout`, where the elements of the packed leaf are in it."""
    return positions(whole_layout(value), value.layout.at if isinstance(value, ak.Record) else None)


def array_layout(value: Any) -> Any:
    """The layout of an array, or of the array of one entry that a record is."""
    layout = value.layout
    return layout.array[layout.at : layout.at + 1] if isinstance(value, ak.Record) else layout


def derivative_like(value: Any, derivatives: dict[int, Any]) -> Any:
    """A value of the same type that holds derivatives: given leaves, zero, False, or the text itself."""
    position = itertools.count()

    def on_leaf(leaf: Any, is_text: bool) -> Any:
        i = next(position)
        if i in derivatives:
            derivative = derivatives[i]
            scalar = isinstance(leaf, np.generic) and not isinstance(derivative, Traced)
            return leaf.dtype.type(derivative) if scalar else derivative
        if is_text or is_absent(leaf):
            return leaf
        if not hasattr(leaf, "dtype"):
            return type(leaf)(0)
        return np.zeros_like(raw(leaf)) if np.ndim(leaf) else moved(leaf.dtype.type(0), home(raw(leaf)))

    return map_leaves(value, on_leaf)
