"""Histogram collections of dask-histogram and hist.dask, as the walks see them: one task, like a scalar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from dask.base import is_dask_collection, tokenize
from dask.highlevelgraph import HighLevelGraph

from dak_diff.engine.active_histogram import contents, has_contents
from dak_diff.engine.histogram_axes import axes_grow
from dak_diff.engine.histograms import match_contents
from dak_diff.engine.loaded import histogram_types, loaded
from dak_diff.errors import StructureError

__all__ = ["LazyHistogram", "as_expression"]


@dataclass(frozen=True)
class LazyHistogram:
    """A histogram that will be filled.

    Parameters
    ----------
    collection : dask_histogram.AggHistogram, dask_histogram.Histogram or hist.dask.Hist
        As the user gave it.
    name : str
        Of its layer.
    dask : HighLevelGraph
        Leads to it.
    """

    collection: Any
    name: str
    dask: HighLevelGraph

    @property
    def empty(self) -> Any:
        """The histogram before it is filled."""
        reference = getattr(self.collection, "histref", self.collection)
        if isinstance(reference, tuple):
            axes, storage, _ = reference
            return histogram_types()(*axes, storage=storage)
        return reference

    def rebuilt(self, graph: HighLevelGraph, name: str, like: Any = None) -> Any:
        """The user's kind of collection for another graph, with the axes of ``like`` if that is given."""
        old, collection = self.name, self.collection
        if like is not None and isinstance(collection, loaded("dask_histogram.core", "AggHistogram")):
            return type(collection)(graph, name, like)
        if like is not None:
            collection = type(collection)(*like.axes, storage=like.storage_type())
            old = collection.dask_name
        return collection._rebuild(graph, rename={old: name})

    def as_cotangent(self, given: Any, what: str) -> tuple[str, Any]:
        """A cotangent as arrays in memory, and its token.

        Raises
        ------
        StructureError
            If it has neither the axes of the histogram nor the shape of its bins.
        """
        if is_dask_collection(given):
            raise StructureError(
                f"the {what} of a histogram is an array or a histogram in memory, not {given!r}; "
                "compute it first"
            )
        if isinstance(given, histogram_types()):
            if not axes_grow(self.empty):
                match_contents(self.empty, given, what)
            return tokenize(contents(given), [repr(axis) for axis in given.axes]), given
        given = np.asarray(given, dtype=np.float64)
        axes = self.empty.axes
        if given.shape not in (axes.size, axes.extent) and not axes_grow(self.empty):
            raise StructureError(
                f"the {what} of {self.name!r} has shape {given.shape}, the bins of the histogram "
                f"{axes.size}, with flow bins {axes.extent}"
            )
        return tokenize(given), given

    def __repr__(self) -> str:
        return repr(self.collection)


def as_expression(expr: Any) -> Any:
    """A histogram collection in a form that can be walked; anything else is itself.

    Raises
    ------
    TypeError
        If the bins of a histogram are no sums of weights, or it is not added over partitions.
    """
    if isinstance(expr, loaded("dask_histogram.core", "PartitionedHistogram")):
        raise TypeError("expr is a histogram of each partition; differentiate expr.collapse()")
    if isinstance(expr, loaded("dask_histogram.core", "AggHistogram")):
        lazy = LazyHistogram(expr, expr.name, expr.dask)
    elif isinstance(expr, loaded("dask_histogram.boost", "Histogram")):
        lazy = LazyHistogram(expr, expr.dask_name, expr.dask)
    else:
        return expr
    if not has_contents(lazy.empty):
        raise TypeError(
            f"no derivative of a histogram with storage {lazy.empty.storage_type.__name__}: "
            "use storage Double or Weight"
        )
    return lazy
