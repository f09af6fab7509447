"""Laws of derivatives, on random layouts and random pipelines of operations.

A pipeline is drawn along its own value: an operation that Awkward refuses for the array at hand is
left out. Nothing here knows a derivative: laws hold at kinks and ties, too.

``DAK_DIFF_HYPOTHESIS=hunt`` searches longer, at random.
"""

from __future__ import annotations

import operator
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import awkward as ak
import checks
import dask
import dask_awkward as dak
import hypothesis_awkward.strategies as st_ak
import numpy as np
import pytest
from checks import inner, norm, numbers, random_like, skeleton, type_of
from helpers import assert_identical, collection
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

import dak_diff as dd
from dak_diff import eager

#: no explanations: they take minutes
PHASES = [phase for phase in Phase if phase is not Phase.explain]
COMMON = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck), "phases": PHASES}
settings.register_profile("ci", derandomize=True, max_examples=25, **COMMON)
settings.register_profile("hunt", max_examples=300, print_blob=True, **COMMON)
settings.load_profile(os.environ.get("DAK_DIFF_HYPOTHESIS", "ci"))

#: above this an array is not made larger
LARGE = 120


@dataclass(frozen=True)
class Operation:
    """``build(ns, x)`` with ``ak`` or ``dak``; ``local`` if it acts on each partition alone.

    ``lists`` marks what goes along the last axis: of an array without lists that is the axis of events.
    """

    name: str
    build: Callable
    grows: bool = False
    local: bool = True
    lists: bool = False

    def __repr__(self) -> str:
        return self.name


def pairs_product(ns, x):
    return operator.mul(*ns.unzip(ns.combinations(x, 2, axis=1)))


def fields_product(ns, x):
    record = ns.zip({"a": x, "b": np.sin(x)})
    return record.a * record["b"]


OPERATIONS = [
    Operation("sin", lambda ns, x: np.sin(x)),
    Operation("tanh", lambda ns, x: np.tanh(x)),
    Operation("affine", lambda ns, x: 0.75 * x - 1.5),
    Operation("bounded square", lambda ns, x: x * x / (1 + x * x)),
    Operation("hypot with 1", lambda ns, x: np.sqrt(1 + x**2)),
    Operation("arctan2", lambda ns, x: np.arctan2(x, 0.5 - x)),
    Operation("abs", lambda ns, x: abs(x)),
    Operation("maximum", lambda ns, x: np.maximum(x, -0.5 * x)),
    Operation("where", lambda ns, x: ns.where(x > 0.25, x, np.cos(x))),
    Operation("where number", lambda ns, x: ns.where(x > 0.25, 0.5, x)),
    Operation("mask", lambda ns, x: x[x > -0.5]),
    Operation("option mask", lambda ns, x: ns.mask(x, x < 0.5)),
    Operation("sort", lambda ns, x: ns.sort(x, axis=-1), lists=True),
    Operation("argsort as an index", lambda ns, x: x[ns.argsort(x, axis=-1, ascending=False)], lists=True),
    Operation("reversed lists", lambda ns, x: x[:, ::-1]),
    Operation("first two", lambda ns, x: x[:, :2]),
    Operation("all but first", lambda ns, x: x[:, 1:]),
    Operation(
        "filled", lambda ns, x: ns.fill_none(ns.pad_none(x, 2, axis=-1), 0.5, axis=-1), grows=True, lists=True
    ),
    Operation("drop None", lambda ns, x: ns.drop_none(x)),
    Operation("firsts", lambda ns, x: ns.firsts(x)),
    Operation("concatenate lists", lambda ns, x: ns.concatenate([x, 0.5 * x], axis=1), grows=True),
    Operation("field of a zip", fields_product),
    Operation("pairs", pairs_product, grows=True),
    Operation("flatten", lambda ns, x: ns.flatten(x)),
    Operation("less the largest", lambda ns, x: x - ns.max(x, axis=-1), lists=True),
    Operation("times the sum", lambda ns, x: 0.125 * x * ns.sum(x, axis=-1), lists=True),
    Operation("softmax", lambda ns, x: np.exp(np.sin(x)) / ns.sum(np.exp(np.sin(x)), axis=-1), lists=True),
    Operation("repeated events", lambda ns, x: x[[0, 0, -1]], local=False),
    Operation("reversed events", lambda ns, x: x[::-1], local=False),
    Operation("packed", lambda ns, x: ns.to_packed(x)),
    Operation(
        "concatenate events", lambda ns, x: ns.concatenate([x, np.sin(x)], axis=0), grows=True, local=False
    ),
    Operation("all numbers but one", lambda ns, x: ns.flatten(x, axis=None)[1:] * 0.5, local=False),
]

ENDS = [
    Operation("everything", lambda ns, x: x),
    Operation("sum of lists", lambda ns, x: ns.sum(x, axis=-1), lists=True),
    Operation("prod of lists", lambda ns, x: ns.prod(x, axis=-1), lists=True),
    Operation("min of lists", lambda ns, x: ns.min(x, axis=-1), lists=True),
    Operation("sum", lambda ns, x: ns.sum(np.sin(x))),
    Operation("max", lambda ns, x: ns.max(x)),
    Operation("sum, axis 0", lambda ns, x: ns.sum(x, axis=0), local=False),
]


@dataclass(frozen=True)
class Pipeline:
    """Operations one after another, and the array that they start from."""

    array: ak.Array
    operations: tuple[Operation, ...]

    def on(self, x: Any, ns: Any = ak, start: int = 0, stop: int | None = None) -> Any:
        return reduce(lambda value, operation: operation.build(ns, value), self.operations[start:stop], x)

    def __call__(self, x: Any) -> Any:
        return self.on(x)

    @property
    def tolerance(self) -> float:
        """Of the largest element: some hundred roundings."""
        return 1e-5 if "float32" in str(self.array.type) else 1e-12


def with_short_numbers(array, rng):
    """The array in the layout it has, with short binary fractions for its floats."""

    def on_layout(layout, **_):
        if layout.is_numpy and layout.dtype.kind == "f":
            drawn = (rng.integers(-32, 33, layout.data.shape) / 16).astype(layout.dtype)
            return ak.contents.NumpyArray(drawn, parameters=layout.parameters)
        return None

    return ak.transform(on_layout, array)


def arrays(**options):
    """Arrays of any layout; numbers are ours, as what is tested is where they go."""
    return st.builds(
        with_short_numbers,
        st_ak.constructors.arrays(allow_nan=False, allow_virtual=False, max_size=60, **options),
        st.integers(0, 2**16).map(np.random.default_rng),
    )


def jagged_arrays():
    """Lists of floats, a few levels deep, with and without None.

    No UnmaskedArray: Awkward's reducers drop the option of one, and keep it of any other layout; the
    engine changes the layout where lists share elements (``ak.sum(x, axis=-1)`` is then ?float64).
    """
    return arrays(
        dtypes=st.sampled_from([np.dtype("f8"), np.dtype("f4")]),
        allow_empty=False,
        allow_string=False,
        allow_bytestring=False,
        allow_record=False,
        allow_union=False,
        allow_unmasked=False,
        max_depth=2,
        min_length=2,
    ).filter(lambda array: array.ndim > 1 and len(numbers(array)) > 3)


def refused(call):
    """What Awkward makes of it; None if it refuses."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = call()
            # Awkward makes a few layouts that it cannot read itself.
            numbers(result)
            return result
    except TimeoutError:
        raise
    except Exception:
        return None


def possible(operation, value):
    count = len(numbers(value))
    if operation.lists and (value.ndim == 1 or not count):
        # Awkward's pad_none of no lists at all reads memory that nobody wrote: its type is random.
        return False
    return not operation.grows or count <= LARGE


@st.composite
def pipelines(draw, local=False):
    array = draw(jagged_arrays())
    value, chosen = array, []
    wanted = draw(st.integers(5, 10))
    table = [operation for operation in OPERATIONS if operation.local or not local]
    for operation in draw(st.lists(st.sampled_from(table), min_size=16, max_size=16, unique=True)):
        if len(chosen) == wanted or not possible(operation, value):
            continue
        result = refused(lambda value=value, operation=operation: operation.build(ak, value))
        if isinstance(result, ak.Array) and "float" in str(result.type):
            value, chosen = result, [*chosen, operation]
    end = draw(st.sampled_from([operation for operation in ENDS if operation.local or not local]))
    if possible(end, value) and refused(lambda: end.build(ak, value)) is not None:
        chosen.append(end)
    return Pipeline(array, tuple(chosen))


def near(got, want, tolerance):
    """Whether structures are the same and numbers agree, relative to the largest number, or to one.

    Inputs, seeds and partials are of order one, and what cancels to nothing (the sum of a softmax)
    leaves the roundings of those.
    """
    if type_of(got) != type_of(want) or skeleton(got) != skeleton(want):
        return False
    a, b = (np.array(numbers(value), dtype=float) for value in (got, want))
    return bool(np.all(np.abs(a - b) <= tolerance * max(1.0, np.max(np.abs(b), initial=0.0))))


def assert_near(got, want, tolerance):
    assert near(got, want, tolerance), f"{got} of {type_of(got)} instead of {want} of {type_of(want)}"


def combined(u, factor, v):
    """``u + factor * v`` for two values of one structure."""
    return checks.shifted(u, factor, v)


def law_primal_unchanged(pipeline, rng):
    value = pipeline(pipeline.array)
    assert_identical(eager.jvp(pipeline, pipeline.array, random_like(pipeline.array, rng))[0], value)
    assert_identical(eager.vjp(pipeline, pipeline.array)[0], value)


def law_linear_in_the_seed(pipeline, rng):
    u, v = (random_like(pipeline.array, rng) for _ in range(2))
    of_u, of_v, of_both = (
        eager.jvp(pipeline, pipeline.array, (seed,))[1] for seed in (u, v, combined(u, -0.375, v))
    )
    assert_near(of_both, combined(of_u, -0.375, of_v), pipeline.tolerance)


def law_dot(pipeline, rng):
    v = random_like(pipeline.array, rng)
    value, pull = eager.vjp(pipeline, pipeline.array)
    w = random_like(value, rng)
    tangent, (cotangent,) = eager.jvp(pipeline, pipeline.array, (v,))[1], pull(w)
    scale = max(norm(w) * max(1.0, norm(tangent)), norm(v) * max(1.0, norm(cotangent)))
    assert abs(inner(w, tangent) - inner(cotangent, v)) <= pipeline.tolerance * scale


def law_chain_rule(pipeline, rng):
    v = random_like(pipeline.array, rng)
    middle = len(pipeline.operations) // 2

    def f(x):
        return pipeline.on(x, stop=middle)

    def g(y):
        return pipeline.on(y, start=middle)

    y, y_dot = eager.jvp(f, pipeline.array, (v,))
    z, want = eager.jvp(pipeline, pipeline.array, (v,))
    assert_near(eager.jvp(g, y, (y_dot,))[1], want, pipeline.tolerance)
    w = random_like(z, rng)
    (y_bar,) = eager.vjp(g, y)[1](w)
    (want,) = eager.vjp(pipeline, pipeline.array)[1](w)
    assert_near(eager.vjp(f, pipeline.array)[1](y_bar)[0], want, pipeline.tolerance)


def law_structure(pipeline, rng):
    tangent = eager.jvp(pipeline, pipeline.array, (random_like(pipeline.array, rng),))[1]
    value, pull = eager.vjp(pipeline, pipeline.array)
    (cotangent,) = pull(random_like(value, rng))
    for derivative, primal in ((tangent, value), (cotangent, pipeline.array)):
        assert type_of(derivative) == type_of(primal)
        assert skeleton(derivative) == skeleton(primal)


def law_methods_agree(pipeline, rng):
    v = random_like(pipeline.array, rng)
    want = eager.jvp(pipeline, pipeline.array, (v,), method="dual")[1]
    assert_near(eager.jvp(pipeline, pipeline.array, (v,), method="complex-step")[1], want, pipeline.tolerance)


LAWS = [
    law_primal_unchanged,
    law_linear_in_the_seed,
    law_dot,
    law_chain_rule,
    law_structure,
    law_methods_agree,
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__.removeprefix("law_"))
@given(pipeline=pipelines(), seed=st.integers(0, 2**16))
def test_pipelines(law, pipeline, seed):
    law(pipeline, np.random.default_rng(seed))


# ---------------------------------------------------------------- any layout: records, unions, text


MOVES = [
    Operation("same", lambda ns, x: x),
    Operation("reversed", lambda ns, x: x[::-1]),
    Operation("repeated", lambda ns, x: x[np.arange(len(x)).repeat(2)]),
    Operation("every other", lambda ns, x: x[::2]),
    Operation("doubled", lambda ns, x: ns.concatenate([x, x])),
    Operation("masked", lambda ns, x: ns.mask(x, np.arange(len(x)) % 3 > 0)),
    Operation("packed", lambda ns, x: ns.to_packed(x)),
]


def any_arrays():
    """Floats somewhere: beside integers and text, in records and unions, behind any index."""
    dtypes = st.sampled_from([np.dtype("f8"), np.dtype("f4"), np.dtype("i8"), np.dtype("?")])
    return arrays(dtypes=dtypes, min_length=1).filter(lambda array: "float" in str(array.type))


@pytest.mark.parametrize("law", LAWS[:5], ids=lambda law: law.__name__.removeprefix("law_"))
@given(
    array=any_arrays(), moves=st.lists(st.sampled_from(MOVES), min_size=2, max_size=4), seed=st.integers(0, 9)
)
def test_any_layout(law, array, moves, seed):
    pipeline = Pipeline(array, tuple(moves))
    assume(refused(lambda: pipeline(array)) is not None)
    law(pipeline, np.random.default_rng(seed))


# ---------------------------------------------------------------- partitions


@st.composite
def splits(draw, array):
    """Lengths of partitions, zero allowed."""
    cuts = sorted(draw(st.lists(st.integers(0, len(array)), min_size=1, max_size=3)))
    return [stop - start for start, stop in zip([0, *cuts], [*cuts, len(array)], strict=True)]


@given(data=st.data(), pipeline=pipelines(local=True), seed=st.integers(0, 2**16))
def test_partitions_make_no_difference(data, pipeline, seed):
    rng = np.random.default_rng(seed)
    lengths = data.draw(splits(pipeline.array))
    x = collection(pipeline.array, lengths)
    try:
        expr = pipeline.on(x, ns=dak)
    except Exception:
        # Not every function that Awkward has for this layout has dask-awkward.
        assume(False)
    value = pipeline(pipeline.array)
    plain = refused(lambda: expr.compute())
    # A function along the events is another one on each partition, and dask-awkward has its own defects.
    assume(plain is not None and near(plain, value, pipeline.tolerance))
    v = random_like(pipeline.array, rng)
    moved = checks.shifted(pipeline.array, 0.125, v)
    plain_moved = refused(lambda: pipeline.on(collection(moved, lengths), ns=dak).compute())
    # Equal numbers in all events can hide that.
    assume(plain_moved is not None and near(plain_moved, pipeline(moved), pipeline.tolerance))
    tangent = eager.jvp(pipeline, pipeline.array, (v,))[1]
    got_value, got_tangent = dask.compute(*dd.value_and_jvp(expr, x, v))
    assert_identical(got_value, plain)
    assert_near(got_tangent, tangent, pipeline.tolerance)
    cotangent = eager.vjp(pipeline, pipeline.array)[1](1.0)[0]
    assert_near(dd.vjp(expr, x).compute(), cotangent, pipeline.tolerance)
