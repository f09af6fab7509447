"""A worker dies, a partition is bad: either the same number, or an error that says where."""

from __future__ import annotations

import os
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import awkward as ak
import dask
import dask_awkward as dak
import distributed
import numpy as np
import pytest
import remote
from distributed.scheduler import KilledWorker

import dak_diff as dd
from dak_diff.errors import NoRuleError

pytestmark = pytest.mark.cluster

PARTITIONS = 6


def gradient_through(fn, residuals="keep"):
    """Across a reduction, so that residuals wait on the worker that made them."""
    x = dak.from_awkward(ak.Array(np.linspace(1.0, 2.0, 24)), npartitions=PARTITIONS)
    p = dd.parameter(0.5, name="p")
    total = dak.sum(np.sin(dak.map_partitions(fn, x * p)))
    return dd.value_and_grad(np.log(total), wrt=p, residuals=residuals)


@pytest.mark.parametrize("residuals", ["keep", "recompute"])
@pytest.mark.parametrize(
    ("fn", "where", "lives"),
    [(remote.mortal, "forward", 1), (remote.mortal_backwards, "backward", 0)],
    ids=["in the forward pass", "between forward and backward pass"],
)
def test_a_worker_dies(fn, where, lives, residuals, start, count_tasks):
    asked = gradient_through(fn, residuals)
    expected = dask.compute(*asked)
    client = start(workers=2)
    finished = count_tasks(client)
    before = client.run(os.getpid)
    # Residuals may lie on both workers, so both must die for them to be lost.
    doomed = sorted(before)[: 1 if where == "forward" else 2]
    client.run(remote.doom, where, lives, workers=doomed)
    assert dask.compute(*asked, scheduler=client) == expected
    client.wait_for_workers(2)
    after = client.run(os.getpid)
    assert set(before.values()) - set(after.values()) == {before[worker] for worker in doomed}
    if where == "backward" and residuals == "keep":
        # All partitions had gone forward; those whose residuals are lost go once more.
        assert finished["fwd-multiply-mortal-backwards-sin"] > PARTITIONS


def test_a_task_that_always_kills_is_an_error(start):
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        client = start(workers=1)
    client.run(remote.doom, "forward", 0)
    with pytest.raises(KilledWorker, match="fwd-"):
        dask.compute(*gradient_through(remote.mortal), scheduler=client)


@pytest.mark.parametrize("during", [False, True], ids=["between two calls", "during a call"])
def test_a_scheduler_is_started_again(during, start, tmp_path):
    """It knows nothing of what an objective kept: the call that meets that computes it anew."""
    x = dak.from_awkward(ak.Array([1.0, 2.0, 3.0]), npartitions=3)
    p = dd.parameter(1.0, name="p")
    loss = dak.sum(dak.map_partitions(remote.wait_for, np.sin(x) * p, tmp_path) ** 2)
    old = start(workers=1).cluster
    port = int(old.scheduler_address.rpartition(":")[2])
    gate, begun = tmp_path / "open", tmp_path / "begun"
    gate.touch()
    total = float(np.sum(np.sin([1.0, 2.0, 3.0]) ** 2))
    with (
        distributed.Client(old.scheduler_address, set_as_default=False) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        f = dd.objective(loss, p, scheduler=client, persist=True)
        assert f(2.0) == pytest.approx(4 * total)
        if during:
            gate.unlink()
            begun.unlink()
            answer = pool.submit(f, 3.0)
            while not begun.exists():
                time.sleep(0.01)
        old.close()
        gate.touch()
        start(workers=1, scheduler_port=port)
        assert (answer.result() if during else f(3.0)) == pytest.approx(9 * total)
        assert f.grad(4.0) == pytest.approx(8 * total)


def numbered_partitions():
    x = dak.from_awkward(ak.Array([[1.0, 2.0], [3.0], [1.5], [4.0, 5.0]]), npartitions=4)
    number = dak.from_awkward(ak.Array([0, 1, 2, 3]), npartitions=4)
    p = dd.parameter(0.5, name="p")
    return x * p, number, p


def failing(mode, fn):
    y, number, p = numbered_partitions()
    y = dak.map_partitions(fn, y, number)
    if mode == "jvp":
        return dd.jvp(y, p)
    return dd.grad(dak.sum(y) if mode == "one pass" else np.log(dak.sum(y)), p)


def message_of(error):
    return "\n".join([str(error), *getattr(error, "__notes__", [])])


modes = pytest.mark.parametrize("mode", ["jvp", "grad", "one pass"])


@modes
def test_a_bad_partition(mode, client):
    with pytest.raises(ValueError, match="this partition is bad") as caught:
        failing(mode, remote.refuse_two).compute(scheduler=client)
    if hasattr(caught.value, "add_note"):
        assert re.search(
            r"in dak_diff, in the (tangent|forward pass) of layer 'refuse-two'", message_of(caught.value)
        )


@modes
@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have no notes before Python 3.11")
def test_a_bad_partition_is_named(mode, client):
    with pytest.raises(ValueError, match="this partition is bad") as caught:
        failing(mode, remote.refuse_two).compute(scheduler=client)
    assert "partition 2" in message_of(caught.value)


@modes
def test_a_rule_that_is_missing_in_the_data_only(mode, client):
    with pytest.raises(NoRuleError, match=r"np\.asarray") as caught:
        failing(mode, remote.without_rule).compute(scheduler=client)
    assert not hasattr(caught.value, "add_note") or "of layer 'without-rule'" in message_of(caught.value)
