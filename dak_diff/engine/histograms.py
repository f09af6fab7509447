"""Histograms of boost-histogram (and hist) as values: what was filled is linear in the weights.

boost-histogram itself is never imported here: where it is not loaded, there are no histograms.
"""

from __future__ import annotations

import copy
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from dak_diff.engine.active_histogram import (
    ActiveHistogram,
    activate,
    activated,
    carries,
    contents,
    fill_active,
    plain_histogram,
    storage_name,
)
from dak_diff.engine.buffer import Buffer, unwrap
from dak_diff.engine.histogram_axes import in_order, inner
from dak_diff.engine.loaded import histogram_types
from dak_diff.errors import StructureError
from dak_diff.rules.primitive import Traced

__all__ = [
    "map_contents",
    "match_contents",
    "watch_fills",
    "with_components",
]


def map_contents(histogram: Any, on_leaf: Callable[[Any, bool], Any]) -> Any:
    """The histogram with other contents; see :func:`~dak_diff.engine.values.map_leaves`."""
    old = contents(histogram)
    new = tuple(on_leaf(leaf, False) for leaf in old)
    if any(isinstance(leaf, Traced) for leaf in new):
        return activated(plain_histogram(histogram), new)
    if all(a is b for a, b in zip(old, new, strict=True)):
        return histogram
    result = copy.copy(plain_histogram(histogram))
    view = result.view(flow=True)
    if storage_name(result) == "Weight":
        view["value"], view["variance"] = new
    else:
        view[...] = new[0]
    return result


def with_components(histogram: Any, shape: tuple[int, ...]) -> Any:
    """An empty histogram with one more axis of integers for each dimension of a parameter."""
    integers = sys.modules["boost_histogram"].axis.Integer
    more = (integers(0, size, underflow=False, overflow=False) for size in shape)
    primal = plain_histogram(histogram)
    cls: Any = type(primal)
    return cls(*primal.axes, *more, storage=primal.storage_type())


def match_contents(histogram: Any, given: Any, what: str) -> list[Any]:
    """The contents of a tangent or cotangent of a histogram.

    A number stands for one in every bin; an array is for the values, with or without flow bins (those
    are then zero); a histogram brings the variances of weighted storages, too.

    Raises
    ------
    StructureError
        If its shape is another one.
    """
    values, *variances = contents(histogram)
    if isinstance(given, histogram_types()):
        given = tuple(in_order(leaf, given.axes, histogram.axes, what) for leaf in contents(given))
    if isinstance(given, tuple):
        if [np.shape(g) for g in given] != [np.shape(leaf) for leaf in (values, *variances)]:
            raise StructureError(f"the {what} of a histogram must have its axes and its storage")
        return list(given)
    if not isinstance(given, (Traced, Buffer)):
        given = np.asarray(given, dtype=np.float64)
    given, shape = unwrap(given), np.shape(given)
    if shape == ():
        return [np.full(np.shape(values), given), *(None for _ in variances)]
    if shape == np.shape(values):
        return [given, *(None for _ in variances)]
    if shape != histogram.axes.size:
        raise StructureError(
            f"the {what} of a histogram has shape {shape}, its bins {histogram.axes.size}, "
            f"with flow bins {np.shape(values)}"
        )
    flow = np.zeros(np.shape(values))
    flow[inner(histogram)] = given
    return [flow, *(None for _ in variances)]


# --------------------------------------------------------------------------- filling

_lock = threading.Lock()


def watch_fills() -> bool:
    """Let histograms be filled with, and scaled by, what carries a derivative: once; whether it was now."""
    cls = histogram_types()
    if not cls or hasattr(cls.fill, "knows_dak_diff"):
        return False
    with _lock:
        _patch(cls)
    return True


def _patch(cls: Any) -> None:
    if hasattr(cls.fill, "knows_dak_diff"):
        return
    for name in ("__iadd__", "__isub__", "__imul__", "__itruediv__"):
        setattr(cls, name, _watching_operator(name, getattr(cls, name)))
    cls.fill = _watching_fill(cls.fill)


def _watching_fill(upstream: Callable) -> Callable:
    def fill(self: Any, *args: Any, weight: Any = None, sample: Any = None, threads: Any = None) -> Any:
        if not isinstance(self, ActiveHistogram) and not any(map(carries, (*args, weight, sample))):
            return upstream(self, *args, weight=weight, sample=sample, threads=threads)
        return fill_active(self, args, weight, sample)

    fill.__doc__ = upstream.__doc__
    fill.knows_dak_diff = True  # type: ignore[attr-defined]
    return fill


def _watching_operator(name: str, upstream: Callable) -> Callable:
    def method(self: Any, other: Any) -> Any:
        if carries(other) and not isinstance(self, ActiveHistogram):
            self = activate(self)
        return getattr(self, name)(other) if isinstance(self, ActiveHistogram) else upstream(self, other)

    return method
