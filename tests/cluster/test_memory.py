"""What the forward pass keeps is counted, and goes to disk when a worker may hold no more."""

from __future__ import annotations

import dask
import dask_awkward as dak
import numpy as np
import pytest
import remote
from dask.base import collections_to_dsk

import dak_diff as dd

pytestmark = pytest.mark.cluster

PARTITIONS, NUMBERS = 128, 6_000
DATA = PARTITIONS * NUMBERS * 8
#: The limit is one of what a worker holds for Dask; that the process itself is larger is no reason to stop.
SETTINGS = {f"distributed.worker.memory.{level}": False for level in ("spill", "pause", "terminate")}


def asked(residuals):
    """Across a reduction: all partitions must have been seen before any goes back."""
    meta = dak.lib.core.typetracer_array(remote.read(0, 2))
    x = dak.from_map(remote.read, range(PARTITIONS), numbers=NUMBERS, meta=meta, label="read")
    p = dd.parameter(0.5, name="p")
    return dd.value_and_grad(np.log(dak.sum(np.sin(x * p) * x)), wrt=p, residuals=residuals)


@pytest.mark.parametrize("residuals", ["keep", "recompute"])
def test_a_quarter_of_the_data_in_memory(residuals, start):
    both = asked(residuals)
    with dask.config.set(SETTINGS):
        client = start(workers=1, memory_limit=DATA // 4)
    assert dask.compute(*both, scheduler=client) == dask.compute(*both)
    (written,) = client.run(remote.bytes_to_disk).values()
    # sin keeps its partial, the product both factors; what is run again waits nowhere.
    assert written > DATA if residuals == "keep" else written == 0


def test_residuals_stay_on_their_worker():
    """Only backward passes and what takes values out, both of the same partition, read a forward pass."""
    graph = collections_to_dsk(asked("keep"))
    readers = {
        key
        for key, task in dict(graph).items()
        for dep in getattr(task, "dependencies", ())
        if dep[0].startswith("fwd-") and dep[1:] != key[1:]
    }
    assert not readers
