"""Fixtures for all tests: one scheduler, no endless waits, real events, small jets, clusters."""

from __future__ import annotations

import contextlib
import logging
import signal
from collections import Counter

import dask
import pytest
import vector
from helpers import SHARED, array_of

vector.register_awkward()


@pytest.fixture(autouse=True)
def _synchronous():
    """Errors come from the line that raised them; a test that wants another scheduler names it."""
    with dask.config.set(scheduler="sync"):
        yield


@pytest.fixture(autouse=True)
def _deadline():
    """A graph that asks for tasks which do not exist makes the scheduler wait for ever."""

    def late(*_):
        raise TimeoutError("a test took more than two minutes; does its graph refer to missing tasks?")

    previous = signal.signal(signal.SIGALRM, late)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


@pytest.fixture
def never_computes():
    """Building a derivative runs nothing: here the scheduler raises."""

    def refuse(_graph, keys, **_):
        raise AssertionError(f"something was computed while a graph was built: {keys}")

    with dask.config.set(scheduler=refuse):
        yield


@pytest.fixture(scope="session")
def shared():
    """The folder with real events and reference derivatives; it is no part of the package."""
    if not SHARED.is_dir():
        pytest.skip(f"no {SHARED}: set DAK_DIFF_TEST_SHARED to the folder with data/ and reference/")
    return SHARED


@pytest.fixture
def jets():
    """Twelve events of zero to three jets; a float64 momentum, an integer and a text."""
    return array_of("jets")


@pytest.fixture(scope="session")
def client():
    """A cluster of two worker processes with two threads each."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


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


@pytest.fixture
def stand_in_as_cuda(monkeypatch):
    """Awkward's backend named "cuda" is the stand-in, which needs no device."""
    import stand_in
    from awkward._backends import dispatch

    monkeypatch.setitem(dispatch._name_to_backend_cls, "cuda", stand_in.StandInBackend)
    with dask.config.set(scheduler="sync"):
        yield
