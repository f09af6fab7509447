"""Jacobian of a histogram by 50 nuisance parameters over the histogram alone.

    python -m benchmarks.run_jacobian [thousands of events]

The dijet mass of events with jagged jets in 30 bins, each mass spread by a Gaussian, with event weights.
Three parameters move the energy scale of the jets, 47 the weights, all in one vector. First the numbers are
checked: against one jvp for each component, and along a random direction against central differences. Then
a table: one thread, inputs in memory, graphs optimised beforehand, the best of three rounds in which the
competitors take turns; peaks are those of what Python allocates in one run. Last, what a vjp costs in
tangents of a batch: that decides ``mode="auto"``.
"""

from __future__ import annotations

import sys
from typing import Any

import awkward as ak
import dask
import dask_awkward as dak
import numpy as np

import dak_diff
from benchmarks.dijets import make_events
from benchmarks.measure import as_run, best_seconds, report, versions

PARAMETERS, SCALES, PARTITIONS, ROUNDS = 50, 3, 4, 3
EDGES = np.linspace(20.0, 320.0, 31)
POINT = np.linspace(-0.02, 0.02, PARAMETERS)


def main(thousands: float) -> None:
    events = make_events(int(thousands * 1000), seed=1)
    print(
        f"{len(events):,} events, {int(ak.count(events.Jet.pt)):,} jets, {PARTITIONS} partitions, one thread"
    )
    print(versions())
    jets = dak.from_awkward(events, PARTITIONS).Jet
    theta = dak_diff.parameter(POINT, name="theta")
    contents, total = spectrum(jets, theta), dak.sum(weighted_masses(jets, theta)[1])
    check(jets, contents, theta)
    over_the_value(contents, theta)
    print("\n2. What decides between forward and reverse\n")
    beside_a_vjp("histogram", contents, theta)
    beside_a_vjp("sum of the weights", total, theta)


def weighted_masses(jets: Any, theta: Any) -> tuple[Any, Any]:
    """Mass of the two leading jets, and the weight of their event."""
    log_pt = np.log(jets.pt / 50)
    pt = jets.pt * (1 + theta[0] + 0.1 * theta[1] * jets.eta**2) * (1 + theta[2] * log_pt)
    jets = dak.with_field(jets, pt, "pt")
    jets = jets[(jets.pt > 25) & (abs(jets.eta) < 2.5)]
    jets = jets[dak.argsort(jets.pt, axis=1, ascending=False)]
    jets = jets[dak.num(jets, axis=1) >= 2]
    first, second = jets[:, 0], jets[:, 1]
    exponent = theta[SCALES] * first.eta
    for j in range(SCALES + 1, PARAMETERS):
        exponent = exponent + theta[j] * np.cos(j * first.eta + second.phi)
    return (first + second).mass, np.exp(exponent)


def spectrum(jets: Any, theta: Any) -> Any:
    mass, weight = weighted_masses(jets, theta)
    return dak_diff.soft_histogram(mass, EDGES, 5.0, weight)


def check(jets: Any, contents: Any, theta: Any) -> None:
    block = np.asarray(dak_diff.jacobian(contents, theta, mode="forward").compute())
    assert block.shape == (len(EDGES) - 1, PARAMETERS)
    for j, row in enumerate(np.eye(PARAMETERS)):
        tangent = np.asarray(dak_diff.jvp(contents, theta, row).compute())
        np.testing.assert_allclose(block[:, j], tangent, rtol=1e-13, atol=1e-13 * np.abs(block).max())
    # By the weights alone: where the energy scale moves, jets cross the threshold, unseen by the derivative.
    step, direction = 1e-4, np.random.default_rng(3).uniform(-1, 1, PARAMETERS)
    direction[:SCALES] = 0.0
    up, down = (
        np.asarray(
            spectrum(jets, dak_diff.parameter(POINT + sign * step * direction, name="theta")).compute()
        )
        for sign in (1, -1)
    )
    np.testing.assert_allclose(block @ direction, (up - down) / (2 * step), rtol=1e-6, atol=1e-6)


def over_the_value(contents: Any, theta: Any) -> None:
    print(f"\n1. {len(EDGES) - 1} bins by {PARAMETERS} parameters (goal: 15 times the time of the value;")
    print(f"   central differences take {2 * PARAMETERS} times that)\n")
    runs = {"value": as_run(contents)}
    for chunk in (None, 10):
        block = dak_diff.jacobian(contents, theta, mode="forward", chunk=chunk)
        runs[f"jacobian, forward, chunk={chunk}"] = as_run(block)
    report(runs, ROUNDS)


def beside_a_vjp(name: str, expr: Any, theta: Any) -> None:
    """A row by a vjp has a forward pass of its own; so the whole of it is what it costs."""
    ones = 1.0 if isinstance(expr, dak.Scalar) else ak.Array(np.ones(len(EDGES) - 1))
    runs = {
        "value": as_run(expr),
        "jacobian, forward": as_run(dak_diff.jacobian(expr, theta, mode="forward")),
        "one vjp": as_run(dak_diff.vjp(expr, theta, ones)),
    }
    seconds = best_seconds(runs, ROUNDS)
    tangent = (seconds["jacobian, forward"] - seconds["value"]) / PARAMETERS
    value, vjp = seconds["value"], seconds["one vjp"]
    print(
        f"{name}: a tangent of the batch takes {tangent / value:.3f} times the value, one vjp "
        f"{vjp / value:.2f} times, that is {vjp / tangent:.0f} tangents"
    )


if __name__ == "__main__":
    dask.config.set(scheduler="sync")
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 100.0)
