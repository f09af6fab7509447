"""Reverse mode: accumulation, and a tape over dual numbers."""

import awkward as ak
import numpy as np
import pytest
import vector

from dak_diff import eager
from dak_diff.engine.tape import Node, Tape, backward

X = ak.Array([[0.5, 1.25, 2.0], [], [0.75, 1.5]])
V = ak.Array([[1.0, -0.5, 0.25], [], [2.0, -1.0]])


def hessian_vector(f, x, v):
    """J of the gradient: the tape runs over dual numbers."""
    return eager.jvp(eager.grad(f), (x,), (v,))[1]


def test_elementwise_by_hand():
    """f = sum sin x: H v = -sin(x) v."""
    got = hessian_vector(lambda x: ak.sum(np.sin(x)), X, V)
    assert got.to_list() == (-np.sin(X) * V).to_list()


def test_selection_by_hand():
    """f = sum of x[[0, 0, 1]]**3: elements of the first list count twice."""
    got = hessian_vector(lambda x: ak.sum(x[[0, 0, 2]] ** 3), X, V)
    assert got.to_list() == [[6.0, -7.5, 6.0], [], [9.0, -9.0]]


def test_mixed_terms_by_hand():
    """f = x0 x1 x2: H v = (x2 v1 + x1 v2, ...)."""
    x, v = np.array([2.0, 3.0, 5.0]), np.array([1.0, 10.0, 100.0])
    got = hessian_vector(np.prod, x, v)
    assert got.tolist() == [3.0 * 100 + 5.0 * 10, 2.0 * 100 + 5.0 * 1, 2.0 * 10 + 3.0 * 1]


@pytest.mark.parametrize("axis", [0, 1])
def test_variance_by_hand(axis):
    """H v = 2 / n (v - mean of v), also for the element that equals the mean."""
    x, v = np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 4.0, 1.0]])
    rows, directions = (x, v) if axis == 1 else (x.T, v.T)
    got = hessian_vector(
        lambda x: ak.sum(ak.var(x, axis=axis)), ak.Array(rows.tolist()), ak.Array(directions.tolist())
    )
    np.testing.assert_allclose(ak.flatten(got), [-2 / 3, 4 / 3, -2 / 3], rtol=1e-15)


def mass_of_pairs(x):
    p4 = vector.zip({"pt": x, "eta": x / 3, "phi": x * x / 4, "mass": 0.1 + 0 * x})
    a, b = ak.unzip(ak.combinations(p4, 2))
    return ak.sum((a + b).mass)


FUNCTIONS = {
    "exp": lambda x: ak.sum(np.exp(x)),
    "log": lambda x: ak.sum(np.log(x) * x),
    "tan": lambda x: ak.sum(np.tan(x / 2)),
    "tanh": lambda x: ak.sum(np.tanh(x)),
    "arcsin": lambda x: ak.sum(np.arcsin(x / 4)),
    "arctan2": lambda x: ak.sum(np.arctan2(x, x * x + 1)),
    "hypot": lambda x: ak.sum(np.hypot(x, x * x)),
    "power": lambda x: ak.sum(x**2.5),
    "exponent": lambda x: ak.sum(x**x),
    "divide": lambda x: ak.sum(1 / (1 + x * x)),
    "logaddexp": lambda x: ak.sum(np.logaddexp(x, 2 * x * x)),
    "sqrt": lambda x: ak.sum(np.sqrt(x)),
    "cbrt": lambda x: ak.sum(np.cbrt(x)),
    "remainder": lambda x: ak.sum((x**2 % 3.1) * x),
    "maximum": lambda x: ak.sum(np.maximum(x**2, x**3)),
    "abs": lambda x: ak.sum(abs(x - 1) ** 3),
    "sum of squares of sums": lambda x: ak.sum(ak.sum(x, axis=-1) ** 3),
    "prod": lambda x: ak.sum(ak.prod(x, axis=-1)),
    "prod of everything": lambda x: ak.prod(x),
    "max": lambda x: ak.sum(ak.max(x, axis=-1) ** 3),
    "min": lambda x: ak.sum(ak.fill_none(ak.min(x, axis=-1), 0) ** 3),
    "var": lambda x: ak.sum(ak.var(x[[0, 2]], axis=-1) ** 2),
    "std": lambda x: ak.sum(ak.std(x[[0, 2]], axis=-1)),
    "mean": lambda x: ak.mean(x) ** 3,
    "softmax": lambda x: ak.sum(ak.softmax(x, axis=-1) * x),
    "sort": lambda x: ak.sum(ak.sort(x, axis=-1, ascending=False) ** 2 * ak.local_index(x)),
    "argsort": lambda x: ak.sum(x[ak.argsort(x, ascending=False)] ** 3 * ak.local_index(x)),
    "where": lambda x: ak.sum(ak.where(x > 1, x**3, x**2)),
    "concatenate": lambda x: ak.sum(ak.prod(ak.concatenate([x, x * x], axis=1), axis=-1)),
    "combinations": lambda x: ak.sum(np.sin(np.multiply(*ak.unzip(ak.combinations(x, 2))))),
    "covar": lambda x: ak.covar(x, np.sin(x)),
    "linear_fit": lambda x: ak.linear_fit(x, np.sin(x))["slope"],
    "moment": lambda x: ak.moment(x, 3),
    "nan_to_num": lambda x: ak.sum(ak.nan_to_num(x**3)),
    "complex": lambda x: ak.sum(abs(np.exp(1j * x) - x)),
    "cumsum": lambda x: np.sum(np.cumsum(ak.flatten(x)) ** 3),
    "number": lambda x: ak.sum(np.sqrt(ak.sum(x)) * x),
    "mass of pairs": mass_of_pairs,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_hessian_vector_product_against_differences_of_gradients(name):
    f, h = FUNCTIONS[name], 1e-3
    gradient = eager.grad(f)

    def at(step):
        return ak.flatten(gradient(X + step * V)).to_numpy()

    expected = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
    got = ak.flatten(hessian_vector(f, X, V)).to_numpy()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-8 * max(abs(expected)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_hessian_vector_product_is_the_gradient_of_the_tangent(name):
    """Forward over reverse and reverse over forward."""
    f = FUNCTIONS[name]
    forward = ak.flatten(hessian_vector(f, X, V)).to_numpy()
    reverse = ak.flatten(eager.grad(lambda x: eager.jvp(f, (x,), (V,))[1])(X)).to_numpy()
    np.testing.assert_allclose(reverse, forward, rtol=0, atol=1e-12 * max(abs(forward)))


def test_a_value_used_several_times_collects_all_cotangents():
    assert eager.grad(lambda x: x * x * x + x)(2.0) == 13.0


def test_backward_returns_only_what_was_reached():
    record = []
    a = Tape.leaf(1, np.array([1.0, 2.0]), record, "auto")
    b = Tape.leaf(1, np.array([3.0]), record, "auto")
    out = 2 * a
    reached = backward(record, {out.node: np.ones(2)}, {a.node, b.node})
    assert set(reached) == {a.node}
    np.testing.assert_array_equal(reached[a.node], [2.0, 2.0])


def test_nodes_hold_no_functions_of_the_user():
    record = []
    a = Tape.leaf(1, np.array([1.0, 2.0]), record, "auto")
    np.multiply(a, np.array([3.0, 4.0]))
    assert isinstance(record[-1], Node)
    assert record[-1].parents == (a.node, -1)


def test_broadcasting_is_undone():
    x = np.array([[1.0], [2.0]])
    _, pull = eager.vjp(lambda x: x * np.array([1.0, 10.0, 100.0]), (x,))
    assert pull(1.0)[0].tolist() == [[111.0], [111.0]]


def test_a_pullback_may_be_called_twice():
    _, pull = eager.vjp(lambda x: x**2, (np.array([3.0]),))
    assert pull(1.0)[0].tolist() == [6.0]
    assert pull(2.0)[0].tolist() == [12.0]
