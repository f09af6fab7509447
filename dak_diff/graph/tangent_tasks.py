"""What runs inside a task of a Jacobian: a segment with many tangents, a chunk of them at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import awkward as ak
import numpy as np

from dak_diff.engine.awkward_internals import is_absent
from dak_diff.engine.level import new_level
from dak_diff.engine.transform import lift, lower
from dak_diff.engine.values import Pair, is_float, leaf_values
from dak_diff.errors import StructureError
from dak_diff.graph.segment_tasks import ForwardSegment, Step
from dak_diff.graph.tasks import TakeTangents, any_typetracer, as_pair, on_typetracers, primals
from dak_diff.rules.primitive import dtype_of, raw

__all__ = ["CHUNK_BYTES", "PickResult", "PushSegment", "StackRows"]

#: The tangents of one chunk may have about so many bytes, where each direction is as large as the inputs of
#: the partition: an eighth of the memory that a worker of a cluster has for a thread.
CHUNK_BYTES = 512 * 2**20


class PushSegment(ForwardSegment):
    """All partition-wise layers between two barriers as one function of a partition, on pairs.

    Between its steps only the tangents of one chunk of directions exist; what stays are those of its results.

    Parameters
    ----------
    steps, outputs, method, owner
        As for :class:`ForwardSegment`.
    width : int
        How many directions.
    chunk : int or None
        At most so many at a time; None: as many as :data:`CHUNK_BYTES` allow.
    """

    doing = "tangent"

    def __init__(
        self,
        steps: tuple[Step, ...],
        outputs: tuple[str, ...],
        method: str,
        owner: str,
        width: int,
        chunk: int | None,
    ):
        super().__init__(steps, outputs, (), method, False, owner)
        self.width, self.chunk = width, chunk
        active = {step.name: step.active for step in steps}
        self.carries = tuple(active[name] for name in outputs)
        self.seeded = {place for step in steps for _, places in step.seeds for place in places}

    def __call__(self, *inputs: Any) -> Any:
        if any_typetracer(inputs):
            results = on_typetracers(self._on_typetracers, primals(inputs, self.owner))
        else:
            results = self._pushed(inputs)
        return results[0] if len(self.outputs) == 1 else results

    def _on_typetracers(self, *inputs: Any) -> tuple:
        def touched(step: Step, value: Any) -> Any:
            for seed, places in step.seeds:
                value = seed(value, *(inputs[place] for place in places))
            return value

        return self._run(inputs, touched)

    def _pushed(self, inputs: tuple) -> tuple:
        first, *others = self._chunks(inputs)
        results = self._push(inputs, first)
        tangents = [_spread(pair, first, self.width) for pair in results]
        for chunk in others:
            for known, pair in zip(tangents, self._push(inputs, chunk), strict=True):
                for leaf, given in pair.tangents.items():
                    mine = known.setdefault(leaf, [None] * self.width)
                    for direction, tangent in zip(chunk, given, strict=True):
                        mine[direction] = tangent
        return tuple(
            Pair(pair.primal, {leaf: tuple(ts) for leaf, ts in known.items()}, self.width, self.owner)
            if carries
            else pair.primal
            for pair, known, carries in zip(results, tangents, self.carries, strict=True)
        )

    def _chunks(self, inputs: tuple) -> list[list[int]]:
        """The directions in which anything moves, in chunks of nearly one size."""
        pairs = [as_pair(v, self.owner, self.width) for i, v in enumerate(inputs) if i not in self.seeded]
        moving = [
            d
            for d in range(self.width)
            if any(ts[d] is not None for p in pairs for ts in p.tangents.values())
            or any(inputs[places[d]] is not None for step in self.steps for _, places in step.seeds)
        ]
        count = -(-len(moving) // (self.chunk or _chunk_for(pairs)))
        return [
            [int(d) for d in part] for part in np.array_split(np.asarray(moving, dtype=int), max(1, count))
        ]

    def _push(self, inputs: tuple, directions: list[int]) -> list[Pair]:
        level, width = new_level(), len(directions)

        def lifted(pair: Pair) -> Any:
            return lift(pair, level, self.method, self.owner)

        def seeded(step: Step, value: Any) -> Any:
            for seed, places in step.seeds:
                tangents = (inputs[places[direction]] for direction in directions)
                value = lifted(seed(lower(value, level, width, self.owner), *tangents))
            return value

        given = tuple(
            value
            if i in self.seeded
            else lifted(_narrowed(as_pair(value, self.owner, self.width), directions))
            for i, value in enumerate(inputs)
        )
        return [lower(result, level, width, self.owner) for result in self._run(given, seeded)]


def _chunk_for(pairs: list[Pair]) -> int:
    leaves = (leaf for pair in pairs for leaf in leaf_values(pair.primal))
    sizes = (
        np.size(raw(leaf)) * dtype_of(leaf).itemsize
        for leaf in leaves
        if not is_absent(leaf) and is_float(leaf)
    )
    return max(1, CHUNK_BYTES // max(1, sum(sizes)))


def _narrowed(pair: Pair, directions: Sequence[int]) -> Pair:
    """The same value with some of its tangents."""
    tangents = {leaf: tuple(ts[d] for d in directions) for leaf, ts in pair.tangents.items()}
    return Pair(pair.primal, tangents, len(directions), pair.owner)


def _spread(pair: Pair, directions: Sequence[int], width: int) -> dict[int, list[Any]]:
    """The tangents of some directions in their places among all."""
    found: dict[int, list[Any]] = {}
    for leaf, given in pair.tangents.items():
        found[leaf] = [None] * width
        for direction, tangent in zip(directions, given, strict=True):
            found[leaf][direction] = tangent
    return found


class PickResult:
    """One result of a segment that has several."""

    def __init__(self, position: int):
        self.position = position

    def __call__(self, results: tuple) -> Any:
        return results[self.position]


class StackRows:
    """Gradients of all components of a value as one Jacobian: of the type that forward mode gives.

    Parameters
    ----------
    shape, parameter_shape : tuple of int
        Of the value, and of each gradient.
    dtype : numpy.dtype
        Of the value.
    """

    def __init__(self, shape: tuple[int, ...], parameter_shape: tuple[int, ...], dtype: np.dtype):
        self.shape, self.parameter_shape, self.dtype = shape, parameter_shape, dtype

    def __call__(self, value: Any, *rows: Any) -> Any:
        if any_typetracer((value,)):
            return TakeTangents("", slice(0, math.prod(self.parameter_shape)), self.parameter_shape)(value)
        if not isinstance(value, ak.Array) and np.shape(value) != self.shape:
            raise StructureError(
                f"jacobian took its output for one of shape {self.shape}, and it has shape "
                f'{np.shape(value)}: what empty arrays give has another shape. Pass mode="forward".'
            )
        stacked = np.stack(rows).astype(self.dtype).reshape(self.shape + self.parameter_shape)
        return ak.Array(stacked) if isinstance(value, ak.Array) else stacked[()]
