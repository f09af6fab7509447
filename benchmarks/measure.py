"""What the benchmarks measure with: competitors in turns, peaks of memory, one table.

A *run* is a function without arguments. Memory is what Python and NumPy allocate while it runs, as
``tracemalloc`` sees it: not the inputs, which lie there before, and not what XLA allocates for JAX.
"""

from __future__ import annotations

import gc
import platform
import time
import tracemalloc
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import awkward as ak
import dask
import numpy as np

__all__ = ["as_run", "best_seconds", "memory", "report", "versions"]

Runs = dict[str, Callable[[], Any]]


def as_run(*collections: Any) -> Callable[[], Any]:
    """Computes collections together, optimised beforehand."""
    return partial(dask.compute, *dask.optimize(*collections), optimize_graph=False)


def best_seconds(runs: Runs, rounds: int) -> dict[str, float]:
    """The best time of each run, of rounds in which they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: min(times) for name, times in seconds.items()}


def memory(run: Callable[[], Any]) -> tuple[float, float]:
    """MB at the peak of one run that returns everything, and MB that its results themselves occupy."""
    gc.collect()
    tracemalloc.start()
    results = run()
    peak = tracemalloc.get_traced_memory()[1]
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    del results
    gc.collect()
    results_only = max(0, held - tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    return peak / 1e6, results_only / 1e6


def report(runs: Runs, rounds: int, unseen: Iterable[str] = ()) -> None:
    """Run all, print a table; ratios are to the first. Memory of ``unseen`` is not known."""
    seconds = best_seconds(runs, rounds)
    peaks = {name: memory(run) for name, run in runs.items() if name not in unseen}
    base = next(iter(runs))
    print(f"{'':<44}{'seconds':>9}{'ratio':>8}{'peak MB':>10}{'ratio':>8}{'results MB':>12}")
    for name in runs:
        row = f"{name:<44}{seconds[name]:>9.3f}{seconds[name] / seconds[base]:>8.2f}"
        if name in peaks:
            peak, results = peaks[name]
            row += f"{peak:>10.1f}{peak / peaks[base][0]:>8.2f}{results:>12.1f}"
        print(row)


def versions() -> str:
    return (
        f"Python {platform.python_version()}, numpy {np.__version__}, "
        f"awkward {ak.__version__}, dask {dask.__version__}"
    )
