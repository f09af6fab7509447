"""Reducers by hand: products with zeros, ties, empty segments, initial values."""

import awkward as ak
import numpy as np
import pytest
from helpers import METHODS

from dak_diff import eager

PRODUCTS = [
    ([2.0, 3.0, 5.0], [15.0, 10.0, 6.0]),
    ([2.0, 0.0, 5.0], [0.0, 10.0, 0.0]),
    ([0.0, 3.0, 0.0], [0.0, 0.0, 0.0]),
    ([0.0, 0.0], [0.0, 0.0]),
    ([0.0], [1.0]),
    ([-2.0], [1.0]),
    ([], []),
]


def gradient(fn, x, method="auto"):
    """The vjp of ones; the jvp of ones must be its sum."""
    _, pull = eager.vjp(fn, (x,), method=method)
    (cotangent,) = pull(1.0)
    _, tangent = eager.jvp(fn, (x,), method=method)
    total = ak.sum(tangent) if isinstance(tangent, ak.Array) else tangent
    np.testing.assert_array_equal(total, ak.sum(cotangent))
    return cotangent.to_list()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("x", "expected"), PRODUCTS)
def test_prod_with_zeros(x, expected, method):
    rows = ak.enforce_type(ak.Array([x, [7.0], x]), "var * float64")
    assert gradient(lambda x: ak.prod(x, axis=-1), rows, method) == [expected, [1.0], expected]


def test_prod_of_everything_with_zeros():
    for count, expected in {0: [12.0, 8.0, 6.0], 1: [0.0, 8.0, 0.0], 2: [0.0, 0.0, 0.0]}.items():
        x = ak.Array(
            [[2.0, 3.0], [4.0]] if count == 0 else [[2.0, 0.0], [4.0]] if count == 1 else [[0.0, 0.0], [4.0]]
        )
        assert ak.flatten(ak.Array(gradient(ak.prod, x))).to_list() == expected


def test_prod_of_a_long_list():
    x = ak.Array([np.full(1000, 1.001), np.full(3, 2.0)])
    got = gradient(lambda x: ak.prod(x, axis=-1), x)
    np.testing.assert_allclose(got[0], 1.001**999, rtol=1e-12)
    assert got[1] == [4.0, 4.0, 4.0]


TIES = ak.Array([[1.0, 3.0, 3.0, 1.0], [2.0], [], [5.0, 5.0]])
FIRST_MAX = [[0.0, 1.0, 0.0, 0.0], [1.0], [], [1.0, 0.0]]
FIRST_MIN = [[1.0, 0.0, 0.0, 0.0], [1.0], [], [1.0, 0.0]]


@pytest.mark.parametrize(
    ("reduce", "pick", "expected"), [(ak.max, ak.argmax, FIRST_MAX), (ak.min, ak.argmin, FIRST_MIN)]
)
def test_ties_go_to_the_element_that_arg_picks(reduce, pick, expected):
    assert gradient(lambda x: reduce(x, axis=-1), TIES) == expected
    assert gradient(lambda x: x[pick(x, axis=-1, keepdims=True)], TIES) == expected


def test_nan_is_passed_over_where_the_value_passes_it_over():
    x = ak.Array([[1.0, np.nan, 3.0, np.nan]])
    assert ak.max(x, axis=-1).to_list() == [3.0]
    for reduce in (ak.max, ak.nanmax):
        assert gradient(lambda x, f=reduce: f(x, axis=-1), x) == [[0.0, 0.0, 1.0, 0.0]]


@pytest.mark.parametrize(
    ("initial", "expected"),
    [(9.0, [[0.0, 0.0], [], [0.0]]), (2.5, [[0.0, 1.0], [], [0.0]]), (0.0, [[0.0, 1.0], [], [1.0]])],
)
def test_initial_value_has_no_derivative(initial, expected):
    x = ak.Array([[1.0, 3.0], [], [2.0]])
    assert gradient(lambda x: ak.max(x, axis=-1, initial=initial, mask_identity=False), x) == expected


def test_empty_arrays():
    x = ak.enforce_type(ak.Array([[], []]), "var * float64")
    for reduce in (ak.sum, ak.prod, ak.max, ak.min):
        assert gradient(lambda x, f=reduce: f(x, axis=-1), x) == [[], []]
    assert gradient(ak.sum, x) == [[], []]


@pytest.mark.parametrize("method", METHODS)
def test_std_of_one_element_is_constant(method):
    x = ak.Array([[2.0, 4.0], [4.0]])
    assert gradient(lambda x: ak.std(x, axis=-1), x, method) == [[-0.5, 0.5], [0.0]]


@pytest.mark.parametrize("method", METHODS)
def test_spread_of_equal_elements_by_hand(method):
    x = ak.Array([[2.0, 4.0], [4.0, 2.0]])
    assert gradient(lambda x: ak.var(x, axis=-1), x, method) == [[-1.0, 1.0], [1.0, -1.0]]
    assert gradient(lambda x: ak.std(x, axis=-1), x, method) == [[-0.5, 0.5], [0.5, -0.5]]
    assert gradient(lambda x: ak.mean(x, axis=-1), x, method) == [[0.5, 0.5], [0.5, 0.5]]
    assert gradient(lambda x: ak.ptp(x, axis=-1), x, method) == [[-1.0, 1.0], [1.0, -1.0]]


def test_sum_of_single_precision_stays_single():
    x = ak.values_astype(ak.Array([[1.0, 2.0], [3.0]]), np.float32)
    value, tangent = eager.jvp(lambda x: ak.sum(x, axis=-1), (x,))
    assert str(tangent.type) == str(value.type) == "2 * float32"


@pytest.mark.parametrize("method", METHODS)
def test_std_of_equal_elements_has_no_slope(method):
    x = ak.Array([[2.0, 2.0, 2.0], [1.0]])
    assert gradient(lambda x: ak.std(x, axis=-1), x, method) == [[0.0, 0.0, 0.0], [0.0]]
    assert eager.jvp(
        lambda x: ak.std(x, axis=-1), (x,), (ak.Array([[1.0, 0.0, 0.0], [1.0]]),), method=method
    )[1].to_list() == [0.0, 0.0]


def test_a_cast_to_integers_cuts():
    x = ak.Array([[1.5, 2.5], [3.5]])
    assert gradient(lambda x: ak.values_astype(ak.values_astype(x, "int64"), "float64") * x, x, "auto") == [
        [1.0, 2.0],
        [3.0],
    ]
