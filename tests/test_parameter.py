"""A parameter in every position: value and derivative, names, dtypes, partitions, refusals."""

from __future__ import annotations

import math
import operator
import pickle
import subprocess
import sys
from functools import partial

import awkward as ak
import cloudpickle
import dask
import dask_awkward as dak
import numpy as np
import pytest
from checks import numbers
from dask.blockwise import Blockwise
from helpers import SPLITS, array_of, assert_close, central_difference, collection

import dak_diff as dd
from dak_diff import eager
from dak_diff.errors import NoRuleError

FOUR = [4, 0, 5, 3]
AT = 0.75


@pytest.fixture
def array():
    return array_of("jagged")


@pytest.fixture
def x(array):
    return collection(array, FOUR)


def scaled(x, *, by):
    return x * by


def first_of(pair, x):
    return x * pair[0] + pair[1]["other"]


def eager_map_partitions(fn, *args, **kwargs):
    return fn(*args, **kwargs)


OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]

POSITIONS = {
    **{f"x {op.__name__} p": lambda ns, x, p, op=op: op(x, p) * x for op in OPERATORS},
    **{f"p {op.__name__} x": lambda ns, x, p, op=op: op(p, x) * x for op in OPERATORS},
    "ufunc, first": lambda ns, x, p: np.arctan2(p, x) + x,
    "ufunc, second": lambda ns, x, p: np.hypot(x, p) + x,
    "where, first": lambda ns, x, p: ns.where(x > 1, p, x) * x,
    "where, second": lambda ns, x, p: ns.where(x > 1, x, p) * x,
    "comparison": lambda ns, x, p: ns.where(x > p, x * p, x),
    "with_field": lambda ns, x, p: ns.with_field(ns.zip({"a": x}), p * 1.0, "b").b * x,
    "zip": lambda ns, x, p: ns.zip({"a": x, "b": p}).b * x,
    "fill_none": lambda ns, x, p: ns.fill_none(ns.firsts(x), 2.0) * p,
    "arithmetic": lambda ns, x, p: x * (2 * p**2 - 1) / (p + 1),
    "functions": lambda ns, x, p: x * np.exp(-p) + np.hypot(p, 1.0) * x,
    "negative": lambda ns, x, p: x * -p + abs(p) * x,
    "twice": lambda ns, x, p: (x * p + 1) * p + x,
    "reduced, left": lambda ns, x, p: p * ns.sum(x),
    "reduced, right": lambda ns, x, p: ns.sum(x * p) / (p + 1),
    "reduced, power": lambda ns, x, p: ns.sum(x) ** p,
    "reduced, ufunc": lambda ns, x, p: np.log(ns.sum(x * p) + p),
    "reduced, then an array": lambda ns, x, p: (p * ns.sum(x)) * x + 1,
    "alone": lambda ns, x, p: np.sin(p) * p,
}

MAPPED = {
    "positional": lambda m, x, p: m(operator.mul, x, p),
    "keyword": lambda m, x, p: m(scaled, x, by=p),
    "nested": lambda m, x, p: m(first_of, [p, {"other": p}], x),
}


def check(expr, p, fn):
    value, tangent = dask.compute(*dd.value_and_jvp(expr, p))
    assert_close(value, fn(AT), 1e-14)
    want = central_difference(fn, (AT,), (1.0,))
    np.testing.assert_allclose(numbers(tangent), want, rtol=0, atol=1e-9 * np.max(np.abs(want)))


OPERATORS = ["add", "sub", "mul", "truediv", "floordiv", "pow", "mod"]


@pytest.mark.parametrize("name", OPERATORS)
def test_a_number_on_either_side_of_a_reduced_scalar(name, x, array):
    """Upstream both are one layer: computed together, one took the place of the other."""
    operate, s, number = getattr(operator, name), dak.sum(x), 2.5
    total = s.compute()
    after, before = operate(s, number), operate(number, s)
    assert after.name != before.name or name in ("add", "mul")
    assert dask.compute(after, before) == (operate(total, number), operate(number, total))
    product = dask.compute(*dd.value_and_jvp(after * before, wrt=x))
    want = eager.jvp(lambda x: operate(ak.sum(x), number) * operate(number, ak.sum(x)), (array,))
    # The sum over partitions is rounded otherwise than that in memory; powers and remainders magnify it.
    assert product == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("build", POSITIONS.values(), ids=POSITIONS)
def test_positions(build, x, array):
    p = dd.parameter(AT, name="p")
    check(build(dak, x, p), p, lambda value: build(ak, array, value))


@pytest.mark.parametrize("build", MAPPED.values(), ids=MAPPED)
def test_map_partitions(build, x, array):
    p = dd.parameter(AT, name="p")
    check(build(dak.map_partitions, x, p), p, lambda value: build(eager_map_partitions, array, value))


@pytest.mark.parametrize("build", POSITIONS.values(), ids=POSITIONS)
def test_the_plain_value_needs_no_derivative(build, x, array, request):
    """What the user computes without dak_diff's layers; where dask-awkward can."""
    if "then an array" in request.node.name:
        pytest.skip("dask-awkward's fusion asks for tasks that do not exist")
    assert_close(build(dak, x, dd.parameter(AT)).compute(), build(ak, array, AT), 1e-14)


def test_a_lorentz_vector_times_a_parameter(jets):
    p = dd.parameter(AT, name="p")
    events = collection(jets, FOUR)
    for build in (lambda j, value: (j * value).pt, lambda j, value: (value * j).energy):
        check(build(events, p), p, lambda value, build=build: build(jets, value))


def test_elements_of_a_vector(x, array):
    p = dd.parameter([0.5, 2.0, 3.0], name="p")
    expr = x * p[0] + p[1] ** 2 + p[-1] * x
    direction = np.array([1.0, 10.0, 100.0])
    value, tangent = dask.compute(*dd.value_and_jvp(expr, p, direction))
    assert_close(value, array * 3.5 + 4, 1e-15)
    assert_close(tangent, array * 101 + 40, 1e-15)


def test_an_array_indexed_by_data(x, array):
    """A table of corrections, looked up by a count."""
    table = ak.Array([1.0, 2.0, 4.0, 8.0])
    p = dd.parameter(table, name="table")
    expr = dak.map_partitions(operator.getitem, p, dak.num(x))
    direction = ak.Array([0.5, 1.0, 2.0, 3.0])
    value, tangent = dask.compute(*dd.value_and_jvp(expr, p, direction))
    assert value.to_list() == table[ak.num(array)].to_list()
    assert tangent.to_list() == direction[ak.num(array)].to_list()


# ---------------------------------------------------------------- names


def test_named_by_content():
    def name(value, label="alpha"):
        return dd.parameter(value, name=label).name

    assert name(1.0) == name(1.0)
    assert name(1.0, "a") != name(1.0, "b")
    assert name(1.0) != name(2.0)
    assert name(np.float32(1)) != name(1.0)
    assert name([1.0, 2.0]) != name([2.0, 1.0])
    assert name(ak.Array([[1.0], [2.0]])) != name(ak.Array([[1.0, 2.0]]))
    assert name(1.0).startswith("alpha-")


def test_without_a_name_like_no_other(x, array):
    """Nuisance parameters that all begin at one value."""
    a, b = dd.parameter(1.0), dd.parameter(1.0)
    expr = dak.sum(x * a + 10 * x * b)
    total = ak.sum(array)
    assert_close(dask.compute(*dd.grad(expr, [a, b])), [total, 10 * total], 1e-13)
    assert_close(dd.jvp(expr, [a, b], [1.0, 0.0]).compute(), total, 1e-13)


def test_two_of_one_name_and_value_are_refused(x):
    a, b = dd.parameter(1.0, name="p"), dd.parameter(1.0, name="p")
    with pytest.raises(ValueError, match="a name of its own"):
        dd.grad(dak.sum(x * a * b), [a, b])


def test_unpickled_where_none_was_made():
    """In a process of its own."""
    script = """
import pickle, sys, awkward as ak, dask_awkward as dak
p = pickle.loads(bytes.fromhex(sys.argv[1]))
x = dak.from_awkward(ak.Array([1.0, 2.0]), 1)
assert (x * p).compute().to_list() == [0.5, 1.0]
assert dak.where(x > 1, p, x).compute().to_list() == [1.0, 0.5]
"""
    data = pickle.dumps(dd.parameter(0.5)).hex()
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", script, data], check=True)


def test_arrays_that_use_the_same_memory_have_different_names(x):
    names = {(x * dd.parameter(ak.Array([float(i)]))[0]).name for i in range(20)}
    assert len(names) == 20


def test_values_of_equal_expressions_do_not_mix(x, array):
    low, high = (x * dd.parameter(value, name="p") for value in (1.0, 2.0))
    assert_close(dask.compute(low, high)[1], 2 * array, 1e-15)


# ---------------------------------------------------------------- dtypes


@pytest.mark.parametrize("value", [AT, 1, np.float32(AT)], ids=["float", "int", "float32"])
def test_a_number_is_weakly_typed(array, value):
    single = collection(ak.values_astype(array, np.float32), FOUR)
    p = dd.parameter(value)
    for expr in (single * p, p * single, np.hypot(single, p), dak.where(single > 1, single * p, single)):
        primal, tangent = dask.compute(*dd.value_and_jvp(expr, p))
        assert str(expr._meta.type.content) == str(primal.type.content) == "var * float32"
        assert str(tangent.type.content) == "var * float32"


def test_an_array_keeps_its_dtype(array):
    single = collection(ak.values_astype(array, np.float32), FOUR)
    wide, narrow = dd.parameter([1.5, 2.0]), dd.parameter(np.array([1.5, 2.0], dtype=np.float32))
    for p, want in ((wide, "float64"), (narrow, "float32")):
        assert p.dtype == want
        expr = single * p[0]
        value, tangent = dask.compute(*dd.value_and_jvp(expr, p))
        assert str(expr._meta.type.content) == str(value.type.content) == f"var * {want}"
        assert str(tangent.type.content) == f"var * {want}"


def test_an_integer_is_a_number():
    assert isinstance(dd.parameter(2).value, float)
    assert dd.parameter([1, 2]).dtype == np.float64


# ---------------------------------------------------------------- graphs


def test_it_enters_layers_without_an_index(x):
    p = dd.parameter(AT, name="p")
    for expr in (x * p, p * x, np.hypot(p, x), dd.jvp(x * p, p)):
        layers = expr.dask.layers
        single = {name for name, layer in layers.items() if len(layer.get_output_keys()) == 1}
        assert p.name in single
        for layer in layers.values():
            if isinstance(layer, Blockwise):
                assert not {name for name, index in layer.indices if index is not None} & single


def test_one_task_whatever_the_number_of_partitions(array):
    p = dd.parameter(AT, name="p")
    for split in SPLITS.values():
        graph = (collection(array, split) * p).dask.to_dict()
        assert [key for key in graph if str(key).startswith(f"('{p.name}")] == [(p.name, 0)]


def test_chains_on_several_partitions_end(x, array):
    """Fusion of chains loses operands with an index of one block (see the deadline of all tests)."""
    p = dd.parameter(AT, name="p")
    expr = x
    for _ in range(6):
        expr = expr * p + 1
    want = array
    for _ in range(6):
        want = want * AT + 1
    assert_close(expr.compute(), want, 1e-15)
    assert_close(dak.sum(expr).compute(), ak.sum(want), 1e-14)


@pytest.mark.parametrize("package", [pickle, cloudpickle])
def test_it_pickles(x, array, package):
    p = package.loads(package.dumps(dd.parameter(AT, name="p")))
    assert p.name == dd.parameter(AT, name="p").name
    assert p.value == AT
    assert_close(dd.jvp(x * p, p).compute(), array, 1e-15)


def test_it_is_a_collection():
    p = dd.parameter(AT, name="p")
    assert dask.is_dask_collection(p)
    assert p.compute() == AT
    assert (p * 2 + 1).compute() == 2.5
    assert p.persist().compute() == AT
    assert dask.optimize(p)[0].compute() == AT


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("value", ["1", None, True, {"a": 1.0}, np.array([1, 2]), ak.Array(["a"])], ids=repr)
def test_what_is_no_parameter(value):
    with pytest.raises(TypeError, match="a parameter is a number or an array"):
        dd.parameter(value)


def test_refusals_of_lazy_values():
    p = dd.parameter(AT, name="p")
    with pytest.raises(TypeError, match=r"p\.value"):
        bool(p)
    with pytest.raises(TypeError):
        float(p)
    with pytest.raises(TypeError, match="not callable"):
        p()
    with pytest.raises(AttributeError, match=r"p\.value"):
        p.mean  # noqa: B018
    with pytest.raises(TypeError):
        list(p)


def test_the_truth_of_a_comparison_is_not_known():
    with pytest.raises(TypeError, match=r"p\.value"):
        bool(dd.parameter(AT) > 0)


def model(a, t):
    """A covariance with two parts."""
    return np.eye(2) * (1 + a**2) + np.ones((2, 2)) * t[0]


COVARIANCE = np.array([[2.0, 0.5], [-0.25, 1.5]])
FUNCTIONS = {
    "sum": lambda a, t: np.sum(t**2) * a,
    "quadratic form": lambda a, t: t @ COVARIANCE @ t,
    "norm": lambda a, t: np.linalg.norm(t),
    "where": lambda a, t: np.where(a > 0, a**2, a) + np.where(t[1] > 0, a, t[1]),
    "clip": lambda a, t: np.clip(a, -1, 1) * np.clip(t[0], 0.75, 2),
    "stack": lambda a, t: np.stack([a, t[0], a * t[1]]) @ np.array([1.0, 2.0, 4.0]),
    "interp": lambda a, t: np.interp(a, xp=[0.0, 1.0, 2.0], fp=[0.0, 3.0, 4.0]),
    "split": lambda a, t: np.split(t, 2)[1][0] * a,
    "likelihood": lambda a, t: np.linalg.slogdet(model(a, t))[1] + t @ np.linalg.solve(model(a, t), t),
    "einsum": lambda a, t: np.einsum("i,ij,j->", t, COVARIANCE, t) * a,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_numpy(name):
    fn, at = FUNCTIONS[name], (0.3, np.array([0.5, -1.25]))
    a, t = dd.parameter(at[0], name="a"), dd.parameter(at[1], name="t")
    value, gradient = dask.compute(*dd.value_and_grad(fn(a, t), [a, t], disconnected="zero"))
    assert value == fn(*at)
    for i, along in enumerate(((1.0, np.zeros(2)), (0.0, np.array([1.0, 0.0])), (0.0, np.array([0.0, 1.0])))):
        want = central_difference(fn, at, along)
        assert (gradient[0], *gradient[1])[i] == pytest.approx(want.item(), rel=1e-8, abs=1e-9)


def test_a_constraint_by_hand():
    """The Hessian of t^T C t is C + C^T."""
    t = dd.parameter(np.array([0.5, -1.25]), name="t")
    np.testing.assert_allclose(
        dd.hessian(t @ COVARIANCE @ t, t).compute(), COVARIANCE + COVARIANCE.T, rtol=1e-15
    )


def test_names_tell_which_argument_is_the_parameter():
    p = dd.parameter(2.0, name="p")
    assert np.where(p > 0, p, 0).name != np.where(p > 0, 0, p).name
    assert np.where(p > 0, p, 0).name == np.where(p > 0, p, 0).name


KEYS = {
    "row": 1,
    "element": (1, 0),
    "rows": [1, 0],
    "rows as an array": np.array([1, 0]),
    "one row": [1],
    "slice": slice(1, 2),
    "mask": np.array([True, False]),
    "new axis": (None, 1),
    "both rows": ([1, 0],),
}


def test_names_tell_the_keys():
    """A list is one key, a tuple several."""
    m = dd.parameter(np.array([[1.0, 2.0], [3.0, 4.0]]), name="m")
    names = {key: m[KEYS[key]].name for key in KEYS}
    assert len(set(names.values())) == len(KEYS)
    rows, element = dask.compute(m[[1, 0]], m[1, 0])
    assert rows.tolist() == [[3.0, 4.0], [1.0, 2.0]]
    assert element == 3.0


def test_a_parameter_does_not_see_what_becomes_of_an_array():
    for array, element in ((np.array([1.0, 2.0]), 0), (ak.from_numpy(np.array([1.0, 2.0])), 0)):
        p = dd.parameter(array, name="w")
        np.asarray(array)[element] = 10.0
        assert np.sum(np.asarray(p.value)) == 3.0
    with pytest.raises(ValueError, match="read-only"):
        dd.parameter(np.array([1.0, 2.0])).value[0] = 3.0


@pytest.mark.parametrize("options", [{"where": False}, {"dtype": np.float32}, {"casting": "no"}], ids=str)
def test_options_of_ufuncs_are_not_dropped(options):
    with pytest.raises(TypeError, match=f"numpy.add of a parameter takes no {next(iter(options))}="):
        np.add(dd.parameter(1.0), 1.0, **options)


def test_what_numpy_asks_of_a_parameter_is_known():
    t = dd.parameter(np.array([0.5, -1.25]), name="t")
    assert (np.shape(t), np.ndim(t), np.size(t)) == ((2,), 1, 2)


def test_functions_of_numpy_that_a_parameter_cannot_have(x):
    p = dd.parameter(0.5, name="p")
    with pytest.raises(TypeError, match=r"no collections beside them: use dak\.where"):
        np.where(x > 1, p, x)
    with pytest.raises(TypeError, match="no collections beside them"):
        np.stack([p, dak.sum(x)])
    with pytest.raises(TypeError, match=r"np\.stack\(\[p, q\]\) is lazy"):
        np.asarray(p)


def fill_with_value(array, p):
    return ak.fill_none(array, p.value)


AS_CONSTANT = {
    "fill_none": lambda x, p: dak.fill_none(dak.firsts(x), p),
    "array in memory": lambda x, p: ak.Array([10.0, 20.0]) * p,
    "array in memory, on the right": lambda x, p: ak.sum(p * ak.Array([10.0, 20.0])),
    "where in memory": lambda x, p: ak.where(ak.Array([True]), p, 0.0),
}


@pytest.mark.parametrize("name", AS_CONSTANT)
def test_a_parameter_is_never_taken_for_a_constant(name):
    x = dak.from_awkward(ak.Array([[1.0, 2.0], [], [3.0]]), npartitions=2)
    with pytest.raises(TypeError, match=r"take a parameter for a constant.*dak\.map_partitions.*p\.value"):
        AS_CONSTANT[name](x, dd.parameter(0.5, name="p"))


def test_a_parameter_inside_a_function_is_never_a_silent_zero():
    x = dak.from_awkward(ak.Array([[1.0, 2.0], [], [3.0]]), npartitions=2)
    p = dd.parameter(0.5, name="p")
    filled = dak.map_partitions(partial(fill_with_value, p=p), dak.firsts(x))
    with pytest.raises(NoRuleError, match=r"holds the parameter .*dak\.map_partitions"):
        dd.jvp(filled + p, wrt=p)
    assert dd.jvp(filled * 2, wrt=x).compute().to_list() == [2.0, 0.0, 2.0]


def test_a_parameter_is_no_number_yet():
    p = dd.parameter(2.0, name="p")
    for use in (float, math.exp):
        with pytest.raises(TypeError, match=r"np\.exp\(p\) for math\.exp\(p\), or p\.value"):
            use(p)
