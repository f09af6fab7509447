"""Constants stay what they are: what is written to, or given away, is a copy made anew each time."""

from __future__ import annotations

from dataclasses import replace

from dak_diff.programs.aliases import Aliases
from dak_diff.programs.operations import copy
from dak_diff.programs.program import Guard, Instruction, Program, Variable, map_variables

__all__ = ["copy_exposed"]


def copy_exposed(program: Program) -> Program:
    """The program with a copy of each constant that it writes to, or that may share memory with a result."""
    aliases = Aliases(program)
    given = {aliases.group(v) for v in program.outputs if isinstance(v, Variable)}
    exposed = [v for v in program.constants if aliases.group(v) in given | aliases.written]
    if not exposed:
        return program
    free = 1 + max((v.number for v in _defined(program)), default=0)
    copies = {v: Variable(free + i, v.type) for i, v in enumerate(exposed)}

    def of(variable: Variable) -> Variable:
        return copies.get(variable, variable)

    steps: list[Instruction | Guard] = [Instruction(copy, (v,), {}, (new,)) for v, new in copies.items()]
    for step in program.steps:
        if isinstance(step, Guard):
            steps.append(step._replace(variable=of(step.variable)))
        else:
            args, kwargs = map_variables(step.args, of), map_variables(step.kwargs, of)
            steps.append(step._replace(args=args, kwargs=kwargs, writes=tuple(map(of, step.writes))))
    outputs = tuple(of(v) if isinstance(v, Variable) else v for v in program.outputs)
    return replace(program, steps=tuple(steps), outputs=outputs)


def _defined(program: Program) -> list[Variable]:
    found = [*program.inputs, *program.constants]
    for step in program.steps:
        if isinstance(step, Instruction):
            found += step.results
    return found
