"""Linear maps of flat arrays and their transposes."""

import numpy as np
import pytest

from dak_diff.errors import NoRuleError
from dak_diff.rules import structure

RNG = np.random.default_rng(7)

KEYS = {
    "duplicates": (np.array([2, 0, 2, 2]), (4,)),
    "negative": (np.array([-1, 0, 3, -4]), (4,)),
    "none": (np.array([], dtype=np.int64), (4,)),
    "unsigned": (np.array([1, 1], dtype=np.uint8), (4,)),
    "int8 beyond its range": (np.array([100, 100, 3], dtype=np.int8), (300,)),
    "mask": (np.array([True, False, True, False]), (4,)),
    "slice": (slice(None, None, -2), (5,)),
    "number": (2, (4,)),
    "new axis": ((slice(None), None), (4,)),
    "two dimensions": ((np.array([0, 1, 0]), np.array([2, 2, 2])), (2, 3)),
    "rows": (np.array([1, 1, 0]), (2, 3)),
    "columns": ((slice(None), np.array([0, 0])), (2, 3)),
    "table of positions": (np.array([[0, 1], [1, 1]]), (3,)),
    "mask and column": ((np.array([True, False, True]), 1), (3, 2)),
    "two-dimensional mask": (np.array([[True, False, True], [False, True, True]]), (2, 3)),
    "list": ([0, 0, 1], (3,)),
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.complex128])
@pytest.mark.parametrize("name", KEYS)
def test_scatter_add_against_numpy(name, dtype):
    key, shape = KEYS[name]
    x = (RNG.integers(-8, 8, np.zeros(shape)[key].shape) / 8).astype(dtype)
    x = x * (1 + 2j) if dtype == np.complex128 else x
    expected = np.zeros(shape, dtype=dtype)
    np.add.at(expected, key, x)
    got = structure.scatter_add(x, key=key, shape=shape)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, expected)


X = RNG.integers(-8, 8, (2, 3)) / 8
LINEAR = {
    "reshape": (structure.reshape, X, {"shape": (3, 2)}),
    "transpose": (structure.transpose, RNG.integers(-8, 8, (2, 3, 4)) / 8, {"axes": (2, 0, 1)}),
    "broadcast_to": (structure.broadcast_to, X[:, :1], {"shape": (4, 2, 3)}),
    "sum_to_shape": (structure.sum_to_shape, RNG.integers(-8, 8, (4, 2, 3)) / 8, {"shape": (2, 1)}),
    "astype": (structure.astype, X, {"dtype": np.dtype(np.float32)}),
    "contiguous": (structure.contiguous, X.T, {}),
    "cumsum axis=0": (structure.cumsum, X, {"axis": 0}),
    "cumsum axis=-1": (structure.cumsum, X, {"axis": -1}),
    "real": (structure.real, X * (1 - 2j), {}),
    "imag": (structure.imag, X * (1 - 2j), {}),
    "index": (structure.index, X, {"key": (np.array([0, 1, 0]), np.array([2, 2, 2]))}),
    "scatter_add": (structure.scatter_add, X[0], {"key": np.array([1, 1, 3]), "shape": (5,)}),
}


@pytest.mark.parametrize("name", LINEAR)
def test_transposes(name):
    """<w, f(x)> = <f^T(w), x>, exactly: all numbers are short binary fractions."""
    primitive, x, params = LINEAR[name]
    out = primitive(x, **params)
    w = (RNG.integers(-8, 8, out.shape) / 8).astype(out.dtype)
    residuals = primitive.residuals(out, (x,), params, (True,), "auto")
    (back,) = primitive.pull(residuals, w, (True,))
    assert back.shape == x.shape
    assert np.vdot(w, out).real == np.vdot(back, x).real
    np.testing.assert_array_equal(primitive.push(residuals, (x,)), out)


def test_transpose_of_concatenate_cuts():
    parts = (X, X[:, :1], X[:, 1:])
    out = structure.concatenate(*parts, axis=1)
    residuals = structure.concatenate.residuals(out, parts, {"axis": 1}, (True, False, True), "auto")
    w = RNG.integers(-8, 8, out.shape) / 8
    first, second, third = structure.concatenate.pull(residuals, w, (True, False, True))
    np.testing.assert_array_equal(first, w[:, :3])
    assert second is None
    np.testing.assert_array_equal(third, w[:, 4:])
    zeros = np.zeros_like(X[:, :1])
    np.testing.assert_array_equal(
        structure.concatenate.push(residuals, (X, None, X[:, 1:])),
        np.concatenate([X, zeros, X[:, 1:]], axis=1),
    )


def test_where_sends_each_cotangent_to_the_branch_taken():
    condition, w = np.array([True, False, True]), np.array([1.0, 2.0, 4.0])
    args = (condition, np.full(3, np.nan), np.zeros(3))
    residuals = structure.where.residuals(None, args, {}, (False, True, True), "auto")
    _, x_bar, z_bar = structure.where.pull(residuals, w, (False, True, True))
    np.testing.assert_array_equal(x_bar, [1.0, 0.0, 4.0])
    np.testing.assert_array_equal(z_bar, [0.0, 2.0, 0.0])


def test_nan_to_num_follows_the_value_taken():
    x = np.array([1.0, np.nan, np.inf, -np.inf])
    np.testing.assert_array_equal(
        structure.nan_to_num(x, 2.0, 3.0, 4.0), np.nan_to_num(x, nan=2.0, posinf=3.0, neginf=4.0)
    )
    np.testing.assert_array_equal(structure.nan_to_num(x), np.nan_to_num(x))


def test_cast_from_complex_to_real_is_refused():
    with pytest.raises(NoRuleError, match=r"complex128 to float64.*ak\.real"):
        structure.astype.residuals(None, (X * 1j,), {"dtype": np.dtype(np.float64)}, (True,), "auto")
