"""Recorded functions: every case of the tables, with and without a derivative, equal bit for bit.

Inputs of other lengths come after those that were recorded: longer, reversed, shorter, none at all. A
function may run either way; that it gives what it gives, and warns and raises as it does, is asserted.
"""

import importlib.util
import itertools
import threading
import warnings

import awkward as ak
import dask
import numpy as np
import pytest
from cases import CASES, JAGGED, JETS
from checks import numbers, outcome, random_like, shifted, skeleton, type_of
from helpers import SHARED
from hypothesis import given
from hypothesis import strategies as st
from test_properties import jagged_arrays, pipelines

from dak_diff import eager
from dak_diff.errors import ProgramError

DERIVATIVES = {
    "value": lambda fn: fn,
    "jvp": lambda fn: lambda *x: eager.jvp(fn, x),
    "vjp": lambda fn: lambda *x: (lambda value, pull: (value, pull(1.0)))(*eager.vjp(fn, x)),
    "hvp": lambda fn: lambda *x: eager.jvp(lambda *y: eager.vjp(fn, y)[1](1.0), x),
}
#: What no program can be made of, and why: the only ones of all tables.
UNRECORDED = {
    ("array of numbers", "value"): "it iterates over the elements of an array",
    ("any axis=None", "jvp"): "it gives something else when it is recorded",
    ("all axis=None", "jvp"): "it gives something else when it is recorded",
}


def bits(value):
    return np.array(numbers(value)).tobytes(), skeleton(value), type_of(value)


def assert_same_outcome(fn, recorded, inputs):
    expected, expected_warnings = outcome(lambda: fn(*inputs))
    got, got_warnings = outcome(lambda: recorded(*inputs))
    if isinstance(expected, Exception):
        assert type(got) is type(expected), f"{got!r} instead of {expected!r}"
        return
    if isinstance(got, Exception):
        raise got
    assert bits(got) == bits(expected), f"{got} instead of {expected}"
    assert {text for _, text in got_warnings} == {text for _, text in expected_warnings}


def piled_up(x):
    """All elements in the last list of as many: lengths of buffers are what they were."""
    if x.layout.purelist_depth < 2 or x.layout.is_option or not len(x) or not x.layout.is_list:
        return x
    return ak.unflatten(ak.flatten(x), [0] * (len(x) - 1) + [int(ak.sum(ak.num(x)))])


def lengths(inputs):
    """The inputs at other points and of other lengths."""

    def each(change):
        return tuple(change(x) if isinstance(x, ak.Array) else x for x in inputs)

    rng = np.random.default_rng(20241127)
    yield inputs
    yield shifted(inputs, 2.0**-11, random_like(inputs, rng))
    yield each(lambda x: ak.concatenate([x, x[1:], x[:1]]))
    yield each(lambda x: x[::-1])
    yield each(lambda x: ak.to_packed(ak.concatenate([x, x, x])))
    yield each(lambda x: ak.to_packed(x[::-1]))
    yield each(piled_up)
    yield each(lambda x: x[:1])
    yield each(lambda x: x[:0])
    yield inputs


@pytest.mark.parametrize("derivative", DERIVATIVES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_case(case, derivative):
    fn = DERIVATIVES[derivative](case.fn)
    recorded = eager.recorded(fn)
    inputs = list(lengths(case.inputs))
    for x in inputs[:2] if derivative == "hvp" else inputs:
        assert_same_outcome(fn, recorded, x)
    reason = UNRECORDED.get((case.name, derivative))
    if reason is not None:
        assert reason in recorded.why
        return
    again = eager.recorded(fn)
    for _ in range(2):
        assert_same_outcome(fn, again, case.inputs)
    assert len(again.programs) == 1, again.why
    assert_same_outcome(fn, again, case.inputs)


def reference_cases():
    path = SHARED / "reference" / "cases.py"
    if not path.is_file():
        return None, []
    spec = importlib.util.spec_from_file_location("reference_cases", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, module.CASES


REFERENCE, REFERENCES = reference_cases()


@pytest.mark.parametrize("derivative", ["value", "jvp", "vjp"])
@pytest.mark.parametrize("case", REFERENCES, ids=[case["id"] for case in REFERENCES])
def test_every_reference(case, derivative):
    x = REFERENCE.build(case["input"], case["type"])
    fn = DERIVATIVES[derivative](case["fn"])
    recorded = eager.recorded(fn)
    moved = [shifted((x,), 2.0**-11, random_like((x,), np.random.default_rng(i))) for i in range(2)]
    for inputs in ((x,), (x,), (x,), *moved):
        assert_same_outcome(fn, recorded, inputs)
    assert recorded.programs, recorded.why


# ---------------------------------------------------------------- random pipelines


def at_random(array, rng):
    """Events of an array, some of them twice, at other points."""
    chosen = array[rng.integers(0, len(array), rng.integers(0, 2 * len(array)))]
    return shifted((chosen,), 0.125, random_like((chosen,), rng))[0]


@given(pipelines(), jagged_arrays(), st.integers(0, 2**16))
def test_pipelines_on_other_arrays(pipeline, other, seed):
    rng = np.random.default_rng(seed)
    moved = [at_random(pipeline.array, rng) for _ in range(5)]
    for fn in (pipeline, DERIVATIVES["jvp"](pipeline), DERIVATIVES["vjp"](pipeline)):
        recorded = eager.recorded(fn)
        for x in (pipeline.array, pipeline.array, *moved, other, other, pipeline.array):
            assert_same_outcome(fn, recorded, (x,))


# ---------------------------------------------------------------- what must be caught

counter = itertools.count()
state = {"calls": 0, "factor": 1.0}
TABLE = np.array([1.0, 2.0, 3.0])


def count_calls(x):
    state["calls"] += 1
    return x * state["calls"]


def over_events(x):
    total = 0.0
    for event in x:
        total = total + ak.sum(event)
    return total


def branch_on_length(x):
    return x * 2 if len(x) > 3 else x


def branch_on_data(x):
    return x * 2 if ak.sum(x) > 0 else x


def through_numpy(x):
    return x * np.asarray(ak.flatten(x, axis=None)).max()


def changed_in_place(x):
    flat = ak.flatten(x, axis=None)
    flat.layout.data[...] = 0.0
    return x


CAUGHT = {
    "random numbers": (lambda x: x * np.random.default_rng().normal(), "another time"),
    "a random array": (lambda x: x * np.random.default_rng().normal(size=4)[:1], "another time"),
    "a counter": (lambda x: x * next(counter), "it sees counter, a count"),
    "a count of calls": (count_calls, "it changes state['calls']"),
    "float": (lambda x: x * float(ak.sum(x)), "float(x) (test_recorded.py, line"),
    "np.asarray": (through_numpy, "a pointer to its memory (test_recorded.py, line"),
    "writing to an argument": (changed_in_place, "it writes to its arguments"),
    "an object": (lambda x: object(), "a object in its result"),
}


@pytest.mark.parametrize("name", CAUGHT)
def test_what_must_be_caught(name):
    fn, reason = CAUGHT[name]
    recorded = eager.recorded(fn)
    for _ in range(20):
        recorded(ak.Array([[1.0, 2.0], [3.0]]))
    assert recorded.programs == []
    assert reason in recorded.why


@pytest.mark.parametrize("fn", [branch_on_length, branch_on_data])
def test_branches_are_taken_as_they_come(fn):
    recorded = eager.recorded(fn)
    short, long = ak.Array([[1.0], [2.0, 0.5]]), ak.Array([[1.0], [], [3.0, 2.0], [1.0], [0.25]])
    for x in (short, long, -long, short, -short, long, -long, short):
        assert_same_outcome(fn, recorded, (x,))
    assert 2 <= len(recorded.programs) <= 3


def test_a_loop_over_events_is_that_of_their_number():
    recorded = eager.recorded(over_events)
    for n in (2, 2, 2, 3, 3, 3, 0, 1, 1, 4, 4, 5, 5, 5, 6, 6, 2, 3):
        x = ak.Array([[1.0, 0.5]] * n)
        assert_same_outcome(over_events, recorded, (x,))
    assert len(recorded.programs) <= 4


def test_a_global_that_changes(monkeypatch):
    recorded = eager.recorded(lambda x: x * state["factor"])
    for factor in (1.0, 2.0, 1.5):
        monkeypatch.setitem(state, "factor", factor)
        for _ in range(3):
            assert recorded(ak.Array([1.0, 2.0])).to_list() == [factor, 2 * factor]
        assert len(recorded.programs) == 1


def test_a_table_that_is_changed_in_place():
    table = np.array([1.0, 2.0])
    recorded = eager.recorded(lambda x: x * table)
    for first in (1.0, 5.0):
        table[0] = first
        for _ in range(3):
            assert recorded(ak.Array([1.0, 1.0])).to_list() == [first, 2.0]


def test_two_functions_of_one_source():
    def scaled(by):
        return eager.recorded(lambda x: x * by)

    two, three = scaled(2.0), scaled(3.0)
    for _ in range(3):
        assert two(ak.Array([1.0])).to_list() == [2.0]
        assert three(ak.Array([1.0])).to_list() == [3.0]


def test_what_a_program_gives_is_not_shared():
    recorded = eager.recorded(lambda x: (x * 1.0, np.array([1.0, 2.0])))
    x = np.array([3.0])
    for _ in range(4):
        value, table = recorded(x)
        assert (value.tolist(), table.tolist()) == ([3.0], [1.0, 2.0])
        value[0] = table[0] = 9.0
    assert len(recorded.programs) == 1


# ---------------------------------------------------------------- what goes in


def loss(jets, scale, options=(True, 2), *, power=2):
    pt = jets.pt * (1 + scale["jes"])
    pt = ak.sort(pt, axis=1, ascending=not options[0])
    return ak.sum(pt[:, : options[1]] ** power)


def test_arguments_of_all_kinds():
    recorded = eager.recorded(loss)
    for jes in (0.1, -0.2, 0.3):
        for options in ((True, 2), (False, 1)):
            expected = loss(JETS, {"jes": jes}, options, power=3)
            assert recorded(JETS, {"jes": jes}, options, power=3) == expected
    assert len(recorded.programs) == 2


def test_a_number_of_python_stays_weak():
    recorded = eager.recorded(lambda x, a: x * a)
    x = ak.values_astype(JAGGED, np.float32)
    for a in (2.0, 3.0, 4.0):
        assert recorded(x, a).type == x.type
        assert str(recorded(x, np.float64(a)).type).endswith("float64")


def test_options_with_and_without_missing():
    fn = eager.recorded(lambda x: ak.sum(ak.fill_none(x * 2, 1.0), axis=-1))
    with_none, without = ak.Array([[1.0, None], [None]]), ak.mask(JAGGED, JAGGED > -100)
    for x in (with_none, without, ak.mask(JAGGED, JAGGED > 100), with_none, without):
        assert fn(x).to_list() == ak.sum(ak.fill_none(x * 2, 1.0), axis=-1).to_list()


def test_derivatives_on_either_side():
    f = eager.recorded(lambda x, a: ak.sum(np.sin(x * a)))
    outside, inside = eager.recorded(eager.grad(f, argnums=(0, 1))), eager.grad(f, argnums=(0, 1))
    for a in (1.0, 2.0, 3.0):
        expected = eager.grad(lambda x, a: ak.sum(np.sin(x * a)), argnums=(0, 1))(JAGGED, a)
        for gradient in (outside, inside):
            got = gradient(JAGGED, a)
            assert bits(got) == bits(expected)
    assert len(outside.programs) == 1


def test_a_recorded_function_inside_another():
    inner = eager.recorded(lambda x: x[x > 0] * 2)
    outer = eager.recorded(lambda x: ak.sum(inner(x)))
    for x in (JAGGED, -JAGGED, JAGGED[1:], JAGGED):
        assert outer(x) == ak.sum(x[x > 0] * 2)
    assert len(outer.programs) == 1
    assert inner.programs == []


# ---------------------------------------------------------------- how it is used


def test_off_and_check():
    calls = []

    def fn(x):
        calls.append(1)
        return x * 2

    recorded = eager.recorded(fn)
    with dask.config.set({"dak_diff.programs": "off"}):
        for _ in range(3):
            recorded(JAGGED)
    assert recorded.programs == []
    with (
        dask.config.set({"dak_diff.programs": "fast"}),
        pytest.raises(ValueError, match="one of auto, off, check, not 'fast'"),
    ):
        recorded(JAGGED)


def test_check_finds_the_instruction(tmp_path):
    """A file that is read inside is taken for what it was, and that is found out."""
    path = tmp_path / "factor.npy"
    np.save(path, np.array([2.0]))
    recorded = eager.recorded(lambda x: np.sin(x) * np.load(path)[0] + 1)
    with dask.config.set({"dak_diff.programs": "check"}):
        for _ in range(3):
            recorded(JAGGED)
        assert len(recorded.programs) == 1
        np.save(path, np.array([3.0]))
        with pytest.raises(ProgramError, match=r"The first instruction that differs: .*broadcast_to"):
            recorded(JAGGED)


def test_threads_at_first_use():
    recorded = eager.recorded(lambda x, a: ak.sum(np.sin(x[x > 0] * a), axis=1))
    wrong, start = [], threading.Barrier(8)

    def work(i):
        start.wait()
        for k in range(20):
            x, a = JAGGED[k % 3 :], 1.0 + i
            if recorded(x, a).to_list() != ak.sum(np.sin(x[x > 0] * a), axis=1).to_list():
                wrong.append((i, k))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert recorded.programs


def test_errors_are_the_function_s_own():
    recorded = eager.recorded(lambda x: x[:, 0])
    full = ak.Array([[1.0], [2.0, 3.0]])
    for x in (full, full, full):
        assert recorded(x).to_list() == [1.0, 2.0]
    for bad in ([[1.0], []], [[], [1.0, 2.0, 3.0]]):
        with pytest.raises(IndexError, match="cannot slice"):
            recorded(ak.Array(bad))
    assert recorded(full).to_list() == [1.0, 2.0]


def test_warnings_are_the_function_s_own():
    recorded = eager.recorded(lambda x: np.sqrt(x))
    for _ in range(2):
        recorded(abs(JAGGED))
    with pytest.warns(RuntimeWarning, match="invalid value encountered in sqrt"):
        recorded(JAGGED)
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("error")
        recorded(JAGGED)


def test_the_order_of_a_sort_may_change():
    fn = eager.value_and_grad(lambda x: ak.sum(ak.sort(x, axis=1)[:, -1:] ** 2))
    recorded = eager.recorded(fn)
    for x in (JAGGED, -JAGGED, JAGGED[:, ::-1], 1 / JAGGED):
        assert bits(recorded(x)) == bits(fn(x))
    assert len(recorded.programs) == 1
