"""Building a derivative computes nothing, reads nothing, and does not depend on the number of partitions."""

from __future__ import annotations

import awkward as ak
import dask_awkward as dak
import numpy as np
import pytest
from helpers import METHODS, SPLITS, array_of, collection

import dak_diff as dd

META = ak.Array(array_of("jets").layout.to_typetracer(forget_length=True))


def unreadable(_part):
    raise AssertionError("a partition was read while a graph was built")


def source(npartitions: int) -> dak.Array:
    return dak.from_map(unreadable, range(npartitions), meta=META, label="unreadable")


def analysis(jets, p):
    pt = jets.pt * (1 + p)
    pt = dak.where(pt > 1, np.sin(pt), pt)
    leading = dak.firsts(pt[dak.argsort(pt, axis=1)])
    return dak.sum(pt - dak.sum(pt) / dak.count(pt)), leading


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.usefixtures("never_computes")
def test_nothing_is_computed(method):
    jets, p = source(7), dd.parameter(0.1, name="p")
    for expr in analysis(jets, p):
        for wrt in (jets, jets.pt, p, [jets.eta, p]):
            dd.value_and_jvp(expr, wrt, method=method, disconnected="zero")


@pytest.mark.usefixtures("never_computes")
def test_nothing_is_computed_for_a_tangent_that_is_an_array():
    x = collection(array_of("jagged"), SPLITS["3"])
    dd.jvp(x**2, x, array_of("jagged", 1))
    dd.jvp(x**2, x, x)


@pytest.mark.usefixtures("never_computes")
def test_nothing_is_computed_to_explain():
    dd.explain(analysis(source(3), dd.parameter(0.1))[0], source(3).pt)


def test_the_fixture_refuses(never_computes):
    with pytest.raises(AssertionError, match="something was computed"):
        dak.sum(collection(array_of("jagged"), SPLITS["3"])).compute()


@pytest.mark.usefixtures("never_computes")
def test_the_number_of_partitions_does_not_matter():
    few, many = (
        [dd.jvp(expr, jets.pt) for expr in analysis(jets, dd.parameter(0.1, name="p"))]
        for jets in (source(3), source(100_000))
    )
    for small, large in zip(few, many, strict=True):
        assert len(large.dask.layers) == len(small.dask.layers)
        for layer in large.dask.layers.values():
            assert not layer.is_materialized() or len(layer) == 1
    assert many[1].npartitions == 100_000


def test_the_meta_is_that_of_the_value(jets):
    records = collection(jets, SPLITS["3"])
    for expr in (records, records.pt * 2, dak.firsts(records.pt), records[records.pt > 1]):
        tangent = dd.jvp(expr, records.pt)
        assert tangent._meta.layout.form == expr._meta.layout.form
        assert str(tangent.compute().type.content) == str(tangent._meta.type.content)
        assert tangent.divisions == expr.divisions
    total = dd.jvp(dak.sum(records.pt), records.pt)
    assert total.dtype == total.compute().dtype == np.float64
