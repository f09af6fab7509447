"""What runs between the passes of an adjoint graph: values and cotangents picked, added, put in place.

On typetracers there is no cotangent: None is passed along.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import awkward as ak
import numpy as np

from dak_diff.engine.matching import match_leaves
from dak_diff.engine.values import Cotangents, derivative_like, leaf_values, separated, settled
from dak_diff.graph.forwarded import Forwarded, keep_values, pick_value
from dak_diff.graph.tasks import any_typetracer, noting, select
from dak_diff.graph.wrt import Path
from dak_diff.rules.primitive import dtype_of
from dak_diff.rules.structure import real_if, reshape

__all__ = [
    "AddCotangents",
    "KeepCotangents",
    "KeepValues",
    "PickValue",
    "PickValues",
    "PutColumns",
    "SeedCotangent",
    "SpreadSum",
    "SumCotangents",
    "TakeColumns",
    "TakeGradient",
    "add_cotangents",
]


class SpreadSum:
    """Cotangent of each number that a tree adds, from that of the sum: the same for all of them."""

    def __call__(self, cotangents: Cotangents | None) -> Cotangents | None:
        # The partial sum of a partition is an array of one element.
        return cotangents and Cotangents({0: reshape(cotangents[0], shape=(1,))})


class PickValue:
    """One result of a segment."""

    def __init__(self, position: int):
        self.position = position

    def __call__(self, forwarded: Forwarded) -> Any:
        return forwarded.values[self.position]


class KeepValues:
    """Some results of a segment, without the rest and without the cotangents beside them."""

    def __init__(self, positions: tuple[int, ...]):
        self.positions = positions

    def __call__(self, forwarded: Forwarded) -> Forwarded:
        return keep_values(forwarded, self.positions)


class PickValues:
    """The same for all inputs of a node of a tree."""

    def __init__(self, position: int):
        self.position = position

    def __call__(self, results: list) -> list:
        return [pick_value(result, self.position) for result in results]


def pick(result: Any, position: int | None) -> Cotangents | None:
    """One entry of what a backward task gave; itself, if it is cotangents already."""
    result = result.cotangents if isinstance(result, Forwarded) else result
    return result if result is None or isinstance(result, dict) or position is None else result[position]


class KeepCotangents:
    """Some entries of what a backward task gave, without the rest and without the values beside them."""

    def __init__(self, entries: tuple[int, ...]):
        self.entries = entries

    def __call__(self, result: Any) -> tuple | None:
        given = result.cotangents if isinstance(result, Forwarded) else result
        return given and tuple(c if i in self.entries else None for i, c in enumerate(given))


class AddCotangents:
    """Sum of the cotangents of one value from all that use it.

    Parameters
    ----------
    positions : tuple of int or None
        For each argument the entry to take.
    """

    def __init__(self, positions: tuple[int | None, ...]):
        self.positions = positions

    def __call__(self, *results: Any) -> Cotangents | None:
        picked = (pick(r, p) for r, p in zip(results, self.positions, strict=True))
        return add_cotangents(picked)


def add_cotangents(given: Iterable[Cotangents | None], widen: bool = False) -> Cotangents | None:
    """The sum, leaf by leaf; None if there are none. With ``widen``: in double precision."""
    total: Cotangents | None = None
    for cotangents in given:
        if cotangents is None:
            continue
        total = Cotangents() if total is None else total
        for leaf, cotangent in cotangents.items():
            if widen:
                cotangent = _widened(cotangent)
            total[leaf] = total[leaf] + cotangent if leaf in total else cotangent
    return total


def _widened(cotangent: Any) -> Any:
    wide = {"f": np.dtype(np.float64), "c": np.dtype(np.complex128)}
    return real_if(cotangent, np.promote_types(dtype_of(cotangent), wide[dtype_of(cotangent).kind]))


class SumCotangents:
    """Sum over partitions, in double precision: one node of a tree."""

    def __init__(self, position: int):
        self.position = position

    def __call__(self, results: list) -> Cotangents | None:
        return add_cotangents((pick(r, self.position) for r in results), widen=True)


class SeedCotangent:
    """The user's cotangent as cotangents of the leaves of the output."""

    def __init__(self, label: str):
        self.label = label

    def __call__(self, value: Any, cotangent: Any, partition: tuple[int, ...] = (0,)) -> Cotangents | None:
        if any_typetracer((value, cotangent)):
            for v in (value, cotangent):
                if isinstance(v, ak.Array) and any_typetracer((v,)):
                    ak.typetracer.touch_data(v)
            return None
        with noting(f"in the cotangent of {self.label!r}, partition {partition[0]}", of_partition=False):
            return Cotangents(match_leaves(value, cotangent, "cotangent"))


class TakeColumns:
    """The columns to differentiate by."""

    def __init__(self, paths: tuple[Path, ...]):
        self.paths = paths

    def __call__(self, value: Any) -> tuple:
        if any_typetracer((value,)):
            return tuple(select(value, path) for path in self.paths)
        return tuple(settled(separated(select(value, path))) for path in self.paths)


class PutColumns:
    """Puts columns back where they came from, so that every path through them is seen."""

    def __init__(self, paths: tuple[Path, ...]):
        self.paths = paths

    def __call__(self, value: Any, columns: tuple) -> Any:
        for path, column in zip(self.paths, columns, strict=True):
            value = ak.with_field(value, column, path) if path else column
        return value


class TakeGradient:
    """Cotangents as a value of the type of wrt.

    Parameters
    ----------
    places : tuple of path
        Where each column is in the value of wrt; empty: the value itself is differentiated by.
    position, entry : int or None
        Where the columns are in the results of the segment, and their cotangents in what its
        backward task gave.
    """

    def __init__(self, places: tuple[Path, ...], position: int | None = None, entry: int | None = None):
        self.places, self.position, self.entry = places, position, entry

    def __call__(self, columns: Any, cotangents: Any, whole: Any = None) -> Any:
        columns = pick_value(columns, self.position)
        if any_typetracer((columns, whole)):
            return self._assembled(columns, whole)
        own = dict(enumerate(leaf_values(columns)))
        given = pick(cotangents, self.entry) or Cotangents()
        fitted = {leaf: real_if(c, dtype_of(own[leaf])) for leaf, c in given.items()}
        gradients = derivative_like(columns, fitted)
        return self._assembled(gradients, None if whole is None else derivative_like(whole, {}))

    def _assembled(self, columns: Any, whole: Any) -> Any:
        if not self.places:
            return columns
        if self.places == ((),):
            return columns[0]
        for place, column in zip(self.places, columns, strict=True):
            whole = ak.with_field(whole, column, place)
        return whole
