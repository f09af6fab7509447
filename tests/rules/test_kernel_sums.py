"""Kernel sums and contents of bins against mpmath, with their derivatives, dtypes and memory."""

import pickle
import sys
import tracemalloc
from itertools import pairwise

import mpmath as mp
import numpy as np
import pytest

from dak_diff import eager
from dak_diff.engine.buffer import unwrap
from dak_diff.engine.values import wrapped
from dak_diff.rules import kernel_sums
from dak_diff.rules.kernel_sums import bin_contents, bin_shares, kernel_sum

pytest.importorskip("scipy")

FEW, MANY = np.array([-1.5, -0.25, 0.5, 2.0]), np.random.default_rng(7).normal(size=9).round(3)
HEAVY = np.array([0.5, -1.0, 2.0, 1.0, 0.25, 3.0, -0.5, 1.5, 1.0])
WIDTH = 0.7
orders = pytest.mark.parametrize("order", [0, 1, 2, 3, 4])
signs = pytest.mark.parametrize("sign", [1, -1])


def exact_sum(p, c, w, h, order, sign):
    """The definition, with derivatives of the normal distribution function by Hermite polynomials."""

    def g(u):
        if order == 0:
            return mp.ncdf(u)
        n = order - 1
        return (-1) ** n * mp.hermite(n, u / mp.sqrt(2)) / mp.sqrt(2) ** n * mp.npdf(u)

    w = [w] * len(c) if np.ndim(w) == 0 else list(w)
    return [
        mp.fsum(wi * g(sign * (mp.mpf(pj) - ci) / mp.mpf(h)) for ci, wi in zip(c, w, strict=True))
        / mp.mpf(h) ** order
        for pj in p
    ]


def exact_contents(e, x, w, h):
    with mp.workdps(400):
        at_edges = exact_sum(e, x, w, h, 0, 1)
        return [after - before for before, after in pairwise(at_edges)]


def sums(order, sign):
    def fn(*args):
        return wrapped(kernel_sum(*map(unwrap, args), order=order, sign=sign))

    return fn, lambda p, c, w, h: exact_sum(p, c, w, h, order, sign)


def contents():
    return lambda *args: wrapped(bin_contents(*map(unwrap, args))), exact_contents


#: name -> (function of four arguments, the same by mpmath)
FUNCTIONS = {
    **{f"order {m}, sign {s}": sums(m, s) for m in range(4) for s in (1, -1)},
    "contents": contents(),
}
functions = pytest.mark.parametrize("name", FUNCTIONS)
#: name -> arguments: either loop runs over the shorter side
ARGUMENTS = {
    "few points": (FEW, MANY, HEAVY, WIDTH),
    "many points": (np.sort(MANY), FEW, HEAVY[:4], WIDTH),
    "one weight": (FEW, MANY, 1.5, WIDTH),
    "one weight, many points": (np.sort(MANY), FEW, 1.5, WIDTH),
}
arguments = pytest.mark.parametrize("given", ARGUMENTS)


def floats(numbers):
    return np.array([float(x) for x in numbers])


# ---------------------------------------------------------------- values


@arguments
@signs
@orders
def test_sums(order, sign, given):
    args = ARGUMENTS[given]
    got = kernel_sum(*args, order=order, sign=sign)
    want = floats(exact_sum(*args, order, sign))
    np.testing.assert_allclose(got, want, rtol=1e-14, atol=1e-14 * np.abs(want).max())


@arguments
def test_contents(given):
    args = ARGUMENTS[given]
    want = floats(exact_contents(*args))
    np.testing.assert_allclose(bin_contents(*args), want, rtol=0, atol=1e-14 * np.abs(want).max())


def test_contents_keep_their_digits_in_both_tails():
    edges = np.array([-36.0, -30.0, -9.0, -8.5, 8.5, 9.0, 30.0, 36.0])
    values = np.array([-0.25, 0.0, 0.5])
    want = exact_contents(edges, values, 1.0, 1.0)
    got = bin_contents(edges, values, 1.0, 1.0)
    # The tail at u has the condition u**2, and ndtr rounds u / sqrt(2).
    np.testing.assert_allclose(got, floats(want), rtol=30.5**2 * np.finfo(float).eps)
    assert got[0] > 0
    assert got[-1] > 0


def test_contents_of_bins_without_values_are_never_negative():
    values = np.random.default_rng(1).normal(size=20_000)
    edges = np.concatenate([np.linspace(-60, -6, 20), np.linspace(6, 60, 20)])
    assert bin_contents(edges, values, 1.0, 0.3).min() >= 0


def test_a_value_on_an_edge_is_halved_whatever_the_sign_of_its_zero():
    for zero in (0.0, -0.0):
        got = bin_contents(np.array([-50.0, zero, 50.0]), np.array([-zero]), 1.0, 1.0)
        np.testing.assert_array_equal(got, [0.5, 0.5])


def test_bins_that_end_at_infinity_hold_the_sum_of_the_weights():
    edges = np.array([-np.inf, *FEW, np.inf])
    got = bin_contents(edges, MANY, HEAVY, WIDTH)
    np.testing.assert_allclose(got.sum(), HEAVY.sum(), rtol=1e-15)
    np.testing.assert_allclose(got[1:-1], bin_contents(FEW, MANY, HEAVY, WIDTH), rtol=1e-15)


@orders
def test_far_away_is_the_limit_and_never_nan(order):
    points, centers = np.array([-1e300, -np.inf, 0.0, np.inf, 1e300]), np.array([1.0])
    got = kernel_sum(points, centers, 1.0, 1e-10, order=order, sign=1)
    np.testing.assert_array_equal(got, [0, 0, 0, 1, 1] if order == 0 else [0] * 5)
    turned = kernel_sum(centers, points, 1.0, 1e-10, order=order, sign=-1)
    np.testing.assert_array_equal(turned, [2] if order == 0 else [0])


@pytest.mark.parametrize(("points", "centers"), [(0, 3), (3, 0), (0, 0)])
def test_of_nothing(points, centers):
    got = kernel_sum(np.zeros(points), np.zeros(centers), 1.0, 1.0, order=1, sign=1)
    np.testing.assert_array_equal(got, np.zeros(points))
    np.testing.assert_array_equal(bin_contents(FEW, np.zeros(0), np.zeros(0), 1.0), np.zeros(3))


def test_blocks_make_no_difference(monkeypatch):
    values, weights = np.random.default_rng(3).normal(size=(2, 1000))
    whole = [
        bin_contents(FEW, values, weights, 0.3),
        kernel_sum(FEW, values, weights, 0.3, order=2, sign=1),
        kernel_sum(values, FEW, HEAVY[:4], 0.3, order=2, sign=1),
    ]
    monkeypatch.setattr(kernel_sums, "_BLOCK", 7)
    in_blocks = [
        bin_contents(FEW, values, weights, 0.3),
        kernel_sum(FEW, values, weights, 0.3, order=2, sign=1),
        kernel_sum(values, FEW, HEAVY[:4], 0.3, order=2, sign=1),
    ]
    for got, want in zip(in_blocks, whole, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------- derivatives


def directions(args, seed):
    rng = np.random.default_rng(seed)
    return tuple(rng.integers(-16, 17, np.shape(a))[()] / 16 for a in args)


def exact_derivative(exact, args, *steps):
    """Mixed directional derivative along one or two directions, by mpmath."""

    def moved(j, *amounts):
        shifted = []
        for k, argument in enumerate(args):
            numbers = np.vectorize(mp.mpf, otypes=[object])(argument)
            for amount, step in zip(amounts, steps, strict=True):
                numbers = numbers + amount * np.vectorize(mp.mpf, otypes=[object])(step[k])
            shifted.append(numbers if np.ndim(argument) else np.asarray(numbers).item())
        return exact(*shifted)[j]

    with mp.workdps(40):
        zeros = (0,) * len(steps) if len(steps) > 1 else 0
        ones = (1,) * len(steps) if len(steps) > 1 else 1
        return floats(
            mp.diff(lambda *t, j=j: moved(j, *t), zeros, ones, h=mp.mpf(10) ** -12)
            for j in range(len(exact(*args)))
        )


@arguments
@functions
def test_first_derivative_by_all_arguments(name, given):
    (fn, exact), args = FUNCTIONS[name], ARGUMENTS[given]
    v = directions(args, 1)
    want = exact_derivative(exact, args, v)
    _, forward = eager.jvp(fn, args, v)
    np.testing.assert_allclose(forward, want, rtol=0, atol=1e-11 * np.abs(want).max())
    value, pull = eager.vjp(fn, args)
    w = directions((value,), 2)[0]
    pulled = sum(np.sum(g * d) for g, d in zip(pull(w), v, strict=True))
    np.testing.assert_allclose(pulled, w @ forward, rtol=0, atol=1e-12 * np.abs(w) @ np.abs(forward))


@pytest.mark.parametrize("i", range(4), ids=["points", "centers", "weights", "bandwidth"])
@functions
def test_derivative_by_one_argument(name, i):
    (fn, exact), args = FUNCTIONS[name], ARGUMENTS["few points"]
    v = tuple(d * (k == i) for k, d in enumerate(directions(args, 3)))
    want = exact_derivative(exact, args, v)

    def of_one(x):
        return fn(*args[:i], x, *args[i + 1 :])

    _, forward = eager.jvp(of_one, (args[i],), (v[i],))
    np.testing.assert_allclose(forward, want, rtol=0, atol=1e-11 * np.abs(want).max())
    w = directions((want,), 4)[0]
    pulled = np.sum(eager.vjp(of_one, (args[i],))[1](w)[0] * v[i])
    np.testing.assert_allclose(pulled, w @ want, rtol=0, atol=1e-11 * np.abs(w) @ np.abs(want))


@pytest.mark.parametrize("given", ["few points", "one weight, many points"])
@pytest.mark.parametrize("name", ["order 0, sign 1", "order 1, sign -1", "contents"])
def test_second_derivative_in_every_composition(name, given):
    (fn, exact), args = FUNCTIONS[name], ARGUMENTS[given]
    v, u = directions(args, 5), directions(args, 6)
    want = exact_derivative(exact, args, v, u)
    scale = np.abs(want).max()

    def pushed(*x):
        return eager.jvp(fn, x, v)[1]

    _, forward = eager.jvp(pushed, args, u)
    # mpmath takes the mixed derivative by differences of 1e-12.
    np.testing.assert_allclose(forward, want, rtol=0, atol=1e-10 * scale)
    w = directions((want,), 7)[0]

    def pulled(*x):
        return eager.vjp(fn, x)[1](w)

    def inner(gradients):
        return sum(np.sum(g * d) for g, d in zip(gradients, v, strict=True))

    over_reverse = inner(eager.jvp(pulled, args, u)[1])
    np.testing.assert_allclose(over_reverse, w @ forward, rtol=0, atol=1e-11 * scale * np.abs(w).sum())
    _, pull = eager.vjp(pushed, args)
    over_forward = sum(np.sum(g * d) for g, d in zip(pull(w), u, strict=True))
    np.testing.assert_allclose(over_forward, w @ forward, rtol=0, atol=1e-11 * scale * np.abs(w).sum())


def by_contents(e, x, w, c, h):
    return np.sum(c * wrapped(bin_contents(*map(unwrap, (e, x, w, h)))))


def by_shares(e, x, w, c, h):
    return np.sum(w * wrapped(bin_shares(*map(unwrap, (e, x, c, h)))))


def test_shares_are_the_transpose_of_contents():
    """One bilinear form in two ways: the same value, gradient, and products of both with the Hessian."""
    args = (FEW, MANY, HEAVY, np.array([0.5, -1.25, 2.0]), WIDTH)
    v = directions(args, 8)
    np.testing.assert_allclose(by_shares(*args), by_contents(*args), rtol=1e-14)
    np.testing.assert_allclose(
        eager.jvp(by_shares, args, v)[1], eager.jvp(by_contents, args, v)[1], rtol=1e-13
    )

    def products(fn):
        def pulled(*x):
            return eager.vjp(fn, x)[1](1.0)

        def pushed(*x):
            return eager.jvp(fn, x, v)[1]

        gradient, over_reverse = eager.jvp(pulled, args, v)
        return [*gradient, *over_reverse, *eager.vjp(pushed, args)[1](1.0)]

    for got, want in zip(products(by_shares), products(by_contents), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-13 * np.abs(want).max())


def test_gradient_of_logarithms_of_nearly_empty_bins():
    """sum(log(w n_b)) of one value has the slope (number of bins) / w, however little lies in a bin."""
    edges = np.linspace(-20.0, 30.0, 26)

    def logarithms(w):
        return np.sum(np.log(wrapped(bin_contents(edges, np.zeros(1), unwrap(w), 1.0))))

    w = np.array([2.0])
    np.testing.assert_allclose(eager.grad(logarithms)(w), [25 / 2], rtol=1e-13)
    np.testing.assert_allclose(eager.jvp(logarithms, (w,), (np.ones(1),))[1], 25 / 2, rtol=1e-13)


# ---------------------------------------------------------------- dtype, memory, pickling


def test_single_precision_is_summed_in_double():
    single = tuple(np.asarray(a, np.float32)[()] for a in ARGUMENTS["few points"])
    double = tuple(np.asarray(a, np.float64)[()] for a in single)
    fn, _ = FUNCTIONS["contents"]
    value, pull = eager.vjp(fn, single)
    assert value.dtype == np.float64
    np.testing.assert_allclose(value, fn(*double), rtol=1e-15)
    gradients, wanted = pull(1.0), eager.vjp(fn, double)[1](1.0)
    assert [g.dtype for g in gradients] == [np.float32] * 4
    for got, want in zip(gradients, wanted, strict=True):
        # Rounded once, at the end.
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)
    _, tangent = eager.jvp(fn, single)
    assert tangent.dtype == np.float64


def test_integers_and_booleans_may_be_weights():
    for weights in (np.array([1, 0, 2, 1, 0, 3, 1, 1, 1]), np.arange(9) % 2 == 0):
        got = bin_contents(FEW, MANY, weights, WIDTH)
        np.testing.assert_array_equal(got, bin_contents(FEW, MANY, weights.astype(float), WIDTH))


def peak_of(call):
    bin_contents(FEW, MANY, 1.0, 1.0)  # The import of SciPy is not measured.
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_is_that_of_the_values_not_of_all_pairs():
    n, edges = 100_000, np.linspace(-3, 3, 101)
    values = np.random.default_rng(0).normal(size=n)
    seed = np.linspace(1, 2, 100)

    def fn(x, h):
        return wrapped(bin_contents(edges, unwrap(x), 1.0, unwrap(h)))

    dense = n * 100 * 8
    assert peak_of(lambda: bin_contents(edges, values, 1.0, 0.1)) < dense / 100
    assert peak_of(lambda: eager.vjp(fn, (values, 0.1))[1](seed)) < dense / 20
    assert peak_of(lambda: eager.jvp(fn, (values, 0.1))) < dense / 20
    # What is measured: the dense evaluation shows.
    assert peak_of(lambda: edges[1:, np.newaxis] - values) >= dense


@pytest.mark.parametrize("primitive", [kernel_sum, bin_contents, bin_shares])
def test_primitives_pickle_by_name(primitive):
    assert pickle.loads(pickle.dumps(primitive)) is primitive


def test_without_scipy_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    with pytest.raises(ImportError, match=r"pip install \"dak_diff\[hist\]\""):
        bin_contents(FEW, MANY, 1.0, 1.0)
