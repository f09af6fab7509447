"""Recorded programs over Awkward's value, and over the ordinary derivative, in one run.

    python -m benchmarks.run_programs [rounds]

Dijet masses of arrays in memory, one thread, value and gradient by the four columns of all jets. First each
number is compared, bit for bit, with the ordinary way; then the competitors take turns. Peaks are those of
what Python allocates.
"""

from __future__ import annotations

import sys
from typing import Any

import awkward as ak
import numpy as np

from benchmarks.dijets import FIELDS, dijet_mass, make_events
from benchmarks.measure import best_seconds, report, versions
from dak_diff import eager

ALPHA = 0.02
#: Events, and how many evaluations a round: about four jets an event.
SIZES = {50: 20, 2_000: 20, 20_000: 5, 500_000: 1}


def mass(columns: dict[str, ak.Array]) -> Any:
    return ak.sum(dijet_mass(ak.zip(columns, with_name="Momentum4D"), ALPHA, ak))


def main(rounds: int) -> None:
    print(f"{versions()}, one thread")
    for events, times in SIZES.items():
        batches = [columns_of(make_events(events, seed)) for seed in range(3)]
        value, gradient = eager.recorded(mass), eager.value_and_grad(mass)
        both = eager.recorded(gradient)
        for batch in batches:
            agree(value(batch), mass(batch))
            agree(both(batch), gradient(batch))
        assert len(value.programs) == len(both.programs) == 1
        print(f"\n{events:,} events, {ak.count(batches[-1]['pt']):,} jets, {times} evaluations")
        runs = {
            "value": repeated(times, mass, batches[-1]),
            "value, recorded": repeated(times, value, batches[-1]),
            "value and gradient": repeated(times, gradient, batches[-1]),
            "value and gradient, recorded": repeated(times, both, batches[-1]),
        }
        report(runs, rounds)
    recording(batches=[columns_of(make_events(2_000, seed)) for seed in range(2)], rounds=rounds)


def recording(batches: list, rounds: int) -> None:
    """What the two recordings and the passes cost, in ordinary runs."""
    ordinary = eager.value_and_grad(mass)

    def record() -> None:
        both = eager.recorded(ordinary)
        for batch in batches:
            both(batch)

    seconds = best_seconds({"ordinary": lambda: ordinary(batches[0]), "recorded": record}, rounds)
    print(f"\nrecording, in ordinary runs: {seconds['recorded'] / seconds['ordinary']:.1f}")


def columns_of(events: ak.Array) -> dict[str, ak.Array]:
    return {field: ak.to_packed(events.Jet[field]) for field in FIELDS}


def repeated(times: int, fn: Any, argument: Any) -> Any:
    def run() -> Any:
        for _ in range(times - 1):
            fn(argument)
        return fn(argument)

    return run


def agree(a: Any, b: Any) -> None:
    (value, *gradients), (expected, *others) = (x if isinstance(x, tuple) else (x,) for x in (a, b))
    assert np.array_equal(value, expected)
    for gradient, other in zip(gradients, others, strict=True):
        assert all(ak.array_equal(gradient[field], other[field]) for field in FIELDS)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
