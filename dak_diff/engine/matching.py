"""Tangents and cotangents beside the value they belong to: their leaves, placed as its leaves are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import awkward as ak
import numpy as np

from dak_diff.engine.awkward_internals import base_backend, indexes, leaf_data, leaves, pack, transferred
from dak_diff.engine.buffer import Buffer
from dak_diff.engine.histograms import match_contents
from dak_diff.engine.loaded import histogram_types
from dak_diff.engine.values import array_layout, element_positions, is_float, leaf_values, whole_layout
from dak_diff.errors import StructureError
from dak_diff.rules.namespace import home, is_weak, namespace
from dak_diff.rules.primitive import Traced, dtype_of, raw
from dak_diff.rules.structure import astype, move_like, reshape, scatter_add

__all__ = ["match_leaves"]


def match_leaves(primal: Any, tangent: Any, what: str = "tangent") -> dict[int, Any]:
    """The float leaves of a tangent (or cotangent) of a primal, by position.

    They have the shapes of the leaves of the primal, whatever the layout of the tangent is: an
    element that the primal does not reach is zero, what it reaches twice is added.
    A number stands for an array full of it; a list, tuple or dict must nest as the primal.

    Raises
    ------
    StructureError
        If types or lengths differ.
    """
    found: list[Any] = []
    for part, derivative in _zip_parts(primal, tangent, what):
        found.extend(_match_part(part, derivative, what))
    return {i: leaf for i, leaf in enumerate(found) if leaf is not None}


def _zip_parts(primal: Any, tangent: Any, what: str) -> Iterator[tuple[Any, Any]]:
    if isinstance(primal, (tuple, list)):
        if isinstance(tangent, (int, float)):
            tangent = [tangent] * len(primal)
        if not isinstance(tangent, (tuple, list)) or len(tangent) != len(primal):
            raise StructureError(
                f"the {what} must nest as its primal: a {type(primal).__name__} of {len(primal)}"
            )
        for p, t in zip(primal, tangent, strict=True):
            yield from _zip_parts(p, t, what)
    elif isinstance(primal, dict):
        if isinstance(tangent, (int, float)):
            tangent = dict.fromkeys(primal, tangent)
        if not isinstance(tangent, dict) or set(tangent) != set(primal):
            raise StructureError(f"the {what} must nest as its primal: a dict with keys {sorted(primal)}")
        for key, p in primal.items():
            yield from _zip_parts(p, tangent[key], what)
    else:
        yield primal, tangent


def _match_part(primal: Any, tangent: Any, what: str) -> list[Any]:
    if isinstance(primal, histogram_types()):
        return match_contents(primal, tangent, what)
    if isinstance(tangent, (list, tuple)):
        tangent = ak.Array(tangent) if isinstance(primal, (ak.Array, ak.Record)) else np.asarray(tangent)
    mine = leaf_values(primal)
    if _is_complex(tangent) and is_float(mine[0]) and not any(map(_is_complex, mine)):
        raise StructureError(f"the {what} is complex, its primal is not")
    if not isinstance(tangent, (ak.Array, ak.Record)) and np.ndim(tangent) == 0:
        tangent = tangent.value if isinstance(tangent, Buffer) else tangent
        if isinstance(primal, (ak.Array, ak.Record)):
            return _match_number(primal, tangent)
        return [_full(leaf, tangent, np.shape(leaf)) if is_float(leaf) else None for leaf in mine]
    if isinstance(primal, (ak.Array, ak.Record)):
        return _match_layout(
            primal, tangent if isinstance(tangent, (ak.Array, ak.Record)) else ak.Array(tangent), what
        )
    if np.shape(tangent) != np.shape(primal):
        raise StructureError(f"the {what} has shape {np.shape(tangent)}, its primal {np.shape(primal)}")
    if not is_float(mine[0]):
        return [None]
    like, dtype = home(raw(mine[0])), dtype_of(mine[0])
    return [move_like(t if is_float(t) else astype(t, dtype=dtype), like) for t in leaf_values(tangent)]


def _is_complex(x: Any) -> bool:
    """Of a number or a plain array; Awkward's types are compared as such."""
    return not isinstance(x, (ak.Array, ak.Record)) and np.ndim(x) >= 0 and dtype_of(x).kind == "c"


def _match_number(primal: Any, number: Any) -> list[Any]:
    data = leaf_data(whole_layout(primal))
    return [
        None
        if is_text or place is None or not is_float(leaf)
        else _placed(_full(leaf, number, place.shape), place, np.shape(leaf))
        for (leaf, is_text), place in zip(data, element_positions(primal), strict=True)
    ]


def _match_layout(primal: Any, tangent: Any, what: str) -> list[Any]:
    _check_type(primal, tangent, what)
    mine, where = whole_layout(primal), element_positions(primal)
    if all(place is None for place in where):
        # Nobody reads the column, so its lengths are not here to compare, nor is its derivative needed.
        return [None] * len(where)
    own = pack(array_layout(primal))
    theirs = pack(transferred(array_layout(tangent), base_backend(own.backend)))
    if any(not np.array_equal(a, b) for a, b in zip(indexes(own), indexes(theirs), strict=True)) or (
        [x.length for x in leaves(own)] != [x.length for x in leaves(theirs)]
    ):
        raise StructureError(f"the {what} has the type of its primal, {_type(primal)}, but other lengths")
    matched: list[Any] = []
    for (leaf, is_text), (given, _), place in zip(leaf_data(mine), leaf_data(theirs), where, strict=True):
        if is_text or place is None or not is_float(leaf):
            matched.append(None)
        else:
            matched.append(_placed(given, place, np.shape(leaf)))
    return matched


def _placed(given: Any, place: Any, shape: tuple[int, ...]) -> Any:
    """The elements of a packed leaf where they belong in a buffer."""
    flat = place.reshape(-1)
    if flat.size == math.prod(shape) and np.array_equal(flat, namespace(flat).arange(flat.size)):
        return reshape(given, shape=shape)
    return reshape(scatter_add(reshape(given, shape=(-1,)), key=flat, shape=(math.prod(shape),)), shape=shape)


def _full(leaf: Any, number: Any, shape: tuple[int, ...]) -> Any:
    if isinstance(number, Traced):
        number = move_like(number, home(raw(leaf)))
        return number * np.ones_like(raw(leaf), shape=shape) if shape else number
    weak = is_weak(raw(leaf))
    if shape or not (weak or namespace(raw(leaf)) is np):
        return np.full_like(raw(leaf), number, shape=shape)
    if weak:
        return complex(number) if dtype_of(leaf).kind == "c" else float(number)
    return dtype_of(leaf).type(number)


def _type(value: Any) -> Any:
    return whole_layout(value).form.type


def _check_type(primal: Any, tangent: Any, what: str) -> None:
    if not _type(primal).is_equal_to(_type(tangent), all_parameters=False):
        raise StructureError(
            f"the {what} has type {_type(tangent)}, its primal {_type(primal)}; they must be the same. "
            "ak.values_astype changes the numbers, ak.zip the structure."
        )
