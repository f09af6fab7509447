"""Forward mode of forward mode, over graphs: the tangents of one derivative are values to the next."""

from __future__ import annotations

import awkward as ak
import dask_awkward as dak
import pytest
from helpers import SPLITS, array_of, assert_close, collection

import dak_diff as dd

X = array_of("jagged")
P = 2.0

#: name -> (expression, first wrt, second wrt, its second derivative)
MIXED = {
    "x, x": (lambda x, p: x**3 * p, "x", "x", 6 * X * P),
    "x, p": (lambda x, p: x**3 * p, "x", "p", 3 * X**2),
    "p, x": (lambda x, p: x**3 * p, "p", "x", 3 * X**2),
    "p, p": (lambda x, p: x * p**2, "p", "p", 2 * X),
    "through a reduction": (
        lambda x, p: dak.sum(x * p, axis=1) ** 2,
        "p",
        "p",
        2 * ak.sum(X, axis=1) ** 2,
    ),
}


@pytest.mark.parametrize("split", ["1", "3", "empty middle"])
@pytest.mark.parametrize("name", MIXED)
def test_mixed_second_derivatives(name, split):
    fn, first, second, want = MIXED[name]
    wrt = {"x": collection(X, SPLITS[split]), "p": dd.parameter(P, name="p")}
    inner = dd.jvp(fn(wrt["x"], wrt["p"]), wrt[first])
    assert_close(dd.jvp(inner, wrt[second]).compute(), want, 1e-13)


def test_a_tangent_beside_a_value():
    x, p = collection(X, SPLITS["3"]), dd.parameter(P, name="p")
    both = dd.jvp(x**2 * p, x) + x * p
    assert_close(dd.jvp(both, p).compute(), 3 * X, 1e-13)


def test_three_times():
    x = collection(X, SPLITS["3"])
    third = dd.jvp(dd.jvp(dd.jvp(x**4, x), x), x)
    assert_close(third.compute(), 24 * X, 1e-13)


def test_forward_then_reverse():
    x, p = collection(X, SPLITS["3"]), dd.parameter(P, name="p")
    slope = dak.sum(dd.jvp(x**3 * p, p))
    assert_close(dd.grad(slope, x).compute(), 3 * X**2, 1e-13)
