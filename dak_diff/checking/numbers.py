"""The floating-point numbers of a value as one vector, and random values of the same structure."""

from __future__ import annotations

from typing import Any

import awkward as ak
import dask
import dask_awkward as dak
import numpy as np

from dak_diff.engine.awkward_internals import indexes, leaf_data, pack
from dak_diff.engine.values import is_float, map_leaves
from dak_diff.graph.wrt import flatten_nested

__all__ = ["Numbers", "computed", "draw", "float_leaves", "map_floats", "random_like", "type_of"]


def _packed(value: Any) -> Any:
    if isinstance(value, ak.Record):
        layout = value.layout
        value = ak.Array(layout.array[layout.at : layout.at + 1], behavior=value.behavior)
    return ak.Array(pack(value.layout), behavior=value.behavior) if isinstance(value, ak.Array) else value


def map_floats(value: Any, fn: Any) -> Any:
    """The value, packed, with ``fn(leaf)`` in place of each floating-point leaf."""
    return map_leaves(
        _packed(value), lambda leaf, is_text: leaf if is_text or not is_float(leaf) else fn(leaf)
    )


def float_leaves(value: Any) -> list[np.ndarray]:
    """The floating-point leaves of a value, flat, in the order of :func:`map_floats`."""
    found: list[np.ndarray] = []

    def on_leaf(leaf: Any) -> Any:
        found.append(np.ravel(leaf))
        return leaf

    map_floats(value, on_leaf)
    return found


def _structure(value: Any) -> list:
    """Everything that must be the same for numbers to lie at the same places."""
    if not isinstance(value, (ak.Array, ak.Record)):
        return [np.shape(value), value is None]
    layout = _packed(value).layout
    return [*(x.tolist() for x in indexes(layout)), *(len(leaf) for leaf, _ in leaf_data(layout))]


def type_of(value: Any) -> str:
    """The type of a value, without its length."""
    if isinstance(value, ak.Array):
        return str(value.layout.form.type)
    return str(ak.type(value)) if isinstance(value, ak.Record) else str(np.asarray(value).dtype)


class Numbers:
    """The floating-point numbers of all partitions of a value, one after another."""

    def __init__(self, pieces: list):
        self.pieces = pieces
        parts = [np.concatenate([np.empty(0), *float_leaves(piece)]) for piece in pieces]
        self.bounds = np.cumsum([0, *map(len, parts)])
        self.flat = np.concatenate(parts)
        self.structures = [_structure(piece) for piece in pieces]

    def alike(self, other: Numbers) -> np.ndarray:
        """Which partitions of another value have the structure of these."""
        return np.array([a == b for a, b in zip(self.structures, other.structures, strict=True)])

    def each(self, of_partitions: np.ndarray) -> np.ndarray:
        """What is known of a partition for each of its numbers."""
        return np.repeat(of_partitions, np.diff(self.bounds))

    def beside(self, other: Numbers) -> np.ndarray:
        """The numbers of another value at the places of these, zero where it has no such place."""
        flat = np.zeros(self.flat.shape, other.flat.dtype)
        for i in np.flatnonzero(self.alike(other)):
            flat[slice(*self.bounds[i : i + 2])] = other.flat[slice(*other.bounds[i : i + 2])]
        return flat

    def place(self, at: int) -> str:
        """Where number ``at`` is: ``[3][0].pt``, counted over all partitions."""
        i = int(np.searchsorted(self.bounds, at, side="right")) - 1
        left = at - int(self.bounds[i])

        def mark(leaf: Any) -> Any:
            nonlocal left
            marked = np.zeros(np.size(leaf))
            if 0 <= left < marked.size:
                marked[left] = 1.0
            left -= marked.size
            return marked.reshape(np.shape(leaf))[()]

        piece = self.pieces[i]
        marked = map_floats(piece, mark)
        if not isinstance(marked, ak.Array):
            return "".join(f"[{n}]" for n in np.argwhere(np.atleast_1d(marked))[0][: np.ndim(marked)])
        found = flatten_nested(marked.to_list())
        path = next(path for path, number in found if isinstance(number, (float, complex)) and number == 1.0)
        if isinstance(piece, ak.Record):
            return "".join(map(_step, path[1:]))
        before = sum(len(p) for p in self.pieces[:i])
        return "".join(map(_step, (path[0] + before, *path[1:])))


def _step(key: Any) -> str:
    return f".{key}" if isinstance(key, str) else f"[{key}]"


def _per_partition(collection: Any) -> list:
    if isinstance(collection, dak.Array):
        return [collection.partitions[i] for i in range(collection.npartitions)]
    return [collection]


def computed(collections: list) -> list[list]:
    """The partitions of each of some collections, from one run."""
    computed: Any = dask.compute([_per_partition(collection) for collection in collections])[0]
    return list(computed)


def draw(leaf: Any, rng: np.random.Generator, scale: float = 1.0) -> Any:
    """Odd sixteenths between -1 and 1, so that no element is left out, times a power of two."""
    numbers = scale * (2 * rng.integers(-8, 8, np.shape(leaf)) + 1) / 16
    if np.iscomplexobj(leaf) and np.ndim(leaf):
        numbers = numbers + 1j * scale * (2 * rng.integers(-8, 8, np.shape(leaf)) + 1) / 16
    return np.asarray(numbers).astype(leaf.dtype) if np.ndim(leaf) else float(numbers)


def _scale(leaves: list[np.ndarray]) -> float:
    """The power of two next to the median size of some numbers."""
    sizes = np.abs(np.concatenate(leaves))
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    return float(2.0 ** np.round(np.log2(np.median(sizes)))) if sizes.size else 1.0


def random_like(pieces: list, rng: np.random.Generator) -> list:
    """Values of the structure of some partitions; each column in units of its own size."""
    leaves = [float_leaves(piece) for piece in pieces]
    most = max(map(len, leaves))
    scales = [_scale([found[i] for found in leaves if i < len(found)]) for i in range(most)]

    def like(piece: Any) -> Any:
        scale = iter(scales)
        return map_floats(piece, lambda leaf: draw(leaf, rng, next(scale)))

    return [like(piece) for piece in pieces]
