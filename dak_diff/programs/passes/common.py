"""Common subexpressions: what was computed once is not computed again, what was checked once is known."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from dak_diff.programs.aliases import Aliases
from dak_diff.programs.program import Guard, Instruction, Program, Variable, map_variables

__all__ = ["merge_common"]


def merge_common(program: Program) -> Program:
    """The program in which no call is made twice with the same arguments.

    Calls are the same as long as nothing was written to what they read. What is written to later is not
    shared.
    """
    aliases = Aliases(program)
    now: dict[Variable, Variable] = {}
    known: dict[Any, tuple[Variable, ...]] = {}
    writes: Counter[Variable] = Counter()
    checked: set[Variable] = set()
    steps: list[Instruction | Guard] = []

    def current(variable: Variable) -> Variable:
        return now.get(variable, variable)

    for step in program.steps:
        if isinstance(step, Guard):
            variable = current(step.variable)
            if variable not in checked:
                checked.add(variable)
                steps.append(step._replace(variable=variable))
            continue
        args, kwargs = map_variables(step.args, current), map_variables(step.kwargs, current)
        step = step._replace(args=args, kwargs=kwargs, writes=tuple(map(current, step.writes)))
        key = None
        if not step.writes and step.results and not any(map(aliases.is_written, step.results)):
            versions = tuple(writes[aliases.group(v)] for v in step.reads)
            key = (step.function, frozen(args), frozen(kwargs), step.settings, versions)
            if key in known:
                now.update(zip(step.results, known[key], strict=True))
                continue
            known[key] = step.results
        for variable in step.writes:
            writes[aliases.group(variable)] += 1
        steps.append(step)
    outputs = tuple(current(v) if isinstance(v, Variable) else v for v in program.outputs)
    return replace(program, steps=tuple(steps), outputs=outputs)


def frozen(part: Any) -> Any:
    """Arguments as something that can be looked up; numbers of other types or bits are other arguments."""
    cls = type(part)
    if cls is Variable:
        return part
    if cls in (tuple, list):
        return (cls, *map(frozen, part))
    if cls is dict:
        return (cls, *((key, frozen(value)) for key, value in part.items()))
    if cls is slice:
        return (cls, frozen(part.start), frozen(part.stop), frozen(part.step))
    if isinstance(part, (float, complex, np.generic)):
        return (cls, np.asarray(part).tobytes())
    return (cls, part)
