"""The checks themselves: each must fail for a rule that is wrong in the way it looks for."""

import awkward as ak
import checks
import numpy as np
import pytest
from cases import Case

from dak_diff import eager
from dak_diff.rules import reducers, structure
from dak_diff.rules.elementwise import Elementwise
from dak_diff.rules.primitive import UFUNCS

JAGGED = ak.Array([[1.125, -2.25, 3.5], [], [0.375], [-0.625, 2.75]])
SINE = Case("sin", np.sin, (JAGGED,))
SUM = Case("sum", lambda x: ak.sum(x, axis=-1), (JAGGED,), exact=True)
TAKE = Case("x[[0, 0, 2]]", lambda x: x[[0, 0, 2]], (JAGGED,), exact=True)


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def fails(check, *args):
    with pytest.raises(AssertionError):
        check(*args)


def every_check(case, rng):
    checks.check_primal(case, "auto")
    checks.check_jvp(case, "auto", rng)
    checks.check_methods_agree(case, rng)
    checks.check_linear_in_seed(case, "auto", rng)
    checks.check_dot(case, "auto", rng)
    checks.check_structure(case, "auto", rng)


@pytest.mark.parametrize("case", [SINE, SUM, TAKE], ids=str)
def test_right_rules_pass(case, rng):
    every_check(case, rng)


def sine_with(monkeypatch, partial):
    monkeypatch.setitem(UFUNCS, np.sin, (Elementwise(np.sin, (partial,)),))


def test_partial_wrong_by_a_thousandth(monkeypatch, rng):
    sine_with(monkeypatch, lambda out, x: np.cos(x) * 1.001)
    fails(checks.check_jvp, SINE, "auto", rng)
    fails(checks.check_methods_agree, SINE, rng)
    checks.check_dot(SINE, "auto", rng)


def test_partial_wrong_at_one_element(monkeypatch, rng):
    sine_with(monkeypatch, lambda out, x: np.where(x == 3.5, 0.0, np.cos(x)))
    fails(checks.check_jvp, SINE, "auto", rng)


def test_wrong_only_in_reverse(monkeypatch, rng):
    right = reducers.Sum.pull

    def pull(self, residuals, cotangent, active):
        return right(self, residuals, cotangent * 1.001, active)

    monkeypatch.setattr(reducers.Sum, "pull", pull)
    checks.check_jvp(SUM, "auto", rng)
    fails(checks.check_dot, SUM, "auto", rng)


def test_wrong_only_forward(monkeypatch, rng):
    right = reducers.Sum.push
    monkeypatch.setattr(
        reducers.Sum, "push", lambda self, residuals, tangents: right(self, residuals, tangents) * 1.001
    )
    fails(checks.check_jvp, SUM, "auto", rng)
    fails(checks.check_dot, SUM, "auto", rng)


def test_scatter_that_drops_a_duplicate(monkeypatch, rng):
    def assign(self, x, *, key, shape):
        out = np.zeros(shape, dtype=x.dtype)
        out[key] = x
        return out

    monkeypatch.setattr(type(structure.scatter_add), "impl", assign)
    checks.check_jvp(TAKE, "auto", rng)
    fails(checks.check_dot, TAKE, "auto", rng)


def test_value_off_by_one_bit(monkeypatch):
    primitive = Elementwise(np.sin, (lambda out, x: np.cos(x),))
    monkeypatch.setattr(primitive, "impl", lambda x, call=None: np.nextafter(np.sin(x), 2.0))
    monkeypatch.setitem(UFUNCS, np.sin, (primitive,))
    fails(checks.check_primal, SINE, "auto")


def test_tangent_that_is_not_linear_in_the_seed(monkeypatch, rng):
    right = reducers.Sum.push
    monkeypatch.setattr(
        reducers.Sum, "push", lambda self, residuals, tangents: abs(right(self, residuals, tangents))
    )
    fails(checks.check_linear_in_seed, SUM, "auto", rng)


def test_tangent_of_another_dtype(monkeypatch, rng):
    right = eager.jvp

    def jvp(*args, **kwargs):
        value, tangent = right(*args, **kwargs)
        return value, ak.values_astype(tangent, np.float32)

    monkeypatch.setattr(checks.eager, "jvp", jvp)
    fails(checks.check_structure, SINE, "auto", rng)


def test_tolerance_is_kept():
    checks.assert_close([1.0, 2.0], [1.0, 2.0 + 1e-9], 1e-9, "numbers")
    fails(checks.assert_close, [1.0, 2.0], [1.0, 2.0 + 1e-9], 1e-10, "numbers")


def test_nan_agrees_with_nan_only():
    checks.assert_close([np.nan, 1.0], [np.nan, 1.0], 0.0, "same")
    fails(checks.assert_close, [np.nan, 1.0], [0.0, 1.0], 1.0, "nan for zero")
    fails(checks.assert_close, [np.inf, 1.0], [-np.inf, 1.0], 1.0, "signs of infinity")


def test_numbers_see_every_leaf():
    value = ak.Array([{"x": 1.5, "n": 2, "tag": "b", "list": [None, 2.5]}])
    assert checks.numbers(value) == [1.5, 2, 2.5]
    assert checks.skeleton(value) == [{"x": 0, "n": 0, "tag": "b", "list": [None, 0]}]
