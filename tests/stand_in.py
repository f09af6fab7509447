"""A stand-in for CuPy that needs no device: an array module that is not NumPy.

It holds NumPy arrays and hides them. What CuPy 14 refuses is refused here, and a little more:

- no implicit conversion to NumPy: ``np.asarray(x)`` raises; so does an operation on an array of each kind;
- an array is no index of another kind of array (CuPy would upload it);
- reductions and single elements are arrays without dimensions; there is no ``__index__``, no
  ``__array_namespace__``;
- ``repeat`` takes no array; ``add.at`` has no complex and no signed 64-bit type;
- ``add.reduceat`` raises: CuPy's takes differences of a cumulative sum; so does ``bincount``: without weights
  CuPy's takes the memory of its result for each block of threads.

``StandInBackend`` is the Awkward backend over it, named "cuda": kernels are those of the CPU.
"""

from __future__ import annotations

import functools
import sys
from types import SimpleNamespace
from typing import Any

import awkward as ak
import awkward_cpp
import numpy as np
from awkward._backends import dispatch as _dispatch
from awkward._backends.backend import Backend
from awkward._backends.numpy import NumpyBackend
from awkward._kernels import NumpyKernel
from awkward._nplikes import dispatch as _nplikes
from awkward._nplikes.array_like import maybe_materialize
from awkward._nplikes.cupy import Cupy
from awkward._nplikes.dispatch import register_nplike
from numpy.lib.mixins import NDArrayOperatorsMixin

_MODULE = sys.modules[__name__]
_MISSING = frozenset(
    (
        *("acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "bitwise_invert", "pow", "concat"),
        *("bitwise_left_shift", "bitwise_right_shift", "isnat", "spacing", "matvec", "vecdot", "vecmat"),
        *("permute_dims", "unstack", "block", "insert", "geomspace", "__array_namespace_info__"),
    )
)
_UPLOADS = frozenset({"array", "asarray", "ascontiguousarray", "asanyarray", "asfortranarray"})
_ABOUT_TYPES = frozenset(
    {"can_cast", "result_type", "promote_types", "finfo", "iinfo", "shape", "ndim", "size"}
)
_DUCKS = frozenset({"min", "max", "sum", "prod", "any", "all", "mean"})  # CuPy's call the method of that name
_ADDED_IN_PLACE = ("int32", "float16", "float32", "float64", "uint32", "uint64")
_SCALARS = (bool, int, float, complex, np.generic)


class ndarray(NDArrayOperatorsMixin):  # noqa: N801
    """An array that only functions of this module look into."""

    __slots__ = ("_host",)
    __array_priority__ = 100
    __hash__ = None

    def __init__(self, host: np.ndarray):
        assert type(host) is np.ndarray, type(host)
        self._host = host

    def get(self) -> np.ndarray:
        return self._host.copy()

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: self._host.flags)
    data = property(lambda self: SimpleNamespace(ptr=self._host.ctypes.data))
    T = property(lambda self: ndarray(self._host.T))
    real = property(lambda self: ndarray(self._host.real))
    imag = property(lambda self: ndarray(self._host.imag))

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if ufunc.__name__ in _MISSING:
            return NotImplemented
        out = kwargs.pop("out", ())
        if not all(isinstance(x, (ndarray, np.ndarray, *_SCALARS)) for x in (*inputs, *out)):
            return NotImplemented
        if method != "__call__" and ufunc not in (np.add, np.multiply):
            raise NotImplementedError(f"{ufunc.__name__}.{method} is not supported yet")
        if method == "reduceat":
            raise NotImplementedError("differences of a cumulative sum")
        if method == "at" and inputs[0].dtype.name not in _ADDED_IN_PLACE:
            raise TypeError(f"cupy.add.at only supports {_ADDED_IN_PLACE}, as data type")
        if out:
            kwargs["out"] = tuple(map(_host, out))
        with np.errstate(all="ignore"):
            result = getattr(ufunc, method)(*map(_host, inputs), **kwargs)
        return out[0] if out else _device(result)

    def __array_function__(self, func: Any, types: Any, args: tuple, kwargs: dict) -> Any:
        own = getattr(_MODULE, func.__name__, None)
        if func.__module__ != "numpy" or own is None:
            return NotImplemented
        if not all(issubclass(t, (ndarray, np.ndarray)) for t in types):
            return NotImplemented
        return own(*args, **kwargs)

    def __getitem__(self, key: Any) -> ndarray:
        return _device(self._host[_host(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._host[_host(key)] = _host(value)

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Any:
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self._host)

    def __int__(self) -> int:
        return int(self._host)

    def __float__(self) -> float:
        return float(self._host)

    def __complex__(self) -> complex:
        return complex(self._host)

    def __reduce__(self) -> tuple:
        return (ndarray, (self.get(),))

    def __copy__(self) -> ndarray:
        return self.copy()

    def __deepcopy__(self, memo: dict) -> ndarray:
        return self.copy()

    def __repr__(self) -> str:
        return f"stand_in.{self._host!r}"

    def __format__(self, spec: str) -> str:
        return format(self._host, spec)

    def item(self) -> Any:
        return self._host.item()

    def tolist(self) -> Any:
        return self._host.tolist()


def _method(name: str) -> Any:
    def method(self: ndarray, *args: Any, **kwargs: Any) -> Any:
        with np.errstate(all="ignore"):
            return _device(getattr(self._host, name)(*map(_host, args), **_host(kwargs)))

    method.__name__ = name
    return method


for _name in (
    *("sum", "prod", "min", "max", "any", "all", "mean", "var", "std", "cumsum", "cumprod"),
    *("argmin", "argmax", "argsort", "astype", "reshape", "ravel", "flatten", "copy", "transpose"),
    *("take", "nonzero", "round", "clip", "conj", "conjugate", "view", "squeeze", "swapaxes", "dot"),
):
    setattr(ndarray, _name, _method(_name))


def _host(x: Any) -> Any:
    """What is inside; NumPy's own arrays and those of other libraries are refused, as CuPy does."""
    if isinstance(x, ndarray):
        return x._host
    if isinstance(x, np.ndarray) or (hasattr(x, "__array_ufunc__") and not isinstance(x, np.generic)):
        raise TypeError(f"Unsupported type {type(x)}")
    if type(x) in (list, tuple):
        return type(x)(map(_host, x))
    if type(x) is slice:
        return slice(*(y.item() if isinstance(y, ndarray) else y for y in (x.start, x.stop, x.step)))
    if type(x) is dict:
        return {name: _host(value) for name, value in x.items()}
    return x


def _device(x: Any) -> Any:
    if isinstance(x, (np.ndarray, np.generic)):
        return ndarray(np.asarray(x).view(np.ndarray))
    if type(x) in (list, tuple):
        return type(x)(map(_device, x))
    return x


def _function(name: str) -> Any:
    function = getattr(np, name)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if name in _UPLOADS and type(args[0]) is np.ndarray:
            args = (ndarray(args[0]), *args[1:])
        if name in _DUCKS and type(args[0]) is np.ndarray:
            return getattr(args[0], name)(*args[1:], **kwargs)
        if name in _ABOUT_TYPES:
            return function(
                *(x.dtype if isinstance(x, ndarray) and name == "result_type" else _host(x) for x in args)
            )
        with np.errstate(all="ignore"):
            return _device(function(*map(_host, args), **_host(kwargs)))

    return call


class ufunc:  # noqa: N801
    """A ufunc of this module: that of NumPy on what is inside, never on arrays of NumPy."""

    def __init__(self, name: str):
        self._ufunc = getattr(np, name)
        self.__name__ = name
        self.nin, self.nout = self._ufunc.nin, self._ufunc.nout

    def __call__(self, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        if out is not None:
            kwargs["out"] = _host(out)
        with np.errstate(all="ignore"):
            result = self._ufunc(*map(_host, args), **kwargs)
        return _device(result) if out is None else out

    def at(self, x: ndarray, where: Any, what: Any) -> None:
        np.add.at(x, where, what)


def repeat(a: Any, repeats: Any, axis: Any = None) -> ndarray:
    if isinstance(repeats, ndarray):
        raise ValueError("cupy.ndarray cannot be specified as `repeats` argument.")
    return ndarray(np.repeat(_host(a), repeats, axis=axis))


def bincount(x: ndarray, weights: Any = None, minlength: Any = None) -> ndarray:
    raise NotImplementedError("it takes the memory of its result for each block of threads")


def where(condition: Any, *choices: Any) -> Any:
    if isinstance(condition, bool):
        raise AttributeError("'bool' object has no attribute 'astype'")
    return _device(np.where(_host(condition), *map(_host, choices)))


def nonzero(a: ndarray) -> tuple:
    if not a.ndim:
        raise ValueError("Calling nonzero on 0d arrays is not allowed.")
    return _device(np.nonzero(_host(a)))


def array_equal(a: ndarray, b: ndarray, equal_nan: bool = False) -> ndarray:
    return _device(np.asarray(np.array_equal(_host(a), _host(b), equal_nan=equal_nan)))


def _sorting(name: str) -> Any:
    def call(a: Any, axis: Any = -1, kind: Any = None) -> ndarray:
        if kind not in (None, "stable"):
            raise ValueError("kind can only be None or 'stable'")
        return ndarray(getattr(np, name)(_host(a), axis=axis, kind=kind))

    return call


sort, argsort = _sorting("sort"), _sorting("argsort")


@functools.cache
def __getattr__(name: str) -> Any:
    """The functions of NumPy that CuPy has, on arrays of this module."""
    if name in _MISSING or name.startswith("__"):
        raise AttributeError(name)
    found = getattr(np, name)
    if isinstance(found, np.ufunc):
        return ufunc(name)
    return found if isinstance(found, type) or not callable(found) else _function(name)


# --------------------------------------------------------------------------- Awkward's side


@register_nplike
class StandInNplike(Cupy):
    """Awkward's own class for CuPy, with what it does for CuPy's peculiarities, over this module."""

    def __init__(self) -> None:
        self._module = _MODULE

    @classmethod
    def is_own_array_type(cls, type_: type) -> bool:
        return issubclass(type_, ndarray)


class _Kernel:
    def __init__(self, key: tuple):
        self.key = key
        self._kernel = NumpyKernel(awkward_cpp.cpu_kernels.kernel[key], key)

    def __call__(self, *args: Any) -> Any:
        return self._kernel(*(_scalar(_host(x)) for x in maybe_materialize(*args)))


def _scalar(x: Any) -> Any:
    return x.item() if isinstance(x, np.ndarray) and not x.ndim else x


class StandInBackend(Backend):
    """Kernels of the CPU on arrays of the stand-in."""

    name = "cuda"

    @property
    def nplike(self) -> StandInNplike:
        return StandInNplike.instance()

    def __getitem__(self, key: tuple) -> _Kernel:
        return _Kernel(key)


# Where Awkward asks for arrays of CuPy by the name of their module, it shall find these, too.
_dispatch._type_to_backend_lookup[ndarray] = lambda obj: StandInBackend.instance()
_nplikes._type_to_nplike[ndarray] = StandInNplike.instance()
Cupy.is_own_array_type = classmethod(lambda cls, type_: type_ is ndarray or type_.__module__ == "cupy")


# --------------------------------------------------------------------------- to and fro


def to_device(value: Any) -> Any:
    """A value with arrays of the stand-in; numbers stay."""
    asarray = _MODULE.asarray
    return moved(
        value,
        StandInBackend.instance(),
        lambda x: asarray(x) if isinstance(x, (ndarray, np.ndarray)) else x,
    )


def to_host(value: Any) -> Any:
    """The same value with arrays of NumPy."""
    return moved(value, NumpyBackend.instance(), lambda x: x.get()[()] if isinstance(x, ndarray) else x)


def moved(value: Any, backend: Backend | str, move: Any) -> Any:
    """A value with its arrays of Awkward on a backend, and ``move`` of what is none and no nest."""
    if isinstance(value, (tuple, list)):
        return type(value)(moved(v, backend, move) for v in value)
    if isinstance(value, dict):
        return {name: moved(v, backend, move) for name, v in value.items()}
    return ak.to_backend(value, backend) if isinstance(value, (ak.Array, ak.Record)) else move(value)


def is_on_device(value: Any) -> bool:
    """Whether every array in a value is of the stand-in."""
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        return all(map(is_on_device, value))
    if isinstance(value, (ak.Array, ak.Record)):
        layout = value.layout if isinstance(value, ak.Array) else value.layout.array
        return layout.backend is StandInBackend.instance()
    return isinstance(value, (ndarray, float, int, complex, str, type(None)))
