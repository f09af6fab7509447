"""Programs as data: what they print, when two are the same, that they pickle."""

import operator
import pickle

import numpy as np
import pytest

from dak_diff.programs import operations
from dak_diff.programs.program import (
    Guard,
    Instruction,
    Program,
    Variable,
    first_difference,
    map_variables,
    same,
    variables_in,
)

X, N, TWO = Variable(0, "float64[1]"), Variable(1, "int"), Variable(2, "bool")
Y, TABLE, Z = Variable(3, "float64[1]"), Variable(4, "float64[1]"), Variable(5, "float64[1]")
PROGRAM = Program(
    inputs=(X,),
    constants={TABLE: np.array([1.0, 2.0])},
    steps=(
        Instruction(operations.length, (X, 0), {}, (N,)),
        Instruction(operator.eq, (N, 2), {}, (TWO,)),
        Guard(TWO, True),
        Instruction(np.multiply, (X, TABLE), {}, (Y,)),
        Instruction(operator.setitem, (Y, slice(1, None), 0.5), {}, (), writes=(Y,)),
        Instruction(np.sort, (Y,), {"axis": -1}, (Z,)),
    ),
    outputs=(Z,),
)
SHOWN = """\
program(a0:float64[1]):
  a4:float64[1] = constant of 16 bytes
  n1:int = length(a0, 0)
  x2:bool = eq(n1, 2)
  guard x2 == True
  a3:float64[1] = multiply(a0, a4)
  setitem(a3, 1:, 0.5) -> a3
  a5:float64[1] = sort(a3, axis=-1)
  return a5
# 5 instructions, 1 guards, 16 bytes"""


def replaced(position, step):
    steps = list(PROGRAM.steps)
    steps[position] = step
    return Program(PROGRAM.inputs, PROGRAM.constants, tuple(steps), PROGRAM.outputs)


def test_a_line_an_instruction():
    assert str(PROGRAM) == SHOWN
    assert (PROGRAM.instructions, PROGRAM.guards, PROGRAM.nbytes) == (5, 1, 16)


def test_it_pickles():
    again = pickle.loads(pickle.dumps(PROGRAM))
    assert str(again) == SHOWN
    assert first_difference(PROGRAM, again) is None


DIFFERENT = {
    "another function": (replaced(3, Instruction(np.add, (X, TABLE), {}, (Y,))), "'a3:float64[1] = multiply"),
    "another literal": (replaced(1, Instruction(operator.eq, (N, 3), {}, (TWO,))), "eq(n1, 3)' another time"),
    "a literal of another type": (
        replaced(1, Instruction(operator.eq, (N, 2.0), {}, (TWO,))),
        "eq(n1, 2.0)' another time",
    ),
    "another branch": (replaced(2, Guard(TWO, False)), "'guard x2 == True' is 'guard x2 == False'"),
    "fewer steps": (
        Program(PROGRAM.inputs, PROGRAM.constants, PROGRAM.steps[:-1], (Y,)),
        "6 steps are 5 another time",
    ),
    "another result": (Program(PROGRAM.inputs, PROGRAM.constants, PROGRAM.steps, (Y,)), "other results"),
    "another constant": (
        Program(PROGRAM.inputs, {TABLE: np.array([1.0, 2.5])}, PROGRAM.steps, PROGRAM.outputs),
        "constant a4 has other elements",
    ),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_the_first_difference_is_named(what):
    other, expected = DIFFERENT[what]
    assert expected in first_difference(PROGRAM, other)


def test_tentative_guards_make_no_difference():
    steps = (*PROGRAM.steps[:1], Guard(N, 2, tentative=True), *PROGRAM.steps[1:])
    guarded = Program(PROGRAM.inputs, PROGRAM.constants, steps, PROGRAM.outputs)
    assert first_difference(PROGRAM, guarded) is None
    assert guarded.tentative == {Guard(N, 2, tentative=True)}
    assert guarded.with_tentative(set()) == PROGRAM


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (0.0, -0.0, False),
        (np.nan, np.nan, True),
        (1, True, False),
        (1, np.int64(1), False),
        (np.float32(1), np.float64(1), False),
        (np.array([np.nan, 0.0]), np.array([np.nan, 0.0]), True),
        (np.array([0.0]), np.array([-0.0]), False),
        (np.zeros((2, 1)), np.zeros((1, 2)), False),
        (slice(1, None), slice(1, None), True),
        ({"a": [1, (2, 3)]}, {"a": [1, (2, 3)]}, True),
        ({"a": 1}, {"b": 1}, False),
    ],
)
def test_parts_are_compared_bit_for_bit(a, b, expected):
    assert same(a, b) is expected


def test_variables_are_found_and_replaced_wherever_they_are():
    part = ([X, (N, 2)], {"key": slice(None, Y)}, "text")
    assert list(variables_in(part)) == [X, N, Y]
    assert map_variables(part, lambda v: v.number) == ([0, (1, 2)], {"key": slice(None, 3)}, "text")
