"""Rules that a user gives to a function of arrays: ``custom_jvp`` and ``custom_vjp``.

To the algebras such a function is one primitive: from its active leaves to one vector that holds
all floating-point leaves of its value, so that one call of the rule serves them all. Either kind
of rule serves both modes, because the tape transposes linear maps: a jvp rule in its tangents, a
vjp rule in its cotangents.
"""

from __future__ import annotations

import functools
import inspect
import math
import sys
from collections.abc import Callable
from typing import Any

import awkward as ak
import numpy as np

from dak_diff.engine.awkward_internals import is_absent
from dak_diff.engine.buffer import unwrap
from dak_diff.engine.matching import match_leaves
from dak_diff.engine.nests import is_nest
from dak_diff.engine.transform import pullback
from dak_diff.engine.values import (
    Kept,
    derivative_like,
    is_active,
    is_float,
    leaf_values,
    map_leaves,
    numbered,
    separated,
    settled,
    wrapped,
)
from dak_diff.errors import NoRuleError, StructureError
from dak_diff.rules.primitive import Primitive, Traced, dtype_of, raw
from dak_diff.rules.structure import concatenate, index, real_if, reshape

__all__ = ["CustomJvp", "CustomVjp", "custom_jvp", "custom_vjp"]


class Call:
    """One call of a function that has a rule.

    Parameters
    ----------
    args : tuple
        Its arguments, with plain arrays.
    positions : tuple of int
        Which of their leaves are active.

    Attributes
    ----------
    out : value
        What it gave, with plain arrays.
    kept : value
        What a forward rule keeps for the backward rule.
    """

    def __init__(self, args: tuple, positions: tuple[int, ...]):
        self.args, self.positions = args, positions
        self.out: Any = None
        self.kept: Any = None

    def arguments(self, leaves: tuple) -> tuple:
        """The arguments with these active leaves."""
        return tuple(_replaced(self.args, dict(zip(self.positions, leaves, strict=True))))

    def tangents(self, given: tuple) -> tuple:
        """Tangents of the arguments, with their whole structure, from those of the active leaves."""
        known = {p: t for p, t in zip(self.positions, given, strict=True) if t is not None}
        return tuple(derivative_like(self.args, known))

    def cotangent(self, flat: Any) -> Any:
        """The cotangent of the result from that of its vector."""
        return derivative_like(self.out, _parts(self.out, flat))


def _replaced(value: Any, leaves: dict[int, Any]) -> Any:
    return map_leaves(value, numbered(lambda leaf, is_text, i: leaves.get(i, leaf)))


def float_leaves(value: Any) -> dict[int, Any]:
    found: dict[int, Any] = {}

    def on_leaf(leaf: Any, is_text: bool, i: int) -> Any:
        if not is_absent(leaf) and is_float(leaf):
            found[i] = leaf
        return leaf

    map_leaves(value, numbered(on_leaf))
    return found


def vector(leaves: dict[int, Any]) -> Any:
    """All leaves behind one another."""
    flat = [reshape(leaf, shape=(-1,)) for leaf in leaves.values()]
    if len(flat) < 2:
        return flat[0] if flat else np.empty(0)
    return concatenate(*flat, axis=0)


def _parts(like: Any, flat: Any) -> dict[int, Any]:
    """The leaves that a vector holds."""
    parts, start = {}, 0
    for i, leaf in float_leaves(like).items():
        stop = start + math.prod(np.shape(leaf))
        part = flat if (start, stop) == (0, len(flat)) else index(flat, key=slice(start, stop))
        parts[i] = real_if(reshape(part, shape=np.shape(leaf)), dtype_of(leaf))
        start = stop
    return parts


class Rule(Primitive):
    """A function with a rule, as a primitive."""

    kind = "custom"

    def __init__(self, function: Any):
        self.function, self.name = function, function.__name__

    def __reduce__(self) -> tuple:
        return (type(self), (self.function,))

    def _refuse_closures(self, given: Any, result: Any) -> Any:
        """What is active in a result though nothing that was given is: it came in by another way."""
        levels = [leaf.level for leaf in given if isinstance(leaf, Traced)]
        for leaf in leaf_values(result):
            if isinstance(leaf, Traced) and leaf.level > max(levels, default=-1):
                raise NoRuleError(
                    f"{self.name!r} has a rule, but closes over a value that depends on wrt, whose "
                    "derivative would be lost: make it an argument"
                )
        return result

    def _matched(self, call: Call, tangent: Any) -> Any:
        """The tangent of the result as a vector."""
        if tangent is None:
            raise StructureError(f"the jvp rule of {self.name!r} must return a tangent, not None")
        try:
            return vector(match_leaves(call.out, tangent))
        except StructureError as error:
            raise StructureError(f"the jvp rule of {self.name!r}: {error}") from None


class _JvpRule(Rule):
    """y_dot by the user's rule; x_bar is its transpose in the tangents."""

    def impl(self, *leaves: Any, call: Call) -> Any:
        result = self.function.fn(*call.arguments(leaves))
        call.out = settled(separated(self._refuse_closures(leaves, result)))
        return vector(float_leaves(call.out))

    def residuals(self, out: Any, args: tuple, params: dict, active: tuple, method: str) -> tuple:
        return (params["call"], args)

    def push(self, residuals: tuple, tangents: tuple) -> Any:
        call, leaves = residuals
        result = self.function.jvp_rule()(call.arguments(leaves), call.tangents(tangents))
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise StructureError(
                f"the jvp rule of {self.name!r} must return (value, tangent), not {result!r}"
            )
        return self._matched(call, result[1])

    def pull(self, residuals: tuple, cotangent: Any, active: tuple[bool, ...]) -> tuple:
        zeros = tuple(np.zeros_like(raw(leaf)) for leaf in residuals[1])
        at_zero, pull = pullback(lambda *tangents: wrapped(self.push(residuals, unwrap(tangents))), zeros)
        if (abs(raw(unwrap(at_zero))) > 0).any():
            raise StructureError(
                f"the jvp rule of {self.name!r} is not linear in the tangents: it must return the tangent, "
                "not the slope, and be zero where they are"
            )
        pulled = pull({0: cotangent})
        return tuple(pulled.get(i) for i in range(len(zeros)))


class _VjpRule(Rule):
    """x_bar by the user's rule; y_dot is its transpose in the cotangent."""

    def impl(self, *leaves: Any, call: Call) -> Any:
        out, call.kept = self._refuse_closures(leaves, self._forward(call.arguments(leaves)))
        call.out = settled(separated(out))
        return vector(float_leaves(call.out))

    def _forward(self, args: tuple) -> tuple:
        result = self.function.vjp_rule()[0](*args)
        if not isinstance(result, tuple) or len(result) != 2:
            raise StructureError(
                f"the forward rule of {self.name!r} must return (value, residuals), not {result!r}"
            )
        return result

    def residuals(self, out: Any, args: tuple, params: dict, active: tuple, method: str) -> tuple:
        call = params["call"]
        nested = any(isinstance(arg, Traced) for arg in args)
        return (call, Kept(self._forward(call.arguments(args))[1] if nested else call.kept))

    def push(self, residuals: tuple, tangents: tuple) -> Any:
        zeros = np.zeros_like(raw(vector(float_leaves(residuals[0].out))))
        active = tuple(tangent is not None for tangent in tangents)

        def pulled(flat: Any) -> tuple:
            return tuple(map(wrapped, self.pull(residuals, unwrap(flat), active)))

        _, pull = pullback(pulled, (zeros,))
        return pull({i: t for i, t in enumerate(tangents) if t is not None}).get(0)

    def pull(self, residuals: tuple, cotangent: Any, active: tuple[bool, ...]) -> tuple:
        call, kept = residuals
        pulled = self.function.vjp_rule()[1](kept.value, call.cotangent(cotangent))
        if not isinstance(pulled, (tuple, list)) or len(pulled) != len(call.args):
            raise StructureError(
                f"the vjp rule of {self.name!r} must return one cotangent for each of its "
                f"{len(call.args)} arguments, not {pulled!r}"
            )
        leaves = self._leaves(call.args, pulled)
        return tuple(leaves.get(p) if on else None for p, on in zip(call.positions, active, strict=True))

    def _leaves(self, args: tuple, cotangents: Any) -> dict[int, Any]:
        found, start = {}, 0
        for i, (arg, cotangent) in enumerate(zip(args, cotangents, strict=True)):
            if cotangent is not None:
                if isinstance(cotangent, (int, float)) and cotangent and _has_elements(arg):
                    raise StructureError(
                        f"the vjp rule of {self.name!r}, argument {i}: one number for an array; "
                        "give each element its own"
                    )
                try:
                    matched = match_leaves(arg, cotangent, "cotangent")
                except StructureError as error:
                    raise StructureError(f"the vjp rule of {self.name!r}, argument {i}: {error}") from None
                found.update({start + leaf: value for leaf, value in matched.items()})
            start += len(leaf_values(arg))
        return found


def _has_elements(arg: Any) -> bool:
    return isinstance(arg, (ak.Array, ak.Record)) or is_nest(arg) or np.ndim(arg) > 0


class RuledFunction:
    """A function of arrays that brings its own rule."""

    _primitive: type[Rule]
    __name__: str
    __qualname__: str

    def __init__(self, fn: Callable):
        self.fn = fn
        functools.update_wrapper(self, fn)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not is_active((args, kwargs)):
            return self.fn(*args, **kwargs)
        bound = inspect.signature(self.fn).bind(*args, **kwargs)
        bound.apply_defaults()
        if bound.kwargs:
            raise TypeError(
                f"{self.__name__!r} has a rule, so all its arguments are positional; "
                f"{', '.join(bound.kwargs)} cannot be"
            )
        return self._differentiated(settled(separated(bound.args)))

    def _differentiated(self, args: tuple) -> Any:
        active: dict[int, Traced] = {}

        def on_leaf(leaf: Any, is_text: bool, i: int) -> Any:
            if isinstance(leaf, Traced):
                active[i] = leaf
            return raw(leaf)

        call = Call(map_leaves(args, numbered(on_leaf)), tuple(active))
        flat = self._primitive(self)(*active.values(), call=call)
        return _replaced(call.out, _parts(call.out, flat)) if isinstance(flat, Traced) else call.out

    def __reduce__(self) -> Any:
        # By name where that leads here, as functions are pickled; else with what it holds.
        found: Any = sys.modules.get(self.__module__)
        for name in self.__qualname__.split("."):
            found = getattr(found, name, None)
        if found is self and self.__module__ != "__main__":
            return self.__qualname__
        rules = {name: rule for name, rule in vars(self).items() if name.endswith("_rule")}
        return (_rebuilt, (type(self), self.fn, rules))


def _rebuilt(cls: type[RuledFunction], fn: Callable, rules: dict[str, Callable]) -> RuledFunction:
    function = cls(fn)
    vars(function).update(rules)
    return function


class CustomJvp(RuledFunction):
    """What :func:`custom_jvp` makes of a function."""

    _primitive = _JvpRule

    def defjvp(self, rule: Callable) -> Callable:
        """Give the rule: ``rule(primals, tangents) -> (value, tangent)``, linear in the tangents."""
        self._jvp_rule = rule
        return rule

    def jvp_rule(self) -> Callable:
        if not hasattr(self, "_jvp_rule"):
            raise NoRuleError(f"{self.__name__!r} has no rule yet: give it one with @{self.__name__}.defjvp")
        return self._jvp_rule


class CustomVjp(RuledFunction):
    """What :func:`custom_vjp` makes of a function."""

    _primitive = _VjpRule

    def defvjp(self, forward: Callable, backward: Callable) -> None:
        """Give the rule.

        Parameters
        ----------
        forward : callable
            ``forward(*args) -> (value, residuals)``.
        backward : callable
            ``backward(residuals, cotangent) -> tuple``: a cotangent for each argument, None for zero.
        """
        self._forward_rule, self._backward_rule = forward, backward

    def vjp_rule(self) -> tuple[Callable, Callable]:
        if not hasattr(self, "_forward_rule"):
            raise NoRuleError(f"{self.__name__!r} has no rule yet: give it one with {self.__name__}.defvjp")
        return self._forward_rule, self._backward_rule


def custom_jvp(fn: Callable) -> CustomJvp:
    """Give a function of arrays its own derivative, by a forward rule.

    For functions that cannot be differentiated as they are (numba, lookups, calls into C), or for which a
    better formula is known. A decorator; the rule follows by ``@f.defjvp``.

    Parameters
    ----------
    fn : callable
        A function of arrays, numbers, and lists, tuples and dicts of these: in ``dak.map_partitions``, in
        ``eager``, or inside another function. It never sees an array that carries a derivative.

    Returns
    -------
    CustomJvp
        The function, with a method ``defjvp`` that takes the rule: ``rule(primals, tangents)`` returns
        ``(value, tangent)``. ``tangents`` has one entry for each argument, of its type (zero where there
        is none; in integers 0, False, the text itself); the tangent has the type of the value.

    Raises
    ------
    NoRuleError
        When it is differentiated, if it has no rule, or in reverse mode if the rule cannot be transposed.
    StructureError
        When it is differentiated, if the tangent does not have the type and lengths of the value.

    Notes
    -----
    Structure: ``n * var * float64 -> n * var * float64``, or any other. Units: of the value per unit of seed.
    Reverse mode transposes the rule in its tangents: what they meet must be operations that dak_diff knows.
    Where no argument carries a derivative only ``fn`` runs. Kinks are the rule's own affair.

    References
    ----------
    .. [1] Frostig et al., *Decomposing reverse-mode automatic differentiation*, arXiv:2105.09469.

    Examples
    --------
    >>> import awkward as ak, numpy as np, dak_diff
    >>> @dak_diff.custom_jvp
    ... def scale_factor(pt):
    ...     return ak.values_astype(np.floor(pt / 10), float)  # a lookup in bins
    >>> @scale_factor.defjvp
    ... def smooth_slope(primals, tangents):
    ...     return scale_factor(*primals), tangents[0] * 0.1
    >>> dak_diff.eager.jvp(scale_factor, (ak.Array([[12.0], [35.0, 7.0]]),))[1].to_list()
    [[0.1], [0.1, 0.1]]
    """
    return CustomJvp(fn)


def custom_vjp(fn: Callable) -> CustomVjp:
    """Give a function of arrays its own derivative, by a reverse rule.

    Parameters
    ----------
    fn : callable
        As for :func:`custom_jvp`.

    Returns
    -------
    CustomVjp
        The function, with a method ``defvjp(forward, backward)``: ``forward(*args)`` returns
        ``(value, residuals)``, ``backward(residuals, cotangent)`` one cotangent for each argument, of its
        type; None is zero.

    Raises
    ------
    NoRuleError
        When it is differentiated, if it has no rule, or in forward mode if the rule cannot be transposed.
    StructureError
        When it is differentiated, if the number, a type or a length of the cotangents is wrong.

    Notes
    -----
    Structure: ``n * var * float64 -> n * var * float64``, or any other. Units: units of the value times
    those of the cotangent, per unit of the argument. Forward mode transposes ``backward`` in its cotangent.
    Where no argument carries a derivative only ``fn`` runs; else ``forward`` runs in its place.

    References
    ----------
    .. [1] Frostig et al., *Decomposing reverse-mode automatic differentiation*, arXiv:2105.09469.

    Examples
    --------
    A gradient that is clipped:

    >>> import awkward as ak, dak_diff
    >>> @dak_diff.custom_vjp
    ... def clipped(x):
    ...     return x
    >>> def backward(kept, cotangent):
    ...     return (ak.where(abs(cotangent) > 1, 1.0, cotangent),)
    >>> clipped.defvjp(lambda x: (x, None), backward)
    >>> dak_diff.eager.grad(lambda x: ak.sum(clipped(x) ** 2))(ak.Array([[0.25], [3.0]])).to_list()
    [[0.5], [1.0]]
    """
    return CustomVjp(fn)
