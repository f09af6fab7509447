"""NumPy's functions on arrays that carry derivatives: what has a rule, and that the rest is refused."""

import awkward as ak
import numpy as np
import pytest

from dak_diff import eager
from dak_diff.errors import NoRuleError

SQUARE = np.array([[4.0, 1.0], [2.0, 3.0]])
FLAT = np.array([1.5, -0.5, 2.5])

UNKNOWN = {
    "linalg.eigvalsh": lambda x: np.linalg.eigvalsh(x),
    "linalg.cholesky": lambda x: np.linalg.cholesky(x),
    "fft": lambda x: np.fft.fft(x),
    "gradient": lambda x: np.gradient(x[0]),
    "histogram": lambda x: np.histogram(x[0]),
    "cov": lambda x: np.cov(x),
    "nanmedian": lambda x: np.nanmedian(x),
    "unique": lambda x: np.unique(x),
    "add.accumulate": lambda x: np.add.accumulate(x),
    "multiply.outer": lambda x: np.multiply.outer(x, x),
    "power with where=": lambda x: np.power(x, 2, where=x > 1),
    "cross": lambda x: np.cross(x, x),
    "partition": lambda x: np.partition(x, 1),
    "i0": lambda x: np.i0(x),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_functions_are_refused(name):
    with pytest.raises(NoRuleError, match="no derivative rule for"):
        eager.jvp(UNKNOWN[name], (SQUARE,))


@pytest.mark.parametrize("function", ["unique", "partition", "vander"])
def test_a_refusal_names_the_function(function):
    arguments = () if function == "unique" else (1,)
    with pytest.raises(NoRuleError, match=f"numpy.{function}"):
        eager.jvp(lambda x: getattr(np, function)(x, *arguments), (FLAT,))


KNOWN = {
    "sum": lambda x: np.sum(x, axis=0),
    "sum keepdims": lambda x: np.sum(x, axis=1, keepdims=True),
    "sum over two axes": lambda x: np.sum(x, axis=(0, 1)),
    "prod": lambda x: np.prod(x, axis=1),
    "mean": lambda x: np.mean(x, axis=-1),
    "max": lambda x: np.max(x, axis=0),
    "min": lambda x: np.min(x),
    "concatenate": lambda x: np.concatenate([x, 2 * x], axis=1),
    "stack": lambda x: np.stack([x, 2 * x]),
    "stack on axis 1": lambda x: np.stack([x, 2 * x], axis=1),
    "stack on the last axis": lambda x: np.stack([x, 2 * x], axis=-1),
    "expand_dims": lambda x: np.expand_dims(x, 1),
    "squeeze": lambda x: np.squeeze(x[:1], 0),
    "flip": lambda x: np.flip(x, axis=0),
    "flip of everything": lambda x: np.flip(x),
    "repeat": lambda x: np.repeat(x, 2),
    "repeat rows": lambda x: np.repeat(x, [1, 2], axis=0),
    "take": lambda x: np.take(x, [0, 0, 3]),
    "take columns": lambda x: np.take(x, [0, 0], axis=1),
    "sort": lambda x: np.sort(x),
    "sort axis=0": lambda x: np.sort(x, axis=0),
    "cumsum": lambda x: np.cumsum(x),
    "cumsum axis=1": lambda x: np.cumsum(x, axis=1),
    "diff": lambda x: np.diff(x),
    "diff twice": lambda x: np.diff(x.ravel(), n=2),
    "transpose": lambda x: np.transpose(x),
    "reshape": lambda x: np.reshape(x, (4,)),
    "ravel": lambda x: np.ravel(x),
    "broadcast_to": lambda x: np.broadcast_to(x, (3, 2, 2)),
    "clip": lambda x: np.clip(x, 1.5, 3.5),
    "where": lambda x: np.where(x > 1.5, x, 0),
    "nan_to_num": lambda x: np.nan_to_num(x),
    "array times": lambda x: SQUARE[0] * x,
    "add.reduce": lambda x: np.add.reduce(x),
    "maximum.reduce": lambda x: np.maximum.reduce(x, axis=1),
}


@pytest.mark.parametrize("name", KNOWN)
def test_numpy_functions_are_numpys(name):
    """Each function is linear, or a product of rows, near SQUARE: differences with a small step are exact."""
    fn, h = KNOWN[name], 2.0**-10
    direction = np.array([[1.0, -0.5], [0.25, 2.0]])
    value, tangent = eager.jvp(fn, (SQUARE,), direction)
    np.testing.assert_array_equal(value, fn(SQUARE))
    difference = (fn(SQUARE + h * direction) - fn(SQUARE - h * direction)) / (2 * h)
    np.testing.assert_array_equal(tangent, difference)
    _, pull = eager.vjp(fn, (SQUARE,))
    weights = np.arange(1.0, 1.0 + np.size(value)).reshape(np.shape(value))
    assert np.sum(pull(weights)[0] * direction) == np.sum(weights * tangent)


def test_square_root_of_a_sum_times_the_array_by_hand():
    """d/dt sqrt(s) x with s = 16, s_dot = 3: x_dot sqrt(s) + x s_dot / (2 sqrt(s))."""
    x = ak.Array([[4.0, 8.0], [4.0]])
    for fn in (lambda x: np.sqrt(ak.sum(x)) * x, lambda x: x * np.sqrt(ak.sum(x))):
        value, tangent = eager.jvp(fn, (x,))
        assert value.to_list() == [[16.0, 32.0], [16.0]]
        assert tangent.to_list() == [[5.5, 7.0], [5.5]]
        (cotangent,) = eager.vjp(fn, (x,))[1](1.0)
        assert cotangent.to_list() == [[6.0, 6.0], [6.0]]


def test_reduced_number_in_where_by_hand():
    x = ak.Array([[4.0, 8.0], [5.0]])
    value, tangent = eager.jvp(lambda x: ak.where(x > 4.5, ak.sum(x), 0), (x,))
    assert value.to_list() == [[0.0, 17.0], [17.0]]
    assert tangent.to_list() == [[0.0, 3.0], [3.0]]
    (cotangent,) = eager.vjp(lambda x: ak.where(x > 4.5, ak.sum(x), 0), (x,))[1](1.0)
    assert cotangent.to_list() == [[2.0, 2.0], [2.0]]


def test_number_of_a_number():
    x = ak.Array([[4.0, 8.0], [4.0]])
    value, tangent = eager.jvp(lambda x: np.hypot(ak.sum(x), 12.0) + ak.max(x) ** 2, (x,))
    assert value == 84.0
    assert tangent == pytest.approx(0.8 * 3 + 16, rel=1e-15)
