"""Histograms: the derivative by weights is the histogram filled with the derivatives of the weights."""

from __future__ import annotations

import operator

import awkward as ak
import dask
import dask_awkward as dak
import numpy as np
import pytest
from dask._task_spec import Task, TaskRef
from helpers import METHODS, SPLITS, array_of, assert_close, collection

import dak_diff as dd
from dak_diff.errors import NoRuleError, StructureError
from dak_diff.graph.tasks import CallNode

hist = pytest.importorskip("hist")
hist_dask = pytest.importorskip("hist.dask")
bh = pytest.importorskip("boost_histogram")
dh = pytest.importorskip("dask_histogram")

POINT = 0.3
X, Y = array_of("flat"), array_of("flat", 1)
#: A category that some partitions do not have, and that comes in another order in each.
KIND = ak.Array([3, 1, 1, 2, 7, 2, 1, 3, 5, 5, 1, 2])

FILLS = {
    "one axis": lambda new, x, y, kind, w: new.Reg(5, 0.7, 1.8, name="x").fill(x=x, weight=w),
    "no flow bins": lambda new, x, y, kind, w: new.Reg(5, 0.7, 1.8, name="x", flow=False).fill(x=x, weight=w),
    "only underflow": lambda new, x, y, kind, w: new.Reg(3, 0.7, 1.8, name="x", overflow=False).fill(
        x=x, weight=w
    ),
    "circular": lambda new, x, y, kind, w: new.Reg(5, 0.7, 1.8, name="x", circular=True).fill(x=x, weight=w),
    "two axes": lambda new, x, y, kind, w: (
        new.Var([0.5, 1.0, 1.25, 1.5], name="x").Reg(3, 0.5, 2, name="y").fill(x=x, y=y, weight=w)
    ),
    "categories": lambda new, x, y, kind, w: (
        new.IntCat([1, 2, 3], name="kind").StrCat(["a", "b"], name="set").fill(kind=kind, set="b", weight=w)
    ),
    "integers without overflow": lambda new, x, y, kind, w: new.Integer(1, 4, name="kind", flow=False).fill(
        kind=kind, weight=w
    ),
    "growing categories": lambda new, x, y, kind, w: (
        new.Reg(3, 0.5, 2, name="x").IntCat([], growth=True, name="kind").fill(x=x, kind=kind, weight=w)
    ),
    "twice": lambda new, x, y, kind, w: (
        new.Reg(5, 0.7, 1.8, name="x").fill(x=x, weight=w).fill(x=y, weight=w**2)
    ),
    "also without weight": lambda new, x, y, kind, w: (
        new.Reg(5, 0.7, 1.8, name="x").fill(x=y, weight=1.0).fill(x=x, weight=w)
    ),
}


class New:
    """Begins a histogram of one kind: axes are added, ``fill`` ends it with a storage."""

    def __init__(self, proxy, storage):
        self.proxy, self.storage = proxy, storage

    def __getattr__(self, name):
        if name == "fill":
            return getattr(self.proxy, self.storage)().fill
        return lambda *args, **kwargs: New(getattr(self.proxy, name)(*args, **kwargs), self.storage)


def weight(x, p):
    return np.exp(p * x)


def by_hand(name, storage, w):
    return FILLS[name](New(hist.Hist.new, storage), X, Y, KIND, w)


def lazily(name, storage, split, p):
    x, y, kind = (collection(a, SPLITS[split], label) for a, label in ((X, "x"), (Y, "y"), (KIND, "kind")))
    return FILLS[name](New(hist_dask.Hist.new, storage), x, y, kind, weight(x, p))


def slope(name, w, w_dot):
    """The histogram filled with w_dot, where the weight is w and its derivative w_dot."""
    if name == "twice":
        start = hist.Hist.new.Reg(5, 0.7, 1.8, name="x").Double()
        return start.fill(x=X, weight=w_dot).fill(x=Y, weight=2 * w * w_dot)
    if name == "also without weight":
        return FILLS["one axis"](New(hist.Hist.new, "Double"), X, Y, KIND, w_dot)
    return by_hand(name, "Double", w_dot)


def aligned(histogram, like):
    """Contents with flow bins, growing categories in the order of another histogram."""
    values = histogram.values(flow=True)
    for i, axis in enumerate(histogram.axes):
        if axis.traits.growth:
            order = [axis.index(like.axes[i].bin(j)) for j in range(len(axis))]
            values = np.take(values, order, axis=i)
    return values


@pytest.mark.parametrize("storage", ["Double", "Weight"])
@pytest.mark.parametrize("split", ["1", "3", "12", "empty middle"])
@pytest.mark.parametrize("name", FILLS)
def test_value_and_slope(name, split, storage):
    p = dd.parameter(POINT, name="p")
    expr = lazily(name, storage, split, p)
    value, tangent = dask.compute(*dd.value_and_jvp(expr, p))
    assert type(value) is type(tangent) is hist.Hist
    assert value == expr.compute()
    w = weight(X, POINT)
    want = slope(name, w, X * w)
    np.testing.assert_allclose(aligned(tangent, want), want.values(flow=True), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("method", METHODS)
def test_variances_are_sums_of_squares(method):
    p = dd.parameter(POINT, name="p")
    tangent = dd.jvp(lazily("one axis", "Weight", "3", p), p, method=method).compute()
    w = weight(X, POINT)
    want = by_hand("one axis", "Double", 2 * w * (X * w)).values(flow=True)
    np.testing.assert_allclose(tangent.variances(flow=True), want, rtol=1e-13)


@pytest.mark.parametrize("residuals", ["keep", "recompute"])
@pytest.mark.parametrize("storage", ["Double", "Weight"])
@pytest.mark.parametrize("split", ["1", "3", "empty middle"])
@pytest.mark.parametrize("name", FILLS)
def test_gradient_of_what_lives_elsewhere(name, split, storage, residuals):
    """The cotangent dL/dh comes as a histogram, with flow bins and without: the dot test with the tangent."""
    p = dd.parameter(POINT, name="p")
    expr = lazily(name, storage, split, p)
    value, tangent = dask.compute(*dd.value_and_jvp(expr, p))
    rng = np.random.default_rng(1)
    flow = rng.normal(size=value.values(flow=True).shape)
    inner = rng.normal(size=value.values().shape)
    whole = value.copy()
    if storage == "Weight":
        whole.view(flow=True)["value"], whole.view(flow=True)["variance"] = flow, rng.normal(size=flow.shape)
        whole_product = (whole.variances(flow=True) * tangent.variances(flow=True)).sum()
    else:
        whole.view(flow=True)[...], whole_product = flow, 0.0
    product = (flow * tangent.values(flow=True)).sum()
    for cotangent, want in (
        (flow, product),
        (inner, (inner * tangent.values()).sum()),
        (whole, product + whole_product),
        (2.0, 2 * tangent.values(flow=True).sum()),
        (np.rint(inner).astype(int).tolist(), (np.rint(inner) * tangent.values()).sum()),
    ):
        got = dd.vjp(expr, p, cotangent, residuals=residuals).compute()
        np.testing.assert_allclose(got, want, rtol=1e-12)


@pytest.mark.parametrize("growing", [False, True])
def test_by_the_weights_themselves(growing):
    """Each weight gets the cotangent of its bin."""
    lengths = SPLITS["3"]
    x, w, kind = collection(X, lengths), collection(Y, lengths, "w"), collection(KIND, lengths, "kind")
    if growing:
        expr = hist_dask.Hist.new.IntCat([], growth=True, name="kind").Double().fill(kind=kind, weight=w**2)
        where = expr.compute().axes[0].index(ak.to_numpy(KIND))
    else:
        expr = hist_dask.Hist.new.Reg(5, 0.7, 1.8, name="x").Double().fill(x=x, weight=w**2)
        where = expr.axes[0].index(ak.to_numpy(X)) + 1
    cotangent = np.arange(1.0, 1.0 + expr.compute().values(flow=True).size)
    got = dd.vjp(expr, w, cotangent).compute()
    assert_close(got, 2 * Y * cotangent[where], 1e-15)


def test_both_passes_of_a_histogram_are_one_task_a_partition():
    counts = []
    for split in ("3", "12"):
        p = dd.parameter(POINT, name="p")
        expr = lazily("one axis", "Double", split, p)
        (optimized,) = dask.optimize(dd.vjp(expr, p, np.ones(5)))
        counts.append(len(dict(optimized.dask)))
    # Twelve cotangents are added eight at a time: two more nodes.
    assert counts[1] - counts[0] == 9 + 2


FACTORIES = {
    "one array": lambda x, y, w: dh.factory(
        x, axes=(bh.axis.Regular(4, 0.5, 2),), weights=w, storage=bh.storage.Weight()
    ),
    "axes and storage in a tuple": lambda x, y, w: dh.factory(
        x, histref=((bh.axis.Regular(4, 0.5, 2),), bh.storage.Weight(), None), weights=w
    ),
    "two arrays": lambda x, y, w: dh.factory(
        x, y, axes=(bh.axis.Regular(4, 0.5, 2), bh.axis.Regular(2, 0.5, 2)), weights=w
    ),
}


@pytest.mark.parametrize("name", FACTORIES)
def test_factories_of_dask_histogram(name):
    p = dd.parameter(POINT, name="p")
    x, y = collection(X, SPLITS["3"]), collection(Y, SPLITS["3"], "y")
    expr = FACTORIES[name](x, y, weight(x, p))
    value, tangent = dask.compute(*dd.value_and_jvp(expr, p))
    w = weight(X, POINT)
    assert value == expr.compute()
    want = bh.Histogram(*value.axes).fill(*(X, Y)[: value.ndim], weight=X * w)
    np.testing.assert_allclose(tangent.values(flow=True), want.values(flow=True), rtol=1e-13)


ARITHMETIC = {
    "scaled": (lambda h, b, mu: h * mu, lambda h, b, mu: h),
    "divided": (lambda h, b, mu: h / mu, lambda h, b, mu: -h / mu**2),
    "signal and background": (lambda h, b, mu: h * mu + b, lambda h, b, mu: h),
    "difference": (lambda h, b, mu: b - h * mu, lambda h, b, mu: -h),
}


@pytest.mark.parametrize("mode", ["jvp", "vjp"])
@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic(name, mode):
    """A signal strength, through a sum of squares of the bins, so that the value matters as well."""
    mu = dd.parameter(1.5, name="mu")
    x, y = collection(X, SPLITS["3"]), collection(Y, SPLITS["3"], "y")
    axis = bh.axis.Regular(4, 0.5, 2)
    h, b = dh.factory(x, axes=(axis,), weights=y), dh.factory(y, axes=(axis,), weights=x)
    plain_h, plain_b = h.compute().values(), b.compute().values()
    build, derivative = ARITHMETIC[name]
    contents, _ = build(h, b, mu).to_dask_array()
    expr = dak.sum(dak.from_dask_array(contents) ** 2)
    got, again = dask.compute(getattr(dd, mode)(expr, mu), h)
    want = 2 * (build(plain_h, plain_b, 1.5) * derivative(plain_h, plain_b, 1.5)).sum()
    np.testing.assert_allclose(got, want, rtol=1e-14)
    # dask-histogram scales in place what another task gave.
    assert type(again) is bh.Histogram
    np.testing.assert_array_equal(again.values(), plain_h)


def test_weights_that_are_a_parameter():
    x, p = collection(X, SPLITS["3"]), dd.parameter(2.0, name="p")
    expr = hist_dask.Hist.new.Reg(5, 0.7, 1.8, name="x").Double().fill(x=x, weight=p)
    counts = np.histogram(np.asarray(X), bins=np.linspace(0.7, 1.8, 6))[0]
    np.testing.assert_array_equal(dd.jvp(expr, p).compute().values(), counts)
    assert dd.vjp(expr, p, np.arange(5.0)).compute() == (np.arange(5) * counts).sum()


@pytest.mark.cluster
def test_on_a_cluster(client):
    p = dd.parameter(POINT, name="p")
    expr = lazily("growing categories", "Weight", "3", p)
    derivatives = dd.value_and_jvp(expr, p), dd.vjp(expr, p, 1.0)
    (value, tangent), gradient = dask.compute(*derivatives)
    (value_there, tangent_there), gradient_there = client.gather(client.compute(derivatives))
    assert value == value_there
    assert tangent == tangent_there
    assert gradient == gradient_there


def by_position():
    p = dd.parameter(POINT, name="p")
    x = collection(X, SPLITS["3"])
    return hist_dask.Hist.new.Reg(5, 0.7, 1.8, name="x").Double().fill(x=x * p), p


def counts_by_position():
    p = dd.parameter(POINT, name="p")
    x = collection(X, SPLITS["3"])
    contents = hist_dask.Hist.new.Reg(5, 0.7, 1.8, name="x").Int64().fill(x=x * p).to_dask_array(dd=False)[0]
    return dak.sum(dak.from_dask_array(contents)) * p, p


@pytest.mark.parametrize("mode", ["jvp", "vjp"])
@pytest.mark.parametrize("case", [by_position, counts_by_position])
def test_positions_are_refused_when_the_graph_is_built(case, mode, never_computes):
    expr, p = case()
    with pytest.raises(NoRuleError, match=r"soft_histogram[\s\S]*hist-on-block"):
        getattr(dd, mode)(expr, p)


def test_positions_whose_derivative_is_not_meant():
    p = dd.parameter(POINT, name="p")
    x = collection(X, SPLITS["3"])
    moved = x * (1 + p)
    expr = (
        hist_dask.Hist.new.Reg(5, 0.7, 2.5, name="x")
        .Double()
        .fill(x=dd.stop_gradient(moved), weight=weight(x, p))
    )
    want = hist.Hist.new.Reg(5, 0.7, 2.5, name="x").Double()
    want.fill(x=X * (1 + POINT), weight=X * weight(X, POINT))
    got = dd.jvp(expr, p).compute()
    np.testing.assert_allclose(got.values(flow=True), want.values(flow=True), rtol=1e-13)


@pytest.mark.parametrize("storage", ["Mean", "Int64", "Unlimited"])
def test_other_storages_are_refused(storage):
    p = dd.parameter(POINT, name="p")
    x = collection(X, SPLITS["3"])
    new = getattr(hist_dask.Hist.new.Reg(5, 0.7, 1.8, name="x"), storage)()
    expr = new.fill(x=x, sample=x * p) if storage == "Mean" else new.fill(x=x * p)
    with pytest.raises(TypeError, match=f"storage {storage}.*Double or Weight"):
        dd.jvp(expr, p)


def test_a_histogram_of_each_partition_is_refused():
    p = dd.parameter(POINT, name="p")
    x = collection(X, SPLITS["3"])
    expr = dh.partitioned_factory(x, axes=(bh.axis.Regular(5, 0, 2),), weights=weight(x, p))
    with pytest.raises(TypeError, match=r"differentiate expr.collapse\(\)"):
        dd.jvp(expr, p)


def test_a_cotangent_that_is_not_known_yet_is_refused():
    p = dd.parameter(POINT, name="p")
    lazy = collection(X, SPLITS["3"])
    with pytest.raises(StructureError, match=r"in memory.*compute it first"):
        dd.vjp(lazily("one axis", "Double", "3", p), p, lazy)


def test_a_histogram_is_no_scalar():
    p = dd.parameter(POINT, name="p")
    with pytest.raises(TypeError, match=r"grad needs a scalar.*use vjp with a cotangent"):
        dd.grad(lazily("one axis", "Double", "3", p), p)


@pytest.mark.parametrize("cotangent", [np.ones(4), np.ones((5, 1))])
def test_a_cotangent_of_another_shape_is_refused(cotangent, never_computes):
    p = dd.parameter(POINT, name="p")
    with pytest.raises(
        StructureError, match=r"shape \(.*, the bins of the histogram \(5,\), with flow bins \(7,\)"
    ):
        dd.vjp(lazily("one axis", "Double", "3", p), p, cotangent)


@pytest.mark.parametrize("storage", ["Double", "Weight"])
@pytest.mark.parametrize("name", ["one axis", "two axes", "growing categories"])
def test_jacobian(name, storage):
    """One more axis, of integers, for each dimension of a parameter."""
    p, q = dd.parameter(POINT, name="p"), dd.parameter([[0.1, 0.2, 0.3]], name="q")
    x, y, kind = (collection(a, SPLITS["3"], label) for a, label in ((X, "x"), (Y, "y"), (KIND, "kind")))
    w = weight(x, p) * (q[0, 0] + q[0, 1] * y) ** 2
    expr = FILLS[name](New(hist_dask.Hist.new, storage), x, y, kind, w)
    blocks = dd.jacobian(expr, {"p": p, "q": q}, chunk=2)
    got = dask.compute(blocks)[0]
    assert type(got["q"]) is hist.Hist
    assert got["p"] == dd.jvp(expr, p).compute()
    assert [len(axis) for axis in got["q"].axes[-2:]] == [1, 3]
    assert blocks["q"].axes[-1] == got["q"].axes[-1]
    for i in range(3):
        want = dd.jvp(expr, q, np.eye(3)[None, i]).compute()
        np.testing.assert_array_equal(got["q"].view(flow=True)[..., 0, i], want.view(flow=True))


def test_jacobian_of_a_factory():
    q = dd.parameter([0.1, 0.2], name="q")
    expr = FACTORIES["one array"](
        collection(X, SPLITS["3"]), None, q[0] + q[1] * collection(Y, SPLITS["3"], "y")
    )
    block = dd.jacobian(expr, q)
    assert block.histref.axes.size == (4, 2)
    got = block.compute()
    for i, w_dot in enumerate((0 * Y + 1, Y)):
        want = bh.Histogram(bh.axis.Regular(4, 0.5, 2)).fill(X, weight=w_dot)
        np.testing.assert_allclose(got.values(flow=True)[:, i], want.values(flow=True), rtol=1e-15)


def test_a_cotangent_with_categories_in_another_order():
    """What is filled first comes first: the order says nothing."""
    p = dd.parameter(2.0, name="p")
    x, kind = dak.from_awkward(ak.Array([1.0, 2.0, 4.0]), 1), dak.from_awkward(ak.Array([1, 2, 3]), 1)
    for growth in (False, True):
        labels = [] if growth else [1, 2, 3]
        expr = hist_dask.Hist.new.IntCat(labels, name="k", growth=growth).Double().fill(k=kind, weight=x * p)
        cotangent = (
            hist.Hist.new.IntCat([3, 2, 1], name="k", growth=growth).Double().fill(k=[1, 3], weight=[1, 10])
        )
        assert dd.vjp(expr, p, cotangent).compute() == 1.0 + 10 * 4.0
        other = hist.Hist.new.IntCat([3, 2, 7], name="k", growth=growth).Double()
        with pytest.raises(StructureError, match="must have its axes"):
            dd.vjp(expr, p, other).compute()
    expr = hist_dask.Hist.new.Reg(2, 0, 2, name="x").Double().fill(x=x, weight=x * p)
    with pytest.raises(StructureError, match="must have its axes"):
        dd.vjp(expr, p, hist.Hist.new.Reg(2, 50, 60, name="x").Double())


def test_sources_whose_columns_are_sought():
    """While dask-awkward looks for columns a histogram is empty, and has neither grown nor tangents."""
    q = dd.parameter([1.0, 2.0], name="q")
    x, kind = dak.from_awkward(X, 3), dak.from_awkward(KIND, 3)
    w = q[0] * x + q[1]
    fixed = hist_dask.Hist.new.Reg(2, 0, 2, name="x").Double().fill(x=x, weight=w)
    growing = hist_dask.Hist.new.IntCat([], growth=True, name="kind").Weight().fill(kind=kind, weight=w)
    for expr in (fixed, growing):
        block = dd.jacobian(expr, q).compute()
        cotangent = np.arange(1.0, 1.0 + expr.compute().values().size)
        want = (cotangent[:, None] * block.values()).sum(axis=0)
        np.testing.assert_allclose(dd.vjp(expr, q, cotangent).compute(), want, rtol=1e-14)


LOST = (operator.mul, operator.truediv, operator.sub, operator.imul, operator.itruediv, operator.isub)


@pytest.mark.parametrize("operate", LOST)
@pytest.mark.parametrize("asked", [False, True])
def test_arithmetic_that_dask_histogram_loses(operate, asked):
    """It acts on what is there before the fills: `h * p` was `h`, and so was its derivative."""
    p = dd.parameter(1.5, name="p")
    filled = hist_dask.Hist.new.Reg(2, 0, 2, name="x").Double().fill(x=collection(X, SPLITS["3"]))
    if asked:
        filled.compute()
    for other in (p, 2.0, filled):
        with pytest.raises(NotImplementedError, match=r"dask_histogram\.factory"):
            operate(filled, other)


def test_a_parameter_on_the_left():
    p = dd.parameter(1.5, name="p")
    with pytest.raises(NotImplementedError, match=r"dask_histogram\.factory"):
        p * hist_dask.Hist.new.Reg(2, 0, 2, name="x").Double().fill(x=collection(X, SPLITS["3"]))
    filled = dh.factory(collection(X, SPLITS["3"]), axes=(bh.axis.Regular(2, 0, 2),))
    value, tangent = dask.compute(*dd.value_and_jvp(p * filled, p))
    np.testing.assert_array_equal(value.values(), 1.5 * filled.compute().values())
    np.testing.assert_array_equal(tangent.values(), filled.compute().values())


def test_arithmetic_computed_with_the_histogram_itself():
    """dask-histogram of its own scales in place what another task gave."""
    p = dd.parameter(1.5, name="p")
    x, w = collection(X, SPLITS["3"]), collection(Y, SPLITS["3"], "w")
    filled = dh.factory(x, axes=(bh.axis.Regular(2, 0, 2),), weights=w)
    scaled = filled * p
    slope, tangent, value, start = dask.compute(dd.vjp(scaled, p), dd.jvp(scaled, p), scaled, filled)
    np.testing.assert_allclose(slope, ak.sum(Y), rtol=1e-15)
    np.testing.assert_array_equal(tangent.values(), start.values())
    np.testing.assert_array_equal(value.values(), 1.5 * start.values())


def test_a_task_that_scales_in_place_leaves_what_it_was_given():
    """So dask-histogram makes its graphs until the first parameter."""
    given = bh.Histogram(bh.axis.Regular(2, 0, 2))
    given.fill(X)
    before = given.values().copy()
    scaled = CallNode(Task("scaled", operator.imul, TaskRef("h"), 2.0), ("h",))(given)
    np.testing.assert_array_equal(scaled.values(), 2 * before)
    np.testing.assert_array_equal(given.values(), before)
