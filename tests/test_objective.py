"""A lazy scalar as a function of numbers: equal to graphs made anew, and right in the hands of minimisers."""

from __future__ import annotations

import copy
import itertools
import operator
import pickle
from concurrent.futures import ThreadPoolExecutor

import awkward as ak
import cloudpickle
import dask
import dask_awkward as dak
import numpy as np
import pytest
from dask.callbacks import Callback
from dask.diagnostics import ProgressBar
from helpers import array_of, collection

import dak_diff as dd
from dak_diff import objective
from dak_diff.errors import DisconnectedError, OptimizedGraphError


class Computations(Callback):
    """How often a scheduler was asked for something."""

    def __init__(self):
        super().__init__(start=self.one_more)
        self.count = 0

    def one_more(self, _graph):
        self.count += 1


def jets():
    # Worker processes do not import the tests: the source holds its partitions.
    return dak.from_awkward(array_of("jets"), npartitions=4)


def by_a_mask(x, p, q):
    y = x.pt * (1 + p)
    return dak.sum(y[y > 1] ** 2) * q[0] + np.log(dak.sum(x.eta * q[1]))


def by_a_branch(x, p, q):
    # The derivative takes another path on either side of p = 0.
    return dak.sum(dak.where(x.pt * p > 0, x.pt * p**2, np.sin(x.pt * p))) + q[0] * q[1] * p


def only_parameters(x, p, q):
    return p**2 * q[0] + q[1] ** 3


def by_means(x, p, q):
    residual = (x.pt * q[0] - p) / (x.mass + q[1] ** 2)
    return dak.sum(residual**2) / dak.count(x.pt)


LOSSES = {fn.__name__: fn for fn in (by_a_mask, by_a_branch, only_parameters, by_means)}
START = {"p": 0.2, "q": np.array([1.5, 0.5])}


def made(build, values=START, **kwargs):
    parameters = {name: dd.parameter(value, name=name) for name, value in values.items()}
    return objective(build(jets(), *parameters.values()), parameters, **kwargs)


def fresh(build, x):
    """The same from parameters made anew."""
    p, q = dd.parameter(float(x[0]), name="p"), dd.parameter(np.array(x[1:]), name="q")
    value, gradients = dask.compute(*dd.value_and_grad(build(jets(), p, q), [p, q]))
    return float(value), np.concatenate([np.ravel(g) for g in gradients])


def points(count):
    rng = np.random.default_rng(count)
    return [np.array([rng.uniform(-0.9, 0.9), *rng.uniform(0.5, 2, 2)]) for _ in range(count)]


# ------------------------------------------------------------------ the same numbers as graphs made anew


@pytest.mark.parametrize("persist", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_equal_to_fresh_graphs(name, persist):
    f = made(LOSSES[name], persist=persist)
    for x in points(4):
        value, gradient = fresh(LOSSES[name], x)
        assert f(x) == value
        both = f.value_and_grad(x)
        assert both[0] == value
        np.testing.assert_array_equal(both[1], gradient)


@pytest.mark.parametrize("persist", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_hessians(name, persist):
    f = made(LOSSES[name], persist=persist)
    f(f.x0)
    for x in points(3):
        parameters = {"p": dd.parameter(float(x[0])), "q": dd.parameter(x[1:])}
        (blocks,) = dask.compute(dd.hessian(LOSSES[name](jets(), *parameters.values()), parameters))
        got = f.hessian({"p": x[0], "q": x[1:]})
        for outer, inner in itertools.product(parameters, parameters):
            np.testing.assert_array_equal(got[outer][inner], blocks[outer][inner])
        rows = [
            np.hstack([np.reshape(row["p"], (-1, 1)), np.reshape(row["q"], (-1, 2))]) for row in got.values()
        ]
        np.testing.assert_array_equal(f.hessian(x), np.vstack(rows))


@pytest.mark.parametrize("residuals", ["keep", "recompute"])
@pytest.mark.parametrize("method", ["dual", "complex-step"])
def test_options_of_the_derivative(method, residuals):
    f = made(by_means, method=method, residuals=residuals)
    x = points(1)[0]
    np.testing.assert_allclose(f.grad(x), fresh(by_means, x)[1], rtol=1e-13)


def test_back_at_an_earlier_value():
    f = made(by_a_mask)
    first, other = points(2)
    there = f.value_and_grad(first)
    f.value_and_grad(other)
    back = f.value_and_grad(first)
    assert f.evaluations == {"value": 0, "value_and_grad": 3, "hessian": 0}
    assert back[0] == there[0]
    np.testing.assert_array_equal(back[1], there[1])


def test_threads_do_not_mix():
    f = made(by_a_mask)
    xs = points(4) * 10
    with ThreadPoolExecutor(4) as pool:
        values = list(pool.map(f, xs))
        both = list(pool.map(f.value_and_grad, xs))
    expected = [fresh(by_a_mask, x) for x in xs[:4]]
    for i, x in enumerate(xs):
        assert values[i] == both[i][0] == expected[i % 4][0], x
        np.testing.assert_array_equal(both[i][1], expected[i % 4][1])


def test_a_parameter_that_is_not_asked_for_stays():
    p, q = dd.parameter(0.2, name="p"), dd.parameter([1.5, 0.5], name="q")
    f = objective(by_a_mask(jets(), p, q), p)
    value, gradient = fresh(by_a_mask, [0.7, 1.5, 0.5])
    assert f(0.7) == value
    assert f.grad(0.7).tolist() == gradient[:1].tolist()


def test_two_objectives_of_one_loss_have_tasks_of_their_own():
    # Each at 1.0, but of different parameters: the same names would be taken for the same numbers.
    a, b = dd.parameter(2.0, name="a"), dd.parameter(3.0, name="b")
    loss = dak.sum(jets().pt) * a**2 * b
    tasks = []
    for parameter in (a, b):
        f = objective(
            loss, parameter, scheduler=lambda graph, keys: tasks.append(set(graph)) or [1.0] * len(keys)
        )
        f(1.0)
    renamed = [{key for key in graph if key not in loss.dask} for graph in tasks]
    assert renamed[0]
    assert not renamed[0] & renamed[1]


def test_types_of_parameters_stay():
    single = np.float32(0.5)
    p, q = dd.parameter(single, name="p"), dd.parameter(np.ones((2, 2), np.float32), name="q")
    seen = []

    def run(graph, keys):
        seen.append([n() for k, n in graph.items() if k[0].startswith(("p-", "q-"))])
        return dask.get(graph, keys)

    f = objective(p * dak.sum(jets().pt) + q[0, 1], {"p": p, "q": q}, scheduler=run)
    assert f.names == ["p", "q[0,0]", "q[0,1]", "q[1,0]", "q[1,1]"]
    total = np.float32(ak.sum(array_of("jets").pt))
    assert f.grad([1, 0, 0, 0, 0]).tolist() == [total, 0, 1, 0, 0]
    number, matrix = sorted(seen[0], key=np.ndim)
    assert type(number) is np.float32
    assert (matrix.dtype, matrix.shape) == (np.float32, (2, 2))


# ------------------------------------------------------------------ one pass, and none where none is needed


def test_one_computation_for_both_and_none_for_what_is_known():
    f = made(by_a_mask)
    x, other, first = points(3)
    # The first calls optimise: dask-awkward runs the graph without data to find the columns.
    f(first)
    f.grad(first)
    with Computations() as asked:
        value, gradient = f.value_and_grad(x)
        assert asked.count == 1
        assert f(x) == value
        np.testing.assert_array_equal(f.grad(x), gradient)
        assert asked.count == 1
        f(other)
        f(other)
        assert asked.count == 2
        f.grad(other)
        assert asked.count == 3
    assert f.evaluations == {"value": 2, "value_and_grad": 3, "hessian": 0}


def test_the_value_alone_runs_fewer_tasks():
    def tasks(call):
        keys = []
        with Callback(pretask=lambda key, *_: keys.append(key)):
            call(points(1)[0])
        return len(keys)

    f = made(by_means)
    assert tasks(f) < tasks(f.value_and_grad)


def test_what_is_remembered_cannot_be_changed_from_outside():
    f = made(by_a_mask)
    x = points(1)[0]
    _, gradient = f.value_and_grad(x)
    before = gradient.copy()
    gradient[:] = 0
    np.testing.assert_array_equal(f.grad(x), before)


def test_nothing_runs_before_the_first_call(never_computes):
    assert made(by_a_mask, persist=True).evaluations == {"value": 0, "value_and_grad": 0, "hessian": 0}


def test_progress_bar(capsys):
    with ProgressBar():
        made(by_a_mask)(points(1)[0])
    assert "100% Completed" in capsys.readouterr().out


# ------------------------------------------------------------------ the ways to give values


def test_nest_in_nest_out():
    x = points(1)[0]
    value, flat = made(by_a_mask).value_and_grad(x)
    same, nested = made(by_a_mask).value_and_grad({"q": x[1:], "p": x[0]})
    assert same == value
    assert list(nested) == ["p", "q"]
    assert type(nested["p"]) is float
    assert nested["p"] == flat[0]
    np.testing.assert_array_equal(nested["q"], flat[1:])


def test_nest_of_lists():
    p, q = dd.parameter(0.2, name="p"), dd.parameter([1.5, 0.5], name="q")
    f = objective(by_a_mask(jets(), p, q), [p, [q]])
    flat = f.grad([0.3, 1.0, 2.0])
    p_bar, (q_bar,) = f.grad([0.3, [[1.0, 2.0]]])
    assert [p_bar, *q_bar] == flat.tolist()


def test_numbers_one_by_one():
    a, b = dd.parameter(1.0, name="a"), dd.parameter(2.0, name="b")
    f = objective(a**2 * b, (a, b))
    assert f(3, 4.0) == f([3, 4]) == f(np.array([3.0, 4.0])) == 36.0
    assert f.grad(3.0, 4.0).tolist() == [24.0, 9.0]


def test_a_parameter_alone():
    a, m = dd.parameter(1.0, name="a"), dd.parameter([[1.0, 2.0], [3.0, 4.0]], name="m")
    f = objective(a**2, a)
    assert f(0.5) == f([0.5]) == f(np.float64(0.5)) == 0.25
    assert f.grad(0.5).tolist() == f.grad([0.5]).tolist() == [1.0]
    g = objective(m[0, 0] * m[1, 1], m)
    assert g.grad(np.array([[1.0, 2.0], [3.0, 5.0]])).tolist() == [[5.0, 0.0], [0.0, 1.0]]
    assert g.grad([1.0, 2.0, 3.0, 5.0]).tolist() == [5.0, 0.0, 0.0, 1.0]


def test_names_and_start():
    f = made(by_a_mask)
    assert f.names == ["p", "q[0]", "q[1]"]
    assert (f.x0.tolist(), f.x0.dtype) == ([0.2, 1.5, 0.5], np.float64)
    assert "of p, q[0], q[1]" in repr(f)
    unnamed = [dd.parameter(1.0) for _ in range(2)]
    assert objective(operator.mul(*unnamed), unnamed).names == ["parameter_0", "parameter_1"]


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (([1.0, 2.0],), ValueError, r"3 numbers \(p, q\[0\], q\[1\]\), not one of shape \(2,\)"),
        ((np.ones((3, 1)),), ValueError, r"shape \(3, 1\)"),
        ((1.0,), ValueError, r"shape \(1,\)"),
        ((1.0, 2.0, 3.0), TypeError, "not all parameters are numbers"),
        ((), TypeError, "0 arguments"),
        (([1.0, np.nan, 3.0],), ValueError, r"nan for q\[0\]"),
        ((["a", "b", "c"],), TypeError, r"must be real numbers"),
        (([1.0, 2.0, 3j],), TypeError, r"must be real numbers"),
        ((None,), TypeError, r"must be real numbers"),
        (({"p": 1.0},), ValueError, r"keys \['p', 'q'\], not keys \['p'\]"),
        (
            ({"p": 1.0, "q": [1.0, 2.0, 3.0]},),
            ValueError,
            r"value of q must have the shape \(2,\), not \(3,\)",
        ),
        (({"p": [1.0], "q": [1.0, 2.0]},), ValueError, r"value of p must have the shape \(\), not \(1,\)"),
        (({"p": 1.0, "q": [1.0, np.nan]},), ValueError, r"nan for q\[1\]"),
        (({"p": 1.0, "q": [[1.0], 2.0]},), ValueError, "no regular array"),
        (({"p": {"q": 1}, "q": 1.0},), ValueError, r"at \['p'\]: one for each"),
        (([1.0, [1.0, 2.0]],), ValueError, "no regular array"),
    ],
)
def test_values_that_do_not_fit(x, error, message):
    f = made(by_a_mask)
    for call in (f, f.grad, f.value_and_grad):
        with pytest.raises(error, match=message):
            call(*x)
    assert f.evaluations == {"value": 0, "value_and_grad": 0, "hessian": 0}


def test_numbers_that_do_not_fit_a_list():
    a, b = dd.parameter(1.0, name="a"), dd.parameter([1.0, 2.0], name="b")
    f = objective(a * b[0], [a, b])
    with pytest.raises(ValueError, match="a list of 2"):
        f([1.0, [1.0, 2.0], 3.0])


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_nan_names_the_values():
    f = made(by_a_mask)
    for call in (f, f.value_and_grad):
        with pytest.raises(FloatingPointError, match=r"is nan at p=0.3, q\[0\]=1, q\[1\]=-2. Look for"):
            call([0.3, 1.0, -2.0])
    good = points(1)[0]
    assert f(good) == fresh(by_a_mask, good)[0]


@pytest.mark.filterwarnings("ignore:(invalid value|divide by zero):RuntimeWarning")
def test_an_empty_dataset():
    """The Poisson likelihood of nothing expected is infinite, and no minimiser comes back from there."""
    mu = dd.parameter(1.0, name="mu")
    expected = dd.soft_histogram(collection(ak.Array(np.zeros(0)), [0, 0]) * mu, [0.0, 1.0, 2.0], 0.1)
    observed = dak.from_awkward(ak.Array([3.0, 5.0]), npartitions=1)
    f = objective(dak.sum(expected - observed * np.log(expected)), mu)
    for call in (f, f.value_and_grad):
        with pytest.raises(FloatingPointError, match=r"is inf at mu=1\. Look for an empty dataset"):
            call(1.0)


@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
def test_an_edge_that_a_minimiser_steps_back_from():
    p = dd.parameter(1.0, name="p")
    f = objective(-np.log(p), p)
    assert [f(1.0), f(0.0), f(2.0)] == [0.0, np.inf, -np.log(2.0)]


def test_no_value():
    p = dd.parameter(1.0, name="p")
    x = jets().pt * p
    with pytest.raises(FloatingPointError, match="has no value at p=2"):
        objective(dak.max(x[x > 100]), p)(2.0)


@pytest.mark.filterwarnings("ignore:(invalid value|divide by zero):RuntimeWarning")
def test_nan_gradient_names_the_component():
    p, q = dd.parameter(1.0, name="p"), dd.parameter(1.0, name="q")
    f = objective(np.sqrt(p) - p**0.75 + q, [p, q])
    assert f([0.0, 2.0]) == 2.0
    with pytest.raises(FloatingPointError, match=r"gradient of .* by p is nan"):
        f.grad([0.0, 2.0])
    with pytest.raises(FloatingPointError, match=r"Hessian of .* by p is nan"):
        f.hessian([0.0, 2.0])


def scalar_of(p):
    return dak.sum(jets().pt * p)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda p: (jets().pt * p, p), TypeError, "lazy scalar"),
        (lambda p: (1.0, p), TypeError, "lazy scalar"),
        (lambda p: (dd.parameter([1.0, 2.0]) * p, p), TypeError, "must be a number"),
        (lambda p: (scalar_of(p), 0.1), TypeError, "no dak_diff.parameter"),
        (lambda p: (scalar_of(p), jets().pt), TypeError, "no dak_diff.parameter"),
        (lambda p: (scalar_of(p), dd.parameter(np.array([1j]))), TypeError, "real number"),
        (lambda p: (scalar_of(p), dd.parameter(ak.Array([[1.0], []]))), TypeError, "real number"),
        (lambda p: (scalar_of(2 * p), 2 * p), ValueError, "by arithmetic"),
        (lambda p: (scalar_of(p), [p, {"again": p}]), ValueError, "'p' is there 2 times"),
        (lambda p: (scalar_of(p), []), ValueError, "no parameters"),
        (lambda p: (scalar_of(p), [p, dd.parameter(1.0, name="q")]), DisconnectedError, "q-"),
        (lambda p: (scalar_of(p).persist(), p), OptimizedGraphError, "after dask.optimize or persist"),
    ],
)
def test_what_is_no_objective(build, error, message):
    with pytest.raises(error, match=message):
        objective(*build(dd.parameter(0.3, name="p")))


def test_disconnected_zero():
    p, q = dd.parameter(1.0, name="p"), dd.parameter(1.0, name="q")
    f = objective(p**2, [p, q], disconnected="zero")
    assert f.grad([3.0, 1.0]).tolist() == [6.0, 0.0]
    assert f.grad([3.0, 2.0]).tolist() == [6.0, 0.0]
    assert f.hessian([3.0, 2.0]).tolist() == [[2.0, 0.0], [0.0, 0.0]]


# ------------------------------------------------------------------ minimisers


def weighted_mean():
    """Chi-square of a constant and a slope: its minimum is that of the normal equations."""
    rng = np.random.default_rng(1)
    t, sigma = rng.uniform(-1, 1, 60), rng.uniform(0.5, 2, 60)
    y = 1.5 - 0.7 * t + sigma * rng.normal(size=60)
    data = collection(ak.zip({"t": t, "y": y, "sigma": sigma}), [20, 0, 40])
    offset, slope = dd.parameter(0.0, name="offset"), dd.parameter(0.0, name="slope")
    loss = dak.sum(((data.y - offset - slope * data.t) / data.sigma) ** 2)
    design = np.stack([np.ones(60), t], axis=1) / sigma[:, None]
    covariance = np.linalg.inv(design.T @ design)
    return objective(loss, [offset, slope]), covariance @ design.T @ (y / sigma), covariance


def poisson():
    """Counts of mean exp(a) * width: the minimum of -log L is log(all counts / all width)."""
    counts, width = np.array([3.0, 0, 5, 2, 8]), np.array([1.0, 0.5, 2, 1, 3])
    data = collection(ak.zip({"n": counts, "w": width}), [2, 3])
    rate = dd.parameter([0.0], name="rate")
    mean = np.exp(rate[0]) * data.w
    loss = dak.sum(mean - data.n * np.log(mean))
    return objective(loss, rate), np.array([np.log(counts.sum() / width.sum())])


@pytest.mark.parametrize("persist", [False, True])
def test_scipy(persist):
    optimize = pytest.importorskip("scipy.optimize")
    f, expected, _ = weighted_mean()
    with Computations() as with_gradient:
        result = optimize.minimize(f.value_and_grad, f.x0, jac=True, method="BFGS")
    with Computations() as without:
        optimize.minimize(weighted_mean()[0], f.x0, method="BFGS")
    np.testing.assert_allclose(result.x, expected, rtol=1e-6)
    assert with_gradient.count < without.count
    assert f.evaluations == {"value": 0, "value_and_grad": with_gradient.count, "hessian": 0}


def test_scipy_with_a_hessian():
    optimize = pytest.importorskip("scipy.optimize")
    f, expected = poisson()
    result = optimize.minimize(f, f.x0, jac=f.grad, hess=f.hessian, method="trust-exact")
    # Newton: the last step leaves the square of an error of 1e-5.
    np.testing.assert_allclose(result.x, expected, rtol=1e-9)


def test_scipy_poisson():
    optimize = pytest.importorskip("scipy.optimize")
    f, expected = poisson()
    result = optimize.minimize(f, f.x0, jac=f.grad, method="L-BFGS-B")
    np.testing.assert_allclose(result.x, expected, rtol=1e-5)


@pytest.mark.parametrize("start", ["numbers", "array"])
def test_iminuit(start):
    iminuit = pytest.importorskip("iminuit")
    f, expected, covariance = weighted_mean()
    x0 = (f.x0,) if start == "array" else f.x0
    m = iminuit.Minuit(f, *x0, grad=f.grad)
    assert m.parameters == ("offset", "slope")
    m.errordef, m.tol = iminuit.Minuit.LEAST_SQUARES, 1e-4
    m.migrad()
    assert m.valid
    assert m.ngrad > 0
    # Minuit stops when the minimum is estimated to be 0.002 * tol below: that many variances away.
    assert (np.abs(m.values - expected) < np.sqrt(0.002 * m.tol) * np.sqrt(np.diag(covariance))).all()
    # Chi-square of a linear model: its errors are those of the normal equations.
    m.hesse()
    np.testing.assert_allclose(m.errors, np.sqrt(np.diag(covariance)), rtol=1e-4)
    np.testing.assert_allclose(2 * np.linalg.inv(f.hessian(m.values)), covariance, rtol=1e-12)


def test_iminuit_of_a_vector():
    iminuit = pytest.importorskip("iminuit")
    f, expected = poisson()
    with pytest.raises(TypeError, match="start from an array"):
        made(by_a_mask)(0.1, 0.2, 0.3)
    m = iminuit.Minuit(f, f.x0, grad=f.grad, name=f.names)
    m.errordef = iminuit.Minuit.LIKELIHOOD
    m.migrad()
    assert m.parameters == ("rate[0]",)
    # Minuit stops at a distance of 0.002 * 0.1 standard deviations.
    np.testing.assert_allclose(m.values, expected, rtol=1e-3)


# ------------------------------------------------------------------ persisted sources, and clusters


def test_a_persisted_source():
    p, q = (dd.parameter(value, name=name) for name, value in START.items())
    for persist in (False, True):
        f = objective(by_a_mask(jets().persist(), p, q), [p, q], persist=persist)
        for x in points(2):
            value, gradient = fresh(by_a_mask, x)
            np.testing.assert_allclose(f(x), value, rtol=1e-13)
            np.testing.assert_allclose(f.grad(x), gradient, rtol=1e-13)


@pytest.mark.cluster
@pytest.mark.parametrize(("persist", "count"), [(False, 50), (True, 10)])
def test_a_hundred_calls_on_a_cluster(client, persist, count):
    f = made(by_a_mask, scheduler=client, persist=persist)
    here = made(by_a_mask)
    for x in points(count):
        # Bit for bit: a stale number would be another one.
        assert f(x) == here(x)
        value, gradient = f.value_and_grad(x)
        expected = here.value_and_grad(x)
        assert value == expected[0]
        np.testing.assert_array_equal(gradient, expected[1])
    np.testing.assert_array_equal(f.hessian(x), here.hessian(x))
    assert f.evaluations == {"value": count, "value_and_grad": count, "hessian": 1}


@pytest.mark.cluster
@pytest.mark.parametrize("persist", [False, True])
def test_a_source_in_the_memory_of_a_cluster(client, persist):
    source = client.persist(jets())
    p, q = (dd.parameter(value, name=name) for name, value in START.items())
    f = objective(by_a_mask(source, p, q), [p, q], scheduler=client, persist=persist)
    for x in points(3):
        value, gradient = fresh(by_a_mask, x)
        np.testing.assert_allclose(f(x), value, rtol=1e-13)
        np.testing.assert_allclose(f.grad(x), gradient, rtol=1e-13)


@pytest.mark.cluster
def test_records_with_columns_left_out_stay_on_a_cluster(client, tmp_path):
    pytest.importorskip("pyarrow")
    ak.to_parquet(array_of("jets"), str(tmp_path / "jets.parquet"))
    events = dak.from_parquet(str(tmp_path))
    p = dd.parameter(0.1, name="p")
    scaled = dak.with_field(events, events.pt * (1 + p), "pt")
    f = objective(dak.sum(scaled.pt * scaled.eta), p, scheduler=client, persist=True)
    total = float(ak.sum(array_of("jets").pt * array_of("jets").eta))
    for x in (0.2, 0.4):
        np.testing.assert_allclose(f.value_and_grad(x)[0], (1 + x) * total, rtol=1e-13)


@pytest.mark.cluster
def test_what_a_cluster_forgot_is_computed_again(client):
    f = made(by_a_mask, scheduler=client, persist=True)
    x, other = points(2)
    f(x)
    client.cancel(list(f._kept._results.values()))
    assert f(other) == fresh(by_a_mask, other)[0]


def known(dask_scheduler):
    """Names that a scheduler remembers: all groups of tasks that there were, by their spans."""
    spans = dask_scheduler.extensions["spans"].spans
    groups = {name: {group.name for group in span.groups} for name, span in spans.items()}
    return len(spans), sum(map(len, groups.values())), len(dask_scheduler.task_prefixes)


@pytest.mark.cluster
@pytest.mark.parametrize("persist", [False, True])
def test_what_a_scheduler_remembers_does_not_grow(client, persist):
    f = made(by_a_mask, scheduler=client, persist=persist)
    first, *others = points(8)
    for call in (f, f.value_and_grad, f.hessian):
        call(first)
    before = client.run_on_scheduler(known)
    for x in others:
        f(x)
        f.value_and_grad(x)
        f.hessian(x)
    assert client.run_on_scheduler(known) == before


@pytest.mark.cluster
def test_the_first_tasks_wait_in_the_queue_of_the_scheduler_at_each_call(client):
    """Else a scheduler hands out all partitions at once, to the workers that hold the parameters."""
    distributed = pytest.importorskip("distributed")

    class Roots(distributed.SchedulerPlugin):
        name = "roots"

        def __init__(self):
            self.seen = []

        def update_graph(self, scheduler, *, tasks, **kwargs):
            forward = [scheduler.tasks[key] for key in tasks if "fwd-" in str(key)]
            self.seen.append([scheduler.is_rootish(task) for task in forward])

    roots = Roots()
    x = dak.from_awkward(ak.Array(np.linspace(1.0, 2.0, 24)), npartitions=24)
    p = dd.parameter(1.0, name="p")
    f = objective(np.log(dak.sum(np.sin(x * p))), p, scheduler=client)
    client.cluster.scheduler.add_plugin(roots)
    try:
        for value in np.linspace(1, 2, 8):
            f.grad(value)
    finally:
        client.cluster.scheduler.plugins.pop("roots")
    assert roots.seen == [[True] * 24] * 8


@pytest.mark.cluster
def test_the_default_client_is_used(client):
    f = made(by_a_mask)
    x, other = points(2)
    f(other)
    with dask.config.set(scheduler=None), client.as_current(), Computations() as local:
        value = f(x)
    assert local.count == 0
    assert value == fresh(by_a_mask, x)[0]


def test_a_loss_that_sees_its_parameter_in_cuts_alone():
    """Its gradient is zero everywhere: a minimiser would stop where it starts, and report success."""
    x = collection(ak.Array([1.0, 2.0, 3.0]), [2, 1])
    cut = dd.parameter(1.5, name="cut")
    loss = np.sqrt(dak.sum(x[x > cut]))
    with pytest.raises(DisconnectedError, match="soft_cut"):
        dd.objective(loss, cut)
    assert dd.objective(loss, cut, disconnected="zero").grad([1.5]) == 0.0
    assert dd.grad(loss, cut).compute() == 0.0


def test_it_travels_between_processes():
    x, p = dak.from_awkward(ak.Array([1.0, 2.0, 3.0]), 2), dd.parameter(1.0, name="p")
    f = dd.objective(dak.sum((x - p) ** 2), p, persist=True)
    assert f(2.0) == 2.0
    for there in (pickle.loads(cloudpickle.dumps(f)), copy.deepcopy(f)):
        assert there.value_and_grad([0.0]) == (14.0, np.array([-12.0]))


def test_a_complex_loss_is_refused():
    z, p = dak.from_awkward(ak.Array([1 + 2j, 3 - 1j]), 2), dd.parameter(1.0, name="p")
    for build in (dd.grad, dd.value_and_grad):
        with pytest.raises(TypeError, match=r"grad needs a real number.*real part"):
            build(dak.sum(z * p), p)
    assert dd.grad(dak.sum(np.abs(z * p) ** 2), p).compute() == pytest.approx(30.0)
