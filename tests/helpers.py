"""What the tests of graphs share: inputs, partitions, comparisons, central differences.

Nothing here uses dak_diff: what a test compares with is computed by NumPy and Awkward alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import awkward as ak
import checks
import dask_awkward as dak
import numpy as np
from checks import numbers, shifted, skeleton, type_of
from dask.base import tokenize

SHARED = Path(os.environ.get("DAK_DIFF_TEST_SHARED", Path(__file__).parents[2] / "shared"))
METHODS = ("auto", "dual", "complex-step")

COUNTS = [2, 0, 3, 1, 2, 3, 0, 2, 1, 2, 3, 2]
#: name -> lengths of the partitions of an array of twelve
SPLITS = {
    "1": [12],
    "3": [5, 3, 4],
    "12": [1] * 12,
    "empty first": [0, 7, 5],
    "empty middle": [4, 0, 8],
    "empty last": [6, 6, 0],
}


def array_of(kind: str, seed: int = 0) -> Any:
    """A small input, the same at every call: numbers with three decimals between 0.5 and 2."""
    rng = np.random.default_rng([seed, *kind.encode()])

    def numbers(n: int) -> np.ndarray:
        return rng.uniform(0.5, 2.0, n).round(3)

    if kind == "number":
        return float(numbers(1)[0])
    if kind == "flat":
        return ak.Array(numbers(len(COUNTS)))
    jagged = {name: ak.unflatten(numbers(sum(COUNTS)), COUNTS) for name in ("pt", "eta", "phi", "mass")}
    if kind == "jagged":
        return jagged["pt"]
    charge = ak.unflatten(np.tile([1, -1], sum(COUNTS))[: sum(COUNTS)], COUNTS)
    return ak.zip({**jagged, "charge": charge}, with_name="Momentum4D")


def identity(piece: Any) -> Any:
    return piece


def collection(array: ak.Array, lengths: Sequence[int], label: str = "source") -> dak.Array:
    """An array as a collection with partitions of these lengths, zero allowed; its name is no accident."""
    divisions = tuple(int(d) for d in np.concatenate([[0], np.cumsum(lengths)]))
    pieces = [array[start:stop] for start, stop in pairwise(divisions)]
    meta = ak.Array(array.layout.to_typetracer(forget_length=True), behavior=array.behavior)
    token = tokenize(array.to_list(), str(array.type), divisions)
    return dak.from_map(identity, pieces, divisions=divisions, meta=meta, label=label, token=token)


def assert_close(got: Any, want: Any, rtol: float) -> None:
    """Same nesting, and numbers that differ by at most ``rtol`` of the largest number."""
    assert skeleton(got) == skeleton(want)
    checks.assert_close(got, want, rtol, "graph")


def assert_identical(got: Any, want: Any) -> None:
    """The same value, bit for bit, of the same type."""
    assert type_of(got) == type_of(want)
    assert skeleton(got) == skeleton(want)
    np.testing.assert_array_equal(numbers(got), numbers(want))


def central_difference(fn: Callable, primals: tuple, tangents: tuple, h: float = 3e-4) -> np.ndarray:
    """The numbers of the directional derivative, by five points: error of order h^4."""

    def at(step: float) -> np.ndarray:
        return np.array(numbers(fn(*shifted(primals, step * h, tangents))), dtype=float)

    return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * h)
