"""Ufuncs of scipy.special against mpmath with 60 digits, over their domains and far into their tails."""

import pickle
import subprocess
import sys

import awkward as ak
import dask_awkward as dak
import mpmath as mp
import numpy as np
import pytest
from helpers import METHODS, collection

import dak_diff as dd
from dak_diff import eager
from dak_diff.errors import NoRuleError
from dak_diff.rules.elementwise import Elementwise
from dak_diff.rules.primitive import UFUNCS
from dak_diff.rules.special import _table, partials_of

special = pytest.importorskip("scipy.special")


@pytest.fixture(autouse=True)
def _overflow_is_no_error_here():
    with np.errstate(all="ignore"):
        yield


# ---------------------------------------------------------------- one argument


def both_signs(*points):
    return [-p for p in reversed(points)] + list(points)


def erf(x):
    # Up to a constant: a difference of numbers near 1 would have no digits left.
    return mp.erf(x) if abs(x) < 1 else -mp.sign(x) * mp.erfc(abs(x))


def expit(x):
    return mp.tanh(x / 2) / 2 if abs(x) < 1 else -mp.sign(x) / (1 + mp.exp(abs(x)))


#: name -> (the function up to a constant, points, what the second derivative loses by cancellation)
UNARY = {
    "erf": (erf, both_signs(1e-20, 1e-8, 0.3, 1, 3, 6, 26), 1),
    "erfc": (lambda x: -erf(x), both_signs(1e-20, 1e-8, 0.3, 1, 3, 6, 26), 1),
    "erfcx": (
        lambda x: mp.exp(x * x) * mp.erfc(x),
        [-26, -3, -0.3, 1e-8, 0.3, 3.9, 4.1, 5, 10, 1e3, 1e8],
        # 2 x erfcx and its derivative cancel up to 4, where 2 x**2 is 32, twice
        32,
    ),
    "erfinv": (mp.erfinv, both_signs(1e-8, 0.3, 0.99, 1 - 2**-20), 1),
    # From the result, whose square is exponentiated.
    "erfcinv": (lambda x: mp.erfinv(1 - x), [1e-20, 1e-8, 0.3, 1.4, 1.999], 8),
    "ndtr": (lambda x: erf(x / mp.sqrt(2)) / 2, both_signs(1e-20, 1e-8, 0.3, 1, 3, 6, 37), 1),
    "log_ndtr": (
        lambda x: mp.log(mp.erfc(-x / mp.sqrt(2))),
        [-1e6, -1e4, -40, -10, -6, -5.5, -3, -0.3, 1e-8, 0.3, 3, 8],
        2,
    ),
    "ndtri": (lambda x: mp.sqrt(2) * mp.erfinv(2 * x - 1), [1e-20, 1e-8, 0.3, 0.6, 1 - 2**-20], 8),
    "expit": (expit, both_signs(0.03, 0.3, 3, 30, 300, 700), 8),
    "logit": (lambda x: mp.log(x / (1 - x)), [1e-20, 1e-8, 0.3, 0.6, 1 - 2**-20], 1),
    "log_expit": (lambda x: -mp.log1p(mp.exp(-x)), [-30, *both_signs(1e-8, 0.3, 3), 30, 300, 700], 1),
    "gamma": (mp.gamma, [-20.7, -2.5, -0.3, 1e-8, 0.3, 1.4, 3, 30, 170], 1),
    "gammaln": (lambda x: mp.log(abs(mp.gamma(x))), [-20.7, -2.5, -0.3, 1e-20, 0.3, 1.4, 3, 30, 1e5], 1),
    "psi": (lambda x: mp.psi(0, x), [-20.7, -2.2, -0.3, 1e-20, 1e-8, 0.3, 1.4, 3, 30, 1e5], 1),
    "i0": (lambda x: mp.besseli(0, x), both_signs(1e-8, 0.3, 3, 30, 700), 1),
    "i1": (lambda x: mp.besseli(1, x), both_signs(1e-8, 0.3, 3, 30, 700), 1),
    # exp(-x) I(x) and its derivatives cancel up to 25.
    "i0e": (lambda x: mp.exp(-abs(x)) * mp.besseli(0, x), both_signs(1e-8, 0.3, 3, 24, 26, 700, 1e8), 50),
    "i1e": (lambda x: mp.exp(-abs(x)) * mp.besseli(1, x), both_signs(1e-8, 0.3, 0.8, 3, 24, 26, 1e8), 50),
    "expm1": (mp.exp, [-30, -1e-8, 1e-8, 30], 1),
    "log1p": (mp.log1p, [-0.99, -1e-8, 1e-8, 1e8], 1),
    "exp2": (lambda x: 2**x, [-30, -1e-8, 1e-8, 30], 1),
    "exp10": (lambda x: 10**x, [-30, -1e-8, 1e-8, 30], 1),
    "cbrt": (mp.cbrt, [1e-8, 0.3, 3, 1e8], 1),
}  # fmt: skip
unary = pytest.mark.parametrize("name", UNARY)
dtypes = pytest.mark.parametrize("dtype", [np.float64, np.float32])


def points_of(name, dtype):
    """The points that a dtype has, and the first two derivatives there; where these have a place in it."""
    function, points, _ = UNARY[name]
    x = np.array(points, dtype=dtype)
    with mp.workdps(60):
        rows = [[mp.diff(function, mp.mpf(float(p)), k, relative=True) for k in (1, 2)] for p in x]
    limits = np.finfo(dtype)
    kept = [i for i, row in enumerate(rows) if all(limits.tiny < abs(d) < limits.max for d in row)]
    assert len(kept) >= 3
    return x[kept], np.array([rows[i] for i in kept])


def relative_errors(got, exact, eps):
    return (
        np.array([abs(mp.mpf(float(g)) - e) / abs(e) for g, e in zip(got, exact, strict=True)], dtype=float)
        / eps
    )


def conditions(x, derivatives):
    """By how much a rounding of the argument grows in the first derivative."""
    return np.array(
        [1 + abs(float(p) * d[1] / d[0]) for p, d in zip(x, derivatives, strict=True)], dtype=float
    )


@dtypes
@unary
def test_first_derivative(name, dtype):
    x, exact = points_of(name, dtype)
    eps, ufunc = np.finfo(dtype).eps, getattr(special, name)
    forward = eager.jvp(ufunc, (x,))[1]
    reverse = eager.vjp(ufunc, (x,))[1](1.0)[0]
    assert forward.dtype == reverse.dtype == dtype
    np.testing.assert_array_equal(forward, reverse)
    # Formulas by the result lose with its square, scaled Bessel functions with the argument, up to 25.
    loss = UNARY[name][2]
    assert np.all(relative_errors(forward, exact[:, 0], eps) <= 6 * loss**0.5 * conditions(x, exact))


@dtypes
@unary
def test_second_derivative(name, dtype):
    x, exact = points_of(name, dtype)
    eps = np.finfo(dtype).eps
    second = eager.jvp(eager.elementwise_grad(getattr(special, name)), (x,))[1]
    assert second.dtype == dtype
    loss = 20 * max(1, UNARY[name][2])
    assert np.all(relative_errors(second, exact[:, 1], eps) <= loss * conditions(x, exact))


@pytest.mark.parametrize("method", METHODS)
@unary
def test_all_methods_use_the_formula(name, method):
    x, _ = points_of(name, np.float64)
    ufunc = getattr(special, name)
    value, tangent = eager.jvp(ufunc, (x,), method=method)
    np.testing.assert_array_equal(value, ufunc(x))
    np.testing.assert_array_equal(tangent, eager.jvp(ufunc, (x,), method="dual")[1])


def test_third_derivative_at_a_removable_singularity():
    third = eager.elementwise_grad(eager.elementwise_grad(eager.elementwise_grad(special.i1)))
    # i1(x) = x/2 + x**3/16 + ...
    np.testing.assert_allclose(third(np.array([0.0])), [6 / 16], rtol=1e-15)


def test_third_derivative_in_the_left_tail():
    third = eager.elementwise_grad(eager.elementwise_grad(eager.elementwise_grad(special.log_ndtr)))
    x = np.array([-30.0, -6.0])
    with mp.workdps(60):
        exact = [float(mp.diff(UNARY["log_ndtr"][0], mp.mpf(p), 3)) for p in x]
    np.testing.assert_allclose(third(x), exact, rtol=1e-13)


# ---------------------------------------------------------------- two arguments

BINARY = {
    "xlogy": (lambda x, y: x * mp.log(y), [(2.5, 0.3), (1e-10, 1e10), (3.0, 1e-20), (-1.5, 7.0)]),
    "xlog1py": (lambda x, y: x * mp.log1p(y), [(2.5, 0.3), (1e-10, 1e10), (3.0, 1e-12), (-1.5, -0.9)]),
}


def regularized(a, x):
    return mp.gammainc(a, 0, x, regularized=True)


def voigt(x, sigma, gamma):
    z = (x + 1j * gamma) / (sigma * mp.sqrt(2))
    return mp.re(mp.exp(-(z**2)) * mp.erfc(-1j * z)) / (sigma * mp.sqrt(2 * mp.pi))


EPS = np.finfo(float).eps
#: name -> what it is, points, arguments that it is differentiated by, by how much roundings grow
SEVERAL = {
    "loggamma": (mp.loggamma, [(0.3,), (3,), (30.0,)], [0], 10),
    "rgamma": (mp.rgamma, [(0.3,), (3,), (-1.5,)], [0], 1e3),
    "betaln": (lambda a, b: mp.log(mp.beta(a, b)), [(0.3, 2.0), (3, 40.0)], [0, 1], 50),
    "beta": (mp.beta, [(0.3, 2.0), (3, 4.0)], [0, 1], 10),
    "gammainc": (regularized, [(0.3, 2.0), (3, 4.0), (30, 20.0)], [1], 30),
    "gammaincc": (lambda a, x: 1 - regularized(a, x), [(0.3, 2.0), (3, 4.0)], [1], 10),
    "chdtr": (lambda v, x: regularized(v / 2, x / 2), [(3.0, 2.0), (10, 4.0)], [1], 10),
    "chdtrc": (lambda v, x: 1 - regularized(v / 2, x / 2), [(3.0, 2.0), (10, 4.0)], [1], 10),
    "pdtr": (lambda k, m: 1 - regularized(mp.floor(k) + 1, m), [(3.0, 2.0), (10, 4.0)], [1], 10),
    "pdtrc": (lambda k, m: regularized(mp.floor(k) + 1, m), [(3.0, 2.0), (10, 4.0)], [1], 10),
    "betainc": (lambda a, b, x: mp.betainc(a, b, 0, x, True), [(3.0, 2.0, 0.3), (0.5, 4.0, 0.9)], [2], 10),
    "betaincc": (lambda a, b, x: mp.betainc(a, b, x, 1, True), [(3.0, 2.0, 0.3), (0.5, 4.0, 0.9)], [2], 10),
    "stdtr": (
        lambda v, t: t * mp.hyp2f1(0.5, (v + 1) / 2, 1.5, -t * t / v) / mp.sqrt(v) / mp.beta(v / 2, 0.5),
        [(3.0, 2.0), (10.0, -1.0)],
        [1],
        10,
    ),
    "entr": (lambda x: -x * mp.log(x), [(0.3,), (4.0,)], [0], 10),
    "rel_entr": (lambda x, y: x * mp.log(x / y), [(0.3, 2.0), (4.0, 0.1)], [0, 1], 10),
    "kl_div": (lambda x, y: x * mp.log(x / y) - x + y, [(0.3, 2.0), (4.0, 0.1)], [0, 1], 10),
    "j0": (lambda x: mp.besselj(0, x), [(0.3,), (20.0,)], [0], 20),
    "j1": (lambda x: mp.besselj(1, x), [(0.3,), (20.0,)], [0], 20),
    "jv": (mp.besselj, [(2.5, 0.3), (3.0, 20.0)], [1], 20),
    "y0": (lambda x: mp.bessely(0, x), [(0.3,), (20.0,)], [0], 20),
    "y1": (lambda x: mp.bessely(1, x), [(0.3,), (20.0,)], [0], 20),
    "yv": (mp.bessely, [(2.5, 0.3), (3.0, 20.0)], [1], 20),
    "k0": (lambda x: mp.besselk(0, x), [(0.3,), (20.0,)], [0], 10),
    "k1": (lambda x: mp.besselk(1, x), [(0.3,), (20.0,)], [0], 10),
    "kv": (mp.besselk, [(2.5, 0.3), (3.0, 20.0)], [1], 10),
    # Up to |z| = 6 the derivative by sigma, V'' in disguise, loses with the fourth power of z.
    "voigt_profile": (
        voigt,
        [(0.3, 1.0, 0.5), (4.0, 0.5, 2.0), (-30, 1.0, 1.0), (1.0, 2.0, 0.0), (8.0, 1.0, 1.0),
         (8.7, 1.0, 1e-9), (7, 1.0, 8.0), (1, 1.0, 9.0), (6, 1.0, 0.0)],
        [0, 1, 2],
        2e4,
    ),
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("name", "by"), [(n, i) for n, case in SEVERAL.items() for i in case[2]])
def test_functions_of_several_arguments(name, by, method):
    function, points, _, loss = SEVERAL[name]
    arguments = [np.array(column, dtype=float) for column in zip(*points, strict=True)]

    def along(x):
        return getattr(special, name)(*arguments[:by], x, *arguments[by + 1 :])

    with mp.workdps(50):
        exact = [
            [float(mp.diff(function, tuple(map(mp.mpf, p)), order)) for p in points]
            for order in (tuple(k * (i == by) for i in range(len(arguments))) for k in (1, 2))
        ]
    value, first = eager.jvp(along, (arguments[by],), method=method)
    np.testing.assert_array_equal(value, along(arguments[by]))
    np.testing.assert_allclose(first, exact[0], rtol=EPS * loss)
    np.testing.assert_array_equal(eager.vjp(along, (arguments[by],))[1](1.0)[0], first)
    second = eager.jvp(eager.elementwise_grad(along), (arguments[by],))[1]
    np.testing.assert_allclose(second, exact[1], rtol=50 * EPS * loss)


def test_the_faddeeva_function():
    """w' = -2 z w + 2i/sqrt(pi), in both half planes, near and far."""
    z = np.array([1 + 0.5j, 3 - 0.2j, 0.1 + 2j, 9 + 4j, 3 - 6.5j, 20 + 0j])
    _, slope = eager.jvp(special.wofz, (z,), np.full(z.shape, 1 + 0j))
    with mp.workdps(50):
        exact = [
            complex(mp.diff(lambda z: mp.exp(-(z**2)) * mp.erfc(-1j * z), mp.mpc(p))) for p in z.tolist()
        ]
    np.testing.assert_allclose(slope, exact, rtol=1e-13)


def test_near_points_alone_have_the_slopes_that_they_have_beside_far_ones():
    x, sigma = np.array([0.3, 1.0, -30.0]), np.array([1.0, 2.0, 1.0])
    both = eager.vjp(lambda x, s: special.voigt_profile(x, s, 1.0), (x, sigma))[1](1.0)
    near = eager.vjp(lambda x, s: special.voigt_profile(x, s, 1.0), (x[:2], sigma[:2]))[1](1.0)
    np.testing.assert_allclose(near, [g[:2] for g in both], rtol=1e-14)


def test_a_ufunc_of_several_results_is_refused():
    with pytest.raises(NoRuleError, match="airy"):
        eager.jvp(lambda x: special.airy(x)[0], (np.array([0.5]),))


@pytest.mark.parametrize(("name", "count"), [("gammainc", 2), ("chdtr", 2), ("betainc", 3), ("stdtr", 2)])
def test_the_shape_of_a_distribution_is_refused(name, count):
    with pytest.raises(NoRuleError, match=f"{name} but by its last argument"):
        eager.jvp(lambda a: getattr(special, name)(a, *[0.5] * (count - 1)), (np.array([2.0]),))


@pytest.mark.parametrize("name", ["jv", "yv", "kv"])
def test_the_order_of_a_bessel_function_is_refused(name):
    with pytest.raises(NoRuleError, match=f"{name} .argument 0."):
        eager.jvp(lambda v: getattr(special, name)(v, 0.5), (np.array([2.0]),))


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("by", [0, 1])
def test_first_derivative_by_each_argument(name, by):
    function, points = BINARY[name]
    arguments = tuple(np.array(column) for column in zip(*points, strict=True))
    order = (1 - by, by)
    with mp.workdps(60):
        exact = [float(mp.diff(function, tuple(map(mp.mpf, p)), order, relative=True)) for p in points]
    forward = eager.jvp(getattr(special, name), arguments, [float(o) for o in order])[1]
    reverse = eager.vjp(getattr(special, name), arguments)[1](1.0)[by]
    np.testing.assert_allclose(forward, exact, rtol=1e-15)
    np.testing.assert_array_equal(forward, reverse)


@pytest.mark.parametrize("x", [0.3, 24.0, 26.0, 60.0, -3.0])
@pytest.mark.parametrize("v", [2.0, 5.0])
@pytest.mark.parametrize("name", ["iv", "ive"])
def test_bessel_functions_of_higher_order(name, v, x):
    def function(x):
        return mp.besseli(v, x) * (mp.exp(-abs(x)) if name == "ive" else 1)

    ufunc = getattr(special, name)
    got = eager.jvp(lambda x: ufunc(v, x), (np.array([x]),))[1]
    with mp.workdps(60):
        exact = float(mp.diff(function, mp.mpf(x), relative=True))
    # SciPy's iv and ive are right to 1e-14; up to 25 or v**2 the terms of ive cancel like 2 x.
    np.testing.assert_allclose(got, exact, rtol=2e-13)


def test_zeta_by_its_second_argument():
    q = np.array([0.3, 4.0])
    with mp.workdps(60):
        exact = [float(mp.diff(lambda q: mp.zeta(3, q), mp.mpf(p))) for p in q]
    np.testing.assert_allclose(eager.jvp(lambda q: special.zeta(3.0, q), (q,))[1], exact, rtol=1e-15)


@pytest.mark.parametrize("ufunc", [special.iv, special.ive, special.zeta])
def test_by_the_order_is_refused(ufunc):
    with pytest.raises(NoRuleError, match=r"argument 0.*order"):
        eager.jvp(lambda v: ufunc(v, 2.0), (np.array([3.0]),))


# ---------------------------------------------------------------- edges and kinks

INF, NAN = np.inf, np.nan
EDGES = [
    ("xlogy", (0.0, 0.0), 1, 0.0),
    ("xlogy", (0.0, 0.0), 0, -INF),
    ("xlogy", (0.0, 2.0), 1, 0.0),
    ("xlogy", (2.0, 0.0), 1, INF),
    ("xlogy", (0.0, -2.0), 0, NAN),
    ("xlogy", (0.0, NAN), 1, NAN),
    ("xlog1py", (0.0, -1.0), 1, 0.0),
    ("xlog1py", (0.0, -1.0), 0, -INF),
    ("logit", (0.0,), 0, INF),
    ("logit", (1.0,), 0, INF),
    ("logit", (-0.5,), 0, NAN),
    ("logit", (1.5,), 0, NAN),
    ("log1p", (-1.0,), 0, INF),
    ("log1p", (-2.0,), 0, NAN),
    ("erfinv", (1.0,), 0, INF),
    ("erfinv", (-1.0,), 0, INF),
    ("erfinv", (1.5,), 0, NAN),
    ("erfcinv", (0.0,), 0, -INF),
    ("erfcinv", (2.0,), 0, -INF),
    ("ndtri", (0.0,), 0, INF),
    ("ndtri", (1.0,), 0, INF),
    ("ndtri", (-0.5,), 0, NAN),
    ("i0e", (0.0,), 0, 0.0),
    ("i1e", (0.0,), 0, 0.5),
    ("i1", (0.0,), 0, 0.5),
    ("gammaln", (-2.0,), 0, NAN),
    ("log_ndtr", (-INF,), 0, INF),
    ("log_ndtr", (-1e200,), 0, 1e200),
    ("log_expit", (-INF,), 0, 1.0),
    ("log_expit", (-800.0,), 0, 1.0),
    *((name, (INF,), 0, 0.0) for name in ("erf", "erfc", "erfcx", "expit", "ndtr", "i0e", "i1e")),
    *((name, (INF,), 0, 0.0) for name in ("log_ndtr", "log_expit", "psi")),
    *((name, (-INF,), 0, 0.0) for name in ("erf", "erfc", "expit", "ndtr", "i0e", "i1e", "expm1")),
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("name", "point", "by", "expected"), EDGES)
def test_value_at_the_edge(name, point, by, expected, method):
    ufunc, arrays = getattr(special, name), tuple(np.array([p]) for p in point)
    seeds = [float(i == by) for i in range(len(point))]
    forward = eager.jvp(ufunc, arrays, seeds, method=method)[1]
    reverse = eager.vjp(ufunc, arrays, method=method)[1](1.0)[by]
    np.testing.assert_allclose(forward, [expected], rtol=1e-15)
    np.testing.assert_allclose(reverse, [expected], rtol=1e-15)


@pytest.mark.parametrize("name", ["expit", "erf", "ndtr"])
def test_constant_at_infinity_also_under_an_infinite_slope(name):
    x = np.array([0.0, 1.0])
    slopes = eager.jvp(lambda x: getattr(special, name)(np.log(x)), (x,))[1]
    assert slopes[0] == 0.0
    assert slopes[1] > 0.1


def test_mixed_second_derivative_of_xlogy_where_the_factor_is_zero():
    by_y = lambda x: eager.grad(lambda y: ak.sum(special.xlogy(x, y)))(ak.Array([3.0]))  # noqa: E731
    assert eager.jvp(by_y, (ak.Array([0.0]),))[1].to_list() == [1 / 3]


def test_second_derivative_of_log_ndtr_at_the_end_of_the_numbers():
    second = eager.jvp(eager.elementwise_grad(special.log_ndtr), (np.array([-INF, -1e200, 37.0]),))[1]
    np.testing.assert_allclose(second[:2], [-1.0, -1.0], rtol=1e-15)
    # -x phi(x), up to phi(x) itself
    np.testing.assert_allclose(second[2], -37 * np.exp(-(37.0**2) / 2) / np.sqrt(2 * np.pi), rtol=1e-13)


# ---------------------------------------------------------------- densities


def poisson(mu, n):
    """Log-likelihood of counts."""
    return ak.sum(special.xlogy(n, mu) - mu - special.gammaln(n + 1.0))


def normal(x, mu, sigma):
    """Log of the density between -1 and 2, where it is normalised."""
    z = (x - mu) / sigma
    inside = special.ndtr((2 - mu) / sigma) - special.ndtr((-1 - mu) / sigma)
    return -0.5 * z**2 - np.log(sigma * np.sqrt(2 * np.pi) * inside)


def crystal_ball(x, mu, sigma, alpha, n):
    """Log of the density: a Gaussian core with a power law on its left (J. Gaiser, SLAC-R-255, 1982)."""
    t = (x - mu) / sigma
    tail = n / alpha * np.exp(-(alpha**2) / 2) / (n - 1)
    core = np.sqrt(np.pi / 2) * (1 + special.erf(alpha / np.sqrt(2)))
    power = n * np.log(n / alpha) - alpha**2 / 2 - n * np.log(n / alpha - alpha - np.minimum(t, -alpha))
    return np.where(t > -alpha, -(t**2) / 2, power) - np.log(sigma * (tail + core))


def mp_normal(x, mu, sigma):
    inside = mp.ncdf((2 - mu) / sigma) - mp.ncdf((-1 - mu) / sigma)
    return mp.log(mp.npdf(x, mu, sigma) / inside)


def mp_crystal_ball(x, mu, sigma, alpha, n):
    def shape(t):
        if t > -alpha:
            return mp.exp(-t * t / 2)
        return (n / alpha) ** n * mp.exp(-(alpha**2) / 2) * (n / alpha - alpha - t) ** -n

    area = mp.quad(shape, [-alpha, 0, 1, 5, 40]) + mp.quad(shape, [-mp.inf, -20, -alpha])
    return mp.log(shape((x - mu) / sigma) / (sigma * area))


@pytest.mark.parametrize(
    ("density", "exact", "parameters"),
    [(normal, mp_normal, (0.2, 0.7)), (crystal_ball, mp_crystal_ball, (0.2, 0.7, 1.5, 3.0))],
    ids=["normal", "crystal ball"],
)
def test_score_of_a_density(density, exact, parameters):
    points = np.array([-0.98, -0.4, 0.1, 1.9])
    x = ak.unflatten(ak.Array(points), [2, 0, 2])
    for i in range(len(parameters)):
        seeds = [0.0, *(float(i == j) for j in range(len(parameters)))]
        slope = eager.jvp(density, (x, *parameters), seeds)[1]
        assert ak.num(slope).to_list() == [2, 0, 2]
        with mp.workdps(30):
            order = [0, *(int(i == j) for j in range(len(parameters)))]
            want = [float(mp.diff(exact, (mp.mpf(p), *map(mp.mpf, parameters)), order)) for p in points]
        np.testing.assert_allclose(ak.flatten(slope), want, rtol=1e-12)


def test_score_of_a_poisson_likelihood():
    n, mu = ak.Array([[0, 3], [], [7]]), ak.Array([[0.0, 2.5], [], [7.0]])
    # n / mu - 1; nothing expected and nothing seen: the slope of -mu
    assert eager.grad(poisson)(mu, n).to_list() == [[-1.0, 3 / 2.5 - 1], [], [0.0]]
    curvature = eager.jvp(lambda mu: eager.grad(poisson)(mu, n), (mu,))[1]
    # -n / mu**2
    np.testing.assert_allclose(ak.flatten(curvature)[1:], [-3 / 2.5**2, -1 / 7], rtol=1e-15)


# ---------------------------------------------------------------- arrays and graphs

X = ak.Array([[-3.0, 0.5], [], [40.0], [0.1, 1.5, -20.0]])


def slopes_of_log_ndtr():
    with mp.workdps(60):
        return [
            [float(mp.diff(UNARY["log_ndtr"][0], mp.mpf(p), relative=True)) for p in row]
            for row in X.to_list()
        ]


def assert_rows(got, want):
    assert ak.num(got).to_list() == [len(row) for row in want]
    np.testing.assert_allclose(ak.flatten(got), np.concatenate(want), rtol=1e-12)


def test_jagged_arrays():
    want = slopes_of_log_ndtr()
    assert_rows(eager.jvp(special.log_ndtr, (X,))[1], want)
    assert_rows(eager.grad(lambda x: ak.sum(special.log_ndtr(x)))(X), want)


@pytest.mark.parametrize("lengths", [[2, 2], [4, 0]])
@pytest.mark.parametrize("method", METHODS)
def test_graph_of_two_partitions(lengths, method):
    x, want = collection(X, lengths), slopes_of_log_ndtr()
    assert_rows(dd.jvp(special.log_ndtr(x), x, method=method).compute(), want)
    assert_rows(dd.grad(dak.sum(special.log_ndtr(x)), x, method=method).compute(), want)


# ---------------------------------------------------------------- the table


def test_every_name_is_a_ufunc_with_a_partial_for_each_argument():
    table = _table(special)
    for name, partials in table.items():
        ufunc = getattr(special, name, None) or getattr(special._ufuncs, name)
        assert ufunc.__name__ == name
        assert ufunc.nin == len(partials)
        (rule,) = UFUNCS[ufunc]
        assert isinstance(rule, Elementwise)
        assert rule.partials is partials


def test_every_name_is_tested():
    assert set(_table(special)) == {*UNARY, *BINARY, *SEVERAL, "iv", "ive", "_zeta", "wofz"}


@pytest.mark.filterwarnings("ignore:.* module is deprecated:DeprecationWarning")
def test_rules_pickle():
    # Pickle looks for a ufunc in all modules: mpmath warns of being looked at.
    for name in ("erf", "psi", "xlogy"):
        (rule,) = UFUNCS[getattr(special, name)]
        assert pickle.loads(pickle.dumps(rule)) is rule


def test_a_ufunc_of_the_same_name_from_elsewhere_is_another():
    class Stranger:
        __name__ = "erf"

    for ufunc in (np.expm1, special.expm1):
        assert UFUNCS[ufunc][0].ufunc is ufunc
    assert partials_of(special.erf) is not None
    assert partials_of(Stranger()) is None


def test_scipy_is_not_imported():
    code = "import sys, dak_diff; assert not any(m.split('.')[0] == 'scipy' for m in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_complex_loop_that_loses_the_derivative_is_refused():
    """The imaginary part of SciPy's complex expi is zero near the real axis."""
    with pytest.raises(NoRuleError, match=r"expi.*loses the derivative at 2 of the points"):
        eager.jvp(special.expi, (np.array([0.3, 2.0]),))


def test_complex_loop_without_formula_is_stepped():
    x = np.array([0.3, 2.0])
    # Dawson's integral: D' = 1 - 2 x D
    np.testing.assert_allclose(eager.jvp(special.dawsn, (x,))[1], 1 - 2 * x * special.dawsn(x), rtol=1e-14)


@pytest.mark.parametrize("name", ["rel_entr", "kl_div"])
def test_mixed_second_derivatives_where_there_is_nothing(name):
    """-1/y, at x = 0 too, in both orders."""
    ufunc = getattr(special, name)
    for x in (0.0, 0.3):
        by_x = eager.jvp(lambda y, x=x: eager.jvp(lambda x: ufunc(x, y), (x,))[1], (4.0,))[1]
        by_y = eager.jvp(lambda x: eager.jvp(lambda y, x=x: ufunc(x, y), (4.0,))[1], (x,))[1]
        np.testing.assert_allclose([by_x, by_y], -0.25, rtol=1e-15)
