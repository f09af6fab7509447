"""A program as a function of Python: its source is generated, and tracebacks show its lines."""

from __future__ import annotations

import itertools
import linecache
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from dak_diff.programs import operations
from dak_diff.programs.aliases import Aliases
from dak_diff.programs.program import Guard, Instruction, Program, Variable

__all__ = ["GuardMissedError", "compiled", "source_of"]


class GuardMissedError(Exception):
    """A value that decided a branch is another one: the program is not that of these inputs."""

    def __init__(self, tentative: bool):
        super().__init__("tentative" if tentative else "decided otherwise")
        self.tentative = tentative


_INFIX = {
    operator.eq: "==", operator.ne: "!=", operator.lt: "<", operator.le: "<=", operator.gt: ">",
    operator.ge: ">=", operator.add: "+", operator.sub: "-", operator.mul: "*", operator.floordiv: "//",
    operator.mod: "%",
}  # fmt: skip
_PLAIN = (int, str, bool, type(None))
_serial = itertools.count()


class _Writer:
    def __init__(self, program: Program):
        self.program = program
        self.names: dict[str, Any] = {"GuardMissedError": GuardMissedError, "errstate": np.errstate}
        self.lines: list[str] = []
        self._known: dict[int, str] = {}

    def name(self, value: Any, letter: str) -> str:
        known = self._known.get(id(value))
        if known is None:
            known = self._known[id(value)] = f"{letter}{len(self._known)}"
            self.names[known] = value
        return known

    def said(self, part: Any) -> str:
        cls = type(part)
        if cls is Variable:
            return f"v{part.number}"
        if cls is tuple:
            return f"({', '.join(map(self.said, part))}{',' * (len(part) == 1)})"
        if cls is list:
            return f"[{', '.join(map(self.said, part))}]"
        if cls is dict:
            return f"{{{', '.join(f'{k!r}: {self.said(v)}' for k, v in part.items())}}}"
        if cls is slice:
            return f"slice({self.said(part.start)}, {self.said(part.stop)}, {self.said(part.step)})"
        return repr(part) if cls in _PLAIN else self.name(part, "c")

    def call(self, step: Instruction) -> str:
        function, args = step.function, [*map(self.said, step.args)]
        if function in _INFIX and not step.kwargs:
            return f"{args[0]} {_INFIX[function]} {args[1]}"
        if function is operator.getitem:
            return f"{args[0]}[{self.key(step.args[1])}]"
        if function is operator.setitem:
            return f"{args[0]}[{self.key(step.args[1])}] = {args[2]}"
        if function is operations.length:
            return f"{args[0]}.shape[{args[1]}]"
        args += [f"{key}={self.said(value)}" for key, value in step.kwargs.items()]
        return f"{self.name(function, 'f')}({', '.join(args)})"

    def key(self, part: Any) -> str:
        if type(part) is slice:
            bounds = ["" if x is None else self.said(x) for x in (part.start, part.stop, part.step)]
            return ":".join(bounds[: 2 if part.step is None else 3])
        return self.said(part)

    def step(self, step: Instruction | Guard) -> list[str]:
        if isinstance(step, Guard):
            name = f"v{step.variable.number}"
            test = (
                f"not {name}" if step.expected is True else name if step.expected is False
                else f"{name} != {step.expected!r}"
            )  # fmt: skip
            return [f"if {test}: raise GuardMissedError({step.tentative})"]
        call = self.call(step)
        if step.unpacked:
            return [
                f"{', '.join(f'v{v.number}' for v in step.results)}{',' * (len(step.results) == 1)} = {call}"
            ]
        return [f"v{step.results[0].number} = {call}" if step.results else call]


def source_of(program: Program) -> tuple[str, dict[str, Any]]:
    """The source of a function of the inputs, and what its names stand for.

    Variables are deleted after their last use: without that a program needs more memory than the function
    that it was recorded from.
    """
    writer = _Writer(program)
    last: dict[Variable, int] = {}
    for position, step in enumerate(program.steps):
        for variable in (*step.reads, *(step.results if isinstance(step, Instruction) else ())):
            last[variable] = position
    aliases = Aliases(program)
    if aliases.pointed:
        of_group: dict[Variable, int] = {}
        for variable, position in last.items():
            group = aliases.group(variable)
            of_group[group] = max(of_group.get(group, 0), position)
        for variable in last:
            if aliases.group(variable) in aliases.pointed:
                last[variable] = of_group[aliases.group(variable)]
    kept = {v for v in program.outputs if isinstance(v, Variable)}
    freed: dict[int, list[str]] = {}
    for variable, position in last.items():
        if variable not in kept and variable not in program.constants and variable.type.endswith("]"):
            freed.setdefault(position, []).append(f"v{variable.number}")
    for variable, array in program.constants.items():
        writer.names[f"v{variable.number}"] = array
    lines = [f"def program({', '.join(f'v{v.number}' for v in program.inputs)}):"]
    settings: tuple = ()
    for position, step in enumerate(program.steps):
        mine = step.settings if isinstance(step, Instruction) else settings
        if mine != settings:
            settings = mine
            if settings:
                options = ", ".join(f"{name}={value!r}" for name, value in settings)
                lines.append(f"    with errstate({options}):")
        indent = "        " if settings else "    "
        lines += [indent + line for line in writer.step(step)]
        if position in freed:
            lines.append(f"{indent}del {', '.join(freed[position])}")
    lines.append(f"    return [{', '.join(writer.said(v) for v in program.outputs)}]")
    return "\n".join(lines) + "\n", writer.names


def compiled(program: Program) -> Callable[..., list]:
    """A function of the inputs that gives the outputs.

    Raises
    ------
    GuardMissedError
        When called with inputs of which this is not the program.
    """
    source, names = source_of(program)
    filename = f"<dak_diff program {next(_serial)}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    exec(compile(source, filename, "exec"), names)
    function: Callable[..., list] = names["program"]
    return function
