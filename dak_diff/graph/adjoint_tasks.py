"""What runs inside a task of an adjoint graph.

On typetracers there is no cotangent: forward tasks run the plain function, all others pass
None along.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import awkward as ak
import numpy as np

from dak_diff.engine.awkward_internals import recording
from dak_diff.engine.transform import Taping, Transpose, watching
from dak_diff.engine.values import Cotangents, derivative_like, leaf_values, match_leaves, separated, settled
from dak_diff.graph.forwarded import Forwarded, keep_values, pick_value
from dak_diff.graph.tasks import any_typetracer, noting, on_typetracers, select
from dak_diff.graph.wrt import Path
from dak_diff.rules.primitive import dtype_of
from dak_diff.rules.structure import real_if, reshape

__all__ = [
    "AddCotangents",
    "Backward",
    "ForwardBackward",
    "ForwardSegment",
    "KeepCotangents",
    "KeepValues",
    "PickValue",
    "PickValues",
    "PutColumns",
    "Recompute",
    "SeedCotangent",
    "SpreadSum",
    "Step",
    "SumCotangents",
    "TakeColumns",
    "TakeGradient",
    "TransposeTask",
    "settle",
]


@dataclass(frozen=True)
class Step:
    """One layer inside a segment: ``fn`` of results of earlier steps, inputs, and constants.

    Parameters
    ----------
    operands : tuple of (str, value)
        ("step", name), ("input", position) or ("constant", value).
    watched : bool
        The cotangents of its result are wanted.
    active : bool
        Its result carries a derivative.
    """

    name: str
    label: str
    fn: Callable
    operands: tuple[tuple[str, Any], ...]
    watched: bool = False
    active: bool = True


class ForwardSegment:
    """All partition-wise layers between two barriers, as one function of one partition.

    Parameters
    ----------
    steps : tuple of Step
        In topological order.
    outputs : tuple of str
        The steps whose results are needed outside.
    active : tuple of bool
        Which inputs carry a derivative.
    method : str
        Where partials come from.
    keep : bool
        Keep the transpose; otherwise :class:`Recompute` makes it again.
    owner : str
        Which derivative it belongs to.
    """

    doing = "forward pass"

    def __init__(
        self,
        steps: tuple[Step, ...],
        outputs: tuple[str, ...],
        active: tuple[bool, ...],
        method: str,
        keep: bool,
        owner: str,
    ):
        self.steps, self.outputs, self.active = steps, outputs, active
        self.method, self.keep, self.owner = method, keep, owner

    def __call__(self, *inputs: Any) -> Forwarded:
        if any_typetracer(inputs):
            return Forwarded(on_typetracers(lambda *args: self._run(args), inputs))
        if not self.keep:
            return Forwarded(self._run(inputs))
        return Forwarded(*self.linearize(inputs))

    def linearize(self, inputs: tuple) -> tuple[tuple, Transpose]:
        """The results, and the transpose to the active inputs and watched steps, in this order."""

        def taped() -> tuple[tuple, Transpose]:
            taping = Taping(self.method)
            lifted = tuple(taping.watch(v) if on else v for v, on in zip(inputs, self.active, strict=True))
            with recording():
                return taping.finish(self._run(lifted, taping.watch))

        return watching(taped)

    def _run(self, inputs: tuple, watch: Callable | None = None) -> tuple:
        remaining = _uses(self.steps, self.outputs)
        results: dict[str, Any] = {}
        for step in self.steps:
            args = []
            for kind, what in step.operands:
                args.append(results[what] if kind == "step" else inputs[what] if kind == "input" else what)
                if kind == "step":
                    remaining[what] -= 1
                    if not remaining[what]:
                        del results[what]
            with noting(f"in the {self.doing} of layer {step.label!r}"):
                result = step.fn(*map(_anew, args))
            results[step.name] = watch(result) if step.watched and watch is not None else result
        # What leaves the task may be pickled: its leaves must not change on the way.
        return tuple(settle(results[name]) for name in self.outputs)


def _anew(value: Any) -> Any:
    """A function may give its arguments other fields; other steps have them as they were."""
    return copy.copy(value) if isinstance(value, ak.Array) else value


def _uses(steps: tuple[Step, ...], outputs: tuple[str, ...]) -> dict[str, int]:
    count: dict[str, int] = dict.fromkeys((step.name for step in steps), 0)
    for name in outputs:
        count[name] += 1
    for step in steps:
        for kind, what in step.operands:
            if kind == "step":
                count[what] += 1
    return count


class _Pulling:
    """Pulls cotangents of the results at some positions back through a segment."""

    def __init__(self, label: str, positions: tuple[int, ...]):
        self.label, self.positions = label, positions

    def pull(self, transpose: Transpose, results: int, cotangents: tuple, consume: bool = False) -> tuple:
        given = dict(zip(self.positions, cotangents, strict=True))
        with noting(f"in the cotangents of segment {self.label!r}"):
            return transpose(tuple(given.get(i) for i in range(results)), consume)


class Backward(_Pulling):
    """Cotangents of the active inputs of a segment, from those of its results."""

    def __call__(self, forwarded: Forwarded, *cotangents: Cotangents | None) -> tuple | None:
        if forwarded.transpose is None:
            return None
        return self.pull(forwarded.transpose, len(forwarded.values), cotangents)


class ForwardBackward(_Pulling):
    """Both passes of a segment in one task, so that nothing is kept between them."""

    def __init__(self, label: str, positions: tuple[int, ...], segment: ForwardSegment):
        super().__init__(label, positions)
        self.segment = segment

    def __call__(self, *args: Any) -> Forwarded:
        count = len(self.segment.active)
        inputs, cotangents = args[:count], args[count:]
        if any_typetracer(inputs):
            return self.segment(*inputs)
        values, transpose = self.segment.linearize(inputs)
        return Forwarded(values, cotangents=self.pull(transpose, len(values), cotangents, consume=True))


class Recompute(ForwardBackward):
    """The backward pass when the forward pass kept nothing: that is run again."""

    def __call__(self, *args: Any) -> Forwarded:
        return replace(super().__call__(*args), values=())


class TransposeTask:
    """Cotangents of the active dependencies of one task, from those of its result.

    Runs the task again: what such tasks compute with is small, the rest they only move.
    """

    def __init__(
        self,
        fn: Callable,
        active: tuple[bool, ...],
        label: str,
        method: str,
        owner: str,
        picked: int | None = None,
    ):
        self.fn, self.active, self.label, self.picked = fn, active, label, picked
        self.method, self.owner = method, owner

    def __call__(self, cotangent: Cotangents | None, *args: Any) -> tuple | None:
        if self.picked is not None:
            # The node takes its value out itself.
            args = tuple(keep_values(arg, (self.picked,)) for arg in args)
        if not cotangent or any_typetracer(args):
            return None
        with noting(f"in the cotangents of layer {self.label!r}", of_partition=False):
            taping = Taping(self.method)
            lifted = (taping.watch(arg) if on else arg for arg, on in zip(args, self.active, strict=True))
            _, transpose = taping.finish((self.fn(*lifted),))
            return transpose((cotangent,))


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


def settle(value: Any) -> Any:
    """A value as it may leave a task: see :func:`~dak_diff.engine.values.settled`."""
    return value if any_typetracer((value,)) else settled(value)


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
