"""Graphs with partitions on a CUDA device: every graph of the table, dijets, histograms, a cluster."""

import threading
from concurrent.futures import ThreadPoolExecutor

import awkward as ak
import checks
import dask
import dask_awkward as dak
import device
import numpy as np
import pytest
from device import STAND_IN, is_on_device, skip_if_refused, to_host
from graphs import GRAPHS, inputs_of, lazily
from helpers import collection

import dak_diff as dd
from benchmarks.dijets import dijet_mass, make_events
from dak_diff.backends import to_backend

pytestmark = device.needs_device
real = pytest.mark.skipif(STAND_IN, reason="the stand-in has no kernels and no processes of its own")


def behind(graph, split):
    expr, wrt, tangents = lazily(graph, split)
    there = graph.build(dak, *(to_backend(w, "cuda") if isinstance(w, dak.Array) else w for w in wrt))
    return expr, there, wrt, tangents


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.name)
def test_graphs(graph):
    expr, there, wrt, tangents = behind(graph, "3")
    if not graph.hangs:
        skip_if_refused(there.compute)
    got, expected = dd.jvp(there, wrt, tangents).compute(), dd.jvp(expr, wrt, tangents).compute()
    assert is_on_device(got)
    checks.assert_close(to_host(got), expected, 1e-12, "tangent")

    def gradients(expr):
        return dask.compute(*dd.vjp(expr if getattr(expr, "fields", None) else expr * expr, wrt))

    for got, expected in zip(gradients(there), gradients(expr), strict=True):
        assert not isinstance(got, ak.Array) or ak.backend(got) == "cpu"
        checks.assert_close(to_host(got), expected, 1e-12, "cotangent")


@pytest.mark.parametrize("residuals", ["keep", "recompute"])
def test_dijets(residuals):
    events = make_events(2000, seed=1)
    jets = collection(events.Jet, [700, 0, 1300])
    alpha = dd.parameter(0.01, name="alpha")
    mass, there = dijet_mass(jets, alpha), dijet_mass(to_backend(jets, "cuda"), alpha)
    for build in (
        lambda mass: dd.value_and_jvp(mass, alpha),
        lambda mass: dd.value_and_grad(
            dak.sum(np.log(mass)), [jets.pt, jets.eta, alpha], residuals=residuals
        ),
        lambda mass: dd.hvp(dak.sum(np.log(mass)), alpha, 1.0),
    ):
        got, expected = dask.compute(build(there), build(mass))
        checks.assert_close(to_host(got), expected, 1e-12, "dijets")


def test_soft_histogram_of_the_dijet_mass():
    jets = collection(make_events(2000, seed=2).Jet, [900, 1100])
    alpha = dd.parameter(0.01, name="alpha")
    edges = np.linspace(40.0, 400.0, 13)
    results = []
    for source in (jets, to_backend(jets, "cuda")):
        contents = dd.soft_histogram(dijet_mass(source, alpha), edges, 8.0)
        results.append(dask.compute(dd.value_and_jvp(contents, alpha), dd.vjp(contents, [jets.pt, alpha])))
    checks.assert_close(to_host(results[1]), results[0], 1e-11, "soft histogram")


@real
def test_an_index_out_of_range_is_an_error():
    x = to_backend(collection(ak.Array([[1.0, 2.0], [3.0]]), [1, 1]), "cuda")
    for expr in (to_backend(x[:, 1], "cpu"), dd.jvp(x[:, 1], x)):
        with pytest.raises(Exception, match=r"index out of range|out of bounds"):
            expr.compute()
    assert to_backend(x[:, 0], "cpu").compute().to_list() == [1.0, 3.0]


def test_threads_at_once():
    barrier = threading.Barrier(8)
    x = ak.Array([[1.0, 2.0], [3.0]])

    def work(_):
        barrier.wait()
        there = to_backend(x, "cuda")
        return to_host(dd.eager.grad(lambda x: ak.sum(np.sin(x) * there))(there)).to_list()

    with ThreadPoolExecutor(8) as pool:
        first, *others = pool.map(work, range(8))
    assert all(other == first for other in others)


@real
@pytest.mark.cluster
def test_a_worker_with_partitions_on_the_device():
    distributed = pytest.importorskip("distributed")
    graph = next(g for g in GRAPHS if g.name == "ratio of reductions")
    expr, there, wrt, tangents = behind(graph, "3")
    expected = dask.compute(dd.jvp(expr, wrt, tangents), dd.vjp(expr, wrt))
    (array,), _ = inputs_of(graph)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        tangent, gradients = dd.jvp(there, wrt, tangents), dd.vjp(there, wrt)
        got = client.gather(client.compute([to_backend(tangent, "cpu"), *gradients]))
        checks.assert_close(to_host(got), [expected[0], *expected[1]], 1e-12, "cluster")
        squares = dak.from_awkward(array, 3)
        moved = client.gather(client.compute(to_backend(squares, "cuda") ** 2))
        assert ak.backend(moved) == "cuda"
        checks.assert_close(to_host(moved), array**2, 1e-15, "arrays between processes")
