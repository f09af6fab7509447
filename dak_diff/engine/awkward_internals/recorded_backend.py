"""An Awkward backend over recorded arrays: what Awkward does to flat buffers becomes a program."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

from awkward._backends import dispatch as _dispatch
from awkward._backends.backend import Backend
from awkward._nplikes.array_like import maybe_materialize
from awkward._nplikes.array_module import ArrayModuleNumpyLike
from awkward._nplikes.dispatch import register_nplike
from awkward._nplikes.placeholder import PlaceholderArray
from awkward._nplikes.virtual import VirtualNDArray
from awkward.index import Index

from dak_diff.programs.array import Flags, Recorded, call, held, pointer_to
from dak_diff.programs.library import library_over
from dak_diff.programs.program import Variable
from dak_diff.programs.recorder import Tracked, current
from dak_diff.programs.symbols import Symbol, choose

__all__ = ["Kernel", "RecordedBackend", "derive_slice", "make_recorded_backend"]


class Kernel:
    """A kernel of a base as a function of a program: it writes to its arguments, and raises what it finds.

    Parameters
    ----------
    backend : class
        Of the base.
    key : tuple
        Name and dtypes.

    Raises
    ------
    ValueError
        When called, if the kernel reports an error: an index out of range, lists that do not fit.
    """

    #: It may raise: a program keeps it even if nobody reads what it writes.
    is_checked = True

    def __init__(self, backend: type[Backend], key: tuple):
        self.backend, self.key = backend, key
        self.unchecked = backend.instance()[key]
        self.__name__ = key[0]

    def __call__(self, *args: Any) -> Any:
        self.backend.instance().maybe_kernel_error(self.unchecked(*args))

    def written(self, args: tuple) -> tuple:
        """The arguments that it writes to."""
        directions = getattr(self.unchecked._impl, "dir", None)
        if directions is None:
            return args
        return tuple(arg for arg, way in zip(args, directions, strict=True) if way != "in")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and (self.backend, self.key) == (other.backend, other.key)

    def __hash__(self) -> int:
        return hash((self.backend, self.key))

    def __reduce__(self) -> tuple:
        return (type(self), (self.backend, self.key))


class _Failing(Kernel):
    """A kernel that reported an error, which Awkward took for an answer; whether it does so again."""

    def __call__(self, *args: Any) -> bool:
        return _failed(self.unchecked(*args))


def _failed(error: Any) -> bool:
    return error is not None and error.str is not None


class _RecordedKernel:
    def __init__(self, kernel: Kernel):
        self._kernel, self.key = kernel, kernel.key

    def __call__(self, *args: Any) -> Any:
        kernel, args = self._kernel, maybe_materialize(*args)
        recorder = next((a.recorder for a in args if isinstance(a, Tracked) and not a.recorder.closed), None)
        if recorder is None:
            return kernel.unchecked(*(a.held if isinstance(a, Tracked) else a for a in args))
        real, said = recorder.take_apart(args)
        error = kernel.unchecked(*real)
        writes = tuple(v for v in kernel.written(said) if isinstance(v, Variable))
        if _failed(error):
            failing = _Failing(kernel.backend, kernel.key)
            [failed] = recorder.emit(failing, said, {}, (True,), writes=writes)
            recorder.guard(failed, True)
        else:
            recorder.emit(kernel, said, {}, (), writes=writes)
        return error


class RecordedNplike(ArrayModuleNumpyLike):
    """Awkward's NumPy-like over recorded arrays; subclassed once for each base."""

    is_eager = True
    supports_structured_dtypes = False
    supports_virtual_arrays = True
    base: Any
    array_type: type[Recorded]

    def __init__(self) -> None:
        self._module = self.array_type.library

    @property
    def ndarray(self) -> type[Recorded]:
        return self.array_type

    @classmethod
    def is_own_array_type(cls, type_: type) -> bool:
        return issubclass(type_, cls.array_type)

    def asarray(self, obj: Any, *, dtype: Any = None, copy: bool | None = None) -> Any:
        if isinstance(obj, (PlaceholderArray, VirtualNDArray)):
            return super().asarray(obj, dtype=dtype, copy=copy)
        return self._module.asarray(obj, dtype=dtype, copy=copy)

    def ascontiguousarray(self, x: Any) -> Any:
        if isinstance(x, (PlaceholderArray, VirtualNDArray)):
            return super().ascontiguousarray(x)
        return self._module.ascontiguousarray(x)

    def is_c_contiguous(self, x: Any) -> bool:
        if isinstance(x, PlaceholderArray):
            return True
        (x,) = maybe_materialize(x)
        return Flags(x).c_contiguous if isinstance(x, Recorded) else self.base.is_c_contiguous(x)

    def _get_nep_50_dtype(self, obj: Any) -> Any:
        return super()._get_nep_50_dtype(held(obj))

    def index_as_shape_item(self, x1: Any) -> int:
        return as_length(x1)

    def derive_slice_for_length(self, slice_: slice, length: Any) -> tuple:
        return derive_slice(slice_, length)

    def array_equal(self, x1: Any, x2: Any, *, equal_nan: bool = False) -> bool:
        return bool(super().array_equal(x1, x2, equal_nan=equal_nan))

    def memory_ptr(self, x: Any) -> int:
        if not isinstance(x, Recorded):
            return self.base.memory_ptr(x)
        # Asked for by the backend above, or at once.
        if _POINTER_FOR_KERNELS in (sys._getframe(1).f_code, sys._getframe(2).f_code):
            return pointer_to(x)
        # Compiled functions read the memory themselves, which nobody records.
        return self.base.memory_ptr(x._leave("a pointer to its memory"))

    def byteswap(self, x: Any) -> Any:
        return call(_byteswap, x)

    def packbits(self, x: Any, **options: Any) -> Any:
        return self._module.packbits(x, **options)

    def unpackbits(self, x: Any, **options: Any) -> Any:
        return self._module.unpackbits(x, **options)

    @property
    def ma(self) -> Any:
        recorder = current()
        if recorder is not None:
            recorder.escape("a masked array of NumPy is made")
        return self.base.ma


#: ``Index.ptr``: some kernels are given an array of pointers to the indexes that they write.
_POINTER_FOR_KERNELS = Index.ptr.fget.__code__


def _byteswap(x: Any) -> Any:
    return x.byteswap(inplace=False)


def as_length(x: Any) -> Any:
    """An integer of an index array as a length."""
    if isinstance(x, Symbol):
        return x.item()
    return x.item() if hasattr(x, "item") else int(x)


def derive_slice(slice_: slice, length: Any) -> tuple:
    """Start, stop, step and length of a slice, in lengths that know how they were computed."""
    start, stop, step = (
        None if x is None else as_length(x) for x in (slice_.start, slice_.stop, slice_.step)
    )
    if step not in (None, 1):
        if not any(isinstance(x, Symbol) for x in (start, stop, step, length)):
            start, stop, step = slice(start, stop, step).indices(length)
            return start, stop, step, math.ceil((stop - start) / step)
        parts = [choose(_part_of_slice, start, stop, step, length, i) for i in range(4)]
        return tuple(parts)
    if stop is None and start in (None, 0):
        return 0, length, 1, length
    begin = 0 if start is None else choose(_clipped, start, length)
    end = length if stop is None else choose(_clipped, stop, length)
    return begin, end, 1, end if type(begin) is int and begin == 0 else choose(_extent, begin, end)


def _clipped(bound: int, length: int) -> int:
    return min(bound, length) if bound >= 0 else max(bound + length, 0)


def _extent(start: int, stop: int) -> int:
    return stop - start


def _part_of_slice(start: Any, stop: Any, step: Any, length: int, part: int) -> int:
    start, stop, step = slice(start, stop, step).indices(length)
    return (start, stop, step, math.ceil((stop - start) / step))[part]


class RecordedBackend(Backend):
    """An Awkward backend whose arrays are recorded; one class for each base."""

    base: Backend
    nplike_cls: type[RecordedNplike]

    def __init__(self) -> None:
        self._nplike = self.nplike_cls.instance()

    @property
    def nplike(self) -> RecordedNplike:
        return self._nplike

    def __getitem__(self, key: tuple) -> _RecordedKernel:
        return _RecordedKernel(Kernel(type(self.base), key))

    def prepare_reducer(self, reducer: Any) -> Any:
        return self.base.prepare_reducer(reducer)

    def format_kernel_error(self, error: Any) -> str:
        return self.base.format_kernel_error(error)


def make_recorded_backend(base: Backend) -> RecordedBackend:
    """The backend that records what is done over ``base``, known to Awkward's dispatch."""
    array_type = library_over(base.nplike._module).ndarray
    label = type(base).__name__.removesuffix("Backend")
    members = {"base": base.nplike, "array_type": array_type}
    nplike_cls = type(f"Recorded{label}", (RecordedNplike,), members)
    register_nplike(nplike_cls)
    backend_cls: Any = type(
        f"Recorded{label}Backend",
        (RecordedBackend,),
        {"name": base.name, "base": base, "nplike_cls": nplike_cls},
    )
    backend: RecordedBackend = backend_cls.instance()

    def lookup(cls: type) -> Callable | None:
        return (lambda obj: backend) if issubclass(cls, array_type) else None

    _dispatch.register_backend_lookup_factory(lookup)
    return backend
