"""A gradient over ten, a hundred, ... partitions: what grows faster than their number is found here.

    python -m benchmarks.run_scale [--cluster] [--recompute] [--build-only] [partitions ...]

An analysis whose segment has 32 layers, on twenty events a partition: the time is that of the calls, not of
the numbers. For every number of partitions: seconds to build value and gradient by four parameters and to
optimise their graph, its tasks, the bytes that a client sends to the scheduler of a cluster, and seconds to
run it, with two threads of this process or (``--cluster``) two worker processes. In brackets: by what it grew
from the row before, over what the number of partitions grew by. 1 is linear, less is better.

Every row is checked: the same events come back in every partition, so the gradient is that of one partition
times their number; that of one partition is checked with central differences.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator
from itertools import pairwise
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
from benchmarks.dijets import make_events
from benchmarks.measure import versions

EVENTS, SIZES = 20, (10, 100, 1_000, 10_000)
#: of the bins of dijet mass, and the events observed in each, for one partition
EDGES, OBSERVED = (20.0, 80.0, 140.0, 260.0), (2.0, 2.5, 1.5)
#: parameter -> where the gradient is taken
START = {"scale": 0.02, "threshold": 30.0, "slope": 0.1, "width": 12.0}


def events_of(_partition: int) -> ak.Array:
    events = make_events(EVENTS, seed=1)
    return ak.with_field(events, 20.0 + 5.0 * (events.event % 11), "met")


META = ak.Array(events_of(0).layout.to_typetracer(forget_length=True), behavior=events_of(0).behavior)


def source(partitions: int) -> dak.Array:
    return dak.from_map(events_of, range(partitions), meta=META, label="events", token=f"scale-{partitions}")


def sigmoid(x: ak.Array) -> ak.Array:
    return 1 / (1 + np.exp(-x))


def weight_of(met: ak.Array, threshold: float, slope: float) -> ak.Array:
    return sigmoid((met - threshold) / 5.0) * (1 + slope * np.tanh(met / 40.0))


def share_of(mass: ak.Array, weight: ak.Array, width: float, low: float, high: float) -> ak.Array:
    """How much of each event lies in a bin with soft edges."""
    return weight * sigmoid((mass - low) / width) * sigmoid((high - mass) / width)


def loss(partitions: int, values: dict[str, float]) -> tuple[Any, dict[str, Any]]:
    """Minus the logarithm of a Poisson likelihood of three soft yields, and its parameters."""
    events = source(partitions)
    p = {name: dak_diff.parameter(value, name=name) for name, value in values.items()}
    jets = events.Jet
    jets = dak.with_field(jets, jets.pt * (1 + p["scale"] * (1 + 0.1 * jets.eta**2)), "pt")
    jets = jets[(jets.pt > 25) & (abs(jets.eta) < 2.5)]
    jets = jets[dak.argsort(jets.pt, axis=1, ascending=False)]
    dijets = dak.num(jets, axis=1) >= 2
    jets, met = jets[dijets], events.met[dijets]
    mass = (jets[:, 0] + jets[:, 1]).mass
    weight = dak.map_partitions(weight_of, met, p["threshold"], p["slope"])
    total = 0.0
    for (low, high), observed in zip(pairwise(EDGES), OBSERVED, strict=True):
        expected = dak.sum(dak.map_partitions(share_of, mass, weight, p["width"], low, high))
        total = expected - observed * partitions * np.log(expected) + total
    return total, p


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
        # No jet of these events crosses the threshold or another jet by so small a step.
        step = 1e-4 * START[name]
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
