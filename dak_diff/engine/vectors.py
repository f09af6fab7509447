"""Vectors of scikit-hep beside each other, of which one carries a derivative and the other does not.

vector computes with the array library of its operands and refuses two different ones. The library under our
backend does for both: what carries a derivative answers NumPy's functions itself. vector is never imported
here: where it is not loaded there are no vectors.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from dak_diff.engine.awkward_internals import DiffNplike
from dak_diff.engine.loaded import loaded

__all__ = ["watch_vectors"]

_lock = threading.Lock()


def watch_vectors() -> None:
    """Let operands of vector have one library: once, if there are any."""
    cls = loaded("vector.backends.awkward", "VectorAwkward")
    if cls and not hasattr(cls.lib.fget, "knows_dak_diff"):
        with _lock:
            if not hasattr(cls.lib.fget, "knows_dak_diff"):
                cls.lib = property(_library_below(cls.lib.fget))


def _library_below(upstream: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def lib(vectors: Any) -> Any:
        found = upstream(vectors)
        nplike = getattr(found, "nplike", None)
        if not isinstance(nplike, DiffNplike):
            return found
        return type(found)(module=nplike.base._module, nplike=nplike.base)

    lib.knows_dak_diff = True  # type: ignore[attr-defined]
    return lib
