"""Functions that write to arrays and to their arguments: each task, and each direction, sees its own."""

from __future__ import annotations

import awkward as ak
import dask
import dask_awkward as dak
import numpy as np
import pytest
from helpers import collection

import dak_diff as dd
from dak_diff import eager

FLAT = np.array([1.0, 2.0, 3.0])


def weights(x):
    w = np.ones(len(x))
    y = x * w
    w[:] = 5.0
    return y + x * w


def masks(x):
    chosen = np.arange(len(x)) == 0
    y = np.where(chosen, x, 0.0)
    chosen[:] = True
    return y


def positions(x):
    where = np.array([0, 0])
    y = x[where]
    where[:] = 2
    return y


#: function -> its gradient, summed, at any point
WRITERS = {weights: [6.0, 6.0, 6.0], masks: [1.0, 0.0, 0.0], positions: [2.0, 0.0, 0.0]}


@pytest.mark.parametrize("fn", WRITERS, ids=lambda f: f.__name__)
def test_what_is_written_to_afterwards(fn):
    assert eager.grad(lambda x: np.sum(fn(x)))(FLAT).tolist() == WRITERS[fn]


@pytest.mark.parametrize("residuals", ["keep", "recompute"])
def test_one_buffer_for_all_partitions(residuals):
    scratch = np.zeros(5)

    def scaled(x):
        length = scratch[: len(x)]
        length[:] = len(x)
        return x * length

    x = collection(ak.Array(np.ones(5)), [3, 2])
    loss = dak.sum(dak.map_partitions(scaled, x, meta=x._meta)) ** 2
    # The sum is nine and four: 2 * 13 times the length.
    assert dd.grad(loss, x, residuals=residuals).compute().to_list() == [78.0, 78.0, 78.0, 52.0, 52.0]


def test_in_a_function_of_partitions():
    x = collection(ak.Array(FLAT), [1, 2])
    y = dak.map_partitions(weights, x, meta=x._meta)
    tangent, cotangent = dask.compute(dd.jvp(y, x), dd.vjp(y, x))
    assert tangent.to_list() == cotangent.to_list() == [6.0, 6.0, 6.0]


def test_a_primal_may_be_written_to_before_the_pullback():
    x = FLAT.copy()
    _, pull = eager.vjp(lambda x: x**2 * x, (x,))
    x[:] = 0.0
    assert pull(1.0)[0].tolist() == [3.0, 12.0, 27.0]


PAIRS = ak.Array([{"a": 1.0, "b": 10.0}, {"a": 2.0, "b": 20.0}])


def product(z):
    out = z.a * z.b
    z["a"] = ak.zip({"u": z.a, "v": z.a})
    return out


def double(z):
    z["a"] = z.a * 2
    return z.a + z.b


@pytest.mark.parametrize("residuals", ["keep", "recompute"])
def test_a_function_gives_its_argument_other_fields(residuals):
    z = collection(PAIRS, [1, 1])
    y = dak.map_partitions(product, z, meta=z.a._meta)
    got = dd.vjp(y, z, residuals=residuals).compute()
    assert got.to_list() == [{"a": 10.0, "b": 1.0}, {"a": 20.0, "b": 2.0}]


def test_another_reader_has_the_argument_as_it_was():
    z = collection(PAIRS, [2])
    total = dak.sum(dak.map_partitions(double, z, meta=z.a._meta) + z.a)
    value, gradient = dask.compute(*dd.value_and_grad(total, z.a))
    assert (value, gradient.to_list()) == (39.0, [3.0, 3.0])


def test_seeds_are_those_of_the_request():
    x = collection(ak.Array(FLAT), [1, 2])
    seed = np.ones(3)
    lazy = dd.jvp(x**2, x, seed), dd.vjp(x**2, x, seed)
    seed[:] = 0.0
    for got in dask.compute(*lazy):
        assert got.to_list() == [2.0, 4.0, 6.0]
