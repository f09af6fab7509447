"""The public functions of `dak_diff.eager`."""

import copy
from collections import Counter, defaultdict
from typing import Any, NamedTuple

import awkward as ak
import mpmath
import numpy as np
import pytest
from helpers import METHODS

from dak_diff import eager
from dak_diff.errors import NoRuleError, StructureError

X = ak.Array([[1.0, 2.0], [], [4.0]])


# ---------------------------------------------------------------- accuracy


def sin_over_x(x):
    return np.sin(x) / x


@pytest.fixture(scope="module")
def grid():
    """10000 points and the derivative of sin(x)/x there, rounded from 40 digits."""
    x = np.linspace(-20, 20, 10000)
    with mpmath.workdps(40):
        points = [mpmath.mpf(p) for p in x]
        exact = np.array([float((mpmath.cos(p) - mpmath.sin(p) / p) / p) for p in points])
    return x, exact


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mode", ["jvp", "vjp"])
def test_derivative_of_sin_x_over_x(grid, method, mode):
    x, exact = grid
    if mode == "jvp":
        _, got = eager.jvp(sin_over_x, (x,), method=method)
    else:
        (got,) = eager.vjp(sin_over_x, (x,), method=method)[1](1.0)
    error = abs(got - exact)
    assert error.max() <= 2e-13
    assert error[abs(x) > 1].max() <= 1e-15


def test_derivative_of_sin_x_over_x_by_diffarray(grid):
    x, exact = grid
    error = abs(sin_over_x(eager.diffarray(x)).tangent - exact)
    assert error.max() <= 2e-13
    assert error[abs(x) > 1].max() <= 1e-15


# ---------------------------------------------------------------- jvp and vjp


def test_jvp_along_a_direction():
    value, tangent = eager.jvp(lambda x: x**2, (X,), (ak.Array([[1.0, 0.5], [], [-1.0]]),))
    assert value.to_list() == [[1.0, 4.0], [], [16.0]]
    assert tangent.to_list() == [[2.0, 2.0], [], [-8.0]]


def test_a_number_as_seed_stands_for_an_array_full_of_it():
    assert eager.jvp(lambda x: x**2, (X,), (0.5,))[1].to_list() == [[1.0, 2.0], [], [4.0]]
    assert eager.jvp(lambda x: x**2, (X,), 0.5)[1].to_list() == [[1.0, 2.0], [], [4.0]]


def test_vjp_of_a_sum_of_lists():
    value, pull = eager.vjp(lambda x: ak.sum(x**2, axis=-1), (X,))
    assert value.to_list() == [5.0, 0.0, 16.0]
    (cotangent,) = pull(ak.Array([1.0, 10.0, 0.5]))
    assert cotangent.to_list() == [[2.0, 4.0], [], [4.0]]


def test_the_function_is_called_once():
    calls = []

    def fn(x):
        calls.append(1)
        return x * x

    eager.jvp(fn, (X,))
    assert len(calls) == 1
    _, pull = eager.vjp(fn, (X,))
    pull(1.0)
    pull(1.0)
    assert len(calls) == 2


def test_several_arguments():
    y = 3.0

    def fn(x, y):
        return x * x * y

    _, tangent = eager.jvp(fn, (X, y), (1.0, 0.0))
    assert tangent.to_list() == [[6.0, 12.0], [], [24.0]]
    _, tangent = eager.jvp(fn, (X, y), (0.0, 1.0))
    assert tangent.to_list() == [[1.0, 4.0], [], [16.0]]
    _, pull = eager.vjp(fn, (X, y))
    x_bar, y_bar = pull(1.0)
    assert x_bar.to_list() == [[6.0, 12.0], [], [24.0]]
    assert y_bar == 21.0


def test_a_dict_of_arrays_as_argument():
    def fn(d):
        return d["x"] * d["scale"]

    argument = {"x": X, "scale": 3.0}
    _, tangent = eager.jvp(fn, (argument,), ({"x": X, "scale": 2.0},))
    assert tangent.to_list() == [[5.0, 10.0], [], [20.0]]
    (cotangent,) = eager.vjp(fn, (argument,))[1](1.0)
    assert cotangent["x"].to_list() == [[3.0, 3.0], [], [3.0]]
    assert cotangent["scale"] == 7.0


def test_results_may_be_nested():
    def fn(x):
        return {"sums": [ak.sum(x, axis=-1), ak.sum(x)], "count": ak.num(x)}

    value, tangent = eager.jvp(fn, (X,))
    assert value["sums"][0].to_list() == [3.0, 0.0, 4.0]
    assert tangent["sums"][0].to_list() == [2.0, 0.0, 1.0]
    assert tangent["sums"][1] == 3.0
    assert tangent["count"].to_list() == [0, 0, 0]
    _, pull = eager.vjp(fn, (X,))
    (cotangent,) = pull({"sums": [ak.Array([1.0, 2.0, 3.0]), 10.0], "count": ak.Array([0, 0, 0])})
    assert cotangent.to_list() == [[11.0, 11.0], [], [13.0]]


def test_records_with_integers_and_text():
    record = ak.Record({"x": 3.0, "n": 2, "tag": "b", "list": [1.0, 2.0]})
    value, tangent = eager.jvp(lambda r: r.x**r.n * ak.sum(r["list"]), (record,))
    assert (value, tangent) == (27.0, 36.0)
    (cotangent,) = eager.vjp(lambda r: r.x**r.n * ak.sum(r["list"]), (record,))[1](1.0)
    assert isinstance(cotangent, ak.Record)
    assert cotangent.to_list() == {"x": 18.0, "n": 0, "tag": "b", "list": [9.0, 9.0]}


def test_a_record_of_an_array_as_argument_and_result():
    rows = ak.Array([{"x": 1.0, "n": 1}, {"x": 2.0, "n": 5}])
    value, tangent = eager.jvp(lambda r: ak.zip({"x": r.x * r.x, "n": r.n}, depth_limit=1), (rows[1:],))
    assert value.to_list() == [{"x": 4.0, "n": 5}]
    assert tangent.to_list() == [{"x": 4.0, "n": 0}]
    value, tangent = eager.jvp(lambda r: r, (rows[1],))
    assert tangent.to_list() == {"x": 1.0, "n": 0}


def test_an_indexed_argument_gives_each_element_its_own_cotangent():
    x = ak.Array([[1.0, 2.0], [3.0]])[[0, 0, 1]]
    (cotangent,) = eager.vjp(lambda x: x**2, (x,))[1](ak.Array([[1.0, 1.0], [10.0, 10.0], [1.0]]))
    assert cotangent.to_list() == [[2.0, 4.0], [20.0, 40.0], [6.0]]


def test_numpy_arrays_and_numbers():
    value, tangent = eager.jvp(np.square, (np.array([[1.0, 2.0]]),))
    assert isinstance(value, np.ndarray)
    assert isinstance(tangent, np.ndarray)
    assert tangent.tolist() == [[2.0, 4.0]]
    assert eager.jvp(np.square, (3.0,)) == (9.0, 6.0)
    assert eager.jvp(lambda x: x * x, (3,)) == (9.0, 6.0)


# ---------------------------------------------------------------- gradients


def test_grad_and_value_and_grad():
    def loss(x):
        return ak.sum(x**2)

    assert eager.grad(loss)(X).to_list() == [[2.0, 4.0], [], [8.0]]
    value, slope = eager.value_and_grad(loss)(X)
    assert value == 21.0
    assert slope.to_list() == [[2.0, 4.0], [], [8.0]]


def test_grad_by_another_argument():
    def loss(x, y):
        return ak.sum(x) * y

    assert eager.grad(loss, 1)(X, 3.0) == 7.0
    assert eager.grad(loss, argnums=0)(X, 3.0).to_list() == [[3.0, 3.0], [], [3.0]]


@pytest.mark.parametrize("method", METHODS)
def test_methods_are_passed_on(method):
    assert eager.grad(lambda x: np.exp(2 * x), method=method)(0.0) == 2.0


def test_grad_keeps_single_precision():
    x = ak.values_astype(X, np.float32)
    value, slope = eager.value_and_grad(lambda x: ak.sum(x * x))(x)
    assert value.dtype == np.float32
    assert str(slope.type) == "3 * var * float32"


# ---------------------------------------------------------------- diffarray


def test_diffarray_carries_its_derivative():
    x = eager.diffarray(np.array([1.0, 2.0]), np.array([1.0, 10.0]))
    y = x**2 + 1
    assert y.primal.tolist() == [2.0, 5.0]
    assert y.tangent.tolist() == [2.0, 40.0]


def test_diffarrays_made_apart_add_up():
    y = eager.diffarray(np.array([2.0]), np.array([1.0])) * eager.diffarray(np.array([3.0]), np.array([10.0]))
    assert y.tangent.tolist() == [23.0]


def test_diffarray_inside_awkward():
    x = eager.diffarray(np.array([1.0, 2.0, 4.0]))
    array = ak.unflatten(ak.Array(x), [2, 0, 1])
    total = ak.sum(array**2, axis=-1)
    assert eager.primal(total).to_list() == [5.0, 0.0, 16.0]
    assert eager.tangent(total).to_list() == [6.0, 0.0, 8.0]


def test_diffarray_of_an_awkward_array():
    y = eager.diffarray(X, X) ** 2
    assert eager.primal(y).to_list() == [[1.0, 4.0], [], [16.0]]
    assert eager.tangent(y).to_list() == [[2.0, 8.0], [], [32.0]]


def test_the_tangent_of_a_constant_is_zero():
    x = eager.diffarray(np.array([1.0, 2.0]))
    assert (x > 1).tangent.tolist() == [False, False]
    assert eager.tangent(ak.num(eager.diffarray(X))).to_list() == [0, 0, 0]


def test_diffarray_of_integers_is_of_floats():
    assert eager.diffarray([1, 2]).dtype == np.float64


def test_a_diffarray_is_no_plain_array():
    with pytest.raises(NoRuleError):
        np.asarray(eager.diffarray([1.0]))


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "tangent",
    [
        ak.Array([1.0, 2.0, 3.0]),
        ak.Array([[1.0, 2.0], [], [3.0], []]),
        ak.Array([[1.0], [2.0], [3.0]]),
        ak.Array([[1.0, 2.0], [], [None]]),
        ak.Array([[1, 2], [], [3]]),
        ak.Array([[{"x": 1.0}, {"x": 2.0}], [], [{"x": 3.0}]]),
    ],
    ids=lambda t: str(t.type),
)
def test_a_seed_of_another_structure_is_refused(tangent):
    with pytest.raises(StructureError, match="tangent"):
        eager.jvp(lambda x: x, (X,), (tangent,))
    _, pull = eager.vjp(lambda x: x, (X,))
    with pytest.raises(StructureError, match="cotangent"):
        pull(tangent)


def test_a_seed_of_another_number_of_arguments_is_refused():
    with pytest.raises(StructureError, match="tuple of 1"):
        eager.jvp(lambda x: x, (X,), (X, X))
    with pytest.raises(StructureError, match="keys"):
        eager.jvp(lambda d: d["x"], ({"x": X},), ({"y": X},))


def test_a_seed_of_another_shape_is_refused():
    with pytest.raises(StructureError, match=r"\(3,\).*\(2,\)"):
        eager.jvp(np.sin, (np.ones(2),), (np.ones(3),))


@pytest.mark.parametrize(
    "x", [ak.Array([1, 2]), np.array([True]), ak.Array(["a"]), ak.Array([{"n": 1}])], ids=str
)
def test_nothing_to_differentiate_by(x):
    for call in (eager.jvp, eager.vjp):
        with pytest.raises(TypeError, match="no floating-point"):
            call(lambda x: x, (x,))
    with pytest.raises(TypeError, match="no floating-point"):
        eager.grad(lambda x: ak.sum(x))(x)


def test_unknown_method():
    for call in (eager.jvp, eager.vjp):
        with pytest.raises(ValueError, match=r"auto, dual, complex-step.*forward"):
            call(np.sin, (1.0,), method="forward")
    with pytest.raises(ValueError, match="method"):
        eager.grad(np.sin, method="forward")(1.0)


def test_grad_of_an_array_is_refused():
    with pytest.raises(TypeError, match=r"scalar.*vjp"):
        eager.grad(lambda x: x * x)(X)


def test_an_error_of_the_function_is_its_own():
    with pytest.raises(ZeroDivisionError):
        eager.jvp(lambda x: x * (1 // 0), (X,))


def test_numpy_arrays_of_awkward_arrays_keep_their_derivative():
    x = ak.Array([[1.0, 2.0], [3.0]])
    value, tangent = eager.jvp(lambda x: np.sqrt(ak.to_numpy(ak.flatten(x))) * 2, (x,))
    np.testing.assert_allclose(value, 2 * np.sqrt([1.0, 2.0, 3.0]), rtol=1e-15)
    np.testing.assert_allclose(tangent, 1 / np.sqrt([1.0, 2.0, 3.0]), rtol=1e-15)


def test_elementwise_grad_by_hand():
    x = ak.Array([[1.0, 2.0], [], [0.5]])
    assert eager.elementwise_grad(lambda x: x**3 - x)(x).to_list() == [[2.0, 11.0], [], [-0.25]]


@pytest.mark.parametrize("copied", [ak.copy, ak.to_packed, copy.copy, copy.deepcopy])
def test_copies_stay_on_the_tape(copied):
    x = ak.Array([[1.0, 2.0], [3.0]])
    assert eager.grad(lambda x: ak.sum(copied(x) ** 2))(x).to_list() == [[2.0, 4.0], [6.0]]
    assert eager.jvp(lambda x: copied(x) ** 2, (x,))[1].to_list() == [[2.0, 4.0], [6.0]]


def test_an_array_full_of_a_result():
    x = ak.Array([1.0, 2.0, 3.0])
    assert eager.jvp(lambda x: ak.full_like(x, ak.sum(x)), (x,))[1].to_list() == [3.0, 3.0, 3.0]


def test_the_layout_of_an_input_is_kept():
    content = ak.contents.NumpyArray(np.array([3.0, 1.0, 2.0]))
    x = ak.Array(ak.contents.UnmaskedArray(content))
    assert ak.sort(x).type == eager.jvp(ak.sort, (x,))[0].type
    grid = ak.Array(ak.contents.NumpyArray(np.arange(6.0).reshape(3, 2)))
    value, tangent = eager.jvp(lambda x: x * 2, (grid,), (grid,))
    assert isinstance(value.layout, ak.contents.NumpyArray)
    assert tangent.to_list() == (grid * 2).to_list()


def test_a_pullback_may_be_called_again_unless_it_is_consumed():
    x = ak.Array([[1.0, 2.0], [3.0]])
    _, pull = eager.vjp(lambda x: np.sin(x) * x, (x,))
    first = pull(1.0)[0].to_list()
    assert pull(1.0, consume=True)[0].to_list() == first
    with pytest.raises(RuntimeError, match="consume"):
        pull(1.0)


def test_categories_of_text_stay_what_they_are():
    records = ak.zip(
        {"x": [1.0, 2.0, 3.0], "tag": ak.str.to_categorical(ak.Array(["a", "b", "a"]))}, depth_limit=1
    )

    def doubled_if_categorical(r):
        return r.x * (2.0 if ak.is_categorical(r.tag) else 1.0)

    value, tangent = eager.jvp(doubled_if_categorical, (records,))
    assert value.to_list() == [2.0, 4.0, 6.0]
    assert tangent.to_list() == [2.0, 2.0, 2.0]
    (cotangent,) = eager.vjp(doubled_if_categorical, (records,))[1](1.0)
    assert cotangent.type == records.type


def test_no_derivative_by_categories_of_numbers():
    shared = ak.contents.IndexedArray(
        ak.index.Index64(np.array([1, 0, 1])),
        ak.contents.NumpyArray(np.array([1.5, 2.5])),
        parameters={"__array__": "categorical"},
    )
    with pytest.raises(NoRuleError, match="entries of one category share one number"):
        eager.vjp(lambda x: ak.from_categorical(x) * 2, (ak.Array(shared),))


class Box:
    """A class of the user's that holds a number."""

    def __init__(self, content):
        self.content = content


@pytest.mark.parametrize(
    ("build", "what"),
    [
        (lambda x: (x, Box(3 * x)), r"a Box at \[1\]"),
        (lambda x: {"a": [Box(1.0)], "b": x}, r"a Box at \['a'\]\[0\]"),
        (lambda x: (2 * x, {3.0}), r"a set at \[1\]"),
        (Box, "a Box, which"),
    ],
)
def test_what_is_not_looked_into_is_refused(build, what):
    """It came back as its own derivative, or with a tracer inside."""
    for derive in (eager.jvp, eager.vjp):
        with pytest.raises(StructureError, match=what):
            derive(build, (1.0,))


def test_a_histogram_of_means_is_refused():
    bh = pytest.importorskip("boost_histogram")
    means = bh.Histogram(bh.axis.Regular(2, 0, 10), storage=bh.storage.Mean()).fill([1.0], sample=[3.0])
    with pytest.raises(StructureError, match="storage Mean at"):
        eager.jvp(lambda x: (2 * x, means), (1.0,))


class Point(NamedTuple):
    x: Any
    text: str


def test_subclasses_of_dict_and_named_tuples_stay_what_they_are():
    def fn(x):
        return defaultdict(float, {"a": 2 * x}), Point(3 * x, "text"), Counter({"n": 4 * x})

    value, tangent = eager.jvp(fn, (1.5,))
    assert value == ({"a": 3.0}, (4.5, "text"), {"n": 6.0})
    assert tangent == ({"a": 2.0}, (3.0, "text"), {"n": 4.0})
    for counts, at, counter in (value, tangent, eager.vjp(fn, (1.5,))[0]):
        assert counts["missing"] == 0.0
        assert isinstance(at, Point)
        assert type(counter) is Counter


@pytest.mark.filterwarnings("ignore:The JAX backend is deprecated")
def test_arrays_of_the_jax_backend_say_where_to_go():
    pytest.importorskip("jax")
    ak.jax.register_and_check()
    with pytest.raises(TypeError, match=r"ak\.to_backend\(x, 'cpu'\)"):
        eager.jvp(lambda x: ak.sum(x, axis=1), (ak.to_backend(X, "jax"),))


def product(x, y, *, power=1):
    """x times a power of y."""
    return ak.sum(x * y**power)


def test_arguments_by_number():
    x, y = ak.Array([1.0, 2.0]), ak.Array([3.0, 5.0])
    assert eager.grad(product, -1)(x, y).to_list() == [1.0, 2.0]
    by_x, by_y = eager.grad(product, argnums=(0, 1))(x, y, power=2)
    assert by_x.to_list() == [9.0, 25.0]
    assert by_y.to_list() == [6.0, 20.0]
    value, (by_y,) = eager.value_and_grad(product, argnums=(1,))(x, y)
    assert (value, by_y.to_list()) == (13.0, [1.0, 2.0])
    for wrong in (2, -3):
        with pytest.raises(ValueError, match=f"no argument {wrong} to differentiate by: 2 were given"):
            eager.grad(product, wrong)(x, y)


def test_a_gradient_is_called_as_its_function():
    gradient = eager.grad(product)
    assert (gradient.__name__, gradient.__doc__) == ("product", product.__doc__)


def test_a_complex_value_has_no_gradient():
    with pytest.raises(TypeError, match="real number"):
        eager.grad(lambda x: ak.sum(x * 1j))(ak.Array([1.0]))


def test_seeds_of_nests_and_of_lists():
    """A number stands for an array full of it at any depth; integers have no tangent."""
    x, y, n = np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.array([2, 3])
    nest = {"x": x, "rest": [y, n]}

    def product(d):
        return d["x"] * d["rest"][0] * d["rest"][1]

    slope = ((x + y) * n).tolist()
    assert eager.jvp(product, (nest,), (1.0,))[1].tolist() == slope
    assert eager.jvp(product, (nest,), ({"x": 1.0, "rest": [[1.0, 1.0], n]},))[1].tolist() == slope
    jagged = ak.Array([[1.0, 2.0], [3.0]])
    assert eager.jvp(np.square, (jagged,), ([[1.0, 0.0], [2.0]],))[1].to_list() == [[2.0, 0.0], [12.0]]
