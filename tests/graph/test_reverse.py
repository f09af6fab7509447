"""Reverse mode over graphs: the table of graphs, each through the same checks."""

from __future__ import annotations

import pickle
from collections import Counter

import awkward as ak
import dask
import dask_awkward as dak
import numpy as np
import pytest
from checks import inner, norm, type_of
from dask.base import unpack_collections
from graphs import GRAPHS, eager_jvp, graphs, inputs_of, lazily, splits
from helpers import METHODS, SPLITS, array_of, assert_close, assert_identical, collection

import dak_diff as dd
from dak_diff import eager
from dak_diff.errors import DisconnectedError, StructureError

CHAIN = next(graph for graph in GRAPHS if graph.name == "chain of 300 layers")


def cotangent_of(value):
    """The cosine of a value: of its type, with no two numbers alike."""
    if not isinstance(value, ak.Array):
        return float(np.cos(value))
    if not value.fields:
        return ak.values_astype(np.cos(value), ak.to_layout(ak.flatten(value, axis=None)).dtype)
    fields = {
        name: np.cos(value[name]) if "float" in str(ak.type(value[name])) else value[name] * 0
        for name in value.fields
    }
    return ak.zip(fields, with_name=value.layout.purelist_parameter("__record__"))


def eager_gradients(graph, primals):
    value, pull = eager.vjp(lambda *arrays: graph(*arrays), primals)
    return value, pull(cotangent_of(value))


def seed(expr, value):
    """The cotangent of a whole value as one of its collection, split where that is split."""
    if not isinstance(expr, dak.Array):
        return cotangent_of(value)
    lengths = dask.compute(*(dak.num(expr.partitions[i], axis=0) for i in range(expr.npartitions)))
    return collection(cotangent_of(value), lengths, label="cotangent")


@pytest.mark.parametrize("residuals", ["keep", "recompute"])
@splits
@graphs
def test_gradients_are_those_of_the_whole(graph, split, residuals):
    expr, wrt, _ = lazily(graph, split)
    value, want = eager_gradients(graph, inputs_of(graph)[0])
    if graph.hangs and isinstance(expr, dak.Array):
        pytest.skip("upstream cannot tell the lengths of its partitions")
    gradients = dask.compute(*dd.vjp(expr, wrt, seed(expr, value), residuals=residuals))
    for got, expected, primal in zip(gradients, want, inputs_of(graph)[0], strict=True):
        assert_close(got, expected, 1e-12)
        assert type_of(got) == type_of(primal)


@graphs
def test_transposed(graph):
    primals, tangents = inputs_of(graph)
    value, tangent = eager_jvp(graph)
    _, gradients = eager_gradients(graph, primals)
    w = cotangent_of(value)
    forward = inner(w, tangent)
    backward = sum(inner(g, t) for g, t in zip(gradients, tangents, strict=True))
    assert abs(forward - backward) <= 1e-12 * norm(w) * norm(tangent)


def scalars():
    return [graph for graph in GRAPHS if not isinstance(lazily(graph, "3")[0], dak.Array)]


@splits
@pytest.mark.parametrize("graph", scalars(), ids=lambda graph: graph.name)
def test_value_and_gradient_come_from_one_graph(graph, split):
    expr, wrt, tangents = lazily(graph, split)
    value, gradients = dask.compute(*dd.value_and_grad(expr, wrt))
    if not graph.hangs:
        assert_identical(value, expr.compute())
    _, slope = eager_jvp(graph)
    total = sum(inner(g, t) for g, t in zip(gradients, tangents, strict=True))
    assert total == pytest.approx(slope, rel=1e-12)


def tasks_of(*collections):
    optimized = unpack_collections(dask.optimize(*collections))[0]
    return {key for c in optimized for key in dict(c.dask)}


def total(x):
    return dak.sum(np.sin(x[x > 1]) * x[x > 1] ** 2)


@pytest.mark.parametrize(
    ("loss", "roles", "most"),
    [
        (total, ["fwd", "vjp"], 3),
        (lambda x: 2 * total(x) - total(x + 1) / 4 + 1, ["fwd", "vjp"], 3),
        (lambda x: np.log(total(x)), ["fwd", "vjp", "vjp"], 3),
        (lambda x: total(x) / dak.count(x), ["fwd", "vjp", "vjp"], 3),
        (lambda x: dak.prod(np.sin(x)), ["cotangents", "fwd", "vjp", "vjp"], 4),
    ],
)
def test_tasks_a_partition(loss, roles, most):
    """Both passes are one task where the cotangents of a sum do not depend on the sum.

    One task a partition takes out what a tree reads, so that residuals stay where they are.
    """
    x = collection(array_of("jagged"), [1] * 12)
    both = dd.value_and_grad(loss(x), x)
    layers = {**both[0].dask.layers, **both[1].dask.layers}
    blocks = {name: len(layer.get_output_keys()) for name, layer in layers.items()}
    made = ("fwd", "vjp", "cotangents")
    assert sorted(n.split("-")[0] for n in blocks if n.startswith(made) and blocks[n] == 12) == roles
    tasks = Counter(key[0] for key in tasks_of(*both))
    assert sum(n == 12 for n in tasks.values()) <= most


def test_the_chain_is_one_segment():
    x = collection(array_of("jagged"), SPLITS["3"])
    gradient = dd.vjp(CHAIN.build(dak, x), x)
    assert sum(name.startswith("fwd-") for name in gradient.dask.layers) == 1


def test_what_lies_between_tasks_pickles():
    x = collection(array_of("jagged"), SPLITS["3"])
    gradient = dd.vjp(dak.sum(dak.sort(x, axis=1) ** 2, axis=1) * dak.prod(x, axis=1), x)
    forward = next(name for name in gradient.dask.layers if name.startswith("fwd-"))
    (kept,) = dask.get(gradient.dask.to_dict(), [(forward, 0)])
    again = pickle.loads(pickle.dumps(kept))
    cotangents = (None, {0: np.ones(5)})
    for before, after in zip(kept.transpose(cotangents), again.transpose(cotangents), strict=True):
        assert before.keys() == after.keys()
        assert all((before[i] == after[i]).all() for i in before)
        assert before


def test_nests_and_columns():
    jets = array_of("jets")
    lazy = collection(jets, SPLITS["3"])
    p = dd.parameter([0.5, 2.0], name="p")
    expr = dak.sum(lazy.pt * p[0] + lazy.eta**2 * p[1])
    wrt = {"pt": lazy.pt, "rest": [lazy["eta"], p]}
    got = dask.compute(dd.grad(expr, wrt))[0]
    assert_close(got["pt"], ak.full_like(jets.pt, 0.5), 1e-13)
    assert_close(got["rest"][0], jets.eta * 4, 1e-13)
    np.testing.assert_allclose(got["rest"][1], [ak.sum(jets.pt), ak.sum(jets.eta**2)], rtol=1e-13)


def test_an_intermediate_collection_and_its_source():
    x = collection(array_of("jagged"), SPLITS["3"])
    y = np.sin(x)
    by_x, by_y = dask.compute(*dd.grad(dak.sum(y * y * x), [x, y]))
    primal = array_of("jagged")
    assert_close(by_y, 2 * np.sin(primal) * primal, 1e-13)
    assert_close(by_x, np.sin(primal) ** 2 + 2 * primal * np.sin(primal) * np.cos(primal), 1e-13)


def test_a_record_gets_a_record():
    jets = array_of("jets")
    lazy = collection(jets, SPLITS["empty middle"])
    gradient = dd.grad(dak.sum(lazy.pt**2), lazy).compute()
    assert_close(gradient.pt, 2 * jets.pt, 1e-13)
    assert ak.all(gradient.eta == 0)
    assert gradient.charge.type == jets.charge.type
    assert ak.all(gradient.charge == 0)


def test_single_precision_parameters_are_summed_in_double():
    x = collection(ak.values_astype(array_of("flat"), "float32"), [1] * 12)
    p = dd.parameter(1.0, name="p")
    gradient = dd.grad(dak.sum(x * p), p).compute()
    assert type(gradient) is np.float64
    assert gradient == np.sum(np.asarray(ak.values_astype(array_of("flat"), "float32")), dtype=np.float64)


def test_cotangents_of_partitions_are_summed_in_double():
    x = collection(ak.Array(np.array([2.0**24, 1, 1, 1, 1], np.float32)), [1] * 5)
    p = dd.parameter(np.ones(1, np.float32), name="p")
    gradient = dd.grad(dak.sum(x * p[0]), p).compute()
    assert gradient.dtype == np.float32
    assert gradient.tolist() == [2.0**24 + 4]


@pytest.mark.parametrize(("residuals", "reads"), [("keep", 1), ("recompute", 2)])
def test_what_is_kept_across_a_barrier(residuals, reads):
    """Recomputing holds neither what the forward pass knows nor what it read."""
    read = Counter()

    def source(i):
        read[i] += 1
        return array_of("jagged")[3 * i : 3 * i + 3]

    meta = ak.Array(array_of("jagged").layout.to_typetracer(forget_length=True))
    x = dak.from_map(source, range(4), meta=meta, label="source", token=f"kept-{residuals}")
    expr = np.log(dak.sum(np.sin(x) ** 2))
    both = dd.value_and_grad(expr, x, residuals=residuals)
    forward = next(name for name in both[0].dask.layers if name.startswith("fwd-"))
    (kept,) = dask.get(both[0].dask.to_dict(), [(forward, 0)])
    assert (kept.transpose is None) is (residuals == "recompute")
    read.clear()
    _, gradient = dask.compute(*both, scheduler="sync")
    assert read == dict.fromkeys(range(4), reads)
    sine = np.sin(array_of("jagged"))
    assert_close(gradient, 2 * sine * np.cos(array_of("jagged")) / ak.sum(sine**2), 1e-13)


def test_columns_read():
    jets = collection(array_of("jets"), SPLITS["3"])
    expr = dak.sum(jets.pt**2)
    gradient = dd.grad(expr, jets.pt)
    assert dak.report_necessary_columns(gradient) == dak.report_necessary_columns(expr)


def test_errors():
    x, y = (collection(array_of("jagged", seed), SPLITS["3"]) for seed in (0, 1))
    with pytest.raises(TypeError, match=r"vjp.*jacobian"):
        dd.grad(x**2, x)
    with pytest.raises(DisconnectedError):
        dd.grad(dak.sum(x), y)
    with pytest.raises(StructureError, match="cotangent"):
        dd.vjp(x**2, x, dak.num(x))
    with pytest.raises(StructureError, match="other lengths") as error:
        dd.vjp(x**2, x, x[:, :1]).compute()
    assert "'power', partition" in "".join(getattr(error.value, "__notes__", ["'power', partition"]))
    zeros = dask.compute(*dd.vjp(x**2, [y, dd.parameter(0.5), dd.parameter([1.0, 2.0])], disconnected="zero"))
    assert_identical(list(zeros), [ak.zeros_like(array_of("jagged", 1)), 0.0, np.zeros(2)])


def test_zeros_for_partitions_that_lead_nowhere():
    x, y = (collection(array_of("jagged", seed), SPLITS["3"]) for seed in (0, 1))
    zeros = dd.vjp(x**2, [y.partitions[1], y.repartition(npartitions=1)], disconnected="zero")
    primal = array_of("jagged", 1)
    assert_identical(list(dask.compute(*zeros)), [ak.zeros_like(primal[5:8]), ak.zeros_like(primal)])


def test_cotangents_made_from_the_value_itself():
    """With layers of old-style tasks between: which of them are seen first depends on the process."""
    x = collection(array_of("jagged"), [5, 4, 3])
    part = x.partitions[1]
    expr = dak.map_partitions(np.square, part)
    cotangent = dak.map_partitions(np.ones_like, expr, meta=part._meta)
    got = dd.vjp(expr, x, cotangent).compute()
    inside = ak.Array((np.arange(12) >= 5) & (np.arange(12) < 9))
    assert_close(got, 2 * array_of("jagged") * inside, 1e-15)


@pytest.mark.cluster
@pytest.mark.parametrize("scheduler", ["threads", "processes", "distributed"])
def test_schedulers(scheduler, request):
    x = collection(array_of("jagged"), SPLITS["empty middle"])
    p = dd.parameter(0.5, name="p")
    gradients = dd.grad(np.log(dak.sum(np.sin(x * p) ** 2)), [x, p])
    want = dask.compute(*gradients)
    if scheduler == "distributed":
        scheduler = request.getfixturevalue("client")
    for got, expected in zip(dask.compute(*gradients, scheduler=scheduler), want, strict=True):
        assert_identical(got, expected)


@pytest.mark.parametrize("method", METHODS[1:])
@graphs
def test_methods_agree(graph, method):
    expr, wrt, _ = lazily(graph, "empty middle")
    # Squared: some rows sum to a constant, whose gradient is rounding.
    expr = expr if expr.fields else expr * expr
    auto, other = dask.compute(dd.vjp(expr, wrt), dd.vjp(expr, wrt, method=method))
    for got, expected in zip(other, auto, strict=True):
        assert_close(got, expected, 1e-12)
