"""Jacobians by parameters: each component is the jvp along it."""

from __future__ import annotations

import math
import tracemalloc
from collections import Counter

import awkward as ak
import dask
import dask_awkward as dak
import numpy as np
import pytest
from checks import numbers, type_of
from graphs import EAGER
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
from dak_diff import eager
from dak_diff.engine.values import leaf_values
from dak_diff.errors import DisconnectedError, StructureError
from dak_diff.graph import tangent_tasks
from dak_diff.graph.tangent_tasks import StackRows
from dak_diff.graph.wrt import flatten_nested

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


# ---------------------------------------------------------------- modes, chunks, memory


def histogram(ns, jets, p):
    """Thirty bins of weighted values: two components move the values, the others the weights."""
    x = ns.flatten(jets.pt * (1 + 0.01 * p[0] + 0.02 * p[1] * jets.eta), axis=None)
    exponent = 0.0
    for j in range(2, 50):
        exponent = exponent + p[j] * np.cos(j * x)
    return ns.map_partitions(in_bins, x, np.exp(exponent))


CENTERS = np.linspace(0.4, 2.4, 30)


def in_bins(x, weight):
    z = (x[:, np.newaxis] - CENTERS) / 0.1
    return ak.sum(weight[:, np.newaxis] * np.exp(-(z**2)), axis=0)[np.newaxis]


def bins_and_parameters(split):
    """One row of thirty numbers for each partition, and fifty parameters."""
    p = dd.parameter(np.linspace(-0.1, 0.1, 50), name="p")
    return histogram(dak, collection(array_of("jets"), SPLITS[split]), p), p


def test_thirty_bins_by_fifty_parameters():
    expr, p = bins_and_parameters("3")
    total = dak.map_partitions(ak.sum, expr, axis=-1)
    block, sums = (np.asarray(v) for v in dask.compute(dd.jacobian(expr, p), dd.jacobian(total, p)))
    assert block.shape == (3, 30, 50)
    tangents = dask.compute([dd.jvp(expr, p, row) for row in np.eye(50)])[0]
    np.testing.assert_array_equal(block, np.stack([np.asarray(t) for t in tangents], axis=-1))
    np.testing.assert_allclose(sums, block.sum(axis=1), rtol=1e-12, atol=1e-13)

    def at(q):
        return np.asarray(histogram(EAGER, array_of("jets"), q)[0])

    want = [central_difference(at, (p.value,), (row,)) for row in np.eye(50)]
    # The differences of five points have an error of their own of 1e-11 of the largest.
    np.testing.assert_allclose(block.sum(axis=0), np.transpose(want), rtol=0, atol=1e-9)


PASSES_A_BARRIER = {
    **EXPRESSIONS,
    "normalised": lambda ns, jets, p: jets.pt / ns.sum(jets.pt * p[0]) * p[1],
    "normalised twice": lambda ns, jets, p: twice_normalised(ns, jets.pt * p[0], p),
    "power of a sum": lambda ns, jets, p: ns.sum(np.exp(jets.pt * p[2])) ** 2 * p[1],
}


def twice_normalised(ns, x, p):
    weight = x / ns.sum(x * p[1])
    return ns.sum(weight * np.sin(x) / ns.sum(weight**2 * p[2]))


@pytest.mark.parametrize("split", ["1", "3"])
@pytest.mark.parametrize("name", PASSES_A_BARRIER)
def test_chunks_give_the_same_bits(name, split):
    p = dd.parameter(POINT, name="p")
    expr = PASSES_A_BARRIER[name](dak, collection(array_of("jets"), SPLITS[split]), p)
    blocks = [dd.jacobian(expr, p, mode="forward", chunk=chunk) for chunk in (None, 1, 2, 7)]
    assert len({block.name for block in blocks}) == 4
    whole, *chunked = dask.compute(*blocks)
    tangents = dask.compute(*(dd.jvp(expr, p, row) for row in np.eye(3)))
    want = floats_of(tangents[0])
    for field in getattr(want, "fields", None) or [None]:
        of = (lambda v: v) if field is None else (lambda v, field=field: v[field])
        np.testing.assert_allclose(numbers(of(whole)), along(map(of, tangents)), rtol=1e-13, atol=1e-15)
    for other in chunked:
        assert_identical(other, whole)


def test_every_layer_on_the_way_is_in_a_segment():
    p = dd.parameter(POINT, name="p")
    x = collection(array_of("jagged"), SPLITS["3"])
    y = x
    for _ in range(5):
        y = np.sin(y * p[0])
    block = dd.jacobian(dak.sum(y), p)
    # Of the partitions; beside it the component of the parameter, the sum with its tree, and the result.
    assert sum(name.startswith("jvp-") for name in block.dask.layers) == 4


def test_several_expressions_share_their_segments():
    calls = Counter()

    def counted(x):
        calls["task"] += bool(len(x))
        return x * 2.0

    p = dd.parameter(POINT, name="p")
    x = collection(array_of("jagged"), SPLITS["3"]) * p[0]
    y = dak.map_partitions(counted, x, meta=x._meta)
    blocks = dd.jacobian([dak.sum(y * p[1]), dak.sum(y**2)], p, mode="forward")
    calls.clear()
    got = dask.compute(blocks)[0]
    assert calls["task"] == 3
    total, squares = (np.sum(np.ravel(ak.flatten(array_of("jagged"))) ** n) for n in (1, 2))
    a, b, _ = POINT
    assert_close(got, [np.array([2 * b * total, 2 * a * total, 0]), np.array([8 * a * squares, 0, 0])], 1e-13)


def test_memory_is_bounded_by_the_chunk():
    """Twice the parameters, the same peak; all at once, twice the peak."""
    rows = ak.Array(np.linspace(0.5, 1.5, 40_000))
    x = dak.from_awkward(rows, 1)

    def peak(k, chunk):
        p = dd.parameter(np.linspace(0.1, 0.2, k), name="p")
        weight = 0.0
        for j in range(k):
            weight = weight + p[j] * x
        (block,) = dask.optimize(dd.jacobian(dak.sum(np.exp(weight / k)), p, mode="forward", chunk=chunk))
        block.compute(optimize_graph=False)
        tracemalloc.start()
        block.compute(optimize_graph=False)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    # The partition and each of its tangents take 0.32 MB.
    assert peak(32, 2) < 1.2 * peak(16, 2)
    assert peak(32, 2) < 0.25 * peak(32, 32)
    assert peak(32, 32) > 1.7 * peak(16, 16)


def test_the_chunk_is_chosen_by_the_bytes_of_the_inputs(monkeypatch):
    passes = Counter()

    def counted(values, p):
        passes[ak.backend(values)] += 1
        return values * p[0] * p[1] * p[2]

    x, p = dak.from_awkward(ak.Array(np.linspace(0.5, 1.5, 1000)), 1), dd.parameter(POINT, name="p")
    block = dd.jacobian(dak.sum(dak.map_partitions(counted, x, p, meta=x._meta)), p, mode="forward")
    # The partition has 8000 bytes, the parameter 24.
    for budget, want in ((1, 3), (8024, 3), (2 * 8024, 2), (3 * 8024, 1), (2**30, 1)):
        monkeypatch.setattr(tangent_tasks, "CHUNK_BYTES", budget)
        passes.clear()
        block.compute()
        assert passes["cpu"] == want


def one_partition(ns, x, p):
    """An array of three numbers, of one partition with known divisions."""
    return x * p["a"] ** 2 + np.sin(x * p["b"][1]) * p["c"][1, 2]


OUTPUTS = {
    "number": lambda x, p: dak.sum(one_partition(dak, x, p)),
    "array": lambda x, p: one_partition(dak, x, p),
    "matrix": lambda x, p: one_partition(dak, x, p) * p["b"][0],
    "parameter": lambda x, p: p["b"] * p["a"] ** 2 + p["c"][0] * p["b"],
    "scalar parameter": lambda x, p: np.sin(p["a"]) * p["b"][2] * p["c"][1, 1],
    "nest": lambda x, p: {"s": [dak.sum(one_partition(dak, x, p))], "p": p["a"] * p["b"][0] * p["c"][0, 0]},
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", OUTPUTS)
def test_modes_agree(name, dtype):
    p = {
        "a": dd.parameter(0.5, name="a"),
        "b": dd.parameter(POINT, name="b"),
        "c": dd.parameter(np.linspace(0.5, 1.0, 6).reshape(2, 3), name="c"),
    }
    shape = (3, 2) if name == "matrix" else (3,)
    x = dak.from_awkward(ak.Array(np.linspace(0.5, 1.5, math.prod(shape), dtype=dtype).reshape(shape)), 1)
    expr = OUTPUTS[name](x, p)
    blocks = {
        mode: dd.jacobian(expr, p, mode=mode, disconnected="zero") for mode in ("forward", "reverse", "auto")
    }
    forward, reverse, auto = dask.compute(*blocks.values())
    rtol = 1e-13 if dtype == "float64" else 3e-6
    leaves = [list(flatten_nested(block)) for block in (forward, reverse, auto)]
    for (where, f), (same, r), (_, a) in zip(*leaves, strict=True):
        assert where == same
        assert type_of(f) == type_of(r) == type_of(a)
        np.testing.assert_allclose(np.asarray(r), np.asarray(f), rtol=rtol, atol=rtol)
        np.testing.assert_allclose(np.asarray(a), np.asarray(f), rtol=rtol, atol=rtol)
    for (_, f), (_, r) in zip(
        flatten_nested(blocks["forward"]), flatten_nested(blocks["reverse"]), strict=True
    ):
        if isinstance(f, dak.Array):
            assert f._meta.type.content == r._meta.type.content
            assert f.divisions == r.divisions


def roles(block):
    return {name.split("-")[0] for _, b in flatten_nested(block) for name in b.dask.layers}


def test_auto_counts():
    x, p = collection(array_of("jagged"), SPLITS["3"]), dd.parameter(np.ones(100), name="p")
    total = dak.sum(x * p[0])
    assert "jvp" not in roles(dd.jacobian(total, p))
    assert "vjp" not in roles(dd.jacobian([total * (1.0 + i) for i in range(6)], p))
    assert "vjp" not in roles(dd.jacobian(total, p, mode="forward"))
    assert "vjp" not in roles(dd.jacobian(x * p[0], p))
    few = dd.parameter([1.0, 2.0], name="few")
    assert "jvp" not in roles(dd.jacobian(dak.sum(x * few[0]), few, mode="reverse"))


def test_a_gradient_is_no_number():
    """A collection that looks like a number and holds three: one vjp would add up its rows."""
    x, p = collection(array_of("jagged"), SPLITS["3"]), dd.parameter(POINT, name="p")
    gradient = dd.grad(dak.sum(x * p[0] ** 2 * p[1]), p)
    with pytest.raises(TypeError, match=r"not known when the graph is built.*forward"):
        dd.jacobian(gradient, p, mode="reverse")
    assert_identical(dd.jacobian(gradient, p).compute(), dd.jacobian(gradient, p, mode="forward").compute())


def test_rows_know_the_shape_of_their_value():
    stack = StackRows((), (3,), np.dtype(float))
    assert stack(1.0, POINT).tolist() == POINT.tolist()
    with pytest.raises(StructureError, match=r"shape \(\).*shape \(2,\).*forward"):
        stack(np.ones(2), POINT)


def test_components_that_do_not_move_cost_nothing():
    """Of 200 tangents of a vector one passes through each component."""
    passed = Counter()

    def counted(x, component):
        y = x * component
        leaf = leaf_values(y)[0]
        passed["tangents"] += sum(t is not None for t in getattr(leaf, "tangents", ()))
        return y

    p = dd.parameter(np.linspace(1, 2, 200), name="p")
    x = collection(array_of("flat"), SPLITS["3"])
    expr = sum((dak.map_partitions(counted, x, p[j], meta=x._meta) for j in range(5)), start=0.0)
    block = dd.jacobian(expr, p, mode="forward")
    passed.clear()
    got = np.asarray(block.compute())
    assert passed["tangents"] == 5 * 3
    np.testing.assert_array_equal(
        got[:, :5], np.repeat(np.asarray(array_of("flat"))[:, np.newaxis], 5, axis=1)
    )
    assert not got[:, 5:].any()


def test_a_jacobian_is_differentiated_again():
    """The derivative of a Jacobian by data: its pairs are values to the second derivative."""
    x, p = collection(array_of("jagged"), SPLITS["3"]), dd.parameter(POINT, name="p")
    for chunk in (None, 1):
        block = dd.jacobian(dak.sum(x**2 * p[0] * p[1]), p, mode="forward", chunk=chunk)
        got = dd.jvp(block, x).compute()
        total = 2 * np.sum(np.asarray(ak.flatten(array_of("jagged"))))
        np.testing.assert_allclose(got, [total * POINT[1], total * POINT[0], 0], rtol=1e-13)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "backward"}, 'mode must be "auto"'),
        ({"chunk": 0}, "chunk must be a positive integer"),
        ({"chunk": 2.0}, "chunk must be a positive integer"),
        ({"chunk": True}, "chunk must be a positive integer"),
    ],
)
def test_options(options, message):
    x, p = collection(array_of("jagged"), SPLITS["3"]), dd.parameter(POINT, name="p")
    with pytest.raises(ValueError, match=message):
        dd.jacobian(x * p[0], p, **options)


@pytest.mark.parametrize("split", ["1", "3"])
def test_reverse_needs_a_known_number_of_outputs(split):
    x, p = collection(array_of("jagged"), SPLITS[split]), dd.parameter(POINT, name="p")
    with pytest.raises(TypeError, match=r'not known.*one vjp for each.*mode="forward"'):
        dd.jacobian(x * p[0], p, mode="reverse")


def test_an_element_of_a_block():
    x, p = collection(array_of("jagged"), SPLITS["3"]), dd.parameter([1.0, 2.0], name="p")
    assert dd.jacobian(x * p[0], p)[0].compute().to_list() == [[v, 0.0] for v in array_of("jagged")[0]]
