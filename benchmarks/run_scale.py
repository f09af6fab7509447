"""A gradient over ten, a hundred, ... partitions: what grows faster than their number is found here.

    python -m benchmarks.run_scale [--cluster] [--recompute] [--build-only] [partitions ...]

The fit of docs/examples/fit_on_a_cluster.py, on twenty events a partition: the time is that of the calls, not
of the numbers. For every number of partitions: seconds to build value and gradient by four parameters and to
optimise their graph, its tasks, the bytes that a client sends to the scheduler of a cluster, and seconds to
run it, with two threads of this process or (``--cluster``) two worker processes. In brackets: by what it grew
from the row before, over what the number of partitions grew by. 1 is linear, less is better.

Every row is checked: the same events come back in every partition, and the constraint has no slope where the
gradient is taken, so that is the gradient of one partition times their number; that of one partition is
checked with central differences.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import awkward as ak
import dask
import dask_awkward as dak
import numpy as np
from dask.base import collections_to_dsk
from distributed import Client, LocalCluster
from distributed.protocol import serialize
from distributed.protocol.serialize import ToPickle

import dak_diff
from benchmarks.measure import versions

# Worker processes find it there, too.
sys.path.insert(0, str(Path(__file__).parents[1] / "docs" / "examples"))
from fit_on_a_cluster import START, negative_log_likelihood, parameters, simulate, spectrum

EVENTS, SIZES = 20, (10, 100, 1_000, 10_000)


def events_of(_partition: int) -> ak.Array:
    return simulate(seed=1, events=EVENTS)


def source(partitions: int) -> dak.Array:
    meta = ak.Array(events_of(0).layout.to_typetracer(forget_length=True))
    return dak.from_map(events_of, range(partitions), meta=meta, label="events", token=f"scale-{partitions}")


def loss(partitions: int, values: dict[str, float]) -> tuple[Any, dict[str, Any]]:
    """The likelihood of the example, and its parameters; as many events are observed as there are."""
    p = parameters(values)
    expected = spectrum(source(partitions), p)
    observed = np.full(expected.divisions[-1], partitions * EVENTS / expected.divisions[-1])
    return negative_log_likelihood(expected, observed, p), p


def main(sizes: list[int], residuals: str, on_cluster: bool, build_only: bool) -> None:
    slopes = check(residuals)
    where = "two worker processes" if on_cluster else "two threads"
    print(f"Value and gradient by {len(START)} parameters, residuals: {residuals}, {where}\n{versions()}\n")
    columns = ("build s", "optimise s", "tasks", "sent MB", *(() if build_only else ("run s", "CPU s")))
    print(f"{'partitions':>10}" + "".join(f"{column:>18}" for column in columns))
    before: tuple[int, list[float]] | None = None
    with scheduler(on_cluster) as run_on:
        for partitions in sizes:
            numbers = measured(partitions, residuals, slopes, None if build_only else run_on)
            print(f"{partitions:>10,}" + "".join(cells(partitions, numbers, before)), flush=True)
            before = partitions, numbers


def check(residuals: str) -> dict[str, float]:
    """The gradient of one partition, after a look at central differences."""
    expr, parameters = loss(1, START)
    slopes = dak_diff.grad(expr, wrt=parameters, residuals=residuals).items()
    slopes = {name: float(slope.compute(scheduler="sync")) for name, slope in slopes}
    for name, slope in slopes.items():
        step = 1e-4
        up, down = (
            loss(1, START | {name: START[name] + sign * step})[0].compute(scheduler="sync")
            for sign in (1, -1)
        )
        assert np.isclose((up - down) / (2 * step), slope, rtol=1e-6), (name, slope)
    return slopes


@contextlib.contextmanager
def scheduler(on_cluster: bool) -> Iterator[Any]:
    if not on_cluster:
        with dask.config.set(num_workers=2):
            yield "threads"
        return
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def measured(partitions: int, residuals: str, slopes: dict[str, float], run_on: Any) -> list[float]:
    expr, parameters = loss(partitions, START)
    clock = [time.perf_counter()]
    both = dak_diff.value_and_grad(expr, wrt=parameters, residuals=residuals)
    clock.append(time.perf_counter())
    collections = [both[0], *both[1].values()]
    graph = collections_to_dsk(collections)
    clock.append(time.perf_counter())
    header, frames = serialize(ToPickle(graph), on_error="raise")
    sent = len(str(header)) + sum(memoryview(frame).nbytes for frame in frames)
    tasks = len(dict(graph))
    numbers = [clock[1] - clock[0], clock[2] - clock[1], tasks, sent / 1e6]
    if run_on is None:
        return numbers
    start, cpu_start = time.perf_counter(), cpu_seconds(run_on)
    results = dask.compute(*collections, scheduler=run_on)
    numbers += [time.perf_counter() - start, cpu_seconds(run_on) - cpu_start]
    for slope, got in zip(slopes.values(), results[1:], strict=True):
        assert np.isclose(got, partitions * slope, rtol=1e-11), (got, partitions * slope)
    return numbers


def cpu_seconds(run_on: Any) -> float:
    """Of this process, where the scheduler runs, and of the workers, whatever else the machine does."""
    workers = run_on.run(time.process_time).values() if isinstance(run_on, Client) else ()
    return time.process_time() + sum(workers)


def cells(partitions: int, numbers: list[float], before: tuple[int, list[float]] | None) -> Iterator[str]:
    for i, number in enumerate(numbers):
        text = f"{number:,}" if isinstance(number, int) else f"{number:,.3f}"
        if before is not None:
            text += f" ({number / before[1][i] / (partitions / before[0]):.2f})"
        yield f"{text:>18}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("partitions", type=int, nargs="*", default=SIZES)
    parser.add_argument("--cluster", action="store_true")
    parser.add_argument("--recompute", action="store_true")
    parser.add_argument("--build-only", action="store_true")
    given = parser.parse_args()
    main(given.partitions, "recompute" if given.recompute else "keep", given.cluster, given.build_only)
