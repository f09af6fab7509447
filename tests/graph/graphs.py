"""The table of graphs that the checks of both modes run on."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import awkward as ak
import dask_awkward as dak
import numpy as np
import pytest
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from dask_awkward.layers import AwkwardTreeReductionLayer
from helpers import SPLITS, array_of, collection

import dak_diff as dd


class Eager:
    """``ak`` where it has what ``dak`` has; the rest of ``dak`` on an array that has no partitions."""

    def __getattr__(self, name: str) -> Any:
        return getattr(ak, name)

    @staticmethod
    def map_partitions(fn: Callable, *args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)


EAGER = Eager()


@dataclass(frozen=True)
class Graph:
    """A row: ``build(ns, *inputs)`` is the graph with ``ns=dak``, the same function of arrays with ``ak``.

    ``eager`` replaces the latter where Awkward has no counterpart; ``hangs`` marks graphs whose value
    dask-awkward cannot compute on several partitions (tasks that do not exist are asked for).
    """

    name: str
    build: Callable
    inputs: tuple[str, ...] = ("jagged",)
    eager: Callable | None = None
    hangs: bool = False

    def __call__(self, *arrays: Any) -> Any:
        return self.eager(*arrays) if self.eager else self.build(EAGER, *arrays)


def square_and_scale(x, *, factor):
    return x * x * factor


def weighted(pair, extra):
    return pair[0] * pair[1] + extra["of"][0]


def in_chunks(x):
    """(maximum, sum of exponentials below it) of one partition, as one row."""
    x = ak.flatten(x, axis=None)
    highest = ak.max(x, axis=None) if len(x) else -1e3
    return ak.Array({"highest": [highest], "rest": [ak.sum(np.exp(x - highest))]})


def combined(rows):
    highest = ak.max(rows.highest)
    return ak.Array({"highest": [highest], "rest": [rest_of(rows, highest)]})


def rest_of(rows, highest):
    return ak.sum(rows.rest * np.exp(rows.highest - highest))


def logarithm(rows):
    highest = ak.max(rows.highest)
    return highest + np.log(rest_of(rows, highest))


def log_sum_exp(x):
    """A reduction of one's own: logarithm of the sum of exponentials, in rows of two numbers."""
    chunks = dak.map_partitions(in_chunks, x, meta=dak.lib.core.empty_typetracer(), label="chunks")
    name = f"log-sum-exp-{tokenize(x)}"
    tree = AwkwardTreeReductionLayer(
        name=name,
        name_input=chunks.name,
        npartitions_input=chunks.npartitions,
        concat_func=ak.concatenate,
        tree_node_func=combined,
        finalize_func=logarithm,
        split_every=2,
        tree_node_name=f"log-sum-exp-node-{tokenize(x)}",
    )
    graph = HighLevelGraph.from_collections(name, tree, dependencies=[chunks])
    return dak.lib.core.new_scalar_object(graph, name, dtype=np.float64)


def chain(ns, x, length=300):
    for i in range(length):
        x = x * 1.01 if i % 2 else x + 0.01
    return x


def pairs_of(ns, jets):
    first, second = ns.unzip(ns.combinations(jets, 2))
    return (first + second).mass


def correction(ns, jets):
    jets = ns.with_field(jets, jets.pt * (1 + 0.1 * jets.eta), "pt")
    return jets[jets.pt > 1].pt


GRAPHS = [
    Graph("ufuncs", lambda ns, x: np.sin(x) * np.exp(-x) + x**3 / (1 + x)),
    Graph("comparison as a factor", lambda ns, x: x * (x > 1)),
    Graph("ufunc of two collections", lambda ns, x, y: np.arctan2(x, y) * x, ("jagged", "flat")),
    Graph("one collection twice", lambda ns, x: x * x + x),
    Graph("slice", lambda ns, x: x[:, :1] ** 2),
    Graph("element", lambda ns, x: x[ns.num(x) > 1][:, 1] ** 2),
    Graph("mask", lambda ns, x: np.sqrt(x[x > 1])),
    Graph("mask of events", lambda ns, x: x[ns.num(x) > 1] ** 2),
    Graph("option mask", lambda ns, x: ns.mask(x, x > 1) ** 2),
    Graph("argsort as an index", lambda ns, x: x[ns.argsort(x, axis=1)] ** 2 * ns.local_index(x)),
    Graph("sort", lambda ns, x: ns.sort(x, axis=1) * ns.local_index(x)),
    Graph("firsts with None", lambda ns, x: ns.firsts(x) ** 2),
    Graph("fill None", lambda ns, x: ns.fill_none(ns.firsts(x), 1.5) ** 2),
    Graph("where", lambda ns, x: ns.where(x > 1, x**2, np.sin(x))),
    Graph("broadcast", lambda ns, x: x * ns.max(x, axis=1)),
    Graph("segmented reductions", lambda ns, x: ns.sum(x**2, axis=1) - ns.prod(x, axis=1)),
    Graph("softmax", lambda ns, x: np.exp(x) / ns.sum(np.exp(x), axis=1)),
    Graph("variance", lambda ns, x: ns.var(x[ns.num(x) > 0], axis=1)),
    Graph("combinations", lambda ns, x: operator.mul(*ns.unzip(ns.combinations(x, 2)))),
    Graph("cartesian", lambda ns, x: operator.mul(*ns.unzip(ns.cartesian([x, np.sin(x)], axis=1)))),
    Graph("flatten", lambda ns, x: ns.flatten(x) ** 2),
    Graph("with_field", correction, ("jets",)),
    Graph("zip", lambda ns, x: ns.zip({"square": x**2, "sine": np.sin(x), "number": ns.local_index(x)})),
    Graph("field of a zip", lambda ns, x: ns.zip({"a": x**2, "b": x}).a),
    Graph("unused columns", lambda ns, jets: jets.pt**2, ("jets",)),
    Graph("records", lambda ns, jets: jets[jets.pt > 1], ("jets",)),
    Graph("vector", lambda ns, jets: pairs_of(ns, jets), ("jets",)),
    Graph("vector properties", lambda ns, jets: jets.px + jets.energy, ("jets",)),
    Graph("concatenate lists", lambda ns, x: ns.concatenate([x, x**2], axis=1)),
    Graph("concatenate partitions", lambda ns, x: ns.concatenate([x, x**2], axis=0) ** 2),
    Graph("map_partitions", lambda ns, x, y: ns.map_partitions(operator.mul, x, y), ("jagged", "flat")),
    Graph("map_partitions, keyword", lambda ns, x: ns.map_partitions(square_and_scale, x, factor=np.sin(x))),
    Graph(
        "map_partitions, nested arguments",
        lambda ns, x, y: ns.map_partitions(weighted, [x, np.sin(x)], {"of": [y, 2]}),
        ("jagged", "flat"),
    ),
    Graph("parameter", lambda ns, x, p: np.sin(x * p) + p * x**2, ("jagged", "number")),
    Graph("sum", lambda ns, x: ns.sum(x**2)),
    Graph("prod", lambda ns, x: ns.prod(x)),
    Graph("min", lambda ns, x: ns.min(np.sin(x))),
    Graph("max", lambda ns, x: ns.max(x**2)),
    Graph("sum, axis 0", lambda ns, x: ns.sum(x**2, axis=0), ("flat",)),
    Graph("prod, axis 0", lambda ns, x: ns.prod(x, axis=0), ("flat",)),
    Graph("min, axis 0", lambda ns, x: ns.min(np.sin(x), axis=0), ("flat",)),
    Graph("max, axis 0", lambda ns, x: ns.max(x**2, axis=0), ("flat",)),
    Graph(
        "reduction of one's own",
        lambda ns, x: log_sum_exp(x),
        eager=lambda x: np.log(ak.sum(np.exp(x))),
    ),
    Graph("arithmetic after a reduction", lambda ns, x: 2 * ns.sum(x**2) - 1),
    Graph("ratio of reductions", lambda ns, x: ns.sum(x**2) / ns.count(x)),
    Graph("ufunc of a reduction", lambda ns, x: np.log(ns.sum(x**2))),
    Graph("reduction of a parameter", lambda ns, x, p: ns.sum(x * p) ** 2, ("jagged", "number")),
    Graph("reduction times array", lambda ns, x: ns.sum(x) * x, hangs=True),
    Graph("array minus mean, plus one", lambda ns, x: x - ns.sum(x) / ns.count(x) + 1, hangs=True),
    Graph("reduction of a reduction", lambda ns, x: ns.sum(ns.sum(x) * x), hangs=True),
    Graph("two reductions feeding each other", lambda ns, x: ns.sum(np.sin(x / ns.sum(x**2))), hangs=True),
    Graph("where with a reduction", lambda ns, x: ns.where(x > 1, x * ns.max(x), x), hangs=True),
    Graph(
        "repartition",
        lambda ns, x: (x**2).repartition(divisions=(0, 2, 12)) * 2,
        eager=lambda x: x**2 * 2,
    ),
    Graph(
        "partitions joined",
        lambda ns, x: (x**2).repartition(n_to_one=x.npartitions) * 2,
        eager=lambda x: x**2 * 2,
    ),
    Graph("chain of 300 layers", chain),
]

graphs = pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.name)
splits = pytest.mark.parametrize("split", SPLITS)


@cache
def inputs_of(graph: Graph) -> tuple[tuple, tuple]:
    """Primals and tangents; the latter of the type of the former."""
    return tuple(tuple(array_of(kind, seed) for kind in graph.inputs) for seed in (0, 1))


@cache
def eager_jvp(graph: Graph) -> tuple[Any, Any]:
    return dd.eager.jvp(graph, *inputs_of(graph))


def lazily(graph: Graph, split: str) -> tuple[Any, list, list]:
    """The graph, its inputs and their tangents as collections (of a number: a parameter, a number)."""
    primals, tangents = inputs_of(graph)
    wrt = [
        collection(p, SPLITS[split]) if isinstance(p, ak.Array) else dd.parameter(p, name="p")
        for p in primals
    ]
    return graph.build(dak, *wrt), wrt, list(tangents)
