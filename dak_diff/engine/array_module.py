"""NumPy's functions for buffers: the array module that Awkward's nplike calls.

A function that is not written here is called on the plain arrays when nothing active
goes in, and is refused with :class:`~dak_diff.errors.NoRuleError` otherwise. So the
list below is the list of what is differentiated, and nothing passes silently.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from dak_diff.errors import NoRuleError
from dak_diff.rules import structure
from dak_diff.rules.namespace import is_array, is_host, kept, owners
from dak_diff.rules.primitive import Traced, apply_ufunc, raw
from dak_diff.rules.reducers import REDUCERS, Segments

if TYPE_CHECKING:
    from dak_diff.engine.buffer import Buffer

__all__ = ["ArrayModule"]

#: Functions whose results are positions, counts or booleans: the primal alone decides.
_ZERO_BY_NATURE = frozenset(
    (
        *("argmax", "argmin", "argsort", "nonzero", "flatnonzero", "searchsorted", "digitize"),
        *("isclose", "allclose", "array_equal", "count_nonzero", "isreal", "iscomplex", "any", "all"),
        *("isneginf", "isposinf", "shape", "ndim", "size", "result_type", "can_cast"),
        *("array_str", "array_repr", "array2string", "around", "round", "fix"),
        *("zeros_like", "ones_like", "empty_like"),
    )
)


def _reducer(name: str) -> Callable:
    def method(
        self: ArrayModule,
        x: Any,
        axis: Any = None,
        *,
        keepdims: bool = False,
        out: Any = None,
        dtype: Any = None,
        **options: Any,
    ) -> Any:
        options = options if dtype is None else {**options, "dtype": dtype}
        return self._reduce(name, x, axis, keepdims, out, options)

    return method


class ArrayModule:
    """The functions of one base module (numpy, cupy), on buffers.

    Parameters
    ----------
    base : module
        Evaluates everything that has no derivative.
    """

    def __init__(self, base: Any, buffer_type: type[Buffer]):
        self.base = base
        self.ndarray = buffer_type
        self._wrap = buffer_type
        self._any_buffer: Any = buffer_type.__base__

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.base, name)
        standard = getattr(np, name, None)
        if isinstance(standard, np.ufunc):
            return lambda *args, out=None, **kwargs: self._ufunc_out(standard, out, args, kwargs)
        if not callable(function) or isinstance(function, type):
            return function
        return self._plainly(name, function)

    def refused(self, function: Callable) -> Callable:
        """A function outside NumPy's main namespace: for constants only."""
        return self._plainly(f"{function.__module__}.{function.__name__}", function)

    def _plainly(self, name: str, function: Callable) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            if name in _ZERO_BY_NATURE:
                args, kwargs = self._values(raw, args), self._values(raw, kwargs)
            else:
                args, kwargs = self._values(refuse, args), self._values(refuse, kwargs)
            return self._wrapped(function(*args, **kwargs))

        def refuse(value: Any) -> Any:
            if isinstance(value, Traced):
                raise NoRuleError(
                    f"no derivative rule for {full_name}. Write it with operations of the documented "
                    "map (docs/reference/operations.md), or keep what depends on wrt out of it."
                )
            return value

        full_name = name if "." in name else f"{self.base.__name__}.{name}"
        call.__name__ = name
        return call

    def _values(self, convert: Callable, obj: Any) -> Any:
        """Buffers inside ``obj`` replaced by their converted values."""
        if isinstance(obj, self._any_buffer):
            return convert(obj.value)
        if type(obj) in (list, tuple):
            return type(obj)(self._values(convert, x) for x in obj)
        if type(obj) is dict:
            return {k: self._values(convert, x) for k, x in obj.items()}
        return obj

    def _wrapped(self, out: Any) -> Any:
        if type(out) in (list, tuple):
            return type(out)(self._wrapped(x) for x in out)
        if hasattr(out, "dtype") and hasattr(out, "shape"):
            return self._wrap.of(out)
        return out

    def _value(self, x: Any) -> Any:
        """The value of one argument; lists become arrays of the base."""
        if isinstance(x, self._any_buffer):
            return x.value
        return self.base.asarray(x) if isinstance(x, (list, tuple)) else kept(x)

    def _here(self, x: Any) -> Any:
        """The value of one argument that must be an array of the base: numbers may be on the host."""
        value = self._value(x)
        return structure.move_like(value, self.base.ndarray) if self.base is not np else value

    # ---------------------------------------------------------------- ufuncs

    def ufunc(self, ufunc: np.ufunc, *args: Any, call: Callable | None = None, **kwargs: Any) -> Any:
        if ufunc is np.matmul and call is None:
            return self.matmul(*args, **kwargs)
        values = [self._value(x) for x in args]
        if not any(isinstance(x, Traced) for x in values):
            kwargs = self._values(lambda x: x, kwargs)
            return self._wrapped((call or ufunc)(*values, **kwargs))
        if kwargs:
            raise NoRuleError(
                f"no derivative rule for numpy.{ufunc.__name__} with {', '.join(kwargs)}=. "
                "Leave it out; use np.where for a masked operation."
            )
        return self._wrapped_any(apply_ufunc(ufunc, *values, call=call))

    def _wrapped_any(self, out: Any) -> Any:
        return tuple(map(self._wrap.of, out)) if isinstance(out, tuple) else self._wrap.of(out)

    def _ufunc_out(self, ufunc: np.ufunc, out: Any, args: tuple, kwargs: dict) -> Any:
        return self.ufunc(ufunc, *args, **(kwargs if out is None else {**kwargs, "out": out}))

    def ufunc_method(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        reducer = {np.add: self.sum, np.multiply: self.prod, np.maximum: self.max, np.minimum: self.min}
        if method == "reduce" and ufunc in reducer and not set(kwargs) - {"axis", "keepdims"}:
            return reducer[ufunc](inputs[0], **{"axis": 0, **kwargs})
        return self._plainly(f"{ufunc.__name__}.{method}", getattr(ufunc, method))(*inputs, **kwargs)

    # ---------------------------------------------------------------- moving values

    def asarray(self, x: Any, dtype: Any = None) -> Any:
        value = self._here(x) if isinstance(x, self._any_buffer) else self._value(x)
        if isinstance(value, Traced):
            return self._wrap(
                value if dtype in (None, value.dtype) else structure.astype(value, dtype=np.dtype(dtype))
            )
        return self._wrap(self.base.asarray(value, dtype=dtype))

    def array(self, x: Any, dtype: Any = None, copy: bool = True) -> Any:
        value = self._value(x)
        if isinstance(value, Traced):
            return self.asarray(x, dtype=dtype)
        return self._wrap(self.base.array(value, dtype=dtype, copy=copy))

    def ascontiguousarray(self, x: Any) -> Any:
        value = self._value(x)
        if isinstance(value, Traced):
            return self._wrap(value if raw(value).flags.c_contiguous else structure.contiguous(value))
        return self._wrap(self.base.ascontiguousarray(value))

    def copy(self, x: Any, order: str = "K") -> Any:
        return x.copy()

    def reshape(self, x: Any, shape: Any, copy: bool | None = None) -> Any:
        return self._wrap(structure.reshape(self._here(x), shape=shape))

    def ravel(self, x: Any) -> Any:
        return self.reshape(x, (-1,))

    def transpose(self, x: Any, axes: Any = None) -> Any:
        value = self._value(x)
        axes = tuple(reversed(range(np.ndim(value)))) if axes is None else tuple(axes)
        return self._wrap(structure.transpose(value, axes=axes))

    def broadcast_to(self, x: Any, shape: Any) -> Any:
        return self._wrap(structure.broadcast_to(self._here(x), shape=tuple(shape)))

    def broadcast_arrays(self, *arrays: Any) -> list:
        shape = np.broadcast_shapes(*(np.shape(self._value(x)) for x in arrays))
        return [x if np.shape(self._value(x)) == shape else self.broadcast_to(x, shape) for x in arrays]

    def expand_dims(self, x: Any, axis: int) -> Any:
        return (
            self._wrap(self.base.expand_dims(x.value, axis))
            if not x.active
            else self.reshape(x, np.expand_dims(np.empty(x.shape, dtype=bool), axis).shape)
        )

    def squeeze(self, x: Any, axis: Any = None) -> Any:
        return self.reshape(x, np.squeeze(np.empty(x.shape, dtype=bool), axis).shape)

    def flip(self, x: Any, axis: Any = None) -> Any:
        flipped = range(x.ndim) if axis is None else {a % x.ndim for a in np.atleast_1d(axis)}
        return x[tuple(slice(None, None, -1) if a in flipped else slice(None) for a in range(x.ndim))]

    def concatenate(
        self, arrays: Any, axis: int | None = 0, casting: str = "same_kind", dtype: Any = None
    ) -> Any:
        if axis is None:
            arrays, axis = [self.ravel(x) for x in arrays], 0
        values = [self._value(x) for x in arrays]
        joined = self._wrap(structure.concatenate(*values, axis=axis))
        return joined if dtype is None else joined.astype(dtype)

    concat = concatenate

    def stack(self, arrays: Any, axis: int = 0) -> Any:
        arrays = [self.asarray(x) for x in arrays]
        axis %= arrays[0].ndim + 1
        rows = [self.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:])) for x in arrays]
        return self.concatenate(rows, axis=axis)

    def where(self, condition: Any, *choices: Any) -> Any:
        if not choices:
            return self.nonzero(condition)
        values = [self._value(x) for x in choices]
        return self._wrap.of(structure.where(raw(self._value(condition)), *values))

    def repeat(self, x: Any, repeats: Any, axis: int | None = None) -> Any:
        value = self._value(x)
        if not isinstance(value, Traced):
            repeats = self._value(repeats)
            if is_host(self.base) or axis is not None or not is_array(repeats):
                return self._wrap(self.base.repeat(value, repeats, axis=axis))
            return self._wrap(value.reshape(-1)[owners(repeats)])
        flat = self.ravel(x) if axis is None else x
        axis = (axis or 0) % flat.ndim
        counts = self.base.broadcast_to(self.base.asarray(raw(self._value(repeats))), (flat.shape[axis],))
        positions = owners(counts)
        return flat[(slice(None),) * axis + (positions,)]

    def take(self, x: Any, indices: Any, axis: int | None = None) -> Any:
        flat = self.ravel(x) if axis is None else self.asarray(x)
        return flat[(slice(None),) * ((axis or 0) % flat.ndim) + (self._value(indices),)]

    def sort(self, x: Any, axis: int = -1, kind: str | None = None) -> Any:
        value = self._value(x)
        if not isinstance(value, Traced):
            return self._wrap(self.base.sort(value, axis=axis, kind=kind))
        order = self.base.argsort(raw(value), axis=axis, kind=kind)
        if value.ndim == 1:
            return self._wrap.of(structure.index(value, key=order))
        shape = np.shape(value)
        grid = [
            self.base.arange(n).reshape([-1 if a == b else 1 for b in range(len(shape))])
            for a, n in enumerate(shape)
        ]
        grid[axis] = order
        return self._wrap.of(structure.index(value, key=tuple(grid)))

    def full(self, shape: Any, fill_value: Any, dtype: Any = None) -> Any:
        value = self._value(fill_value)
        if not isinstance(value, Traced):
            return self._wrap(self.base.full(shape, value, dtype=dtype))
        return self.broadcast_to(self.asarray(fill_value, dtype=dtype), tuple(np.atleast_1d(shape)))

    def full_like(self, x: Any, fill_value: Any, dtype: Any = None) -> Any:
        return self.full(
            np.shape(self._value(x)), fill_value, dtype=self._value(x).dtype if dtype is None else dtype
        )

    # ---------------------------------------------------------------- values

    def nan_to_num(
        self, x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None
    ) -> Any:
        values = [self._value(v) for v in (x, nan, posinf, neginf)]
        if not any(isinstance(v, Traced) for v in values):
            value, nan, posinf, neginf = values
            return self._wrap(self.base.nan_to_num(value, copy=copy, nan=nan, posinf=posinf, neginf=neginf))
        return self._wrap.of(structure.nan_to_num(*values))

    def real(self, x: Any) -> Any:
        return self._wrap.of(structure.real(self._value(x)))

    def imag(self, x: Any) -> Any:
        value = self._value(x)
        if isinstance(value, Traced) and value.dtype.kind != "c":
            value = raw(value)
        return self._wrap.of(structure.imag(value))

    def angle(self, x: Any, deg: bool = False) -> Any:
        if not (isinstance(x, self._wrap) and x.active):
            return self._wrap.of(self.base.angle(self._value(x), deg))
        angle = np.arctan2(self.imag(x), self.real(x))
        return np.rad2deg(angle) if deg else angle

    def clip(self, x: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
        a_min, a_max = a_min if min is None else min, a_max if max is None else max
        x = x if a_min is None else np.maximum(x, a_min)
        return x if a_max is None else np.minimum(x, a_max)

    # ---------------------------------------------------------------- reductions of rectilinear arrays

    sum, prod, min, max = map(_reducer, ("sum", "prod", "min", "max"))
    amin, amax = min, max

    def _reduce(self, name: str, x: Any, axis: Any, keepdims: bool, out: Any, options: dict) -> Any:
        value = self._value(x)
        function = getattr(self.base, name)
        if out is not None or not isinstance(value, Traced):
            return self._plainly(name, function)(x, axis=axis, keepdims=keepdims, out=out, **options)
        if unknown := options.keys() - {"dtype"}:
            raise NoRuleError(
                f"no derivative rule for numpy.{name} with {', '.join(sorted(unknown))}=. "
                "Use np.where before it, or np.maximum and np.minimum after it."
            )
        shape = np.shape(value)
        reduced = range(len(shape)) if axis is None else [a % len(shape) for a in np.atleast_1d(axis)]
        kept = [a for a in range(len(shape)) if a not in reduced]
        rows = math.prod(shape[a] for a in kept)
        moved = structure.transpose(value, axes=(*kept, *reduced))
        flat = structure.reshape(moved, shape=(-1,))
        length = math.prod(shape) // max(rows, 1)
        offsets = self.base.arange(rows + 1) * length

        def call(_: Any) -> Any:
            # NumPy's order of summation depends on the shape: reduce what the user reduces.
            return function(raw(value), axis=axis, **options).reshape(-1)

        out = REDUCERS[name](flat, call=call, segments=Segments(offsets))
        final = (
            [1 if a in reduced else n for a, n in enumerate(shape)] if keepdims else [shape[a] for a in kept]
        )
        return self._wrap.of(structure.reshape(out, shape=tuple(final)))

    def cumsum(self, x: Any, axis: int | None = None, *, out: Any = None) -> Any:
        if not (isinstance(x, self._wrap) and x.active):
            return self._plainly("cumsum", self.base.cumsum)(x, axis=axis, out=out)
        flat = self.ravel(x) if axis is None else x
        return self._wrap(structure.cumsum(self._value(flat), axis=axis or 0))

    def diff(self, x: Any, n: int = 1, axis: int = -1) -> Any:
        lead = (slice(None),) * (axis % x.ndim)
        for _ in range(n):
            x = x[(*lead, slice(1, None))] - x[(*lead, slice(None, -1))]
        return x
