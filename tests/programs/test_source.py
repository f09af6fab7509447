"""Programs as functions of Python: what is generated, what it frees, what tracebacks show."""

import traceback

import numpy as np
import pytest
from recordings import record, run

from dak_diff.programs.source import GuardMissedError, compiled, source_of

A = np.array([1.5, -2.0, 3.25, 0.5])


def test_the_source():
    program, _, _ = record(lambda x: x[1:] * np.sum(x, axis=0) if x.shape[0] > 2 else x, A)
    source, _ = source_of(program.with_tentative(set()))
    assert source == (
        "def program(v0):\n"
        "    v1 = v0.shape[0]\n"
        "    v2 = v1 > 2\n"
        "    if not v2: raise GuardMissedError(False)\n"
        "    v3 = v0[1:]\n"
        "    v4 = f0(v0, axis=0)\n"
        "    del v0\n"
        "    v5 = f1(v3, v4)\n"
        "    del v3\n"
        "    return [v5]\n"
    )


def test_tracebacks_show_the_line():
    program, _, _ = record(lambda x, y: x[1:] + y, A, A[1:])
    with pytest.raises(ValueError, match="broadcast") as error:
        run(program, A, A[2:])
    assert "v3 = f0(v2, v1)" in "".join(traceback.format_exception(error.value))


def test_a_missed_guard_says_whether_it_was_tentative():
    program, _, _ = record(lambda x: x * x.shape[0], A)
    with pytest.raises(GuardMissedError) as error:
        compiled(program)(A[:2])
    assert error.value.tentative
    program, _, _ = record(lambda x: x if x.sum() > 0 else -x, A)
    with pytest.raises(GuardMissedError) as error:
        compiled(program)(-A)
    assert not error.value.tentative
