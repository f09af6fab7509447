"""What programs do besides calling functions of an array library: attributes and methods, as functions."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["astype", "copy", "is_contiguous", "is_writeable", "item", "length", "pointer", "stride", "view"]


def length(array: Any, axis: int) -> int:
    """One length of the shape."""
    return array.shape[axis]


def stride(array: Any, axis: int) -> int:
    """Bytes from one element to the next."""
    return array.strides[axis]


def is_contiguous(array: Any) -> bool:
    """Whether the elements are in one piece of memory, in order."""
    return bool(array.flags.c_contiguous)


def is_writeable(array: Any) -> bool:
    """Whether the memory may be written to."""
    return bool(array.flags.writeable)


def pointer(array: Any) -> int:
    """Where the elements are in memory."""
    return int(array.ctypes.data)


def item(array: Any, *index: Any) -> Any:
    """One element as a number of Python."""
    return array.item(*index)


def astype(array: Any, dtype: Any, copy: bool = True) -> Any:
    """The elements in another dtype; numbers of Python become numbers of NumPy."""
    return array.astype(dtype, copy=copy) if hasattr(array, "astype") else np.dtype(dtype).type(array)


def view(array: Any, dtype: Any) -> Any:
    """The same memory read as another dtype."""
    return array.view(dtype)


def copy(array: Any) -> Any:
    """The same elements in memory of their own."""
    return array.copy() if hasattr(array, "copy") else array
