"""Which variables of a program may share memory, and which memory is written to."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from dak_diff.programs import operations
from dak_diff.programs.program import Instruction, Program, Variable

__all__ = ["Aliases"]

#: Functions besides ufuncs whose results are always in memory of their own.
_FRESH: frozenset[Any] = frozenset(
    (
        *(np.zeros, np.ones, np.empty, np.full, np.arange, np.zeros_like, np.ones_like, np.empty_like),
        *(np.concatenate, np.cumsum, np.cumprod, np.sum, np.prod, np.min, np.max, np.repeat, np.where),
        *(np.nonzero, np.argsort, np.sort, np.bincount, np.searchsorted, np.full_like, np.copy, np.take),
        *(
            operations.astype,
            operations.copy,
            np.any,
            np.all,
            np.count_nonzero,
            np.array_equal,
            np.isclose,
            np.unique,
        ),
    )
)


class Aliases:
    """Groups of variables that may share memory.

    A function that is not known to make new memory may give a view of any of its arguments.

    Attributes
    ----------
    written : set of int
        Groups that some instruction writes to.
    """

    def __init__(self, program: Program):
        self._parent: dict[Variable, Variable] = {}
        self._pointed: set[Variable] = set()
        for step in program.steps:
            if isinstance(step, Instruction):
                if step.function is operations.pointer:
                    self._pointed.add(step.results[0])
                    self._join(step.results[0], step.args[0])
                if step.function is operator.setitem and step.args[2] in self._pointed:
                    self._join(step.args[0], step.args[2])
                for result in step.results:
                    if not _is_array(result) or is_fresh(step):
                        continue
                    for argument in step.reads:
                        if _is_array(argument):
                            self._join(result, argument)
        self.written = {
            self.group(v) for step in program.steps if isinstance(step, Instruction) for v in step.writes
        }

    def group(self, variable: Variable) -> Variable:
        """A variable that stands for all that may share memory with this one."""
        parent = self._parent.get(variable, variable)
        while parent != variable:
            variable, parent = parent, self._parent.get(parent, parent)
        return variable

    @property
    def pointed(self) -> set[Variable]:
        """Groups to which there are pointers: they live as long as anything in them is used."""
        return {self.group(v) for v in self._pointed}

    def is_written(self, variable: Variable) -> bool:
        """Whether the memory of a variable is ever written to."""
        return bool(self.written) and self.group(variable) in self.written

    def _join(self, a: Variable, b: Variable) -> None:
        self._parent[self.group(a)] = self.group(b)


def _is_array(variable: Variable) -> bool:
    return variable.type.endswith("]")


def is_fresh(step: Instruction) -> bool:
    """Whether results are in memory of their own."""
    function = step.function
    if isinstance(function, np.ufunc) or function in _FRESH or getattr(function, "is_atomic", False):
        return True
    if function is np.array:
        return "copy" not in step.kwargs
    if function is operator.getitem:
        key = step.args[1]
        return isinstance(key, Variable) and _is_array(key)
    return isinstance(getattr(function, "__self__", None), np.ufunc)
