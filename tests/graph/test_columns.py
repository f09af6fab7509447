"""A tangent reads the columns that its value reads: real files with about a thousand of them."""

from __future__ import annotations

import awkward as ak
import dask_awkward as dak
import numpy as np
import pytest

import dak_diff as dd
from dak_diff.testing import check_grads


def columns(collection):
    """What is read of each source."""
    found = dak.report_necessary_columns(collection).values()
    (read,) = {frozenset(c.removesuffix(".list.item") for c in columns) for columns in found}
    return read


@pytest.fixture
def ttbar(shared):
    uproot = pytest.importorskip("uproot")
    path = shared / "data" / "nanoAOD_2015_CMS_Open_Data_ttbar.root"
    return uproot.dask(f"{path}:Events", steps_per_file=3, open_files=True)


@pytest.fixture
def drell_yan(shared):
    pytest.importorskip("pyarrow")
    return dak.from_parquet(str(shared / "data" / "nano_dy.parquet"))


def jets_of(events):
    fields = ("pt", "eta", "phi", "mass")
    return dak.zip({f: events[f"Jet_{f}"] for f in fields}, with_name="Momentum4D")


def scaled_mass(events):
    jets = jets_of(events)
    jets = dak.with_field(jets, jets.pt * 1.1, "pt")
    jets = jets[(dak.num(jets) > 1) & (events.nMuon > 0)]
    return (jets[:, 0] + jets[:, 1]).mass


ANALYSES = {
    # name: (expression, what its value reads: a zip reads every field for its structure)
    "one column": (lambda e: np.sin(e.Jet_pt) * 2, {"Jet_pt"}),
    "a column for its structure": (lambda e: e.Jet_pt * dak.num(e.Muon_pt, axis=1), {"Jet_pt", "Muon_pt"}),
    "px": (lambda e: dak.sum(jets_of(e).px), {"Jet_pt", "Jet_eta", "Jet_phi", "Jet_mass"}),
    "mass": (scaled_mass, {"Jet_pt", "Jet_eta", "Jet_phi", "Jet_mass", "nMuon"}),
    "map_partitions": (lambda e: dak.map_partitions(np.hypot, e.Jet_pt, e.Jet_mass), {"Jet_pt", "Jet_mass"}),
    "mean": (lambda e: dak.sum(e.Jet_pt) / dak.count(e.Jet_pt), {"Jet_pt"}),
}


@pytest.mark.parametrize("name", ANALYSES)
@pytest.mark.parametrize("file", ["ttbar", "drell_yan"])
def test_columns_of_the_tangent(request, file, name):
    events = request.getfixturevalue(file)
    assert len(events.fields) > 900
    build, want = ANALYSES[name]
    expr = build(events)
    read = columns(expr)
    assert read == want
    for wrt in (events.Jet_pt, events):
        value, tangent = dd.value_and_jvp(expr, wrt)
        assert columns(tangent) == read
        assert columns(value) == read


@pytest.mark.parametrize("residuals", ["keep", "recompute"])
@pytest.mark.parametrize("name", ANALYSES)
def test_columns_of_the_gradient(ttbar, name, residuals):
    build, want = ANALYSES[name]
    expr = build(ttbar)
    expr = np.log(dak.sum(expr**2)) if isinstance(expr, dak.Array) else expr**2
    _, gradient = dd.value_and_grad(expr, ttbar.Jet_pt, residuals=residuals)
    assert columns(gradient) == want


def test_columns_by_a_parameter(drell_yan):
    p = dd.parameter(0.1, name="p")
    expr = dak.sum(drell_yan.Jet_pt * p)
    assert columns(dd.jvp(expr, p)) == columns(expr) == {"Jet_pt"}


def test_a_tangent_in_memory_of_a_column_that_nobody_reads(tmp_path):
    """It is projected away: there are no lengths to compare, and nothing depends on it."""
    pytest.importorskip("pyarrow")
    array = ak.Array([{"a": [1.0, 2.0], "b": [3.0, 4.0]}, {"a": [], "b": []}])
    ak.to_parquet(array, tmp_path / "columns.parquet")
    lazy = dak.from_parquet(str(tmp_path / "columns.parquet"))
    ones = ak.ones_like(array.a)
    tangent = dd.jvp(dak.sum(lazy.a * 2), [lazy.a, lazy.b], [ones, ones], disconnected="zero")
    assert tangent.compute() == 4.0
    with pytest.raises(AssertionError, match="kink or jump"):
        check_grads(dak.sum(dak.where(lazy.a >= 2, lazy.a + lazy.b, 0)), [lazy.a, lazy.b])
