"""Programs made shorter: each pass takes a program and gives one that does the same."""

from dak_diff.programs.passes.common import merge_common
from dak_diff.programs.passes.constants import copy_exposed
from dak_diff.programs.passes.dead import drop_dead
from dak_diff.programs.program import Program

__all__ = ["copy_exposed", "drop_dead", "merge_common", "shorten"]


def shorten(program: Program) -> Program:
    """All passes, in order."""
    return drop_dead(merge_common(copy_exposed(program)))
