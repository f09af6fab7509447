"""Functions of flat arrays recorded and run again, for the tests of this folder."""

from __future__ import annotations

import numpy as np

from dak_diff.programs.array import held, input_value
from dak_diff.programs.library import library_over
from dak_diff.programs.recorder import Recorder, Tracked, recording_into
from dak_diff.programs.source import compiled

XP = library_over(np)


def record(function, *inputs):
    """The program of a function of arrays and numbers, what it gave, and the recorder."""
    recorder = Recorder()
    with recording_into(recorder):
        results = function(*(input_value(recorder, x) for x in inputs))
        results = results if isinstance(results, tuple) else (results,)
    outputs = tuple(x.variable if isinstance(x, Tracked) else x for x in results)
    return recorder.program(outputs), tuple(map(held, results)), recorder


def run(program, *inputs):
    return tuple(compiled(program.with_tentative(set()))(*inputs))
