"""Jacobians by parameters: each component is the jvp along it."""

from __future__ import annotations

from collections import Counter

import awkward as ak
import dask
import dask_awkward as dak
import numpy as np
import pytest
from checks import numbers
from helpers import METHODS, SPLITS, array_of, assert_close, central_difference, collection

import dak_diff as dd
from dak_diff import eager
from dak_diff.errors import DisconnectedError

POINT = np.array([0.5, 1.5, -0.25])


def corrected(ns, jets, p):
    return ns.with_field(jets, jets.pt * (1 + p[0] * jets.eta + p[1] ** 2), "pt")


EXPRESSIONS = {
    "jagged": lambda ns, jets, p: np.sin(jets.pt * p[0]) + p[1] * jets.eta,
    "masked": lambda ns, jets, p: (jets.pt * p[0])[jets.eta > 1] * p[2],
    "options": lambda ns, jets, p: ns.firsts(jets.pt * p[1]) ** 2,
    "records": corrected,
    "flat": lambda ns, jets, p: ns.sum(jets.pt**2, axis=1) * p[0] * p[1],
    "number": lambda ns, jets, p: np.log(ns.sum(jets.pt * p[0] + p[1] ** 2) + p[2]),
}


def along(tangents):
    """The numbers of tangents, one behind another for each number of the value that is a float."""
    columns = np.array([numbers(t) for t in tangents], dtype=float)
    return columns.T.reshape(-1)


def floats_of(value):
    if isinstance(value, ak.Array) and value.fields:
        return ak.Array({name: value[name] for name in value.fields if name != "charge"})
    return value


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("split", ["1", "3", "empty middle"])
@pytest.mark.parametrize("name", EXPRESSIONS)
def test_every_component(name, split, method):
    build, jets = EXPRESSIONS[name], array_of("jets")
    p = dd.parameter(POINT, name="p")
    expr = build(dak, collection(jets, SPLITS[split]), p)
    block = dd.jacobian(expr, p, method=method)
    got = block.compute()
    tangents = [floats_of(eager.jvp(lambda q: build(ak, jets, q), (POINT,), (row,))[1]) for row in np.eye(3)]
    if isinstance(got, ak.Array) and got.fields:
        for field in tangents[0].fields:
            want = along([t[field] for t in tangents])
            np.testing.assert_allclose(numbers(got[field]), want, rtol=1e-12, atol=1e-15)
    else:
        np.testing.assert_allclose(numbers(got), along(tangents), rtol=1e-12, atol=1e-15)
    if isinstance(expr, dak.Array):
        assert str(got.type).split(" * ", 1)[1] == str(block._meta.type).split(" * ", 1)[1]


def test_against_differences():
    jets = array_of("jets")
    build = EXPRESSIONS["number"]
    expr = build(dak, collection(jets, SPLITS["3"]), dd.parameter(POINT, name="p"))
    want = [central_difference(lambda q: build(ak, jets, q), (POINT,), (row,))[0] for row in np.eye(3)]
    got = dd.jacobian(expr, dd.parameter(POINT, name="p")).compute()
    np.testing.assert_allclose(got, want, rtol=1e-9)


def test_type_and_nesting():
    x = collection(array_of("jagged"), SPLITS["3"])
    a, m = dd.parameter(0.5, name="a"), dd.parameter(np.eye(2), name="m")
    y = x * a + m[0, 1]
    blocks = dd.jacobian({"array": y, "sum": [dak.sum(y)]}, [a, m])
    got = dask.compute(blocks)[0]
    assert str(got["array"][0].type) == "12 * var * float64"
    assert str(got["array"][1].type) == "12 * var * 2 * 2 * float64"
    total, count = ak.sum(array_of("jagged")), ak.count(array_of("jagged"))
    assert_close(got["sum"][0], [total, np.array([[0.0, count], [0.0, 0.0]])], 1e-13)


def test_integers_and_text_have_no_trailing_axis():
    records = ak.Array([{"x": 1.0, "n": 3, "tag": "b"}, {"x": 2.0, "n": 4, "tag": "c"}])
    p = dd.parameter([1.0, 2.0], name="p")
    lazy = collection(records, [1, 1])
    got = dd.jacobian(dak.with_field(lazy, lazy.x * p[1], "x"), p).compute()
    assert got.to_list() == [{"n": 0, "tag": "b", "x": [0.0, 1.0]}, {"n": 0, "tag": "c", "x": [0.0, 2.0]}]


def test_one_pass_over_the_data():
    read = Counter()

    def source(i):
        read[i] += 1
        return array_of("jagged")[3 * i : 3 * i + 3]

    meta = ak.Array(array_of("jagged").layout.to_typetracer(forget_length=True))
    x = dak.from_map(source, range(4), meta=meta, label="source", token="jacobian")
    p = dd.parameter(POINT, name="p")
    block = dd.jacobian(dak.sum(x * p[0] + p[1] * p[2]), p)
    read.clear()
    assert block.compute(scheduler="sync").shape == (3,)
    assert read == dict.fromkeys(range(4), 1)


def test_columns_read(shared):
    uproot = pytest.importorskip("uproot")
    path = shared / "data" / "nanoAOD_2015_CMS_Open_Data_ttbar.root"
    events = uproot.dask(f"{path}:Events", steps_per_file=2, open_files=True)
    p = dd.parameter([1.0, 2.0], name="p")
    expr = events.Jet_pt * p[0] + events.MET_pt * p[1]
    (want,) = dak.report_necessary_columns(expr).values()
    (got,) = dak.report_necessary_columns(dd.jacobian(expr, p)).values()
    assert got == want


def test_errors():
    x, p = collection(array_of("jagged"), SPLITS["3"]), dd.parameter(POINT, name="p")
    with pytest.raises(TypeError, match=r"jacobian and hessian take parameters.*jvp, vjp"):
        dd.jacobian(x * p[0], x)
    with pytest.raises(DisconnectedError):
        dd.jacobian(x * 2, p)
    assert not np.any(numbers(dd.jacobian(x * 2, p, disconnected="zero").compute()))
