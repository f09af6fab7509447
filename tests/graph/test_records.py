"""One entry of a collection of records: a lazy record, differentiated as the column that it is cut from."""

from __future__ import annotations

import awkward as ak
import dask
import dask_awkward as dak
import numpy as np
import pytest
from helpers import collection

import dak_diff as dd
from dak_diff.errors import StructureError

EVENTS = ak.Array(
    [
        {"a": 1.0, "b": [1.0, 2.0], "s": "x", "n": 1},
        {"a": 2.0, "b": [], "s": "yy", "n": 2},
        {"a": 3.0, "b": [4.0], "s": "", "n": 3},
    ]
)
splits = pytest.mark.parametrize("sizes", [[3], [1, 2], [2, 0, 1]], ids=str)


def entry(sizes):
    events, p = collection(EVENTS, sizes), dd.parameter([2.0, 0.5], name="p")
    scaled = dak.with_field(events, events.a**2 * p[0] + p[1], "a")
    return events, p, scaled[2]


@splits
def test_forward(sizes):
    events, p, expr = entry(sizes)
    value, by_events, by_p = dask.compute(*dd.value_and_jvp(expr, events), dd.jvp(expr, p, [1.0, 10.0]))
    assert value.to_list() == {"a": 18.5, "b": [4.0], "s": "", "n": 3}
    assert by_events.to_list() == {"a": 12.0, "b": [1.0], "s": "", "n": 0}
    assert by_p.to_list() == {"a": 19.0, "b": [0.0], "s": "", "n": 0}
    assert str(by_events.type) == str(by_p.type) == str(value.type)


@splits
@pytest.mark.parametrize("residuals", ["keep", "recompute"])
def test_reverse(sizes, residuals):
    events, p, expr = entry(sizes)
    cotangent = ak.Array([{"a": 3.0, "b": [5.0], "s": "", "n": 0}])[0]
    options = {"residuals": residuals}
    by_events, by_p = dask.compute(*dd.vjp(expr, [events, p], cotangent, **options))
    assert by_events.a.to_list() == [0.0, 0.0, 36.0]
    assert by_events.b.to_list() == [[0.0, 0.0], [], [5.0]]
    assert by_p.tolist() == [27.0, 3.0]
    lazy = dd.vjp(expr, p, expr, **options)
    assert lazy.compute().tolist() == [9 * 18.5, 18.5]
    assert dd.vjp(expr, events.a, {"a": 1.0, "b": [0.0], "s": "", "n": 0}, **options).compute()[2] == 12.0


@splits
def test_jacobian(sizes):
    _, p, expr = entry(sizes)
    jacobian = dd.jacobian(expr, p)
    assert jacobian.compute().to_list() == {"a": [9.0, 1.0], "b": [[0.0, 0.0]], "s": "", "n": 0}


def test_what_needs_a_number():
    _, p, expr = entry([3])
    with pytest.raises(TypeError, match="grad needs a scalar"):
        dd.grad(expr, p)
    with pytest.raises(StructureError, match="other lengths"):
        dd.vjp(expr, p, {"a": 3.0, "b": [1.0, 2.0], "s": "", "n": 0}).compute(scheduler="sync")
    assert np.isclose(dd.grad(expr.a, p[0]).compute(), 9.0)
