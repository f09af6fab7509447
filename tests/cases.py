"""One table of functions and inputs; `test_cases.py` runs every generic check on every row.

A row says where its inputs lie if the function has a domain or kinks: all inputs here keep away from kinks
and ties by more than the step of a difference quotient. For values at kinks see `rules/test_ufuncs.py`.
Numbers are short binary fractions, so that sums, and differences of linear functions, are exact.
"""

from collections.abc import Callable
from dataclasses import dataclass

import awkward as ak
import numpy as np
import vector

vector.register_awkward()


@dataclass(frozen=True)
class Case:
    """A function of some arrays.

    `exact` marks a linear function whose numbers stay short binary fractions: differences have no error.
    `domain` says in words where the inputs must lie; `once` marks a function that is not twice
    differentiable there.
    """

    name: str
    fn: Callable
    inputs: tuple
    exact: bool = False
    domain: str = ""
    once: bool = False

    def __str__(self):
        return self.name


def build(data, type_=None):
    array = ak.Array(data)
    return array if type_ is None else ak.enforce_type(array, type_)


# ---------------------------------------------------------------- inputs, by structure

FLAT = build([1.125, -2.25, 3.5, 0.375, -0.625])
JAGGED = build([[1.125, -2.25, 3.5], [], [0.375], [-0.625, 2.75]])
OTHER = build([[0.5, 1.75, -1.375], [], [2.125], [0.8125, -3.25]])
POSITIVE = build([[1.125, 2.25, 3.5], [], [0.375], [0.625, 2.75]])
COLUMNS = ak.Array([[1.125, -2.25, 3.5], [0.375, 1.5, -0.75], [2.0, 0.25]])
FULL = build([[1.125, -2.25, 3.5], [0.375, 1.5], [-0.625, 2.75]])
DEEP = build([[[1.125, -2.25], [], [3.5]], [], [[0.375, -0.625, 2.75]]])
REGULAR = build([[1.125, -2.25, 3.5], [0.375, -0.625, 2.75]], "3 * float64")
RECTANGULAR = ak.from_numpy(np.array([[1.125, -2.25, 3.5], [0.375, -0.625, 2.75]]))
OPTION = build([[1.125, None, 3.5], [], [None, -0.625], [2.75]])
OPTION_LISTS = build([[1.125, -2.25], None, [], [3.5]])
BYTE_MASKED = ak.mask(JAGGED, JAGGED > -1)
UNION = build([1.125, [-2.25, 3.5], 0.375, []])
INDEXED = JAGGED[[0, 0, 3, 2]]
COMPLEX = build([[1.125 - 0.5j, -2.25 + 1.5j], [], [0.375 + 2.0j]])
RECORDS = build(
    [
        [
            {"pt": 1.125, "eta": -2.25, "charge": 1, "tag": "b"},
            {"pt": 3.5, "eta": 0.375, "charge": -1, "tag": "light"},
        ],
        [],
        [{"pt": 0.625, "eta": 2.75, "charge": -1, "tag": "c"}],
    ]
)
PAIRS = build([(1.125, [2.25]), (3.5, []), (0.375, [0.5, -1.5])])
JETS = build(
    [
        [
            {"pt": 31.5, "eta": 0.75, "phi": 1.125, "mass": 4.5},
            {"pt": 20.25, "eta": -1.5, "phi": -2.5, "mass": 3.25},
        ],
        [],
        [
            {"pt": 55.0, "eta": 2.125, "phi": 0.375, "mass": 7.5},
            {"pt": 42.75, "eta": 1.0, "phi": 2.875, "mass": 6.0},
            {"pt": 12.5, "eta": -0.25, "phi": -0.625, "mass": 1.75},
        ],
    ]
)
MUONS = ak.with_name(JETS, "Momentum4D")

STRUCTURES = {
    "flat": FLAT,
    "jagged": JAGGED,
    "deep": DEEP,
    "regular": REGULAR,
    "rectangular": RECTANGULAR,
    "option": OPTION,
    "option lists": OPTION_LISTS,
    "byte masked": BYTE_MASKED,
    "union": UNION,
    "indexed": INDEXED,
    "sliced": JAGGED[1:, ::-1],
}

# ---------------------------------------------------------------- ufuncs

DOMAINS = {
    "real": [[0.375, -1.25, 2.75], [], [1.125]],
    "above 0": [[0.375, 1.25, 2.625], [], [1.125]],
    "above -1": [[-0.375, -0.875, 0.625], [], [1.125]],
    "between -1 and 1": [[0.375, -0.875, 0.625], [], [0.125]],
    "above 1": [[1.375, 2.25, 3.625], [], [1.125]],
}
UNARY = {
    **dict.fromkeys(
        (
            np.negative, np.positive, np.square, np.exp, np.exp2, np.expm1, np.sin, np.cos, np.tan, np.arctan,
            np.sinh, np.cosh, np.tanh, np.arcsinh, np.deg2rad, np.radians, np.rad2deg, np.degrees,
            np.reciprocal, np.cbrt, np.absolute, np.fabs, np.sign, np.modf, np.frexp,
        ),
        "real",
    ),
    **dict.fromkeys((np.sqrt, np.log, np.log2, np.log10), "above 0"),
    np.log1p: "above -1",
    **dict.fromkeys((np.arcsin, np.arccos, np.arctanh), "between -1 and 1"),
    np.arccosh: "above 1",
}  # fmt: skip
BINARY = {
    **dict.fromkeys(
        (
            np.add, np.subtract, np.multiply, np.divide, np.remainder, np.fmod, np.divmod, np.logaddexp,
            np.logaddexp2, np.arctan2, np.hypot, np.maximum, np.minimum, np.fmax, np.fmin, np.copysign,
            np.nextafter, np.heaviside,
        ),
        "real",
    ),
    **dict.fromkeys((np.power, np.float_power), "above 0"),
}  # fmt: skip
LINEAR = (np.negative, np.positive, np.add, np.subtract)
SECOND = [[1.5, 0.6875, -0.8125], [], [2.375]]


def ufunc_cases():
    for ufunc, domain in UNARY.items():
        yield Case(ufunc.__name__, ufunc, (build(DOMAINS[domain]),), ufunc in LINEAR, domain)
    for ufunc, domain in BINARY.items():
        name, exact, x, y = ufunc.__name__, ufunc in LINEAR, build(DOMAINS[domain]), build(SECOND)
        yield Case(f"{name}(x, y)", ufunc, (x, y), exact, domain)
        yield Case(f"{name}(x, 1.75)", lambda x, f=ufunc: f(x, 1.75), (x,), exact, domain)
        yield Case(f"{name}(1.75, y)", lambda y, f=ufunc: f(1.75, y), (y,), exact, domain)
    yield Case("ldexp(x, n)", lambda x: np.ldexp(x, ak.local_index(x)), (JAGGED,), exact=True)
    yield Case("x / 0.5 - 2 * x", lambda x: x / 0.5 - 2 * x, (JAGGED,), exact=True)
    yield Case("power(x, 2)", lambda x: x**2, (JAGGED,))
    yield Case("power(x, 3)", lambda x: x**3, (JAGGED,))
    yield Case("power(x, -2)", lambda x: x**-2, (JAGGED,), domain="not 0")
    yield Case("power(2, x)", lambda x: 2**x, (JAGGED,))
    yield Case("x % 1.5", lambda x: x % 1.5, (JAGGED,), domain="no multiple of 1.5")
    yield Case("floor(x) * x", lambda x: np.floor(x) * x, (JAGGED,), domain="no integer")
    yield Case("x * (x > 1)", lambda x: x * (x > 1), (JAGGED,), exact=True, domain="not 1")
    yield Case("function of a reduced number", lambda x: np.sqrt(ak.sum(x)) * x, (POSITIVE,))
    yield Case("number times number", lambda x: ak.sum(ak.sum(x) * x), (JAGGED,))
    yield Case("numpy array on the left", lambda x: np.array([1.0, 2.0, 3.0]) * x, (FULL[:, 0],), exact=True)


# ---------------------------------------------------------------- every structure


def structure_cases():
    for name, x in STRUCTURES.items():
        yield Case(f"x * x, {name}", lambda x: x * x, (x,))
        yield Case(f"3 - x, {name}", lambda x: 3 - x, (x,), exact=True)
        yield Case(f"identity, {name}", lambda x: x, (x,), exact=True)
        yield Case(f"x[[0, 0, 1]], {name}", lambda x: x[[0, 0, 1]], (x,), exact=True)
        yield Case(f"concatenate, {name}", lambda x: ak.concatenate([x, 2 * x]), (x,), exact=True)
        if name != "union":
            yield Case(f"sum of squares, {name}", lambda x: ak.sum(x * x), (x,))
            yield Case(f"max axis=-1, {name}", lambda x: ak.max(x, axis=-1), (x,), exact=True)
            yield Case(f"sum axis=0, {name}", lambda x: ak.sum(x, axis=0), (x,), exact=True)
            yield Case(f"x[x > 0], {name}", lambda x: x[x > 0], (x,), exact=True, domain="not 0")


# ---------------------------------------------------------------- reducers

AXES = (None, 0, 1, -1)


def reducer_cases():
    linear = {
        "sum": ak.sum,
        "nansum": ak.nansum,
        "min": ak.min,
        "max": ak.max,
        "nanmin": ak.nanmin,
        "nanmax": ak.nanmax,
    }
    for name, reduce in {**linear, "ptp": ak.ptp}.items():
        for axis in AXES:
            for keepdims in (False, True):
                yield Case(
                    f"{name} axis={axis} keepdims={keepdims}",
                    lambda x, f=reduce, a=axis, k=keepdims: f(x, axis=a, keepdims=k),
                    (JAGGED,),
                    exact=True,
                    domain="no ties",
                )
    others = {
        "prod": ak.prod, "mean": ak.mean, "var": ak.var, "std": ak.std,
        "nanprod": ak.nanprod, "nanmean": ak.nanmean, "nanvar": ak.nanvar, "nanstd": ak.nanstd,
    }  # fmt: skip
    for name, reduce in others.items():
        for axis in AXES:
            if axis == 0 and "std" in name:
                # A column of one element is a kink that the one-pass formula of axis 0 makes singular.
                yield Case(f"{name} axis=0", lambda x, f=reduce: f(x, axis=0), (COLUMNS,))
                continue
            yield Case(f"{name} axis={axis}", lambda x, f=reduce, a=axis: f(x, axis=a), (FULL,))
            yield Case(
                f"{name} axis={axis} keepdims",
                lambda x, f=reduce, a=axis: f(x, axis=a, keepdims=True),
                (FULL,),
            )
            # The spread of one element is 0, and its root has a derivative there by convention only.
            yield Case(
                f"{name} axis={axis}, option",
                lambda x, f=reduce, a=axis: f(x, axis=a),
                (OPTION[[0, 2, 3]],),
                once="std" in name,
            )
    for axis in (1, 2):
        yield Case(f"sum axis={axis}, deep", lambda x, a=axis: ak.sum(x, axis=a), (DEEP,), exact=True)
        yield Case(f"prod axis={axis}, deep", lambda x, a=axis: ak.prod(x, axis=a), (DEEP,))
        yield Case(f"max axis={axis}, deep", lambda x, a=axis: ak.max(x, axis=a), (DEEP,), exact=True)
    for axis in AXES:
        yield Case(f"prod axis={axis}, rectangular", lambda x, a=axis: ak.prod(x, axis=a), (RECTANGULAR,))
        yield Case(f"np.sum axis={axis}", lambda x, a=axis: np.sum(x, axis=a), (RECTANGULAR,), exact=True)
        yield Case(
            f"sum axis={axis}, mask_identity",
            lambda x, a=axis: ak.sum(x, axis=a, mask_identity=True),
            (JAGGED,),
            True,
        )
        yield Case(f"prod axis={axis}, empty lists", lambda x, a=axis: ak.prod(x, axis=a), (JAGGED,))
    for initial in (-1.0, 1.0, 5.0):
        for name, reduce in {"min": ak.min, "max": ak.max}.items():
            yield Case(
                f"{name} initial={initial}",
                lambda x, f=reduce, i=initial: f(x, axis=-1, initial=i, mask_identity=False),
                (JAGGED,),
                exact=True,
                domain="no tie with the initial value",
            )
    yield Case("min without identity", lambda x: ak.min(x, axis=-1, mask_identity=False), (FULL,), exact=True)
    for name, reduce in {
        "argmin": ak.argmin, "argmax": ak.argmax, "count": ak.count, "count_nonzero": ak.count_nonzero,
        "any": ak.any, "all": ak.all,
    }.items():  # fmt: skip
        for axis in (None, -1):
            yield Case(f"{name} axis={axis}", lambda x, f=reduce, a=axis: f(x, axis=a), (JAGGED,), exact=True)
    for axis in (None, -1):
        yield Case(f"moment axis={axis}", lambda x, a=axis: ak.moment(x, 3, axis=a), (FULL,))
        yield Case(f"covar axis={axis}", lambda x, y, a=axis: ak.covar(x, y, axis=a), (FULL, np.sin(FULL)))
        yield Case(
            f"weighted mean axis={axis}", lambda x, w, a=axis: ak.mean(x, w, axis=a), (FULL, abs(FULL))
        )
        yield Case(f"weighted var axis={axis}", lambda x, w, a=axis: ak.var(x, w, axis=a), (FULL, abs(FULL)))
        yield Case(f"corr axis={axis}", lambda x, y, a=axis: ak.corr(x, y, axis=a), (FULL, np.sin(FULL)))
        yield Case(
            f"linear_fit axis={axis}", lambda x, y, a=axis: ak.linear_fit(x, y, axis=a), (FULL, np.sin(FULL))
        )
    yield Case("var ddof=1", lambda x: ak.var(x, axis=-1, ddof=1), (FULL,))
    yield Case("softmax", lambda x: ak.softmax(x, axis=-1), (JAGGED,))
    yield Case("sum of complex", lambda z: ak.sum(z, axis=-1), (COMPLEX,), exact=True)
    yield Case("prod of complex", lambda z: ak.prod(z, axis=-1), (COMPLEX,))


# ---------------------------------------------------------------- moving values

MASK = build([[True, False, True], [], [True], [False, True]])
POSITIONS = build([[2, 0, 0], [], [0], [1]])
MISSING_POSITIONS = build([[2, None], [], [0, 0], [None]])


def selection_cases():
    rows = {
        "x[1]": (lambda x: x[1], FULL),
        "x[0, 1]": (lambda x: x[0, 1], FULL),
        "x[1:]": (lambda x: x[1:], JAGGED),
        "x[::-1]": (lambda x: x[::-1], JAGGED),
        "x[:, :1]": (lambda x: x[:, :1], JAGGED),
        "x[:, ::-1]": (lambda x: x[:, ::-1], JAGGED),
        "x[..., 0]": (lambda x: x[..., 0], FULL),
        "x[:, 0]": (lambda x: x[:, 0], FULL),
        "x[:, np.newaxis]": (lambda x: x[:, np.newaxis], JAGGED),
        "x[[2, 0, 2]]": (lambda x: x[[2, 0, 2]], JAGGED),
        "x[numpy mask]": (lambda x: x[np.arange(len(x)) % 2 == 0], JAGGED),
        "x[num > 1]": (lambda x: x[ak.num(x) > 1], JAGGED),
        "x[jagged mask]": (lambda x: x[MASK[: len(x)]], JAGGED),
        "x[jagged positions]": (lambda x: x[POSITIONS[: len(x)]], JAGGED),
        "x[positions with None]": (lambda x: x[MISSING_POSITIONS[: len(x)]], JAGGED),
        "x[ak.Array([1, None, 1])]": (lambda x: x[ak.Array([1, None, 1])], JAGGED),
        "x[argsort]": (lambda x: x[ak.argsort(x, axis=-1)], JAGGED),
        "x[argmax]": (lambda x: x[ak.argmax(x, axis=-1, keepdims=True)], JAGGED),
        "mask": (lambda x: ak.mask(x, x > 0), JAGGED),
        "x.mask": (lambda x: x.mask[x > 0], JAGGED),
        "firsts": (lambda x: ak.firsts(x), JAGGED),
        "singletons": (lambda x: ak.singletons(ak.firsts(x)), JAGGED),
        "pad_none": (lambda x: ak.pad_none(x, 2), JAGGED),
        "pad_none clip": (lambda x: ak.pad_none(x, 2, clip=True), JAGGED),
        "fill_none": (lambda x: ak.fill_none(ak.pad_none(x, 2), 1.5), JAGGED),
        "fill_none with array value": (lambda x: ak.fill_none(ak.pad_none(x, 2), ak.sum(x)), JAGGED),
        "drop_none": (lambda x: ak.drop_none(x), OPTION),
        "is_none": (lambda x: ak.is_none(x, axis=-1), OPTION),
        "flatten": (lambda x: ak.flatten(x), JAGGED),
        "flatten axis=None": (lambda x: ak.flatten(x, axis=None), DEEP),
        "flatten axis=2": (lambda x: ak.flatten(x, axis=2), DEEP),
        "ravel": (lambda x: ak.ravel(x), JAGGED),
        "unflatten": (lambda x: ak.unflatten(ak.flatten(x), ak.num(x)), JAGGED),
        "from_regular": (lambda x: ak.from_regular(x), REGULAR),
        "to_regular": (lambda x: ak.to_regular(x[:, :2]), FULL),
        "to_packed": (lambda x: ak.to_packed(x[::-1]), JAGGED),
        "copy": (lambda x: ak.copy(x), JAGGED),
        "num": (lambda x: ak.num(x), JAGGED),
        "local_index": (lambda x: ak.local_index(x), JAGGED),
        "zeros_like": (lambda x: ak.zeros_like(x), JAGGED),
        "ones_like": (lambda x: ak.ones_like(x), JAGGED),
        "full_like": (lambda x: ak.full_like(x, 2.5), JAGGED),
        "nan_to_num": (lambda x: ak.nan_to_num(x, nan=1.0), JAGGED),
        "nan_to_none": (lambda x: ak.nan_to_none(x), JAGGED),
        "values_astype float32": (lambda x: ak.values_astype(x, np.float32), JAGGED),
        "values_astype int64": (lambda x: ak.values_astype(x, np.int64), JAGGED),
        "values_astype complex128": (lambda x: ak.values_astype(x, np.complex128), JAGGED),
        "round": (lambda x: ak.round(x), build(DOMAINS["real"])),
        "np.round": (lambda x: np.round(x), build(DOMAINS["real"])),
        "clip": (lambda x: np.minimum(np.maximum(x, -1), 2), JAGGED),
        "np.clip": (lambda x: np.clip(x, -1, 2), RECTANGULAR),
        "isclose": (lambda x: ak.isclose(x, 3.0), JAGGED),
        "where": (lambda x: ak.where(x > 0, x, 2 * x), JAGGED),
        "where number": (lambda x: ak.where(x > 0, x, 0), JAGGED),
        "where number first": (lambda x: ak.where(x > 0, 1.5, x), JAGGED),
        "where reduced": (lambda x: ak.where(x > 0, ak.sum(x), 0), JAGGED),
        "np.where": (lambda x: np.where(x > 0, x, -x), FLAT),
        "broadcast": (lambda x: ak.broadcast_arrays(ak.firsts(x), x)[0], JAGGED),
        "broadcast regular": (lambda x: x[:, :1] + x, RECTANGULAR),
        "with_name": (lambda x: ak.with_name(ak.zip({"a": x, "b": 2 * x}), "point").a, JAGGED),
        "merge option of records": (
            lambda x: ak.merge_option_of_records(ak.mask(ak.zip({"a": x, "b": 2 * x}), x > 0), axis=1),
            JAGGED,
        ),
        "merge union of records": (
            lambda x: ak.merge_union_of_records(
                ak.concatenate([ak.zip({"a": x}), ak.zip({"b": x})], axis=0), axis=1
            ),
            JAGGED,
        ),
        "real": (lambda z: ak.real(z), COMPLEX),
        "imag": (lambda z: ak.imag(z), COMPLEX),
        "conj": (lambda z: np.conj(z), COMPLEX),
        "1j * x": (lambda x: 1j * x, JAGGED),
        "real of real": (lambda x: np.real(x), JAGGED),
        "cumsum": (lambda x: np.cumsum(x), FLAT),
        "diff": (lambda x: np.diff(x), FLAT),
    }
    for name, (fn, x) in rows.items():
        yield Case(name, fn, (x,), exact=True)
    for axis in (-1, 0):
        for ascending in (True, False):
            for kind, x in (("sort", FULL), ("sort rectangular", RECTANGULAR)):
                yield Case(
                    f"{kind} axis={axis} ascending={ascending}",
                    lambda x, a=axis, up=ascending: ak.sort(x, axis=a, ascending=up),
                    (x,),
                    exact=True,
                    domain="no ties",
                )
    yield Case("np.sort", lambda x: np.sort(x), (FLAT,), exact=True)
    for axis in (0, 1):
        yield Case(
            f"concatenate axis={axis}",
            lambda x, y, a=axis: ak.concatenate([x, y], axis=a),
            (JAGGED, OTHER),
            exact=True,
        )
        yield Case(
            f"concatenate with constants axis={axis}",
            lambda x, a=axis: ak.concatenate([x, OTHER[: len(x)], x * 2], axis=a),
            (JAGGED,),
            exact=True,
        )
    yield Case(
        "concatenate axis=2", lambda x: ak.concatenate([x, x[:, ::-1]], axis=2), (DEEP[:1],), exact=True
    )
    yield Case("np.concatenate", lambda x: np.concatenate([x, x]), (FLAT,), exact=True)
    yield Case("np.stack", lambda x: np.stack([x, 2 * x]), (FLAT,), exact=True)
    yield Case("where of two", lambda x, y: ak.where(x > y, x, y), (JAGGED, OTHER), exact=True)
    yield Case("abs of complex", lambda z: abs(z), (COMPLEX,), domain="not 0")
    yield Case("nan_to_num of complex", lambda z: ak.nan_to_num(z), (COMPLEX,))
    yield Case("angle", lambda z: ak.angle(z), (COMPLEX,), domain="not the negative real axis")
    yield Case("angle in degrees", lambda z: ak.angle(z, deg=True), (COMPLEX,))
    for ufunc in (np.exp, np.log, np.sin, np.sqrt, np.square, np.reciprocal, np.tanh):
        yield Case(f"complex {ufunc.__name__}", ufunc, (COMPLEX,), domain="off the cuts")
    yield Case(
        "complex product", lambda z, x: z * np.conj(z[:, ::-1]) / x, (COMPLEX, JAGGED[:3][[0, 1, 2]][:, :2])
    )
    yield Case("complex of real", lambda x: abs(np.exp(1j * x) - 1), (JAGGED,))


# ---------------------------------------------------------------- records and combinations


def record_cases():
    rows = {
        "r.pt * r.eta": lambda r: r.pt * r.eta,
        "r.pt * r.charge": lambda r: r.pt * r.charge,
        "records pass": lambda r: r,
        "record slice": lambda r: r[r.pt > 1],
        "with_field": lambda r: ak.with_field(r, r.pt * np.sinh(r.eta), "pz"),
        "without_field": lambda r: ak.without_field(r, "eta"),
        "two fields": lambda r: r[["pt", "tag"]],
        "zip": lambda r: ak.zip({"x": r.pt * np.cos(r.eta), "n": r.charge, "tag": r.tag}),
        "unzip": lambda r: ak.unzip(r[["pt", "eta"]]),
        "combinations": lambda r: ak.combinations(r, 2),
        "combinations of a field": lambda r: ak.prod(
            ak.concatenate(ak.unzip(ak.combinations(r.pt, 2)), axis=1), axis=1
        ),
        "cartesian": lambda r: ak.cartesian({"a": r.pt, "b": r.eta}),
        "cartesian nested": lambda r: ak.cartesian([r.pt, r.eta], nested=True),
        "sum by charge": lambda r: ak.sum(r.pt[r.charge > 0], axis=-1),
        "record in a list": lambda r: r[0][0],
        "concatenate records": lambda r: ak.concatenate([r, r], axis=1),
        "order by pt": lambda r: r[ak.argsort(r.pt, ascending=False)],
        "select by tag": lambda r: r.pt[r.tag == "b"],
    }
    for name, fn in rows.items():
        yield Case(name, fn, (RECORDS,))
    yield Case("tuples", lambda t: t["0"] * t["1"], (PAIRS,))
    yield Case("list of arrays", lambda x, y: [x * y, x], (JAGGED, OTHER))
    yield Case("array of a dict", lambda x: ak.Array({"x": x, "i": np.arange(4.0)}), (JAGGED,), exact=True)
    yield Case("array of numbers", lambda x: ak.Array([ak.sum(x), 0.5, ak.sum(2 * x)]), (JAGGED,), exact=True)
    yield Case("dict of values", lambda x: {"sum": ak.sum(x * x), "array": x}, (JAGGED,))


def vector_cases():
    rows = {
        "px, py, pz": lambda v: ak.zip({"px": v.px, "py": v.py, "pz": v.pz}),
        "energy": lambda v: v.energy,
        "mass of a pair": lambda v: (lambda a, b: (a + b).mass)(*ak.unzip(ak.combinations(v, 2))),
        "deltaR": lambda v: (lambda a, b: a.deltaR(b))(*ak.unzip(ak.combinations(v, 2))),
        "deltaphi": lambda v: (lambda a, b: a.deltaphi(b))(*ak.unzip(ak.combinations(v, 2))),
        "deltaeta": lambda v: (lambda a, b: a.deltaeta(b))(*ak.unzip(ak.combinations(v, 2))),
        "rapidity": lambda v: v.rapidity,
        "theta": lambda v: v.theta,
        "sum of all": lambda v: ak.sum(v, axis=-1).pt,
        "boost": lambda v: (lambda a, b: a.boostCM_of(a + b).energy)(*ak.unzip(ak.combinations(v, 2))),
        "scaled": lambda v: (v * 1.125).mass,
        "rotate": lambda v: v.rotateZ(0.5).px,
        "dot": lambda v: (lambda a, b: a.dot(b))(*ak.unzip(ak.combinations(v, 2))),
        "transverse mass": lambda v: v.mt,
    }
    for name, fn in rows.items():
        yield Case(f"vector: {name}", fn, (MUONS,), domain="away from equal directions")
    yield Case("vector.zip", lambda r: vector.zip({name: r[name] for name in r.fields}).pz, (JETS,))


CASES = [
    *ufunc_cases(),
    *structure_cases(),
    *reducer_cases(),
    *selection_cases(),
    *record_cases(),
    *vector_cases(),
]
