"""Means and variances over partitions: equal to Awkward's, and to their closed forms when differentiated."""

import awkward as ak
import dask
import dask_awkward as dak
import numpy as np
import pytest
from helpers import METHODS, SPLITS, assert_close, central_difference, collection

import dak_diff as dd
from dak_diff.statistics import mean, std, var

RNG = np.random.default_rng(20240607)
COUNTS = [2, 0, 3, 1, 2, 3, 0, 2, 1, 2, 3, 2]
FLAT, JAGGED = RNG.normal(size=12), ak.unflatten(RNG.normal(size=21), COUNTS)
ARRAYS = {
    "flat": ak.Array(FLAT),
    "large offset": ak.Array(1e8 + FLAT),
    "jagged": JAGGED,
    "jagged, large offset": 1e8 + JAGGED,
    "regular": ak.Array(RNG.normal(size=(12, 3))),
    "float32": ak.values_astype(ak.Array(FLAT), np.float32),
    "integers": ak.Array(np.arange(12)),
    "booleans": ak.Array(np.arange(12) % 3 == 0),
    "complex": ak.Array(FLAT + 1j * FLAT[::-1]),
    "None": ak.Array([1.0, None, 3.5, None, 5.0, 6.0, 7.0, 8.0, None, 2.0, 3.0, 4.0]),
    "None in lists and for lists": ak.Array([[1.0, None], None, [3.0], [2.0, None, 4.0], *[[]] * 7, [5.0]]),
    "infinity": ak.Array([*FLAT[:11], np.inf]),
}
#: name -> (of a collection, of an array in memory)
FUNCTIONS = {
    "mean": (mean, ak.mean),
    "var": (var, ak.var),
    "std": (std, ak.std),
    "var, ddof=1": (lambda x, axis=None: var(x, axis, ddof=1), lambda x, axis: ak.var(x, axis=axis, ddof=1)),
}
functions = pytest.mark.parametrize("name", FUNCTIONS)
methods = pytest.mark.parametrize("method", METHODS)


def in_long_double(array, name):
    """Mean and variance with 18 digits: what ak.var itself has lost at a large offset."""
    x = np.asarray(ak.drop_none(ak.flatten(array, axis=None)), dtype=np.longdouble)
    centred = x - x.mean()
    square = (centred * centred).sum() / (x.size - (name == "var, ddof=1"))
    return {"mean": x.mean(), "std": np.sqrt(square)}.get(name, square)


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("split", ["3", "12", "empty middle"])
@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("kind", ARRAYS)
def test_value_is_that_of_the_whole_array(kind, axis, split):
    array = ARRAYS[kind]
    x = collection(array, SPLITS[split])
    results = {name: lazy(x, axis=axis) for name, (lazy, _) in FUNCTIONS.items()}
    for name, got in zip(results, dask.compute(*results.values()), strict=True):
        with np.errstate(all="ignore"):
            want = FUNCTIONS[name][1](array, axis=axis)
        assert str(ak.type(got)) == str(ak.type(want))
        assert isinstance(results[name], dak.Scalar if np.ndim(want) == 0 else dak.Array)
        # At a large offset ak.var has a rounded mean, and of columns the difference of two sums.
        if "large offset" in kind and name != "mean":
            columns = [array] if np.ndim(want) == 0 else [array[ak.num(array) > i][:, i] for i in range(3)]
            want = [float(in_long_double(column, name)) for column in columns]
        np.testing.assert_allclose(np.ravel(got), np.ravel(want), rtol=1e-13)


@functions
def test_meta_agrees_with_the_run(name):
    lazy, _ = FUNCTIONS[name]
    for kind in ("flat", "float32", "integers", "complex"):
        result = lazy(collection(ARRAYS[kind], [5, 3, 4]))
        assert result.dtype == np.asarray(result.compute()).dtype
    columns = lazy(collection(JAGGED, [5, 3, 4]), axis=0)
    assert str(columns._meta.type.content) == str(columns.compute().type.content)


@functions
@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("array", [ak.Array(np.zeros(0)), JAGGED[:0]], ids=["flat", "jagged"])
def test_of_nothing(array, axis, name):
    lazy, whole = FUNCTIONS[name]
    got, want = lazy(collection(array, [0, 0]), axis=axis).compute(), whole(array, axis=axis)
    assert ak.to_list(ak.nan_to_none(ak.Array([got]))) == ak.to_list(ak.nan_to_none(ak.Array([want])))


def test_variance_of_one_number_with_one_degree_less_is_undefined():
    assert np.isnan(var(collection(ak.Array([3.0]), [1, 0]), ddof=1).compute())
    assert var(collection(ak.Array([1.0, 3.0]), [1, 1]), ddof=2).compute() == np.inf


@functions
@pytest.mark.parametrize("axis", [1, -1])
def test_within_events_it_is_what_dask_awkward_gives(axis, name):
    lazy, whole = FUNCTIONS[name]
    got = lazy(collection(JAGGED, [5, 3, 4]), axis=axis)
    assert got.npartitions == 3
    assert ak.to_list(ak.nan_to_none(got.compute())) == ak.to_list(ak.nan_to_none(whole(JAGGED, axis=axis)))


def test_equal_numbers_have_no_variance():
    assert var(collection(ak.Array([0.1] * 12), [5, 0, 7])).compute() == 0.0


@pytest.mark.parametrize("width", [2, 3])
def test_tree_of_several_levels(width):
    x = collection(ARRAYS["jagged"], [1] * 12)
    with dask.config.set({"awkward.aggregation.split-every": width}):
        result, columns = var(x), var(x, axis=0)
    np.testing.assert_allclose(result.compute(), ak.var(JAGGED), rtol=1e-13)
    np.testing.assert_allclose(columns.compute(), ak.var(JAGGED, axis=0), rtol=1e-13)
    assert_close(dd.grad(result, x).compute(), 2 * (JAGGED - ak.mean(JAGGED)) / 21, 1e-13)


# ---------------------------------------------------------------- derivatives


def closed_form(name, x):
    """Gradient by each number, from the values alone."""
    n, away = int(ak.count(x)), ak.values_astype(x, np.float64) - ak.mean(x)
    return {
        "mean": away * 0 + 1 / n,
        "var": 2 * away / n,
        "std": away / (n * ak.std(x)),
        "var, ddof=1": 2 * away / (n - 1),
    }[name]


GRADIENT_KINDS = ["flat", "jagged", "regular", "float32", "None", "None in lists and for lists"]


@functions
@pytest.mark.parametrize("split", ["3", "empty first", "empty middle"])
@pytest.mark.parametrize("kind", GRADIENT_KINDS)
def test_gradient_is_the_closed_form(kind, split, name):
    lazy, _ = FUNCTIONS[name]
    array = ARRAYS[kind]
    x = collection(array, SPLITS[split])
    got = dd.grad(lazy(x), x).compute()
    assert str(got.type) == str(array.type)
    assert_close(got, closed_form(name, array), 1e-7 if kind == "float32" else 1e-13)


@functions
def test_gradient_at_a_large_offset(name):
    lazy, _ = FUNCTIONS[name]
    array = ARRAYS["large offset"]
    x = collection(array, [5, 0, 4, 3])
    away = np.asarray(array, dtype=np.longdouble)
    away = ak.Array((away - away.mean()).astype(float))
    assert_close(dd.grad(lazy(x), x).compute(), closed_form(name, away), 1e-13)


@methods
@functions
@pytest.mark.parametrize("axis", [None, 0])
def test_forward_and_reverse_agree_with_differences(axis, name, method):
    lazy, whole = FUNCTIONS[name]
    x = collection(JAGGED, [4, 0, 8])
    tangent = ak.unflatten(RNG.normal(size=21), COUNTS)
    expr = lazy(x, axis=axis)
    forward = dd.jvp(expr, x, tangent, method=method).compute()
    np.testing.assert_allclose(
        np.ravel(forward), central_difference(lambda a: whole(a, axis=axis), (JAGGED,), (tangent,)), rtol=1e-9
    )
    weights = 1.0 if axis is None else ak.Array([0.5, -2.0, 1.5])
    cotangent = dd.vjp(expr, x, weights, method=method).compute()
    # <w, J t> = <J^T w, t>
    np.testing.assert_allclose(np.sum(forward * weights), ak.sum(cotangent * tangent), rtol=1e-12)


@methods
def test_by_a_parameter(method):
    x, scale = collection(JAGGED, [5, 3, 4]), dd.parameter(2.0, name="scale")
    expr = var(x * scale)
    want = 4.0 * ak.var(JAGGED)
    np.testing.assert_allclose(dd.jvp(expr, scale, method=method).compute(), want, rtol=1e-13)
    np.testing.assert_allclose(dd.grad(expr, scale, method=method).compute(), want, rtol=1e-13)


def test_second_derivative():
    x = collection(ak.Array(FLAT), [5, 3, 4])
    e = ak.Array(np.eye(12)[0])
    second = dd.jvp(dd.jvp(std(x), x, e), x, e).compute()
    n, s, away = 12, FLAT.std(), FLAT[0] - FLAT.mean()
    np.testing.assert_allclose(second, (1 - 1 / n) / (n * s) - away**2 / (n**2 * s**3), rtol=1e-12)


def test_kink_standard_deviation_of_equal_numbers():
    x = collection(ak.Array([0.1] * 12), [5, 3, 4])
    assert dd.grad(std(x), x).compute().to_list() == [0.0] * 12
    assert dd.jvp(std(x), x, ak.Array(FLAT)).compute() == 0.0


# ---------------------------------------------------------------- graphs


def test_nothing_is_computed(never_computes):
    x = collection(JAGGED, [5, 3, 4])
    for lazy, _ in FUNCTIONS.values():
        dd.grad(lazy(x), x)
        dd.jvp(lazy(x, axis=0), x)


def test_only_the_column_is_read(shared):
    pytest.importorskip("pyarrow")
    events = dak.from_parquet(str(shared / "data" / "nano_dy.parquet"))
    for axis in (None, 0):
        expr = std(events.Jet_pt, axis=axis)
        for collected in (expr, dd.jvp(expr, events.Jet_pt), dd.vjp(expr, events.Jet_pt, 1.0)):
            (columns,) = dak.report_necessary_columns(collected).values()
            assert columns == {"Jet_pt"}


def test_names_come_from_content():
    x, same, other = (collection(ak.Array(values), [5, 7]) for values in (FLAT, FLAT, -FLAT))
    builders = [
        mean,
        var,
        std,
        *(lambda x, d=d: var(x, ddof=d) for d in (1, 2)),
        lambda x: std(x, ddof=1),
    ]
    names = [build(x).name for build in builders]
    assert names == [build(same).name for build in builders]
    assert len({*names, *(build(other).name for build in builders)}) == 2 * len(builders)
    y = collection(JAGGED, [5, 7])
    assert var(y).name != var(y, axis=0).name


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("array", "axis", "message"),
    [
        (ak.Array([{"pt": 1.0}]), None, r"var takes numbers, not \{pt: float64\}; take columns"),
        (ak.Array([[{"pt": 1.0}]]), 0, r"var takes numbers"),
        (ak.Array(["text"]), None, "var takes numbers, not string"),
        (ak.Array(np.array(["2020-01-01"], "M8[s]")), None, "var takes numbers, not datetime64"),
        (ak.Array([[[1.0]]]), 0, r"var with axis=0 takes lists of depth one, not var \* var \* float64"),
        (ak.Array([[[1.0]]]), -3, "var with axis=0 takes lists of depth one"),
    ],
)
def test_refused(array, axis, message):
    with pytest.raises(TypeError, match=message):
        var(dak.from_awkward(array, 1), axis)


def test_arrays_in_memory_are_refused():
    with pytest.raises(TypeError, match=r"std takes a dask_awkward\.Array, not Array; in memory use ak\.std"):
        std(JAGGED)


@pytest.mark.parametrize("words", ["complex of things", "length of the string", "bytes read", "0 = unknown"])
def test_what_a_column_says_of_itself_is_no_type(words):
    numbers = ak.Array([1.0, 2.0, 4.0])
    x = dak.from_awkward(ak.with_parameter(numbers, "__doc__", words), 2)
    mean = dd.mean(x).compute()
    assert mean == 7 / 3
    assert mean.dtype == np.float64
    counts = dak.from_awkward(ak.with_parameter(ak.Array([1, 2, 3]), "__doc__", words), 1)
    with pytest.raises(TypeError, match="floating-point"):
        dd.grad(dak.sum(counts * 1.0), counts)
