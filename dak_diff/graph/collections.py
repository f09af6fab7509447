"""Derivative collections: dask-awkward's own, that draw their layers by role."""

from __future__ import annotations

from typing import Any

import dask_awkward as dak
from dask.highlevelgraph import HighLevelGraph

from dak_diff.graph.draw import picture_of, render
from dak_diff.graph.histograms import LazyHistogram

__all__ = ["DerivativeArray", "DerivativeRecord", "DerivativeScalar", "as_collection"]


class _Drawn:
    """``visualize`` that tells the layers of a derivative graph apart."""

    def visualize(
        self,
        filename: str | None = "derivative",
        format: str | None = None,
        detail: str = "layers",
        **kwargs: Any,
    ) -> Any:
        """Draw the graph: sources, segments, barriers, cotangent sums, told apart (needs graphviz).

        Parameters
        ----------
        filename : str or None
            Where to write the picture, without its ending; None: only return it.
        format : str, optional
            "png" (default), "svg", "pdf", ...
        detail : {"layers", "operations"}
            "operations" opens segments operation by operation.
        optimize_graph : bool
            Draw the tasks that Dask will run instead, as Dask does.
        """
        if kwargs.pop("optimize_graph", False):
            return super().visualize(filename=filename, format=format, optimize_graph=True, **kwargs)  # type: ignore[misc]
        return render(picture_of(self.dask, detail), filename, format)  # type: ignore[attr-defined]


class DerivativeArray(_Drawn, dak.Array):
    """A dask-awkward Array that holds a derivative."""


class DerivativeScalar(_Drawn, dak.Scalar):
    """A dask-awkward Scalar that holds a derivative."""


class DerivativeRecord(_Drawn, dak.Record):
    """A dask-awkward Record that holds a derivative."""


def as_collection(like: Any, graph: HighLevelGraph, name: str, meta: Any = None) -> Any:
    """The collection of layer ``name``, of the partitions of another, and of its type if there is no meta."""
    if isinstance(like, LazyHistogram):
        return like.rebuilt(graph, name, meta)
    if isinstance(like, dak.Array):
        return DerivativeArray(graph, name, like._meta if meta is None else meta, like.divisions)
    if isinstance(like, dak.Record):
        return DerivativeRecord(graph, name, like._meta if meta is None else meta)
    return DerivativeScalar(graph, name, None, like.dtype)
