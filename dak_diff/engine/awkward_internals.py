"""The only file that knows Awkward's private API (tested with awkward 2.14).

For each base (NumPy, CuPy) there is one more Awkward backend, whose buffers are
:class:`~dak_diff.engine.buffer.Buffer`. It carries the *name* of its base, so that code
which asks ``ak.backend(x)`` takes the path that it takes without derivatives.

Some functions of Awkward are replaced when the backend is first used, because Awkward has
no hook for them; :func:`_patch_awkward` says which and why.
"""

from __future__ import annotations

import math
import numbers
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any

import numpy as np
from awkward import _broadcasting, _layout, highlevel
from awkward._backends import dispatch as _dispatch
from awkward._backends.backend import Backend
from awkward._backends.numpy import NumpyBackend
from awkward._connect import numpy as _connect_numpy
from awkward._nplikes.array_like import maybe_materialize
from awkward._nplikes.array_module import ArrayModuleNumpyLike
from awkward._nplikes.cupy import Cupy
from awkward._nplikes.dispatch import register_nplike
from awkward._nplikes.placeholder import PlaceholderArray
from awkward._nplikes.virtual import VirtualNDArray
from awkward.contents import (
    BitMaskedArray,
    ByteMaskedArray,
    Content,
    EmptyArray,
    IndexedArray,
    IndexedOptionArray,
    ListArray,
    ListOffsetArray,
    NumpyArray,
    RecordArray,
    RegularArray,
    UnionArray,
    UnmaskedArray,
)
from awkward.index import Index
from awkward.operations import ak_to_layout, ak_to_numpy
from awkward.record import Record

from dak_diff.engine.buffer import Buffer, lost, plain
from dak_diff.engine.numpy_functions import NumpyFunctions
from dak_diff.errors import NoRuleError
from dak_diff.rules.namespace import kept, namespace
from dak_diff.rules.primitive import Traced, raw
from dak_diff.rules.reducers import REDUCERS, Segments
from dak_diff.rules.structure import index, move_like

__all__ = [
    "BACKENDS",
    "backend_named",
    "buffer_type_of",
    "diff_backend",
    "indexes",
    "indexes_elements",
    "is_absent",
    "leaves",
    "map_layout",
    "materialized",
    "maybe_materialize",
    "on_base",
    "pack",
    "positions",
    "recording",
    "refuse_categorical_numbers",
    "refuse_in_arrays",
    "synchronize",
    "transferred",
]


#: Names of the backends of Awkward that ours stands on.
BACKENDS = ("cuda", "cpu")

# --------------------------------------------------------------------------- kernels


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
        convert = _primal if name == "awkward_argsort" else partial(plain, what=f"the kernel {name}")
        return self._base(*(convert(arg) for arg in args))

    def _sort(self, out: Buffer, data: Buffer, length: int, offsets: Buffer, *options: Any) -> Any:
        values = raw(data.value)
        order = self._base_backend.nplike.empty(len(values), dtype=np.int64)
        argsort = self._base_backend["awkward_argsort", np.int64, values.dtype.type, offsets.dtype.type]
        error = argsort(order, values, length, _primal(offsets), *options)
        bounds = _primal(offsets)
        starts = Segments(bounds).spread(bounds[:-1])
        order[: len(starts)] += starts
        out.value = index(data.value, key=order)
        return error


def _primal(arg: Any) -> Any:
    return raw(arg.value) if isinstance(arg, Buffer) else arg


# --------------------------------------------------------------------------- reducers


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


# --------------------------------------------------------------------------- nplike and backend


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
        return self.base.is_c_contiguous(_primal(x))

    def strides(self, x: Any) -> tuple:
        return self.base.strides(_primal(x) if isinstance(x, Buffer) else x)

    @property
    def ma(self) -> Any:
        raise lost("a NumPy masked array")

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


_lock = threading.RLock()
_refused: dict[type, str] = {}


def refuse_in_arrays(cls: type, reason: str) -> None:
    """Let Awkward's functions raise where they meet what they would take for a constant."""
    _refused[cls] = reason


_backends: dict[type[Backend], DiffBackend] = {}


def diff_backend(base: Backend | None = None) -> DiffBackend:
    """The differentiating backend over ``base`` (default NumPy), made at first use under a lock."""
    base = NumpyBackend.instance() if base is None else base
    found = _backends.get(type(base))
    if found is not None:
        return found
    with _lock:
        if type(base) not in _backends:
            _patch_awkward()
            _backends[type(base)] = _make_backend(base)
        return _backends[type(base)]


def _make_backend(base: Backend) -> DiffBackend:
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


def buffer_type_of(value: Any) -> type[Buffer]:
    """The buffer class for a value, by the array library of its innermost primal."""
    return diff_backend(
        _dispatch.backend_of_obj(raw(value), default=NumpyBackend.instance())
    ).nplike.buffer_type


def _patch_awkward() -> None:
    """Replace what has no hook, once.

    ``common_backend``: ours absorbs the backend it wraps, so that ``x * numpy_array`` works.
    ``to_layout``: a number that carries a derivative stays what it is instead of being taken
    apart by ``.item()``; other packages' constants are taken for their values.
    ``to_numpy``: what carries no derivative, a mask, becomes an array of NumPy, which other packages know.
    ``broadcast_and_apply``: constants beside such a number come to our backend.
    ``Content.to_backend``: an active layout is on the backend that it wraps already; to another it is moved.
    ``custom_reduce``: arrays of a device travel between processes through the host.
    ``ListOffsetArray``, ``IndexedOptionArray``: places upstream make an index and forget the backend.
    ``frombuffer``: ``ak.from_buffers`` of what carries a derivative says that it would be lost.
    ``RecordArray``: ``ak.Array({"x": x, "constant": numpy_array})`` brings its columns together.
    """
    if getattr(_dispatch.common_backend, "knows_dak_diff", False):
        return
    upstream = _dispatch.common_backend

    def common_backend(backends: Collection[Backend]) -> Backend:
        ours = _shared_backend(backends)
        if ours is None:
            return upstream(backends)
        others = [b for b in backends if b is not ours.base and not isinstance(b, DiffBackend)]
        return upstream([ours, *others])

    common_backend.knows_dak_diff = True  # type: ignore[attr-defined]
    for module in (_dispatch, _layout, _connect_numpy):
        module.common_backend = common_backend
    ak_to_layout._impl = _patched_to_layout(ak_to_layout._impl)
    ak_to_numpy._impl = _patched_to_numpy(ak_to_numpy._impl)
    _broadcasting.broadcast_and_apply = _patched_broadcast(_broadcasting.broadcast_and_apply)
    ListOffsetArray.__init__ = _patched_index_init(ListOffsetArray.__init__, "offsets")
    IndexedOptionArray.__init__ = _patched_index_init(IndexedOptionArray.__init__, "index")
    ArrayModuleNumpyLike.frombuffer = _patched_frombuffer(ArrayModuleNumpyLike.frombuffer)
    RecordArray.__init__ = _patched_record_init(RecordArray.__init__)
    Content.to_backend = _patched_to_backend(Content.to_backend)
    highlevel.custom_reduce = _patched_reduce(highlevel.custom_reduce)


_recording = threading.local()


@contextmanager
def recording() -> Iterator[None]:
    """While a tape is written: what it keeps of arrays of NumPy must not be written to afterwards."""
    before, _recording.on = getattr(_recording, "on", False), True
    try:
        yield
    finally:
        _recording.on = before


def _patched_to_layout(upstream: Callable) -> Callable:
    @wraps(upstream)
    def to_layout(
        obj: Any, allow_record: Any, allow_unknown: Any, none_policy: Any, regulararray: Any,
        use_from_iter: Any, primitive_policy: Any, string_policy: Any,
    ) -> Any:  # fmt: skip
        if type(obj) in _refused:
            raise TypeError(_refused[type(obj)])
        if isinstance(obj, np.ndarray) and getattr(_recording, "on", False):
            obj = kept(obj)
        if isinstance(obj, (list, tuple)) and any(isinstance(x, Buffer) and x.ndim == 0 for x in obj):
            obj = _as_vector(obj)
        if not isinstance(obj, Buffer):
            return upstream(
                obj, allow_record, allow_unknown, none_policy, regulararray,
                use_from_iter, primitive_policy, string_policy,
            )  # fmt: skip
        if obj.ndim == 0:
            if primitive_policy == "error":
                raise TypeError("Encountered a scalar, but scalar conversion/promotion is disabled")
            if primitive_policy == "pass-through":
                return obj
            obj = obj.module.broadcast_to(obj, (1,))
        layout = NumpyArray(obj, backend=_dispatch.backend_of_obj(obj))
        return layout.to_RegularArray() if regulararray else layout

    return to_layout


def _patched_to_numpy(upstream: Callable) -> Callable:
    @wraps(upstream)
    def to_numpy(array: Any, allow_missing: bool) -> Any:
        layout = array.layout if isinstance(array, highlevel.Array) else array
        backend = getattr(layout, "backend", None)
        if isinstance(backend, DiffBackend) and not any(
            isinstance(value, Traced) for value, _ in leaf_data(layout)
        ):
            array = map_layout(layout, backend.base, _primal, lambda leaf: _primal(leaf.data))
        return upstream(array, allow_missing)

    return to_numpy


def _as_vector(numbers: Collection[Any]) -> Any:
    """``[ak.sum(x), 0.5]``: numbers some of which carry a derivative, as one array."""
    if any(np.ndim(x) for x in numbers):
        return numbers
    modules = [x.module for x in numbers if isinstance(x, Buffer)]
    vector = next((m for m in modules if m.base is not np), modules[0]).stack(numbers)
    # As Awkward has it of a list of numbers.
    return vector.astype(np.float64) if vector.dtype.kind == "f" else vector


def _patched_broadcast(upstream: Callable) -> Callable:
    @wraps(upstream)
    def broadcast_and_apply(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        backend = _shared_backend([_dispatch.backend_of_obj(x, default=None) for x in inputs])
        if backend is not None:
            inputs = [_beside(x, backend) for x in inputs]
        return upstream(inputs, *args, **kwargs)

    return broadcast_and_apply


def _shared_backend(backends: Collection[Any]) -> DiffBackend | None:
    """Ours among several: over the device if there is one; numbers beside its arrays are on the host."""
    ours = [b for b in backends if isinstance(b, DiffBackend)]
    if len(ours) == len(backends) == 1 or not ours:
        return ours[0] if ours else None
    host = NumpyBackend.instance()
    bases = (base_backend(b) for b in backends if b is not None and b.nplike.known_data)
    return diff_backend(next((b for b in bases if b is not host), host))


def _beside(x: Any, backend: DiffBackend) -> Any:
    """An argument beside active ones; a number keeps its weak type."""
    if isinstance(x, Content) and x.backend is backend.base:
        return x.to_backend(backend)
    if isinstance(x, Buffer) and not x.ndim and not isinstance(x, backend.nplike.buffer_type):
        return backend.nplike.buffer_type(x.value)
    return x


def incompatible() -> ValueError:
    """What Awkward raises where arrays of a device and of the host meet."""
    return ValueError(
        "cannot operate on arrays with incompatible backends. Use #ak.to_backend to coerce the arrays "
        "to the same backend"
    )


def _patched_to_backend(upstream: Callable) -> Callable:
    @wraps(upstream)
    def to_backend(self: Content, backend: Any) -> Content:
        own, target = self.backend, _dispatch.regularize_backend(backend)
        if isinstance(target, DiffBackend) and own is target.base and not self._is_all_materialized:
            asarray = target.nplike.asarray
            return map_layout(self, target, asarray, lambda leaf: asarray(leaf.data))
        unmoved = not target.nplike.known_data or target is own or target.name == "jax"
        if not isinstance(own, DiffBackend) or unmoved:
            return upstream(self, target)
        if isinstance(target, DiffBackend) and not (isinstance(self, NumpyArray) and self.length == 1):
            raise incompatible()
        # A single number, which Awkward made an array: ak.fill_none(x, parameter).
        return transferred(self, base_backend(target))

    return to_backend


def _patched_reduce(upstream: Callable) -> Callable:
    @wraps(upstream)
    def custom_reduce(obj: Any, protocol: int) -> Any:
        backend = obj.layout.backend if isinstance(obj, highlevel.Array) else obj.layout.array.backend
        if not isinstance(backend.nplike, Cupy):
            return upstream(obj, protocol)
        return (_arrived, (on_base(obj, NumpyBackend.instance()), type(backend)))

    return custom_reduce


def _arrived(array: Any, backend: type[Backend]) -> Any:
    """An array back on the device that it comes from; on the host, where a process has none."""
    try:
        with _lock:
            target = backend.instance()
        return on_base(array, target)
    except (ImportError, RuntimeError):
        return array


def on_base(array: Any, target: Backend) -> Any:
    """An array or record of the high level on another base."""
    layout = array.layout
    if isinstance(layout, Record):
        layout = Record(transferred(layout.array, target), layout.at)
    else:
        layout = transferred(layout, target)
    return type(array)(layout, behavior=array.behavior, attrs=array._attrs)


def backend_named(name: str) -> Backend:
    """Awkward's backend of a name: under a lock, for threads that come at once would make several.

    Raises
    ------
    ImportError
        If its array library is not installed.
    """
    with _lock:
        _patch_awkward()
        return _dispatch.regularize_backend(name)


def synchronize() -> None:
    """Raise what kernels of a device have found: out there Awkward's errors are silent until asked for."""
    if not hasattr(Cupy, "_instance"):
        return
    from awkward._connect import cuda

    if not cuda.cuda_streamptr_to_contexts:
        # No kernel has run: CuPy may be installed where no device is.
        return
    stream = cuda.import_cupy().cuda.get_current_stream()
    if cuda.cuda_streamptr_to_contexts.get(stream.ptr, (None, ()))[1]:
        cuda.synchronize_cuda(stream)


def _patched_index_init(upstream: Callable, name: str) -> Callable:
    @wraps(upstream)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        index = args[0] if args else kwargs[name]
        content = args[1] if len(args) > 1 else kwargs["content"]
        backend = getattr(content, "_backend", None)
        if index.nplike is getattr(backend, "nplike", None):
            # All arrays of the process come by here.
            upstream(self, *args, **kwargs)
            return
        given = dict(zip((name, "content"), args, strict=False)) | kwargs
        if isinstance(backend, DiffBackend) and index.nplike is not backend.nplike:
            given[name] = index.to_nplike(backend.nplike)
        elif isinstance(index.nplike, DiffNplike) and not isinstance(backend, (DiffBackend, type(None))):
            given["content"] = content.to_backend(diff_backend(backend))
        upstream(self, **given)

    return init


def _patched_frombuffer(upstream: Callable) -> Callable:
    @wraps(upstream)
    def frombuffer(self: Any, buffer: Any, **kwargs: Any) -> Any:
        return upstream(self, plain(buffer, "ak.from_buffers"), **kwargs)

    return frombuffer


def _patched_record_init(upstream: Callable) -> Callable:
    @wraps(upstream)
    def init(self: Any, contents: Any, fields: Any, *args: Any, **kwargs: Any) -> None:
        contents = list(contents) if isinstance(contents, Iterable) else contents
        ours = [b for b in (getattr(c, "backend", None) for c in contents) if isinstance(b, DiffBackend)]
        if ours and len(ours) < len(contents):
            contents = [c.to_backend(ours[0]) if c.backend is ours[0].base else c for c in contents]
        upstream(self, contents, fields, *args, **kwargs)

    return init


# --------------------------------------------------------------------------- layouts


def is_absent(data: Any) -> bool:
    """Whether a buffer was projected away: nothing can be read from it, nothing depends on it."""
    return isinstance(data, PlaceholderArray)


def materialized(layout: Content) -> Content:
    """The layout with what is virtual read; what was projected away stays so."""
    return layout.materialize(VirtualNDArray)


def map_layout(
    layout: Content,
    backend: Backend,
    on_index: Callable[[Any], Any],
    on_leaf: Callable[[NumpyArray], Any],
) -> Content:
    """The same layout with every buffer replaced; leaves are visited depth first.

    Buffers that were projected away (placeholders) or are still virtual go through the
    same two functions, which pass them by.
    """
    recurse = partial(map_layout, backend=backend, on_index=on_index, on_leaf=on_leaf)
    parameters = layout._parameters

    def as_index(i: Index) -> Index:
        return Index(on_index(i.data), metadata=i._metadata, nplike=backend.nplike)

    if isinstance(layout, NumpyArray):
        return NumpyArray(on_leaf(layout), parameters=parameters, backend=backend)
    if isinstance(layout, EmptyArray):
        return EmptyArray(backend=backend)
    if isinstance(layout, ListOffsetArray):
        return ListOffsetArray(as_index(layout.offsets), recurse(layout.content), parameters=parameters)
    if isinstance(layout, ListArray):
        starts, stops = as_index(layout.starts), as_index(layout.stops)
        return ListArray(starts, stops, recurse(layout.content), parameters=parameters)
    if isinstance(layout, RegularArray):
        return RegularArray(recurse(layout.content), layout.size, layout.length, parameters=parameters)
    if isinstance(layout, RecordArray):
        return RecordArray(
            [recurse(content) for content in layout.contents],
            layout._fields,
            length=layout.length,
            parameters=parameters,
            backend=backend,
        )
    if isinstance(layout, (IndexedArray, IndexedOptionArray)):
        return type(layout)(as_index(layout.index), recurse(layout.content), parameters=parameters)
    if isinstance(layout, ByteMaskedArray):
        mask = as_index(layout.mask)
        return ByteMaskedArray(mask, recurse(layout.content), layout.valid_when, parameters=parameters)
    if isinstance(layout, BitMaskedArray):
        return recurse(layout.to_ByteMaskedArray())
    if isinstance(layout, UnmaskedArray):
        return UnmaskedArray(recurse(layout.content), parameters=parameters)
    if isinstance(layout, UnionArray):
        tags, indexes = as_index(layout.tags), as_index(layout.index)
        return UnionArray(tags, indexes, [recurse(c) for c in layout.contents], parameters=parameters)
    raise TypeError(f"unknown layout class {type(layout).__name__}")


def transferred(layout: Content, target: Backend) -> Content:
    """The same layout on another base; what is active stays so, what is absent or virtual is not read."""
    if base_backend(layout.backend) is target:
        return layout
    active = isinstance(layout.backend, DiffBackend)
    to = target.nplike.ndarray

    def on_data(data: Any) -> Any:
        if is_absent(data):
            return data
        if isinstance(data, VirtualNDArray):
            if not data.is_materialized:
                return VirtualNDArray(
                    target.nplike,
                    data._shape,
                    data._dtype,
                    lambda: on_data(data.materialize()),
                    lambda: data.shape,
                    data._buffer_key,
                )
            data = data.materialize()
        return move_like(data.value if isinstance(data, Buffer) else data, to)

    backend = diff_backend(target) if active else target
    asarray = backend.nplike.asarray
    return map_layout(
        layout, backend, lambda i: asarray(on_data(i)), lambda leaf: asarray(on_data(leaf.data))
    )


def leaves(layout: Content) -> list[NumpyArray]:
    """The leaves (float buffers and all others that hold data), depth first."""
    found: list[NumpyArray] = []

    def on_leaf(leaf: NumpyArray) -> Any:
        found.append(leaf)
        return leaf.data

    map_layout(layout, layout.backend, lambda data: data, on_leaf)
    return found


def pack(layout: Content) -> Content:
    """A canonical layout of the same type: two arrays of one type pack to matching leaves.

    Every element of a packed leaf is reachable exactly once: a buffer that is referenced
    twice (``x[[0, 0, 1]]``) could not hold two tangents.
    """
    nplike = layout.backend.nplike
    parameters = layout._parameters

    def to_index(data: Any) -> Index:
        return Index(nplike.asarray(data), nplike=nplike)

    if isinstance(layout, EmptyArray) or _is_projected_away(layout):
        return layout
    if isinstance(layout, NumpyArray):
        return pack(layout.to_RegularArray()) if layout.data.ndim > 1 else layout.to_contiguous()
    if isinstance(layout, (ListOffsetArray, ListArray)):
        layout = layout.to_ListOffsetArray64(True)
        content = layout.content[: int(_primal(layout.offsets.data[-1]))]
        return ListOffsetArray(layout.offsets, pack(content), parameters=parameters)
    if isinstance(layout, RegularArray):
        content = layout.content[: layout.size * layout.length]
        return RegularArray(pack(content), layout.size, layout.length, parameters=parameters)
    if isinstance(layout, RecordArray):
        contents = [pack(c[: layout.length]) for c in layout.contents]
        return RecordArray(
            contents, layout._fields, length=layout.length, parameters=parameters, backend=layout.backend
        )
    if isinstance(layout, IndexedArray):
        if layout.parameter("__array__") == "categorical":
            return IndexedArray(layout.index, pack(layout.content), parameters=parameters)
        return pack(layout.project())
    if layout.is_option:
        missing = plain(layout.mask_as_bool(valid_when=False), "a mask")
        xp = namespace(missing)
        packed = xp.where(missing, -1, (~missing).cumsum() - 1).astype(np.int64)
        return IndexedOptionArray(to_index(packed), pack(layout.project()), parameters=parameters)
    if isinstance(layout, UnionArray):
        tags, positions = plain(layout.tags.data, "tags"), plain(layout.index.data, "an index")
        xp = namespace(tags)
        contents, compact = [], xp.empty(len(tags), dtype=np.int64)
        for tag, content in enumerate(layout.contents):
            chosen = tags == tag
            contents.append(pack(content._carry(to_index(positions[: len(tags)][chosen]), False)))
            compact[chosen] = xp.arange(int(chosen.sum()))
        return UnionArray(layout.tags, to_index(compact), contents, parameters=parameters)
    raise TypeError(f"unknown layout class {type(layout).__name__}")


def refuse_categorical_numbers(layout: Content) -> None:
    """Entries of one category share one number: there is no derivative by one of them alone."""
    if isinstance(layout, (RecordArray, UnionArray)):
        for content in layout.contents:
            refuse_categorical_numbers(content)
    elif layout.is_indexed and layout.parameter("__array__") == "categorical":
        if any(leaf.dtype.kind in "fc" for leaf in leaves(layout.content)):
            raise NoRuleError(
                "no derivative by categorical numbers: entries of one category share one number. "
                "ak.from_categorical gives each entry its own."
            )
    elif hasattr(layout, "content"):
        refuse_categorical_numbers(layout.content)


def positions(layout: Content, at: int | None = None) -> list[Any]:
    """For each leaf, where in its buffer the elements of the packed leaf are (None: projected away).

    With ``at``: of this one entry of the layout.
    """
    base = base_backend(layout.backend)

    def number(leaf: NumpyArray) -> Any:
        if is_absent(leaf.data) or _is_text(leaf):
            return _primal(leaf.data)
        shape = leaf.data.shape
        return base.nplike._module.arange(math.prod(shape)).reshape(shape)

    numbered = map_layout(layout, base, _primal, number)
    numbered = numbered if at is None else numbered[at : at + 1]
    return [None if is_absent(leaf.data) else leaf.data for leaf in leaves(pack(numbered))]


def _is_projected_away(layout: Content) -> bool:
    buffers = (
        getattr(layout, name, None) for name in ("_data", "_offsets", "_starts", "_index", "_mask", "_tags")
    )
    return any(is_absent(getattr(buffer, "_data", buffer)) for buffer in buffers)


def indexes(layout: Content) -> list[Any]:
    """The plain data of all index buffers, depth first."""
    found: list[Any] = []

    def on_index(data: Any) -> Any:
        found.append(data)
        return data

    map_layout(layout, layout.backend, on_index, lambda leaf: leaf.data)
    return [_primal(data) for data in found]


def indexes_elements(layout: Content) -> bool:
    """Whether some part of a layout says where each element is, so that it could name one twice."""
    if isinstance(layout, (IndexedArray, IndexedOptionArray, ListArray, UnionArray)):
        return True
    if isinstance(layout, RecordArray):
        return any(map(indexes_elements, layout.contents))
    return not isinstance(layout, (NumpyArray, EmptyArray)) and indexes_elements(layout.content)


def base_backend(backend: Backend) -> Backend:
    """The backend that a differentiating backend wraps, or the backend itself."""
    return backend.base if isinstance(backend, DiffBackend) else backend


def leaf_data(layout: Content) -> list[tuple[Any, bool]]:
    """For each leaf its value (plain, dual or tape) and whether it holds the bytes of text."""

    def value(leaf: NumpyArray) -> Any:
        return leaf.data.value if isinstance(leaf.data, Buffer) else leaf.data

    return [(value(leaf), _is_text(leaf)) for leaf in leaves(layout)]


def _is_text(leaf: NumpyArray) -> bool:
    return leaf.parameter("__array__") in ("char", "byte")
