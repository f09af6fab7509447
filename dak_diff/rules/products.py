"""Sums of products in Einstein's notation: what ``dot``, ``matmul``, ``outer``, ``tensordot`` are."""

from __future__ import annotations

from typing import Any

import numpy as np

from dak_diff.rules.namespace import namespace
from dak_diff.rules.primitive import Primitive, dtype_of, raw
from dak_diff.rules.structure import conjugated

__all__ = ["einsum"]


class _Einsum(Primitive):
    """Linear in each argument: y_dot is the sum of the product with each argument's tangent in its place.

    x_bar is the product of y_bar with the conjugates of the others; an index that is in x alone was summed
    over, so there x_bar repeats. ``subscripts`` name their result, and no index twice in one argument.
    """

    name = "einsum"
    kind = "custom"

    def impl(self, *args: Any, subscripts: str) -> Any:
        return namespace(*args).einsum(subscripts, *args, optimize=True)

    def residuals(self, out: Any, args: tuple, params: dict, active: tuple, method: str) -> tuple:
        return (args, params["subscripts"])

    def push(self, residuals: tuple, tangents: tuple) -> Any:
        args, subscripts = residuals
        total = None
        for i, tangent in enumerate(tangents):
            if tangent is not None:
                term = self(*args[:i], tangent, *args[i + 1 :], subscripts=subscripts)
                total = term if total is None else total + term
        return total

    def pull(self, residuals: tuple, cotangent: Any, active: tuple[bool, ...]) -> tuple:
        args, subscripts = residuals
        inputs, out = subscripts.split("->")
        labels = inputs.split(",")
        return tuple(
            self._pulled(i, args, labels, out, cotangent) if on else None for i, on in enumerate(active)
        )

    def _pulled(self, i: int, args: tuple, labels: list[str], out: str, cotangent: Any) -> Any:
        others = [(x, label) for j, (x, label) in enumerate(zip(args, labels, strict=True)) if j != i]
        known = out + "".join(label for _, label in others)
        alone = "".join(c for c in labels[i] if c not in known)
        shape = [n for c, n in zip(labels[i], np.shape(args[i]), strict=True) if c in alone]
        terms = [(cotangent, out), *((conjugated(x), label) for x, label in others)]
        if alone:
            terms.append((namespace(raw(args[i])).ones(shape, dtype=dtype_of(args[i])), alone))
        factors, given = zip(*terms, strict=True)
        return self(*factors, subscripts=f"{','.join(given)}->{labels[i]}")


einsum = _Einsum()
