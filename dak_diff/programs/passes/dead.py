"""Dead code: columns and results that nobody reads are not computed."""

from __future__ import annotations

import operator
from dataclasses import replace

from dak_diff.programs.aliases import Aliases
from dak_diff.programs.program import Guard, Instruction, Program, Variable

__all__ = ["drop_dead"]


def drop_dead(program: Program) -> Program:
    """The program without what neither its results nor its guards depend on.

    What writes to memory stays if anything read afterwards may share it. What may find its arguments wrong
    (a kernel, an index that may be out of range) stays.
    """
    aliases = Aliases(program)
    live = {v for v in program.outputs if isinstance(v, Variable)}
    memory = {aliases.group(v) for v in live}
    kept: list[Instruction | Guard] = []
    for step in reversed(program.steps):
        if isinstance(step, Instruction) and not (
            _is_checked(step)
            or any(v in live for v in step.results)
            or any(aliases.group(v) in memory for v in step.writes)
        ):
            continue
        kept.append(step)
        live.update(step.reads)
        memory.update(map(aliases.group, step.reads))
    constants = {v: array for v, array in program.constants.items() if v in live}
    return replace(program, constants=constants, steps=tuple(reversed(kept)))


def _is_checked(step: Instruction) -> bool:
    """Whether what the arguments hold may be an error."""
    if step.function is operator.getitem:
        key = step.args[1]
        return isinstance(key, Variable) and key.type.startswith(("int", "uint"))
    return getattr(step.function, "is_checked", False)
