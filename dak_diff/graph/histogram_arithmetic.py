"""Arithmetic of dask-histogram that changes what others read, or is lost (docs/upstream.md)."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["mend_arithmetic"]


def mend_arithmetic() -> None:
    """Let dask-histogram do arithmetic without changing what another task gave, or refuse it."""
    core, boost = (sys.modules.get(f"dask_histogram.{name}") for name in ("core", "boost"))
    if core is not None and core._imul.func is operator.imul:
        core._iadd.func, core._isub.func = operator.add, operator.sub
        core._imul.func, core._itruediv.func = operator.mul, operator.truediv
    if boost is not None and "__mul__" not in vars(boost.Histogram):
        for name in ("mul", "truediv", "sub"):
            for dunder in (f"__{name}__", f"__r{name}__", f"__i{name}__"):
                setattr(boost.Histogram, dunder, _refusing_fills(getattr(boost.Histogram, dunder)))


def _refusing_fills(upstream: Callable) -> Callable:
    """Arithmetic on a lazy histogram, which dask-histogram does on what is there before it is filled."""

    def method(self: Any, other: Any) -> Any:
        # Fills are staged until something asks for the graph.
        if self.staged_fills() or hasattr(self, "_staged_result"):
            raise NotImplementedError(
                "dask-histogram loses arithmetic on a lazy histogram that is filled. Scale the weights, fill "
                "with dask_histogram.factory, or do it after computation."
            )
        return upstream(self, other)

    return method
