"""Reverse mode: value and gradient over the value, over JAX, over NumPy by hand, in one run.

    python -m benchmarks.run_gradients [millions of jets]

Four parts; each first checks its numbers, then prints a table. One thread, inputs in memory, graphs
optimised beforehand, the best of five rounds in which the competitors take turns. Peaks are those of
what Python allocates in one run that returns everything; beside them what the results themselves
occupy (Dask joins their partitions to one array, so for a moment they are there twice). Where sums over
the gradient are asked for nothing large is returned, as if each partition were written away.
What JAX allocates is not seen.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import awkward as ak
import dask
import dask_awkward as dak
import numpy as np

import dak_diff
from benchmarks.dijets import FIELDS, dijet_mass, make_events
from benchmarks.measure import as_run, report, versions
from dak_diff import eager

ALPHA, PARTITIONS, ROUNDS = 0.02, 8, 5


def main(millions: float) -> None:
    events = make_events(int(millions * 250_000), seed=1)
    print(f"{len(events):,} events, {int(ak.count(events.Jet.pt)):,} jets, one thread\n{versions()}")
    over_the_value(events)
    beside_jax(events)
    beside_numpy(events.Jet.phi)
    across_a_reduction(events)


def columns(jets: dak.Array) -> dict[str, dak.Array]:
    return {field: jets[field] for field in FIELDS}


def calibrated(jets: Any, ops: ModuleType = ak) -> Any:
    return ops.with_field(jets, jets.pt * (1 + ALPHA * (1 + 0.1 * jets.eta**2)), "pt")


def selected(jets: Any) -> Any:
    return jets[(jets.pt > 25) & (abs(jets.eta) < 2.5)]


def leading_mass(jets: Any, order: Any = None, ops: ModuleType = ak) -> Any:
    """The analysis of :func:`dijet_mass` on arrays too; with an ``order``, without its sort."""
    jets = selected(calibrated(jets, ops))
    jets = jets[ops.argsort(jets.pt, axis=1, ascending=False) if order is None else order]
    jets = jets[ops.num(jets, axis=1) >= 2]
    return (jets[:, 0] + jets[:, 1]).mass


# ------------------------------------------------------------------ 1. over the value


def over_the_value(events: ak.Array) -> None:
    jets = dak.from_awkward(events, PARTITIONS).Jet
    total = dak.sum(dijet_mass(jets, ALPHA))
    value, gradient = dak_diff.value_and_grad(total, wrt=columns(jets))
    check_gradient(events.Jet, *dask.compute(total, value, gradient))
    print(f"\n1. Dijet mass, gradient by {', '.join(FIELDS)} of all jets; Dask, {PARTITIONS} partitions")
    print("   (goal: 3.5 times the time and 4 times the memory of the value)\n")
    report(
        {
            "value": as_run(total),
            "value and gradient": as_run(value, gradient),
            "value and sums over the gradient": as_run(value, [dak.sum(g) for g in gradient.values()]),
        },
        ROUNDS,
    )


def check_gradient(jets: ak.Array, total: float, value: float, gradient: dict[str, ak.Array]) -> None:
    """Each column against a central difference along a random direction, event by event."""
    assert value == total
    assert np.isclose(value, ak.sum(leading_mass(jets)), rtol=1e-12)
    # No jet of these events crosses the threshold or another jet by so small a step.
    rng, step = np.random.default_rng(2), 1e-7
    for field, column in gradient.items():
        assert column.type == jets[field].type, field
        direction = ak.unflatten(rng.uniform(0.5, 1.5, ak.count(column)), ak.num(column))
        up, down = (
            leading_mass(ak.with_field(jets, jets[field] + sign * step * direction, field))
            for sign in (1, -1)
        )
        changes = ak.flatten(column * direction, axis=None)
        difference, scale = ak.sum(up - down) / (2 * step), np.sqrt(ak.sum(changes**2))
        # A mass of 100 GeV is known to 1e-14 GeV, its difference to 1e-7 GeV.
        assert abs(ak.sum(changes) - difference) < 1e-5 * scale, (field, ak.sum(changes), difference)


# ------------------------------------------------------------------ 2. beside JAX


def beside_jax(events: ak.Array) -> None:
    print("\n2. Beside Awkward's JAX backend\n")
    jax = import_jax()
    if jax is None:
        print("jax is not installed (pip install jax jaxlib)")
        return
    print(f"jax {jax.__version__}")
    on_jax = ak.to_backend(events.Jet, "jax")
    try:
        jax.value_and_grad(lambda jets: ak.sum(leading_mass(jets)))(on_jax)
        order, what = None, "the whole analysis"
    except Exception as error:
        print(f"the whole analysis fails: {type(error).__name__}: {in_one_line(error)}")
        chosen = selected(calibrated(events.Jet))
        order = ak.argsort(chosen.pt, axis=1, ascending=False)
        what = "the analysis without its sort (the order is given)"
    print(f"{what}, one array, {PARTITIONS} partitions on Dask\n")

    def total_in(order: Any) -> Callable:
        return lambda jets: ak.sum(leading_mass(jets, order))

    jax_order = None if order is None else ak.to_backend(order, "jax")
    of_jax, ours = jax.value_and_grad(total_in(jax_order)), eager.value_and_grad(total_in(order))
    source = ak.zip({"Jet": events.Jet} | ({} if order is None else {"order": order}), depth_limit=1)
    partitions = dak.from_awkward(source, PARTITIONS)
    jets = partitions.Jet
    total = dak.sum(leading_mass(jets, None if order is None else partitions.order, dak))
    with_gradient = dak_diff.value_and_grad(total, wrt=columns(jets))
    on_dask = dask.compute(*with_gradient)
    stubborn(lambda: check_alike(of_jax(on_jax), ours(events.Jet), on_dask))()
    runs = {
        "Awkward, value": lambda: total_in(order)(events.Jet),
        "JAX backend, value": stubborn(lambda: jax.block_until_ready(total_in(jax_order)(on_jax))),
        "JAX backend, value and gradient": stubborn(lambda: jax.block_until_ready(of_jax(on_jax))),
        "dak_diff.eager, value and gradient": lambda: ours(events.Jet),
        "dak_diff on Dask, value and gradient": as_run(*with_gradient),
    }
    report(runs, ROUNDS, unseen=[name for name in runs if name.startswith("JAX")])


def import_jax() -> ModuleType | None:
    """JAX on one thread, set up for Awkward; None where it is not installed."""
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    try:
        import jax
    except ImportError:
        return None
    # Awkward's kernels read buffers of JAX by address and do not wait until they are computed: with
    # asynchronous dispatch values are wrong now and then.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    warnings.filterwarnings("ignore", "The JAX backend is deprecated", DeprecationWarning)
    ak.jax.register_and_check()
    return jax


def stubborn(run: Callable[[], Any], attempts: int = 5) -> Callable[[], Any]:
    """``run`` again when it fails: what JAX is given too early makes errors and wrong numbers (see above)."""

    def again_and_again() -> Any:
        for _ in range(attempts - 1):
            try:
                return run()
            except Exception as error:  # noqa: PERF203, five attempts cost nothing
                print(f"the JAX backend failed, once more: {type(error).__name__}: {in_one_line(error)[:90]}")
        return run()

    return again_and_again


def check_alike(of_jax: tuple, ours: tuple, on_dask: tuple) -> None:
    value, gradient = of_jax
    for v, g in (ours, on_dask):
        assert np.isclose(v, value, rtol=1e-12)
        for field in FIELDS:
            close = ak.isclose(g[field], ak.to_backend(gradient[field], "cpu"), rtol=1e-6, atol=1e-6)
            assert ak.all(close, axis=None), field


def in_one_line(error: Exception) -> str:
    """The first paragraph of a message, without the numbers of arrays."""
    paragraph = str(error).partition("\n\n")[0]
    return " ".join(re.sub(r"\[[\d.\s]+\]", "[...]", paragraph).split())


# ------------------------------------------------------------------ 3. beside NumPy by hand


def beside_numpy(x: ak.Array) -> None:
    flat = np.asarray(ak.flatten(x))

    def total(x: Any) -> Any:
        return ak.sum(np.sin(x) * x)

    def by_hand() -> tuple:
        sine = np.sin(flat)
        return np.sum(sine * flat), np.cos(flat) * flat + sine

    ours = eager.value_and_grad(total)
    partitions = dak.from_awkward(x, 1)
    value, gradient = dak_diff.value_and_grad(dak.sum(np.sin(partitions) * partitions), wrt=partitions)
    expected = by_hand()
    for v, g in (ours(x), dask.compute(value, gradient)):
        assert np.isclose(v, expected[0], rtol=1e-12)
        assert g.type == x.type
        assert np.allclose(ak.flatten(g), expected[1], rtol=1e-14, atol=1e-15)
    print(f"\n3. sum(sin(x) * x), {len(flat):,} numbers in lists; NumPy by hand on the flat buffer")
    print("   (goal: 1.5 times the time of value and gradient by hand)\n")
    report(
        {
            "by hand, value and gradient": by_hand,
            "by hand, value": lambda: np.sum(np.sin(flat) * flat),
            "Awkward, value": lambda: total(x),
            "dak_diff.eager, value and gradient": lambda: ours(x),
            "dak_diff on Dask, 1 partition": as_run(value, gradient),
        },
        ROUNDS,
    )


# ------------------------------------------------------------------ 4. across a reduction


def across_a_reduction(events: ak.Array, partitions: int = 32) -> None:
    jets = dak.from_awkward(events, partitions).Jet
    total = dak.sum(dijet_mass(jets, ALPHA))
    both = {
        residuals: dak_diff.value_and_grad(np.log(total), wrt=columns(jets), residuals=residuals)
        for residuals in ("keep", "recompute")
    }
    value, slopes = dask.compute(total, dak_diff.grad(total, wrt=columns(jets)))
    for collections in both.values():
        loss, gradient = dask.compute(*collections)
        assert loss == np.log(value)
        for field in FIELDS:
            # log'(total) = 1 / total, multiplied in at the other end of the chain.
            close = ak.isclose(gradient[field] * value, slopes[field], rtol=1e-12, atol=1e-9)
            assert ak.all(close, axis=None), field
    print(f"\n4. log(sum of dijet masses): residuals across the reduction; Dask, {partitions} partitions\n")
    runs = {"value": as_run(np.log(total))}
    for residuals, (loss, gradient) in both.items():
        runs[f"value and gradient, {residuals}"] = as_run(loss, gradient)
        summed = [dak.sum(g) for g in gradient.values()]
        runs[f"value and sums over the gradient, {residuals}"] = as_run(loss, summed)
    report(runs, ROUNDS)


if __name__ == "__main__":
    dask.config.set(scheduler="sync")
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 2.0)
