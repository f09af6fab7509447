"""What the forward pass of a segment leaves for one partition, as data that travel between tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from dask.sizeof import sizeof

from dak_diff.engine.transform import Transpose
from dak_diff.engine.values import Cotangents, map_leaves
from dak_diff.rules.primitive import raw

__all__ = ["Forwarded", "keep_values", "pick_value"]


@dataclass(frozen=True)
class Forwarded:
    """The results of a segment, and its transpose or what that gave.

    Parameters
    ----------
    values : tuple
        The results.
    transpose : Transpose or None
        For the backward pass, if that comes later.
    cotangents : tuple of Cotangents or None
        Of the active inputs and watched steps, if the backward pass was made at once.
    """

    values: tuple
    transpose: Transpose | None = None
    cotangents: tuple[Cotangents, ...] | None = None

    def map_leaves(self, on_leaf: Callable[[Any, bool], Any]) -> Forwarded:
        """Values, residuals and cotangents are leaves alike: a gradient can be differentiated again."""
        return Forwarded(
            *(map_leaves(part, on_leaf) for part in (self.values, self.transpose, self.cotangents))
        )


@sizeof.register(Forwarded)  # type: ignore[untyped-decorator]
def _sizeof_forwarded(forwarded: Forwarded) -> int:
    size = sum(map(sizeof, forwarded.values))
    for cotangents in forwarded.cotangents or ():
        size += sum(sizeof(raw(c)) for c in cotangents.values())
    if forwarded.transpose is not None:
        for node in forwarded.transpose.record:
            size += sum(sizeof(raw(r)) for r in _arrays(node.residuals))
    return int(size)


def _arrays(residuals: Any) -> Iterable[Any]:
    for residual in residuals:
        if isinstance(residual, tuple):
            yield from _arrays(residual)
        elif hasattr(residual, "nbytes"):
            yield residual


def keep_values(result: Any, positions: tuple[int, ...]) -> Any:
    """Some results of a segment in their places, without the rest; anything else is itself."""
    if not isinstance(result, Forwarded):
        return result
    return Forwarded(tuple(v if i in positions else None for i, v in enumerate(result.values)))


def pick_value(result: Any, position: int | None) -> Any:
    """One result of a segment; anything else is itself."""
    return result.values[position] if isinstance(result, Forwarded) and position is not None else result
