"""A program run step by step beside the values of a recording: which instruction gives something else."""

from __future__ import annotations

from typing import Any

import numpy as np

from dak_diff.programs.array import held
from dak_diff.programs.program import Guard, Program, Variable, map_variables, same
from dak_diff.rules.namespace import is_array

__all__ = ["first_wrong"]


def first_wrong(program: Program, inputs: list[Any], values: dict[Variable, Any]) -> str | None:
    """The first instruction of a program whose result is not what was recorded, or None.

    Parameters
    ----------
    values : dict
        Variable -> what it was while the function was recorded with these inputs.
    """
    known: dict[Variable, Any] = dict(zip(program.inputs, inputs, strict=True)) | program.constants
    for step in program.steps:
        if isinstance(step, Guard):
            if not step.tentative and known[step.variable] != step.expected:
                return f"{step}: it is {known[step.variable]!r}"
            continue
        out = step.function(
            *map_variables(step.args, known.__getitem__),
            **map_variables(step.kwargs, known.__getitem__),
        )
        results = tuple(out) if step.unpacked else (out,)
        for variable, result in zip(step.results, results, strict=False):
            known[variable] = result
            if variable not in values or not _agree(result, held(values[variable])):
                return str(step)
    return None


def _agree(one: Any, other: Any) -> bool:
    """Whether two values are the same; a number of Python is that of NumPy."""
    return same(*(x if is_array(x) else np.asarray(x) for x in (one, other)))
