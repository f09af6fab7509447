"""What is taken for a constant has derivative zero, wherever it is stopped."""

from __future__ import annotations

import awkward as ak
import dask_awkward as dak
import numpy as np
from helpers import SPLITS, array_of, assert_close, collection

import dak_diff as dd
from dak_diff import eager

X = array_of("jagged")


def test_inside_a_function():
    def fn(x):
        return ak.sum(x**2 * dd.stop_gradient(x))

    assert_close(eager.grad(fn)(X), 2 * X**2, 1e-14)
    assert_close(
        eager.jvp(lambda x: x * dd.stop_gradient(ak.sum(x)), (X,))[1], ak.full_like(X, ak.sum(X)), 1e-14
    )


def test_over_a_graph():
    x = collection(X, SPLITS["3"])
    p = dd.parameter(2.0, name="p")
    assert_close(dd.jvp(x * dd.stop_gradient(x), x).compute(), X, 1e-14)
    assert_close(dd.grad(dak.sum(x**2 * dd.stop_gradient(x)), x).compute(), 2 * X**2, 1e-14)
    assert_close(dd.jvp(x * p * dd.stop_gradient(p * 3.0), p).compute(), 6 * X, 1e-14)
    total = dak.sum(x)
    assert_close(dd.grad(total * dd.stop_gradient(total), x).compute(), ak.full_like(X, ak.sum(X)), 1e-14)


def test_only_what_is_stopped_is_zero():
    x = collection(X, SPLITS["3"])
    assert np.all(ak.flatten(dd.jvp(dd.stop_gradient(x) ** 2, x).compute()) == 0)
    assert np.all(ak.flatten(dd.grad(dak.sum(dd.stop_gradient(x) ** 2), x).compute()) == 0)
