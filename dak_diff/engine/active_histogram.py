"""A histogram whose contents carry a derivative: filled, added, scaled and read as any other.

It has the class of the user's histogram with :class:`ActiveHistogram` before it, and refuses what it
does not know, so that no derivative is lost.
"""

from __future__ import annotations

import contextlib
import copy
import math
import types
from collections.abc import Callable
from typing import Any, NoReturn

import awkward as ak
import numpy as np

from dak_diff.engine.awkward_internals import buffer_type_of, leaf_data
from dak_diff.engine.buffer import Buffer, unwrap
from dak_diff.engine.histogram_axes import bins_of, inner, moved
from dak_diff.engine.loaded import histogram_types
from dak_diff.errors import NoRuleError
from dak_diff.rules.primitive import Traced, raw
from dak_diff.rules.structure import broadcast_to, concatenate, index, reshape, scatter_add

__all__ = [
    "ActiveHistogram",
    "activate",
    "activated",
    "carries",
    "contents",
    "fill_active",
    "has_contents",
    "plain_histogram",
    "storage_name",
]


def storage_name(histogram: Any) -> str:
    """The class of its storage, as text."""
    return str(histogram.storage_type.__name__)


def has_contents(histogram: Any) -> bool:
    """Whether the bins of a histogram are sums of weights."""
    return storage_name(histogram) in ("Double", "Weight")


def contents(histogram: Any) -> tuple:
    """The leaves of a histogram: values, of weighted storages variances, too; flow bins included."""
    if isinstance(histogram, ActiveHistogram):
        return histogram.__dict__["leaves"]
    view = histogram.view(flow=True)
    if storage_name(histogram) == "Weight":
        return (np.asarray(view["value"]), np.asarray(view["variance"]))
    return (np.asarray(view),) if view.dtype.names is None else ()


def plain_histogram(histogram: Any) -> Any:
    """The histogram without derivatives, or itself."""
    return histogram.__dict__["primal"] if isinstance(histogram, ActiveHistogram) else histogram


def carries(value: Any) -> bool:
    """Whether a derivative hangs on a value."""
    if isinstance(value, ak.Array):
        return any(isinstance(leaf, Traced) for leaf, _ in leaf_data(value.layout))
    return isinstance(value, ActiveHistogram) or (isinstance(value, Buffer) and value.active)


class ActiveHistogram:
    """A histogram whose contents carry a derivative.

    Its ``__dict__`` holds ``primal``, the plain histogram, and ``leaves``.
    """

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        if name in _READABLE:
            return object.__getattribute__(self, name)
        if name in _OF_PRIMAL:
            return getattr(plain_histogram(self), name)
        return _refuse(name)

    def __repr__(self) -> str:
        return f"<histogram with a derivative: {plain_histogram(self)!r}>"

    def __str__(self) -> str:
        return repr(self)

    def view(self, flow: bool = False) -> Any:
        if storage_name(self) == "Weight":
            return _refuse("view")
        return self.values(flow)

    def values(self, flow: bool = False) -> Any:
        return _read(self, 0, flow)

    def variances(self, flow: bool = False) -> Any:
        if storage_name(self) == "Weight":
            return _read(self, 1, flow)
        return None if plain_histogram(self).variances() is None else self.values(flow)

    def to_numpy(self, flow: bool = False, **options: Any) -> Any:
        _, *edges = plain_histogram(self).to_numpy(flow, **options)
        return (self.values(flow), *edges)

    def sum(self, flow: bool = False) -> Any:
        if storage_name(self) == "Weight":
            return _refuse("sum")
        return self.values(flow).sum()

    def copy(self, *, deep: bool = True) -> Any:
        return copy.copy(self)

    def __copy__(self) -> Any:
        return activated(plain_histogram(self), self.__dict__["leaves"])

    def fill(
        self, *args: Any, weight: Any = None, sample: Any = None, threads: Any = None, **named: Any
    ) -> Any:
        if named:
            names = [axis.name for axis in plain_histogram(self).axes]
            args = (*args, *(named[name] for name in names[len(args) :]))
        return fill_active(self, args, weight, sample)

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


_READABLE = frozenset(name for name in vars(ActiveHistogram)) | {"__class__", "__dict__"}
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
_BASIC = {
    "__init__",
    "__init_subclass__",
    "__class_getitem__",
    "__new__",
    "__dir__",
    "__getattr__",
    "__hash__",
}


def _active_type(cls: Any) -> type:
    if cls not in _active_types:
        # Special methods are looked up on the class: those not known here must not reach the user's.
        special = {
            name
            for base in cls.__mro__[:-1]
            for name, what in vars(base).items()
            if name.startswith("__") and isinstance(what, types.FunctionType)
        }
        members: dict[str, Any] = {
            name: _refused(name) for name in special - vars(ActiveHistogram).keys() - _BASIC
        }
        members["__slots__"] = ()
        made = types.new_class(
            f"Active{cls.__name__}",
            (ActiveHistogram, cls),
            {"family": cls._family},
            lambda namespace: namespace.update(members),
        )
        _active_types[cls] = made
    return _active_types[cls]


def activated(primal: Any, leaves: tuple) -> Any:
    """A new histogram like ``primal`` with these contents."""
    cls: Any = type(primal)
    return _become_active(cls.__new__(cls), copy.copy(primal), leaves)


def activate(histogram: Any) -> Any:
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


def _read(histogram: Any, leaf: int, flow: bool) -> Any:
    value = contents(histogram)[leaf]
    value = value if flow else index(value, key=inner(plain_histogram(histogram)))
    return buffer_type_of(value)(value)


# --------------------------------------------------------------------------- arithmetic


def _merge(histogram: Any, other: Any, sign: float) -> Any:
    if isinstance(other, (int, float)) and other == 0:
        return histogram
    if not isinstance(other, histogram_types()):
        return _refuse("adding or subtracting numbers")
    old, theirs = plain_histogram(histogram), plain_histogram(other)
    axes = tuple(old.axes)
    primal = old + theirs if sign > 0 else old - theirs
    mine = (moved(leaf, axes, primal.axes) for leaf in contents(histogram))
    others = (moved(leaf, theirs.axes, primal.axes) for leaf in contents(other))
    leaves = tuple(a + b if sign > 0 else a - b for a, b in zip(mine, others, strict=True))
    histogram.__dict__.update(primal=primal, leaves=leaves)
    return histogram


def _factor(other: Any) -> Any:
    factor = unwrap(other)
    if isinstance(other, histogram_types()) or np.ndim(factor):
        return _refuse("scaling bin by bin")
    return factor


def _scale(histogram: Any, factor: Any, operate: Callable) -> Any:
    primal = operate(plain_histogram(histogram), raw(factor))
    values, *variances = contents(histogram)
    square = factor * factor
    leaves = (operate(values, factor), *(operate(v, square) for v in variances))
    histogram.__dict__.update(primal=primal, leaves=leaves)
    return histogram


# --------------------------------------------------------------------------- filling


def fill_active(histogram: Any, positions: tuple, weight: Any, sample: Any) -> Any:
    """``histogram.fill`` where something carries a derivative.

    Raises
    ------
    NoRuleError
        If positions or samples carry it, the storage holds no sums of weights, or bins moved on the way.
    """
    if any(map(carries, positions)):
        raise NoRuleError(
            "no derivative of a histogram by the positions of its entries: bin contents jump when an entry "
            "crosses an edge. Use dak_diff.soft_histogram, or dak_diff.stop_gradient(positions) if the "
            "derivative by the weights alone is meant."
        )
    if not has_contents(histogram) or sample is not None:
        raise NoRuleError(
            f"no derivative of a histogram with storage {storage_name(histogram)}"
            f"{' and samples' if sample is not None else ''}: use storage Double or Weight."
        )
    active = histogram if isinstance(histogram, ActiveHistogram) else activate(histogram)
    positions, weights = tuple(raw(_as_vector(p)) for p in positions), _as_vector(weight)
    primal = plain_histogram(active)
    axes = tuple(primal.axes)
    primal.fill(*positions, weight=raw(weights))
    leaves = tuple(moved(leaf, axes, primal.axes) for leaf in contents(active))
    keys, inside = bins_of(primal, positions)
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


def _added(leaf: Any, keys: np.ndarray, weights: Any) -> Any:
    """One after the other, as boost-histogram adds them: the value is the same bit for bit."""
    shape, size = np.shape(leaf), math.prod(np.shape(leaf))
    entries = concatenate(reshape(leaf, shape=(-1,)), weights)
    return reshape(
        scatter_add(entries, key=np.concatenate([np.arange(size), keys]), shape=(size,)), shape=shape
    )
