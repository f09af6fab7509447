"""Functions of NumPy that are made of others: values are NumPy's own, derivatives agree with differences."""

import math

import numpy as np
import pytest
import stand_in

from dak_diff import eager, stop_gradient
from dak_diff.errors import NoRuleError

RNG = np.random.default_rng(4)
SQUARE = RNG.normal(size=(3, 3))
FLAT = RNG.normal(size=5)
MATRIX = RNG.normal(size=(3, 3))
NAN = np.where([True, False, True, False, True], FLAT, np.nan)
NODES, TABLE = np.array([-2.0, -0.5, 0.1, 0.8, 2.5]), np.array([1.0, 3.0, 2.0, -1.0, 0.5])


def positive(x):
    return x @ x.T + np.eye(3)


SQUARES = {
    "var": lambda x: np.var(x),
    "var axis ddof": lambda x: np.var(x, axis=0, ddof=1, keepdims=True),
    "var method": lambda x: x.var(axis=1),
    "std": lambda x: np.std(x, axis=(0, 1)),
    "average": lambda x: np.average(x, axis=0),
    "average weighted": lambda x: np.average(x, weights=x**2 + 1),
    "average weighted rows": lambda x: np.average(x, axis=-1, weights=np.array([1.0, 2.0, 4.0])),
    "inv": lambda x: np.linalg.inv(positive(x)),
    "inv of a stack": lambda x: np.linalg.inv(np.stack([positive(x), positive(2 * x)])),
    "solve": lambda x: np.linalg.solve(positive(x), MATRIX * x),
    "solve for a vector": lambda x: np.linalg.solve(positive(x), x[0]),
    "solve for a constant": lambda x: np.linalg.solve(positive(x), MATRIX),
    "det": lambda x: np.linalg.det(x),
    "slogdet": lambda x: np.linalg.slogdet(np.stack([x, -positive(x)])).logabsdet,
    "ptp": lambda x: np.ptp(x, axis=1),
    "median": lambda x: np.median(x),
    "median of rows": lambda x: np.median(x[:, :2], axis=1, keepdims=True),
    "quantile": lambda x: np.quantile(x, [[0.0, 0.3], [0.5, 1.0]], axis=0),
    "percentile": lambda x: np.percentile(x, 37),
    "cumprod": lambda x: np.cumprod(x, axis=1),
    "cumprod with zeros": lambda x: np.cumprod(np.where(x == x[1, 1], 0.0, x)),
    "convolve": lambda x: np.convolve(x[0], np.concatenate([x[1], x[2]])),
    "convolve, same": lambda x: np.convolve(x.ravel(), x[0], "same"),
    "convolve, valid": lambda x: np.convolve(x[0], x.ravel(), mode="valid"),
    "norm": lambda x: np.linalg.norm(x),
    "norm of rows": lambda x: np.linalg.norm(x, axis=1),
    "dot": lambda x: np.dot(x, x),
    "dot with a vector": lambda x: np.dot(x, x[0]),
    "dot of vectors": lambda x: np.dot(x[0], x[1]),
    "dot with a number": lambda x: np.dot(x, x[0, 0]),
    "dot of more axes": lambda x: np.dot(np.stack([x, 2 * x]), np.stack([x, x**2])),
    "inner": lambda x: np.inner(x, MATRIX * x),
    "outer": lambda x: np.outer(x, x[0]),
    "vdot": lambda x: np.vdot(x, MATRIX),
    "matmul": lambda x: x @ MATRIX @ x,
    "matmul from the left": lambda x: MATRIX @ x,
    "chi square": lambda x: x[0] @ MATRIX @ x[0],
    "matmul of stacks": lambda x: np.matmul(np.stack([x, x**2])[:, None], np.stack([MATRIX, x])),
    "matmul of a stack and a vector": lambda x: np.matmul(np.stack([x, x**2]), x[0]),
    "tensordot": lambda x: np.tensordot(x, x, axes=2),
    "tensordot of axes": lambda x: np.tensordot(x, MATRIX, axes=([0, 1], [1, 0])),
    "tensordot of no axes": lambda x: np.tensordot(x[0], x[1], axes=0),
    "einsum": lambda x: np.einsum("ij,jk,ki->", x, MATRIX, x),
    "einsum that sums one alone": lambda x: np.einsum("ij,k->k", x, x[0]),
    "einsum of a diagonal": lambda x: np.einsum("ii,ij->j", x, x),
    "einsum without result": lambda x: np.einsum("ij,jk", x, x),
    "trace": lambda x: np.trace(x, 1),
    "roll": lambda x: np.roll(x, (1, 2), axis=(0, 1)),
    "tile": lambda x: np.tile(x, (2, 1)),
    "swapaxes": lambda x: np.swapaxes(x, 0, 1),
    "moveaxis": lambda x: np.moveaxis(np.stack([x, x**2]), 0, -1),
    "diag": lambda x: np.diag(x[0]),
    "diagonal": lambda x: np.diagonal(x, 1),
    "triu": lambda x: np.triu(x),
    "tril": lambda x: np.tril(x, -1),
    "atleast_2d": lambda x: np.atleast_2d(x[0]),
    "rot90": lambda x: np.rot90(x),
    "delete": lambda x: np.delete(x, 1, axis=0),
    "split": lambda x: np.split(x**2, 3)[1],
    "hstack": lambda x: np.hstack([x, MATRIX, x**2]),
    "vstack": lambda x: np.vstack((x, x[0], [1, 2, 3])),
    "hstack of rows": lambda x: np.hstack(x),
    "column_stack": lambda x: np.column_stack([x[0], x[1] ** 2]),
    "append": lambda x: np.append(x, [[1.0, 2.0, 3.0]], axis=0),
    "trapezoid": lambda x: np.trapezoid(x, dx=0.5, axis=0),
    "trapezoid over x": lambda x: np.trapezoid(x[0], np.cumsum(x[1] ** 2)),
    "flatten": lambda x: x.flatten(),
    "transpose": lambda x: x.transpose(1, 0),
    "select": lambda x: np.select([x > 1, x > 0], [x**2, 3 * x], default=np.sin(x)),
    "interp by nodes": lambda x: np.interp(0.3, np.cumsum(x[0] ** 2 + 0.1), x[1]),
}
FLATS = {
    "interp": lambda x: np.interp(x, NODES, TABLE),
    "interp, ends": lambda x: np.interp(x, [-0.2, 0.2], [0.0, 1.0], left=-1.0, right=x[0]),
    "interp of a table": lambda x: np.interp([-3.0, -1.0, 0.2, 0.8, 9.0], NODES, x),
    "bincount": lambda x: np.bincount([0, 3, 0, 1, 3], weights=x, minlength=6),
    "clip by name": lambda x: x.clip(min=-0.5, max=0.4),
    "cumsum": lambda x: x.cumsum(),
    "take": lambda x: x.take([0, 0, 3]),
    "dot": lambda x: x.dot(x),
}
CASES = [
    *((name, fn, SQUARE) for name, fn in SQUARES.items()),
    *((f"{name}, flat", fn, FLAT) for name, fn in FLATS.items()),
    ("nansum", lambda x: np.nansum(x), NAN),
    ("nanmean", lambda x: np.nanmean(x**2), NAN),
    ("nanvar", lambda x: np.nanvar(x, ddof=1), NAN),
    ("nanstd", lambda x: np.nanstd(x), NAN),
    ("nanmax", lambda x: np.nanmax(x**2), NAN),
    ("nanmin", lambda x: np.nanmin(x**2), NAN),
]
every_case = pytest.mark.parametrize(("fn", "x"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])


@every_case
def test_value_and_derivatives(fn, x):
    direction, h = RNG.normal(size=x.shape), 1e-6
    value, tangent = eager.jvp(fn, (x,), direction)
    np.testing.assert_array_equal(value, fn(x))
    difference = (fn(x + h * direction) - fn(x - h * direction)) / (2 * h)
    np.testing.assert_allclose(tangent, difference, rtol=1e-7, atol=1e-8)
    weights = RNG.normal(size=np.shape(value))
    (cotangent,) = eager.vjp(fn, (x,))[1](weights)
    assert np.nansum(cotangent * direction) == pytest.approx(np.sum(weights * tangent), rel=1e-12, abs=1e-13)


@every_case
def test_second_derivatives(fn, x):
    v, h = RNG.normal(size=x.shape), 1e-6

    def gradient(x):
        return eager.grad(lambda x: np.sum(fn(x) ** 2))(x)

    _, curvature = eager.jvp(gradient, (x,), v)
    difference = (gradient(x + h * v) - gradient(x - h * v)) / (2 * h)
    np.testing.assert_allclose(curvature, difference, rtol=1e-6, atol=1e-6)


#: They mix in lists and arrays of the host; the stand-in has no linalg.
ON_THE_HOST = {"vstack", "append", "average weighted rows", "norm", "norm of rows", "det", "slogdet"} | {
    name for name in SQUARES if name.startswith(("inv", "solve"))
}


@pytest.mark.parametrize("name", sorted(SQUARES.keys() - ON_THE_HOST))
def test_on_the_stand_in(name):
    fn = SQUARES[name]
    there = stand_in.asarray(SQUARE)
    constants = {"MATRIX": stand_in.asarray(MATRIX)}
    moved = type(fn)(fn.__code__, {**fn.__globals__, **constants})
    _, tangent = eager.jvp(moved, (there,), there)
    np.testing.assert_allclose(stand_in.to_host(tangent), eager.jvp(fn, (SQUARE,), SQUARE)[1], rtol=1e-13)
    (cotangent,) = eager.vjp(moved, (there,))[1](1.0)
    np.testing.assert_allclose(
        stand_in.to_host(cotangent), eager.vjp(fn, (SQUARE,))[1](1.0)[0], rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("subscripts", ["ij,jk->ik", "i,i->", "ij,ij->j", "i,j->ij", "ij,k->k"])
def test_products_of_complex_numbers(subscripts):
    """The real inner product: Re <w, J v> = Re <J^H w, v>."""
    shapes = [(3,) * len(label) for label in subscripts.split("->")[0].split(",")]
    a, b, v, w = (RNG.normal(size=s) + 1j * RNG.normal(size=s) for s in (*shapes, *shapes))
    value, tangent = eager.jvp(lambda a, b: np.einsum(subscripts, a, b), (a, b), (v, w))
    expected = np.einsum(subscripts, v, b) + np.einsum(subscripts, a, w)
    np.testing.assert_allclose(tangent, expected, rtol=1e-13)
    weights = RNG.normal(size=value.shape) + 1j * RNG.normal(size=value.shape)
    a_bar, b_bar = eager.vjp(lambda a, b: np.einsum(subscripts, a, b), (a, b))[1](weights)
    pulled = np.vdot(a_bar, v) + np.vdot(b_bar, w)
    assert pulled.real == pytest.approx(np.vdot(weights, tangent).real, rel=1e-12)


def test_values_are_numpys_in_half_precision():
    x = np.full(1000, 1000.0, dtype=np.float16)
    assert eager.jvp(np.mean, (x,))[0] == np.mean(x) == 1000


def test_joined_arrays_have_the_type_that_is_asked_for():
    value, tangent = eager.jvp(lambda x: np.concatenate([x, x], dtype=np.float32), (FLAT,))
    assert value.dtype == tangent.dtype == np.float32


def test_chi_square_by_hand():
    """d (r^T C r) / dr = (C + C^T) r."""
    weights = np.array([[2.0, 1.0], [0.0, 3.0]])
    np.testing.assert_array_equal(
        eager.grad(lambda r: r @ weights @ r)(np.array([1.0, 2.0])), [2 * 2.0 + 2.0, 1.0 + 2 * 6.0]
    )


def test_the_slope_at_a_node_is_that_behind_it():
    slope = eager.grad(lambda x: np.interp(x, [0.0, 1.0, 2.0], [0.0, 1.0, 5.0]))
    assert [slope(x) for x in (-0.5, 0.0, 1.0, 2.0, 2.5)] == [0.0, 1.0, 4.0, 4.0, 0.0]


@pytest.mark.parametrize(
    ("fn", "words"),
    [
        (lambda x: np.var(x, dtype=np.float32), "numpy.var with these arguments.*dtype"),
        (lambda x: np.diff(x, prepend=0), "numpy.diff with these arguments.*prepend"),
        (lambda x: x.take([0], mode="clip"), "numpy.take with these arguments.*mode"),
        (lambda x: x.reshape(-1, order="F"), "order='F'"),
        (lambda x: np.einsum("...i->...", x), "numpy.einsum but with all indices"),
        (lambda x: np.sum(x, where=x > 0), "numpy.sum with where="),
        (lambda x: np.max(x, initial=9.0), "numpy.max with initial="),
        (lambda x: np.mean(x, dtype=np.float32), "numpy.mean with these arguments.*dtype"),
        (lambda x: np.linalg.norm(x, 1), "linalg.norm but the square root"),
        (lambda x: np.interp(x, NODES, TABLE, period=3), "numpy.interp with these arguments.*period"),
    ],
    ids=[
        "dtype",
        "prepend",
        "mode",
        "order",
        "ellipsis",
        "where",
        "initial",
        "dtype of a mean",
        "one norm",
        "period",
    ],
)
def test_what_a_formula_does_not_say_is_refused(fn, words):
    with pytest.raises(NoRuleError, match=words):
        eager.jvp(fn, (FLAT,))


def test_constants_take_all_arguments():
    value, tangent = eager.jvp(lambda x: x * np.diff(stop_gradient(x), prepend=0), (FLAT,))
    np.testing.assert_array_equal(value, FLAT * np.diff(FLAT, prepend=0))
    np.testing.assert_array_equal(tangent, np.diff(FLAT, prepend=0))


def test_the_median_of_nothing():
    with pytest.warns(RuntimeWarning):
        value, tangent = eager.jvp(lambda x: np.median(x[:0]), (FLAT,))
    assert np.isnan(value)
    assert tangent == 0.0


def test_methods_that_change_an_array_are_none():
    with pytest.raises(AttributeError, match=r"no 'sort': use NumPy's functions, np\.sort"):
        eager.jvp(lambda x: x.sort(), (FLAT,))


def test_derivatives_of_a_determinant_to_the_fourth():
    """det(1 + t A) for a triangular A is the product of 1 + t a_ii: its derivatives by hand."""
    triangular = np.array([[1.0, 5.0, -3.0], [0.0, 2.0, 7.0], [0.0, 0.0, 3.0]])

    def fn(t):
        return np.linalg.det(np.eye(3) + t * triangular)

    got = []
    for _ in range(4):
        fn = eager.grad(fn)
        got.append(fn(0.0))
    # (1 + t) (1 + 2 t) (1 + 3 t) = 1 + 6 t + 11 t^2 + 6 t^3
    np.testing.assert_allclose(got, [6.0, 22.0, 36.0, 0.0], atol=1e-12)


def test_derivatives_of_an_inverse_to_the_fourth():
    fn = lambda t: np.linalg.inv(t * np.eye(2))[0, 0]  # noqa: E731
    for order in range(1, 5):
        fn = eager.grad(fn)
        assert fn(2.0) == pytest.approx((-1) ** order * math.factorial(order) / 2.0 ** (order + 1), rel=1e-13)


def test_the_determinant_of_a_singular_constant():
    value, tangent = eager.jvp(
        lambda x: x * np.linalg.slogdet(stop_gradient(np.outer(x, 0 * x))).sign, (FLAT[:2],)
    )
    assert value.tolist() == tangent.tolist() == [0.0, 0.0]
