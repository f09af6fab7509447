"""Which array library a flat array belongs to."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

__all__ = ["namespace"]

_HOST = (np.ndarray, np.generic, bool, int, float, complex)


def namespace(*arrays: Any) -> ModuleType | Any:
    """The array module of the first argument that is not a host array or scalar."""
    for array in arrays:
        if not isinstance(array, _HOST) and hasattr(array, "__array_namespace__"):
            return array.__array_namespace__()
    return np
