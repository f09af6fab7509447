"""Our backends, made at first use, and the functions of Awkward that are replaced then.

:func:`_patch_awkward` says which and why. Moves between the host and a device are here too: what is
replaced needs them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import SimpleNamespace
from typing import Any

import numpy as np
from awkward import _broadcasting, _layout, highlevel
from awkward._backends import dispatch as _dispatch
from awkward._backends.backend import Backend
from awkward._backends.numpy import NumpyBackend
from awkward._connect import numpy as _connect_numpy
from awkward._nplikes.array_module import ArrayModuleNumpyLike
from awkward._nplikes.cupy import Cupy
from awkward._nplikes.virtual import VirtualNDArray
from awkward.contents import Content, IndexedOptionArray, ListOffsetArray, NumpyArray, RecordArray
from awkward.operations import ak_concatenate, ak_std, ak_to_layout, ak_to_numpy
from awkward.record import Record

from dak_diff.engine.awkward_internals.backend import (
    DiffBackend,
    DiffNplike,
    base_backend,
    incompatible,
    layers_of,
    make_backend,
    primal,
)
from dak_diff.engine.awkward_internals.layouts import is_absent, leaf_data, map_layout
from dak_diff.engine.awkward_internals.recorded_backend import RecordedBackend, make_recorded_backend
from dak_diff.engine.buffer import Buffer, plain
from dak_diff.programs.recorder import Tracked
from dak_diff.rules.namespace import kept
from dak_diff.rules.primitive import Traced, raw
from dak_diff.rules.structure import move_like

__all__ = [
    "backend_named",
    "buffer_type_of",
    "diff_backend",
    "on_base",
    "recorded_backend",
    "recording",
    "refuse_in_arrays",
    "synchronize",
    "transferred",
]

_lock = threading.RLock()
_refused: dict[type, str] = {}
_backends: dict[type[Backend], DiffBackend] = {}
_recorded_backends: dict[type[Backend], RecordedBackend] = {}
_recording = threading.local()


def diff_backend(base: Backend | None = None) -> DiffBackend:
    """The differentiating backend over ``base`` (default NumPy), made at first use under a lock."""
    base = NumpyBackend.instance() if base is None else base
    found = _backends.get(type(base))
    if found is not None:
        return found
    with _lock:
        if type(base) not in _backends:
            _patch_awkward()
            _backends[type(base)] = make_backend(base)
        return _backends[type(base)]


def buffer_type_of(value: Any) -> type[Buffer]:
    """The buffer class for a value, by the array library of its innermost primal."""
    return diff_backend(
        _dispatch.backend_of_obj(raw(value), default=NumpyBackend.instance())
    ).nplike.buffer_type


def recorded_backend(base: Backend | None = None) -> RecordedBackend:
    """The backend that records what is done over ``base`` (default NumPy), made at first use."""
    base = NumpyBackend.instance() if base is None else base
    with _lock:
        if type(base) not in _recorded_backends:
            _patch_awkward()
            _recorded_backends[type(base)] = make_recorded_backend(base)
        return _recorded_backends[type(base)]


def refuse_in_arrays(cls: type, reason: str) -> None:
    """Let Awkward's functions raise where they meet what they would take for a constant."""
    _refused[cls] = reason


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
    ``Record``: ``ak.Record({"ht": ak.sum(x)})`` takes numbers that carry a derivative.
    ``_merge_as_union``: ``ak.concatenate([x, 1.5])`` likewise.
    ``ak.std``: its square root has derivative 0 where the variance is 0, the convention for equal elements.
    """
    if getattr(_dispatch.common_backend, "knows_dak_diff", False):
        return
    upstream = _dispatch.common_backend

    def common_backend(backends: Collection[Backend]) -> Backend:
        ours = _shared_backend(backends)
        if ours is None:
            return upstream(backends)
        absorbed = layers_of(ours)
        others = [
            b for b in backends if b not in absorbed and not isinstance(b, (DiffBackend, RecordedBackend))
        ]
        return upstream([ours, *others])

    common_backend.knows_dak_diff = True  # type: ignore[attr-defined]
    for module in (_dispatch, _layout, _connect_numpy):
        module.common_backend = common_backend
    ak_to_layout._impl = _patched_to_layout(ak_to_layout._impl)
    ak_to_numpy._impl = _patched_to_numpy(ak_to_numpy._impl)
    _broadcasting.broadcast_and_apply = _brought_together(_broadcasting.broadcast_and_apply)
    ListOffsetArray.__init__ = _patched_index_init(ListOffsetArray.__init__, "offsets")
    IndexedOptionArray.__init__ = _patched_index_init(IndexedOptionArray.__init__, "index")
    ArrayModuleNumpyLike.frombuffer = _patched_frombuffer(ArrayModuleNumpyLike.frombuffer)
    RecordArray.__init__ = _patched_record_array(RecordArray.__init__)
    highlevel.Record.__init__ = _patched_record(highlevel.Record.__init__)
    ak_concatenate._merge_as_union = _brought_together(ak_concatenate._merge_as_union)
    ak_std.ufuncs = SimpleNamespace(sqrt=_flat_at_zero(ak_std.ufuncs.sqrt))
    Content.to_backend = _patched_to_backend(Content.to_backend)
    highlevel.custom_reduce = _patched_reduce(highlevel.custom_reduce)


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
        if isinstance(obj, (list, tuple)) and any(map(_is_number, obj)):
            obj = _as_vector(obj)
        if not isinstance(obj, (Buffer, Tracked)):
            return upstream(
                obj, allow_record, allow_unknown, none_policy, regulararray,
                use_from_iter, primitive_policy, string_policy,
            )  # fmt: skip
        if getattr(obj, "ndim", 0) == 0:
            if primitive_policy == "error":
                raise TypeError("Encountered a scalar, but scalar conversion/promotion is disabled")
            if primitive_policy == "pass-through":
                return obj
            if isinstance(obj, Tracked):
                obj = recorded_backend().nplike.asarray(obj)
            obj = np.broadcast_to(obj, (1,))
        layout = NumpyArray(obj, backend=_dispatch.backend_of_obj(obj))
        return layout.to_RegularArray() if regulararray else layout

    return to_layout


def _is_number(value: Any) -> bool:
    """Whether a value is a number in a buffer."""
    return isinstance(value, Buffer) and not value.ndim


def _as_vector(numbers: Collection[Any]) -> Any:
    """``[ak.sum(x), 0.5]``: numbers some of which carry a derivative, as one array."""
    if any(np.ndim(x) for x in numbers):
        return numbers
    modules = [x.module for x in numbers if isinstance(x, Buffer)]
    vector = next((m for m in modules if m.base is not np), modules[0]).stack(numbers)
    # As Awkward has it of a list of numbers.
    return vector.astype(np.float64) if vector.dtype.kind == "f" else vector


def _patched_to_numpy(upstream: Callable) -> Callable:
    @wraps(upstream)
    def to_numpy(array: Any, allow_missing: bool) -> Any:
        layout = array.layout if isinstance(array, highlevel.Array) else array
        backend = getattr(layout, "backend", None)
        if isinstance(backend, DiffBackend) and not any(
            isinstance(value, Traced) for value, _ in leaf_data(layout)
        ):
            array = map_layout(layout, backend.base, primal, lambda leaf: primal(leaf.data))
        return upstream(array, allow_missing)

    return to_numpy


def _brought_together(upstream: Callable) -> Callable:
    @wraps(upstream)
    def together(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        backend = _shared_backend([_dispatch.backend_of_obj(x, default=None) for x in inputs])
        if backend is not None:
            inputs = [_beside(x, backend) for x in inputs]
        return upstream(inputs, *args, **kwargs)

    return together


def _shared_backend(backends: Collection[Any]) -> DiffBackend | RecordedBackend | None:
    """Ours among several: over the device if there is one; numbers beside its arrays are on the host."""
    ours = [b for b in backends if isinstance(b, (DiffBackend, RecordedBackend))]
    if len(ours) == len(backends) == 1 or not ours:
        return ours[0] if ours else None
    host = NumpyBackend.instance()
    bases = [base_backend(b) for b in backends if b is not None and b.nplike.known_data]
    recorded = (b for b in bases if isinstance(b, RecordedBackend))
    base = next(recorded, None) or next((b for b in bases if b is not host), host)
    return diff_backend(base) if any(isinstance(b, DiffBackend) for b in ours) else base


def _beside(x: Any, backend: DiffBackend | RecordedBackend) -> Any:
    """An argument beside active ones; a number keeps its weak type."""
    if isinstance(x, Content) and x.backend in layers_of(backend)[1:]:
        return x.to_backend(backend)
    if _is_number(x) and isinstance(backend, DiffBackend) and not isinstance(x, backend.nplike.buffer_type):
        return backend.nplike.buffer_type(x.value)
    return x[()] if isinstance(x, np.ndarray) and not x.ndim else x


def _patched_to_backend(upstream: Callable) -> Callable:
    @wraps(upstream)
    def to_backend(self: Content, backend: Any) -> Content:
        own, target = self.backend, _dispatch.regularize_backend(backend)
        if isinstance(own, RecordedBackend) and target is own.base:
            return self
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
        if isinstance(backend, (DiffBackend, RecordedBackend)) and index.nplike is not backend.nplike:
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


def _patched_record_array(upstream: Callable) -> Callable:
    @wraps(upstream)
    def init(self: Any, contents: Any, fields: Any, *args: Any, **kwargs: Any) -> None:
        contents = list(contents) if isinstance(contents, Iterable) else contents
        backend = _shared_backend([getattr(c, "backend", None) for c in contents])
        if backend is not None and len(contents) > 1:
            contents = [_beside(c, backend) for c in contents]
        upstream(self, contents, fields, *args, **kwargs)

    return init


def _patched_record(upstream: Callable) -> Callable:
    @wraps(upstream)
    def init(self: Any, data: Any, **kwargs: Any) -> None:
        if isinstance(data, dict) and any(_is_number(value) for value in data.values()):
            contents = [
                highlevel.Array([value]).layout
                if _is_number(value)
                else highlevel.Record({name: value}).layout.array[name]
                for name, value in data.items()
            ]
            data = Record(RecordArray(contents, list(data)), 0)
        upstream(self, data, **kwargs)

    return init


def _flat_at_zero(sqrt: Callable) -> Callable:
    """A square root whose derivative is 0 at 0, to any order; values are the same."""

    def flat_at_zero(variance: Any) -> Any:
        backend = _dispatch.backend_of_obj(variance, default=None)
        if not isinstance(backend, DiffBackend):
            return sqrt(variance)
        zero = variance == 0
        return sqrt(variance + zero) * ~zero

    return flat_at_zero


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
