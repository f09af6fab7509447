"""Whole functions by the complex step: compiled ones, and those that must be refused."""

from __future__ import annotations

import math

import awkward as ak
import dask
import dask_awkward as dak
import numpy as np
import pytest
from helpers import array_of, assert_close, collection

import dak_diff as dd
from dak_diff import eager
from dak_diff.errors import ComplexStepError, NoRuleError, StructureError

X = array_of("jagged")


def cubes(x):
    """It cannot be seen into: its loop is Python's."""
    return ak.Array([[v**3 * np.exp(-v) for v in row] for row in x.to_list()])


def slope(x):
    return (3 * x**2 - x**3) * np.exp(-x)


def test_opaque_function():
    with pytest.raises(NoRuleError):
        eager.jvp(cubes, (X,))
    value, tangent = eager.jvp(dd.complex_step(cubes), (X,), (X,))
    assert_close(value, cubes(X), 0.0)
    assert_close(tangent, slope(X) * X, 1e-14)


def test_single_precision():
    x = ak.values_astype(X, "float32")
    _, tangent = eager.jvp(dd.complex_step(lambda x: x**3 * np.exp(-x)), (x,))
    assert "float32" in str(tangent.type)
    assert_close(tangent, slope(X), 1e-6)


def test_several_arguments_and_results():
    def products(x, p):
        return {"linear": x * p, "square": np.sin(x * p)}

    _, got = eager.jvp(dd.complex_step(products), (X, 0.5), (1.0, 2.0))
    _, want = eager.jvp(products, (X, 0.5), (1.0, 2.0))
    assert_close(got, want, 1e-14)


def test_in_a_graph():
    x = collection(X, [5, 4, 3])
    expr = dak.sum(dak.map_partitions(dd.complex_step(cubes), x, meta=x._meta))
    value, tangent = dask.compute(*dd.value_and_jvp(expr, x))
    assert_close([value, tangent], [ak.sum(cubes(X)), ak.sum(slope(X))], 1e-13)
    with pytest.raises(NoRuleError, match=r"no reverse rule for complex_step\(cubes\).*custom_vjp"):
        dd.grad(expr, x).compute()


def test_numba():
    """Compiled for real numbers first, and for complex ones when the step comes."""
    numba = pytest.importorskip("numba")

    @numba.njit
    def sums(rows, out):
        for i in range(len(rows)):
            for x in rows[i]:
                out[i] += x * x * np.exp(-x)
        return out

    @dd.complex_step
    def summed(x):
        return ak.Array(sums(x, np.zeros(len(x), dtype=ak.to_layout(ak.flatten(x)).dtype)))

    def plain(x):
        return ak.sum(x**2 * np.exp(-x), axis=1)

    (value, tangent), want = eager.jvp(summed, (X,), (X,)), eager.jvp(plain, (X,), (X,))
    assert_close([value, tangent], list(want), 1e-14)
    x = collection(X, [5, 0, 7])
    lazy = dd.jvp(dak.map_partitions(summed, x, meta=dak.sum(x, axis=1)._meta), x)
    assert_close(lazy.compute(), ak.sum((2 * X - X**2) * np.exp(-X), axis=1), 1e-14)


def compares(x):
    return ak.Array([[v if v > 1 else 0.0 for v in row] for row in x.to_list()])


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (
            lambda x: ak.Array([[math.sin(v) for v in row] for row in x.to_list()]),
            "does not take complex numbers",
        ),
        (compares, "does not take complex numbers.*Compare real parts"),
        (lambda x: abs(x), "gives real numbers for complex ones"),
        (
            lambda x: ak.where(np.iscomplex(np.asarray(ak.flatten(x))), 2.0, 1.0) * ak.flatten(x),
            "another path",
        ),
    ],
    ids=["math", "comparison", "abs", "path"],
)
def test_refused(fn, message):
    with pytest.raises(ComplexStepError, match=message):
        eager.jvp(dd.complex_step(fn), (X,))


def test_first_derivatives_only():
    function = dd.complex_step(lambda x: x**3)
    with pytest.raises(ComplexStepError, match="first derivatives by real numbers only"):
        eager.jvp(lambda x: eager.jvp(function, (x,))[1], (X,))
    with pytest.raises(ComplexStepError, match="first derivatives by real numbers only"):
        eager.jvp(function, (X + 1j,))


def test_another_structure_for_complex_numbers_is_refused():
    def shorter(x):
        return x[:1] if np.iscomplexobj(x) else x

    with pytest.raises(StructureError, match=r"shorter.*another structure for complex numbers"):
        eager.jvp(dd.complex_step(shorter), (np.array([0.5, 1.0]),))


def test_directions_that_move_one_argument_each():
    x, p, q = collection(X, [5, 4, 3]), dd.parameter(2.0, name="p"), dd.parameter(3.0, name="q")
    stepped = dd.complex_step(lambda a, b: a**2 * b)
    by_p, by_q = dask.compute(*dd.jacobian(dak.map_partitions(stepped, x * p, x * q), [p, q]))
    assert_close(by_p, 12 * X**3, 1e-14)
    assert_close(by_q, 4 * X**3, 1e-14)
