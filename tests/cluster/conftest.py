"""Clusters that a test may damage, and what their schedulers saw."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter

import pytest


@pytest.fixture
def start():
    """A function that starts a cluster of single-threaded workers, gone at the end of the test."""
    distributed = pytest.importorskip("distributed")
    with contextlib.ExitStack() as stack:

        def start(workers, **how):
            cluster = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    dashboard_address=":0",
                    silence_logs=logging.CRITICAL + 1,
                    **how,
                )
            )
            return stack.enter_context(distributed.Client(cluster, set_as_default=False))

        yield start


@pytest.fixture
def count_tasks():
    """A function that counts what the workers of a cluster finish from now on, by the prefix of the keys."""
    distributed = pytest.importorskip("distributed")

    class Finished(distributed.SchedulerPlugin):
        def __init__(self):
            self.prefixes = Counter()

        def transition(self, key, start, finish, *args, **kwargs):
            if (start, finish) == ("processing", "memory"):
                self.prefixes[distributed.utils.key_split(key)] += 1

    def count(client):
        plugin = Finished()
        client.cluster.scheduler.add_plugin(plugin, name=f"finished-{id(plugin)}")
        return plugin.prefixes

    return count
