"""What is differentiated by, in which direction, and what is refused."""

from __future__ import annotations

import inspect
import operator

import awkward as ak
import dask
import dask_awkward as dak
import numpy as np
import pytest
from checks import type_of
from helpers import SPLITS, array_of, assert_close, collection

import dak_diff as dd
from dak_diff.errors import DisconnectedError, NoRuleError, OptimizedGraphError, StructureError

THREE = SPLITS["3"]


@pytest.fixture
def array():
    return array_of("jagged")


@pytest.fixture
def x(array):
    return collection(array, THREE)


@pytest.fixture
def events(jets):
    """Records of records, as NanoAOD is seen by coffea."""
    return collection(ak.zip({"Jet": jets, "weight": array_of("flat")}, depth_limit=1), THREE)


# ---------------------------------------------------------------- columns


@pytest.mark.parametrize(
    "column",
    [lambda e: e.Jet.pt, lambda e: e["Jet", "pt"], lambda e: e["Jet"]["pt"], lambda e: e[["Jet"]].Jet.pt],
    ids=["attributes", "tuple", "items", "list, then attributes"],
)
@pytest.mark.parametrize(
    "use",
    [lambda e: e.Jet.pt, lambda e: e["Jet", "pt"], lambda e: e[["weight", "Jet"]].Jet[["eta", "pt"]].pt],
    ids=["attributes", "tuple", "lists"],
)
def test_a_column_has_many_names(events, jets, column, use):
    assert_close(dd.jvp(use(events) ** 2, column(events)).compute(), 2 * jets.pt, 1e-15)


def test_every_path_through_the_column_counts(events, jets):
    # px never selects the layer pt: vector reads the field.
    tangent = dd.jvp(events.Jet.px + events["Jet", "pt"] + events.Jet.eta, events.Jet.pt)
    assert_close(tangent.compute(), np.cos(jets.phi) + 1, 1e-15)


def test_a_column_selected_after_a_mask(events, jets):
    jet = events.Jet[events.Jet.pt > 1]
    assert_close(dd.jvp(jet.pt**2, events.Jet.pt).compute(), 2 * jets.pt[jets.pt > 1], 1e-15)
    assert_close(dd.jvp(jet.pt**2, jet.pt).compute(), 2 * jets.pt[jets.pt > 1], 1e-15)


def test_a_record_of_columns(events, jets):
    tangent = dd.jvp(events.Jet.pt * events.Jet.eta * events.Jet.phi, events.Jet[["pt", "eta"]])
    assert_close(tangent.compute(), (jets.pt + jets.eta) * jets.phi, 1e-14)


@pytest.mark.parametrize("fields", [["pt"], ["eta", "pt"]], ids=str)
def test_a_record_of_columns_has_tangents_of_its_type(events, jets, fields):
    wrt = events.Jet[fields]
    direction = ak.zip({"pt": jets.eta, "eta": 0 * jets.eta})[fields]
    tangent = dd.jvp(events.Jet.pt**2, wrt, direction)
    assert_close(tangent.compute(), 2 * jets.pt * jets.eta, 1e-14)


def test_a_nested_record(events, jets):
    tangent = dd.jvp(events.Jet.pt * events.weight, events.Jet).compute()
    assert_close(tangent, ak.broadcast_arrays(events.weight.compute(), jets.pt)[0], 1e-15)


def test_a_column_of_a_record_that_nobody_reads(jets, tmp_path):
    """It is not there to be compared with its seed; the others are."""
    pytest.importorskip("pyarrow")
    ak.to_parquet(jets, str(tmp_path / "jets.parquet"))
    lazy = dak.from_parquet(str(tmp_path))
    tangent = dd.jvp(lazy.pt**2, lazy, lazy.compute())
    assert list(dak.report_necessary_columns(tangent).values()) == [{"pt"}]
    assert_close(tangent.compute(), 2 * jets.pt**2, 1e-15)


def test_a_record_as_the_output(events, jets):
    tangent = dd.jvp(events.Jet, events.Jet.pt).compute()
    assert type_of(tangent) == type_of(jets)
    want = ak.zip(
        {f: ak.full_like(jets[f], 1 if f == "pt" else 0) for f in jets.fields}, with_name="Momentum4D"
    )
    assert tangent.to_list() == want.to_list()


def test_a_column_of_an_intermediate_zip(events, jets):
    """As NanoAOD through uproot: flat branches, zipped to jets."""
    zipped = dak.zip(
        {"pt": events.Jet.pt * 2, "eta": events.Jet.eta, "phi": events.Jet.phi, "mass": events.Jet.mass}
    )
    zipped = dak.with_name(zipped, "Momentum4D")
    tangent = dd.jvp(zipped.px * zipped["pt"], zipped.pt).compute()
    assert_close(tangent, 2 * (2 * jets.pt) * np.cos(jets.phi), 1e-14)


def test_another_column_of_the_same_record_is_disconnected(events):
    expr = np.sin(events.Jet.eta)
    with pytest.raises(DisconnectedError) as caught:
        dd.jvp(expr, events.Jet.pt)
    assert expr.name in str(caught.value)
    assert "Jet.pt" in str(caught.value)
    assert 'disconnected="zero"' in str(caught.value)


# ---------------------------------------------------------------- intermediates, parameters, nests


def test_an_intermediate_collection(x, array):
    y = np.sin(x)
    tangent = dd.jvp(y**2 + x, y).compute()
    assert_close(tangent, 2 * np.sin(array), 1e-15)


def test_an_intermediate_and_its_source_add_up(x, array):
    y = np.sin(x)
    tangent = dd.jvp(y**2, [x, y], [1.0, 0.5]).compute()
    assert_close(tangent, 2 * np.sin(array) * (np.cos(array) + 0.5), 1e-15)


def test_a_reduced_scalar(x, array):
    total = dak.sum(x)
    tangent = dd.jvp(total * x, total, 2.0).compute()
    assert_close(tangent, 2 * array, 1e-15)


def test_wrt_itself(x, array):
    assert dd.jvp(x, x, array).compute().to_list() == array.to_list()


def test_a_parameter(x, array):
    p = dd.parameter(0.25, name="p")
    assert_close(dd.jvp(np.sin(p * x), p, 2.0).compute(), 2 * array * np.cos(0.25 * array), 1e-14)


def test_a_vector_parameter(x, array):
    p = dd.parameter([0.25, 2.0], name="p")
    tangent = dd.jvp(p[0] * x + p[1] ** 2, p, [1.0, 10.0])
    assert_close(tangent.compute(), array + 40, 1e-14)


def test_a_nest_and_its_tangents(x, array):
    y, p, q = collection(array, THREE, "other"), dd.parameter(2.0, name="p"), dd.parameter(3.0, name="q")
    wrt = {"arrays": [x, y], "numbers": (p, {"q": q})}
    tangents = {"arrays": [array, 10.0], "numbers": (0.5, {"q": 4.0})}
    tangent = dd.jvp(x * y * p * q, wrt, tangents).compute()
    square = array * array
    assert_close(tangent, square * 6 + array * 10 * 6 + square * 0.5 * 3 + square * 2 * 4, 1e-14)


def test_a_nest_of_ones(x, array):
    y = collection(array, THREE, "other")
    assert_close(dd.jvp(x * y, (x, y)).compute(), 2 * array, 1e-15)


def test_tangents_as_number_array_and_collection(x, array):
    direction = array_of("jagged", 1)
    want = 3 * array**2 * direction
    assert_close(dd.jvp(x**3, x, direction).compute(), want, 1e-14)
    assert_close(dd.jvp(x**3, x, collection(direction, THREE)).compute(), want, 1e-14)
    assert_close(dd.jvp(x**3, x, 2).compute(), 6 * array**2, 1e-14)


def test_a_tangent_that_is_a_function_of_wrt(x, array):
    """The scaling of a momentum: the direction is the momentum itself."""
    assert_close(dd.jvp(x**3, x, 0.5 * x).compute(), 1.5 * array**3, 1e-14)


def test_a_tangent_that_is_a_parameter(x, array):
    step = dd.parameter(0.5, name="step")
    assert_close(dd.jvp(x**3, x, step).compute(), 1.5 * array**2, 1e-14)


# ---------------------------------------------------------------- refusals


def test_not_upstream(x, array):
    other = collection(array, THREE, "other")
    expr = x**2
    with pytest.raises(DisconnectedError) as caught:
        dd.jvp(expr, other)
    assert expr.name in str(caught.value)
    assert other.name in str(caught.value)


def test_not_upstream_beside_a_parameter(x, array):
    """The layer of a parameter is a materialised one; it is no sign of a graph that was optimised."""
    with pytest.raises(DisconnectedError):
        dd.jvp(x * dd.parameter(2.0), collection(array, THREE, "other"))
    with pytest.raises(DisconnectedError):
        dd.jvp(2 * dak.sum(x) + 1, dd.parameter(2.0))


def test_downstream_is_not_upstream(x):
    with pytest.raises(DisconnectedError):
        dd.jvp(x, x**2)


def test_through_integers_only(x):
    """Not disconnected: a piecewise constant function of x, whose derivative is zero."""
    number = dak.num(x[x > 1], axis=1)
    value, tangent = dask.compute(*dd.value_and_jvp(number * 0.5, x))
    assert value.to_list() == (number * 0.5).compute().to_list()
    assert tangent.to_list() == [0.0] * 12


def test_one_of_two_is_not_upstream(x, array):
    other = collection(array, THREE, "other")
    with pytest.raises(DisconnectedError, match=other.name):
        dd.jvp(x**2, [x, other])
    tangent = dd.jvp(x**2, [x, other], disconnected="zero").compute()
    assert_close(tangent, 2 * array, 1e-15)


def test_zero_if_disconnected(x, array, events):
    other = collection(array, THREE, "other")
    value, tangent = dask.compute(*dd.value_and_jvp(x**2, other, disconnected="zero"))
    assert value.to_list() == (array**2).to_list()
    assert tangent.to_list() == (0 * array).to_list()
    assert dd.jvp(dak.sum(x), other, disconnected="zero").compute() == 0
    zeros = dd.jvp(events.Jet.eta, events.Jet.pt, disconnected="zero").compute()
    assert zeros.to_list() == (0 * array).to_list()


def test_integers(x):
    with pytest.raises(TypeError, match=r"dak\.values_astype"):
        dd.jvp(dak.num(x) * 1.0, dak.num(x))


@pytest.mark.parametrize("wrt", [1.0, "x", None, np.ones(3)], ids=repr)
def test_wrt_is_no_collection(x, wrt):
    with pytest.raises(TypeError, match="wrt must be a dask-awkward collection"):
        dd.jvp(x**2, wrt)


def test_wrt_is_empty(x):
    with pytest.raises(TypeError, match="wrt is empty"):
        dd.jvp(x**2, [])


def test_tangent_of_another_type(x):
    with pytest.raises(StructureError, match=r"12 \* float64|type float64") as caught:
        dd.jvp(x**2, x, array_of("flat"))
    assert x.name in str(caught.value)


def test_tangent_of_another_precision(x, array):
    with pytest.raises(StructureError, match="float32"):
        dd.jvp(x**2, x, ak.values_astype(array, np.float32))


def test_tangent_of_another_length(x, array):
    with pytest.raises(StructureError, match="length 11"):
        dd.jvp(x**2, x, array[:11])


def test_tangent_with_other_partitions(x, array):
    with pytest.raises(StructureError, match="partitions"):
        dd.jvp(x**2, x, collection(array, SPLITS["1"]))


def test_tangent_with_other_lengths_raises_in_the_task(x, array):
    tangent = dd.jvp(x**2, x, collection(array[::-1], THREE))
    with pytest.raises(StructureError):
        tangent.compute()


def test_tangent_of_another_shape_than_a_parameter(x):
    p = dd.parameter([1.0, 2.0], name="p")
    with pytest.raises(StructureError, match=r"'p-.*must be as its value"):
        dd.jvp(x * p[0], p, np.ones(3))


def test_tangent_that_is_no_number(x):
    with pytest.raises(StructureError, match=r"must be a number, an ak\.Array.*not str"):
        dd.jvp(x**2, x, "one")


def test_tangents_that_nest_otherwise(x, array):
    y = collection(array, THREE, "other")
    with pytest.raises(StructureError, match="nest"):
        dd.jvp(x * y, {"x": x, "y": y}, {"x": 1.0})


def test_tangent_of_unknown_partitions(array):
    x = dak.from_map(
        np.abs, [array[:5], array[5:]], meta=ak.typetracer.typetracer_from_form(array.layout.form)
    )
    with pytest.raises(StructureError, match="eager_compute_divisions"):
        dd.jvp(x**2, x, array)


@pytest.mark.parametrize(
    "lose", [lambda y: dask.optimize(y)[0], lambda y: y.persist()], ids=["optimize", "persist"]
)
@pytest.mark.parametrize("use", [lambda y: y, lambda y: 1 - y], ids=["itself", "used"])
def test_operations_that_are_lost(array, lose, use, request):
    # A source of its own: dask-awkward caches by name, and would give back another test's graph.
    x = collection(array, THREE, request.node.name)
    with pytest.raises(OptimizedGraphError, match=x.name.split("[")[0]):
        dd.jvp(use(lose(np.sin(x))), x)


def test_what_is_persisted_is_a_source(array):
    y = np.sin(collection(array, THREE, "persisted")).persist()
    assert_close(dd.jvp(y**2, y).compute(), 2 * np.sin(array), 1e-15)


def leaves_awkward(x):
    return ak.unflatten(np.asarray(ak.flatten(x)), ak.num(x))


def leaves_as_float(x):
    return x * float(ak.sum(x))


def unknown_ufunc(x):
    return pytest.importorskip("scipy.special").exprel(x)


@pytest.mark.parametrize(
    ("fn", "op"),
    [(leaves_awkward, "asarray|__array__"), (leaves_as_float, "float"), (unknown_ufunc, "exprel")],
    ids=["asarray", "float", "ufunc"],
)
def test_no_rule_when_the_graph_is_built(x, fn, op):
    expr = dak.sum(dak.map_partitions(fn, x * 2, label="user-layer", meta=x._meta))
    with pytest.raises(NoRuleError, match=op) as caught:
        dd.jvp(expr, x)
    assert "user-layer" in str(caught.value)
    assert x.name in str(caught.value)


def test_no_rule_is_needed_beside_the_way(x, array):
    weight = dak.map_partitions(unknown_ufunc, x * 2)
    other = collection(array, THREE, "other")
    assert_close(dd.jvp(weight * other, other).compute(), unknown_ufunc(array * 2), 1e-15)


def test_arguments_are_checked(x):
    with pytest.raises(ValueError, match="method must be one of"):
        dd.jvp(x**2, x, method="reverse")
    with pytest.raises(ValueError, match="disconnected must be"):
        dd.jvp(x**2, x, disconnected="ignore")
    with pytest.raises(TypeError, match="expr must be"):
        dd.jvp(1.0, x)


DERIVATIVES = (dd.jvp, dd.value_and_jvp, dd.vjp, dd.grad, dd.value_and_grad, dd.jacobian, dd.hvp, dd.hessian)
OPTIONS = [
    (derivative.__name__, option)
    for derivative in DERIVATIVES
    for option in ("method", "disconnected", "residuals")
    if option in inspect.signature(derivative).parameters
]


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_options_reach_every_derivative(name, option, x):
    p = dd.parameter([2.0], name="p")
    with pytest.raises(ValueError, match=f"{option} must be"):
        getattr(dd, name)(dak.sum(x * p[0]), p, **{option: "other"})


def test_a_delayed_argument():
    x = collection(array_of("jagged"), SPLITS["3"])
    factor = dask.delayed(lambda: 2.5)()
    expr = dak.map_partitions(operator.mul, x, factor, meta=x._meta)
    assert_close(dd.jvp(expr, x).compute(), ak.full_like(array_of("jagged"), 2.5), 1e-15)
    assert_close(dd.vjp(expr, x).compute(), ak.full_like(array_of("jagged"), 2.5), 1e-15)


def test_wrt_a_record_is_refused():
    jets = collection(array_of("jets"), SPLITS["3"])
    record = dak.flatten(jets)[0]
    with pytest.raises(TypeError, match="wrt must be"):
        dd.jvp(record.pt, record)


def test_the_cotangent_of_a_scalar_is_a_number():
    x = collection(array_of("jagged"), SPLITS["3"])
    with pytest.raises(StructureError, match="must be a number"):
        dd.vjp(dak.sum(x), x, x)


def test_complex_seeds():
    """Of complex numbers they keep both parts; of real ones they are refused."""
    z = np.array([1 + 2j, 0.5 - 1j])
    x, p = collection(ak.Array(z), [1, 1]), dd.parameter(np.array([0.7 + 0.2j]), name="p")
    along, back = 0.1 + 0.5j, 0.3 + 0.7j
    tangent = dd.jvp(dak.sum(x * p[0]), p, np.array([along]))
    cotangents = dd.vjp(dak.sum(x * x), x, back), dd.vjp(x * x, x, np.complex128(back))
    tangent, *cotangents = dask.compute(tangent, *cotangents)
    assert tangent == pytest.approx(z.sum() * along)
    for got in cotangents:
        np.testing.assert_allclose(got, np.conj(2 * z) * back)
    real = collection(ak.Array([1.0, 2.0]), [1, 1])
    for what in (along, np.array([along, along])):
        with pytest.raises(StructureError):
            dd.jvp(real**2, real, what)


def test_operations_that_are_gone_beside_a_path_that_is_not():
    """dask-awkward optimises on the way to dask.array."""
    x, p = dak.from_awkward(ak.Array([1.0, 2.0, 3.0]), npartitions=2), dd.parameter(2.0, name="p")
    total = dak.sum(dak.from_dask_array(dak.to_dask_array(x * p)) * p)
    for derivative in (dd.jvp, dd.grad):
        with pytest.raises(OptimizedGraphError, match=r"are gone.*dask\.optimize or persist"):
            derivative(total, p)


def test_a_delayed_function_on_the_way():
    x, p = dak.from_awkward(ak.Array([1.0, 2.0]), npartitions=2), dd.parameter(0.5, name="p")
    y = dak.map_partitions(operator.mul, x, dask.delayed(operator.neg)(p), meta=x._meta)
    with pytest.raises(NoRuleError, match=r"tasks of dask\.delayed.*dak\.map_partitions"):
        dd.jvp(y, p)
