"""Corrections of correctionlib: compiled code, which would end in an error that says nothing of derivatives.

correctionlib is never imported here: where it is not loaded there are no corrections.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

from dak_diff.engine.values import is_active, leaf_values, stopped
from dak_diff.errors import NoRuleError
from dak_diff.rules.primitive import Traced

__all__ = ["watch_corrections"]

_lock = threading.Lock()


def watch_corrections() -> bool:
    """Let corrections refuse what depends on ``wrt`` in words: once, if there are any; whether it was now."""
    module: Any = sys.modules.get("correctionlib.highlevel")
    upstream = getattr(module, "_wrap_awkward", None)
    if upstream is None or hasattr(upstream, "knows_dak_diff"):
        return False
    with _lock:
        if not hasattr(module._wrap_awkward, "knows_dak_diff"):
            module._wrap_awkward = _refusing(upstream)
    return True


def _refusing(upstream: Callable) -> Callable:
    @wraps(upstream)
    def wrap_awkward(evaluate: Callable, *args: Any) -> Any:
        if not is_active(args):
            return upstream(evaluate, *args)
        if any(isinstance(leaf, Traced) for leaf in leaf_values(args)):
            name = getattr(getattr(evaluate, "__self__", None), "name", "?")
            raise NoRuleError(
                f"no derivative rule for the correction {name!r} of correctionlib: it is compiled. A table "
                "has slope zero almost everywhere: evaluate it at dak_diff.stop_gradient(x). For a formula "
                "write a rule, dak_diff.custom_jvp, or the formula in NumPy."
            )
        # Columns beside active ones, selected with them.
        return upstream(evaluate, *stopped(args))

    wrap_awkward.knows_dak_diff = True  # type: ignore[attr-defined]
    return wrap_awkward
