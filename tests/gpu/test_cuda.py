"""The same numbers on a CUDA device as on the CPU: the whole table, forward and reverse."""

import cases
import checks
import device
import numpy as np
import pytest
from cases import CASES
from device import is_on_device, skip_if_refused, to_device, to_host
from helpers import METHODS

from dak_diff import eager
from dak_diff.engine.awkward_internals import synchronize

pytestmark = device.needs_device

every_case = pytest.mark.parametrize("case", CASES, ids=str)


@pytest.fixture
def rng():
    return np.random.default_rng(20240607)


def assert_agree(got, expected, tolerance, what):
    assert is_on_device(got), f"{what} left the device"
    assert checks.skeleton(to_host(got)) == checks.skeleton(expected)
    checks.assert_close(to_host(got), expected, tolerance, what)


@every_case
@pytest.mark.parametrize("method", METHODS)
def test_the_table(case, method, rng):
    inputs = to_device(case.inputs)
    skip_if_refused(case.fn, *inputs)
    tangents = checks.random_like(case.inputs, rng)
    cotangent = checks.random_like(case.fn(*case.inputs), rng)

    value, tangent = eager.jvp(case.fn, case.inputs, tangents, method=method)
    got_value, got_tangent = eager.jvp(case.fn, inputs, to_device(tangents), method=method)
    assert_agree(got_value, value, 1e-12, "the value")
    assert_agree(got_tangent, tangent, 1e-12, "the tangent")
    plain = to_host(case.fn(*inputs))
    assert checks.type_of(to_host(got_value)) == checks.type_of(to_host(got_tangent)) == checks.type_of(plain)

    _, pull = eager.vjp(case.fn, case.inputs, method=method)
    got = eager.vjp(case.fn, inputs, method=method)[1](to_device(cotangent))
    assert_agree(got, pull(cotangent), 1e-12, "the cotangents")
    assert checks.type_of(to_host(got)) == checks.type_of(case.inputs)
    synchronize()


def test_most_of_the_table_runs():
    """A table that Awkward refuses as a whole must not pass: 11 rows of it mix both kinds of arrays."""
    refused = sum(
        isinstance(checks.outcome(lambda c=case: c.fn(*to_device(c.inputs)))[0], Exception) for case in CASES
    )
    assert refused < len(CASES) // 10


@pytest.mark.parametrize("case", [case for case in CASES if not case.once][::3], ids=str)
def test_second_order(case, rng):
    inputs = to_device(case.inputs)
    skip_if_refused(case.fn, *inputs)
    v, w = checks.random_like(case.inputs, rng), checks.random_like(case.fn(*case.inputs), rng)

    def hvp(inputs, v, w):
        return eager.jvp(lambda *x: eager.vjp(case.fn, x)[1](w), inputs, v)[1]

    assert_agree(
        hvp(inputs, to_device(v), to_device(w)), hvp(case.inputs, v, w), 1e-12, "forward over reverse"
    )


@every_case
def test_single_precision(case, rng):
    """Within what a change of the inputs by one unit of rounding does, times the operations of a row."""
    single = checks.single_precision(case.inputs)
    inputs = to_device(single)
    skip_if_refused(case.fn, *inputs)
    double = checks.map_floats(single, lambda b: b.astype("c16" if b.dtype.kind == "c" else "f8"))
    tangents = checks.random_like(double, rng)
    eps = float(np.finfo(np.float32).eps)

    def forward(inputs):
        return np.array(checks.numbers(eager.jvp(case.fn, inputs, tangents)[1]), dtype=complex)

    exact = forward(double)
    moved = [
        forward(checks.map_floats(double, lambda b: b * (1 + eps * rng.choice([-1, 1], b.shape))))
        for _ in range(4)
    ]
    condition = np.max([np.abs(m - exact) for m in moved], axis=0, initial=0.0)
    bound = 64 * (np.max(condition, initial=0.0) + eps * np.max(np.abs(exact), initial=0.0))
    rounded = checks.single_precision(tangents)
    for at, along in ((inputs, to_device(rounded)), (single, rounded)):
        got = to_host(eager.jvp(case.fn, at, along)[1])
        error = np.abs(np.array(checks.numbers(got), dtype=complex) - exact)
        assert np.max(error, initial=0.0) <= bound


@pytest.mark.parametrize("name", ["deltaR", "dot", "add", "boost"])
def test_a_vector_beside_a_constant_one(name, rng):
    first, second = cases.MUONS, cases.MUONS[:, ::-1]
    tangent = checks.random_like(first, rng)
    _, expected = eager.jvp(lambda x: getattr(x, name)(second), (first,), (tangent,))
    there = to_device(second)
    _, got = eager.jvp(lambda x: getattr(x, name)(there), (to_device(first),), (to_device(tangent),))
    assert_agree(got, expected, 1e-12, "the tangent")


def test_diffarray():
    x = np.array([1.0, 2.0, 0.5])
    y = np.sin(eager.diffarray(device.library.asarray(x))) * 2
    assert isinstance(y.primal, device.library.ndarray)
    np.testing.assert_allclose(y.primal.get(), 2 * np.sin(x), rtol=1e-15)
    np.testing.assert_allclose(y.tangent.get(), 2 * np.cos(x), rtol=1e-15)


@pytest.mark.parametrize("length", [0, 1])
@every_case
def test_short_inputs(case, length, rng):
    inputs = tuple(x[:length] if isinstance(x, cases.ak.Array) else x for x in case.inputs)
    try:
        expected = case.fn(*inputs)
    except Exception as error:
        pytest.skip(f"refused on the CPU, too: {type(error).__name__}")
    there = to_device(inputs)
    skip_if_refused(case.fn, *there)
    value, pull = eager.vjp(case.fn, there)
    assert checks.skeleton(to_host(value)) == checks.skeleton(expected)
    cotangents = pull(to_device(checks.random_like(expected, rng)))
    assert checks.type_of(to_host(cotangents)) == checks.type_of(inputs)
