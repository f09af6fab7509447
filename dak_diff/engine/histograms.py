"""Histograms of boost-histogram (and hist) as values: what was filled is linear in the weights.

A histogram whose contents carry a derivative has the class of the user's histogram with
:class:`_Active` before it: it is filled, added, scaled and read as any other, and refuses the rest,
so that no derivative is lost. boost-histogram itself is never imported here: where it is not
loaded, there are no histograms.
"""

from __future__ import annotations

import contextlib
import copy
import math
import operator
import sys
import threading
import types
from collections.abc import Callable
from typing import Any, NoReturn

import awkward as ak
import numpy as np

from dak_diff.engine.awkward_internals import buffer_type_of, leaf_data
from dak_diff.engine.buffer import Buffer, unwrap
from dak_diff.engine.loaded import histogram_types
from dak_diff.errors import NoRuleError, StructureError
from dak_diff.rules.primitive import Traced, raw
from dak_diff.rules.structure import broadcast_to, concatenate, index, reshape, scatter_add

__all__ = [
    "axes_grow",
    "contents",
    "has_contents",
    "map_contents",
    "match_contents",
    "mend_arithmetic",
    "watch_fills",
    "with_components",
]


def axes_grow(histogram: Any) -> bool:
    """Whether filling may add bins."""
    return any(axis.traits.growth for axis in histogram.axes)


def _storage(histogram: Any) -> str:
    return str(histogram.storage_type.__name__)


def has_contents(histogram: Any) -> bool:
    """Whether the bins of a histogram are sums of weights."""
    return _storage(histogram) in ("Double", "Weight")


def contents(histogram: Any) -> tuple:
    """The leaves of a histogram: values, of weighted storages variances, too; flow bins included."""
    if isinstance(histogram, _Active):
        return histogram.__dict__["leaves"]
    view = histogram.view(flow=True)
    if _storage(histogram) == "Weight":
        return (np.asarray(view["value"]), np.asarray(view["variance"]))
    return (np.asarray(view),) if view.dtype.names is None else ()


def map_contents(histogram: Any, on_leaf: Callable[[Any, bool], Any]) -> Any:
    """The histogram with other contents; see :func:`~dak_diff.engine.values.map_leaves`."""
    old = contents(histogram)
    new = tuple(on_leaf(leaf, False) for leaf in old)
    if any(isinstance(leaf, Traced) for leaf in new):
        return _activated(_plain(histogram), new)
    if all(a is b for a, b in zip(old, new, strict=True)):
        return histogram
    result = copy.copy(_plain(histogram))
    view = result.view(flow=True)
    if _storage(result) == "Weight":
        view["value"], view["variance"] = new
    else:
        view[...] = new[0]
    return result


def with_components(histogram: Any, shape: tuple[int, ...]) -> Any:
    """An empty histogram with one more axis of integers for each dimension of a parameter."""
    integers = sys.modules["boost_histogram"].axis.Integer
    more = (integers(0, size, underflow=False, overflow=False) for size in shape)
    primal = _plain(histogram)
    cls: Any = type(primal)
    return cls(*primal.axes, *more, storage=primal.storage_type())


def match_contents(histogram: Any, given: Any, what: str) -> list[Any]:
    """The contents of a tangent or cotangent of a histogram.

    A number stands for one in every bin; an array is for the values, with or without flow bins (those
    are then zero); a histogram brings the variances of weighted storages, too.

    Raises
    ------
    StructureError
        If its shape is another one.
    """
    values, *variances = contents(histogram)
    if isinstance(given, histogram_types()):
        given = tuple(_in_order(leaf, given.axes, histogram.axes, what) for leaf in contents(given))
    if isinstance(given, tuple):
        if [np.shape(g) for g in given] != [np.shape(leaf) for leaf in (values, *variances)]:
            raise StructureError(f"the {what} of a histogram must have its axes and its storage")
        return list(given)
    if not isinstance(given, (Traced, Buffer)):
        given = np.asarray(given, dtype=np.float64)
    given, shape = unwrap(given), np.shape(given)
    if shape == ():
        return [np.full(np.shape(values), given), *(None for _ in variances)]
    if shape == np.shape(values):
        return [given, *(None for _ in variances)]
    if shape != histogram.axes.size:
        raise StructureError(
            f"the {what} of a histogram has shape {shape}, its bins {histogram.axes.size}, "
            f"with flow bins {np.shape(values)}"
        )
    flow = np.zeros(np.shape(values))
    flow[_inner(histogram)] = given
    return [flow, *(None for _ in variances)]


def _in_order(leaf: Any, old: Any, new: Any, what: str) -> Any:
    """Contents over some axes as contents over the same axes, categories perhaps in another order.

    Raises
    ------
    StructureError
        If edges, categories or flow bins are others.
    """
    if len(old) != len(new):
        raise StructureError(f"the {what} of a histogram must have its {len(new)} axes, not {len(old)}")
    places = []
    for a, b in zip(old, new, strict=True):
        labels, wanted = _labels(a), _labels(b)
        category = not (a.traits.ordered or b.traits.ordered)
        alike = set(labels) == set(wanted) if category else labels == wanted
        if a.traits.continuous and b.traits.continuous:
            alike = np.array_equal(a.edges, b.edges)
        if not alike or a.extent != b.extent or a.traits.underflow != b.traits.underflow:
            raise StructureError(f"the {what} of a histogram must have its axes: {a!r} is not {b!r}")
        place = np.arange(a.extent)
        if category:
            place[: len(labels)] = [labels.index(label) for label in wanted]
        places.append(place)
    return leaf[np.ix_(*places)]


def _inner(histogram: Any) -> tuple[slice, ...]:
    """Where the bins without flow are."""
    starts = (int(axis.traits.underflow) for axis in histogram.axes)
    return tuple(slice(start, start + len(axis)) for start, axis in zip(starts, histogram.axes, strict=True))


# --------------------------------------------------------------------------- filling

_lock = threading.Lock()


def watch_fills() -> bool:
    """Let histograms be filled with, and scaled by, what carries a derivative: once; whether it was now."""
    cls = histogram_types()
    if not cls or hasattr(cls.fill, "knows_dak_diff"):
        return False
    with _lock:
        _patch(cls)
    return True


def _patch(cls: Any) -> None:
    if hasattr(cls.fill, "knows_dak_diff"):
        return
    for name in ("__iadd__", "__isub__", "__imul__", "__itruediv__"):
        setattr(cls, name, _watching_operator(name, getattr(cls, name)))
    cls.fill = _watching_fill(cls.fill)


def mend_arithmetic() -> None:
    """Let dask-histogram do arithmetic without changing what another task gave, or refuse it."""
    core, boost = (sys.modules.get(f"dask_histogram.{name}") for name in ("core", "boost"))
    if core is not None and core._imul.func is operator.imul:
        core._iadd.func, core._isub.func = operator.add, operator.sub
        core._imul.func, core._itruediv.func = operator.mul, operator.truediv
    if boost is not None and "__mul__" not in vars(boost.Histogram):
        for name in ("mul", "truediv", "sub"):
            for dunder in (f"__{name}__", f"__r{name}__", f"__i{name}__"):
                setattr(boost.Histogram, dunder, _refusing_fills(getattr(boost.Histogram, dunder)))


def _refusing_fills(upstream: Callable) -> Callable:
    """Arithmetic on a lazy histogram, which dask-histogram does on what is there before it is filled."""

    def method(self: Any, other: Any) -> Any:
        # Fills are staged until something asks for the graph.
        if self.staged_fills() or hasattr(self, "_staged_result"):
            raise NotImplementedError(
                "dask-histogram loses arithmetic on a lazy histogram that is filled. Scale the weights, fill "
                "with dask_histogram.factory, or do it after computation."
            )
        return upstream(self, other)

    return method


def _watching_fill(upstream: Callable) -> Callable:
    def fill(self: Any, *args: Any, weight: Any = None, sample: Any = None, threads: Any = None) -> Any:
        if not isinstance(self, _Active) and not any(map(_carries, (*args, weight, sample))):
            return upstream(self, *args, weight=weight, sample=sample, threads=threads)
        return _fill(self, args, weight, sample)

    fill.__doc__ = upstream.__doc__
    fill.knows_dak_diff = True  # type: ignore[attr-defined]
    return fill


def _watching_operator(name: str, upstream: Callable) -> Callable:
    def method(self: Any, other: Any) -> Any:
        if _carries(other) and not isinstance(self, _Active):
            self = _activate(self)
        return getattr(self, name)(other) if isinstance(self, _Active) else upstream(self, other)

    return method


def _carries(value: Any) -> bool:
    """Whether a derivative hangs on a value."""
    if isinstance(value, ak.Array):
        return any(isinstance(leaf, Traced) for leaf, _ in leaf_data(value.layout))
    return isinstance(value, _Active) or (isinstance(value, Buffer) and value.active)


def _fill(histogram: Any, positions: tuple, weight: Any, sample: Any) -> Any:
    if any(map(_carries, positions)):
        raise NoRuleError(
            "no derivative of a histogram by the positions of its entries: bin contents jump when an entry "
            "crosses an edge. Use dak_diff.soft_histogram, or dak_diff.stop_gradient(positions) if the "
            "derivative by the weights alone is meant."
        )
    if not has_contents(histogram) or sample is not None:
        raise NoRuleError(
            f"no derivative of a histogram with storage {_storage(histogram)}"
            f"{' and samples' if sample is not None else ''}: use storage Double or Weight."
        )
    active = histogram if isinstance(histogram, _Active) else _activate(histogram)
    positions, weights = tuple(raw(_as_vector(p)) for p in positions), _as_vector(weight)
    primal = _plain(active)
    axes = tuple(primal.axes)
    primal.fill(*positions, weight=raw(weights))
    leaves = tuple(_moved(leaf, axes, primal.axes) for leaf in contents(active))
    keys, inside = _bins(primal, positions)
    weights = np.ones(()) if weights is None else weights * np.ones((), dtype=np.float64)
    weights = index(broadcast_to(weights, shape=inside.shape), key=inside)
    added = (weights, weights * weights)[: len(leaves)]
    leaves = tuple(_added(leaf, keys[inside], w) for leaf, w in zip(leaves, added, strict=True))
    _check_growth(primal, leaves)
    active.__dict__["leaves"] = leaves
    return active


def _check_growth(primal: Any, leaves: tuple) -> None:
    """A continuous axis decides entry by entry, while it grows, where each belongs: not always as later."""
    if not any(axis.traits.growth and axis.traits.continuous for axis in primal.axes):
        return
    for leaf, value in zip(leaves, contents(primal), strict=True):
        if not np.allclose(raw(leaf), value, rtol=1e-12, equal_nan=True):
            raise NoRuleError(
                "no derivative of a histogram whose continuous axis grew by these entries: which bins they "
                "fell in cannot be told any more. Fix the range of the axis."
            )


def _as_vector(given: Any) -> Any:
    """Weights or positions as one flat array of the algebra; numbers, text and lists as they are."""
    if isinstance(given, ak.Array):
        if given.layout.parameter("__array__") in ("string", "bytestring"):
            return ak.to_list(given)
        given = given.layout.to_backend_array(allow_missing=False)
    return unwrap(given)


def _bins(histogram: Any, positions: tuple) -> tuple[np.ndarray, np.ndarray]:
    """For each entry the flat position of its bin, flow bins counted, and whether it has one."""
    columns = np.broadcast_arrays(*map(_bin_of, histogram.axes, positions))
    inside = np.ones(columns[0].shape, dtype=bool)
    flat = np.zeros(columns[0].shape, dtype=np.int64)
    for axis, column in zip(histogram.axes, columns, strict=True):
        inside &= (column >= 0) & (column < axis.extent)
        flat = flat * axis.extent + column
    return np.atleast_1d(flat), np.atleast_1d(inside)


def _bin_of(axis: Any, position: Any) -> np.ndarray:
    if axis.traits.ordered:
        return np.asarray(axis.index(position)) + int(axis.traits.underflow)
    # Of categories that it does not have an axis says nothing: they fall in the overflow, if there is one.
    known = {label: i for i, label in enumerate(_labels(axis))}
    distinct, inverse = np.unique(np.asarray(position), return_inverse=True)
    return np.asarray([known.get(label, len(axis)) for label in distinct.tolist()], dtype=np.int64)[inverse]


def _labels(axis: Any) -> list:
    """A value in each bin."""
    return list(axis.centers) if axis.traits.continuous else [axis.bin(i) for i in range(len(axis))]


def _added(leaf: Any, keys: np.ndarray, weights: Any) -> Any:
    """One after the other, as boost-histogram adds them: the value is the same bit for bit."""
    shape, size = np.shape(leaf), math.prod(np.shape(leaf))
    entries = concatenate(reshape(leaf, shape=(-1,)), weights)
    return reshape(
        scatter_add(entries, key=np.concatenate([np.arange(size), keys]), shape=(size,)), shape=shape
    )


def _moved(leaf: Any, old: Any, new: Any) -> Any:
    """Contents over some axes as contents over axes that have grown from these."""
    if all(a == b for a, b in zip(old, new, strict=True)):
        return leaf
    shape = tuple(axis.extent for axis in new)
    places = [_new_places(a, b) for a, b in zip(old, new, strict=True)]
    keys = np.ravel_multi_index(np.ix_(*places), shape).reshape(-1)
    return reshape(scatter_add(reshape(leaf, shape=(-1,)), key=keys, shape=(math.prod(shape),)), shape=shape)


def _new_places(old: Any, new: Any) -> np.ndarray:
    places = np.arange(old.extent)
    if old.traits.growth and len(old):
        start = int(old.traits.underflow)
        places[start : start + len(old)] = _bin_of(new, _labels(old))
        places[start + len(old) :] = new.extent - 1
    return places


# --------------------------------------------------------------------------- histograms with a derivative


class _Active:
    """A histogram whose contents carry a derivative.

    Its ``__dict__`` holds ``primal``, the plain histogram, and ``leaves``.
    """

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        if name in _READABLE:
            return object.__getattribute__(self, name)
        if name in _OF_PRIMAL:
            return getattr(_plain(self), name)
        return _refuse(name)

    def __repr__(self) -> str:
        return f"<histogram with a derivative: {_plain(self)!r}>"

    def __str__(self) -> str:
        return repr(self)

    def view(self, flow: bool = False) -> Any:
        if _storage(self) == "Weight":
            return _refuse("view")
        return self.values(flow)

    def values(self, flow: bool = False) -> Any:
        return _read(self, 0, flow)

    def variances(self, flow: bool = False) -> Any:
        if _storage(self) == "Weight":
            return _read(self, 1, flow)
        return None if _plain(self).variances() is None else self.values(flow)

    def to_numpy(self, flow: bool = False, **options: Any) -> Any:
        _, *edges = _plain(self).to_numpy(flow, **options)
        return (self.values(flow), *edges)

    def sum(self, flow: bool = False) -> Any:
        if _storage(self) == "Weight":
            return _refuse("sum")
        return self.values(flow).sum()

    def copy(self, *, deep: bool = True) -> Any:
        return copy.copy(self)

    def __copy__(self) -> Any:
        return _activated(_plain(self), self.__dict__["leaves"])

    def fill(
        self, *args: Any, weight: Any = None, sample: Any = None, threads: Any = None, **named: Any
    ) -> Any:
        if named:
            names = [axis.name for axis in _plain(self).axes]
            args = (*args, *(named[name] for name in names[len(args) :]))
        return _fill(self, args, weight, sample)

    def __iadd__(self, other: Any) -> Any:
        return _merge(self, other, 1.0)

    def __isub__(self, other: Any) -> Any:
        return _merge(self, other, -1.0)

    def __imul__(self, other: Any) -> Any:
        return _scale(self, _factor(other), lambda x, factor: x * factor)

    def __itruediv__(self, other: Any) -> Any:
        return _scale(self, _factor(other), lambda x, factor: x / factor)

    def __add__(self, other: Any) -> Any:
        return copy.copy(self).__iadd__(other)

    def __radd__(self, other: Any) -> Any:
        return self + other

    def __sub__(self, other: Any) -> Any:
        return copy.copy(self).__isub__(other)

    def __rsub__(self, other: Any) -> Any:
        return (self - other) * -1.0

    def __mul__(self, other: Any) -> Any:
        return copy.copy(self).__imul__(other)

    def __rmul__(self, other: Any) -> Any:
        return self * other

    def __truediv__(self, other: Any) -> Any:
        return copy.copy(self).__itruediv__(other)


_READABLE = frozenset(name for name in vars(_Active)) | {"__class__", "__dict__"}
_OF_PRIMAL = frozenset(
    {"axes", "ndim", "shape", "size", "storage_type", "_storage_type", "metadata", "name", "label", "kind"}
)


def _refuse(name: str) -> NoReturn:
    raise NoRuleError(
        f"no derivative of {name} of a histogram: its contents depend on wrt, and their derivative would be "
        "lost. Use its values(), or +, - and scaling by numbers."
    )


def _refused(name: str) -> Callable:
    return lambda self, *args, **kwargs: _refuse(name)


_active_types: dict[type, type] = {}


def _active_type(cls: Any) -> type:
    if cls not in _active_types:
        # Special methods are looked up on the class: those not known here must not reach the user's.
        special = {
            name
            for base in cls.__mro__[:-1]
            for name, what in vars(base).items()
            if name.startswith("__") and isinstance(what, types.FunctionType)
        }
        members: dict[str, Any] = {name: _refused(name) for name in special - vars(_Active).keys() - _BASIC}
        members["__slots__"] = ()
        made = types.new_class(
            f"Active{cls.__name__}",
            (_Active, cls),
            {"family": cls._family},
            lambda namespace: namespace.update(members),
        )
        _active_types[cls] = made
    return _active_types[cls]


_BASIC = {
    "__init__",
    "__init_subclass__",
    "__class_getitem__",
    "__new__",
    "__dir__",
    "__getattr__",
    "__hash__",
}


def _activated(primal: Any, leaves: tuple) -> Any:
    """A new histogram like ``primal`` with these contents."""
    cls: Any = type(primal)
    return _become_active(cls.__new__(cls), copy.copy(primal), leaves)


def _activate(histogram: Any) -> Any:
    """The histogram itself, now with contents that may carry a derivative."""
    primal = copy.copy(histogram)
    return _become_active(histogram, primal, tuple(leaf.copy() for leaf in contents(primal)))


def _become_active(histogram: Any, primal: Any, leaves: tuple) -> Any:
    for slot in ("_hist", "axes"):
        with contextlib.suppress(AttributeError):
            object.__delattr__(histogram, slot)
    histogram.__dict__.clear()
    histogram.__dict__.update(primal=primal, leaves=leaves)
    histogram.__class__ = _active_type(type(histogram))
    return histogram


def _plain(histogram: Any) -> Any:
    return histogram.__dict__["primal"] if isinstance(histogram, _Active) else histogram


def _read(histogram: Any, leaf: int, flow: bool) -> Any:
    value = contents(histogram)[leaf]
    value = value if flow else index(value, key=_inner(_plain(histogram)))
    return buffer_type_of(value)(value)


def _merge(histogram: Any, other: Any, sign: float) -> Any:
    if isinstance(other, (int, float)) and other == 0:
        return histogram
    if not isinstance(other, histogram_types()):
        return _refuse("adding or subtracting numbers")
    old, theirs = _plain(histogram), _plain(other)
    axes = tuple(old.axes)
    primal = old + theirs if sign > 0 else old - theirs
    mine = (_moved(leaf, axes, primal.axes) for leaf in contents(histogram))
    others = (_moved(leaf, theirs.axes, primal.axes) for leaf in contents(other))
    leaves = tuple(a + b if sign > 0 else a - b for a, b in zip(mine, others, strict=True))
    histogram.__dict__.update(primal=primal, leaves=leaves)
    return histogram


def _factor(other: Any) -> Any:
    factor = unwrap(other)
    if isinstance(other, histogram_types()) or np.ndim(factor):
        return _refuse("scaling bin by bin")
    return factor


def _scale(histogram: Any, factor: Any, operate: Callable) -> Any:
    primal = operate(_plain(histogram), raw(factor))
    values, *variances = contents(histogram)
    square = factor * factor
    leaves = (operate(values, factor), *(operate(v, square) for v in variances))
    histogram.__dict__.update(primal=primal, leaves=leaves)
    return histogram
