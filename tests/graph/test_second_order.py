"""Derivatives of derivatives over graphs: any composition of the modes, against the same of whole arrays."""

from __future__ import annotations

import awkward as ak
import dask
import dask_awkward as dak
import numpy as np
import pytest
from checks import numbers, type_of
from graphs import GRAPHS, inputs_of, lazily
from helpers import SPLITS, array_of, assert_close, central_difference, collection

import dak_diff as dd
from dak_diff import eager
from dak_diff.errors import DisconnectedError, NoRuleError

ONCE = [graph for graph in GRAPHS if graph.name != "chain of 300 layers"]
graphs = pytest.mark.parametrize("graph", ONCE, ids=lambda graph: graph.name)
splits = pytest.mark.parametrize("split", ["1", "3", "empty middle"])


def floats(value):
    """The parts of a value that are numbers."""
    if getattr(value, "fields", []):
        meta = value._meta if isinstance(value, dak.Array) else value
        return [value[name] for name in value.fields if "float" in str(meta[name].layout.form.type)]
    return [value]


def loss_of(ns, value):
    """A scalar that is not linear in anything."""
    arrays = (ak.Array, dak.Array)
    total = sum(ns.sum(np.arctan(x)) if isinstance(x, arrays) else np.arctan(x) for x in floats(value))
    return total * total


def whole(graph):
    return lambda *arrays: loss_of(ak, graph(*arrays))


@splits
@graphs
def test_hessian_vector_products(graph, split):
    """Forward over reverse over graphs, reverse over forward in memory."""
    expr, wrt, tangents = lazily(graph, split)
    primals, directions = inputs_of(graph)
    _, pull = eager.vjp(lambda *x: eager.jvp(whole(graph), x, directions)[1], primals)
    products = dask.compute(*dd.hvp(loss_of(dak, expr), wrt, tangents))
    for got, want, primal in zip(products, pull(1.0), primals, strict=True):
        assert_close(got, want, 1e-10)
        assert type_of(got) == type_of(primal)


@graphs
def test_against_differences_of_gradients(graph):
    expr, wrt, tangents = lazily(graph, "3")
    primals, directions = inputs_of(graph)

    def gradients(*x):
        return eager.vjp(whole(graph), x)[1](1.0)

    got = dask.compute(*dd.hvp(loss_of(dak, expr), wrt, tangents))
    want = central_difference(gradients, primals, directions)
    np.testing.assert_allclose(numbers(list(got)), want, rtol=0, atol=1e-7 * np.max(np.abs(want)))


@splits
@pytest.mark.parametrize("graph", [g for g in ONCE if "jets" not in g.inputs], ids=lambda graph: graph.name)
def test_gradients_of_gradients(graph, split):
    def squared(ns, gradients):
        arrays = (ak.Array, dak.Array)
        return sum(ns.sum(g * g) if isinstance(g, arrays) else g * g for g in gradients)

    expr, wrt, _ = lazily(graph, split)
    primals, _ = inputs_of(graph)
    want = eager.vjp(lambda *x: squared(ak, eager.vjp(whole(graph), x)[1](1.0)), primals)[1](1.0)
    got = dask.compute(*dd.grad(squared(dak, dd.grad(loss_of(dak, expr), wrt)), wrt))
    for g, w in zip(got, want, strict=True):
        assert_close(g, w, 1e-10)


def example(split="3"):
    x = collection(array_of("jagged"), SPLITS[split])
    a, b = dd.parameter(0.5, name="a"), dd.parameter([1.5, -0.5], name="b")
    return x, a, b, np.log(dak.sum((np.sin(x * a) + b[0] * x) ** 2)) + b[1] ** 3 * a


def test_plain_composition():
    """jvp of grad, grad of jvp, and hvp say the same; the third order, too."""
    x, a, _, expr = example()
    once = dd.jvp(dd.grad(expr, x), x, 0.5)
    turned = dd.grad(dd.jvp(expr, x, 0.5), x)
    assert_close(*dask.compute(once, turned), 1e-12)
    assert_close(*dask.compute(once, dd.hvp(expr, x, 0.5)), 1e-12)
    thrice = [dd.jvp(dd.jvp(dd.grad(expr, a), a), a), dd.grad(dd.jvp(dd.grad(expr, a), a), a)]
    thrice.append(dd.grad(dd.grad(dd.grad(expr, a), a), a))
    primal = array_of("jagged")

    def function(p):
        return np.log(ak.sum((np.sin(primal * p) + 1.5 * primal) ** 2)) - 0.125 * p

    want = eager.jvp(lambda p: eager.jvp(lambda q: eager.grad(function)(q), (p,))[1], (0.5,))[1]
    assert_close(list(dask.compute(*thrice)), [want] * 3, 1e-10)


@pytest.mark.parametrize("residuals", ["keep", "recompute"])
def test_hessian_by_parameters(residuals):
    _, a, b, expr = example()
    blocks = dask.compute(dd.hessian(expr, {"a": a, "b": [b]}, residuals=residuals))[0]
    primal = array_of("jagged")

    def function(p):
        inner = np.log(ak.sum((np.sin(primal * p[0]) + p[1] * primal) ** 2))
        return inner + p[2] ** 3 * p[0]

    point = np.array([0.5, 1.5, -0.5])
    want = np.array([eager.jvp(eager.grad(function), (point,), (row,))[1] for row in np.eye(3)])
    got = np.zeros((3, 3))
    got[0, 0], got[0, 1:] = blocks["a"]["a"], blocks["a"]["b"][0]
    got[1:, 0], got[1:, 1:] = blocks["b"][0]["a"], blocks["b"][0]["b"][0]
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12 * np.max(np.abs(want)))
    np.testing.assert_allclose(got, got.T, rtol=0, atol=1e-12 * np.max(np.abs(want)))
    assert got[2, 2] == 6 * -0.5 * 0.5


def test_hessian_reads_the_data_once():
    read = []

    def source(i):
        read.append(i)
        return array_of("jagged")[3 * i : 3 * i + 3]

    meta = ak.Array(array_of("jagged").layout.to_typetracer(forget_length=True))
    x = dak.from_map(source, range(4), meta=meta, label="source", token="hessian")
    b = dd.parameter([0.5, 1.5, -0.5], name="b")
    block = dd.hessian(np.log(dak.sum(np.exp(b[0] * x) + b[1] * x + b[2] ** 2)), b)
    read.clear()
    assert block.compute(scheduler="sync").shape == (3, 3)
    assert sorted(read) == [0, 1, 2, 3]


def test_by_an_intermediate_collection():
    x, _, _, _ = example()
    y = np.sin(x)
    expr = np.log(dak.sum(y**3 * x))
    primal = array_of("jagged")

    def function(x, moved):
        return np.log(ak.sum((np.sin(x) + moved) ** 3 * x))

    def gradients(*both):
        return eager.vjp(function, both)[1](1.0)

    zero = ak.zeros_like(primal)
    assert_close(
        dd.hvp(expr, y, 0.5).compute(), eager.jvp(gradients, (primal, zero), (0.0, 0.5))[1][1], 1e-12
    )
    products = dask.compute(*dd.hvp(expr, [x, y], [1.0, 0.5]))
    assert_close(list(products), list(eager.jvp(gradients, (primal, zero), (1.0, 0.5))[1]), 1e-12)
    # Where y lies between the other one and the value, layers of a derivative take its place.
    for derivative in (dd.grad(expr, [x, y])[1], dd.jvp(expr, x), dd.grad(expr, x)):
        for again in (dd.jvp, dd.vjp):
            for disconnected in ("raise", "zero"):
                with pytest.raises(NoRuleError, match=r"lies inside a derivative"):
                    again(derivative, y, disconnected=disconnected)


def test_by_collections_that_are_computed_from_one_another():
    """Three in a chain, the last one with records; and a parameter beside them."""
    jets = array_of("jets")
    lazy, p = collection(jets, SPLITS["empty middle"]), dd.parameter(0.5, name="p")
    first = dak.zip({"a": np.sin(lazy.pt) * p, "b": lazy.eta**2})
    second = dak.zip({"a": first.a * first.b, "b": first.b})
    expr = np.log(dak.sum(second.a**2 * second.b * lazy.pt))

    def function(pt, p, first_a, first_b, second_a):
        a, b = np.sin(pt) * p + first_a, jets.eta**2 + first_b
        return np.log(ak.sum((a * b + second_a) ** 2 * b * pt))

    zero = ak.zeros_like(jets.pt)
    point, direction = (jets.pt, 0.5, zero, zero, zero), (0.25, 1.0, 0.5, 0.5, -1.0)
    _, want = eager.jvp(lambda *x: eager.vjp(function, x)[1](1.0), point, direction)
    wrt = [lazy.pt, p, first, second.a]
    got = dask.compute(*dd.hvp(expr, wrt, [0.25, 1.0, 0.5, -1.0]))
    assert_close([got[0], got[1], got[3]], [want[0], want[1], want[4]], 1e-12)
    assert_close([got[2].a, got[2].b], list(want[2:4]), 1e-12)


def test_derivatives_of_several_orders_at_once():
    """A layer may be differentiated in one graph for the first time and in another for the second."""
    x, a, _, _ = example()
    y = np.sin(x * a)
    expr = np.log(dak.sum(y**3 * x))
    parts = [dd.jvp(expr, a), dd.jvp(dd.grad(expr, y), a), dd.jvp(y, a), dd.hvp(expr, a), dd.grad(expr, a)]
    assert_close(list(dask.compute(*parts)), [part.compute() for part in parts], 1e-14)


def test_columns_and_what_is_linear():
    jets = array_of("jets")
    lazy = collection(jets, SPLITS["empty first"])
    expr = dak.sum(lazy.pt**2 * lazy.eta)
    products = dask.compute(dd.hvp(expr, {"pt": lazy.pt, "eta": lazy.eta, "mass": lazy.pt}))[0]
    assert_close(products["eta"], 2 * jets.pt * 2, 1e-13)
    x = collection(array_of("jagged"), SPLITS["3"])
    assert ak.all(dd.hvp(dak.sum(3 * x), x).compute() == 0)


@pytest.mark.cluster
@pytest.mark.parametrize("scheduler", ["threads", "processes", "distributed"])
def test_schedulers(scheduler, request):
    x, a, _, expr = example("empty middle")
    products = dd.hvp(expr, [x, a])
    want = dask.compute(*products, scheduler="sync")
    if scheduler == "distributed":
        scheduler = request.getfixturevalue("client")
    assert_close(list(dask.compute(*products, scheduler=scheduler)), list(want), 1e-14)


def test_errors():
    x, a, _, expr = example()
    with pytest.raises(TypeError, match=r"hessian take parameters.*hvp"):
        dd.hessian(expr, [a, x])
    with pytest.raises(TypeError, match="grad needs a scalar"):
        dd.hvp(x**2, x)
    with pytest.raises(DisconnectedError):
        dd.hvp(expr, dd.parameter(1.0))


def test_disconnected_zero():
    x, other = (collection(ak.Array(values), [1, 2]) for values in ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0]))
    p, q = dd.parameter(0.5, name="p"), dd.parameter(1.0, name="q")
    expr = dak.sum(x**2 * p)
    by_x, by_other = dask.compute(*dd.hvp(expr, [x, other], disconnected="zero"))
    assert by_x.to_list() == [1.0, 1.0, 1.0]
    assert by_other.to_list() == [0.0, 0.0, 0.0]
    assert dask.compute(dd.hessian(expr * p, [p, q], disconnected="zero")) == ([[28.0, 0.0], [0.0, 0.0]],)


def test_of_selected_partitions():
    x, p = collection(ak.Array([1.0, 2.0, 3.0]), [1, 1, 1]), dd.parameter(0.5, name="p")
    first = dak.sum((x * p).partitions[0] ** 2)
    hessian, along = dask.compute(dd.hessian(first, p), dd.hvp(first, x, 1.0))
    assert hessian == 2.0
    assert along.to_list() == [0.5, 0.0, 0.0]


@pytest.mark.parametrize("again", [dd.jvp, dd.vjp])
def test_sources_whose_columns_are_sought(again):
    """log S of S = sum(x**2): slope 2 x / S, which along ones changes by 2 / S - 4 x sum(x) / S**2."""
    jets = array_of("jets")
    lazy = dak.from_awkward(jets, npartitions=3)
    second = again(dd.grad(np.log(dak.sum(lazy.pt**2)), lazy.pt), lazy.pt)
    square = ak.sum(jets.pt**2)
    assert_close(second.compute(), 2 / square - 4 * jets.pt * ak.sum(jets.pt) / square**2, 1e-13)
    assert list(dak.report_necessary_columns(second).values()) == [{"pt"}]
