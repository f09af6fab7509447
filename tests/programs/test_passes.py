"""Each pass does the same with less; memory that is written to is left alone."""

import operator

import numpy as np
import pytest
from recordings import XP, record, run

from dak_diff.programs.passes import copy_exposed, drop_dead, merge_common, shorten
from dak_diff.programs.program import Instruction

A, B = np.array([1.5, -2.0, 3.25, 0.5]), np.array([2.0, 0.25, -1.0])


def names(program):
    return [s.function.__name__ for s in program.steps if isinstance(s, Instruction)]


def written(x):
    """Memory that is read, written through a view, and read again."""
    y = x + 1.0
    before = y[0] * 1.0
    tail = y[1:]
    tail[0] = 5.0
    return y, before, y[0] * 1.0, np.sum(y), np.sum(y)


FUNCTIONS = {
    "repeated": lambda x: np.sin(x) + np.sin(x) * np.sin(x),
    "unread": lambda x: (np.exp(x), np.sin(x))[1],
    "written": written,
    "several results": lambda x: np.modf(x)[0] + np.modf(x)[0],
    "table": lambda x: x * np.array([2.0]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("apply", [drop_dead, merge_common, copy_exposed, shorten])
def test_results_are_the_same(name, apply):
    program, _, _ = record(FUNCTIONS[name], A)
    program = program.with_tentative(set())
    for x in (A, B):
        for got, expected in zip(run(apply(program), x), run(program, x), strict=True):
            np.testing.assert_array_equal(got, expected)


def test_what_nobody_reads_is_dropped():
    program, _, _ = record(FUNCTIONS["unread"], A)
    assert names(drop_dead(program.with_tentative(set()))) == ["sin"]


def test_an_index_that_may_be_out_of_range_stays():
    program, _, _ = record(lambda x, i: (x[i], np.sin(x))[1], A, np.array([0, 3]))
    short = drop_dead(program.with_tentative(set()))
    assert names(short) == ["getitem", "sin"]
    with pytest.raises(IndexError, match="out of bounds"):
        run(short, A[:3], np.array([0, 3]))


def test_what_a_guard_reads_stays():
    program, _, _ = record(lambda x: x if np.sum(x) > 0 else -x, A)
    assert names(drop_dead(program)) == ["sum", "greater", "bool"]


def test_what_was_computed_is_not_computed_again():
    program, _, _ = record(FUNCTIONS["repeated"], A)
    assert names(merge_common(program)) == ["sin", "multiply", "add"]


def test_literals_of_another_type_are_other_arguments():
    program, _, _ = record(lambda x: (x * 1, x * True, x * 1.0, x * -0.0, x * 0.0), A)
    assert names(merge_common(program)) == ["multiply"] * 5


def test_what_was_written_to_in_between_is_read_again():
    program, _, _ = record(written, A)
    # y[0] before and after the write; the sum, after it, once.
    assert names(merge_common(program)).count("getitem") == 3
    assert names(merge_common(program)).count("sum") == 1


def test_memory_that_is_written_to_is_not_shared():
    def function(x):
        y, z = XP.zeros(x.shape[0]), XP.zeros(x.shape[0])
        y[0] = 1.0
        return y, z

    program, _, _ = record(function, A)
    y, z = run(shorten(program), A)
    assert (y[0], z[0]) == (1.0, 0.0)


def test_one_guard_for_one_condition():
    program, _, _ = record(lambda x: 1.0 if x.shape[0] > 2 and x.shape[0] > 2 else 2.0, A)
    assert merge_common(program.with_tentative(set())).guards == 1


def test_constants_are_not_given_away():
    table = np.array([1.0, 2.0])
    recorded = record(lambda x: (XP.asarray(table), XP.asarray(table)[:1]), A)[0]
    program = copy_exposed(recorded)
    first = run(program, A)
    first[0][:] = 7.0
    assert [y.tolist() for y in run(program, A)] == [[1.0, 2.0], [1.0]]


def test_constants_that_are_written_to_are_copied():
    def function(x):
        y = XP.asarray(np.array([1.0, 2.0]))
        y[0] = x[0]
        return y * 1.0

    program = copy_exposed(record(function, A)[0])
    assert [run(program, x)[0].tolist() for x in (A, B, A)] == [[1.5, 2.0], [2.0, 2.0], [1.5, 2.0]]
    assert operator.setitem.__name__ in names(program)
