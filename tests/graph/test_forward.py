"""Forward mode over graphs: one table of graphs, each through the same checks."""

from __future__ import annotations

import dask
import dask_awkward as dak
import numpy as np
import pytest
from checks import numbers, type_of
from graphs import eager_jvp, graphs, inputs_of, lazily, splits
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
