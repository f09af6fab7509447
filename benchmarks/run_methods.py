"""Differences, dual numbers, complex step and tape on the same functions: time over the value, and error.

    python -m benchmarks.run_methods [millions of numbers]

Arrays in memory (``eager``), one thread, the best of five rounds in which the methods take turns. Each gives
the value and one derivative: along a direction, or by all numbers (tape). The error is the largest over the
largest derivative, against a formula written by hand; of the dijet mass against the dual numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import awkward as ak
import numpy as np

from benchmarks.dijets import dijet_mass, make_events
from benchmarks.measure import best_seconds, versions
from dak_diff import eager

ROUNDS, ALPHA = 5, 0.02


class Function(NamedTuple):
    """A function of one argument, its derivative by hand, and a step for central differences."""

    name: str
    fn: Callable[[Any], Any]
    argument: Any
    derivative: Callable[[Any], Any] | None
    step: float


def lists(millions: float) -> ak.Array:
    rng = np.random.default_rng(0)
    counts = rng.poisson(4.0, int(millions * 250_000))
    return ak.unflatten(rng.uniform(0.1, 3.0, int(counts.sum())), counts)


def functions(millions: float) -> list[Function]:
    x = lists(millions)
    jets = make_events(int(millions * 250_000), seed=1).Jet

    return [
        Function("x * x + x", lambda x: x * x + x, x, lambda x: 2 * x + 1, 1e-6),
        Function(
            "sum(sin(x) * x, axis=1)",
            lambda x: ak.sum(np.sin(x) * x, axis=1),
            x,
            lambda x: ak.sum(np.cos(x) * x + np.sin(x), axis=1),
            1e-6,
        ),
        Function(
            "log(1 + exp(-x**2)) / x",
            lambda x: np.log(1 + np.exp(-(x**2))) / x,
            x,
            lambda x: -2 / (1 + np.exp(x**2)) - np.log(1 + np.exp(-(x**2))) / x**2,
            1e-6,
        ),
        Function("dijet mass, by a jet energy scale", partial(dijet_mass, jets, ops=ak), ALPHA, None, 1e-9),
    ]


def compare(function: Function) -> None:
    _, fn, x, derivative, step = function

    def differences() -> tuple[Any, Any]:
        return fn(x), (fn(x + step) - fn(x - step)) / (2 * step)

    def tape() -> tuple[Any, Any]:
        value, pullback = eager.vjp(fn, (x,))
        return value, pullback(1.0)[0]

    runs = {
        "value": lambda: (fn(x), None),
        "central differences": differences,
        "dual numbers": lambda: eager.jvp(fn, (x,), method="dual"),
        "complex step": lambda: eager.jvp(fn, (x,), method="complex-step"),
        "tape": tape,
    }
    value, _ = runs["value"]()
    exact = np.asarray(ak.flatten(derivative(x) if derivative else runs["dual numbers"]()[1], axis=None))
    errors = {}
    for name in list(runs)[1:]:
        same, slope = runs[name]()
        assert ak.array_equal(same, value), name
        errors[name] = error(slope, exact, name == "tape")
        assert errors[name] < (1e-4 if name == "central differences" else 1e-13), (name, errors[name])
    seconds = best_seconds(runs, ROUNDS)
    print(f"\n{function.name}")
    for name in errors:
        print(f"  {name:<22}{seconds[name] / seconds['value']:>6.2f}{errors[name]:>12.0e}")


def error(slope: Any, exact: np.ndarray, summed: bool) -> float:
    """Of a tape, which gives the derivative of the sum of all results, the sum is compared."""
    slope = np.asarray(ak.flatten(slope, axis=None)) if isinstance(slope, ak.Array) else np.asarray([slope])
    if summed:
        return float(abs(slope.sum() - exact.sum()) / abs(exact).sum())
    return float(np.max(abs(slope - exact)) / np.max(abs(exact)))


def main(millions: float) -> None:
    print(f"{millions:g} million numbers, one thread\n{versions()}")
    print("value and derivative: time over that of the value, largest error")
    for function in functions(millions):
        compare(function)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 2.0)
