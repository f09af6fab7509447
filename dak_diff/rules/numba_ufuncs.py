"""Ufuncs of ``numba.vectorize``: their complex loop is compiled when a partial needs it.

Without signatures such a ufunc has no loops until it is called, and NumPy takes the first loop that
an argument can be cast to: where the complex loop comes before the float64 one, real arguments give
complex results for the rest of the process. So the float64 loop is compiled first.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np

from dak_diff.errors import NoRuleError

__all__ = ["compile_complex_loop", "compiles_on_demand", "is_of_numba"]

_lock = threading.Lock()


def is_of_numba(ufunc: Any) -> bool:
    """Whether ``numba.vectorize`` made it; numba is never imported for that."""
    module = sys.modules.get("numba.np.ufunc.dufunc")
    return module is not None and isinstance(ufunc, module.DUFunc)


def compiles_on_demand(ufunc: Any) -> bool:
    """Whether it was made without signatures, so that loops can be added."""
    return is_of_numba(ufunc) and not ufunc._frozen


def compile_complex_loop(ufunc: Any, i: int) -> None:
    """Add what a complex step by argument ``i`` needs, if it is not there.

    Raises
    ------
    NoRuleError
        If the function has no complex loop, or one that does not give complex numbers.
    """
    types = sys.modules["numba"].types
    with _lock:
        for scalar in (types.float64, types.complex128):
            taken = np.dtype(scalar.name).char * ufunc.nin
            if any(loop.split("->")[0] == taken for loop in ufunc.types):
                continue
            try:
                ufunc.add((scalar,) * ufunc.nin)
            except Exception as error:
                raise _refused(ufunc, i, f"numba cannot compile it for {scalar}") from error
    if "D" * ufunc.nin + "->D" not in ufunc.types:
        raise _refused(ufunc, i, "it gives real numbers for complex ones")


def _refused(ufunc: Any, i: int, reason: str) -> NoRuleError:
    return NoRuleError(
        f"no derivative formula for {ufunc.__name__} (argument {i}), and no complex step: {reason}. "
        f"Comparisons, abs, and functions of math instead of numpy are usual causes: take branches outside, "
        f"with ak.where, or write the function with NumPy's ufuncs instead of numba.vectorize."
    )
