"""Smooth histograms and cuts: values and derivatives against mpmath, over partitions, lists and None."""

import pickle
from functools import partial
from itertools import pairwise

import awkward as ak
import cloudpickle
import dask
import dask.local
import dask_awkward as dak
import mpmath as mp
import numpy as np
import pytest
from helpers import METHODS, SPLITS, array_of, assert_close, assert_identical, collection

import dak_diff as dd
from dak_diff import eager, soft_cut, soft_histogram
from dak_diff.testing import check_grads

pytest.importorskip("scipy")

EDGES, WIDTH = [0.5, 0.8, 1.1, 1.6, 2.0], 0.3
JAGGED, FLAT = array_of("jagged"), array_of("flat")
OPTIONS = ak.Array([[1.0, None], None, [0.7], [1.3, 1.6], *[[1.1]] * 3, [], *[[0.9, None, 2.2]] * 4])
#: name -> (values, weights)
CASES = {
    "flat": (FLAT, None),
    "jagged": (JAGGED, None),
    "number as weight": (JAGGED, 1.5),
    "a weight each": (JAGGED, np.sqrt(JAGGED)),
    "a weight an event": (JAGGED, array_of("flat", seed=1)),
    "negative weights": (FLAT, -1 * FLAT),
    "None": (OPTIONS, None),
    "None, weights": (OPTIONS, array_of("flat", seed=1)),
    "None among weights": (JAGGED, ak.Array([1.5, None, 0.5] * 4)),
    "regular": (ak.Array(np.linspace(0.4, 2.1, 36).reshape(12, 3)), None),
    "lists in lists": (ak.unflatten(JAGGED, [1] * 12), None),
    "integers": (ak.Array(np.arange(12) % 4), None),
    "booleans as weights": (FLAT, ak.Array(np.arange(12) % 3 == 0)),
}
cases = pytest.mark.parametrize("case", CASES)
splits = pytest.mark.parametrize("split", ["1", "3", "empty middle"])


def pairs(x, w):
    """Values with their weights, one by one."""
    if x is None or w is None:
        return []
    if not isinstance(x, list):
        return [(x, w)]
    each = w if isinstance(w, list) else [w] * len(x)
    return [pair for a, b in zip(x, each, strict=True) for pair in pairs(a, b)]


def exact(values, edges, h, weights=None):
    """The contents of the bins by mpmath."""
    listed = [
        x.to_list() if hasattr(x, "to_list") else x for x in (values, 1 if weights is None else weights)
    ]
    at = [mp.fsum(w * mp.ncdf((mp.mpf(e) - x) / h) for x, w in pairs(*listed)) for e in edges]
    return [after - before for before, after in pairwise(at)]


def floats(numbers):
    return [float(x) for x in numbers]


def as_collection(x, split):
    return collection(x, SPLITS[split]) if isinstance(x, ak.Array) else x


# ---------------------------------------------------------------- values


@splits
@cases
def test_contents(case, split):
    values, weights = CASES[case]
    want = floats(exact(values, EDGES, WIDTH, weights))
    h = soft_histogram(as_collection(values, split), EDGES, WIDTH, as_collection(weights, split))
    assert h.npartitions == 1
    assert h.divisions == (0, 4)
    got = h.compute()
    assert str(got.type) == "4 * float64"
    assert str(h._meta.type.content) == "float64"
    assert_close(got, want, 1e-14)
    assert_close(soft_histogram(values, EDGES, WIDTH, weights), want, 1e-14)


def test_in_memory_the_result_is_in_kind():
    want = floats(exact(FLAT, EDGES, WIDTH))
    for values, kind in ((FLAT, ak.Array), (FLAT.to_numpy(), np.ndarray), (FLAT.to_list(), np.ndarray)):
        got = soft_histogram(values, EDGES, WIDTH)
        assert type(got) is kind
        assert_close(got.tolist(), want, 1e-14)


def test_a_narrow_gaussian_gives_the_histogram():
    values = np.random.default_rng(0).uniform(0, 3, 1000)
    distance = np.abs(values[:, np.newaxis] - EDGES).min(axis=1)
    kept = values[distance > 1e-3]
    want, _ = np.histogram(kept, EDGES)
    assert want.min() > 50
    np.testing.assert_array_equal(soft_histogram(kept, EDGES, 1e-5), want)


def test_all_bins_and_both_tails_hold_the_weights():
    weights = array_of("flat", seed=1)
    h = soft_histogram(
        collection(JAGGED, [5, 3, 4]), [-np.inf, *EDGES, np.inf], WIDTH, collection(weights, [5, 3, 4])
    )
    total = float(ak.sum(weights * ak.num(JAGGED)))
    np.testing.assert_allclose(ak.sum(h.compute()), total, rtol=1e-14)


def test_trees_of_any_depth():
    x = collection(JAGGED, SPLITS["12"])
    want = floats(exact(JAGGED, EDGES, WIDTH))
    for split_every in (2, 3, 100):
        with dask.config.set({"awkward.aggregation.split-every": split_every}):
            h = soft_histogram(x, EDGES, WIDTH)
            assert_close(h.compute(), want, 1e-14)
            gradient = dd.grad(dak.sum(h**2), x).compute()
        assert_close(
            gradient, eager.grad(lambda y: ak.sum(soft_histogram(y, EDGES, WIDTH) ** 2))(JAGGED), 1e-13
        )


@pytest.mark.parametrize("array", [FLAT[:0], JAGGED[:0]], ids=["flat", "jagged"])
def test_of_nothing(array):
    x, h = collection(array, [0, 0]), dd.parameter(WIDTH, name="h")
    contents = soft_histogram(x, EDGES, h)
    assert_identical(contents.compute(), ak.Array(np.zeros(4)))
    assert float(dd.grad(dak.sum(contents), h).compute()) == 0
    assert_identical(dd.jvp(contents, h).compute(), ak.Array(np.zeros(4)))
    assert dd.grad(dak.sum(contents), x).compute().to_list() == []
    assert_identical(soft_histogram(ak.Array([]), EDGES, WIDTH), ak.Array(np.zeros(4)))


def test_single_precision():
    single = ak.values_astype(JAGGED, np.float32)
    double = ak.values_astype(single, np.float64)
    x = collection(single, [5, 3, 4])
    h = soft_histogram(x, EDGES, WIDTH)
    assert_close(h.compute(), soft_histogram(double, EDGES, WIDTH), 1e-15)
    gradient = dd.grad(dak.sum(h**2), x)
    want = eager.grad(lambda y: ak.sum(soft_histogram(y, EDGES, WIDTH) ** 2))(double)
    assert str(gradient.compute().type) == "12 * var * float32"
    assert_close(gradient.compute(), want, 1e-6)
    assert str(dd.jvp(h, x).compute().type) == "4 * float64"


# ---------------------------------------------------------------- derivatives


@splits
@cases
def test_derivatives_by_everything(case, split):
    values, weights = CASES[case]
    x, w = as_collection(values, split), as_collection(weights, split)
    edges, h = dd.parameter(EDGES, name="edges"), dd.parameter(WIDTH, name="h")
    wrt = [edges, h]
    wrt += [x] if case != "integers" else []
    wrt += [w] if isinstance(w, dak.Array) and case != "booleans as weights" else []
    check_grads(soft_histogram(x, edges, h, w), wrt, order=2)


@pytest.mark.parametrize("method", METHODS)
def test_gradient_by_hand(method):
    weights = array_of("flat", seed=1)
    x, w = collection(JAGGED, [5, 3, 4]), collection(weights, [5, 3, 4])
    edges, h = dd.parameter(EDGES, name="edges"), dd.parameter(WIDTH, name="h")
    seed = np.array([1.0, -2.0, 0.5, 3.0])
    loss = dak.sum(soft_histogram(x, edges, h, w) * seed)
    of_x, of_w, of_edges, of_h = dask.compute(*dd.grad(loss, [x, w, edges, h], method=method))

    def u(e, v):
        return (mp.mpf(e) - v) / mp.mpf(WIDTH)

    def over_bins(of_edge, v):
        return mp.fsum(
            s * (of_edge(b, v) - of_edge(a, v)) for s, (a, b) in zip(seed, pairwise(EDGES), strict=True)
        )

    listed = list(zip(JAGGED.to_list(), weights.to_list(), strict=True))
    flat = pairs(JAGGED.to_list(), weights.to_list())
    by_x = [[-s * over_bins(lambda e, v: mp.npdf(u(e, v)), v) / WIDTH for v in row] for row, s in listed]
    assert_close(of_x, [floats(row) for row in by_x], 1e-13)
    by_w = [mp.fsum(over_bins(lambda e, v: mp.ncdf(u(e, v)), v) for v in row) for row, _ in listed]
    assert_close(of_w, floats(by_w), 1e-13)
    by_h = mp.fsum(-s * over_bins(lambda e, v: u(e, v) * mp.npdf(u(e, v)), v) / WIDTH for v, s in flat)
    np.testing.assert_allclose(of_h, float(by_h), rtol=1e-13)
    jumps = -np.diff([0.0, *seed, 0.0])
    density = [mp.fsum(s * mp.npdf(u(e, v)) for v, s in flat) / WIDTH for e in EDGES]
    assert_close(of_edges.tolist(), floats(j * d for j, d in zip(jumps, density, strict=True)), 1e-13)


OBSERVED = np.array([3.0, 5.0, 6.0, 2.0])


def likelihood(x, scale, h, mu):
    expected = soft_histogram(x * scale, EDGES, h) * mu
    return dak.sum(OBSERVED * np.log(expected) - expected)


@pytest.mark.parametrize("residuals", ["keep", "recompute"])
def test_a_likelihood_and_its_second_derivatives(residuals):
    x = collection(JAGGED, [5, 3, 4])
    start = (1.02, WIDTH, 0.9)
    parameters = [dd.parameter(v, name=n) for v, n in zip(start, ("scale", "h", "mu"), strict=True)]
    loss = likelihood(x, *parameters)
    flat = ak.flatten(JAGGED).to_list()

    def by_mpmath(scale, h, mu):
        expected = [mu * n for n in exact([v * scale for v in flat], EDGES, h)]
        return mp.fsum(n * mp.log(e) - e for n, e in zip(OBSERVED, expected, strict=True))

    def derivative(*orders):
        return float(mp.diff(by_mpmath, start, orders))

    unit = np.eye(3, dtype=int)
    value, gradient = dd.value_and_grad(loss, parameters, residuals=residuals)
    value, gradient = dask.compute(value, gradient)
    np.testing.assert_allclose(value, float(by_mpmath(*start)), rtol=1e-14)
    np.testing.assert_allclose(gradient, [derivative(*row) for row in unit], rtol=1e-11)
    (hessian,) = dask.compute(dd.hessian(loss, parameters))
    want = [[derivative(*(a + b)) for b in unit] for a in unit]
    # mpmath takes second derivatives by differences in 15 digits and their doubles.
    np.testing.assert_allclose(np.array(hessian, dtype=float), want, rtol=1e-9)
    along = [1.0, -0.5, 0.25]
    product = dask.compute(*dd.hvp(loss, parameters, along))
    np.testing.assert_allclose(product, np.array(want) @ along, rtol=1e-9)
    check_grads(loss, [x, *parameters], order=2)


def test_inside_functions_of_ones_own():
    x = collection(JAGGED, [5, 3, 4])
    whole = dak.map_partitions(lambda y: soft_histogram(y, EDGES, WIDTH) ** 2, x)
    parts = [JAGGED[a:b] for a, b in ((0, 5), (5, 8), (8, 12))]
    want = [n for part in parts for n in np.square(floats(exact(part, EDGES, WIDTH)))]
    assert_close(whole.compute(), want, 1e-14)
    check_grads(whole, x)


def test_in_memory_it_is_differentiated_as_it_is_in_graphs():
    x, edges, h = (
        collection(JAGGED, [5, 3, 4]),
        dd.parameter(EDGES, name="edges"),
        dd.parameter(WIDTH, name="h"),
    )
    lazy = dask.compute(*dd.grad(dak.sum(soft_histogram(x, edges, h) ** 2), [x, edges, h]))
    primals = (JAGGED, np.array(EDGES), WIDTH)
    _, pull = eager.vjp(lambda *args: ak.sum(soft_histogram(*args) ** 2), primals)
    for got, want in zip(pull(1.0), lazy, strict=True):
        assert_close(got, want, 1e-13)
    of_numpy = eager.grad(lambda y: np.sum(soft_histogram(y, EDGES, WIDTH) ** 2))(
        ak.flatten(JAGGED).to_numpy()
    )
    assert_close(of_numpy.tolist(), ak.flatten(lazy[0]).to_list(), 1e-13)
    held = soft_histogram(eager.diffarray(FLAT.to_numpy()), EDGES, WIDTH)
    assert_close(held.primal.tolist(), floats(exact(FLAT, EDGES, WIDTH)), 1e-14)
    assert_close(
        held.tangent.tolist(),
        eager.jvp(lambda y: soft_histogram(y, EDGES, WIDTH), (FLAT,))[1].to_list(),
        1e-14,
    )


def test_what_is_no_number_or_infinite_lies_in_no_bin_and_has_no_derivative():
    strange = ak.Array([[1.0, np.nan], [np.inf], [1.7, -np.inf]])
    weights = ak.Array([[1.5, np.nan], [2.0], [0.5, np.inf]])
    x, w = collection(strange, [1, 2]), collection(weights, [1, 2])
    h = dd.parameter(WIDTH, name="h")
    contents = soft_histogram(x, EDGES, h, w)
    plain = soft_histogram(ak.Array([1.0, 1.7]), EDGES, WIDTH, ak.Array([1.5, 0.5]))
    assert_close(contents.compute(), plain.to_list(), 1e-15)
    of_x, of_w, of_h = dask.compute(*dd.grad(dak.sum(contents**2), [x, w, h]))
    for gradient in (of_x, of_w):
        assert [[v != 0 for v in row] for row in gradient.to_list()] == [
            [True, False],
            [False],
            [True, False],
        ]
        assert ak.all(np.isfinite(gradient), axis=None)
    (of_plain,) = eager.vjp(
        lambda b: ak.sum(soft_histogram([1.0, 1.7], EDGES, b, [1.5, 0.5]) ** 2), (WIDTH,)
    )[1](1.0)
    np.testing.assert_allclose(of_h, of_plain, rtol=1e-14)
    assert ak.all(np.isfinite(dd.jvp(contents, [x, w, h]).compute()))
    # Beyond the last edge is in the bin that ends at infinity.
    open_ended = soft_histogram(strange, [-np.inf, 1.5, np.inf], 1e-3)
    np.testing.assert_allclose(open_ended, [1, 1], rtol=1e-14)


# ---------------------------------------------------------------- the graph


def test_it_is_two_layers_and_nothing_runs(never_computes):
    x = collection(JAGGED, [5, 3, 4])
    h = soft_histogram(x, EDGES, dd.parameter(WIDTH, name="h"), collection(FLAT, [5, 3, 4]))
    names = {name.rsplit("-", 1)[0] for name in h.dask.layers}
    assert {n for n in names if "source" not in n} == {"soft-histogram", "sum-histograms", "h"}
    assert list(dd.grad(dak.sum(h), x).dask.layers)


def test_names_come_from_content():
    def name(values=JAGGED, edges=EDGES, h=WIDTH, w=None):
        return soft_histogram(collection(values, [5, 3, 4]), edges, h, w).name

    assert name() == name() == name(edges=np.array(EDGES)) == name(edges=ak.Array(EDGES)) == name(w=1.0)
    others = [
        name(values=JAGGED * 2),
        name(edges=[0.5, 2.0]),
        name(h=0.31),
        name(w=2.0),
        name(w=collection(FLAT, [5, 3, 4])),
        name(h=dd.parameter(WIDTH, name="h")),
    ]
    assert len({name(), *others}) == 7


def test_what_passes_between_tasks_pickles():
    # Runs in this process, but pickles the inputs and the result of every task.
    pickling = partial(dask.local.get_sync, loads=pickle.loads, dumps=cloudpickle.dumps)
    x, h = collection(JAGGED, [5, 3, 4]), dd.parameter(WIDTH, name="h")
    contents = soft_histogram(x, EDGES, h)
    for lazy in (contents, dd.jvp(contents, h), dd.grad(np.log(dak.sum(contents)), x)):
        there = lazy.compute(scheduler=pickling, optimize_graph=False)
        assert_identical(there, lazy.compute())


@pytest.fixture
def file(tmp_path):
    pytest.importorskip("pyarrow")
    columns = dict.fromkeys(("pt", "eta", "phi"), JAGGED)
    ak.to_parquet(
        ak.zip({**columns, "weight": FLAT, "other": FLAT}, depth_limit=1), tmp_path / "events.parquet"
    )
    return dak.from_parquet(str(tmp_path / "events.parquet"))


def test_columns(file):
    def read(lazy):
        (columns,) = dak.report_necessary_columns(lazy).values()
        return {column.split(".")[0] for column in columns}

    h = dd.parameter(WIDTH, name="h")
    assert read(soft_histogram(file.pt, EDGES, h)) == {"pt"}
    contents = soft_histogram(file.pt + file.eta, EDGES, h, file.weight)
    loss = dak.sum(OBSERVED * np.log(contents) - contents)
    for lazy in (contents, loss, dd.grad(loss, h), dd.jvp(loss, h), dd.grad(loss, file.pt)):
        assert read(lazy) == {"pt", "eta", "weight"}
    assert_close(contents.compute(), floats(exact(JAGGED * 2, EDGES, WIDTH, FLAT)), 1e-14)
    assert_close(dd.grad(loss, file.pt).compute(), dd.grad(loss, file.eta).compute(), 1e-15)


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "edges", [[1.0], [], 2.0, [1.0, 1.0], [2.0, 1.0], [0.0, np.nan, 1.0], [[1.0, 2.0]]], ids=str
)
def test_edges_that_are_none(edges):
    for values in (FLAT, collection(FLAT, [12])):
        with pytest.raises(ValueError, match="two or more increasing numbers"):
            soft_histogram(values, edges, WIDTH)
    if np.ndim(edges) == 1 and len(edges):
        with pytest.raises(ValueError, match="two or more increasing numbers"):
            soft_histogram(collection(FLAT, [12]), dd.parameter(edges), WIDTH)


@pytest.mark.parametrize("h", [0, -1.0, np.nan, np.inf, [0.1, 0.2]], ids=str)
def test_bandwidths_that_are_none(h):
    for values in (FLAT, collection(FLAT, [12])):
        with pytest.raises(ValueError, match="one positive number"):
            soft_histogram(values, EDGES, h)
    with pytest.raises(ValueError, match="one positive number"):
        soft_histogram(collection(FLAT, [12]), EDGES, dd.parameter(h))


@pytest.mark.parametrize(
    "array", [ak.zip({"pt": FLAT}), ak.Array(["a"] * 12), ak.Array([1j] * 12), ak.Array([[["a"]]] * 12)],
    ids=["records", "strings", "complex", "lists of strings"],
)  # fmt: skip
def test_what_is_no_number(array):
    for given in (array, collection(array, [5, 7])):
        with pytest.raises(TypeError, match="the values are"):
            soft_histogram(given, EDGES, WIDTH)
    with pytest.raises(TypeError, match="the weights are"):
        soft_histogram(FLAT, EDGES, WIDTH, array)


def test_what_does_not_go_together():
    x, p = collection(JAGGED, [5, 3, 4]), dd.parameter(0.3, name="p")
    with pytest.raises(ValueError, match="soft_histogram are incompatibly partitioned"):
        soft_histogram(x, EDGES, WIDTH, collection(FLAT, [6, 6]))
    with pytest.raises(ValueError, match="soft_cut are incompatibly partitioned"):
        soft_cut(x, collection(FLAT, [6, 6]), 1.0)
    with pytest.raises(ValueError, match="broadcast"):
        soft_histogram(x, EDGES, WIDTH, x[:, :1]).compute()
    with pytest.raises(TypeError, match=r"dak\.from_awkward makes one"):
        soft_histogram(x, EDGES, WIDTH, FLAT)
    with pytest.raises(ValueError, match="are one number"):
        soft_histogram(x, EDGES, WIDTH, dd.parameter(np.ones(12)))
    with pytest.raises(TypeError, match=r"all of them as one vector"):
        soft_histogram(x, [0.0, p, 1.0], WIDTH)
    with pytest.raises(TypeError, match=r"give p\.value"):
        soft_histogram(JAGGED, EDGES, p)
    with pytest.raises(TypeError, match=r"give p\.value"):
        soft_cut(JAGGED, p, 1.0)
    for call in (
        lambda s: soft_histogram(x, EDGES, s),
        lambda s: soft_cut(x, s, 1.0),
        lambda s: soft_cut(x, 1.0, s),
    ):
        with pytest.raises(TypeError, match="must be known when the graph is built"):
            call(dak.sum(x))


# ---------------------------------------------------------------- cuts


def test_cut_keeps_its_digits():
    x = np.array([-700.0, -40.0, -3.0, 0.0, 0.5, 3.0, 40.0, 700.0])
    for threshold, width in ((0.0, 1.0), (0.5, 2.0), (0.5, -2.0)):
        want = floats(1 / (1 + mp.exp(-(mp.mpf(v) - threshold) / width)) for v in x)
        # The argument of the exponential, up to 700, is rounded before it.
        np.testing.assert_allclose(soft_cut(x, threshold, width), want, rtol=700 * np.finfo(float).eps)


def test_cut_far_from_the_threshold():
    x = np.array([-np.inf, -1e300, 1e300, np.inf])
    for width, want in ((1e-3, [0, 0, 1, 1]), (-1e-3, [1, 1, 0, 0])):
        primals = (x, 1.0, width)
        value, tangent = eager.jvp(soft_cut, primals)
        np.testing.assert_array_equal(value, want)
        np.testing.assert_array_equal(tangent, np.zeros(4))
        for cotangent in eager.vjp(soft_cut, primals)[1](1.0):
            np.testing.assert_array_equal(cotangent, np.zeros(np.shape(cotangent)))
    assert np.isnan(soft_cut(np.nan, 1.0, 1.0))


@splits
def test_cut_derivatives(split):
    t, w = dd.parameter(1.2, name="t"), dd.parameter(0.4, name="w")
    for values in (JAGGED, OPTIONS):
        x = collection(values, SPLITS[split])
        check_grads(soft_cut(x, t, w), [x, t, w], order=2)
        check_grads(soft_cut(x, t, -1 * w), [x, t, w])
    x, each = collection(JAGGED, SPLITS[split]), collection(FLAT, SPLITS[split])
    check_grads(soft_cut(x, each, 0.2), [x, each], order=2)
    check_grads(soft_histogram(x, EDGES, WIDTH, soft_cut(x, t, w)), [x, t, w], order=2)


@pytest.mark.parametrize("method", METHODS)
def test_cut_by_hand(method):
    x, t = collection(JAGGED, [5, 3, 4]), dd.parameter(1.2, name="t")
    passed = dak.sum(soft_cut(x, t, 0.4))
    value, gradient = dask.compute(*dd.value_and_grad(passed, t, method=method))

    def by_mpmath(threshold):
        return mp.fsum(1 / (1 + mp.exp((threshold - v) / 0.4)) for v in ak.flatten(JAGGED).to_list())

    np.testing.assert_allclose(value, float(by_mpmath(1.2)), rtol=1e-14)
    np.testing.assert_allclose(gradient, float(mp.diff(by_mpmath, 1.2)), rtol=1e-12)


def test_cut_keeps_type_and_is_one_layer():
    single = ak.values_astype(JAGGED, np.float32)
    t = dd.parameter(1.2, name="t")
    lazy = soft_cut(collection(single, [5, 3, 4]), t, 0.4)
    assert str(lazy.compute().type) == "12 * var * float32"
    assert str(lazy._meta.type.content) == "var * float32"
    assert lazy.divisions == (0, 5, 8, 12)
    assert sorted(name.rsplit("-", 1)[0] for name in lazy.dask.layers) == ["soft-cut", "source", "t"]
    assert str(dd.jvp(lazy, t).compute().type) == "12 * var * float32"
    assert_identical(lazy.compute(), soft_cut(single, 1.2, 0.4))
    assert soft_cut(np.float32([1.0, 2.0]), 1.2, 0.4).dtype == np.float32
    assert soft_cut(1.2, 1.2, 0.4) == 0.5


@pytest.mark.parametrize("width", [0, 0.0, np.float32(0), np.nan])
def test_cut_without_width(width):
    for values in (FLAT, collection(FLAT, [12])):
        with pytest.raises(ValueError, match="a hard cut is"):
            soft_cut(values, 1.0, width)
    with pytest.raises(ValueError, match="a hard cut is"):
        soft_cut(collection(FLAT, [12]), 1.0, dd.parameter(width))


def test_cut_takes_no_array_in_memory_beside_a_collection():
    """It would be broadcast anew in every partition."""
    pt = collection(ak.Array([10.0, 20.0, 30.0, 40.0]), [2, 2])
    for options in (
        {"threshold": np.array([10.0, 20.0])},
        {"threshold": 25.0, "width": ak.Array([1.0, 2.0])},
    ):
        with pytest.raises(TypeError, match=r"collection with the same partitions: make one with dak"):
            dd.soft_cut(pt, **{"width": 1.0, **options})
