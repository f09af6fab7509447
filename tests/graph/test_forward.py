"""Forward mode over graphs: one table of graphs, each through the same checks."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import awkward as ak
import dask
import dask_awkward as dak
import numpy as np
import pytest
from checks import numbers, type_of
from helpers import (
    METHODS,
    SPLITS,
    array_of,
    assert_close,
    assert_identical,
    central_difference,
    collection,
)

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


@graphs
def test_eager_tangent_is_the_central_difference(graph):
    primals, tangents = inputs_of(graph)
    _, tangent = eager_jvp(graph)
    want = central_difference(graph, primals, tangents)
    np.testing.assert_allclose(numbers(tangent), want, rtol=0, atol=1e-9 * np.max(np.abs(want)))


@splits
@graphs
def test_value_and_tangent(graph, split):
    expr, wrt, tangents = lazily(graph, split)
    value, tangent = dask.compute(*dd.value_and_jvp(expr, wrt, tangents))
    eager_value, eager_tangent = eager_jvp(graph)
    if not graph.hangs:
        assert_identical(value, expr.compute())
    assert_close(value, eager_value, 1e-13)
    assert_close(tangent, eager_tangent, 1e-13)
    assert type_of(tangent) == type_of(value)


@pytest.mark.parametrize("method", METHODS[1:])
@graphs
def test_methods_agree(graph, method):
    expr, wrt, tangents = lazily(graph, "empty middle")
    auto, other = dask.compute(dd.jvp(expr, wrt, tangents), dd.jvp(expr, wrt, tangents, method=method))
    assert_close(other, auto, 1e-12)


def test_selected_partitions():
    x = collection(array_of("jagged"), SPLITS["3"])
    t = collection(array_of("jagged", 1), SPLITS["3"])
    tangent = dd.jvp((x**3).partitions[1:] * x.partitions[1:], x, t).compute()
    assert_close(tangent, (4 * array_of("jagged") ** 3 * array_of("jagged", 1))[5:], 1e-13)


def test_parquet_source(tmp_path, jets):
    dak.to_parquet(collection(jets, SPLITS["3"]), str(tmp_path), compute=True)
    events = dak.from_parquet(str(tmp_path))
    assert events.npartitions == 3
    tangent = dd.jvp(events.pt**2 + events.eta, events.pt, 0.5).compute()
    assert_close(tangent, jets.pt, 1e-13)


def test_from_root(shared):
    uproot = pytest.importorskip("uproot")
    events = uproot.dask(f"{shared}/data/uproot-Zmumu.root:events", steps_per_file=4)
    value, tangent = dask.compute(*dd.value_and_jvp(np.hypot(events.px1, events.py1), events.px1))
    assert events.npartitions == 4
    px = uproot.open(f"{shared}/data/uproot-Zmumu.root:events")["px1"].array()
    assert_close(tangent, px / value, 1e-13)
