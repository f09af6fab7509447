"""Operations that move values without changing them, and their transposes.

Kind *linear*: the author writes the transpose. Kind *selection*: the author names the
index it selects by; the transpose is a scatter-add. The value at kinks is no question here.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import numpy as np

from dak_diff.errors import NoRuleError
from dak_diff.rules.namespace import atomic, binned_sum, home, moved, namespace
from dak_diff.rules.primitive import Primitive, dtype_of, raw

__all__ = [
    "astype",
    "broadcast_to",
    "concatenate",
    "conjugated",
    "contiguous",
    "cumsum",
    "imag",
    "index",
    "move",
    "move_like",
    "nan_to_num",
    "real",
    "reshape",
    "restated",
    "scatter_add",
    "sum_to_shape",
    "transpose",
    "where",
]


class Linear(Primitive):
    """A linear map of its one array argument; the parameters are constants.

    y_dot = f(x_dot); x_bar = transpose(y_bar).
    """

    kind = "linear"

    def residuals(self, out: Any, args: tuple, params: dict, active: tuple, method: str) -> tuple:
        return (np.shape(args[0]), dtype_of(args[0]), params)

    def push(self, residuals: tuple, tangents: tuple) -> Any:
        return self(tangents[0], **residuals[2])

    def pull(self, residuals: tuple, cotangent: Any, active: tuple[bool, ...]) -> tuple:
        shape, dtype, params = residuals
        return (self.transposed(cotangent, shape, dtype, params),)

    @abstractmethod
    def transposed(self, cotangent: Any, shape: tuple, dtype: np.dtype, params: dict) -> Any:
        """Cotangent of an argument of this shape and dtype."""


class _Reshape(Linear):
    """y_dot = reshape(x_dot); x_bar = reshape(y_bar)."""

    name = "reshape"

    def impl(self, x: Any, *, shape: tuple) -> Any:
        out = namespace(x).reshape(x, shape)
        # One number is no array to NumPy, and only so it meets arrays of a device.
        return out[()] if shape == () else out

    def transposed(self, cotangent: Any, shape: tuple, dtype: np.dtype, params: dict) -> Any:
        return self(cotangent, shape=shape)


class _Transpose(Linear):
    """y_dot = transpose(x_dot, axes); x_bar = transpose(y_bar, inverse axes)."""

    name = "transpose"

    def impl(self, x: Any, *, axes: tuple[int, ...]) -> Any:
        return namespace(x).transpose(x, axes)

    def transposed(self, cotangent: Any, shape: tuple, dtype: np.dtype, params: dict) -> Any:
        axes = [axis % len(shape) for axis in params["axes"]]
        return self(cotangent, axes=tuple(int(i) for i in np.argsort(axes)))


class _BroadcastTo(Linear):
    """y_dot = broadcast(x_dot); x_bar = sum of y_bar over the broadcast axes."""

    name = "broadcast_to"

    def impl(self, x: Any, *, shape: tuple) -> Any:
        return namespace(x).broadcast_to(x, shape)

    def transposed(self, cotangent: Any, shape: tuple, dtype: np.dtype, params: dict) -> Any:
        return sum_to_shape(cotangent, shape=shape)


class _SumToShape(Linear):
    """The transpose of broadcasting: sums the axes that broadcasting made."""

    name = "sum_to_shape"

    @atomic
    def impl(self, x: Any, *, shape: tuple) -> Any:
        extra = x.ndim - len(shape)
        axes = tuple(range(extra)) + tuple(
            i + extra for i, n in enumerate(shape) if n == 1 and x.shape[i + extra] != 1
        )
        return namespace(x).reshape(x.sum(axis=axes), shape)

    def transposed(self, cotangent: Any, shape: tuple, dtype: np.dtype, params: dict) -> Any:
        return broadcast_to(cotangent, shape=shape)


class _Contiguous(Linear):
    """The same numbers in one piece of memory."""

    name = "contiguous"

    def impl(self, x: Any) -> Any:
        return namespace(x).ascontiguousarray(x)

    def transposed(self, cotangent: Any, shape: tuple, dtype: np.dtype, params: dict) -> Any:
        return cotangent


class _Move(Linear):
    """The same numbers in another array library: y_dot goes with its primal; x_bar comes back."""

    name = "move"

    def impl(self, x: Any, *, to: type) -> Any:
        return moved(x, to)

    def residuals(self, out: Any, args: tuple, params: dict, active: tuple, method: str) -> tuple:
        return (home(raw(args[0])), params["to"])

    def push(self, residuals: tuple, tangents: tuple) -> Any:
        return self(tangents[0], to=residuals[1])

    def pull(self, residuals: tuple, cotangent: Any, active: tuple[bool, ...]) -> tuple:
        return (self(cotangent, to=residuals[0]),)

    def transposed(self, cotangent: Any, shape: tuple, dtype: np.dtype, params: dict) -> Any:
        raise AssertionError("pull knows where the argument was")


class _Astype(Linear):
    """y_dot = x_dot in the new dtype; x_bar = y_bar in the old one."""

    name = "astype"

    def impl(self, x: Any, *, dtype: np.dtype) -> Any:
        return x.astype(dtype) if hasattr(x, "astype") else np.dtype(dtype).type(x)

    def residuals(self, out: Any, args: tuple, params: dict, active: tuple, method: str) -> tuple:
        if dtype_of(args[0]).kind == "c" and np.dtype(params["dtype"]).kind != "c":
            raise NoRuleError(
                f"no derivative rule for a cast from {dtype_of(args[0])} to {params['dtype']}: "
                "it would drop the imaginary part. Take ak.real(x) or ak.imag(x) first."
            )
        return super().residuals(out, args, params, active, method)

    def transposed(self, cotangent: Any, shape: tuple, dtype: np.dtype, params: dict) -> Any:
        return real_if(cotangent, dtype)


class _Cumsum(Linear):
    """y_dot = cumsum(x_dot); x_bar = cumsum of y_bar from the other end."""

    name = "cumsum"

    def impl(self, x: Any, *, axis: int) -> Any:
        return namespace(x).cumsum(x, axis=axis)

    def transposed(self, cotangent: Any, shape: tuple, dtype: np.dtype, params: dict) -> Any:
        axis = params["axis"] % len(shape)
        backwards = (slice(None),) * axis + (slice(None, None, -1),)
        return index(self(index(cotangent, key=backwards), axis=axis), key=backwards)


class _RealPart(Linear):
    """y_dot = Re x_dot; x_bar = y_bar. A real argument passes."""

    name = "real"

    def impl(self, x: Any) -> Any:
        return namespace(x).real(x)

    def transposed(self, cotangent: Any, shape: tuple, dtype: np.dtype, params: dict) -> Any:
        return astype(cotangent, dtype=dtype)


class _ImagPart(Linear):
    """y_dot = Im x_dot; x_bar = i y_bar. Zero for a real argument."""

    name = "imag"

    def impl(self, x: Any) -> Any:
        return namespace(x).imag(x)

    def transposed(self, cotangent: Any, shape: tuple, dtype: np.dtype, params: dict) -> Any:
        return cotangent * 1j if dtype.kind == "c" else cotangent * 0


class _Index(Linear):
    """Selection by any NumPy key: y_dot = x_dot[key]; x_bar = scatter-add of y_bar."""

    name = "take"
    kind = "selection"

    def __reduce__(self) -> str:
        return "index"

    def impl(self, x: Any, *, key: Any) -> Any:
        return x[key]

    def transposed(self, cotangent: Any, shape: tuple, dtype: np.dtype, params: dict) -> Any:
        return scatter_add(cotangent, key=params["key"], shape=shape)


class _ScatterAdd(Linear):
    """The transpose of selection: zeros of ``shape``, with x added at ``key``."""

    name = "scatter_add"
    kind = "selection"

    @atomic
    def impl(self, x: Any, *, key: Any, shape: tuple) -> Any:
        xp = namespace(x)
        if _selects_once(key):
            out = xp.zeros(shape, dtype=dtype_of(x))
            out[key] = x
            return out
        size = math.prod(shape)
        if len(shape) == 1 and isinstance(key, type(x)) and key.dtype.kind in "iu":
            positions = key.astype(xp.int64)
            positions = xp.where(positions < 0, positions + size, positions)
        else:
            positions = xp.arange(size).reshape(shape)[key]
        flat, positions = x.reshape(-1), xp.broadcast_to(positions, x.shape).reshape(-1)
        return binned_sum(flat, positions, size).reshape(shape)

    def transposed(self, cotangent: Any, shape: tuple, dtype: np.dtype, params: dict) -> Any:
        return index(cotangent, key=params["key"])


def _selects_once(key: Any) -> bool:
    """Whether no element can be selected twice: slices, integers, one mask, new axes."""
    parts = key if isinstance(key, tuple) else (key,)
    return all(
        part is None
        or part is Ellipsis
        or isinstance(part, (slice, int, np.integer))
        or getattr(part, "dtype", None) == np.bool_
        for part in parts
    )


class _Restated(Primitive):
    """The value of one formula with the derivative of another: y_dot = x_dot."""

    name = "restated"
    kind = "linear"

    def impl(self, x: Any, *, value: Any) -> Any:
        return value

    def residuals(self, out: Any, args: tuple, params: dict, active: tuple, method: str) -> tuple:
        return ()

    def push(self, residuals: tuple, tangents: tuple) -> Any:
        return tangents[0]

    def pull(self, residuals: tuple, cotangent: Any, active: tuple[bool, ...]) -> tuple:
        return (cotangent,)


class _Where(Primitive):
    """y_dot = where(c, x_dot, z_dot); x_bar = where(c, y_bar, 0), z_bar the rest.

    The branch not taken has no influence, whatever its value is.
    """

    name = "where"
    kind = "custom"

    def impl(self, condition: Any, x: Any, z: Any) -> Any:
        # CuPy asks the condition for its dtype.
        condition = condition if hasattr(condition, "dtype") else np.bool_(condition)
        return namespace(condition, x, z).where(condition, x, z)

    def residuals(self, out: Any, args: tuple, params: dict, active: tuple, method: str) -> tuple:
        return (raw(args[0]),)

    def push(self, residuals: tuple, tangents: tuple) -> Any:
        _, x_dot, z_dot = tangents
        return self(residuals[0], 0.0 if x_dot is None else x_dot, 0.0 if z_dot is None else z_dot)

    def pull(self, residuals: tuple, cotangent: Any, active: tuple[bool, ...]) -> tuple:
        return (
            None,
            self(residuals[0], cotangent, 0.0) if active[1] else None,
            self(residuals[0], 0.0, cotangent) if active[2] else None,
        )


class _Concatenate(Primitive):
    """y_dot = concatenation of the tangents; each x_bar is its slice of y_bar."""

    name = "concatenate"
    kind = "linear"

    def impl(self, *arrays: Any, axis: int = 0) -> Any:
        return namespace(*arrays).concatenate(arrays, axis=axis)

    def residuals(self, out: Any, args: tuple, params: dict, active: tuple, method: str) -> tuple:
        zeros = namespace(raw(out)).zeros(0, dtype=dtype_of(out))
        return (tuple(np.shape(x) for x in args), params.get("axis", 0), zeros)

    def push(self, residuals: tuple, tangents: tuple) -> Any:
        shapes, axis, empty = residuals
        xp = namespace(empty)
        parts = [
            xp.zeros(shape, dtype=empty.dtype) if tangent is None else tangent
            for shape, tangent in zip(shapes, tangents, strict=True)
        ]
        return self(*parts, axis=axis)

    def pull(self, residuals: tuple, cotangent: Any, active: tuple[bool, ...]) -> tuple:
        shapes, axis, _ = residuals
        axis %= len(shapes[0])
        lead, stop, parts = (slice(None),) * axis, 0, []
        for shape, on in zip(shapes, active, strict=True):
            start, stop = stop, stop + shape[axis]
            parts.append(index(cotangent, key=(*lead, slice(start, stop))) if on else None)
        return tuple(parts)


reshape = _Reshape()
transpose = _Transpose()
broadcast_to = _BroadcastTo()
sum_to_shape = _SumToShape()
contiguous = _Contiguous()
move = _Move()
astype = _Astype()
cumsum = _Cumsum()
real = _RealPart()
imag = _ImagPart()
index = _Index()
scatter_add = _ScatterAdd()
restated = _Restated()
where = _Where()
concatenate = _Concatenate()


def move_like(x: Any, to: type) -> Any:
    """``x``, of any algebra, in the library of an array class; what is there already is itself."""
    return x if home(raw(x)) is to else move(x, to=to)


def conjugated(x: Any) -> Any:
    """The complex conjugate; a real array is its own."""
    return np.conjugate(x) if dtype_of(x).kind == "c" else x


def real_if(x: Any, dtype: np.dtype) -> Any:
    """``x`` in ``dtype``; a complex derivative of a real value is its real part."""
    if dtype_of(x) == dtype:
        return x
    if dtype_of(x).kind == "c" and dtype.kind != "c":
        x = real(x)
    return astype(x, dtype=dtype)


def nan_to_num(x: Any, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    """Replace non-finite values; the derivative follows whichever value is taken."""
    if dtype_of(x).kind == "c":
        return nan_to_num(real(x), nan, posinf, neginf) + 1j * nan_to_num(imag(x), nan, posinf, neginf)
    plain = raw(x)
    dtype = dtype_of(x)
    limits = np.finfo(dtype)
    posinf = limits.max if posinf is None else posinf
    neginf = limits.min if neginf is None else neginf
    x = where(np.isnan(plain), nan, x)
    x = where(np.isposinf(plain), posinf, x)
    return real_if(where(np.isneginf(plain), neginf, x), dtype)
