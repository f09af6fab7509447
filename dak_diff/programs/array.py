"""Arrays that are recorded: what is done to one is written down, and done.

A :class:`Recorded` holds an array, or a number, and its variable. Booleans decide branches and are guarded;
what would take the elements out of the arrays is an escape.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from dak_diff.programs import operations
from dak_diff.programs.dims import Dims, dims_of
from dak_diff.programs.program import Variable
from dak_diff.programs.recorder import Recorder, Tracked, current
from dak_diff.programs.symbols import symbol
from dak_diff.rules.namespace import is_array

__all__ = [
    "Flags",
    "Recorded",
    "array_class",
    "call",
    "held",
    "input_value",
    "leads",
    "observe",
    "pointer_to",
]


class Recorded(NDArrayOperatorsMixin, Tracked):
    """An array, or number, of a recording; subclassed once for each base."""

    __slots__ = ("dims", "held", "recorder", "variable")
    __array_priority__ = 5000
    __hash__ = None  # type: ignore[assignment]
    #: The library of these arrays, as NumPy is that of its own.
    library: ClassVar[Any]

    def __init__(self, recorder: Recorder, variable: Variable, held: Any, dims: Dims | None = None):
        self.recorder, self.variable, self.held = recorder, variable, held
        self.dims = dims or Dims(look=self._lengths)

    def _lengths(self) -> tuple:
        return tuple(observe(self.recorder, operations.length, self, axis) for axis in range(self.ndim))

    # ---------------------------------------------------------------- what arrays have

    @property
    def shape(self) -> tuple:
        return np.shape(self.held) if self.recorder.closed else self.dims()

    @property
    def dtype(self) -> np.dtype:
        held = self.held
        return held.dtype if hasattr(held, "dtype") else np.asarray(held).dtype

    ndim = property(lambda self: np.ndim(self.held))
    size = property(lambda self: math.prod(self.shape))
    itemsize = property(lambda self: self.dtype.itemsize)
    nbytes = property(lambda self: self.size * self.itemsize)
    is_weak = property(lambda self: type(self.held) in (bool, int, float, complex))

    @property
    def strides(self) -> tuple:
        return tuple(observe(self.recorder, operations.stride, self, axis) for axis in range(self.ndim))

    @property
    def flags(self) -> Flags:
        return Flags(self)

    @property
    def T(self) -> Any:  # noqa: N802
        return call(np.transpose, self)

    @property
    def real(self) -> Any:
        return call(np.real, self)

    @property
    def imag(self) -> Any:
        return call(np.imag, self)

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of unsized object")
        return int(self.shape[0])

    def __iter__(self) -> Iterator:
        self.recorder.escape("it iterates over the elements of an array")
        return (self[i] for i in range(len(self.held)))

    def __getitem__(self, where: Any) -> Any:
        return call(operator.getitem, self, where)

    def __setitem__(self, where: Any, what: Any) -> None:
        recorder = self.recorder
        if recorder.closed:
            self.held[held(where)] = held(what)
            return
        (_, place, value), said = recorder.take_apart((self, where, what))
        self.held[place] = value
        recorder.emit(operator.setitem, said, {}, (), writes=(self.variable,))

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        return call(operations.astype, self, np.dtype(dtype), copy=copy)

    def view(self, dtype: Any = None) -> Any:
        return (
            self
            if dtype is None or np.dtype(dtype) == self.dtype
            else call(operations.view, self, np.dtype(dtype))
        )

    def reshape(self, *shape: Any, order: str = "C") -> Any:
        shape = shape[0] if len(shape) == 1 else shape
        return call(np.reshape, self, shape, **({} if order == "C" else {"order": order}))

    def item(self, *index: Any) -> Any:
        kind = self.dtype.kind
        if kind not in "biu":
            return self._leave("x.item()").item(*index)
        if self.is_weak:
            return self.held if kind == "b" else observe(self.recorder, int, self)
        return observe(self.recorder, operations.item, self, *index)

    def copy(self, order: str = "C") -> Any:
        return call(operations.copy, self)

    def fill(self, value: Any) -> None:
        self[...] = value

    def get(self) -> Any:
        """The same array, where it is taken to the host."""
        return self

    def __copy__(self) -> Any:
        return self.copy()

    def __deepcopy__(self, memo: dict) -> Any:
        return self.copy()

    def __reduce__(self) -> Any:
        return self._leave("it is pickled").__reduce__()

    # ---------------------------------------------------------------- leaving the arrays

    def __bool__(self) -> bool:
        return bool(observe(self.recorder, bool, self))

    def _leave(self, what: str) -> Any:
        if not self.recorder.closed:
            self.recorder.escape(f"a value leaves the arrays: {what}")
        return self.held

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._leave("np.asarray(x)"), dtype=dtype)

    def __float__(self) -> float:
        return float(self._leave("float(x)"))

    def __complex__(self) -> complex:
        return complex(self._leave("complex(x)"))

    def __int__(self) -> int:
        return int(self.item()) if self.dtype.kind in "biu" else int(self._leave("int(x)"))

    def __index__(self) -> int:
        return operator.index(int(self)) if self.dtype.kind in "biu" else operator.index(self.held)

    def tolist(self) -> Any:
        return self._leave("x.tolist()").tolist()

    def tobytes(self, *args: Any) -> bytes:
        return self._leave("x.tobytes()").tobytes(*args)

    @property
    def ctypes(self) -> Any:
        return self._leave("x.ctypes, a pointer to its memory").ctypes

    @property
    def data(self) -> Any:
        return self._leave("x.data, its memory").data

    @property
    def __array_interface__(self) -> Any:
        return self._leave("a pointer to its memory").__array_interface__

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self._leave("DLPack").__dlpack__(**kwargs)

    def __dlpack_device__(self) -> Any:
        return self._leave("DLPack").__dlpack_device__()

    def __repr__(self) -> str:
        return f"recorded {self.held!r}"

    def __format__(self, spec: str) -> str:
        return format(self._leave("its text"), spec) if spec else repr(self)

    # ---------------------------------------------------------------- functions

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if any(leads(x) for x in inputs):
            return NotImplemented
        return call(ufunc if method == "__call__" else getattr(ufunc, method), *inputs, **kwargs)

    def __array_function__(self, func: Callable, types: Any, args: tuple, kwargs: dict) -> Any:
        return call(func, *args, **kwargs)


def leads(x: Any) -> bool:
    """Whether ``x`` is a container that must see to the operation itself: an Awkward array, a histogram."""
    return hasattr(x, "__array_ufunc__") and not (isinstance(x, (Tracked, np.generic)) or is_array(x))


class Flags:
    """What NumPy knows of the memory of an array: Python goes on by it."""

    __slots__ = ("_array",)

    def __init__(self, array: Recorded):
        self._array = array

    @property
    def c_contiguous(self) -> bool:
        return bool(observe(self._array.recorder, operations.is_contiguous, self._array))

    @property
    def writeable(self) -> bool:
        return bool(observe(self._array.recorder, operations.is_writeable, self._array))

    def __getitem__(self, name: str) -> bool:
        return bool(getattr(self, name.lower()))


def observe(recorder: Recorder, function: Callable, array: Recorded, *args: Any) -> Any:
    """A boolean or an integer of an array that Python is shown."""
    out = function(array.held, *args)
    if recorder.closed:
        return out
    (variable,) = recorder.emit(function, (array.variable, *args), {}, (out,))
    return wrap(recorder, variable, out)


def pointer_to(array: Recorded) -> Any:
    """A pointer that kernels are given: nobody decides by it, and it is another one each time."""
    recorder, out = array.recorder, operations.pointer(array.held)
    if recorder.closed:
        return out
    (variable,) = recorder.emit(operations.pointer, (array.variable,), {}, (out,))
    return symbol(recorder, variable, out)


def held(x: Any) -> Any:
    """What stands in a program's place for an argument."""
    if isinstance(x, Tracked):
        return x.held
    if type(x) in (tuple, list):
        return type(x)(map(held, x))
    if type(x) is dict:
        return {key: held(value) for key, value in x.items()}
    if type(x) is slice:
        return slice(held(x.start), held(x.stop), held(x.step))
    return x


def input_value(recorder: Recorder, value: Any) -> Any:
    """Something that a program is given."""
    return wrap(recorder, recorder.input(value), value)


def wrap(recorder: Recorder, variable: Variable, value: Any, dims: Dims | None = None) -> Any:
    """A result in its recording: arrays and numbers are followed, booleans and lengths are looked at."""
    if isinstance(value, np.integer) or (isinstance(value, int) and not isinstance(value, bool)):
        recorder.observe(variable, int(value))
        return symbol(recorder, variable, value)
    if isinstance(value, bool):
        recorder.guard(variable, value)
        return value
    home = type(value) if is_array(value) and not isinstance(value, np.generic) else np.ndarray
    return _classes[home](recorder, variable, value, dims)


_classes: dict[type, type[Recorded]] = {}


def array_class(base: Any) -> type[Recorded]:
    """The class of recorded arrays over one array library."""
    found = _classes.get(base.ndarray)
    if found is None:
        name = base.__name__.rpartition(".")[2].capitalize()
        found = type(f"Recorded{name}", (Recorded,), {"__slots__": ()})
        _classes[base.ndarray] = found
    return found


# ---------------------------------------------------------------- calls


def call(function: Callable, *args: Any, **kwargs: Any) -> Any:
    """Call a function and write it down."""
    recorder = _recorder_of(args, kwargs)
    if recorder is None:
        return function(*map(held, args), **held(kwargs))
    answer = _ABOUT.get(function)
    if answer is not None:
        return answer(*args, **kwargs)
    out = kwargs.get("out")
    if out is None:
        kwargs.pop("out", None)
    real_args, said_args = recorder.take_apart(args)
    real_kwargs, said_kwargs = recorder.take_apart(kwargs)
    writes = tuple(v for v in _written(function, said_args, said_kwargs) if isinstance(v, Variable))
    result = function(*real_args, **real_kwargs)
    if out is not None:
        recorder.emit(function, said_args, said_kwargs, (), writes=writes)
        return out[0] if isinstance(out, tuple) and len(out) == 1 else out
    if isinstance(result, (tuple, list)):
        if not all(_is_value(x) for x in result):
            recorder.escape(f"{_name(function)} gives what is not looked into")
            return result
        variables = recorder.emit(
            function, said_args, said_kwargs, tuple(result), unpacked=True, writes=writes
        )
        wrapped = [wrap(recorder, v, x) for v, x in zip(variables, result, strict=True)]
        return result._make(wrapped) if hasattr(result, "_make") else type(result)(wrapped)
    if result is None:
        recorder.emit(function, said_args, said_kwargs, (), writes=writes)
        return None
    if isinstance(result, (np.dtype, type, str)):
        return result
    if not _is_value(result):
        recorder.escape(f"{_name(function)} gives a {type(result).__name__}, which is not looked into")
        return result
    (variable,) = recorder.emit(function, said_args, said_kwargs, (result,), writes=writes)
    return wrap(recorder, variable, result, dims_of(function, args, result))


def _name(function: Any) -> str:
    return getattr(function, "__name__", repr(function))


def _is_value(x: Any) -> bool:
    return isinstance(x, (np.generic, bool, int, float, complex)) or is_array(x)


def _recorder_of(*parts: Any) -> Recorder | None:
    """The open recording that an argument belongs to, else the one that this thread writes into."""
    for part in parts:
        if isinstance(part, Tracked) and not part.recorder.closed:
            return part.recorder
        if isinstance(part, (tuple, list)) or type(part) is dict:
            inside = _recorder_of(*(part.values() if type(part) is dict else part)) if part else None
            if inside is not None:
                return inside
    return current()


def _written(function: Callable, args: tuple, kwargs: dict) -> tuple:
    """The arguments that a function writes to."""
    if getattr(function, "__name__", "") == "at" and isinstance(
        getattr(function, "__self__", None), np.ufunc
    ):
        return args[:1]
    if function in _WRITING:
        return args[:1]
    out = kwargs.get("out")
    return out if type(out) is tuple else (out,)


_WRITING = {np.copyto, np.put, np.place, np.putmask, np.fill_diagonal, np.put_along_axis}


def _shape(x: Any) -> Any:
    return x.shape if hasattr(x, "shape") else np.shape(x)


def _ndim(x: Any) -> Any:
    return x.ndim if hasattr(x, "ndim") else np.ndim(x)


def _size_of(x: Any, axis: int | None = None) -> Any:
    return math.prod(_shape(x)) if axis is None else _shape(x)[axis]


def _result_type(*args: Any) -> Any:
    return np.result_type(*(x.held if isinstance(x, Tracked) else x for x in args))


#: Functions that are about an array and not of its elements.
_ABOUT: dict[Any, Callable] = {
    np.shape: _shape,
    np.ndim: _ndim,
    np.size: _size_of,
    np.result_type: _result_type,
    np.can_cast: lambda x, *args, **kwargs: np.can_cast(held(x), *args, **kwargs),
    np.iscomplexobj: lambda x: np.iscomplexobj(held(x)),
    np.isrealobj: lambda x: np.isrealobj(held(x)),
    np.isscalar: lambda x: np.isscalar(held(x)),
}


def _method(name: str) -> Callable:
    function = getattr(np, name)

    def method(self: Recorded, *args: Any, **kwargs: Any) -> Any:
        return call(function, self, *args, **kwargs)

    method.__name__ = name
    return method


for _name_of in (
    *("sum", "mean", "prod", "min", "max", "var", "std", "cumsum", "cumprod", "dot", "trace", "any", "all"),
    *(
        "argmin",
        "argmax",
        "argsort",
        "nonzero",
        "searchsorted",
        "clip",
        "round",
        "conj",
        "conjugate",
        "ravel",
    ),
    *("repeat", "squeeze", "swapaxes", "take", "diagonal", "transpose"),
):
    setattr(Recorded, _name_of, _method(_name_of))


def _flatten(self: Recorded, order: str = "C") -> Any:
    return call(operations.copy, call(np.ravel, self, order=order))


Recorded.flatten = _flatten  # type: ignore[attr-defined]
