"""Axes of boost-histogram: where entries and bins are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dak_diff.errors import StructureError
from dak_diff.rules.structure import reshape, scatter_add

__all__ = ["axes_grow", "bins_of", "in_order", "inner", "moved"]


def axes_grow(histogram: Any) -> bool:
    """Whether filling may add bins."""
    return any(axis.traits.growth for axis in histogram.axes)


def inner(histogram: Any) -> tuple[slice, ...]:
    """Where the bins without flow are."""
    starts = (int(axis.traits.underflow) for axis in histogram.axes)
    return tuple(slice(start, start + len(axis)) for start, axis in zip(starts, histogram.axes, strict=True))


def labels_of(axis: Any) -> list:
    """A value in each bin."""
    return list(axis.centers) if axis.traits.continuous else [axis.bin(i) for i in range(len(axis))]


def bins_of(histogram: Any, positions: tuple) -> tuple[np.ndarray, np.ndarray]:
    """For each entry the flat position of its bin, flow bins counted, and whether it has one."""
    columns = np.broadcast_arrays(*map(_bin_of, histogram.axes, positions))
    inside = np.ones(columns[0].shape, dtype=bool)
    flat = np.zeros(columns[0].shape, dtype=np.int64)
    for axis, column in zip(histogram.axes, columns, strict=True):
        inside &= (column >= 0) & (column < axis.extent)
        flat = flat * axis.extent + column
    return np.atleast_1d(flat), np.atleast_1d(inside)


def _bin_of(axis: Any, position: Any) -> np.ndarray:
    if axis.traits.ordered:
        return np.asarray(axis.index(position)) + int(axis.traits.underflow)
    # Of categories that it does not have an axis says nothing: they fall in the overflow, if there is one.
    known = {label: i for i, label in enumerate(labels_of(axis))}
    distinct, inverse = np.unique(np.asarray(position), return_inverse=True)
    return np.asarray([known.get(label, len(axis)) for label in distinct.tolist()], dtype=np.int64)[inverse]


def moved(leaf: Any, old: Any, new: Any) -> Any:
    """Contents over some axes as contents over axes that have grown from these."""
    if all(a == b for a, b in zip(old, new, strict=True)):
        return leaf
    shape = tuple(axis.extent for axis in new)
    places = [_new_places(a, b) for a, b in zip(old, new, strict=True)]
    keys = np.ravel_multi_index(np.ix_(*places), shape).reshape(-1)
    return reshape(scatter_add(reshape(leaf, shape=(-1,)), key=keys, shape=(math.prod(shape),)), shape=shape)


def _new_places(old: Any, new: Any) -> np.ndarray:
    places = np.arange(old.extent)
    if old.traits.growth and len(old):
        start = int(old.traits.underflow)
        places[start : start + len(old)] = _bin_of(new, labels_of(old))
        places[start + len(old) :] = new.extent - 1
    return places


def in_order(leaf: Any, old: Any, new: Any, what: str) -> Any:
    """Contents over some axes as contents over the same axes, categories perhaps in another order.

    Raises
    ------
    StructureError
        If edges, categories or flow bins are others.
    """
    if len(old) != len(new):
        raise StructureError(f"the {what} of a histogram must have its {len(new)} axes, not {len(old)}")
    places = []
    for a, b in zip(old, new, strict=True):
        labels, wanted = labels_of(a), labels_of(b)
        category = not (a.traits.ordered or b.traits.ordered)
        alike = set(labels) == set(wanted) if category else labels == wanted
        if a.traits.continuous and b.traits.continuous:
            alike = np.array_equal(a.edges, b.edges)
        if not alike or a.extent != b.extent or a.traits.underflow != b.traits.underflow:
            raise StructureError(f"the {what} of a histogram must have its axes: {a!r} is not {b!r}")
        place = np.arange(a.extent)
        if category:
            place[: len(labels)] = [labels.index(label) for label in wanted]
        places.append(place)
    return leaf[np.ix_(*places)]
