"""What differentiates inside the tasks of an adjoint graph: the passes of a segment, a task transposed.

On typetracers there is no cotangent: forward passes run the plain function.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import awkward as ak

from dak_diff.engine.awkward_internals import recording
from dak_diff.engine.transform import Taping, Transpose, watching
from dak_diff.engine.values import Cotangents, settled
from dak_diff.graph.forwarded import Forwarded, keep_values
from dak_diff.graph.tasks import any_typetracer, noting, on_typetracers

__all__ = ["Backward", "ForwardBackward", "ForwardSegment", "Recompute", "Step", "TransposeTask", "settle"]


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
    seeds : tuple of (Seed, tuple of int)
        What puts tangents on its result, and where these are among the inputs.
    """

    name: str
    label: str
    fn: Callable
    operands: tuple[tuple[str, Any], ...]
    watched: bool = False
    active: bool = True
    seeds: tuple[tuple[Callable, tuple[int, ...]], ...] = ()


def _as_it_is(step: Step, result: Any) -> Any:
    return result


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
            return Forwarded(tuple(map(settle, self._run(inputs))))
        return Forwarded(*self.linearize(inputs))

    def linearize(self, inputs: tuple) -> tuple[tuple, Transpose]:
        """The results, and the transpose to the active inputs and watched steps, in this order."""

        def taped() -> tuple[tuple, Transpose]:
            taping = Taping(self.method)
            lifted = tuple(taping.watch(v) if on else v for v, on in zip(inputs, self.active, strict=True))
            with recording():
                results = self._run(
                    lifted, lambda step, value: taping.watch(value) if step.watched else value
                )
                # What leaves the task may be pickled: its leaves must not change on the way.
                return taping.finish(tuple(map(settle, results)))

        return watching(taped)

    def _run(self, inputs: tuple, on_result: Callable[[Step, Any], Any] = _as_it_is) -> tuple:
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
            results[step.name] = on_result(step, result)
        return tuple(results[name] for name in self.outputs)


def settle(value: Any) -> Any:
    """A value as it may leave a task: see :func:`~dak_diff.engine.values.settled`."""
    return value if any_typetracer((value,)) else settled(value)


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
