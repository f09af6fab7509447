"""Functions of NumPy that are made of others: what Awkward does not need, but functions of arrays use.

Two kinds. A *formula* says the same as the function in operations that have rules: the value is NumPy's own,
the derivative that of the formula. A *movement* puts elements elsewhere, or zeros: it is done to their
positions, and the elements are taken from there.
"""

from __future__ import annotations

import inspect
import math
import string
from collections.abc import Callable
from functools import partial, reduce, wraps
from typing import Any

import numpy as np

from dak_diff.engine.array_module import ArrayModule
from dak_diff.errors import NoRuleError
from dak_diff.rules import structure
from dak_diff.rules.primitive import Traced, raw
from dak_diff.rules.products import einsum

__all__ = ["JOINS", "MOVEMENTS", "NumpyFunctions"]

#: Functions that move the elements of their first argument.
MOVEMENTS = frozenset(
    (
        *("roll", "rollaxis", "moveaxis", "swapaxes", "rot90", "fliplr", "flipud", "atleast_1d"),
        *("atleast_2d", "atleast_3d", "diagonal", "diag", "diagflat", "triu", "tril", "tile", "resize"),
        *("delete", "split", "array_split", "hsplit", "vsplit", "dsplit", "take_along_axis"),
    )
)
#: Functions that join the arrays in their first argument.
JOINS = frozenset(("hstack", "vstack", "dstack", "column_stack"))


def _formula(method: Callable) -> Callable:
    """The derivative of the method, with the value of the function of NumPy that is called like it."""
    name = method.__name__.replace("linalg_", "linalg.")

    @wraps(method)
    def call(self: NumpyFunctions, *args: Any, **kwargs: Any) -> Any:
        function = reduce(getattr, name.split("."), self.base)
        if not self._is_active((args, kwargs)):
            return self._plainly(name, function)(*args, **kwargs)
        value = function(*self._values(raw, args), **self._values(raw, kwargs))
        with np.errstate(all="ignore"):
            meant = self._value(method(self, *args, **kwargs))
        return self._wrap.of(structure.restated(structure.reshape(meant, shape=np.shape(value)), value=value))

    return call


class NumpyFunctions(ArrayModule):
    """The functions of one base module, with those that are made of others."""

    def __getattr__(self, name: str) -> Any:
        if name in MOVEMENTS or name in JOINS:
            return partial(self._moved, name)
        return super().__getattr__(name)

    def call(self, function: Callable, args: tuple, kwargs: dict) -> Any:
        """What a function of NumPy gives; arguments that only the base knows are for constants only."""
        name = function.__name__
        mine = getattr(self, name) if getattr(np, name, None) is function else self.refused(function)
        try:
            return mine(*args, **kwargs)
        except TypeError:
            unknown = _unknown_arguments(mine, args, kwargs)
            if not unknown:
                raise
            if self._is_active((args, kwargs)):
                raise NoRuleError(
                    f"no derivative rule for numpy.{name} with these arguments: {unknown}. Leave them "
                    "out, or write it with other functions."
                ) from None
        return self._plainly(name, getattr(self.base, name))(*args, **kwargs)

    def refused(self, function: Callable) -> Callable:
        named = f"{function.__module__}.{function.__name__}".removeprefix("numpy.").replace(".", "_")
        return getattr(self, named) if named in vars(NumpyFunctions) else super().refused(function)

    def _is_active(self, obj: Any) -> bool:
        if isinstance(obj, self._any_buffer):
            return isinstance(obj.value, Traced)
        if isinstance(obj, dict):
            obj = tuple(obj.values())
        return isinstance(obj, (list, tuple)) and any(map(self._is_active, obj))

    def _moved(self, name: str, *args: Any, **kwargs: Any) -> Any:
        function = getattr(self.base, name)
        if not self._is_active((args, kwargs)):
            return self._plainly(name, function)(*args, **kwargs)
        return self._moved_by(function, *args, joins=name in JOINS, **kwargs)

    def _moved_by(self, function: Callable, *args: Any, joins: bool = False, **kwargs: Any) -> Any:
        xp = self.base
        arrays = [self._here(x) for x in (args[0] if joins else args[:1])]
        flat = [structure.reshape(x, shape=(-1,)) for x in arrays]
        # Position 0 is a zero: what a function makes up.
        elements = structure.concatenate(xp.zeros(1, dtype=xp.result_type(*map(raw, flat))), *flat)
        stops = np.cumsum([1, *(np.size(x) for x in flat)]).tolist()
        places = [
            xp.arange(stop, stop + np.size(x)).reshape(np.shape(x))
            for x, stop in zip(arrays, stops, strict=False)
        ]
        moved = function(places if joins else places[0], *self._values(raw, args[1:]), **kwargs)

        def taken(places: Any) -> Any:
            if isinstance(places, (list, tuple)):
                return [taken(x) for x in places]
            return self._wrap.of(structure.index(elements, key=places))

        return taken(moved)

    def append(self, arr: Any, values: Any, axis: int | None = None) -> Any:
        return self.concatenate([self.asarray(arr), self.asarray(values)], axis=axis)

    # ---------------------------------------------------------------- statistics

    @_formula
    def mean(self, a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
        return np.sum(a, axis=axis, keepdims=keepdims) / _count(a, axis)

    @_formula
    def var(self, a: Any, axis: Any = None, *, ddof: float = 0, keepdims: bool = False) -> Any:
        squares = _squared(a - self.mean(a, axis, keepdims=True))
        return np.sum(squares, axis=axis, keepdims=keepdims) / (_count(a, axis) - ddof)

    @_formula
    def std(self, a: Any, axis: Any = None, *, ddof: float = 0, keepdims: bool = False) -> Any:
        return np.sqrt(self.var(a, axis, ddof=ddof, keepdims=keepdims))

    @_formula
    def average(self, a: Any, axis: Any = None, weights: Any = None, *, keepdims: bool = False) -> Any:
        if weights is None:
            return self.mean(a, axis, keepdims=keepdims)
        if np.ndim(weights) == 1 < np.ndim(a):
            weights = np.reshape(weights, [-1 if i == axis % np.ndim(a) else 1 for i in range(np.ndim(a))])
        weights = np.broadcast_to(weights, np.shape(a))
        total = np.sum(weights, axis=axis, keepdims=keepdims)
        return np.sum(a * weights, axis=axis, keepdims=keepdims) / total

    @_formula
    def ptp(self, a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
        return np.max(a, axis=axis, keepdims=keepdims) - np.min(a, axis=axis, keepdims=keepdims)

    @_formula
    def nansum(self, a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
        return np.sum(np.where(np.isnan(a), 0.0, a), axis=axis, keepdims=keepdims)

    @_formula
    def nanmean(self, a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
        count = np.sum(~np.isnan(a), axis=axis, keepdims=keepdims)
        return self.nansum(a, axis, keepdims=keepdims) / count

    @_formula
    def nanmax(self, a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
        return np.max(np.where(np.isnan(a), -np.inf, a), axis=axis, keepdims=keepdims)

    @_formula
    def nanmin(self, a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
        return np.min(np.where(np.isnan(a), np.inf, a), axis=axis, keepdims=keepdims)

    @_formula
    def nanvar(self, a: Any, axis: Any = None, *, ddof: float = 0, keepdims: bool = False) -> Any:
        count = np.sum(~np.isnan(a), axis=axis, keepdims=keepdims)
        deviations = np.where(np.isnan(a), 0.0, a - self.nanmean(a, axis, keepdims=True))
        return np.sum(_squared(deviations), axis=axis, keepdims=keepdims) / (count - ddof)

    @_formula
    def nanstd(self, a: Any, axis: Any = None, *, ddof: float = 0, keepdims: bool = False) -> Any:
        return np.sqrt(self.nanvar(a, axis, ddof=ddof, keepdims=keepdims))

    @_formula
    def quantile(self, a: Any, q: Any, axis: int | None = None, *, keepdims: bool = False) -> Any:
        return self._between(a, q, axis)

    @_formula
    def percentile(self, a: Any, q: Any, axis: int | None = None, *, keepdims: bool = False) -> Any:
        return self._between(a, self.base.asarray(q) / 100, axis)

    @_formula
    def median(self, a: Any, axis: int | None = None, *, keepdims: bool = False) -> Any:
        return self._between(a, 0.5, axis)

    def _between(self, a: Any, q: Any, axis: int | None) -> Any:
        """Between the two elements in order that a quantile lies between."""
        a, axis = (self.ravel(a), 0) if axis is None else (a, axis)
        ordered = self.moveaxis(np.sort(a, axis=axis), axis, 0)
        q, last = self.base.asarray(q), len(ordered) - 1
        if last < 0:
            return self.broadcast_to(np.sum(ordered, axis=0), q.shape + ordered.shape[1:])
        first = np.floor(q * last).astype(np.int64)
        share = (q * last - first).reshape(q.shape + (1,) * (ordered.ndim - 1))
        return ordered[first] * (1 - share) + ordered[self.base.minimum(first + 1, last)] * share

    @_formula
    def linalg_norm(self, x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
        if ord is not None and not (ord == 2 and (isinstance(axis, int) or np.ndim(x) == 1)):
            raise NoRuleError(
                "no derivative rule for numpy.linalg.norm but the square root of squares: write it with "
                "np.sum, np.max and np.abs"
            )
        return np.sqrt(np.sum(_squared(x), axis=axis, keepdims=keepdims))

    # ---------------------------------------------------------------- linear algebra

    @_formula
    def linalg_inv(self, a: Any) -> Any:
        # Each step of Newton's iteration doubles the order up to which derivatives are right.
        inverse = self._wrap(self.base.linalg.inv(raw(self._value(a))))
        for _ in range(self._order(a).bit_length()):
            inverse = 2.0 * inverse - inverse @ a @ inverse
        return inverse

    @_formula
    def linalg_solve(self, a: Any, b: Any) -> Any:
        return self.linalg_inv(a) @ b

    @_formula
    def linalg_det(self, a: Any) -> Any:
        return self.base.linalg.det(raw(self._value(a))) * np.exp(self._log_of_ratio(a))

    def linalg_slogdet(self, a: Any) -> Any:
        if not self._is_active(a):
            return self._plainly("linalg.slogdet", self.base.linalg.slogdet)(a)
        value = self.base.linalg.slogdet(raw(self._value(a)))
        meant = self._value(self._log_of_ratio(a))
        return type(value)(value.sign, self._wrap.of(structure.restated(meant, value=value.logabsdet)))

    def _log_of_ratio(self, a: Any) -> Any:
        """``log(det(a) / det(its value))``: 0, with the derivatives of a power series up to their order."""
        value = raw(self._value(a))
        step = self._wrap(self.base.linalg.inv(value)) @ (a - value)
        power, total = step, self.trace(step, axis1=-2, axis2=-1)
        for k in range(2, self._order(a) + 1):
            power = -(power @ step)
            total = total + self.trace(power, axis1=-2, axis2=-1) / k
        return total

    def _order(self, x: Any) -> int:
        """How many derivatives are being taken of a value at once."""
        value, order = self._value(x), 0
        while isinstance(value, Traced):
            value, order = value.primal, order + 1
        return order

    # ---------------------------------------------------------------- products

    def _product(self, subscripts: str, *factors: Any) -> Any:
        return self._wrap.of(einsum(*map(self._here, factors), subscripts=subscripts))

    @_formula
    def tensordot(self, a: Any, b: Any, axes: Any = 2) -> Any:
        n, m = np.ndim(a), np.ndim(b)
        if isinstance(axes, int):
            axes = (range(n - axes, n), range(axes))
        pairs = list(zip(np.atleast_1d(axes[0]), np.atleast_1d(axes[1]), strict=True))
        mine, theirs = list(string.ascii_letters[:n]), list(string.ascii_letters[n : n + m])
        for i, j in pairs:
            theirs[j] = mine[i]
        summed = {mine[i] for i, _ in pairs}
        out = "".join(c for c in (*mine, *theirs) if c not in summed)
        return self._product(f"{''.join(mine)},{''.join(theirs)}->{out}", a, b)

    @_formula
    def dot(self, a: Any, b: Any) -> Any:
        n, m = np.ndim(a), np.ndim(b)
        return a * b if 0 in (n, m) else self.tensordot(a, b, (n - 1, max(m - 2, 0)))

    @_formula
    def inner(self, a: Any, b: Any) -> Any:
        n, m = np.ndim(a), np.ndim(b)
        return a * b if 0 in (n, m) else self.tensordot(a, b, (n - 1, m - 1))

    @_formula
    def outer(self, a: Any, b: Any) -> Any:
        return self._product("i,j->ij", self.ravel(a), self.ravel(b))

    @_formula
    def vdot(self, a: Any, b: Any) -> Any:
        return self._product("i,i->", np.conjugate(self.ravel(a)), self.ravel(b))

    @_formula
    def matmul(self, a: Any, b: Any) -> Any:
        n, m = np.shape(a), np.shape(b)
        batch = np.broadcast_shapes(n[:-2], m[:-2])
        a = self.broadcast_to(a, batch + n[-2:]) if len(n) > 1 else a
        b = self.broadcast_to(b, batch + m[-2:]) if len(m) > 1 else b
        each, row, column = string.ascii_uppercase[: len(batch)], "a"[: len(n) - 1], "c"[: len(m) - 1]
        left, right = f"{each if row else ''}{row}b", f"{each if column else ''}b{column}"
        return self._product(f"{left},{right}->{each}{row}{column}", a, b)

    @_formula
    def einsum(self, subscripts: str, *operands: Any) -> Any:
        if "..." in subscripts:
            raise NoRuleError("no derivative rule for numpy.einsum but with all indices written out")
        inputs, arrow, out = subscripts.replace(" ", "").partition("->")
        if not arrow:
            out = "".join(sorted(c for c in set(inputs) - {","} if inputs.count(c) == 1))
        factors, labels = list(operands), inputs.split(",")
        for i, label in enumerate(labels):
            once = "".join(dict.fromkeys(label))
            if once != label:
                factors[i] = self._moved_by(partial(self.base.einsum, f"{label}->{once}"), factors[i])
                labels[i] = once
        return self._product(f"{','.join(labels)}->{out}", *factors)

    @_formula
    def trace(self, a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
        return np.sum(self.diagonal(a, offset, axis1, axis2), axis=-1)

    # ---------------------------------------------------------------- along an axis, and choices

    @_formula
    def cumprod(self, a: Any, axis: int | None = None) -> Any:
        # By doubling: no quotient, which a factor of zero would not have.
        a, axis = (self.ravel(a), 0) if axis is None else (a, axis)
        total = self.moveaxis(a, axis, 0)
        done = 1
        while done < len(total):
            ones = self.base.ones_like(raw(total.value)[:done])
            total, done = total * self.concatenate([self.asarray(ones), total[:-done]]), 2 * done
        return self.moveaxis(total, 0, axis)

    @_formula
    def convolve(self, a: Any, v: Any, mode: str = "full") -> Any:
        long, short = (a, v) if len(a) >= len(v) else (v, a)
        n, m = len(long), len(short)
        places = (self.base.arange(n)[:, None] + self.base.arange(m)).reshape(-1)
        products = self._value(self.outer(long, short).reshape(-1))
        full = self._wrap.of(structure.scatter_add(products, key=places, shape=(n + m - 1,)))
        start, length = {"full": (0, n + m - 1), "same": ((m - 1) // 2, n), "valid": (m - 1, n - m + 1)}[mode]
        return full[start : start + length]

    @_formula
    def trapezoid(self, y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
        y = self.moveaxis(self.asarray(y), axis, -1)
        if x is not None:
            dx = np.diff(x) if np.ndim(x) == 1 else np.diff(self.moveaxis(x, axis, -1))
        return np.sum(dx * (y[..., 1:] + y[..., :-1]) / 2.0, axis=-1)

    @_formula
    def interp(self, x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None) -> Any:
        # At a node the slope is that of the interval behind it.
        xp, fp = self.asarray(xp), self.asarray(fp)
        nodes, at = raw(xp.value), raw(self._value(x))
        first = self.base.clip(self.base.searchsorted(nodes, at, side="right") - 1, 0, max(len(nodes) - 2, 0))
        last = self.base.minimum(first + 1, len(nodes) - 1)
        width = np.where(nodes[last] > nodes[first], xp[last] - xp[first], 1.0)
        inside = fp[first] + (fp[last] - fp[first]) * (x - xp[first]) / width
        below, above = fp[0] if left is None else left, fp[-1] if right is None else right
        return np.where(at < nodes[0], below, np.where(at > nodes[-1], above, inside))

    @_formula
    def select(self, condlist: Any, choicelist: Any, default: Any = 0) -> Any:
        out = default
        for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
            out = self.where(condition, choice, out)
        return out

    @_formula
    def bincount(self, x: Any, weights: Any = None, minlength: int = 0) -> Any:
        positions = raw(self._value(x))
        length = max(int(positions.max()) + 1 if len(positions) else 0, minlength)
        return self._wrap.of(structure.scatter_add(self._value(weights), key=positions, shape=(length,)))


def _unknown_arguments(function: Callable, args: tuple, kwargs: dict) -> str:
    """What is wrong with the arguments, if a function does not take them."""
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        return str(error)
    return ""


def _count(x: Any, axis: Any) -> int:
    return math.prod(x.shape if axis is None else [x.shape[i] for i in np.atleast_1d(axis)])


def _squared(x: Any) -> Any:
    return np.square(x.real) + np.square(x.imag) if x.dtype.kind == "c" else np.square(x)
