"""Tuples, lists and dicts of values, of any class of them: what functions of one partition take and give."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["is_nest", "map_parts", "named_parts"]


def is_nest(value: Any) -> bool:
    """Whether a value is taken apart."""
    return isinstance(value, (tuple, list, dict))


def map_parts(nest: Any, fn: Callable[[Any], Any]) -> Any:
    """The nest with ``fn`` of each part; subclasses (``defaultdict``, named tuples) stay what they are."""
    if isinstance(nest, dict):
        parts = {key: fn(part) for key, part in nest.items()}
        if type(nest) is dict:
            return parts
        same = copy.copy(nest)
        for key, part in parts.items():
            same[key] = part  # not update, by which a Counter adds
        return same
    listed = [fn(part) for part in nest]
    return nest._make(listed) if hasattr(nest, "_make") else type(nest)(listed)


def named_parts(nest: Any) -> Iterator[tuple[str, Any]]:
    """The parts with their places: ``["key"]``, ``[0]``."""
    keyed = nest.items() if isinstance(nest, dict) else enumerate(nest)
    return ((f"[{key!r}]", part) for key, part in keyed)
