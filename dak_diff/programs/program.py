"""What a program is: variables, instructions and guards, as plain data.

One line an instruction, in the order in which they ran. A *guard* says that a boolean or a length decided a
branch while the program was recorded: where it has another value, the program is another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Guard", "Instruction", "Program", "Variable", "first_difference", "map_variables", "variables_in"]


class Variable(NamedTuple):
    """One value of a program: an array, a number, a length or a boolean.

    Parameters
    ----------
    number : int
        Its place: programs that were recorded alike number alike.
    type : str
        Dtype and dimensions as printed: ``float64[1]``, ``int``.
    """

    number: int
    type: str

    def __repr__(self) -> str:
        letter = "a" if self.type.endswith("]") else "n" if self.type.startswith("int") else "x"
        return f"{letter}{self.number}"


class Instruction(NamedTuple):
    """One call.

    Parameters
    ----------
    function : callable
        What is called: a ufunc, a function of the array library, a kernel, an operator.
    args, kwargs : tuple, dict
        Variables, literals, and tuples, lists, dicts and slices of them.
    results : tuple of Variable
        What it gives; more than one where it gives a tuple or a list.
    writes : tuple of Variable
        The arrays that it writes to.
    settings : dict
        How floating-point errors are handled, where that differs from what holds around the program.
    """

    function: Callable
    args: tuple
    kwargs: dict[str, Any]
    results: tuple[Variable, ...]
    unpacked: bool = False
    writes: tuple[Variable, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()

    @property
    def reads(self) -> list[Variable]:
        """Every variable among the arguments."""
        return [*variables_in(self.args), *variables_in(self.kwargs)]

    def __str__(self) -> str:
        call = ", ".join([*map(_shown, self.args), *(f"{k}={_shown(v)}" for k, v in self.kwargs.items())])
        results = ", ".join(f"{v!r}:{v.type}" for v in self.results)
        written = "".join(f" -> {v!r}" for v in self.writes)
        return f"{results + ' = ' if results else ''}{_name(self.function)}({call}){written}"


class Guard(NamedTuple):
    """A value that decided how the program goes on.

    Parameters
    ----------
    variable : Variable
        Of a boolean or a length.
    expected : bool or int
        What it was.
    tentative : bool
        It decided nothing that was seen, but had this value whenever the function was recorded.
    """

    variable: Variable
    expected: Any
    tentative: bool = False

    @property
    def reads(self) -> list[Variable]:
        """The variable that is looked at."""
        return [self.variable]

    def __str__(self) -> str:
        return f"guard {self.variable!r} == {self.expected!r}{' (so far)' if self.tentative else ''}"


@dataclass(frozen=True)
class Program:
    """A straight line of instructions and guards.

    Parameters
    ----------
    inputs : tuple of Variable
        What it is given, in order.
    constants : dict of Variable to array
        Arrays made outside of it.
    steps : tuple of Instruction and Guard
        What it does.
    outputs : tuple of Variable and constants
        What it gives.
    """

    inputs: tuple[Variable, ...]
    constants: dict[Variable, Any]
    steps: tuple[Instruction | Guard, ...]
    outputs: tuple[Any, ...]

    @property
    def instructions(self) -> int:
        """How many calls it makes."""
        return sum(isinstance(step, Instruction) for step in self.steps)

    @property
    def guards(self) -> int:
        """How many branches it checks."""
        return sum(isinstance(step, Guard) for step in self.steps)

    @property
    def tentative(self) -> set[Guard]:
        """The tentative guards."""
        return {step for step in self.steps if isinstance(step, Guard) and step.tentative}

    def with_tentative(self, guards: set[Guard]) -> Program:
        """The program with those tentative guards only."""
        steps = (s for s in self.steps if isinstance(s, Instruction) or not s.tentative or s in guards)
        return replace(self, steps=tuple(steps))

    @property
    def nbytes(self) -> int:
        """Bytes of its constants."""
        return sum(array.nbytes for array in self.constants.values())

    def __str__(self) -> str:
        lines = [f"program({', '.join(f'{v!r}:{v.type}' for v in self.inputs)}):"]
        lines += [
            f"  {v!r}:{v.type} = constant of {array.nbytes} bytes" for v, array in self.constants.items()
        ]
        lines += [f"  {step}" for step in self.steps]
        lines.append(f"  return {', '.join(map(repr, self.outputs))}")
        lines.append(f"# {self.instructions} instructions, {self.guards} guards, {self.nbytes} bytes")
        return "\n".join(lines)


def map_variables(part: Any, on_variable: Callable[[Variable], Any]) -> Any:
    """The arguments of an instruction with every variable replaced."""
    cls = type(part)
    if cls is Variable:
        return on_variable(part)
    if cls in (tuple, list):
        return cls(map_variables(x, on_variable) for x in part)
    if cls is dict:
        return {key: map_variables(x, on_variable) for key, x in part.items()}
    if cls is slice:
        return slice(*(map_variables(x, on_variable) for x in (part.start, part.stop, part.step)))
    return part


def variables_in(part: Any) -> Iterator[Variable]:
    """The variables among arguments."""
    cls = type(part)
    if cls is Variable:
        yield part
    elif cls in (tuple, list):
        for x in part:
            yield from variables_in(x)
    elif cls is dict:
        for x in part.values():
            yield from variables_in(x)
    elif cls is slice:
        for x in (part.start, part.stop, part.step):
            yield from variables_in(x)


def first_difference(one: Program, other: Program) -> str | None:
    """Where two recordings of one function differ, in words; None where they do not.

    Tentative guards do not count.
    """
    if one.inputs != other.inputs:
        return "they take other inputs"
    mine, theirs = ([s for s in p.steps if not (isinstance(s, Guard) and s.tentative)] for p in (one, other))
    for a, b in zip(mine, theirs, strict=False):
        if not same(a, b):
            return f"'{a}' is '{b}' another time"
    if len(mine) != len(theirs):
        return f"{len(mine)} steps are {len(theirs)} another time"
    if one.outputs != other.outputs:
        return "they give other results"
    for variable, array in one.constants.items():
        if not same(array, other.constants.get(variable)):
            return f"the constant {variable!r} has other elements another time"
    return None


def same(a: Any, b: Any) -> bool:
    """Whether two parts of programs are the same, numbers bit for bit."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(x, b[key]) for key, x in a.items())
    if isinstance(a, slice):
        return all(map(same, (a.start, a.stop, a.step), (b.start, b.stop, b.step)))
    if isinstance(a, (float, complex)) and not isinstance(a, np.generic):
        return np.array(a).tobytes() == np.array(b).tobytes()
    if hasattr(a, "dtype") and hasattr(a, "tobytes"):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return bool(a == b)


def _shown(part: Any) -> str:
    if callable(part) and not isinstance(part, type):
        return _name(part)
    if type(part) in (tuple, list):
        inside = ", ".join(map(_shown, part))
        return f"[{inside}]" if type(part) is list else f"({inside}{',' * (len(part) == 1)})"
    if type(part) is slice:
        stops = [("" if x is None else _shown(x)) for x in (part.start, part.stop, part.step)]
        return ":".join(stops[: 2 if part.step is None else 3])
    if isinstance(part, (np.dtype, type)):
        return np.dtype(part).name if isinstance(part, np.dtype) else part.__name__
    return repr(part)


def _name(function: Any) -> str:
    name = getattr(function, "__name__", None) or repr(function)
    return str(getattr(function, "__qualname__", None) or name).removeprefix("ufunc.")
