"""`to_backend` and graphs behind it, on the stand-in: no device is needed here."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import awkward as ak
import checks
import cloudpickle
import dask
import dask.local
import dask_awkward as dak
import device
import numpy as np
import pytest
import stand_in
from awkward._backends.backend import Backend
from awkward._backends.cupy import CupyBackend
from graphs import GRAPHS, inputs_of, lazily
from helpers import collection
from stand_in import is_on_device, to_host

import dak_diff as dd
from dak_diff.backends import to_backend

#: A partition without events is beyond Awkward's ak.cartesian on any device; the other builds an array of the
#: host where a partition is empty.
REFUSED = {"cartesian", "reduction of one's own"}
#: 300 layers say no more than three.
ROWS = [graph for graph in GRAPHS if graph.name not in {*REFUSED, "chain of 300 layers"}]
#: Runs in this process, but pickles the inputs and the result of every task.
pickling = partial(dask.local.get_sync, loads=pickle.loads, dumps=cloudpickle.dumps)


def behind(graph, split):
    """The graph of collections on the device, and those of the host that it is differentiated by."""
    _, wrt, tangents = lazily(graph, split)
    return (
        graph.build(dak, *(to_backend(w, "cuda") if isinstance(w, dak.Array) else w for w in wrt)),
        wrt,
        tangents,
    )


@pytest.mark.usefixtures("stand_in_as_cuda")
@pytest.mark.parametrize("graph", ROWS, ids=lambda graph: graph.name)
def test_graphs(graph):
    expr, wrt, tangents = lazily(graph, "empty middle")
    there, sources, _ = behind(graph, "empty middle")
    tangent = dd.jvp(there, sources, tangents).compute()
    assert is_on_device(tangent)
    checks.assert_close(to_host(tangent), dd.jvp(expr, wrt, tangents).compute(), 1e-12, "tangent")

    def gradients(expr, wrt):
        return dd.vjp(expr if getattr(expr, "fields", None) else expr * expr, wrt)

    expected = dask.compute(*gradients(expr, wrt))
    for options in ({}, {} if graph.hangs else {"scheduler": pickling, "optimize_graph": False}):
        got = dask.compute(*gradients(there, sources), **options)
        for here, want in zip(got, expected, strict=True):
            assert not isinstance(here, stand_in.ndarray)
            assert not isinstance(here, ak.Array) or ak.backend(here) == "cpu"
            assert checks.type_of(here) == checks.type_of(want)
            checks.assert_close(here, want, 1e-12, "cotangent")


@pytest.mark.usefixtures("stand_in_as_cuda")
def test_one_layer_that_keeps_type_divisions_and_columns():
    jets = collection(inputs_of(next(g for g in GRAPHS if g.name == "records"))[0][0], [5, 3, 4])
    there = to_backend(jets, "cuda")
    assert [name.rsplit("-", 1)[0] for name in there.dask.layers][-1] == "to-cuda"
    assert len(there.dask.layers) == len(jets.dask.layers) + 1
    assert there.divisions == jets.divisions
    assert str(there.type) == str(jets.type)
    assert ak.parameters(there._meta) == ak.parameters(jets._meta)


@pytest.mark.usefixtures("stand_in_as_cuda", "never_computes")
def test_building_runs_nothing():
    x = collection(ak.Array([[1.0], [2.0, 3.0]]), [1, 1])
    dd.grad(dak.sum(to_backend(np.sin(to_backend(x, "cuda")), "cpu")), x)


@pytest.mark.usefixtures("stand_in_as_cuda")
def test_a_column_that_is_not_read_is_not_uploaded():
    form, length, buffers = ak.to_buffers(ak.zip({"pt": [[1.0, 2.0], [3.0]], "eta": [[0.5, 1.5], [2.5]]}))
    unread = next(key for key, buffer in buffers.items() if np.array_equal(buffer, [0.5, 1.5, 2.5]))

    def refuse():
        raise AssertionError("a column was read that nothing needs")

    def partition(_):
        lazy = {key: refuse if key == unread else (lambda b=b: b) for key, b in buffers.items()}
        return ak.from_buffers(form, length, lazy)

    meta = ak.Array(ak.from_buffers(form, length, buffers).layout.to_typetracer(forget_length=True))
    there = to_backend(dak.from_map(partition, [0], meta=meta), "cuda")
    gradient = dd.grad(dak.sum(there.pt**2), there.pt).compute()
    assert is_on_device(gradient)
    assert to_host(gradient).to_list() == [[2.0, 4.0], [6.0]]


def test_a_column_that_was_projected_away_is_passed_by(stand_in_as_cuda, tmp_path):
    ak.to_parquet(ak.zip({"pt": [[1.0, 2.0], [3.0]], "eta": [[0.5, 1.5], [2.5]]}), tmp_path / "one.parquet")
    jets = dak.from_parquet(tmp_path / "one.parquet")
    total = dak.sum(to_backend(jets, "cuda").pt ** 2)
    (columns,) = dak.report_necessary_columns(total).values()
    assert columns == frozenset({"pt"})
    assert dd.grad(total, jets.pt).compute().to_list() == [[2.0, 4.0], [6.0]]


@pytest.mark.usefixtures("stand_in_as_cuda")
def test_numbers_come_back():
    x = collection(ak.Array([[1.0], [2.0, 3.0]]), [1, 1])
    total = dak.sum(to_backend(x, "cuda") ** 2)
    assert isinstance(total.compute(), stand_in.ndarray)
    back = to_backend(total, "cpu")
    assert isinstance(back.compute(), np.floating)
    assert dd.grad(back, x).compute().to_list() == [[2.0], [4.0, 6.0]]


@pytest.mark.usefixtures("stand_in_as_cuda")
def test_jacobian_and_hessian_by_parameters():
    p = dd.parameter(np.array([0.5, 1.25]), name="p")
    x = collection(ak.Array([[1.0], [2.0, 3.0]]), [1, 1])

    def total(x):
        return dak.sum(np.sin(x * p[0]) * p[1])

    for derivative in (dd.jacobian, dd.hessian):
        expected = derivative(total(x), p).compute()
        got = derivative(total(to_backend(x, "cuda")), p).compute()
        np.testing.assert_allclose(to_host(got), expected, rtol=1e-14)


@pytest.mark.usefixtures("stand_in_as_cuda")
def test_statistics_and_soft_histograms():
    x = collection(ak.Array([[1.0], [2.0, 3.5], [0.5]]), [1, 2, 1])
    edges = dd.parameter(np.array([0.0, 1.0, 2.0, 4.0]), name="edges")
    for build in (
        dd.mean,
        dd.std,
        lambda x: dd.soft_histogram(x, edges, 0.3),
        lambda x: dak.sum(dd.soft_cut(x, 1.5, 0.2)),
    ):
        expr, there = build(x), build(to_backend(x, "cuda"))
        checks.assert_close(to_host(there.compute()), expr.compute(), 1e-13, "value")
        got, expected = dask.compute(dd.vjp(there, x), dd.vjp(expr, x))
        checks.assert_close(got, expected, 1e-13, "cotangents")


@pytest.mark.skipif(device.STAND_IN, reason="the stand-in takes the place of CuPy")
def test_a_task_without_cupy_says_what_to_install():
    try:
        CupyBackend.instance()
    except ImportError:
        x = to_backend(collection(ak.Array([[1.0], [2.0, 3.0]]), [1, 1]), "cuda")
        with pytest.raises(ImportError, match=r"pip install \"dak_diff\[cuda\]\""):
            x.compute()
    else:
        pytest.skip("CuPy is installed")


def test_what_cannot_be_moved_is_refused():
    x = collection(ak.Array([[1.0], [2.0, 3.0]]), [1, 1])
    with pytest.raises(ValueError, match="no such backend: 'gpu'"):
        to_backend(x, "gpu")
    with pytest.raises(TypeError, match="stays on the host"):
        to_backend(dd.parameter(1.0, name="a"), "cuda")
    with pytest.raises(TypeError, match="no float"):
        to_backend(1.0, "cuda")


@pytest.mark.usefixtures("stand_in_as_cuda")
def test_threads_that_come_first_at_once_share_one_backend(monkeypatch):
    """A class of its own, so that this is its first use, and a slow one."""
    made = []

    class Fresh(Backend):
        name, nplike = "cuda", stand_in.StandInNplike.instance()

        def __init__(self):
            made.append(threading.get_ident())
            threading.Event().wait(0.05)

    monkeypatch.setitem(stand_in._dispatch._name_to_backend_cls, "cuda", Fresh)
    barrier = threading.Barrier(8)

    def work(_):
        barrier.wait()
        return to_backend(ak.Array([1.0, 2.0]), "cuda").layout.backend

    with ThreadPoolExecutor(8) as pool:
        backends = set(pool.map(work, range(8)))
    assert len(made) == len(backends) == 1


def test_a_graph_is_looked_at_without_a_device():
    x = collection(ak.Array([[1.0], [2.0, 3.0]]), [1, 1])
    there = to_backend(x, "cuda")
    report = str(dd.explain(dak.sum(np.sin(there)[there > 1]), x))
    assert "rule: sin" in report
    assert "not differentiable" in report
