"""A worker dies, a partition is bad: either the same number, or an error that says where."""

from __future__ import annotations

import os
import re
import sys

import awkward as ak
import dask
import dask_awkward as dak
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
