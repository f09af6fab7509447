"""Derivatives of functions of arrays, without Dask.

The same engine that runs inside every partition of a graph, for one array in memory.
Arguments may be Awkward arrays and records, NumPy arrays, numbers, and lists, tuples and
dicts of these; functions are ordinary functions of them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import wraps
from typing import Any

import awkward as ak
import numpy as np

from dak_diff.engine.level import DIFFARRAY_LEVEL
from dak_diff.engine.matching import match_leaves
from dak_diff.engine.nests import is_nest, map_parts
from dak_diff.engine.transform import check_method, lift, lower, pullback, pushforward
from dak_diff.engine.values import (
    Pair,
    derivative_like,
    is_float,
    leaf_values,
    refuse_opaque,
    separated,
)
from dak_diff.recorded import recorded
from dak_diff.rules.namespace import is_array, kept

__all__ = [
    "diffarray",
    "elementwise_grad",
    "grad",
    "jvp",
    "primal",
    "recorded",
    "tangent",
    "value_and_grad",
    "vjp",
]


def _as_primals(primals: Any) -> tuple:
    primals = tuple(separated(p) for p in (primals if isinstance(primals, (tuple, list)) else (primals,)))
    return tuple(float(p) if type(p) is int else p for p in primals)


def _as_now(primals: Any) -> Any:
    """Arrays of NumPy may be written to before the pullback is called."""
    return map_parts(primals, _as_now) if is_nest(primals) else kept(primals)


def _require_float(primals: Any) -> None:
    if not any(is_float(leaf) for leaf in leaf_values(primals)):
        raise TypeError(
            "nothing to differentiate by: the argument has no floating-point numbers. "
            "Convert integers with ak.values_astype(x, 'float64')."
        )


def _looked_into(value: Any) -> Any:
    refuse_opaque(value)
    return value


def jvp(fn: Callable, primals: Any, tangents: Any = 1.0, *, method: str = "auto") -> tuple[Any, Any]:
    """Value and directional derivative of ``fn`` (forward mode).

    Parameters
    ----------
    fn : callable
        A function of arrays.
    primals : tuple
        Its arguments.
    tangents : tuple or number, default 1
        One for each argument, of its type; a number stands for an array full of it.
    method : {"auto", "dual", "complex-step"}
        Where partials come from: formulas and the complex step where there is none,
        formulas only, or the complex step wherever it is exact.

    Returns
    -------
    value, tangent
        Both of the type of ``fn(*primals)``, dtype included.
        The tangent has units of the value per unit of the seed.

    Raises
    ------
    NoRuleError
        If a derivative would be lost on the way.
    StructureError
        If a tangent does not have the type and the lengths of its argument.

    Notes
    -----
    Structure: ``n * var * float64 -> n * var * float64`` for an elementwise function.
    Runs at once; ``fn`` is called once. Kinks: see docs/explain/kinks.md.

    References
    ----------
    .. [1] Griewank and Walther, *Evaluating Derivatives*, 2nd ed., SIAM 2008, ch. 3.

    Examples
    --------
    >>> import awkward as ak
    >>> from dak_diff import eager
    >>> value, tangent = eager.jvp(lambda x: x**2, (ak.Array([[1.0, 2.0], [3.0]]),))
    >>> tangent.to_list()
    [[2.0, 4.0], [6.0]]
    """
    check_method(method)
    primals = _as_primals(primals)
    _require_float(primals)
    if not isinstance(tangents, (tuple, list)):
        tangents = (tangents,) * len(primals)
    seeds = {i: (leaf,) for i, leaf in match_leaves(primals, tuple(tangents)).items()}
    out = pushforward(lambda args: _looked_into(fn(*args)), (Pair(primals, seeds),), method)
    return out.primal, derivative_like(
        out.primal, {i: t for i, (t,) in out.tangents.items() if t is not None}
    )


def vjp(fn: Callable, primals: Any, *, method: str = "auto") -> tuple[Any, Callable]:
    """Value of ``fn`` and the function from its cotangent to those of the arguments (reverse mode).

    Parameters are those of :func:`jvp`.

    Returns
    -------
    value
        ``fn(*primals)``.
    pull : callable
        ``pull(cotangent)`` takes a cotangent of the type of the value (a number stands for an
        array full of it) and returns a tuple, one for each argument, of its type. With
        ``consume=True`` it frees what it no longer needs, and cannot be called again.
        Units: units of the value times those of the cotangent, per unit of the argument.

    Raises
    ------
    NoRuleError, StructureError
        As :func:`jvp`; the latter when ``pull`` is called.

    Notes
    -----
    Structure: ``n * var * float64 -> n * var * float64``. Runs at once; ``fn`` is called once.

    Examples
    --------
    >>> import awkward as ak
    >>> from dak_diff import eager
    >>> value, pull = eager.vjp(lambda x: ak.sum(x**2, axis=1), (ak.Array([[1.0, 2.0], [3.0]]),))
    >>> pull(1.0)[0].to_list()
    [[2.0, 4.0], [6.0]]
    """
    check_method(method)
    primals = _as_now(_as_primals(primals))
    _require_float(primals)
    value, pull = pullback(lambda *args: _looked_into(fn(*args)), primals, method)

    def pull_cotangent(cotangent: Any, *, consume: bool = False) -> tuple:
        return derivative_like(primals, pull(match_leaves(value, cotangent, "cotangent"), consume))

    return value, pull_cotangent


def value_and_grad(fn: Callable, argnums: int | tuple[int, ...] = 0, *, method: str = "auto") -> Callable:
    """A function that returns the value of a scalar ``fn`` and its gradient.

    Parameters
    ----------
    fn : callable
        A function of arrays that returns one real number.
    argnums : int or tuple of int
        The positional argument to differentiate by, or several: then the gradient is a tuple. Negative ones
        count from the end. Keyword arguments are constants.
    method : {"auto", "dual", "complex-step"}
        As for :func:`jvp`.

    Raises
    ------
    TypeError
        When called, if the value is no real number.
    ValueError
        When called, if there is no such argument.

    Examples
    --------
    >>> import awkward as ak
    >>> from dak_diff import eager
    >>> value, gradient = eager.value_and_grad(lambda x: ak.sum(x**2))(ak.Array([[1.0, 2.0], [3.0]]))
    >>> float(value), gradient.to_list()
    (14.0, [[2.0, 4.0], [6.0]])
    """

    @wraps(fn, updated=())
    def value_and_gradient(*primals: Any, **constants: Any) -> tuple[Any, Any]:
        several = argnums if isinstance(argnums, (tuple, list)) else None
        chosen = [_position(n, len(primals)) for n in several or (argnums,)]

        def of_chosen(*xs: Any) -> Any:
            given = dict(zip(chosen, xs, strict=True))
            return fn(*(given.get(i, x) for i, x in enumerate(primals)), **constants)

        value, pull = vjp(of_chosen, tuple(primals[i] for i in chosen), method=method)
        if isinstance(value, (ak.Array, ak.Record)) or np.ndim(value):
            raise TypeError(f"grad needs a scalar function, this one returns {value!r}; use vjp")
        if getattr(value, "dtype", np.dtype(type(value))).kind == "c":
            raise TypeError(f"grad needs a real number, not {value!r}: take its real part, or use vjp")
        gradient = pull(1.0, consume=True)
        return value, gradient[0] if several is None else gradient

    return value_and_gradient


def _position(argnum: Any, arguments: int) -> int:
    position = operator.index(argnum)
    if not -arguments <= position < arguments:
        raise ValueError(f"there is no argument {argnum} to differentiate by: {arguments} were given")
    return position % arguments


def grad(fn: Callable, argnums: int | tuple[int, ...] = 0, *, method: str = "auto") -> Callable:
    """The gradient of a scalar function, as a function; parameters as for :func:`value_and_grad`.

    Examples
    --------
    >>> import awkward as ak
    >>> from dak_diff import eager
    >>> eager.grad(lambda x: ak.sum(x**2))(ak.Array([[1.0, 2.0], [3.0]])).to_list()
    [[2.0, 4.0], [6.0]]
    """
    both = value_and_grad(fn, argnums, method=method)

    @wraps(fn, updated=())
    def gradient(*primals: Any, **constants: Any) -> Any:
        return both(*primals, **constants)[1]

    return gradient


def elementwise_grad(fn: Callable, *, method: str = "auto") -> Callable:
    """The derivative of a function that acts on each element alone, as a function.

    The cotangent is one everywhere, so where elements are mixed the columns of the Jacobian are summed.

    Examples
    --------
    >>> import awkward as ak
    >>> from dak_diff import eager
    >>> eager.elementwise_grad(lambda x: x**3)(ak.Array([[1.0, 2.0], [3.0]])).to_list()
    [[3.0, 12.0], [27.0]]
    """
    return lambda x: vjp(fn, (x,), method=method)[1](1.0)[0]


def diffarray(primal: Any, tangent: Any = 1.0) -> Any:
    """An array that carries its derivative along: Pivarski's one-slide library.

    Parameters
    ----------
    primal : array-like or ak.Array
        The values.
    tangent : array-like, ak.Array or number, default 1
        Their derivatives by some variable; a number stands for an array full of it.

    Returns
    -------
    diffarray
        Behaves as the array it holds under NumPy's functions, and inside ``ak.Array``;
        ``.primal`` and ``.tangent`` give plain arrays. Of an Awkward array, an Awkward array whose
        buffers are diffarrays: take them apart with :func:`primal` and :func:`tangent`.

    Raises
    ------
    NoRuleError
        Later, if an operation would lose the derivative: ``float(x)``, ``np.asarray(x)``.

    Notes
    -----
    Structure: ``n * float64 -> n * float64``; dtypes float32 and float64 are kept.
    Units: of the tangent per unit of the variable. Kinks: see docs/explain/kinks.md.
    All diffarrays belong to one computation: tangents of different diffarrays add up.

    References
    ----------
    .. [1] Pivarski, *Computational physics with autograd*, a library on one slide.

    Examples
    --------
    >>> import numpy as np
    >>> from dak_diff import eager
    >>> x = eager.diffarray(np.array([1.0, 2.0]))
    >>> y = x**2
    >>> y.primal.tolist(), y.tangent.tolist()
    ([1.0, 4.0], [2.0, 4.0])
    """
    if not isinstance(primal, (ak.Array, ak.Record)):
        primal = primal if is_array(primal) else np.asarray(primal)
        primal = primal if primal.dtype.kind in "fc" else primal.astype(float)
    value = separated(primal)
    _require_float(value)
    seeds = {i: (leaf,) for i, leaf in match_leaves(value, tangent).items()}
    return lift(Pair(value, seeds), DIFFARRAY_LEVEL, "auto")


def primal(array: Any) -> Any:
    """The plain values of a diffarray, or of an Awkward array made of them.

    Examples
    --------
    >>> import awkward as ak
    >>> from dak_diff import eager
    >>> y = eager.diffarray(ak.Array([[1.0, 2.0], [3.0]])) ** 2
    >>> eager.primal(y).to_list()
    [[1.0, 4.0], [9.0]]
    """
    return lower(array, DIFFARRAY_LEVEL, 1).primal


def tangent(array: Any) -> Any:
    """The derivative that a diffarray, or an Awkward array made of them, carries.

    Of the type of :func:`primal`; units of the primal per unit of the seed.

    Examples
    --------
    >>> import awkward as ak
    >>> from dak_diff import eager
    >>> y = eager.diffarray(ak.Array([[1.0, 2.0], [3.0]])) ** 2
    >>> eager.tangent(y).to_list()
    [[2.0, 4.0], [6.0]]
    """
    pair = lower(array, DIFFARRAY_LEVEL, 1)
    return derivative_like(pair.primal, {i: t for i, (t,) in pair.tangents.items()})
