"""What an Awkward array is made of: walks over layouts, and their canonical form."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from awkward._backends.backend import Backend
from awkward._nplikes.placeholder import PlaceholderArray
from awkward._nplikes.virtual import VirtualNDArray
from awkward.contents import (
    BitMaskedArray,
    ByteMaskedArray,
    Content,
    EmptyArray,
    IndexedArray,
    IndexedOptionArray,
    ListArray,
    ListOffsetArray,
    NumpyArray,
    RecordArray,
    RegularArray,
    UnionArray,
    UnmaskedArray,
)
from awkward.index import Index

from dak_diff.engine.awkward_internals.backend import base_backend, primal
from dak_diff.engine.buffer import Buffer, plain
from dak_diff.errors import NoRuleError
from dak_diff.rules.namespace import namespace

__all__ = [
    "indexes",
    "indexes_elements",
    "is_absent",
    "is_virtual",
    "leaf_data",
    "leaves",
    "map_layout",
    "materialized",
    "pack",
    "positions",
    "refuse_categorical_numbers",
]


def is_absent(data: Any) -> bool:
    """Whether a buffer was projected away: nothing can be read from it, nothing depends on it."""
    return isinstance(data, PlaceholderArray)


def is_virtual(data: Any) -> bool:
    """Whether a buffer has not been read yet."""
    return isinstance(data, VirtualNDArray) and not data.is_materialized


def materialized(layout: Content) -> Content:
    """The layout with what is virtual read; what was projected away stays so."""
    return layout.materialize(VirtualNDArray)


def map_layout(
    layout: Content,
    backend: Backend,
    on_index: Callable[[Any], Any],
    on_leaf: Callable[[NumpyArray], Any],
) -> Content:
    """The same layout with every buffer replaced; leaves are visited depth first.

    Buffers that were projected away (placeholders) or are still virtual go through the
    same two functions, which pass them by.
    """
    recurse = partial(map_layout, backend=backend, on_index=on_index, on_leaf=on_leaf)
    parameters = layout._parameters

    def as_index(i: Index) -> Index:
        return Index(on_index(i.data), metadata=i._metadata, nplike=backend.nplike)

    if isinstance(layout, NumpyArray):
        return NumpyArray(on_leaf(layout), parameters=parameters, backend=backend)
    if isinstance(layout, EmptyArray):
        return EmptyArray(backend=backend)
    if isinstance(layout, ListOffsetArray):
        return ListOffsetArray(as_index(layout.offsets), recurse(layout.content), parameters=parameters)
    if isinstance(layout, ListArray):
        starts, stops = as_index(layout.starts), as_index(layout.stops)
        return ListArray(starts, stops, recurse(layout.content), parameters=parameters)
    if isinstance(layout, RegularArray):
        return RegularArray(recurse(layout.content), layout.size, layout.length, parameters=parameters)
    if isinstance(layout, RecordArray):
        return RecordArray(
            [recurse(content) for content in layout.contents],
            layout._fields,
            length=layout.length,
            parameters=parameters,
            backend=backend,
        )
    if isinstance(layout, (IndexedArray, IndexedOptionArray)):
        return type(layout)(as_index(layout.index), recurse(layout.content), parameters=parameters)
    if isinstance(layout, ByteMaskedArray):
        mask = as_index(layout.mask)
        return ByteMaskedArray(mask, recurse(layout.content), layout.valid_when, parameters=parameters)
    if isinstance(layout, BitMaskedArray):
        return recurse(layout.to_ByteMaskedArray())
    if isinstance(layout, UnmaskedArray):
        return UnmaskedArray(recurse(layout.content), parameters=parameters)
    if isinstance(layout, UnionArray):
        tags, indexes = as_index(layout.tags), as_index(layout.index)
        return UnionArray(tags, indexes, [recurse(c) for c in layout.contents], parameters=parameters)
    raise TypeError(f"unknown layout class {type(layout).__name__}")


def leaves(layout: Content) -> list[NumpyArray]:
    """The leaves (float buffers and all others that hold data), depth first."""
    found: list[NumpyArray] = []

    def on_leaf(leaf: NumpyArray) -> Any:
        found.append(leaf)
        return leaf.data

    map_layout(layout, layout.backend, lambda data: data, on_leaf)
    return found


def pack(layout: Content) -> Content:
    """A canonical layout of the same type: two arrays of one type pack to matching leaves.

    Every element of a packed leaf is reachable exactly once: a buffer that is referenced
    twice (``x[[0, 0, 1]]``) could not hold two tangents.
    """
    nplike = layout.backend.nplike
    parameters = layout._parameters

    def to_index(data: Any) -> Index:
        return Index(nplike.asarray(data), nplike=nplike)

    if isinstance(layout, EmptyArray) or _is_projected_away(layout):
        return layout
    if isinstance(layout, NumpyArray):
        return pack(layout.to_RegularArray()) if layout.data.ndim > 1 else layout.to_contiguous()
    if isinstance(layout, (ListOffsetArray, ListArray)):
        layout = layout.to_ListOffsetArray64(True)
        content = layout.content[: nplike.index_as_shape_item(layout.offsets.data[-1])]
        return ListOffsetArray(layout.offsets, pack(content), parameters=parameters)
    if isinstance(layout, RegularArray):
        content = layout.content[: layout.size * layout.length]
        return RegularArray(pack(content), layout.size, layout.length, parameters=parameters)
    if isinstance(layout, RecordArray):
        contents = [pack(c[: layout.length]) for c in layout.contents]
        return RecordArray(
            contents, layout._fields, length=layout.length, parameters=parameters, backend=layout.backend
        )
    if isinstance(layout, IndexedArray):
        if layout.parameter("__array__") == "categorical":
            return IndexedArray(layout.index, pack(layout.content), parameters=parameters)
        return pack(layout.project())
    if layout.is_option:
        missing = plain(layout.mask_as_bool(valid_when=False), "a mask")
        xp = namespace(missing)
        packed = xp.where(missing, -1, (~missing).cumsum() - 1).astype(np.int64)
        return IndexedOptionArray(to_index(packed), pack(layout.project()), parameters=parameters)
    if isinstance(layout, UnionArray):
        tags, positions = plain(layout.tags.data, "tags"), plain(layout.index.data, "an index")
        xp = namespace(tags)
        contents, compact = [], xp.empty(tags.shape[0], dtype=np.int64)
        for tag, content in enumerate(layout.contents):
            chosen = tags == tag
            contents.append(pack(content._carry(to_index(positions[: tags.shape[0]][chosen]), False)))
            compact[chosen] = xp.arange(chosen.sum().item())
        return UnionArray(layout.tags, to_index(compact), contents, parameters=parameters)
    raise TypeError(f"unknown layout class {type(layout).__name__}")


def _is_projected_away(layout: Content) -> bool:
    buffers = (
        getattr(layout, name, None) for name in ("_data", "_offsets", "_starts", "_index", "_mask", "_tags")
    )
    return any(is_absent(getattr(buffer, "_data", buffer)) for buffer in buffers)


def refuse_categorical_numbers(layout: Content) -> None:
    """Entries of one category share one number: there is no derivative by one of them alone."""
    if isinstance(layout, (RecordArray, UnionArray)):
        for content in layout.contents:
            refuse_categorical_numbers(content)
    elif layout.is_indexed and layout.parameter("__array__") == "categorical":
        if any(leaf.dtype.kind in "fc" for leaf in leaves(layout.content)):
            raise NoRuleError(
                "no derivative by categorical numbers: entries of one category share one number. "
                "ak.from_categorical gives each entry its own."
            )
    elif hasattr(layout, "content"):
        refuse_categorical_numbers(layout.content)


def positions(layout: Content, at: int | None = None) -> list[Any]:
    """For each leaf, where in its buffer the elements of the packed leaf are (None: projected away).

    With ``at``: of this one entry of the layout.
    """
    base = base_backend(layout.backend)

    def number(leaf: NumpyArray) -> Any:
        if is_absent(leaf.data) or _is_text(leaf):
            return primal(leaf.data)
        shape = leaf.data.shape
        return base.nplike._module.arange(math.prod(shape)).reshape(shape)

    numbered = map_layout(layout, base, primal, number)
    numbered = numbered if at is None else numbered[at : at + 1]
    return [None if is_absent(leaf.data) else leaf.data for leaf in leaves(pack(numbered))]


def indexes(layout: Content) -> list[Any]:
    """The plain data of all index buffers, depth first."""
    found: list[Any] = []

    def on_index(data: Any) -> Any:
        found.append(data)
        return data

    map_layout(layout, layout.backend, on_index, lambda leaf: leaf.data)
    return [primal(data) for data in found]


def indexes_elements(layout: Content) -> bool:
    """Whether some part of a layout says where each element is, so that it could name one twice."""
    if isinstance(layout, (IndexedArray, IndexedOptionArray, ListArray, UnionArray)):
        return True
    if isinstance(layout, RecordArray):
        return any(map(indexes_elements, layout.contents))
    return not isinstance(layout, (NumpyArray, EmptyArray)) and indexes_elements(layout.content)


def leaf_data(layout: Content) -> list[tuple[Any, bool]]:
    """For each leaf its value (plain, dual or tape) and whether it holds the bytes of text."""

    def value(leaf: NumpyArray) -> Any:
        return leaf.data.value if isinstance(leaf.data, Buffer) else leaf.data

    return [(value(leaf), _is_text(leaf)) for leaf in leaves(layout)]


def _is_text(leaf: NumpyArray) -> bool:
    return leaf.parameter("__array__") in ("char", "byte")
