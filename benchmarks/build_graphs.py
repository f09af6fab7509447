"""Building a derivative graph: time over layers and over partitions.

    python -m benchmarks.build_graphs

Linear in layers, independent of the number of partitions (no layer is materialised).
Each row first checks the derivative on a small collection.
"""

from __future__ import annotations

import time

import awkward as ak
import dask
import dask_awkward as dak

import dak_diff

META = ak.typetracer.typetracer_from_form(ak.Array([[1.0]]).layout.form)


def read(i: int) -> ak.Array:
    return ak.Array([[float(i), 1.0], [2.0]])


def source(partitions: int) -> dak.Array:
    return dak.from_map(read, range(partitions), meta=META, label="read", token=f"read-{partitions}")


def chain(x: dak.Array, layers: int) -> dak.Array:
    y = x
    for i in range(layers):
        y = y * 1.5 if i % 2 else y - 0.5
    return y


def check() -> None:
    x = source(3)
    assert dak_diff.jvp(chain(x, 4), wrt=x).compute().to_list() == [[2.25, 2.25], [2.25]] * 3


def main() -> None:
    check()
    print(f"{'layers':>8}{'partitions':>12}{'value s':>10}{'jvp s':>10}{'jvp ms/layer':>14}")
    for layers, partitions in [(10, 100), (100, 100), (300, 100), (1000, 100), (100, 10_000), (100, 100_000)]:
        x = source(partitions)
        start = time.perf_counter()
        y = chain(x, layers)
        built = time.perf_counter()
        dak_diff.jvp(y, wrt=x)
        done = time.perf_counter()
        jvp = done - built
        print(f"{layers:>8}{partitions:>12,}{built - start:>10.3f}{jvp:>10.3f}{1000 * jvp / layers:>14.2f}")


if __name__ == "__main__":
    dask.config.set(scheduler="sync")
    main()
