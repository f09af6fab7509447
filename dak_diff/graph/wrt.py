"""What is differentiated by: collections, and columns of collections.

A chain of field selections (``events.Jet.pt``) denotes a *column* of the collection it
starts from: that collection is perturbed in this column, so every path through the
column counts, whatever the names of the selecting layers.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dask_awkward as dak
from dask.blockwise import Blockwise

from dak_diff.engine.nests import is_nest, map_parts
from dak_diff.errors import StructureError
from dak_diff.graph.probe import has_float
from dak_diff.parameter import Parameter

__all__ = ["Target", "beside", "field_selection", "flatten_nested", "resolve", "unflatten_nested"]

Path = tuple[str, ...]


@dataclass(frozen=True)
class Target:
    """One collection to differentiate by.

    Parameters
    ----------
    collection : Array, Scalar or Parameter
        As the user gave it.
    base : str
        Name of the layer that is perturbed.
    columns : tuple of (path, path)
        The perturbed columns: where they are in the base, and where in the collection.
    """

    collection: Any
    base: str
    columns: tuple[tuple[Path, Path], ...]

    @property
    def on_all_partitions(self) -> bool:
        """Whether it exists once, not once a partition: a parameter or a reduced scalar."""
        return not isinstance(self.collection, dak.Array)

    @property
    def label(self) -> str:
        """Name for messages: ``'from-awkward-1a2b' column Jet.pt``."""
        paths = [".".join(absolute) for absolute, _ in self.columns if absolute]
        return f"{self.base!r}" + (f" column {', '.join(paths)}" if paths else "")


def flatten_nested(obj: Any, where: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    """Leaves of a nest of lists, tuples and dicts, with the keys that lead to them."""
    if isinstance(obj, Mapping):
        for key, value in obj.items():
            yield from flatten_nested(value, (*where, key))
    elif isinstance(obj, (list, tuple)):
        for i, value in enumerate(obj):
            yield from flatten_nested(value, (*where, i))
    else:
        yield where, obj


def unflatten_nested(obj: Any, leaves: Iterable[Any]) -> Any:
    """The nest of ``obj`` with other leaves, given in the order of :func:`flatten_nested`."""
    remaining = iter(leaves)

    def rebuild(part: Any) -> Any:
        if is_nest(part):
            return map_parts(part, rebuild)
        if isinstance(part, Mapping):
            return {key: rebuild(value) for key, value in part.items()}
        return next(remaining)

    return rebuild(obj)


def beside(nest: Any, given: Any, claim: str, where: str = "") -> Iterator[Any]:
    """What lies in ``given`` where a nest has a leaf; ``claim`` is what is wrong if it nests otherwise."""
    place = f"{claim}, at {where}" if where else claim
    if isinstance(nest, Mapping):
        if not isinstance(given, Mapping) or set(given) != set(nest):
            got = f"keys {list(given)}" if isinstance(given, Mapping) else repr(given)
            raise StructureError(f"{place}: keys {list(nest)}, not {got}")
        for key, part in nest.items():
            yield from beside(part, given[key], claim, f"{where}[{key!r}]")
    elif isinstance(nest, (list, tuple)):
        if not isinstance(given, (list, tuple)) or len(given) != len(nest):
            raise StructureError(f"{place}: a list of {len(nest)}, not {given!r}")
        for i, (part, one) in enumerate(zip(nest, given, strict=True)):
            yield from beside(part, one, claim, f"{where}[{i}]")
    elif isinstance(given, Mapping):
        raise StructureError(f"{place}: one for each, not keys {list(given)}")
    else:
        yield given


def field_selection(layer: Any) -> tuple[str, list[Path], bool] | None:
    """The operand and the paths of a layer that only selects fields, else None.

    The flag says whether the fields keep their names: ``x[["a"]]`` does, ``x["a"]`` unwraps.
    """
    if not isinstance(layer, Blockwise) or layer.task.func is not operator.getitem:
        return None
    if len(layer.indices) != 2 or layer.task.kwargs:
        return None
    (operand, index), (where, literal) = layer.indices
    if index is None or literal is not None or not isinstance(operand, str):
        return None
    if isinstance(where, str):
        return operand, [(where,)], False
    if isinstance(where, tuple) and where and all(isinstance(w, str) for w in where):
        return operand, [where], False
    if isinstance(where, list) and where and all(isinstance(w, str) for w in where):
        return operand, [(w,) for w in where], True
    return None


def resolve(collection: Any) -> Target:
    """The base and columns that a collection denotes.

    Raises
    ------
    TypeError
        If it is no collection, or has no floating-point numbers.
    """
    if not isinstance(collection, (dak.Array, dak.Scalar, Parameter)) or isinstance(collection, dak.Record):
        raise TypeError(
            "wrt must be a dask-awkward collection, a column of one, a dak_diff.parameter, or a list, "
            f"tuple or dict of these, not {type(collection).__name__}"
        )
    _require_float(collection)
    name = collection.name
    columns: tuple[tuple[Path, Path], ...] = (((), ()),)
    # A persisted collection holds data, and no layers to follow.
    layers = getattr(collection.dask, "layers", {})
    while True:
        selected = field_selection(layers.get(name))
        if selected is None:
            return Target(collection, name, columns)
        name, paths, keeps = selected
        if not keeps:
            columns = tuple(((*paths[0], *absolute), relative) for absolute, relative in columns)
        elif columns == (((), ()),):
            columns = tuple((path, path) for path in paths)
        else:
            columns = tuple(c for c in columns if c[0][:1] in paths)


def _require_float(collection: Any) -> None:
    if not has_float(collection):
        raise TypeError(
            f"cannot differentiate by {collection!r}: it has no floating-point numbers. "
            "Convert integers with dak.values_astype(x, 'float64') and build the expression on the result."
        )
