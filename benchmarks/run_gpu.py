"""Derivatives of ``sum(sin(x) * x, axis=1)`` on a CUDA device over the same on one thread of the CPU.

    python -m benchmarks.run_gpu [million lists]

Four numbers in a list on average, double precision, data resident, kernels compiled beforehand; medians of
synchronised runs. First the numbers are checked against the CPU. Then what a hand-written fused gradient
must move, at the bandwidth of a copy that is measured beside it; last the host's time for one operation, on
lists so few that nothing else takes time.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import awkward as ak
import numpy as np

from benchmarks.measure import versions
from dak_diff import eager
from dak_diff.backends import to_backend

ROUNDS = 7
#: What issue E of the project asks for: CPU over GPU, and gradient over primal on the GPU.
FASTER, OVER_PRIMAL = 40.0, 4.0


def analysis(x: Any) -> Any:
    return ak.sum(np.sin(x) * x, axis=1)


RUNS: dict[str, Callable[[Any], Any]] = {
    "primal": analysis,
    "gradient": lambda x: eager.vjp(analysis, (x,))[1](1.0, consume=True),
    "dual jvp": lambda x: eager.jvp(analysis, (x,), method="dual"),
    "complex step": lambda x: eager.jvp(analysis, (x,), method="complex-step"),
}
OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "x * x": lambda x: x * x,
    "np.sin(x)": np.sin,
    "ak.sum(x, axis=1)": lambda x: ak.sum(x, axis=1),
    "x[x > 0.5]": lambda x: x[x > 0.5],
    **RUNS,
}


def main(millions: float) -> None:
    cupy = device()
    lists = int(millions * 1e6)
    counts = np.random.default_rng(1).poisson(4.0, lists)
    x = ak.unflatten(np.random.default_rng(2).uniform(0.0, 1.0, int(counts.sum())), counts)
    there = to_backend(x, "cuda")
    name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    print(f"{name}, cupy {cupy.__version__}, {versions()}")
    print(f"{int(counts.sum()):,} numbers in {lists:,} lists\n")
    check(x, there)
    gpu = {name: seconds(run, there, cupy) for name, run in RUNS.items()}
    cpu = {name: seconds(run, x, None) for name, run in RUNS.items()}
    print(f"{'':<16}{'CPU ms':>10}{'GPU ms':>10}{'CPU/GPU':>10}{'over primal':>13}")
    for name in RUNS:
        print(
            f"{name:<16}{1e3 * cpu[name]:>10.1f}{1e3 * gpu[name]:>10.2f}{cpu[name] / gpu[name]:>10.1f}"
            f"{gpu[name] / gpu['primal']:>13.2f}"
        )
    print()
    for name in ("gradient", "dual jvp", "complex step"):
        verdict(f"{name}: CPU over GPU", cpu[name] / gpu[name], FASTER, at_least=True)
    verdict("gradient over primal on the GPU", gpu["gradient"] / gpu["primal"], OVER_PRIMAL, at_least=False)
    beside_a_fused_kernel(cupy, len(ak.flatten(x)), lists, gpu["gradient"])
    overhead(cupy)


def device() -> Any:
    """CuPy, if there is a device; otherwise the end."""
    try:
        import cupy

        count = cupy.cuda.runtime.getDeviceCount()
    except ImportError:
        sys.exit('run_gpu: CuPy is not installed: pip install "dak_diff[cuda]"')
    except Exception as error:
        sys.exit(f"run_gpu: there is no CUDA device: {error}")
    if not count:
        sys.exit("run_gpu: there is no CUDA device")
    return cupy


def check(x: Any, there: Any) -> None:
    """Equal to the CPU up to 1e-12 of the largest number, before anything is timed; kernels are compiled."""
    for name, run in RUNS.items():
        expected, got = run(x), to_backend_of_all(run(there))
        pairs = zip(expected, got, strict=True) if isinstance(expected, tuple) else [(expected, got)]
        for a, b in pairs:
            a, b = (ak.to_numpy(ak.flatten(v, axis=None)) for v in (a, b))
            error = np.max(np.abs(a - b)) / np.max(np.abs(a))
            if not error <= 1e-12:
                sys.exit(f"run_gpu: {name} differs from the CPU by {error:.1e} of its largest number")


def to_backend_of_all(value: Any) -> Any:
    return (
        tuple(to_backend(v, "cpu") for v in value) if isinstance(value, tuple) else to_backend(value, "cpu")
    )


def seconds(run: Callable[[Any], Any], x: Any, cupy: Any, rounds: int = ROUNDS) -> float:
    """Median of some runs, after one that is not counted."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        run(x)
        if cupy is not None:
            cupy.cuda.get_current_stream().synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def verdict(what: str, got: float, target: float, *, at_least: bool) -> None:
    reached = got >= target if at_least else got <= target
    relation = "at least" if at_least else "at most"
    print(f"{what}: {got:.2f}, {relation} {target:g} is asked: {'reached' if reached else 'MISSED'}")


def beside_a_fused_kernel(cupy: Any, numbers: int, lists: int, gradient: float) -> None:
    """It reads x, offsets and cotangents and writes the sums and the gradient, each once."""
    a = cupy.zeros(max(numbers, 1 << 20))
    b = cupy.empty_like(a)

    def copy(_: Any) -> None:
        b[...] = a

    bandwidth = 2 * a.nbytes / seconds(copy, None, cupy, rounds=21)
    moved = 8 * (2 * numbers + (lists + 1) + 2 * lists)
    bound = moved / bandwidth
    print(
        f"\na copy moves {bandwidth / 1e9:.0f} GB/s; a fused gradient moves {moved / 1e6:.0f} MB, "
        f"which takes {1e3 * bound:.3f} ms: this takes {gradient / bound:.1f} times as long\n"
    )


def overhead(cupy: Any) -> None:
    """Microseconds of the host for each operation, on 1000 lists."""
    small = ak.unflatten(np.random.default_rng(3).uniform(0.0, 1.0, 4000), np.full(1000, 4))
    there = to_backend(small, "cuda")
    print(f"{'on 1000 lists':<20}{'CPU us':>10}{'GPU us':>10}")
    for name, run in OPERATIONS.items():
        host, far = seconds(run, small, None, rounds=51), seconds(run, there, cupy, rounds=51)
        print(f"{name:<20}{1e6 * host:>10.0f}{1e6 * far:>10.0f}")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0)
