"""What empty arrays say of a layer is believed only as far as it goes."""

from __future__ import annotations

import awkward as ak
import dask_awkward as dak
import pytest
from helpers import SPLITS, array_of, assert_close, collection

import dak_diff as dd
from dak_diff.errors import NoRuleError

X = array_of("jagged")


def refuses_empty(array):
    if ak.backend(array) != "typetracer" and len(array) == 0:
        raise RuntimeError("nothing in it")
    return array * 2


def integers_when_empty(array):
    if ak.backend(array) != "typetracer" and len(array) == 0:
        return ak.values_astype(array, "int64")
    return array * 2


@pytest.mark.parametrize("fn", [refuses_empty, integers_when_empty])
@pytest.mark.parametrize("split", ["1", "3"])
def test_a_function_that_treats_empty_arrays_differently(fn, split):
    x = collection(X, SPLITS[split])
    y = dak.map_partitions(fn, x, meta=x._meta)
    assert_close(dd.jvp(y, x).compute(), ak.full_like(X, 2.0), 1e-15)
    assert_close(dd.vjp(y, x).compute(), ak.full_like(X, 2.0), 1e-15)
    moved = y.repartition(npartitions=1) * 1 if split == "3" else y * 1
    assert_close(dd.jvp(moved, x).compute(), ak.full_like(X, 2.0), 1e-15)


def test_an_element_of_a_row():
    x = collection(X, SPLITS["3"])
    assert dd.jvp(x[2][1] * 2, x).compute() == 2.0
    assert dd.jvp(dak.flatten(x)[1] ** 2, x).compute() == pytest.approx(2 * ak.flatten(X)[1])


def whole_below_zero(x, p):
    return ak.values_astype(x * p, "int64") if p < 0 else x * p


@pytest.mark.parametrize("split", ["1", "3"])
def test_a_type_that_depends_on_a_value_is_never_a_silent_zero(split):
    x, p = collection(X, SPLITS[split]), dd.parameter(-1.0, name="p")
    loss = dd.objective(dak.sum(dak.map_partitions(whole_below_zero, x, p)) + p, p)
    assert loss.grad(-2.0) == 1.0
    with pytest.raises(NoRuleError, match="'whole-below-zero' gives floating-point numbers, but gave none"):
        loss.grad(2.0)


def whole_when_empty(x):
    return x if ak.backend(x) != "typetracer" and len(x) else ak.values_astype(x, "int64")


def test_a_type_that_depends_on_a_value_in_any_of_several_expressions():
    x, p = collection(X, SPLITS["3"]), dd.parameter([1.0, 2.0], name="p")
    lying = dak.map_partitions(whole_when_empty, x * p[0]) * p[1]
    for block in (dd.jacobian(lying, p), dd.jacobian([x * p[0], lying], p)[1]):
        with pytest.raises(NoRuleError, match="'whole-when-empty' gives floating-point numbers"):
            block.compute()
