"""Lengths that know how they were computed: arithmetic is recorded, decisions are guarded."""

import copy
import math
import operator
import pickle

import numpy as np
import pytest
from recordings import record, run

from dak_diff.programs.program import Guard
from dak_diff.programs.source import GuardMissedError
from dak_diff.programs.symbols import Symbol, choose

ARITHMETIC = {
    "sum": lambda n: n + 3,
    "reflected difference": lambda n: 10 - n,
    "product": lambda n: 2 * n * n,
    "quotient": lambda n: (n + 5) // 2,
    "rest": lambda n: 17 % n,
    "power": lambda n: n**2,
    "negative": lambda n: -n,
    "absolute": lambda n: abs(1 - n),
    "bits": lambda n: (n & 6) | (n << 1) ^ 3,
    "divmod": lambda n: divmod(n, 2)[0] + divmod(17, n)[1],
    "prod of a shape": lambda n: math.prod((2, n, n)),
    "sum of a list": lambda n: sum([n, 1, n]),
    "rounded": lambda n: math.ceil(n) + round(n) + math.trunc(n),
    "chosen": lambda n: choose(max, n - 4, 0),
}


@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic_is_done_again(name):
    function = ARITHMETIC[name]
    program, (out,), recorder = record(lambda x: function(x.shape[0]), np.zeros(5))
    assert out == function(5)
    assert not recorder.escapes
    assert not any(isinstance(step, Guard) and not step.tentative for step in program.steps)
    for n in (3, 7):
        assert run(program, np.zeros(n)) == (function(n),)


COMPARISONS = (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge)


@pytest.mark.parametrize("compare", COMPARISONS)
def test_a_comparison_is_a_guard(compare):
    program, (out,), _ = record(lambda x: 1.0 if compare(x.shape[0], 4) else 2.0, np.zeros(5))
    for n in (3, 4, 5):
        if compare(n, 4) == compare(5, 4):
            assert run(program, np.zeros(n)) == (out,)
        else:
            with pytest.raises(GuardMissedError):
                run(program, np.zeros(n))


TAKEN_OUT = {
    "int": lambda n: int(n),
    "hash": lambda n: {5: 1.0}.get(n),
    "text": lambda n: str(n),
    "format": lambda n: f"{n:3d}",
    "float": lambda n: float(n),
    "pickle": lambda n: pickle.loads(pickle.dumps(n)),
}


@pytest.mark.parametrize("name", TAKEN_OUT)
def test_what_takes_the_number_out_is_guarded(name):
    program, (out,), _ = record(lambda x: TAKEN_OUT[name](x.shape[0]), np.zeros(5))
    assert out == TAKEN_OUT[name](5)
    assert run(program, np.zeros(5)) == (out,)
    with pytest.raises(GuardMissedError):
        run(program, np.zeros(6))


def test_what_c_code_takes_out_is_guarded_tentatively():
    program, (out,), _ = record(lambda x: sum(1.0 for _ in range(x.shape[0])), np.zeros(5))
    assert out == 5.0
    [guard] = program.tentative
    assert guard.expected == 5


def test_a_symbol_is_equal_to_itself_without_a_guard():
    program, _, _ = record(lambda x: 1.0 if x.shape[0] == x.shape[0] else 2.0, np.zeros(5))
    assert not any(isinstance(step, Guard) and not step.tentative for step in program.steps)


def test_integers_of_numpy_stay_typed():
    # Single precision times a number of Python is single, times one of NumPy it is double.
    single = np.ones(2, dtype=np.float32)
    for function in (lambda x, n: x * n.shape[0], lambda x, n: x * n.sum(), lambda x, n: n.sum() * x):
        program, (out,), _ = record(function, single, np.array([2, 3]))
        assert out.dtype == function(single, np.array([2, 3])).dtype
        (again,) = run(program, single, np.array([4, 4]))
        assert again.dtype == out.dtype
        np.testing.assert_array_equal(again, function(single, np.array([4, 4])))


def test_ufuncs_of_lengths_are_recorded():
    program, (out,), _ = record(lambda x: np.float64(2.0) * np.sqrt(x.shape[0]), np.zeros(4))
    assert out == 4.0
    assert run(program, np.zeros(9)) == (6.0,)


def test_afterwards_it_is_a_number():
    kept = []
    record(lambda x: kept.append(x.shape[0]) or x, np.zeros(5))
    (n,) = kept
    assert isinstance(n, Symbol)
    assert (n + 1, n == 5, int(n), {5: "five"}[n], list(range(n))[-1]) == (6, True, 5, "five", 4)
    assert copy.deepcopy(n) == 5
