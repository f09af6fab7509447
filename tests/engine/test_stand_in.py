"""Engine and rules over an array module that is not NumPy: what guards the path to CuPy without a device.

The table of `cases.py` on the stand-in against NumPy: a rule that makes an array of the wrong library, or
copies one to the host, raises here.
"""

import pickle

import awkward as ak
import checks
import numpy as np
import pytest
import stand_in
from awkward._nplikes.numpy import Numpy
from awkward._nplikes.placeholder import PlaceholderArray
from cases import CASES, JAGGED, JETS, MUONS, OPTION, UNION
from helpers import METHODS
from stand_in import StandInBackend, is_on_device, to_device, to_host

from dak_diff import eager
from dak_diff.engine.awkward_internals import synchronize, transferred
from dak_diff.engine.transform import pushforward
from dak_diff.engine.values import Cotangents, Pair
from dak_diff.errors import NoRuleError
from dak_diff.rules.namespace import binned_sum, namespace, owners
from dak_diff.rules.structure import move

#: Rows that mix arrays of a device with arrays or lists of the host, which Awkward refuses on any device.
MIXED = {
    "numpy array on the left",
    "x[numpy mask]",
    "x[jagged mask]",
    "x[jagged positions]",
    "x[positions with None]",
    "x[ak.Array([1, None, 1])]",
    "isclose",
    "concatenate with constants axis=0",
    "concatenate with constants axis=1",
    "select by tag",
    "array of a dict",
}
ROWS = [case for case in CASES if case.name not in MIXED]


@pytest.fixture
def rng():
    return np.random.default_rng(20240607)


def assert_agree(got, expected, tolerance, what):
    assert is_on_device(got), f"{what} left the device"
    got = to_host(got)
    assert checks.type_of(got) == checks.type_of(expected)
    assert checks.skeleton(got) == checks.skeleton(expected)
    checks.assert_close(got, expected, tolerance, what)


@pytest.mark.parametrize("case", [case for case in CASES if case.name in MIXED], ids=str)
def test_mixed_rows_are_refused_with_and_without_derivatives(case):
    inputs = to_device(case.inputs)
    for run in (
        lambda: case.fn(*inputs),
        lambda: eager.jvp(case.fn, inputs),
        lambda: eager.vjp(case.fn, inputs),
    ):
        with pytest.raises((ValueError, TypeError), match=r"incompatible backends|same array library"):
            run()


@pytest.mark.parametrize("method", ["auto", "complex-step"])
@pytest.mark.parametrize("case", ROWS, ids=str)
def test_the_table(case, method, rng):
    tangents = checks.random_like(case.inputs, rng)
    cotangent = checks.random_like(case.fn(*case.inputs), rng)
    inputs = to_device(case.inputs)

    value, tangent = eager.jvp(case.fn, case.inputs, tangents, method=method)
    got_value, got_tangent = eager.jvp(case.fn, inputs, to_device(tangents), method=method)
    assert_agree(got_value, value, 1e-12, "the value")
    assert_agree(got_tangent, tangent, 1e-12, "the tangent")
    _, pull = eager.vjp(case.fn, case.inputs, method=method)
    _, got_pull = eager.vjp(case.fn, inputs, method=method)
    assert_agree(got_pull(to_device(cotangent)), pull(cotangent), 1e-12, "the cotangents")


@pytest.mark.parametrize("case", [case for case in ROWS if not case.once][::5], ids=str)
def test_second_order(case, rng):
    v, w = checks.random_like(case.inputs, rng), checks.random_like(case.fn(*case.inputs), rng)

    def hvp(inputs, v, w):
        return eager.jvp(lambda *x: eager.vjp(case.fn, x)[1](w), inputs, v)[1]

    expected = hvp(case.inputs, v, w)
    assert_agree(hvp(*map(to_device, (case.inputs, v, w))), expected, 1e-12, "forward over reverse")


# ---------------------------------------------------------------- numbers of the host beside a device

X = ak.Array([[1.0, 2.5], [], [3.0]])
FLAT = np.array([1.0, 2.0])
PARAMETERS = np.array([0.5, 1.25])
BESIDE = {
    "product": (lambda a, x: ak.sum(x * (1 + a) * np.sin(x)), (0.5, X)),
    "sum": (lambda a, x: a + x, (0.5, X)),
    "base": (lambda a, x: a**x, (0.5, X)),
    "exponent": (lambda a, x: x**a, (0.5, X)),
    "where": (lambda a, x: ak.where(x > 1.2, a, x), (0.5, X)),
    "np.where": (lambda a, x: np.where(x > 1.2, a * 2, a), (0.5, FLAT)),
    "fill_none": (lambda a, x: ak.fill_none(ak.pad_none(x, 2), a), (0.5, X)),
    "bare array on the right": (lambda a, x: np.sin(a) * x + a, (0.5, FLAT)),
    "bare array on the left": (lambda a, x: x - a, (0.5, FLAT)),
    "clip": (lambda a, x: np.clip(x, None, a), (1.5, FLAT)),
    "number of the device": (lambda a, x: a**2 + ak.sum(x * a), (0.5, X)),
    "numbers in an array": (lambda a, x: ak.Array([a, ak.sum(x), 0.5]), (0.5, X)),
    "vector": (lambda p, x: ak.sum(x * p[0]) + p[1] * ak.sum(x), (PARAMETERS, X)),
    "vector with a penalty": (lambda p, x: ak.sum(x * p[0]) + np.sum(p * p), (PARAMETERS, X)),
    "vector, reduced first": (lambda p, x: np.sum(p * p) * ak.sum(x) + p[1], (PARAMETERS, X)),
}


def on_device(inputs):
    return tuple(x if x is PARAMETERS else to_device(x) for x in inputs)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", BESIDE)
def test_numbers_of_the_host(name, method, rng):
    """The value is on the device, and so is its tangent; the cotangent of a number is a number."""
    fn, inputs = BESIDE[name]
    tangents = checks.random_like(inputs, rng)
    value, tangent = eager.jvp(fn, inputs, tangents, method=method)
    got_value, got_tangent = eager.jvp(fn, on_device(inputs), tangents, method=method)
    for got, expected in ((got_value, value), (got_tangent, tangent)):
        assert isinstance(got, (stand_in.ndarray, ak.Array))
        assert_agree(got, expected, 1e-12, "forward")

    cotangent = checks.random_like(value, rng)
    expected = eager.vjp(fn, inputs, method=method)[1](cotangent)
    pull = eager.vjp(fn, on_device(inputs), method=method)[1]
    for given in (cotangent, to_device(cotangent)):
        of_number, of_array = pull(given)
        assert type(of_number) is type(expected[0])
        checks.assert_close(of_number, expected[0], 1e-12, "of the number")
        assert_agree(of_array, expected[1], 1e-12, "of the array")


def test_a_tangent_of_a_constant_array_is_on_the_device():
    x = stand_in.asarray(FLAT)
    for fn in (lambda a: a + x, lambda a: x - a, lambda a: ak.sum(ak.Array(x) + a), lambda a: a + x.sum()):
        value, tangent = eager.jvp(fn, (0.5,))
        assert isinstance(value, stand_in.ndarray)
        assert isinstance(tangent, stand_in.ndarray)


def test_diffarray():
    x = eager.diffarray(stand_in.asarray(FLAT))
    y = np.sin(x) * x
    assert isinstance(y.primal, stand_in.ndarray)
    np.testing.assert_allclose(y.tangent.get(), np.cos(FLAT) * FLAT + np.sin(FLAT), rtol=1e-15)


# ---------------------------------------------------------------- moving


def test_moving_inside_a_function_is_differentiated():
    def fn(x):
        there = ak.to_backend(x * 2, StandInBackend.instance())
        return ak.to_backend(np.sin(there), "cpu") * x

    def without(x):
        return np.sin(x * 2) * x

    value, tangent = eager.jvp(fn, (X,))
    expected = eager.jvp(without, (X,))
    assert ak.backend(value) == ak.backend(tangent) == "cpu"
    checks.assert_close([value, tangent], list(expected), 1e-15, "jvp")
    got = eager.vjp(fn, (X,))[1](1.0)
    checks.assert_close(got, eager.vjp(without, (X,))[1](1.0), 1e-15, "vjp")

    def hvp(fn):
        return eager.jvp(lambda x: eager.vjp(fn, (x,))[1](1.0), (X,))[1]

    checks.assert_close(hvp(fn), hvp(without), 1e-15, "hvp")


def test_a_move_says_where_its_argument_was():
    there = move(FLAT, to=stand_in.ndarray)
    residuals = move.residuals(there, (FLAT,), {"to": stand_in.ndarray}, (True,), "auto")
    assert type(move.pull(residuals, there, (True,))[0]) is np.ndarray
    assert type(move.push(residuals, (FLAT,))) is stand_in.ndarray


@pytest.mark.parametrize("array", [JAGGED, OPTION, UNION, JETS, ak.Array(["a", "bc"]), JAGGED[::-1]], ids=str)
def test_every_layout_moves(array):
    there = transferred(array.layout, StandInBackend.instance())
    assert there.backend is StandInBackend.instance()
    back = transferred(there, array.layout.backend)
    assert back.is_equal_to(array.layout, all_parameters=True)


def test_absent_and_virtual_buffers_are_not_read():
    def never():
        raise AssertionError("a buffer was read that nothing needs")

    form, length, buffers = ak.to_buffers(JETS)
    unread = next(key for key, b in buffers.items() if np.array_equal(b, ak.flatten(JETS.eta)))
    virtual = {key: never if key == unread else (lambda b=b: b) for key, b in buffers.items()}
    absent = {key: absent_like(b) if key == unread else b for key, b in buffers.items()}
    for container in (virtual, absent):
        there = ak.Array(
            transferred(ak.from_buffers(form, length, container).layout, StandInBackend.instance())
        )
        assert ak.to_list(there.pt) == ak.to_list(JETS.pt)
        assert is_on_device(there)


def absent_like(buffer):
    """A buffer that column projection left out."""
    return PlaceholderArray(Numpy.instance(), buffer.shape, buffer.dtype)


# ---------------------------------------------------------------- between processes


def test_arrays_travel_through_the_host_and_are_back_on_the_device():
    array = to_device(ak.with_name(JETS, "Momentum4D"))
    eager.jvp(lambda x: x * x, (X,))
    for value in (array, array[0], array[0][0]):
        there = pickle.loads(pickle.dumps(value, protocol=5))
        assert is_on_device(there)
        assert type(there) is type(value)
        assert ak.to_list(there) == ak.to_list(value)


def test_pairs_cotangents_and_transposes_travel():
    x = to_device(X)
    pair = pushforward(lambda p: np.sin(p)[::-1], (Pair(x, {0: (to_device(np.ones(3)), None)}, 2),))
    there = pickle.loads(pickle.dumps(pair, protocol=5))
    assert is_on_device(there.primal)
    assert is_on_device([t for ts in there.tangents.values() for t in ts])
    checks.assert_close(to_host(there.primal), np.sin(X)[::-1], 1e-15, "primal")
    tangent = np.concatenate([np.cos([3.0]), np.cos([1.0, 2.5])])
    np.testing.assert_allclose(there.tangents[0][0].get(), tangent, rtol=1e-15)

    given = Cotangents({0: to_device(np.ones(3))})
    assert is_on_device(list(pickle.loads(pickle.dumps(given)).values()))


def test_where_there_is_no_device_arrays_arrive_on_the_host(monkeypatch):
    data = pickle.dumps(to_device(X), protocol=5)

    def missing():
        raise ModuleNotFoundError("No module named 'cupy'")

    monkeypatch.setattr(StandInBackend, "instance", missing)
    assert ak.backend(pickle.loads(data)) == "cpu"


# ---------------------------------------------------------------- what CuPy does otherwise


def test_the_stand_in_refuses_what_cupy_refuses():
    x = stand_in.asarray(FLAT)
    for wrong in (
        lambda: np.asarray(x),
        lambda: x * FLAT,
        lambda: FLAT * x,
        lambda: np.concatenate([x, FLAT]),
        lambda: stand_in.where(True, x, x),
        lambda: np.add.reduceat(x, [0]),
        lambda: np.add.at(x.astype(np.int64), stand_in.asarray([0]), 1),
        lambda: stand_in.bincount(stand_in.asarray([0, 2])),
        lambda: stand_in.sin(ak.Array([1.0])),
        lambda: stand_in.repeat(x, stand_in.asarray([1, 2])),
        lambda: x[np.array([0])],
    ):
        with pytest.raises((TypeError, ValueError, AttributeError, NotImplementedError)):
            wrong()
    assert isinstance(x.sum(), stand_in.ndarray)
    assert isinstance(x[0], stand_in.ndarray)
    assert not hasattr(x, "__array_namespace__")
    assert not hasattr(x, "__index__")


def test_vectors_of_which_one_is_constant():
    """vector asks a library for functions: CuPy's take none but its own arrays, ours take both."""

    def fn(k, muons, others):
        moved = ak.with_field(muons, muons.pt * (1 + k), "pt")
        return ak.sum(moved.deltaR(others) + others.dot(moved) + (moved + others).mass, axis=1)

    vectors = (MUONS, MUONS[:, ::-1])
    there = to_device(vectors)
    expected = eager.jvp(lambda k: fn(k, *vectors), (0.1,))
    for have, want in zip(eager.jvp(lambda k: fn(k, *there), (0.1,)), expected, strict=True):
        assert_agree(have, want, 1e-12, "one of two vectors")
    assert is_on_device(there[0].deltaR(there[1]))


def test_columns_that_are_virtual():
    form, length, buffers = ak.to_buffers(MUONS)
    expected = eager.jvp(lambda x: x.pt * x.pz, (MUONS,))[1]

    def virtual():
        lazy = {key: (lambda b=b: b) for key, b in buffers.items()}
        array = ak.from_buffers(form, length, lazy, behavior=MUONS.behavior)
        return ak.Array(transferred(array.layout, StandInBackend.instance()), behavior=MUONS.behavior)

    assert_agree(eager.jvp(lambda x: x.pt * x.pz, (virtual(),))[1], expected, 1e-12, "tangent")
    (got,) = eager.vjp(lambda x: x.pt * x.pz, (virtual(),))[1](1.0)
    (want,) = eager.vjp(lambda x: x.pt * x.pz, (MUONS,))[1](1.0)
    assert_agree(got, want, 1e-12, "cotangent")


def test_which_library():
    x = stand_in.asarray(FLAT)
    assert namespace(1.0, FLAT, x) is stand_in
    assert namespace(1.0, np.float64(2), FLAT) is np


@pytest.mark.parametrize("counts", [[], [0], [3], [0, 2, 0, 0, 1, 3, 0]])
def test_owners_and_binned_sums(counts):
    expected = np.repeat(np.arange(len(counts)), counts)
    there = owners(stand_in.asarray(np.array(counts, dtype=np.int64)))
    np.testing.assert_array_equal(there.get(), expected)
    for x in (np.arange(1.0, len(expected) + 1), np.arange(len(expected)) * (1 - 2j)):
        total = binned_sum(stand_in.asarray(x), there, len(counts))
        wanted = [x[expected == i].sum() for i in range(len(counts))]
        np.testing.assert_array_equal(total.get(), np.array(wanted, dtype=x.dtype))
        assert total.dtype == x.dtype


def test_a_nan_stays_in_its_segment():
    """CuPy's add.reduceat would spread it over all that follow."""
    x = to_device(ak.Array([[1.0, np.nan], [2.0, 3.0], [], [np.inf]]))
    _, tangent = eager.jvp(lambda x: ak.sum(x, axis=1), (x,), (x,))
    np.testing.assert_array_equal(to_host(tangent).to_numpy(), [np.nan, 5.0, 0.0, np.inf])


def test_what_has_no_rule_says_so_on_a_device():
    with pytest.raises(NoRuleError, match="fft"):
        eager.jvp(np.fft.fft, (stand_in.asarray(FLAT),))


# ---------------------------------------------------------------- errors that kernels keep to themselves


class Stream:
    ptr = 7

    def synchronize(self):
        pass


def test_silent_errors_of_kernels_are_raised(monkeypatch):
    """With Awkward's own bookkeeping: kernel 0 of this stream met the first error that it knows."""
    from awkward._connect import cuda
    from awkward._nplikes.cupy import Cupy

    class Library:
        class cuda:  # noqa: N801
            get_current_stream = Stream

        array = staticmethod(stand_in.asarray)

    synchronize()
    monkeypatch.setattr(Cupy, "_instance", object(), raising=False)
    monkeypatch.setattr(cuda, "cupy", Library)
    contexts = {}
    monkeypatch.setattr(cuda, "cuda_streamptr_to_contexts", contexts)
    monkeypatch.setitem(cuda.kernel_errors, "some_kernel", ["index out of range"])
    eager.jvp(lambda x: x * x, (X,))

    def met():
        contexts[Stream.ptr] = (stand_in.asarray(np.uint64(0)), [cuda.Invocation("some_kernel", None)])

    def meets_an_error(x):
        met()
        return x * x

    for run in (
        lambda: eager.jvp(meets_an_error, (X,)),
        lambda: eager.vjp(meets_an_error, (X,)),
    ):
        with pytest.raises(ValueError, match="index out of range in compiled CUDA code"):
            run()
    _, pull = eager.vjp(lambda x: x * x, (X,))
    met()
    with pytest.raises(ValueError, match="index out of range"):
        pull(1.0)
    assert contexts[Stream.ptr][1] == []
