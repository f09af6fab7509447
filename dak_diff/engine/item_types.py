"""What the elements of an array are, by its type: not by its text, in which columns say what they mean."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import awkward as ak

__all__ = ["item_types"]


def item_types(array: Any) -> set[str]:
    """The types of the elements: "float64", "string", "bytes"; "unknown" where there never was one."""
    return set(_walk(array.layout.form.type if isinstance(array, ak.Array) else ak.type(array)))


def _walk(of: Any) -> Iterator[str]:
    if of.parameters.get("__array__") in ("string", "bytestring"):
        yield "string" if of.parameters["__array__"] == "string" else "bytes"
    elif isinstance(of, ak.types.NumpyType):
        yield of.primitive
    elif isinstance(of, ak.types.UnknownType):
        yield "unknown"
    else:
        for content in getattr(of, "contents", None) or [of.content]:
            yield from _walk(content)
