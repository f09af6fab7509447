"""A program being written: the recorder knows what is an input, a constant, or came out of an instruction.

What leaves the arrays (``float(x)``, iteration, a pointer) is an *escape*: the function goes on with its
value, so that it ends as it would have, but what was recorded is not used.
"""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dak_diff.programs.program import Guard, Instruction, Program, Variable
from dak_diff.rules.namespace import is_array

__all__ = ["MOST_INSTRUCTIONS", "Recorder", "Tracked", "current", "is_library_code", "recording_into"]

#: A function that needs more than these is a loop over elements, written out.
MOST_INSTRUCTIONS = 20_000
_LITERALS = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), np.generic, np.dtype, type)
_active = threading.local()


def current() -> Recorder | None:
    """The recorder that this thread writes into, if any."""
    return getattr(_active, "recorder", None)


@contextmanager
def recording_into(recorder: Recorder) -> Iterator[Recorder]:
    """Record what this thread does; afterwards what was recorded stands for its value."""
    before, _active.recorder = current(), recorder
    try:
        yield recorder
    finally:
        _active.recorder = before
        recorder.closed = True


class Tracked:
    """A value of a recording.

    Attributes
    ----------
    recorder : Recorder
        The recording that it belongs to; when that is closed it is only its value.
    variable : Variable
        Its place in the program.
    held : array or number
        What it is.
    """

    recorder: Recorder
    variable: Variable
    held: Any


class Recorder:
    """Writes one program.

    Parameters
    ----------
    values : dict, optional
        Filled with what each variable was.

    Attributes
    ----------
    steps : list of Instruction and Guard
        What was done so far.
    observed : list of (Variable, int)
        Lengths that Python was shown: they may have had an influence that cannot be seen.
    escapes : list of str
        Why what was recorded must not be used.
    """

    def __init__(self, values: dict[Variable, Any] | None = None):
        self.values = values
        self.inputs: list[Variable] = []
        self.constants: dict[Variable, Any] = {}
        self.steps: list[Instruction | Guard] = []
        self.observed: list[tuple[Variable, int]] = []
        self.escapes: list[str] = []
        self.closed = False
        self._settings = np.geterr()
        self._constant_of: dict[int, tuple[Variable, Any]] = {}
        self._guarded: set[Variable] = set()
        self._count = 0

    # ---------------------------------------------------------------- variables

    def variable(self, value: Any) -> Variable:
        """A new variable for a value."""
        variable = Variable(self._count, type_of(value))
        self._count += 1
        if self.values is not None:
            self.values[variable] = value.copy() if is_array(value) else value
        return variable

    def input(self, value: Any) -> Variable:
        """A variable for something that the program is given."""
        variable = self.variable(value)
        self.inputs.append(variable)
        return variable

    def constant(self, array: Any) -> Variable:
        """The variable of an array from outside."""
        known = self._constant_of.get(id(array))
        if known is None:
            variable = self.variable(array)
            # The array is kept, so that no other one gets its identity.
            known = self._constant_of[id(array)] = (variable, array)
            self.constants[variable] = array.copy()
        return known[0]

    # ---------------------------------------------------------------- steps

    def emit(
        self, function: Callable, args: tuple, kwargs: dict, results: tuple, **how: Any
    ) -> tuple[Variable, ...]:
        """Write down a call; the variables of its results."""
        variables = tuple(map(self.variable, results))
        self.steps.append(
            Instruction(function, args, kwargs, variables, settings=self._changed_settings(), **how)
        )
        if len(self.steps) == MOST_INSTRUCTIONS:
            self.escape(f"it takes more than {MOST_INSTRUCTIONS} steps: a loop over elements, written out?")
        return variables

    def _changed_settings(self) -> tuple[tuple[str, str], ...]:
        now = np.geterr()
        if now == self._settings:
            return ()
        return tuple((name, str(how)) for name, how in (now.items() - self._settings.items()))

    def guard(self, variable: Variable, value: Any) -> None:
        """Python saw this value and went on by it."""
        if variable not in self._guarded:
            self._guarded.add(variable)
            self.steps.append(Guard(variable, value))

    def observe(self, variable: Variable, value: int) -> None:
        """Python was shown this length."""
        self.observed.append((variable, value))

    def escape(self, reason: str) -> None:
        """What was recorded must not be used."""
        place = _users_line()
        self.escapes.append(f"{reason}{f' ({place})' if place else ''}")

    # ---------------------------------------------------------------- arguments

    def take_apart(self, part: Any) -> tuple[Any, Any]:
        """An argument as the function is called with it, and as the program says it."""
        cls = type(part)
        if isinstance(part, Tracked):
            if part.recorder is self:
                return part.held, part.variable
            if not part.recorder.closed:
                part.recorder.escape("an array is used by another thread or recording")
            return self.take_apart(part.held)
        if cls is tuple or cls is list:
            both = [self.take_apart(x) for x in part]
            return cls(x for x, _ in both), cls(y for _, y in both)
        if cls is dict:
            pairs = {key: self.take_apart(x) for key, x in part.items()}
            return {key: x for key, (x, _) in pairs.items()}, {key: y for key, (_, y) in pairs.items()}
        if cls is slice:
            both = [self.take_apart(x) for x in (part.start, part.stop, part.step)]
            return slice(*(x for x, _ in both)), slice(*(y for _, y in both))
        if isinstance(part, np.generic):
            return part, part
        if is_array(part):
            return part, self.constant(part)
        if not isinstance(part, _LITERALS) and not callable(part):
            self.escape(f"a {cls.__name__} among arguments is not looked into")
        return part, part

    def program(self, outputs: tuple) -> Program:
        """What was recorded, with a tentative guard on each length that Python was shown."""
        shown: dict[Variable, int] = {}
        for variable, value in self.observed:
            shown.setdefault(variable, value)
        inputs = [Guard(v, shown.pop(v), tentative=True) for v in self.inputs if v in shown]
        steps: list[Instruction | Guard] = [*inputs]
        for step in self.steps:
            steps.append(step)
            if isinstance(step, Instruction):
                steps += [Guard(v, shown.pop(v), tentative=True) for v in step.results if v in shown]
        return Program(tuple(self.inputs), dict(self.constants), tuple(steps), outputs)


def type_of(value: Any) -> str:
    """Dtype and number of dimensions, or the class of what has none."""
    if isinstance(value, np.generic):
        return value.dtype.name
    if is_array(value):
        return f"{value.dtype.name}[{value.ndim}]"
    return "int" if isinstance(value, int) and not isinstance(value, bool) else type(value).__name__


def _users_line() -> str:
    """Where a user's code is: the innermost line outside of libraries."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not is_library_code(name):
            return f"{Path(name).name}, line {frame.f_lineno}"
        frame = frame.f_back
    return ""


def is_library_code(filename: str) -> bool:
    """Whether a file belongs to dak_diff, an installed package or Python itself."""
    return filename.startswith(_LIBRARIES) or filename.startswith("<frozen")


_LIBRARIES = tuple(
    {
        str(Path(np.__file__).parents[1]),  # where packages are installed
        str(Path(threading.__file__).parent),
        str(Path(__file__).parents[1]),
    }
)
