"""Every ufunc of NumPy is in one table; formulas against mpmath; values at kinks."""

import awkward as ak
import mpmath
import numpy as np
import pytest
from helpers import METHODS

from dak_diff import eager
from dak_diff.errors import NoRuleError
from dak_diff.rules import ufuncs
from dak_diff.rules.primitive import UFUNCS

ALL_UFUNCS = {f for f in vars(np).values() if isinstance(f, np.ufunc)}
TABLES = {name: getattr(ufuncs, name) for name in ("PARTIALS", "ZERO", "NOT_NUMBERS", "NOT_IMPLEMENTED")}


@pytest.mark.parametrize("ufunc", sorted(ALL_UFUNCS, key=lambda f: f.__name__), ids=lambda f: f.__name__)
def test_is_in_exactly_one_table(ufunc):
    """If this fails for a new ufunc of NumPy: give it partials, or a reason why it has none."""
    homes = [name for name, table in TABLES.items() if ufunc in table]
    if ufunc is np.conjugate:
        homes.append("conjugate")
    assert len(homes) == 1


def test_tables_hold_nothing_that_numpy_lacks():
    assert set().union(*TABLES.values()) <= ALL_UFUNCS


def test_every_refusal_has_a_reason():
    for name in ("ZERO", "NOT_NUMBERS", "NOT_IMPLEMENTED"):
        assert all(isinstance(reason, str) and reason for reason in TABLES[name].values())


def test_every_output_has_a_partial_for_every_argument():
    for ufunc, rows in ufuncs.PARTIALS.items():
        rows = rows if isinstance(rows, list) else [rows]
        assert len(rows) == ufunc.nout
        assert all(len(row) == ufunc.nin for row in rows)


# ---------------------------------------------------------------- formulas

MPMATH = {
    np.exp: mpmath.exp, np.exp2: lambda x: 2**x, np.expm1: mpmath.expm1, np.log: mpmath.log,
    np.log2: lambda x: mpmath.log(x, 2), np.log10: mpmath.log10, np.log1p: mpmath.log1p, np.sqrt: mpmath.sqrt,
    np.cbrt: mpmath.cbrt, np.sin: mpmath.sin, np.cos: mpmath.cos, np.tan: mpmath.tan, np.arcsin: mpmath.asin,
    np.arccos: mpmath.acos, np.arctan: mpmath.atan, np.sinh: mpmath.sinh, np.cosh: mpmath.cosh,
    np.tanh: mpmath.tanh, np.arcsinh: mpmath.asinh, np.arccosh: mpmath.acosh, np.arctanh: mpmath.atanh,
    np.square: lambda x: x * x, np.reciprocal: lambda x: 1 / x, np.deg2rad: mpmath.radians,
    np.rad2deg: mpmath.degrees,
    np.power: mpmath.power, np.float_power: mpmath.power, np.hypot: mpmath.hypot, np.arctan2: mpmath.atan2,
    np.divide: lambda x, y: x / y, np.multiply: lambda x, y: x * y,
    np.logaddexp: lambda x, y: mpmath.log(mpmath.exp(x) + mpmath.exp(y)),
    np.logaddexp2: lambda x, y: mpmath.log(2**x + 2**y, 2),
}  # fmt: skip
POINTS = (0.0625, 0.25, 0.90625)
FACTORS = {np.arccosh: 20.0}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ufunc", MPMATH, ids=lambda f: f.__name__)
def test_formula_has_the_accuracy_of_a_double(ufunc, method):
    x = FACTORS.get(ufunc, 1.0) * np.array(POINTS)
    arguments = (x, *([x[::-1] + 0.25] * (ufunc.nin - 1)))
    for i in range(ufunc.nin):
        seeds = [float(i == j) for j in range(ufunc.nin)]
        _, tangent = eager.jvp(ufunc, arguments, seeds, method=method)
        order = tuple(int(i == j) for j in range(ufunc.nin))
        with mpmath.workdps(60):
            exact = [
                float(mpmath.diff(MPMATH[ufunc], tuple(map(mpmath.mpf, p)), order))
                for p in zip(*arguments, strict=True)
            ]
        np.testing.assert_allclose(tangent, exact, rtol=2e-15)


# ---------------------------------------------------------------- kinks


def derivative(fn, *point, by=0, method="auto"):
    """Derivative of `fn` by one argument, forward and reverse, which must be the same."""
    seeds = [float(i == by) for i in range(len(point))]
    arrays = tuple(np.array([p]) for p in point)
    with np.errstate(all="ignore"):
        forward = eager.jvp(fn, arrays, seeds, method=method)[1]
        reverse = eager.vjp(fn, arrays, method=method)[1](1.0)[by]
    np.testing.assert_array_equal(forward, reverse)
    return forward[0]


INF, NAN = np.inf, np.nan
KINKS = [
    (np.absolute, (0.0,), 0, 0.0),
    (np.fabs, (0.0,), 0, 0.0),
    (np.sign, (0.0,), 0, 0.0),
    (np.sqrt, (0.0,), 0, INF),
    (np.cbrt, (0.0,), 0, INF),
    (np.maximum, (1.5, 1.5), 0, 0.5),
    (np.maximum, (1.5, 1.5), 1, 0.5),
    (np.minimum, (1.5, 1.5), 0, 0.5),
    (np.minimum, (1.5, 1.5), 1, 0.5),
    (np.fmax, (1.5, 1.5), 0, 0.5),
    (np.fmax, (1.5, 1.5), 1, 0.5),
    (np.fmin, (1.5, 1.5), 0, 0.5),
    (np.fmin, (1.5, 1.5), 1, 0.5),
    (np.fmax, (NAN, 1.5), 0, 0.0),
    (np.fmax, (NAN, 1.5), 1, 1.0),
    (np.fmin, (1.5, NAN), 0, 1.0),
    (np.maximum, (1.5, NAN), 1, 1.0),
    (np.hypot, (0.0, 0.0), 0, 0.0),
    (np.hypot, (0.0, 0.0), 1, 0.0),
    (np.arctan2, (0.0, 0.0), 0, 0.0),
    (np.arctan2, (0.0, 0.0), 1, 0.0),
    (np.hypot, (3e200, 4e200), 0, 0.6),
    (np.arctan2, (3e200, 4e200), 0, 1.6e-201),
    (np.arctan2, (3e200, 4e200), 1, -1.2e-201),
    (np.power, (0.0, 2.0), 0, 0.0),
    (np.power, (0.0, 1.0), 0, 1.0),
    (np.power, (0.0, 0.0), 0, 0.0),
    (np.power, (0.0, 0.5), 0, INF),
    (np.power, (0.0, 2.0), 1, 0.0),
    (np.power, (-2.0, 3.0), 0, 12.0),
    (np.power, (-2.0, 3.0), 1, NAN),
    (np.logaddexp, (-INF, 1.0), 0, 0.0),
    (np.logaddexp, (-INF, 1.0), 1, 1.0),
    (np.logaddexp, (-INF, -INF), 0, 0.0),
    (np.arcsin, (1.0,), 0, INF),
    (np.arctanh, (1.0,), 0, INF),
    (np.log, (0.0,), 0, INF),
    (np.arctan, (INF,), 0, 0.0),
    (np.tanh, (400.0,), 0, 0.0),
    (np.tanh, (-800.0,), 0, 0.0),
    (np.copysign, (0.0, -1.0), 0, 0.0),
    (np.floor, (1.0,), 0, 0.0),
    (np.ceil, (1.0,), 0, 0.0),
    (np.trunc, (0.0,), 0, 0.0),
    (np.rint, (0.5,), 0, 0.0),
    (np.floor_divide, (4.0, 2.0), 0, 0.0),
    (np.remainder, (5.5, 2.0), 1, -2.0),
    (np.fmod, (1.0, 0.1), 1, -9.0),
    (np.log, (-1.0,), 0, NAN),
    (np.log2, (-1.0,), 0, NAN),
    (np.log1p, (-2.0,), 0, NAN),
    (np.arccosh, (0.5,), 0, NAN),
    (np.arctanh, (2.0,), 0, NAN),
    (np.sqrt, (-1.0,), 0, NAN),
    (np.divide, (1.0, INF), 1, 0.0),
    (np.exp, (-INF,), 0, 0.0),
    (np.arctan2, (1.0, INF), 0, 0.0),
    (np.logaddexp, (1e15, 1e15), 0, 0.5),
    (np.arccosh, (1e200,), 0, 1e-200),
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("ufunc", "point", "by", "expected"), KINKS)
def test_value_at_the_kink(ufunc, point, by, expected, method):
    np.testing.assert_allclose(derivative(ufunc, *point, by=by, method=method), expected, rtol=1e-15)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("x", [-1e4, -800.0, 800.0, 1e4])
def test_sigmoid_is_flat_past_overflow(x, method):
    assert derivative(lambda x: 1 / (1 + np.exp(-x)), x, method=method) == 0.0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("add", [np.logaddexp, np.logaddexp2])
@pytest.mark.parametrize("by", [0, 1])
def test_the_lesser_of_two_logarithms_is_flat_at_minus_infinity(add, by, method):
    """Also to an infinite tangent, while the other argument keeps its own."""

    def both(w):
        lost, kept = -1 / w**2, w
        return add(*((lost, kept) if by == 0 else (kept, lost)))

    with np.errstate(all="ignore"):
        assert derivative(both, 1e-200, method=method) == 1.0


@pytest.mark.parametrize("method", METHODS)
def test_branch_not_taken_never_poisons(method):
    x = ak.Array([[-1.0, 4.0], [0.0]])

    def root_or_zero(x):
        return ak.where(x > 0, np.sqrt(x), 0.0)

    with np.errstate(invalid="ignore"):
        assert eager.jvp(root_or_zero, (x,), method=method)[1].to_list() == [[0.0, 0.25], [0.0]]
        assert eager.vjp(root_or_zero, (x,), method=method)[1](1.0)[0].to_list() == [[0.0, 0.25], [0.0]]


@pytest.mark.parametrize("method", METHODS)
def test_nan_to_num_cuts_what_it_replaces(method):
    x = ak.Array([[-1.0, 4.0]])

    def replaced(x):
        return ak.nan_to_num(np.sqrt(x), nan=7.0)

    with np.errstate(invalid="ignore"):
        assert eager.jvp(replaced, (x,), method=method)[1].to_list() == [[0.0, 0.25]]
        assert eager.vjp(replaced, (x,), method=method)[1](1.0)[0].to_list() == [[0.0, 0.25]]


@pytest.mark.parametrize("method", METHODS)
def test_root_of_a_sum_of_squares_has_no_slope_at_zero(method):
    x = ak.Array([[0.0, 0.0], [0.0, 2.0]])

    def norm(x):
        return np.sqrt(ak.sum(x**2, axis=1))

    assert eager.jvp(norm, (x,), method=method)[1].to_list() == [0.0, 1.0]
    assert eager.vjp(norm, (x,), method=method)[1](1.0)[0].to_list() == [[0.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize("method", METHODS)
def test_an_argument_without_influence_has_none_by_an_infinite_slope(method):
    assert derivative(lambda x: np.copysign(2.0, np.sqrt(x)), 0.0, method=method) == 0.0


@pytest.mark.parametrize(("zero", "slope"), [(0, INF), (0.0, INF), (-0.0, -INF)])
def test_division_by_a_zero_of_python(zero, slope):
    """Which does not divide: a count of nothing."""
    assert derivative(lambda x: x / zero, 1.0) == slope


@pytest.mark.parametrize("number", [float, np.float64], ids=["weak", "strong"])
def test_no_tangent_times_an_infinite_partial_is_zero(number):
    _, tangent = eager.jvp(lambda x: x**0.5, (number(0.0),), (0.0,))
    assert tangent == 0.0
    assert isinstance(tangent, float)


# ---------------------------------------------------------------- no derivative


def test_the_sign_of_complex_numbers_is_refused():
    with pytest.raises(NoRuleError, match=r"sign of complex numbers; write x / abs\(x\)"):
        eager.jvp(np.sign, (np.array([1 + 2j]),))


@pytest.mark.parametrize("ufunc", ufuncs.ZERO, ids=lambda f: f.__name__)
def test_piecewise_constant_away_from_jumps(ufunc):
    x, h = np.array([0.3, 1.3, -2.6]), 2.0**-10
    others = (0.7,) * (ufunc.nin - 1)
    np.testing.assert_array_equal(ufunc(x + h, *others), ufunc(x - h, *others))
    _, tangent = eager.jvp(lambda x: ufunc(x, *others), (x,))
    np.testing.assert_array_equal(tangent, np.zeros(3))


FLOAT_PREDICATES = [
    f for f in ufuncs.NOT_NUMBERS if any(set("fd") & set(loop.split("->")[0]) for loop in f.types)
]


@pytest.mark.parametrize("ufunc", FLOAT_PREDICATES, ids=lambda f: f.__name__)
def test_booleans_have_zero_tangent_of_their_type(ufunc):
    x = np.array([0.3, -2.6])
    value, tangent = eager.jvp(ufunc, (x,) * ufunc.nin)
    np.testing.assert_array_equal(value, ufunc(*(x,) * ufunc.nin))
    assert tangent.dtype == np.bool_
    assert not tangent.any()


@pytest.mark.parametrize("ufunc", ufuncs.NOT_IMPLEMENTED, ids=lambda f: f.__name__)
def test_refused_with_the_reason(ufunc):
    with pytest.raises(NoRuleError, match=f"{ufunc.__name__}.*np.einsum"):
        UFUNCS[ufunc][0].residuals(None, (), {}, (True,), "auto")


def mixed(ufunc, x, y):
    """The second derivative by both arguments, in both orders and both modes."""

    def by(which, at):
        return lambda z: eager.jvp(lambda w: ufunc(w, z) if which == 0 else ufunc(z, w), (at,))[1]

    def pulled(which, at):
        return lambda z: eager.vjp(lambda w: ufunc(w, z) if which == 0 else ufunc(z, w), (at,))[1](1.0)[0]

    for make in (by, pulled):
        yield eager.jvp(make(0, x), (y,))[1]
        yield eager.jvp(make(1, y), (x,))[1]


@pytest.mark.parametrize(
    ("ufunc", "x", "y", "want"),
    [
        # x**y is constant in x at y = 0, but not beside it: 1 / x.
        (np.power, 2.0, 0.0, 0.5),
        (np.float_power, 4.0, 0.0, 0.25),
        (np.power, 0.0, 2.0, 0.0),
        (np.power, 2.0, 3.0, 4 + 12 * np.log(2)),
    ],
)
def test_mixed_second_derivatives(ufunc, x, y, want):
    np.testing.assert_allclose(list(mixed(ufunc, x, y)), want, rtol=1e-14)


def test_a_power_of_nan_that_is_one():
    assert eager.jvp(lambda x: x**0, (np.array([np.nan, 0.0, np.inf]),))[1].tolist() == [0.0, 0.0, 0.0]


def test_zero_times_infinity_in_both_modes():
    """What docs/explain/kinks.md calls the price: the true slope of sqrt(x)**2 at 0 is 1."""
    for fn in (lambda x: np.sqrt(x) ** 2, lambda x: np.square(np.sqrt(x)), lambda x: np.sqrt(x) * np.sqrt(x)):
        for x in (0.0, np.float64(0.0), np.array([0.0])):
            assert np.isnan(eager.jvp(fn, (x,))[1]).all()
            assert np.all(eager.vjp(fn, (x,))[1](1.0)[0] == 0.0)
