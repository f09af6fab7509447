"""Vectors of scikit-hep beside each other, of which one carries a derivative and the other does not.

vector computes with the array library of its operands and refuses two different ones. Here both have one,
which asks the arrays of each call: those of a device answer no functions but their own library's. vector is
never imported here: where it is not loaded there are no vectors.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from dak_diff.engine.awkward_internals import DiffNplike, maybe_materialize
from dak_diff.engine.buffer import Buffer
from dak_diff.engine.loaded import loaded

__all__ = ["watch_vectors"]

_lock = threading.Lock()


def watch_vectors() -> bool:
    """Let operands of vector have one library: once, if there are any; whether it was now."""
    cls = loaded("vector.backends.awkward", "VectorAwkward")
    if not cls or hasattr(cls.lib.fget, "knows_dak_diff"):
        return False
    with _lock:
        if not hasattr(cls.lib.fget, "knows_dak_diff"):
            cls.lib = property(_shared_library(cls.lib.fget))
    return True


def _shared_library(upstream: Callable[[Any], Any]) -> Callable[[Any], Any]:
    # vector compares libraries by identity of their members, and asks the second for functions.
    either = functools.cache(_Either)

    def lib(vectors: Any) -> Any:
        found = upstream(vectors)
        nplike = getattr(found, "nplike", None)
        if nplike is None or not nplike.known_data:
            return found
        base = nplike.base if isinstance(nplike, DiffNplike) else nplike
        return type(found)(module=base._module, nplike=either(base))

    lib.knows_dak_diff = True  # type: ignore[attr-defined]
    return lib


class _Either:
    """The functions of an array library, which are ours where an argument is a buffer of ours."""

    def __init__(self, nplike: Any):
        self._nplike = nplike

    def __getattr__(self, name: str) -> Any:
        plain = getattr(self._nplike, name, None) or getattr(self._nplike._module, name)
        if not callable(plain):
            return plain

        def call(*args: Any, **kwargs: Any) -> Any:
            args = maybe_materialize(*args)
            module = next((x.module for x in args if isinstance(x, Buffer)), None)
            return (plain if module is None else getattr(module, name))(*args, **kwargs)

        return call
