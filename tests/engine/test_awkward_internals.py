"""What Awkward has no hook for: numbers beside arrays and in records, text, spreads of one element."""

import awkward as ak
import dask_awkward as dak
import numpy as np
import pytest
from helpers import collection

import dak_diff as dd
from dak_diff import eager

X = ak.Array([[1.0, 4.0], [2.0], []])
COLUMNS = ak.Array([[[1.0, 2.0], [3.0]], [[5.0, 7.0, 7.0]]])
TEXT = ak.Array([{"w": 1.0, "s": "x"}, {"w": 2.0, "s": "yy"}])

BESIDE_ARRAYS_WITHOUT_DIMENSIONS = {
    "times": lambda x: x * np.array(2.0),
    "times, reflected": lambda x: np.array(2.0) * x,
    "compared": lambda x: x[x > np.array(1.5)],
    "where": lambda x: ak.where(x > 1, x, np.array(1.5)),
    "with_field": lambda x: ak.with_field(ak.zip({"a": x}), np.array(1.5), "b"),
}


@pytest.mark.parametrize("name", BESIDE_ARRAYS_WITHOUT_DIMENSIONS)
def test_arrays_without_dimensions(name):
    fn = BESIDE_ARRAYS_WITHOUT_DIMENSIONS[name]
    value, tangent = eager.jvp(fn, (X,), X)
    assert value.to_list() == fn(X).to_list()
    assert value.type == tangent.type == fn(X).type
    # Linear, and 0 where a constant was taken: the tangent along x is the rest of the value.
    constants = fn(0 * X) if name != "compared" else 0
    if name == "with_field":
        value, tangent, constants = value.a + value.b, tangent.a + tangent.b, constants.a + constants.b
    rest = ak.where(X > 1, X, 0.0) if name == "where" else value - constants
    assert tangent.to_list() == rest.to_list()


def test_numbers_in_a_record():
    value, tangent = eager.jvp(
        lambda x: ak.Record({"ht": ak.sum(x), "n": 3, "first": x[0], "given": [1.5]}), (X,), X
    )
    assert value.to_list() == {"ht": 7.0, "n": 3, "first": [1.0, 4.0], "given": [1.5]}
    assert tangent.to_list() == {"ht": 7.0, "n": 0, "first": [1.0, 4.0], "given": [0.0]}
    assert eager.grad(lambda x: ak.Record({"ht": ak.sum(x) ** 2})["ht"])(X).to_list() == [[14, 14], [14], []]


@pytest.mark.parametrize("parts", [lambda x: [x, 1.5], lambda x: [1.5, x], lambda x: [x[0], 1.5]])
def test_numbers_after_lists(parts):
    value, tangent = eager.jvp(lambda x: ak.concatenate(parts(x)), (X,), X)
    assert value.to_list() == ak.concatenate(parts(X)).to_list()
    assert value.type == tangent.type
    assert ak.sum(ak.flatten(tangent, axis=None)) == ak.sum(ak.flatten(value, axis=None)) - 1.5


def test_text_is_read_as_ever():
    assert eager.grad(lambda r: sum(q.w**2 for q in r if q.s == "yy"))(TEXT).w.to_list() == [0.0, 4.0]
    value, _ = eager.jvp(lambda r: ak.to_list(r.s), (TEXT,))
    assert value == ["x", "yy"]


def test_a_category_axis_beside_weights():
    boost = pytest.importorskip("boost_histogram")
    factory = pytest.importorskip("dask_histogram").factory

    def filled(r):
        axis = boost.axis.StrCategory(["x", "yy"])
        return boost.Histogram(axis).fill(ak.to_list(r.s), weight=ak.to_numpy(r.w**2)).values()

    assert eager.jvp(filled, (TEXT,))[1].tolist() == [2.0, 4.0]
    events = collection(TEXT, [1, 1])
    lazy = factory(events.s, weights=events.w**2, axes=(boost.axis.StrCategory(["x", "yy"]),))
    assert dd.vjp(lazy, events, 1.0).compute().w.to_list() == [2.0, 4.0]


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("reduce", [ak.std, ak.nanstd])
@pytest.mark.parametrize("x", [X[:2], COLUMNS])
def test_a_spread_of_one_element_has_no_slope(x, reduce, axis):
    """In both modes, and again: the convention for equal elements."""

    def fn(x):
        return ak.sum(reduce(x, axis=axis), axis=None)

    # Of degree one: the slope along x is f itself, and so is the slope of that.
    _, slope = eager.jvp(fn, (x,), x)
    assert slope == pytest.approx(fn(x), rel=1e-12)
    assert ak.sum(eager.grad(fn)(x) * x, axis=None) == pytest.approx(slope, rel=1e-12)
    assert eager.jvp(lambda x: eager.jvp(fn, (x,), x)[1], (x,), x)[1] == pytest.approx(slope, rel=1e-12)
    again = eager.grad(lambda x: eager.jvp(fn, (x,), x)[1])(x)
    assert ak.sum(again * x, axis=None) == pytest.approx(slope, rel=1e-12)


def test_a_column_of_one_element_by_hand():
    assert eager.grad(lambda x: ak.sum(ak.std(x, axis=0)))(X).to_list() == [[-0.5, 0.0], [0.5], []]


def test_numbers_that_are_not_finite():
    assert eager.grad(lambda q: np.nan_to_num(q) ** 2)(3.0) == 6.0
    x, p = collection(X, [2, 1]), dd.parameter(0.5, name="p")
    assert dd.grad(dak.sum(x * np.nan_to_num(p)), p).compute() == 7.0


def test_functions_of_parameters_beside_collections():
    x, p = collection(X, [2, 1]), dd.parameter(np.array(0.5), name="p")
    assert dd.grad(dak.sum(x * np.where(p > 0, p, 2 * p)), p).compute() == 7.0
    assert (p * x).compute().to_list() == (0.5 * X).to_list()


def test_a_mean_of_nothing():
    with pytest.warns(RuntimeWarning):
        value, tangent = eager.jvp(np.average, (np.array([]),))
    assert np.isnan(value)
    assert tangent == 0.0


def test_no_partitions():
    x = collection(X, [1, 2])
    assert dd.jvp(x[7:], x).compute().to_list() == x[7:].compute().to_list() == []
    assert dd.vjp(x[7:] ** 2, x).compute().to_list() == [[0.0, 0.0], [0.0], []]


def test_lists_as_seeds():
    _, tangent = eager.jvp(lambda x: x * 2, (X,), ([[1.0, 2.0], [3.0], []],))
    assert tangent.to_list() == [[2.0, 4.0], [6.0], []]
    (cotangent,) = eager.vjp(lambda x: x * 2, (X,))[1]([[1.0, 2.0], [3.0], []])
    assert cotangent.to_list() == [[2.0, 4.0], [6.0], []]
