"""The complex step is exact to rounding where it is allowed, and steps aside elsewhere."""

import numpy as np
import pytest

from dak_diff import eager
from dak_diff.errors import ComplexStepError, NoRuleError
from dak_diff.rules.complex_step import ALLOWED, complex_step_partial, has_complex_loop
from dak_diff.rules.elementwise import unknown_ufunc
from dak_diff.rules.primitive import UFUNCS
from dak_diff.rules.ufuncs import PARTIALS

POSITIVE = np.array([1e-300, 1e-20, 1e-5, 0.3, 0.9999, 1.0, 1.7, 40.0, 1e5, 1e20, 1e300])
REAL = np.concatenate([-POSITIVE[::-1], [0.0], POSITIVE])
DOMAINS = {
    **dict.fromkeys((np.log, np.log2, np.log10, np.sqrt), POSITIVE),
    np.log1p: REAL[REAL > -1],
    **dict.fromkeys((np.arcsin, np.arccos, np.arctanh), REAL[abs(REAL) < 1]),
    np.arccosh: POSITIVE[POSITIVE > 1],
    np.reciprocal: REAL[REAL != 0],
}


@pytest.fixture(autouse=True)
def _overflow_is_no_error_here():
    with np.errstate(all="ignore"):
        yield


def partial_and_formula(ufunc, args, i):
    out, formula = ufunc(*args), PARTIALS[ufunc][i]
    if not callable(formula):
        return complex_step_partial(ufunc, args, i, out, lambda out, *_: formula), np.full_like(out, formula)
    return complex_step_partial(ufunc, args, i, out, formula), np.broadcast_to(formula(out, *args), out.shape)


@pytest.mark.parametrize("ufunc", [f for f in ALLOWED if f.nin == 1], ids=lambda f: f.__name__)
def test_unary_agrees_with_its_formula(ufunc):
    x = DOMAINS.get(ufunc, REAL)
    partial, formula = partial_and_formula(ufunc, (x,), 0)
    np.testing.assert_allclose(partial, formula, rtol=1e-13)


@pytest.mark.parametrize("i", [0, 1])
@pytest.mark.parametrize("ufunc", [f for f in ALLOWED if f.nin == 2], ids=lambda f: f.__name__)
def test_binary_agrees_with_its_formula(ufunc, i):
    x = np.array([1e-10, 0.3, 1.0, 7.0, 1e10])
    x, y = (a.ravel() for a in np.meshgrid(x, np.array([-3.0, -0.5, 1e-9, 0.5, 2.0, 6.0])))
    partial, formula = partial_and_formula(ufunc, (x, y), i)
    np.testing.assert_allclose(partial, formula, rtol=1e-13)


@pytest.mark.parametrize("ufunc", [f for f in ALLOWED if f.nin == 1], ids=lambda f: f.__name__)
def test_single_precision_agrees_with_its_formula(ufunc):
    x = DOMAINS.get(ufunc, REAL)
    x = x[(abs(x) > 1e-4) & (abs(x) < 80)].astype(np.float32)
    partial, formula = partial_and_formula(ufunc, (x,), 0)
    assert partial.dtype == np.float32
    np.testing.assert_allclose(partial, formula, rtol=2e-5)


OUTSIDE = [
    (np.log, -2.0), (np.log2, -2.0), (np.log10, 0.0), (np.sqrt, -2.0), (np.sqrt, 0.0), (np.log1p, -2.0),
    (np.arcsin, 2.0), (np.arcsin, 1.0), (np.arccos, -1.5), (np.arctanh, 1.0), (np.arctanh, 3.0),
    (np.arccosh, 0.5), (np.arccosh, 1.0), (np.reciprocal, 0.0), (np.sinh, 710.0), (np.cosh, -710.0),
    (np.tanh, 800.0),
]  # fmt: skip


@pytest.mark.parametrize(("ufunc", "point"), OUTSIDE)
def test_formula_serves_outside_the_domain(ufunc, point):
    x = np.array([point, 1.5])
    partial, formula = partial_and_formula(ufunc, (x,), 0)
    assert partial[0] == formula[0] or (np.isnan(partial[0]) and np.isnan(formula[0]))


@pytest.mark.parametrize(
    "ufunc", [f for f in PARTIALS if f not in ALLOWED and f.nout == 1], ids=lambda f: f.__name__
)
def test_ufuncs_that_are_not_allowed_are_never_stepped(ufunc):
    marker = object()
    args = (np.array([0.5]),) * ufunc.nin
    assert complex_step_partial(ufunc, args, 0, np.array([0.5]), lambda out, *_: marker) is marker


@pytest.mark.parametrize("ufunc", ALLOWED, ids=lambda f: f.__name__)
def test_the_step_is_really_taken(ufunc):
    """A wrong formula must not be seen inside the domain, however near to its end."""
    x = DOMAINS.get(ufunc, REAL if ufunc.nin == 1 else POSITIVE)
    args = (x[(abs(x) >= 1e-5) & (abs(x) <= 40)], *([np.float64(1.5)] * (ufunc.nin - 1)))
    partial = complex_step_partial(ufunc, args, 0, ufunc(*args), lambda out, *args: np.full_like(out, np.nan))
    assert np.isfinite(partial).all()


# ---------------------------------------------------------------- ufuncs in no table


class SquareOfSine:
    """Stands for a ufunc with a complex loop that is in no table: `frompyfunc` cannot make one."""

    nin, nout, signature, __name__ = 1, 1, None, "square_of_sine"
    types = ("d->d", "D->D")

    def __call__(self, x):
        return np.sin(x) ** 2


class Discontinued(SquareOfSine):
    __name__ = "absolute_value"

    def __call__(self, x):
        return np.abs(x) + (0.5 if np.iscomplexobj(x) else 0)


def test_unknown_ufunc_with_a_complex_loop_is_stepped():
    f, x = SquareOfSine(), np.array([0.3, 2.0])
    assert has_complex_loop(f)
    np.testing.assert_allclose(complex_step_partial(f, (x,), 0, f(x), None), np.sin(2 * x), rtol=1e-14)


def test_complex_loop_that_is_another_function_is_refused():
    f, x = Discontinued(), np.array([0.3, 2.0])
    with pytest.raises(NoRuleError, match=r"absolute_value.*2 of the points"):
        complex_step_partial(f, (x,), 0, f(x), None)


class Lost(SquareOfSine):
    """The complex loop drops the derivative, as that of ``abs`` does."""

    __name__ = "lost"

    def __init__(self, scale):
        self.scale = scale

    def __call__(self, x):
        return self.scale * np.abs(x)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_complex_loop_that_loses_the_derivative_is_refused(scale):
    f, x = Lost(scale), np.array([0.3, 2.0])
    with pytest.raises(NoRuleError, match=r"lost.*loses the derivative at 2 of the points"):
        complex_step_partial(f, (x,), 0, f(x), None)


def test_unknown_ufunc_at_complex_values_is_refused():
    f, z = SquareOfSine(), np.array([0.3 + 1j])
    with pytest.raises(ComplexStepError, match=r"square_of_sine.*at complex values \(argument 0\)"):
        complex_step_partial(f, (z,), 0, f(z), None)


def test_unknown_ufunc_of_objects_is_refused():
    double = np.frompyfunc(lambda x: 2 * x, 1, 1)
    with pytest.raises(NoRuleError):
        eager.jvp(double, (np.array([1.0, 2.0]),))


@pytest.mark.parametrize("method", ["auto", "dual", "complex-step"])
def test_ufunc_with_neither_formula_nor_complex_loop_is_refused(method, monkeypatch):
    monkeypatch.setitem(UFUNCS, np.cbrt, unknown_ufunc(np.cbrt))
    with pytest.raises(NoRuleError, match="cbrt"):
        eager.jvp(np.cbrt, (np.array([1.0, 2.0]),), method=method)


def test_ufunc_without_formula_needs_the_complex_step(monkeypatch):
    monkeypatch.setitem(UFUNCS, np.sin, unknown_ufunc(np.sin))
    x = np.array([0.3, 2.0])
    np.testing.assert_allclose(eager.jvp(np.sin, (x,))[1], np.cos(x), rtol=1e-15)
    with pytest.raises(NoRuleError, match=r"sin.*method='auto'"):
        eager.jvp(np.sin, (x,), method="dual")
