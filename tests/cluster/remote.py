"""What runs in worker processes: they import this file, not the tests."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import awkward as ak
import dask_awkward as dak
import numpy as np

import dak_diff as dd

#: What a process still may do before it dies. Empty where nobody doomed it, so also after a restart.
LIVES: dict[str, int] = {}


def doom(where: str, lives: int) -> None:
    LIVES[where] = lives


def live(where: str) -> None:
    if LIVES.get(where) == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    if where in LIVES:
        LIVES[where] -= 1


def mortal(x: ak.Array) -> ak.Array:
    live("forward")
    return x


@dd.custom_vjp
def mortal_backwards(x: ak.Array) -> ak.Array:
    return x


def forward(x: ak.Array) -> tuple:
    return x, None


def backward(_residuals: Any, cotangent: ak.Array) -> tuple:
    live("backward")
    return (cotangent,)


mortal_backwards.defvjp(forward, backward)


def is_data(x: ak.Array) -> bool:
    return not dak.lib.core.is_typetracer(x) and len(x) > 0


def refuse_two(x: ak.Array, number: ak.Array) -> ak.Array:
    if is_data(number) and number[0] == 2:
        raise ValueError("this partition is bad")
    return 2 * x


def without_rule(x: ak.Array, number: ak.Array) -> ak.Array:
    return ak.Array(np.asarray(x[0])[np.newaxis]) if is_data(number) and number[0] == 2 else x


def read(i: int, numbers: int) -> ak.Array:
    """A partition of the same size as every other, made where it is needed."""
    return ak.unflatten(np.random.default_rng(i).uniform(1.0, 2.0, numbers), 2)


def wait_for(x: ak.Array, gate: Path) -> ak.Array:
    """Say that this was begun, and wait for the gate to open."""
    if is_data(x):
        (gate / "begun").touch()
        while not (gate / "open").exists():
            time.sleep(0.01)
    return x


def bytes_to_disk(dask_worker: Any) -> float:
    """What a worker wrote since it began."""
    return dask_worker.data.cumulative_metrics["disk-write", "bytes"]
