"""Types over graphs: single precision stays single, None stays None, other fields ride along."""

from __future__ import annotations

import awkward as ak
import dask
import dask_awkward as dak
import numpy as np
import pytest
from checks import numbers, type_of
from helpers import METHODS, SPLITS, array_of, assert_close, collection

import dak_diff as dd
from dak_diff import eager
from dak_diff.errors import StructureError

SINGLE = {
    "ufuncs": lambda x: np.sin(x) * np.exp(-x) + x**3,
    "Python numbers": lambda x: 2 * x / 3.0 + 1,
    "parameter": lambda x: x * dd.parameter(1.5),
    "mask": lambda x: np.sqrt(x[x > 1]),
    "where": lambda x: dak.where(x > 1, x**2, x),
    "segmented reductions": lambda x: dak.sum(x, axis=1) + dak.max(x, axis=1, mask_identity=False, initial=0),
    "concatenate": lambda x: dak.concatenate([x, x**2], axis=1),
    "sort": lambda x: dak.sort(x, axis=1) ** 2,
    "firsts": lambda x: dak.firsts(x) * 2,
    "map_partitions": lambda x: dak.map_partitions(np.hypot, x, x),
    "sum": lambda x: dak.sum(x**2),
    "max": lambda x: dak.max(x**2),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("build", SINGLE.values(), ids=SINGLE)
def test_single_precision(build, method):
    """Type of the value, and the numbers of double precision to the precision that is there."""
    array = array_of("jagged")
    single = ak.values_astype(array, np.float32)
    x, wide = collection(single, SPLITS["3"]), collection(ak.values_astype(single, np.float64), SPLITS["3"])
    expr = build(x)
    value, tangent = dask.compute(*dd.value_and_jvp(expr, x, method=method))
    assert type_of(value) == type_of(expr.compute())
    assert type_of(tangent) == type_of(value)
    assert_close(tangent, dd.jvp(build(wide), wide).compute(), 1e-6)


def test_mixed_precision():
    """As NumPy has it: with a double array the result is double."""
    single = collection(ak.values_astype(array_of("jagged"), np.float32), SPLITS["3"])
    double = collection(array_of("flat"), SPLITS["3"], "double")
    tangent = dd.jvp(single * double, [single, double]).compute()
    assert type_of(tangent) == "12 * var * float64"


def test_a_cast_to_double_and_back():
    array = ak.values_astype(array_of("jagged"), np.float32)
    x = collection(array, SPLITS["3"])
    inner = dak.values_astype(x, np.float64) ** 2
    tangent, rounded = dask.compute(dd.jvp(inner, x), dd.jvp(dak.values_astype(inner, np.float32), x))
    assert type_of(tangent) == "12 * var * float64"
    assert_close(tangent, 2 * ak.values_astype(array, np.float64), 1e-15)
    assert type_of(rounded) == "12 * var * float32"


@pytest.fixture
def records():
    """What rides along: integers, booleans, text, missing values, a list of integers."""
    return ak.Array(
        [
            {"x": 1.5, "n": 3, "good": True, "name": "a", "maybe": None, "hits": [1, 2]},
            {"x": 2.5, "n": 4, "good": False, "name": "bc", "maybe": 0.5, "hits": []},
            {"x": 3.5, "n": 5, "good": True, "name": "", "maybe": 1.5, "hits": [3]},
        ]
    )


@pytest.mark.parametrize("lengths", [[3], [1, 2], [0, 2, 1]], ids=str)
def test_other_fields_ride_along(records, lengths):
    r = collection(records, lengths, "records")
    tangent = dd.jvp(r[r.n > 3], r.x, 2.0).compute()
    assert type_of(tangent) == type_of(records[1:])
    assert tangent.to_list() == [
        {"x": 2.0, "n": 0, "good": False, "name": "bc", "maybe": 0.0, "hits": []},
        {"x": 2.0, "n": 0, "good": False, "name": "", "maybe": 0.0, "hits": [0]},
    ]


def test_none_stays_none(records):
    r = collection(records, [1, 2], "records")
    tangent = dd.jvp(r.maybe**2 + r.x, [r.maybe, r.x], [10.0, 1.0]).compute()
    assert tangent.to_list() == [None, 11.0, 31.0]
    assert type_of(tangent) == "3 * ?float64"


def test_a_seed_is_ignored_where_a_value_is_missing(records):
    r = collection(records, [1, 2], "records")
    direction = ak.Array([None, 2.0, 3.0])
    assert dd.jvp(r.maybe**2, r.maybe, direction).compute().to_list() == [None, 2.0, 9.0]


def test_integers_times_floats(records):
    r = collection(records, [1, 2], "records")
    tangent = dd.jvp(r.x * r.n + dak.num(r.hits), r.x).compute()
    assert tangent.to_list() == [3.0, 4.0, 5.0]
    assert type_of(tangent) == "3 * float64"


@pytest.mark.parametrize("field", ["n", "good", "name", "hits"])
def test_what_cannot_be_differentiated_by(records, field):
    r = collection(records, [1, 2], "records")
    with pytest.raises(TypeError, match=r"dak\.values_astype"):
        dd.jvp(r.x * 2, r[field])


def test_truncation_to_integers_has_derivative_zero():
    x = collection(array_of("jagged"), SPLITS["3"])
    tangent = dd.jvp(dak.values_astype(x * 10, np.int64) * 0.5, x).compute()
    assert set(numbers(tangent)) == {0.0}


def test_a_list_of_single_numbers_is_double():
    x = ak.Array(np.array([1.0, 2.0, 4.0], dtype=np.float32))

    def fn(x):
        return ak.Array([ak.sum(x), ak.max(x)]) / 3

    value, tangent = eager.jvp(fn, (x,))
    assert value.type == fn(x).type == tangent.type
    assert value.to_list() == fn(x).to_list()


def test_integer_tangents_and_complex_ones():
    x = np.array([1.0, 2.0])
    _, tangent = eager.jvp(lambda x: x, (x,), (np.array([1, 2]),))
    assert tangent.dtype == np.float64
    for seed in (1j, np.array([1j, 1.0])):
        with pytest.raises(StructureError, match="complex, its primal is not"):
            eager.jvp(lambda x: x, (x,), (seed,))
