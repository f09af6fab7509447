"""Trees over partitions; of those that only add, each summand has the cotangent of the sum."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import awkward as ak
import dask
import dask_awkward as dak
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from dask_awkward.layers import AwkwardTreeReductionLayer
from dask_awkward.lib import core as _core

from dak_diff.engine.histogram_axes import axes_grow
from dak_diff.engine.loaded import histogram_types

__all__ = ["add_arrays", "is_sum_of_alike", "is_sum_of_numbers", "node_size", "tree_over"]


def node_size() -> int:
    """How many partitions one node of a tree takes."""
    return int(dask.config.get("awkward.aggregation.split-every", 8))


def tree_over(
    partitions: dak.Array,
    label: str,
    what: tuple,
    concat_func: Callable,
    tree_node_func: Callable,
    finalize_func: Callable | None = None,
) -> tuple[HighLevelGraph, str]:
    """The graph of a reduction over partitions, and the name of its layer; ``what`` is part of that."""
    split_every = node_size()
    token = tokenize(partitions.name, *what, split_every)
    layer = AwkwardTreeReductionLayer(
        name=f"{label}-{token}",
        name_input=partitions.name,
        npartitions_input=partitions.npartitions,
        concat_func=concat_func,
        tree_node_func=tree_node_func,
        finalize_func=finalize_func,
        split_every=split_every,
        tree_node_name=f"{label}-tree-node-{token}",
    )
    graph = HighLevelGraph.from_collections(layer.name, layer, dependencies=(partitions,))
    return graph, layer.name


def add_arrays(parts: list) -> Any:
    """Sum, element by element, of arrays of one length: one node of a tree."""
    return sum(parts[1:], parts[0])


def is_sum_of_numbers(layer: Any) -> bool:
    """Whether a tree adds one number of each partition: dask-awkward's sum of everything."""
    final = getattr(layer, "finalize_func", None)
    asked = {"reducer": ak.sum, "is_axis_none": True, "keepdims": False, "mask_identity": False}
    if not isinstance(final, partial) or final.func is not _core._finalise_reducer_non_positional:
        return False
    return bool(final.keywords == asked)


def is_sum_of_alike(layer: Any, sample: Any) -> bool:
    """Whether a tree adds what is laid out alike in all partitions: arrays of one length, histograms.

    Parameters
    ----------
    sample : value or None
        What the tree gives, if that is known.
    """
    if getattr(layer, "tree_node_func", None) is add_arrays:
        return True
    if not isinstance(sample, histogram_types()) or axes_grow(sample):
        return False
    add = getattr(layer, "concat_func", None)
    return getattr(add, "__name__", "") == "hist_safe_sum" and add.__module__ == "dask_histogram.core"
