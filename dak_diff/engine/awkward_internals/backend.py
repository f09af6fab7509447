"""An Awkward backend over buffers: kernels, reducers and the NumPy-like."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from awkward._backends import dispatch as _dispatch
from awkward._backends.backend import Backend
from awkward._nplikes.array_like import maybe_materialize
from awkward._nplikes.array_module import ArrayModuleNumpyLike
from awkward._nplikes.dispatch import register_nplike
from awkward._nplikes.placeholder import PlaceholderArray
from awkward._nplikes.virtual import VirtualNDArray
from awkward.contents import NumpyArray
from awkward.index import Index

from dak_diff.engine.awkward_internals.recorded_backend import RecordedBackend
from dak_diff.engine.buffer import Buffer, plain
from dak_diff.engine.numpy_functions import NumpyFunctions
from dak_diff.errors import NoRuleError
from dak_diff.rules.primitive import Traced, raw
from dak_diff.rules.reducers import REDUCERS, Segments
from dak_diff.rules.structure import index, move_like

__all__ = [
    "BACKENDS",
    "DiffBackend",
    "DiffNplike",
    "base_backend",
    "incompatible",
    "layers_of",
    "make_backend",
    "maybe_materialize",
    "primal",
]

#: Names of the backends of Awkward that ours stands on.
BACKENDS = ("cuda", "cpu")


def primal(arg: Any) -> Any:
    """The plain array inside a buffer, whatever hangs on it; anything else as it is."""
    return raw(arg.value) if isinstance(arg, Buffer) else arg


class DiffKernel:
    """A kernel of the base on plain arrays; sorting carries derivatives along.

    Kernels move indexes; those that read floating-point data and yield positions may see
    the primal. Any other kernel that meets an active buffer would drop its derivative.
    """

    def __init__(self, base: Callable, key: tuple, base_backend: Backend):
        self._base, self.key, self._base_backend = base, key, base_backend

    def __call__(self, *args: Any) -> Any:
        args = maybe_materialize(*args)
        name = self.key[0]
        if name == "awkward_sort" and isinstance(args[1], Buffer) and args[1].active:
            return self._sort(*args)
        convert = primal if name == "awkward_argsort" else partial(plain, what=f"the kernel {name}")
        return self._base(*(convert(arg) for arg in args))

    def _sort(self, out: Buffer, data: Buffer, length: int, offsets: Buffer, *options: Any) -> Any:
        values = raw(data.value)
        order = self._base_backend.nplike.empty(values.shape[0], dtype=np.int64)
        argsort = self._base_backend["awkward_argsort", np.int64, values.dtype.type, offsets.dtype.type]
        error = argsort(order, values, length, primal(offsets), *options)
        bounds = primal(offsets)
        starts = Segments(bounds).spread(bounds[:-1])
        order[: starts.shape[0]] += starts
        out.value = index(data.value, key=order)
        return error


class DiffReducer:
    """A reducer of Awkward, evaluated by Awkward on plain arrays, differentiated by our rule."""

    def __init__(self, reducer: Any, base_backend: Backend):
        self._reducer, self._base_backend = reducer, base_backend
        self.name = reducer.name
        self.needs_position = reducer.needs_position
        self.preferred_dtype = reducer.preferred_dtype

    def highlevel_function(self) -> Callable:
        return self._reducer.highlevel_function()

    def axis_none_reducer(self) -> DiffReducer | None:
        reducer = self._reducer.axis_none_reducer()
        return None if reducer is None else DiffReducer(reducer, self._base_backend)

    def apply(
        self, array: NumpyArray, offsets: Index, starts: Index, shifts: Index | None, outlength: Any
    ) -> NumpyArray:
        base = self._base_backend
        indexes = [
            None if i is None else Index(plain(i.data, "offsets"), nplike=base.nplike)
            for i in (offsets, starts, shifts)
        ]
        segments = Segments(plain(offsets.data, "offsets"))

        def call(data: Any, *means: Any) -> Any:
            reducer = type(self._reducer)(*means) if means else self._reducer
            layout = NumpyArray(base.nplike.ascontiguousarray(data), backend=base)
            return reducer.apply(layout, *indexes, outlength).data

        name, args, params = self.name, [array.data], {}
        if hasattr(self._reducer, "_means"):
            name, args = "centered_sumofsquares", [array.data, self._reducer._means]
        if hasattr(self._reducer, "_n"):
            params["n"] = self._reducer._n
        plain(getattr(self._reducer, "_initial", None), f"the initial value of ak.{self.name}")
        values = [x.value if isinstance(x, Buffer) else x for x in maybe_materialize(*args)]
        if not any(isinstance(x, Traced) for x in values):
            out = call(*values)
        else:
            out = REDUCERS[name](*values, call=call, segments=segments, **params)
        return NumpyArray(array.backend.nplike.wrap(out), backend=array.backend)


class DiffNplike(ArrayModuleNumpyLike):
    """Awkward's NumPy-like over buffers; subclassed once for each base."""

    is_eager = True
    supports_structured_dtypes = False
    supports_virtual_arrays = True
    base: Any
    buffer_type: type[Buffer]

    def __init__(self) -> None:
        self._module = self.buffer_type.module

    @property
    def ndarray(self) -> type[Buffer]:
        return self.buffer_type

    @classmethod
    def is_own_array_type(cls, type_: type) -> bool:
        return issubclass(type_, cls.buffer_type)

    def wrap(self, value: Any) -> Buffer:
        return value if isinstance(value, Buffer) else self.buffer_type(value)

    def asarray(self, obj: Any, *, dtype: Any = None, copy: bool | None = None) -> Any:
        if isinstance(obj, PlaceholderArray):
            return obj
        if isinstance(obj, VirtualNDArray):
            return self._virtual(obj, dtype)
        if isinstance(obj, Traced):
            obj = self.buffer_type(obj)
        if isinstance(obj, Buffer) and not isinstance(obj, self.buffer_type):
            if obj.ndim:
                raise incompatible()
            obj = self.buffer_type(move_like(obj.value, self.buffer_type.module.base.ndarray))
        if isinstance(obj, Buffer):
            if dtype is not None and obj.dtype != np.dtype(dtype):
                return obj.astype(dtype)
            return obj.copy() if copy else obj
        return self.buffer_type(self.base.asarray(obj, dtype=dtype, copy=copy))

    def _virtual(self, obj: VirtualNDArray, dtype: Any) -> Any:
        if obj.is_materialized:
            return self.asarray(obj.materialize(), dtype=dtype)
        if obj.nplike is self and dtype in (None, obj.dtype):
            return obj
        return VirtualNDArray(
            self,
            obj._shape,
            obj._dtype if dtype is None else np.dtype(dtype),
            lambda: self.asarray(obj.materialize(), dtype=dtype),
            lambda: obj.shape,
            obj._buffer_key,
            __enable_caching__=obj.__enable_caching__,
        )

    def apply_ufunc(self, ufunc: Any, method: str, args: list, kwargs: dict | None = None) -> Any:
        if method != "__call__" or not args:
            raise NotImplementedError
        args = list(maybe_materialize(*args))

        def call(*values: Any, **options: Any) -> Any:
            return self.base.apply_ufunc(ufunc, "__call__", list(values), options)

        out = self._module.ufunc(ufunc, *args, call=call, **(kwargs or {}))
        return tuple(map(self.wrap, out)) if isinstance(out, tuple) else self.wrap(out)

    def is_c_contiguous(self, x: Any) -> bool:
        if isinstance(x, PlaceholderArray):
            return True
        (x,) = maybe_materialize(x)
        return self.base.is_c_contiguous(primal(x))

    def strides(self, x: Any) -> tuple:
        return self.base.strides(primal(x) if isinstance(x, Buffer) else x)

    def index_as_shape_item(self, x1: Any) -> Any:
        return self.base.index_as_shape_item(primal(x1))

    def derive_slice_for_length(self, slice_: slice, length: Any) -> tuple:
        bounds = slice(*(primal(x) for x in (slice_.start, slice_.stop, slice_.step)))
        return self.base.derive_slice_for_length(bounds, length)

    @property
    def ma(self) -> Any:
        raise NoRuleError(
            "no derivative rule for a NumPy masked array, which functions of NumPy get of an array that may "
            "lack values: call ak.fill_none or ak.drop_none before them, or use ufuncs, np.minimum and "
            "np.maximum for np.clip"
        )

    def memory_ptr(self, x: Any) -> int:
        return self.base.memory_ptr(plain(x, "a pointer to its memory"))

    def byteswap(self, x: Any) -> Any:
        return self.wrap(self.base.byteswap(plain(x, "a change of byte order")))

    def packbits(self, x: Any, **kwargs: Any) -> Any:
        return self.wrap(self.base.packbits(plain(x, "packing bits"), **kwargs))

    def unpackbits(self, x: Any, **kwargs: Any) -> Any:
        return self.wrap(self.base.unpackbits(plain(x, "unpacking bits"), **kwargs))


class DiffBackend(Backend):
    """An Awkward backend that differentiates; one class for each base."""

    base: Backend
    nplike_cls: type[DiffNplike]

    def __init__(self) -> None:
        self._nplike = self.nplike_cls.instance()

    @property
    def nplike(self) -> DiffNplike:
        return self._nplike

    def __getitem__(self, key: tuple) -> DiffKernel:
        return DiffKernel(self.base[key], key, self.base)

    def prepare_reducer(self, reducer: Any) -> DiffReducer:
        if isinstance(reducer, DiffReducer):
            return reducer
        return DiffReducer(self.base.prepare_reducer(reducer), self.base)

    def format_kernel_error(self, error: Any) -> str:
        return self.base.format_kernel_error(error)


def make_backend(base: Backend) -> DiffBackend:
    """The differentiating backend over ``base``, known to Awkward's dispatch."""
    if base.name not in BACKENDS:
        hint = (
            "map_partitions calls a function with them where no meta is given: meta=, of what it returns"
            if not base.nplike.known_data
            else "move them, ak.to_backend(x, 'cpu')"
        )
        raise TypeError(f"arrays of the {base.name} backend are not differentiated: {hint}")
    label = type(base).__name__.removesuffix("Backend")
    buffer_type: Any = type(f"{label}Buffer", (Buffer,), {"__slots__": ()})
    numbers.Real.register(buffer_type)  # overloads of behaviors ask for it: vector * number
    buffer_type.module = NumpyFunctions(base.nplike._module, buffer_type)
    Buffer.of_home[buffer_type.module.base.ndarray] = buffer_type
    nplike_cls = type(f"Diff{label}", (DiffNplike,), {"base": base.nplike, "buffer_type": buffer_type})
    register_nplike(nplike_cls)
    members = {"name": base.name, "base": base, "nplike_cls": nplike_cls}
    backend_cls: Any = type(f"Diff{label}Backend", (DiffBackend,), members)
    backend: DiffBackend = backend_cls.instance()

    def lookup(cls: type) -> Callable | None:
        return (lambda obj: backend) if issubclass(cls, buffer_type) else None

    # Not register_backend: it would also take the name of the base away from it.
    _dispatch.register_backend_lookup_factory(lookup)
    return backend


def incompatible() -> ValueError:
    """What Awkward raises where arrays of a device and of the host meet."""
    return ValueError(
        "cannot operate on arrays with incompatible backends. Use #ak.to_backend to coerce the arrays "
        "to the same backend"
    )


def base_backend(backend: Backend) -> Backend:
    """The backend that a differentiating backend wraps, or the backend itself."""
    return backend.base if isinstance(backend, DiffBackend) else backend


def layers_of(backend: Backend) -> list[Backend]:
    """A backend and those that it stands on: differentiating, recorded, NumPy's or CuPy's."""
    found = [backend]
    while isinstance(found[-1], (DiffBackend, RecordedBackend)):
        found.append(found[-1].base)
    return found
