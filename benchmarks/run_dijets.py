"""Forward mode on the dijet analysis: time and memory over those of the value, in one run.

    python -m benchmarks.run_dijets [millions of jets]

First checks the numbers: three methods against each other and against a central difference.
Partitions lie in memory, one thread, graphs optimised beforehand; the best of five rounds in
which the competitors take turns. Memory is the peak of what Python allocates while computing.
"""

from __future__ import annotations

import sys

import awkward as ak
import dask
import dask_awkward as dak
import numpy as np

import dak_diff
from benchmarks.dijets import dijet_mass, make_events
from benchmarks.measure import as_run, report, versions

ALPHA, PARTITIONS, ROUNDS = 0.02, 8, 5


def main(millions: float) -> None:
    events = make_events(int(millions * 250_000), seed=1)
    jets = dak.from_awkward(events, PARTITIONS).Jet
    alpha = dak_diff.parameter(ALPHA, name="alpha")

    def total(a: object) -> object:
        return dak.sum(dijet_mass(jets, a))

    runs = {"value": (total(ALPHA),)}
    for method in ("dual", "complex-step"):
        runs[f"value and jvp, {method}"] = dak_diff.value_and_jvp(total(alpha), wrt=alpha, method=method)
    check(runs, total)
    print(f"{int(ak.count(events.Jet.pt)):,} jets in {PARTITIONS} partitions, one thread\n{versions()}\n")
    report({name: as_run(*collections) for name, collections in runs.items()}, ROUNDS)


def check(runs: dict, total: object) -> None:
    (value,) = dask.compute(*runs["value"])
    step = 1e-9
    up, down = dask.compute(total(ALPHA + step), total(ALPHA - step))
    difference = (up - down) / (2 * step)
    for name, collections in list(runs.items())[1:]:
        v, slope = dask.compute(*collections)
        assert v == value, name
        assert np.isclose(slope, difference, rtol=1e-5), (name, slope, difference)


if __name__ == "__main__":
    dask.config.set(scheduler="sync")
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 2.0)
