"""Every generic check on every row of the table in `cases.py`."""

from collections import Counter

import checks
import numpy as np
import pytest
from cases import BINARY, CASES, UNARY
from helpers import METHODS

from dak_diff import eager
from dak_diff.rules.ufuncs import PARTIALS

every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_method = pytest.mark.parametrize("method", METHODS)


@pytest.fixture
def rng():
    return np.random.default_rng(20240607)


def test_names_are_unique():
    repeated = [name for name, n in Counter(case.name for case in CASES).items() if n > 1]
    assert repeated == []


def test_every_ufunc_with_a_formula_has_a_row():
    """If this fails: add the ufunc to UNARY or BINARY in cases.py, with its domain."""
    assert {*UNARY, *BINARY, np.ldexp} == set(PARTIALS)


@every_case
@every_method
def test_value_is_the_plain_one_bit_for_bit(case, method):
    checks.check_primal(case, method)


@every_case
@every_method
def test_jvp_against_differences(case, method, rng):
    checks.check_jvp(case, method, rng)


@every_case
def test_methods_agree(case, rng):
    checks.check_methods_agree(case, rng)


@every_case
def test_linear_in_the_seed(case, rng):
    checks.check_linear_in_seed(case, "auto", rng)


@every_case
@every_method
def test_forward_and_reverse_are_transposes(case, method, rng):
    checks.check_dot(case, method, rng)


@pytest.mark.parametrize("case", [case for case in CASES if not case.once], ids=str)
def test_second_order(case, rng):
    checks.check_second_order(case, rng)


@every_case
def test_derivatives_have_the_structure_of_their_primals(case, rng):
    checks.check_structure(case, "auto", rng)


@every_case
@every_method
def test_single_precision_is_kept(case, method, rng):
    inputs = checks.single_precision(case.inputs)
    checks.check_structure(case, method, rng, inputs)


@every_case
@pytest.mark.parametrize("length", [0, 1])
def test_short_inputs(case, length, rng):
    checks.check_short(case, length, "auto", rng)


EDGES = {
    "sqrt at 0": (np.sqrt, 0.0),
    "log at 0": (np.log, 0.0),
    "log below 0": (np.log, -1.0),
    "1 / 0": (lambda x: 1 / x, 0.0),
    "arcsin at 1": (np.arcsin, 1.0),
    "exp past overflow": (np.exp, 1000.0),
    "arctanh at 1": (np.arctanh, 1.0),
    "power at 0": (lambda x: x**0.5, 0.0),
    "x / abs(x) at 0": (lambda x: x / abs(x), 0.0),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), -1000.0),
}


@pytest.mark.parametrize("name", EDGES)
@every_method
def test_no_warnings_beyond_those_of_the_value(name, method):
    fn, point = EDGES[name]
    x = np.array([point])
    _, expected = checks.outcome(lambda: fn(x))
    _, forward = checks.outcome(lambda: eager.jvp(fn, (x,), method=method))
    _, reverse = checks.outcome(lambda: eager.vjp(fn, (x,), method=method)[1](1.0))
    assert forward == expected
    assert reverse == expected
