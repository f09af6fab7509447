"""Recorded arrays: what is done to them is done again; what leaves them is an escape."""

import operator
import pickle

import numpy as np
import pytest
from recordings import XP, record, run

from dak_diff.programs.source import GuardMissedError

A, B = np.array([1.5, -2.0, 3.25, 0.5]), np.array([2.0, 0.25, -1.0, 4.0, 8.0, -0.5])
M = np.array([[1.5, -2.0], [3.25, 0.5]])

SAME = {
    "operators": lambda x: 2.0 * x - x / 4 + x**2,
    "ufunc": lambda x: np.exp(np.sin(x)),
    "ufunc of two results": lambda x: np.modf(x),
    "reduction": lambda x: x.sum() + np.max(x) * x.mean(),
    "reduced ufunc": lambda x: np.add.reduce(x) + np.multiply.accumulate(x)[-1],
    "slice": lambda x: x[1:-1] + x[:-2],
    "mask": lambda x: x[x > 0],
    "positions": lambda x: x[np.argsort(x)],
    "count": lambda x: x * np.count_nonzero(x > 0),
    "integer sum": lambda x: x * (x > 0).sum(),
    "nonzero": lambda x: x[np.nonzero(x > 0)],
    "where": lambda x: np.where(x > 0, x, -1.0),
    "concatenate": lambda x: np.concatenate([x, 2 * x, np.zeros(3)]),
    "shape": lambda x: np.reshape(x, (2, x.shape[0] // 2)).T.ravel(),
    "dtype": lambda x: x.astype(np.float32).astype(int),
    "view": lambda x: x.view(np.int64),
    "made of a length": lambda x: XP.arange(x.shape[0]) + XP.ones(x.shape),
    "unique": lambda x: np.unique(np.round(x)),
    "clip, repeat, cumsum": lambda x: x.clip(-1, 1).repeat(2).cumsum(),
    "parts of complex numbers": lambda x: (x + 1j).imag + np.conj(x * 1j).real,
    "out": lambda x: np.add(x, 1.0, out=np.multiply(x, 0.0)),
    "one number": lambda x: x[1] * 2,
    "a constant": lambda x: x[:4] * A,
}


@pytest.mark.parametrize("name", SAME)
def test_it_is_done_again(name):
    function = SAME[name]
    program, results, recorder = record(function, A)
    assert not recorder.escapes
    assert_same(results, function(A))
    assert_same(run(program, A), function(A))
    assert_same(run(program, B), function(B))


def assert_same(got, expected):
    expected = expected if isinstance(expected, tuple) else (expected,)
    for a, b in zip(got, expected, strict=True):
        assert type(a) is type(b)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b, strict=True)


def test_writes_are_done_again_to_new_memory():
    def function(x):
        y = XP.zeros(x.shape[0])
        y[1:] = x[:-1]
        y[0] = 7.0
        np.add.at(y, [0, 0], 1.0)
        return y

    program, _, _ = record(function, A)
    first, second = run(program, A)[0], run(program, B)[0]
    assert first.tolist() == [9.0, 1.5, -2.0, 3.25]
    assert second.tolist() == [9.0, 2.0, 0.25, -1.0, 4.0, 8.0]


ESCAPES = {
    "float": lambda x: float(x[0]),
    "complex": lambda x: complex(x[0]),
    "int of a float": lambda x: int(x[0]),
    "item": lambda x: x.item(0),
    "iteration": lambda x: next(iter(x)),
    "np.asarray": lambda x: np.asarray(x),
    "a list": lambda x: x.tolist(),
    "bytes": lambda x: x.tobytes(),
    "a pointer": lambda x: x.ctypes.data,
    "memory": lambda x: memoryview(x.data)[0],
    "DLPack": lambda x: np.from_dlpack(x),
    "pickle": lambda x: pickle.dumps(x),
    "text": lambda x: f"{x[0]:.3f}",
}


@pytest.mark.parametrize("name", ESCAPES)
def test_what_leaves_the_arrays_is_an_escape(name):
    def function(x):
        ESCAPES[name](x)
        return x

    _, _, recorder = record(function, A)
    assert recorder.escapes
    assert "test_array.py, line" in recorder.escapes[0]


BRANCHES = {
    "truth": lambda x: x if x.sum() > 3 else -x,
    "all equal": lambda x: x if np.array_equal(x, x[:4]) else -x,
    "length": lambda x: x if len(x) == 4 else -x,
    "contiguous": lambda x: x if x.flags["C_CONTIGUOUS"] else -x,
    "integer": lambda x: x if int((x > 0).sum()) == 3 else -x,
    "shapes": lambda x: x if x.shape == (4,) else -x,
}


@pytest.mark.parametrize("name", BRANCHES)
def test_a_decision_is_guarded(name):
    function = BRANCHES[name]
    program, _, recorder = record(function, A)
    assert not recorder.escapes
    assert_same(run(program, A), function(A))
    other = B[::2] if name == "contiguous" else np.array([-0.5, -1.0, 0.25, -8.0, 1.0])
    with pytest.raises(GuardMissedError):
        run(program, other)


def test_shapes_that_are_known_need_no_guard():
    program, _, _ = record(lambda x: np.add(*XP.broadcast_arrays(np.sin(x), x * 2.0)), A)
    assert program.with_tentative(set()).guards == 0


def test_how_errors_of_floating_point_are_handled_is_recorded():
    def function(x):
        with np.errstate(invalid="ignore"):
            return np.sqrt(x)

    program, _, _ = record(function, A)
    assert program.steps[0].settings == (("invalid", "ignore"),)
    run(program, A)
    with pytest.warns(RuntimeWarning, match="invalid"):
        run(record(np.sqrt, abs(A))[0], A)


def test_an_array_of_a_closed_recording_is_its_value():
    kept = []
    record(lambda x: kept.append(x) or x, A)
    (x,) = kept
    assert_same((x + 1,), A + 1)
    assert float(x[0]) == 1.5
    assert x.shape == (4,)
    np.testing.assert_array_equal(np.asarray(x), A)


def test_arrays_of_several_dimensions():
    program, _, _ = record(lambda m: (m.sum(axis=0), m[:, 0], operator.matmul(m, m)), M)
    big = np.arange(9.0).reshape(3, 3)
    assert_same(run(program, big), (big.sum(axis=0), big[:, 0], big @ big))
