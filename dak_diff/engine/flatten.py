"""Values taken apart into flat leaves and a structure that puts them together again.

A *leaf* is a buffer, a length that no buffer tells (of a record, of a regular array), or a number. The
*structure* is all else: classes, fields, parameters, behavior, text. It is plain data, and values of one
structure differ in their leaves alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
from awkward import contents as layouts
from awkward.index import Index

from dak_diff.engine.awkward_internals import is_absent, is_virtual
from dak_diff.engine.buffer import Buffer
from dak_diff.engine.nests import is_nest
from dak_diff.programs.recorder import Tracked
from dak_diff.rules.namespace import is_array

__all__ = ["NotFlatError", "Static", "Structure", "flatten", "unflatten"]


class NotFlatError(TypeError):
    """A value that has no flat leaves: what it is."""


class Structure(NamedTuple):
    """What is left of a value without its leaves.

    Parameters
    ----------
    kind : object
        A class of layouts or nests, or how a leaf is read.
    facts : tuple
        What tells it from others of its kind; hashable.
    parts : tuple of Structure
        What it is made of.
    """

    kind: Any
    facts: tuple = ()
    parts: tuple[Structure, ...] = ()


class Static:
    """Something of a structure, compared by a key; without one it must be the very same object."""

    __slots__ = ("key", "value")

    def __init__(self, value: Any, key: Any = None):
        self.value, self.key = value, key

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Static) or self.key != other.key:
            return False
        return self.key is not None or self.value is other.value

    def __hash__(self) -> int:
        return hash(self.key) if self.key is not None else id(self.value)


_BUFFER, _NUMBER, _CONSTANT, _ABSENT = "buffer", "number", "constant", "absent"
_CONSTANTS = (str, bytes, bool, int, type(None), np.dtype, type(Ellipsis), slice)


def flatten(value: Any) -> tuple[list[Any], Structure]:
    """The leaves of a value, and its structure.

    Raises
    ------
    NotFlatError
        If there is something in it that is not looked into.
    """
    leaves: list[Any] = []
    return leaves, _flatten(value, leaves)


def _flatten(value: Any, leaves: list[Any]) -> Structure:
    if isinstance(value, ak.Array):
        return Structure(ak.Array, _highlevel(value), (_layout(value.layout, leaves),))
    if isinstance(value, ak.Record):
        layout = value.layout
        leaves.append(layout.at)
        return Structure(ak.Record, _highlevel(value), (_layout(layout.array, leaves),))
    if isinstance(value, Buffer):
        value = value.value
    if isinstance(value, Tracked) or is_array(value):
        return _leaf(value, leaves)
    if isinstance(value, (float, complex, np.number)):
        leaves.append(value)
        return Structure(_NUMBER, (type(value),))
    if isinstance(value, np.bool_):
        leaves.append(value)
        return Structure(_NUMBER, (np.bool_,))
    if is_nest(value):
        if isinstance(value, dict):
            facts: tuple = (type(value), tuple(value))
            parts = tuple(_flatten(part, leaves) for part in value.values())
        else:
            facts, parts = (type(value), len(value)), tuple(_flatten(part, leaves) for part in value)
        if type(value) not in (tuple, list, dict) and not hasattr(value, "_make"):
            raise NotFlatError(f"a {type(value).__name__}")
        return Structure("nest", facts, parts)
    if isinstance(value, _CONSTANTS):
        return Structure(_CONSTANT, (Static(value, (type(value), repr(value))),))
    raise NotFlatError(f"a {type(value).__name__}")


def _leaf(value: Any, leaves: list[Any]) -> Structure:
    leaves.append(value)
    if isinstance(value, Tracked):
        return Structure(_BUFFER, ("recorded",))
    if value.dtype.kind not in "biufc":
        raise NotFlatError(f"an array of {value.dtype}")
    return Structure(_BUFFER, (type(value), value.dtype, value.ndim, bool(value.flags.c_contiguous)))


def _highlevel(value: Any) -> tuple:
    attrs = value._attrs
    return (
        type(value),
        None if value.behavior is None else Static(value.behavior),
        None if not attrs else _attributes(attrs),
    )


def _attributes(attrs: Any) -> tuple:
    return tuple(
        (key, Static(value) if _is_opaque(value) else Static(value, repr(value)))
        for key, value in attrs.items()
    )


def _is_opaque(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_is_opaque, value.values()))
    return not isinstance(value, (str, int, float, bool, type(None), tuple))


def _layout(layout: Any, leaves: list[Any]) -> Structure:
    """Buffers depth first, an array's own before its contents'."""
    cls = type(layout)
    facts: tuple = ()
    parts: list[Structure] = []
    if cls is layouts.NumpyArray:
        parts.append(_buffer(layout.data, leaves))
    elif cls is layouts.RecordArray:
        leaves.append(layout.length)
        facts = (None if layout._fields is None else tuple(layout._fields),)
    elif cls is layouts.RegularArray:
        leaves.append(layout.length)
        facts = (layout.size,)
    elif cls is layouts.EmptyArray or cls is layouts.UnmaskedArray:
        pass
    elif cls in _INDEXED:
        names, options = _INDEXED[cls]
        parts += [_buffer(getattr(layout, name).data, leaves) for name in names]
        if cls is layouts.BitMaskedArray:
            leaves.append(layout.length)
        facts = tuple(getattr(layout, name) for name in options)
    else:
        raise NotFlatError(f"a {cls.__name__}")
    contents = (
        layout.contents
        if hasattr(layout, "contents")
        else [layout.content]
        if hasattr(layout, "content")
        else []
    )
    parts += [_layout(content, leaves) for content in contents]
    return Structure(cls, (*facts, Static(layout._parameters, repr(layout._parameters))), tuple(parts))


_INDEXED: dict[type, tuple[tuple[str, ...], tuple[str, ...]]] = {
    layouts.ListOffsetArray: (("offsets",), ()),
    layouts.ListArray: (("starts", "stops"), ()),
    layouts.IndexedArray: (("index",), ()),
    layouts.IndexedOptionArray: (("index",), ()),
    layouts.ByteMaskedArray: (("mask",), ("valid_when",)),
    layouts.BitMaskedArray: (("mask",), ("valid_when", "lsb_order")),
    layouts.UnionArray: (("tags", "index"), ()),
}


def _buffer(data: Any, leaves: list[Any]) -> Structure:
    if is_absent(data):
        leaves.append(data)
        return Structure(_ABSENT)
    if is_virtual(data):
        raise NotFlatError("a virtual array that nobody has read")
    return _leaf(data.value if isinstance(data, Buffer) else data, leaves)


def unflatten(structure: Structure, leaves: list[Any], backend: Any) -> Any:
    """The value of a structure with other leaves; arrays are of ``backend``."""
    taken = iter(leaves)
    return _unflatten(structure, taken, backend)


def _unflatten(structure: Structure, leaves: Iterator[Any], backend: Any) -> Any:
    kind, facts, parts = structure
    if kind is ak.Array:
        cls, behavior, attrs = facts
        return _of_class(cls, _build(parts[0], leaves, backend), behavior, attrs)
    if kind is ak.Record:
        cls, behavior, attrs = facts
        at = next(leaves)
        return _of_class(cls, ak.record.Record(_build(parts[0], leaves, backend), at), behavior, attrs)
    if kind in (_BUFFER, _NUMBER):
        return next(leaves)
    if kind == "nest":
        cls = facts[0]
        made = [_unflatten(part, leaves, backend) for part in parts]
        if cls is dict:
            return dict(zip(facts[1], made, strict=True))
        return cls._make(made) if hasattr(cls, "_make") else cls(made)
    return facts[0].value


def _of_class(cls: type, layout: Any, behavior: Any, attrs: Any) -> Any:
    return cls(
        layout,
        behavior=None if behavior is None else behavior.value,
        attrs=None if attrs is None else {key: static.value for key, static in attrs},
    )


def _build(structure: Structure, leaves: Iterator[Any], backend: Any) -> Any:
    cls, facts, parts = structure
    parameters = facts[-1].value
    if cls is layouts.NumpyArray:
        return layouts.NumpyArray(next(leaves), parameters=parameters, backend=backend)
    if cls is layouts.EmptyArray:
        return layouts.EmptyArray(backend=backend)
    recurse: Callable = lambda part: _build(part, leaves, backend)  # noqa: E731
    if cls is layouts.RecordArray:
        length = next(leaves)
        fields = None if facts[0] is None else list(facts[0])
        return layouts.RecordArray(
            [recurse(part) for part in parts], fields, length=length, parameters=parameters, backend=backend
        )
    if cls is layouts.RegularArray:
        length = next(leaves)
        return layouts.RegularArray(recurse(parts[0]), facts[0], length, parameters=parameters)
    if cls is layouts.UnmaskedArray:
        return layouts.UnmaskedArray(recurse(parts[0]), parameters=parameters)
    names, options = _INDEXED[cls]
    indexes = [Index(next(leaves), nplike=backend.nplike) for _ in names]
    extra = [next(leaves)] if cls is layouts.BitMaskedArray else []
    contents = [recurse(part) for part in parts[len(names) :]]
    if cls is layouts.UnionArray:
        return cls(*indexes, contents, parameters=parameters)
    return cls(
        *indexes,
        contents[0],
        *facts[: len(options)][:1],
        *extra,
        *facts[1 : len(options)],
        parameters=parameters,
    )
