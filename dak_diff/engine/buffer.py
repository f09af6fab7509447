"""The array type that Awkward sees: a plain array, or one of an algebra, behind NumPy's interface.

A :class:`Buffer` is *active* when a derivative hangs on it. Whatever would lose that
derivative (``float(x)``, ``np.asarray(x)``, writing in place) raises instead.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NoReturn

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from dak_diff.engine.array_module import ArrayModule
from dak_diff.engine.dual import Dual
from dak_diff.engine.level import DIFFARRAY_LEVEL
from dak_diff.engine.loaded import histogram_types
from dak_diff.errors import NoRuleError
from dak_diff.rules.namespace import home, is_array, kept
from dak_diff.rules.primitive import Traced, dtype_of, raw
from dak_diff.rules.structure import astype, index, reshape, transpose

__all__ = ["Buffer", "plain", "unwrap"]


def unwrap(obj: Any) -> Any:
    """The value inside a buffer, or inside those of a list, tuple or dict."""
    if isinstance(obj, Buffer):
        return obj.value
    if type(obj) in (list, tuple):
        return type(obj)(unwrap(x) for x in obj)
    if type(obj) is dict:
        return {k: unwrap(x) for k, x in obj.items()}
    return obj


def plain(obj: Any, what: str) -> Any:
    """The plain array inside; an active one would lose its derivative in ``what``: an error."""
    value = unwrap(obj)
    if isinstance(value, Traced):
        raise lost(what)
    if type(value) in (list, tuple):
        return type(value)(plain(x, what) for x in value)
    return value


def lost(what: str) -> NoRuleError:
    return NoRuleError(
        f"no derivative rule for {what}: the value depends on wrt, and its derivative would be lost. "
        "Stay in arrays (NumPy or Awkward functions), or compute it from dak_diff.stop_gradient(x) if a "
        "constant is meant."
    )


class Buffer(NDArrayOperatorsMixin):
    """One array of the backend, by its :attr:`value`.

    Parameters
    ----------
    value : array
        A plain array of the base (NumPy, CuPy), or a dual or tape over one.
    """

    __slots__ = ("value",)
    __array_priority__ = 2000
    module: ClassVar[ArrayModule]
    #: Class of plain arrays -> class of the buffers that hold them.
    of_home: ClassVar[dict[type, type[Buffer]]] = {}

    def __init__(self, value: Any):
        self.value = value

    @property
    def active(self) -> bool:
        return isinstance(self.value, Traced)

    @property
    def primal(self) -> Any:
        """The values, as a plain array."""
        return raw(self.value)

    @property
    def tangent(self) -> Any:
        """The derivative that a diffarray carries, as a plain array."""
        value = self.value
        while isinstance(value, Traced):
            if isinstance(value, Dual) and value.level == DIFFARRAY_LEVEL:
                return raw(value.tangents[0])
            value = value.primal
        return np.zeros_like(value)

    # ---------------------------------------------------------------- what NumPy arrays have

    shape = property(lambda self: np.shape(self.value))
    dtype = property(lambda self: dtype_of(self.value))
    ndim = property(lambda self: np.ndim(self.value))
    size = property(lambda self: np.size(self.value))
    nbytes = property(lambda self: self.size * self.dtype.itemsize)
    strides = property(lambda self: raw(self.value).strides)
    flags = property(lambda self: raw(self.value).flags)
    itemsize = property(lambda self: self.dtype.itemsize)

    @property
    def T(self) -> Buffer:  # noqa: N802
        axes = tuple(reversed(range(self.ndim)))
        return type(self)(transpose(self.value, axes=axes))

    @property
    def real(self) -> Buffer:
        return self.module.real(self)

    @property
    def imag(self) -> Buffer:
        return self.module.imag(self)

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a 0-d array")
        return int(self.shape[0])

    def __iter__(self) -> Iterator:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, where: Any) -> Any:
        where = tuple(map(kept, where)) if isinstance(where, tuple) else kept(where)
        return self.of(index(self.value, key=plain(where, "indexing by it")))

    def __setitem__(self, where: Any, what: Any) -> None:
        if self.active:
            raise lost("assignment in place")
        self.value[plain(where, "indexing by it")] = plain(what, "assignment in place")

    def astype(self, dtype: Any, copy: bool = True) -> Buffer:
        if self.active:
            return self.of(astype(self.value, dtype=np.dtype(dtype)))
        return type(self)(self.value.astype(dtype, copy=copy))

    def view(self, dtype: Any = None) -> Buffer:
        dtype = self.dtype if dtype is None else dtype
        if self.active and np.dtype(dtype) != self.dtype:
            raise lost(f"a view of {self.dtype} as {np.dtype(dtype)}")
        return self if self.active else type(self)(self.value.view(dtype))

    def reshape(self, *shape: Any, order: str = "C") -> Buffer:
        if order not in ("C", "A"):
            raise NoRuleError(f"no derivative rule for order={order!r}: transpose before and after instead")
        new = shape[0] if len(shape) == 1 and np.iterable(shape[0]) else shape
        return type(self)(reshape(self.value, shape=tuple(new)))

    def ravel(self, order: str = "C") -> Buffer:
        return self.reshape(-1, order=order)

    def copy(self) -> Buffer:
        return self if self.active else type(self)(self.value.copy())

    def flatten(self, order: str = "C") -> Buffer:
        return self.reshape(-1, order=order)

    def transpose(self, *axes: Any) -> Any:
        return self.module.transpose(self, axes[0] if len(axes) == 1 else axes or None)

    def any(self, *args: Any, **kwargs: Any) -> Any:
        return self.of(raw(self.value).any(*args, **kwargs))

    def all(self, *args: Any, **kwargs: Any) -> Any:
        return self.of(raw(self.value).all(*args, **kwargs))

    def __copy__(self) -> Buffer:
        return type(self)(self.value)

    def __deepcopy__(self, memo: dict) -> Buffer:
        return self.copy()

    # ---------------------------------------------------------------- leaving the array

    def _leave(self, what: str) -> Any:
        return plain(self, what)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._leave("np.asarray(x)"), dtype=dtype)

    def __float__(self) -> float:
        return float(self._leave("float(x)"))

    def __int__(self) -> int:
        return int(self._leave("int(x)"))

    def __complex__(self) -> complex:
        return complex(self._leave("complex(x)"))

    def __index__(self) -> int:
        return operator.index(self._leave("use as an index"))

    def __bool__(self) -> bool:
        # A branch on a value is the same branch for all nearby values, as for JAX's concrete jvp.
        return bool(raw(self.value))

    def item(self, *args: Any) -> Any:
        return self._leave("x.item()").item(*args)

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self._leave("export by DLPack").__dlpack__(**kwargs)

    def __dlpack_device__(self) -> Any:
        return self._leave("export by DLPack").__dlpack_device__()

    @property
    def ctypes(self) -> Any:
        return self._leave("x.ctypes").ctypes

    @property
    def _numba_type_(self) -> Any:
        # What numba asks of an argument of a class that it does not know.
        self._leave("a function compiled by numba")
        raise AttributeError("_numba_type_")

    def __round__(self, ndigits: int = 0) -> Any:
        return self.module.round(self, ndigits)

    def tolist(self) -> Any:
        return self._leave("x.tolist()").tolist()

    def tobytes(self, *args: Any) -> bytes:
        return self._leave("x.tobytes()").tobytes(*args)

    def __getattr__(self, name: str) -> NoReturn:
        hint = f": use NumPy's functions, np.{name}(x) if there is one" if hasattr(np.ndarray, name) else ""
        raise AttributeError(f"an array inside of a derivative has no {name!r}{hint}")

    def __repr__(self) -> str:
        return f"<{type(self.value).__name__ if self.active else 'constant'} {raw(self.value)!r}>"

    def __format__(self, spec: str) -> str:
        return format(raw(self.value), spec) if spec else repr(self)

    # ---------------------------------------------------------------- functions

    @classmethod
    def of(cls, value: Any) -> Any:
        """``value`` in a buffer; a constant number is handed out as the base does."""
        if isinstance(value, Traced) or np.ndim(value):
            # A number of the host times an array of a device is one of the device.
            return cls.of_home.get(home(raw(value)), cls)(value)
        return value

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if any(_is_foreign(x) for x in inputs):
            return NotImplemented
        if method != "__call__":
            return self.module.ufunc_method(ufunc, method, *inputs, **kwargs)
        return self.module.ufunc(ufunc, *inputs, **kwargs)

    def __array_function__(self, func: Callable, types: Any, args: tuple, kwargs: dict) -> Any:
        return self.module.call(func, args, kwargs)


def _method(name: str) -> Callable:
    """The method that does what NumPy's function of that name does."""

    def method(self: Buffer, *args: Any, **kwargs: Any) -> Any:
        return self.module.call(getattr(np, name), (self, *args), kwargs)

    method.__name__ = name
    return method


for _name in (
    *("sum", "mean", "prod", "min", "max", "var", "std", "cumsum", "cumprod", "dot", "trace"),
    *("argmin", "argmax", "argsort", "nonzero", "searchsorted", "clip", "round", "conj", "conjugate"),
    *("repeat", "squeeze", "swapaxes", "take", "diagonal"),
):
    setattr(Buffer, _name, _method(_name))


def _is_foreign(x: Any) -> bool:
    """Whether ``x`` is a container that must lead (ak.Array, a histogram), not an array or a number."""
    return isinstance(x, histogram_types()) or (
        hasattr(x, "__array_ufunc__")
        and not isinstance(x, (Buffer, np.ndarray, np.generic, int))
        and not is_array(x)
    )


def _operator(operate: Callable, ufunc: np.ufunc, reflected: bool = False) -> Callable:
    """Python's own operator on the plain values, so that the value is what it is without us.

    ``x**2`` is no ``np.power(x, 2)``, and Python numbers stay Python numbers: weakly typed.
    """

    def method(self: Buffer, *others: Any) -> Any:
        if any(_is_foreign(x) for x in others):
            return NotImplemented
        return self.module.ufunc(ufunc, *((*others, self) if reflected else (self, *others)), call=operate)

    return method


_OPERATORS: dict[Callable, np.ufunc] = {
    operator.add: np.add,
    operator.sub: np.subtract,
    operator.mul: np.multiply,
    operator.truediv: np.divide,
    operator.pow: np.power,
    operator.mod: np.remainder,
    operator.neg: np.negative,
    operator.pos: np.positive,
    operator.abs: np.absolute,
}

for _operate, _ufunc in _OPERATORS.items():
    setattr(Buffer, f"__{_operate.__name__}__", _operator(_operate, _ufunc))
    if _ufunc.nin == 2:
        setattr(Buffer, f"__r{_operate.__name__}__", _operator(_operate, _ufunc, reflected=True))


def _in_place(operate: Callable) -> Callable:
    """``total += 1`` makes a new number, as for NumPy's own; an active array is not changed in place."""
    outside = getattr(operator, operate.__name__[1:])

    def method(self: Buffer, other: Any) -> Any:
        if not self.active:
            return type(self)(operate(self.value, plain(other, "an operation in place")))
        if self.ndim:
            raise lost("an operation in place")
        return outside(self, other)

    return method


for _operate in (
    operator.iadd,
    operator.isub,
    operator.imul,
    operator.itruediv,
    operator.ipow,
    operator.imod,
):
    setattr(Buffer, f"__{_operate.__name__}__", _in_place(_operate))
