"""Eight threads at once, first use included, give what one thread gives, bit for bit.

Backends, rules and parameters are registered at first use, so each script runs in a process of its own.
There no thread does anything before all are at the barrier, threads switch as often as the interpreter
can, and registering is slow: a second one would come while others compute with what the first made.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import awkward as ak
import dask
import dask_awkward as dak
import numpy as np
import pytest

import dak_diff as dd
from dak_diff import eager
from dak_diff.engine.awkward_internals import patches

parameters = importlib.import_module("dak_diff.parameter")  # the attribute of that name is the function

THREADS = 8
FRESH_PROCESSES = 3


# ---------------------------------------------------------------- what the threads compute


def exact(value: Any) -> str:
    """All digits of a result."""
    if isinstance(value, (tuple, list)):
        return ", ".join(map(exact, value))
    return f"{ak.to_list(value)!r}" if isinstance(value, ak.Array) else float(value).hex()


def numbers() -> ak.Array:
    return ak.Array([[1.0, 2.0, 0.3], [], [3.0], [0.7, -1.1]])


def many_operations(x: Any) -> Any:
    """Ufuncs, reducers, selections, sorting and a rule that is made at first use."""
    best = ak.max(ak.sort(x, axis=1)[x > 0.5] ** 2, axis=1)
    return ak.sum(np.sin(x) * np.arctan2(x, 0.3)) * ak.var(x) + ak.sum(np.logaddexp(x, best))


def expression() -> tuple[Any, list[Any]]:
    x = dak.from_awkward(numbers(), npartitions=2)
    alpha = dd.parameter(0.25, name="alpha")
    pt = x * (1 + alpha)
    return dak.sum(np.sin(pt[pt > 0.5])) / dak.count(pt), [x, alpha]


def first_gradient() -> Callable[[], Any]:
    """Every thread takes an array of its own, and is the first to need the backend."""
    return lambda: [eager.grad(many_operations, method=m)(numbers()) for m in ("auto", "complex-step")]


def one_graph() -> Callable[[], Any]:
    """Eight runs of one graph, each in the thread that asks."""
    gradient = dd.grad(*expression())
    return lambda: dask.compute(*gradient, scheduler="sync")


def graphs_of_their_own() -> Callable[[], Any]:
    """Every thread makes its parameter, builds and runs."""

    def work() -> Any:
        expr, wrt = expression()
        requests = (*dd.value_and_jvp(expr, wrt[1]), *dd.grad(expr, wrt))
        return dask.compute(*requests, scheduler="sync")

    return work


SCRIPTS = {script.__name__: script for script in (first_gradient, one_graph, graphs_of_their_own)}


def at_once(work: Callable[[], Any]) -> list[str]:
    """What eight threads that start together get."""
    barrier = threading.Barrier(THREADS)

    def run(_: int) -> str:
        barrier.wait()
        return exact(work())

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(THREADS)))


def slowly(module: Any, name: str) -> list[str]:
    """Make a function of a module slow, and more so each time; its calls are listed."""
    fn, calls = getattr(module, name), []

    def later(*args: Any) -> Any:
        calls.append(name)
        time.sleep(0.002 * len(calls))
        return fn(*args)

    setattr(module, name, later)
    return calls


if __name__ == "__main__":
    sys.setswitchinterval(1e-6)
    # What registering a backend, and parameters, does first.
    registrations = [slowly(patches, "make_backend"), slowly(parameters, "refuse_in_arrays")]
    print("\n".join(at_once(SCRIPTS[sys.argv[1]]())))
    print(*(call for calls in registrations for call in calls))


# ---------------------------------------------------------------- tests


@pytest.mark.parametrize(
    ("name", "registered"),
    [
        ("first_gradient", "make_backend"),
        ("one_graph", "make_backend refuse_in_arrays"),
        ("graphs_of_their_own", "make_backend refuse_in_arrays"),
    ],
)
def test_first_use_in_eight_threads(name, registered):
    want = exact(SCRIPTS[name]()())
    for _ in range(FRESH_PROCESSES):
        done = subprocess.run(
            [sys.executable, __file__, name],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        assert done.returncode == 0, done.stderr
        *results, calls = done.stdout.splitlines()
        assert results == [want] * THREADS
        assert calls == registered


def test_graphs_built_at_once_leave_warnings_alone():
    """Layers run on empty arrays, without warnings, while a derivative is built: here two at once.

    The first enters before the second and leaves before it.
    """
    before = list(warnings.filters)
    first_runs, second_runs, first_is_built = (threading.Event() for _ in range(3))
    x = dak.from_awkward(numbers(), npartitions=2)

    def first(x: Any) -> Any:
        if ak.backend(x) != "typetracer":
            first_runs.set()
            second_runs.wait(0.5)
        return 2 * x

    def second(x: Any) -> Any:
        if ak.backend(x) != "typetracer":
            second_runs.set()
            first_is_built.wait(0.5)
        return 2 * x

    def build_first() -> None:
        dd.jvp(dak.map_partitions(first, x), x)
        first_is_built.set()

    def build_second() -> None:
        first_runs.wait(10)
        dd.jvp(dak.map_partitions(second, x), x)

    with ThreadPoolExecutor(2) as pool:
        for building in [pool.submit(build_first), pool.submit(build_second)]:
            building.result()
    assert list(warnings.filters) == before
