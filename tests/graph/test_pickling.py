"""Every task in another process: what travels between tasks arrives as it left.

Awkward packs an array when it is pickled, so the buffers that come out are not those that went in.
"""

from __future__ import annotations

import pickle
from functools import partial

import awkward as ak
import cloudpickle
import dask
import dask.local
import numpy as np
from dask.sizeof import sizeof
from graphs import graphs, lazily
from helpers import assert_close, assert_identical

import dak_diff as dd
from dak_diff.engine.values import Pair

#: Runs in this process, but pickles the inputs and the result of every task.
pickling = partial(dask.local.get_sync, loads=pickle.loads, dumps=cloudpickle.dumps)


@graphs
def test_tangents(graph):
    expr, wrt, tangents = lazily(graph, "empty middle")
    tangent = dd.jvp(expr, wrt, tangents)
    assert_identical(tangent.compute(scheduler=pickling, optimize_graph=False), tangent.compute())


@graphs
def test_cotangents(graph):
    expr, wrt, _ = lazily(graph, "empty middle")
    gradients = dd.vjp(expr if expr.fields else expr * expr, wrt)
    there = dask.compute(*gradients, scheduler=pickling, optimize_graph=False)
    for got, expected in zip(there, dask.compute(*gradients), strict=True):
        assert_close(got, expected, 1e-14)


def test_the_size_of_a_pair_is_that_of_the_value_and_its_tangents():
    """By which Dask decides what to spill."""
    values = ak.Array(np.zeros(100_000))
    pair = Pair(values, {0: (np.zeros(100_000), None, np.zeros(100_000))}, 3)
    assert 3 * values.nbytes <= sizeof(pair) <= 3.1 * values.nbytes
