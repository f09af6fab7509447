"""The map: every public operation of Awkward, dask-awkward, NumPy's ufuncs and vector, with its verdict.

*Exact*: the derivative is right, by formulas, by the complex step and in reverse. *Zero by nature*: the
results are positions, counts, booleans or piecewise constant. *Refused*: an error says what would lose the
derivative. *Not applicable*: no numbers go in or none come out. Nothing else is allowed.
A row points to a case of `cases.py` by name, or has a function and its inputs; `test_operations.py` runs it.
`docs/make_operations.py` writes the page.
"""

from dataclasses import dataclass
from types import FunctionType

import awkward as ak
import dask_awkward as dak
import numpy as np
from cases import BINARY, CASES, FLAT, FULL, JAGGED, JETS, OTHER, RECORDS, RECTANGULAR, UNARY, Case

from dak_diff.rules import ufuncs

EXACT, ZERO, REFUSED, NOT_APPLICABLE = "exact", "zero by nature", "refused", "not applicable"
BY_NAME = {case.name: case for case in CASES}


@dataclass(frozen=True)
class Row:
    """A verdict, and the case that shows it.

    `note`: why it is not applicable, in one word, or what the error calls a refused operation.
    `needs`: a package without which upstream raises an error of its own.
    """

    verdict: str
    case: Case | None = None
    note: str = ""
    needs: str = ""


def row(verdict, what, inputs, note="", needs=""):
    return Row(verdict, BY_NAME[what] if isinstance(what, str) else Case("", what, inputs), note, needs)


def exact(what, *inputs):
    return row(EXACT, what, inputs)


def zero(what, *inputs):
    return row(ZERO, what, inputs)


def refused(called, fn, *inputs, needs=""):
    return row(REFUSED, fn, inputs, called, needs)


def not_applicable(reason, names):
    return dict.fromkeys(names.split(), Row(NOT_APPLICABLE, note=reason))


def cases(verdict, names, form="{}"):
    """Rows whose cases are called after them."""
    return {name: Row(verdict, BY_NAME[form.format(name)]) for name in names.split()}


def unimplemented(fn, *inputs):
    """A name that dask-awkward has, to say that it is not implemented there."""
    return row(NOT_APPLICABLE, fn, inputs, "unimplemented")


def public_functions(module):
    names = (name for name in dir(module) if not name.startswith("_"))
    return {name for name in names if isinstance(getattr(module, name), FunctionType)}


def public_members(cls):
    return {name for name in dir(cls) if not name.startswith("_")}


# ---------------------------------------------------------------- Awkward


def categorical(x):
    """Four entries of three categories."""
    nplike = x.layout.backend.nplike
    index = ak.index.Index64(nplike.asarray(np.array([1, 0, 2, 1])), nplike=nplike)
    return ak.Array(ak.contents.IndexedArray(index, x.layout, parameters={"__array__": "categorical"}))


FILE = "memory://dak_diff"


def doubled(layout, **_):
    return ak.contents.NumpyArray(layout.data * 2) if layout.is_numpy else None


def to_jax(x):
    ak.jax.register_and_check()
    return ak.to_jax(x)


AWKWARD = {
    # reducers
    **cases(EXACT, "mean prod std var nanmean nanprod nanstd nanvar", "{} axis=-1"),
    **cases(EXACT, "max min ptp sum nanmax nanmin nansum", "{} axis=-1 keepdims=False"),
    **cases(EXACT, "corr covar linear_fit moment", "{} axis=-1"),
    **cases(ZERO, "all any argmax argmin count count_nonzero", "{} axis=-1"),
    "nanargmax": zero(lambda x: ak.nanargmax(x, axis=-1), JAGGED),
    "nanargmin": zero(lambda x: ak.nanargmin(x, axis=-1), JAGGED),
    "softmax": exact("softmax"),
    # numbers
    **cases(EXACT, "angle imag nan_to_none nan_to_num real where"),
    **cases(ZERO, "full_like isclose ones_like round zeros_like"),
    "almost_equal": zero(lambda x, y: ak.almost_equal(x, y), JAGGED, OTHER),
    "array_equal": zero(lambda x, y: ak.array_equal(x, y), JAGGED, OTHER),
    "values_astype": exact("values_astype float32"),
    # selections and order
    **cases(EXACT, "drop_none fill_none firsts mask pad_none singletons"),
    **cases(ZERO, "is_none local_index num"),
    "argsort": zero(lambda x: ak.argsort(x, axis=-1), JAGGED),
    "is_valid": zero(lambda x: ak.is_valid(x), JAGGED),
    "run_lengths": zero(lambda x: ak.run_lengths(x), JAGGED),
    "sort": exact("sort axis=-1 ascending=True"),
    # combinations
    "argcartesian": zero(lambda x, y: ak.argcartesian([x, y]), JAGGED, OTHER),
    "argcombinations": zero(lambda x: ak.argcombinations(x, 2), JAGGED),
    "cartesian": exact("cartesian"),
    "combinations": exact("combinations"),
    # structure
    **cases(
        EXACT,
        "copy flatten from_regular ravel to_packed to_regular unflatten unzip with_field with_name "
        "without_field zip",
    ),
    "broadcast_arrays": exact("broadcast"),
    "broadcast_fields": exact(lambda r: ak.broadcast_fields(r, r[["pt", "eta"]])[1], RECORDS),
    "categories": exact(lambda x: ak.categories(categorical(x)), FLAT[:3]),
    "concatenate": exact("concatenate axis=1"),
    "enforce_type": exact(lambda x: ak.enforce_type(x, "var * ?float32"), JAGGED),
    "from_categorical": exact(lambda x: ak.from_categorical(categorical(x)), FLAT[:3]),
    "materialize": exact(lambda x: ak.materialize(x), JAGGED),
    "merge_option_of_records": exact("merge option of records"),
    "merge_union_of_records": exact("merge union of records"),
    "to_backend": exact(lambda x: ak.to_backend(x, "cpu"), JAGGED),
    "to_layout": exact(lambda x: ak.Array(ak.to_layout(x)), JAGGED),
    "transform": exact(lambda x: ak.transform(doubled, x), JAGGED),
    "with_named_axis": exact(lambda x: ak.with_named_axis(x, ("event", "jet")), JAGGED),
    "with_parameter": exact(lambda x: ak.with_parameter(x, "unit", "GeV"), JAGGED),
    "without_named_axis": exact(lambda x: ak.without_named_axis(x), JAGGED),
    "without_parameters": exact(lambda x: ak.without_parameters(x), JAGGED),
    "zip_no_broadcast": exact(lambda r: ak.zip_no_broadcast({"a": r.pt, "b": r.eta}), RECORDS),
    # into and out of other containers
    "from_buffers": refused("from_buffers", lambda x: ak.from_buffers(*ak.to_buffers(x)), JAGGED),
    "from_dlpack": refused("DLPack", lambda x: ak.from_dlpack(ak.to_numpy(x)), RECTANGULAR),
    "from_iter": refused("x.tolist()", lambda x: ak.from_iter([x[0], x[1]]), FLAT),
    "from_numpy": exact(lambda x: ak.from_numpy(ak.to_numpy(x)), RECTANGULAR),
    "to_arrow": refused("np.asarray(x)", lambda x: ak.to_arrow(x), JAGGED),
    "to_arrow_table": refused("np.asarray(x)", lambda x: ak.to_arrow_table(x), JAGGED),
    "to_buffers": exact(lambda x: ak.to_buffers(x)[2]["node1-data"], JAGGED),
    "to_cudf": refused("to_cudf", lambda x: ak.to_cudf(x), JAGGED, needs="cudf"),
    "to_cupy": refused("np.asarray(x)", lambda x: ak.to_cupy(x), RECTANGULAR, needs="cupy"),
    "to_dataframe": refused("np.asarray(x)", lambda x: ak.to_dataframe(x), JAGGED, needs="pandas"),
    "to_feather": refused("np.asarray(x)", lambda x: ak.to_feather(x, FILE), JAGGED),
    "to_jax": refused("np.asarray(x)", to_jax, RECTANGULAR, needs="jax"),
    "to_json": refused("x.tolist()", lambda x: ak.to_json(x), JAGGED),
    "to_list": refused("x.tolist()", lambda x: ak.to_list(x), JAGGED),
    "to_numpy": exact(lambda x: ak.to_numpy(x), RECTANGULAR),
    "to_parquet": refused("np.asarray(x)", lambda x: ak.to_parquet(x, FILE), JAGGED),
    "to_parquet_row_groups": refused(
        "np.asarray(x)", lambda x: ak.to_parquet_row_groups(iter([x]), FILE), JAGGED
    ),
    "to_raggedtensor": refused(
        "to_raggedtensor", lambda x: ak.to_raggedtensor(x), JAGGED, needs="tensorflow"
    ),
    "to_rdataframe": refused("to_rdataframe", lambda x: ak.to_rdataframe({"x": x}), JAGGED, needs="ROOT"),
    "to_safetensors": refused(
        "to_safetensors", lambda x: ak.to_safetensors(x, FILE), JAGGED, needs="safetensors"
    ),
    "to_tensorflow": refused("to_tensorflow", lambda x: ak.to_tensorflow(x), RECTANGULAR, needs="tensorflow"),
    "to_torch": refused("to_torch", lambda x: ak.to_torch(x), RECTANGULAR, needs="torch"),
    # without numbers
    **not_applicable("type", "is_categorical is_tuple parameters type"),
    **not_applicable("text", "backend fields strings_astype validity_error"),
    **not_applicable("decorator", "mixin_class mixin_class_method"),
    **not_applicable(
        "I/O",
        "from_arrow_schema from_avro_file from_feather from_json from_parquet from_safetensors "
        "metadata_from_parquet to_parquet_dataset",
    ),
    **not_applicable(
        "constructor",
        "from_arrow from_cudf from_cupy from_jax from_raggedtensor from_rdataframe from_tensorflow "
        "from_torch",
    ),
}

# ---------------------------------------------------------------- dask-awkward

#: The functions that dask-awkward has in common with Awkward, shown by the same cases.
SHARED = (
    "all any argcartesian argcombinations argmax argmin argsort cartesian combinations concatenate copy "
    "count count_nonzero drop_none enforce_type fill_none firsts flatten from_regular full_like is_none "
    "local_index mask max mean min nan_to_num num ones_like pad_none prod ravel run_lengths singletons sort "
    "std sum to_regular unflatten values_astype var where with_field with_name with_parameter without_field "
    "without_parameters zeros_like zip"
)
DASK = {
    **{name: AWKWARD[name] for name in SHARED.split()},
    "broadcast_arrays": exact(lambda x, y: dak.broadcast_arrays(dak.firsts(x), y)[0], JAGGED, OTHER),
    "corr": unimplemented(lambda x, y: dak.corr(x, y), FULL, FULL),
    "covar": unimplemented(lambda x, y: dak.covar(x, y), FULL, FULL),
    "isclose": zero(lambda x, y: dak.isclose(x, y), JAGGED, OTHER),
    "linear_fit": unimplemented(lambda x, y: dak.linear_fit(x, y), FULL, FULL),
    "map_partitions": exact(lambda x: dak.map_partitions(np.square, x), JAGGED),
    "moment": unimplemented(lambda x: dak.moment(x, 3), FULL),
    "ptp": unimplemented(lambda x: dak.ptp(x, axis=-1), FULL),
    "sample": exact(lambda x: dak.sample(x, factor=2), FLAT),
    "softmax": unimplemented(lambda x: dak.softmax(x, axis=-1), FULL),
    "strings_astype": unimplemented(lambda x: dak.strings_astype(x, "float64"), FULL),
    "to_packed": exact(lambda x: dak.to_packed(x[:, ::-1]), JAGGED),
    "unzip": exact(lambda r: dak.unzip(r[["pt", "eta"]])[1], RECORDS),
    # into and out of other collections
    "from_dask_array": exact(lambda x: dak.from_dask_array(dak.to_dask_array(x)), FLAT),
    "from_delayed": exact(
        lambda x: dak.from_delayed(dak.to_delayed(x, optimize_graph=False), meta=x._meta), JAGGED
    ),
    "to_dask_array": exact(lambda x: dak.from_dask_array(dak.to_dask_array(x)), FLAT),
    "to_dask_bag": refused(
        "x.tolist()",
        lambda x: dak.from_delayed(
            dak.to_dask_bag(x).map_partitions(ak.from_iter).to_delayed(optimize_graph=False), meta=x._meta
        ),
        JAGGED,
    ),
    "to_delayed": refused(
        "dask.optimize", lambda x: dak.from_delayed(dak.to_delayed(2 * x), meta=x._meta), JAGGED
    ),
    "to_json": refused("x.tolist()", lambda x: dak.to_json(x, FILE, compute=False), JAGGED),
    "to_parquet": refused("np.asarray(x)", lambda x: dak.to_parquet(x, FILE, compute=False), JAGGED),
    **not_applicable("I/O", "from_json from_parquet from_text to_dataframe"),
    **not_applicable("constructor", "from_awkward from_lists from_map"),
    **not_applicable("execution", "to_list"),
    **not_applicable("decorator", "dask_method dask_property"),
    **not_applicable("text", "backend fields layout_to_jsonschema"),
    **not_applicable("type", "type"),
    **not_applicable(
        "inspection",
        "compatible_partitions necessary_columns partition_compatibility report_necessary_buffers "
        "report_necessary_columns",
    ),
}
DASK_ARRAY = {
    "map_partitions": exact(lambda x: x.map_partitions(np.square), JAGGED),
    "mask": exact(lambda x: x.mask[x > 0], JAGGED),
    "partitions": exact(lambda x: x.partitions[1], JAGGED),
    "persist": refused("persist", lambda x: (2 * x).persist(), JAGGED),
    "repartition": exact(lambda x: x.repartition(npartitions=1), JAGGED),
    "to_dask_array": exact(lambda x: dak.from_dask_array(x.to_dask_array()), FLAT),
    "to_dask_bag": refused(
        "x.tolist()",
        lambda x: dak.from_delayed(
            x.to_dask_bag().map_partitions(ak.from_iter).to_delayed(optimize_graph=False), meta=x._meta
        ),
        JAGGED,
    ),
    "to_delayed": refused(
        "dask.optimize", lambda x: dak.from_delayed((2 * x).to_delayed(), meta=x._meta), JAGGED
    ),
    "to_parquet": refused("np.asarray(x)", lambda x: x.to_parquet(FILE, compute=False), JAGGED),
    **not_applicable("execution", "compute eager_compute_divisions head visualize"),
    **not_applicable("type", "form layout ndim type"),
    **not_applicable("text", "fields name"),
    **not_applicable(
        "metadata",
        "attrs behavior clear_divisions dask defined_divisions divisions keys keys_array known_divisions "
        "npartitions reset_meta",
    ),
}
DASK_SCALAR = {
    "persist": refused("persist", lambda x: dak.sum(x).persist(), JAGGED),
    "to_delayed": exact(
        lambda x: dak.map_partitions(
            np.multiply, x, dak.sum(x).to_delayed(optimize_graph=False), meta=x._meta
        ),
        JAGGED,
    ),
    **not_applicable("execution", "compute visualize"),
    **not_applicable("constructor", "from_known"),
    **not_applicable("type", "dtype layout"),
    **not_applicable("text", "fields key name"),
    **not_applicable("metadata", "dask divisions known_value npartitions"),
}

# ---------------------------------------------------------------- ufuncs

#: Ufuncs of NumPy 2.2 and later.
LATER = {"matvec", "vecmat"}
MATRIX = np.array([[0.5, 1.25], [2.0, -0.75]])
#: They have partials, for complex numbers and at the jump; elsewhere these are zero.
STEPS = (np.sign, np.heaviside)


def public_ufuncs():
    return {f.__name__ for f in vars(np).values() if isinstance(f, np.ufunc)}


def integers(x):
    return ak.values_astype(abs(x), np.int64)


def _inputs(ufunc):
    """Away from halves, integers and powers of two."""
    return BY_NAME["remainder(x, y)"].inputs[: ufunc.nin]


def _differentiated(ufunc):
    if ufunc in UNARY:
        return BY_NAME[ufunc.__name__]
    return BY_NAME[f"{ufunc.__name__}(x, y)" if ufunc in BINARY else "ldexp(x, n)"]


def _product(name):
    """Products of vectors beside `matmul`, which serves for them."""
    return refused(name, lambda x, y: getattr(np, name)(x, y), np.eye(2), np.full((2, 2), 1.5))


def _stepwise(ufunc):
    if any(loop.startswith("d") for loop in ufunc.types):
        return zero(ufunc, *_inputs(ufunc))
    return zero(lambda *xs: ufunc(*map(integers, xs)), *_inputs(ufunc))


UFUNCS = {
    **{f.__name__: Row(ZERO if f in STEPS else EXACT, _differentiated(f)) for f in ufuncs.PARTIALS},
    **{f.__name__: _stepwise(f) for f in (*ufuncs.ZERO, *ufuncs.NOT_NUMBERS)},
    "conjugate": exact("conj"),
    "isnat": zero(lambda x: np.isnat(ak.values_astype(integers(x), "datetime64[s]")), JAGGED),
    "matmul": exact(lambda x, y: np.matmul(x, y), MATRIX, MATRIX.T),
    **{name: _product(name) for name in ("vecdot", *LATER)},
}

# ---------------------------------------------------------------- vector

#: Of these a row takes two; masses are of the size of momenta, so that differences can tell them.
POLAR = (
    ak.zip({"pt": JETS.pt, "phi": JETS.phi, "eta": JETS.eta / 2, "mass": 8 * JETS.mass}),
    ak.zip(
        {
            "pt": 1.25 * JETS.pt + 2,
            "phi": 0.75 * JETS.phi + 0.375,
            "eta": 0.25 - JETS.eta / 2,
            "mass": 6 * JETS.mass + 3,
        }
    ),
)
FIELDS = {2: ["pt", "phi"], 3: ["pt", "phi", "eta"], 4: ["pt", "phi", "eta", "mass"]}
CARTESIAN = {2: "to_xy", 3: "to_xyz", 4: "to_xyzt"}


def vectors(dimension, storage):
    """Two arrays of momenta, by their pt, phi, eta, mass, or by their Cartesian coordinates."""
    pair = tuple(ak.with_name(v[FIELDS[dimension]], f"Momentum{dimension}D") for v in POLAR)
    if storage == "Cartesian":
        pair = tuple(getattr(v, CARTESIAN[dimension])() for v in pair)
    return tuple(map(ak.to_packed, pair))


def attributes(verdict, names):
    return {name: Row(verdict, Case(name, lambda v, w, n=name: getattr(v, n), ())) for name in names.split()}


def calls(verdict, names, *arguments):
    """Methods of a vector, whose arguments are functions of another."""

    def call(name):
        return lambda v, w: getattr(v, name)(*(argument(w) for argument in arguments))

    return {name: Row(verdict, Case(name, call(name), ())) for name in names.split()}


def _vector(w):
    return w


def _angle(w):
    return w.phi


def _matrix(w):
    """A linear transformation with one element that is differentiated by."""
    return {**{i + j: 0.125 * (2 * ord(i) - ord(j)) % 7 for i in "xyzt" for j in "xyzt"}, "xx": w.phi}


AZIMUTHAL = {"xy": "pxpy", "rhophi": "ptphi"}
LONGITUDINAL = {"z": "pz", "theta": "theta", "eta": "eta"}
TEMPORAL = {"t": "energy", "tau": "mass"}
#: Each conversion with its name for momenta.
CONVERSIONS = {
    **{f"to_{a}": f"to_{AZIMUTHAL[a]}" for a in AZIMUTHAL},
    **{f"to_{a}{z}": f"to_{AZIMUTHAL[a]}{LONGITUDINAL[z]}" for a in AZIMUTHAL for z in LONGITUDINAL},
    **{
        f"to_{a}{z}{t}": f"to_{AZIMUTHAL[a]}{LONGITUDINAL[z]}{TEMPORAL[t]}"
        for a in AZIMUTHAL
        for z in LONGITUDINAL
        for t in TEMPORAL
    },
}

#: By the lowest dimension that has the name; higher dimensions have it too.
VECTOR = {
    2: {
        **attributes(EXACT, "x y rho rho2 phi neg2D"),
        **calls(EXACT, "unit to_2D to_3D to_4D to_Vector2D to_Vector3D to_Vector4D"),
        **calls(EXACT, " ".join(CONVERSIONS)),
        **calls(EXACT, "add deltaphi dot like subtract", _vector),
        **calls(EXACT, "rotateZ scale scale2D", _angle),
        **calls(EXACT, "transform2D", _matrix),
        **calls(ZERO, "equal is_antiparallel is_parallel is_perpendicular isclose not_equal", _vector),
        "azimuthal": Row(EXACT, Case("", lambda v, w: v.azimuthal.elements, ())),
        **not_applicable("module", "lib"),
    },
    3: {
        **attributes(EXACT, "z theta eta costheta cottheta mag mag2 neg3D"),
        **calls(EXACT, "deltaR deltaR2 deltaangle deltaeta", _vector),
        **calls(EXACT, "rotateX rotateY scale3D", _angle),
        **calls(EXACT, "transform3D", _matrix),
        "cross": Row(EXACT, Case("", lambda v, w: v.to_3D().cross(w.to_3D()), ())),
        "longitudinal": Row(EXACT, Case("", lambda v, w: v.longitudinal.elements, ())),
        **calls(EXACT, "rotate_axis", lambda w: w.to_3D(), _angle),
        **calls(EXACT, "rotate_euler rotate_nautical", _angle, lambda w: w.theta, lambda w: w.eta),
        **calls(EXACT, "rotate_quaternion", _angle, lambda w: w.theta, lambda w: w.eta, lambda w: w.pt / 32),
    },
    4: {
        **attributes(EXACT, "t t2 tau tau2 beta gamma rapidity et et2 mt mt2 neg4D"),
        **calls(EXACT, "to_beta3"),
        **calls(EXACT, "boost boostCM_of boostCM_of_p4 boost_p4 deltaRapidityPhi deltaRapidityPhi2", _vector),
        **calls(EXACT, "boostCM_of_beta3 boost_beta3", lambda w: w.to_beta3()),
        **calls(EXACT, "boostX boostY boostZ", lambda w: np.tanh(w.phi)),
        **calls(EXACT, "scale4D", _angle),
        **calls(EXACT, "transform4D", _matrix),
        **calls(ZERO, "is_lightlike is_spacelike is_timelike"),
        "temporal": Row(EXACT, Case("", lambda v, w: v.temporal.elements, ())),
    },
}
#: Other names of the same thing.
ALIASES = {
    2: {
        **{momentum: name for name, momentum in CONVERSIONS.items()},
        "px": "x",
        "py": "y",
        "pt": "rho",
        "pt2": "rho2",
    },
    3: {"pz": "z", "p": "mag", "p2": "mag2", "pseudorapidity": "eta"},
    4: {
        **dict.fromkeys(("E", "e", "energy"), "t"),
        **dict.fromkeys(("E2", "e2", "energy2"), "t2"),
        **dict.fromkeys(("M", "m", "mass"), "tau"),
        **dict.fromkeys(("M2", "m2", "mass2"), "tau2"),
        **dict.fromkeys(("Et", "transverse_energy"), "et"),
        **dict.fromkeys(("Et2", "transverse_energy2"), "et2"),
        **dict.fromkeys(("Mt", "transverse_mass"), "mt"),
        **dict.fromkeys(("Mt2", "transverse_mass2"), "mt2"),
    },
}
