"""Tangents as operands of a graph: numbers, arrays split at the partitions, collections."""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import Any

import awkward as ak
import dask_awkward as dak
import numpy as np
from dask._task_spec import DataNode, TaskRef
from dask.base import is_dask_collection, tokenize
from dask.highlevelgraph import HighLevelGraph

from dak_diff.engine.values import leaf_values
from dak_diff.errors import StructureError
from dak_diff.graph.content_token import content_token
from dak_diff.graph.histograms import LazyHistogram
from dak_diff.graph.probe import empty_like
from dak_diff.graph.wrt import Target
from dak_diff.parameter import Parameter
from dak_diff.rules.namespace import is_array
from dak_diff.rules.primitive import dtype_of

__all__ = ["NONE", "Operand", "as_operand", "from_pieces", "unit"]


@dataclass(frozen=True)
class Operand:
    """One tangent as a layer sees it: a literal, or the layer ``name`` of ``graph``."""

    token: str
    literal: Any = None
    name: str | None = None
    graph: HighLevelGraph | None = None
    partitioned: bool = True

    def as_operand(self) -> tuple[Any, Any]:
        """For a partition-wise layer."""
        if self.name is None:
            return DataNode(None, self.literal), None
        return (self.name, ("i",)) if self.partitioned else (TaskRef((self.name, 0)), None)

    def as_task_argument(self) -> Any:
        """For a layer of one task."""
        return self.literal if self.name is None else TaskRef((self.name, 0))


#: no tangent in one of several directions
NONE = Operand("none")


def unit(shape: tuple[int, ...], i: int) -> Operand:
    """The tangent of component ``i`` of a parameter of this shape."""
    tangent = np.zeros(shape)
    tangent.flat[i] = 1.0
    return Operand(content_token(tangent), literal=tangent if shape else 1.0)


def as_operand(target: Target, tangent: Any, what: str = "tangent") -> Operand:
    """Check a tangent against its target while the graph is built.

    Raises
    ------
    StructureError
        If its type, its partitions or its shape differ.
    """
    if isinstance(tangent, numbers.Complex):
        number = _number(target, tangent, what)
        return Operand(content_token(number), literal=number)
    if isinstance(target.collection, LazyHistogram):
        token, literal = target.collection.as_cotangent(tangent, what)
        return Operand(token, literal=literal)
    if target.on_all_partitions:
        return _single(target, tangent, what)
    if isinstance(tangent, (ak.Array, np.ndarray, list)):
        tangent = _split(target, ak.Array(np.array(tangent) if is_array(tangent) else tangent), what)
    if isinstance(tangent, Parameter) and tangent.ndim == 0:
        return Operand(content_token(tangent), name=tangent.name, graph=tangent.dask, partitioned=False)
    if not isinstance(tangent, dak.Array):
        raise StructureError(
            f"the {what} of {target.label} must be a number, an ak.Array or a dask-awkward Array, "
            f"not {type(tangent).__name__}"
        )
    _check_types(target, tangent, what)
    if tangent.npartitions != target.collection.npartitions:
        raise StructureError(
            f"the {what} of {target.label} has {tangent.npartitions} partitions, "
            f"{target.label} has {target.collection.npartitions}; they must be partitioned alike"
        )
    return Operand(content_token(tangent), name=tangent.name, graph=tangent.dask)


def _single(target: Target, tangent: Any, what: str) -> Operand:
    if isinstance(tangent, dak.Array):
        raise StructureError(
            f"the {what} of {target.label} must be a number, as that is no array; it is {tangent!r}"
        )
    if is_dask_collection(tangent):
        return Operand(content_token(tangent), name=tangent.name, graph=tangent.dask, partitioned=False)
    if isinstance(target.collection, dak.Record) and isinstance(tangent, (ak.Record, dict)):
        record = ak.Array([tangent])[0] if isinstance(tangent, dict) else tangent
        return Operand(content_token(record), literal=record)
    value = getattr(target.collection, "value", 0.0)
    if isinstance(value, ak.Array) is not isinstance(tangent, ak.Array) or (
        not isinstance(value, ak.Array) and np.shape(value) != np.shape(tangent)
    ):
        raise StructureError(f"the {what} of {target.label} must be as its value, {value!r}, not {tangent!r}")
    if not isinstance(tangent, ak.Array):
        # A copy: its token says what it holds now.
        tangent = np.array(tangent)
        tangent = tangent.astype(complex if _is_complex(target, tangent, what) else float)
    return Operand(content_token(tangent), literal=tangent)


def _number(target: Target, tangent: Any, what: str) -> float | complex:
    return complex(tangent) if _is_complex(target, tangent, what) else float(tangent)


def _is_complex(target: Target, tangent: Any, what: str) -> bool:
    """Whether a seed is complex, which is right only where its primal is."""
    if not np.iscomplexobj(tangent):
        return False
    if not any(dtype_of(leaf).kind == "c" for leaf in leaf_values(empty_like(target.collection))):
        raise StructureError(f"the {what} of {target.label} must be real, as that is: not {tangent!r}")
    return True


def _check_types(target: Target, tangent: Any, what: str) -> None:
    mine, theirs = (c._meta.layout.form.type for c in (target.collection, tangent))
    if not mine.is_equal_to(theirs, all_parameters=False):
        raise StructureError(
            f"the {what} of {target.label} has type {theirs}, {target.label} has {mine}; they must be the "
            "same. dak.values_astype changes the numbers, dak.zip the structure."
        )


def _identity(array: ak.Array) -> ak.Array:
    return array


def _split(target: Target, tangent: ak.Array, what: str) -> dak.Array:
    """An array as a collection with the partitions of wrt: each task holds its own piece."""
    wrt = target.collection
    meta = ak.typetracer.typetracer_from_form(tangent.layout.form)
    if wrt.npartitions == 1:
        pieces = [tangent]
    elif wrt.known_divisions:
        if len(tangent) != wrt.divisions[-1]:
            raise StructureError(
                f"the {what} of {target.label} has length {len(tangent)}, wrt has {wrt.divisions[-1]}"
            )
        bounds = zip(wrt.divisions[:-1], wrt.divisions[1:], strict=True)
        pieces = [tangent[start:stop] for start, stop in bounds]
    else:
        raise StructureError(
            f"cannot split the {what} of {target.label} at partitions of unknown length. "
            "Call .eager_compute_divisions() on wrt first, or give a collection or a number."
        )
    return from_pieces(pieces, meta, what, tokenize(content_token(tangent), wrt.divisions))


def from_pieces(pieces: list, meta: ak.Array, label: str, token: str) -> dak.Array:
    """Arrays in memory as the partitions of a collection."""
    return dak.from_map(_identity, pieces, meta=meta, label=label, token=token)
