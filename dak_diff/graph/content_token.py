"""Names from what values hold: Dask takes two tasks of one name for the same number."""

from __future__ import annotations

from typing import Any

import awkward as ak
import numpy as np
from dask.base import is_dask_collection, tokenize

__all__ = ["content_token"]


def content_token(value: Any) -> str:
    """A token of the *content* of a value.

    ``ak.Array.__dask_tokenize__`` is the identity of the object, which is reused for other
    data: a name made from it would bring back stale numbers.
    """
    if is_dask_collection(value):
        return tokenize(value)
    if isinstance(value, (list, tuple)):
        # p[[0, 1]] is not p[0, 1].
        return tokenize(type(value).__name__, [content_token(v) for v in value])
    if isinstance(value, dict):
        return tokenize("dict", sorted((tokenize(k), content_token(v)) for k, v in value.items()))
    if isinstance(value, (ak.Array, ak.Record)):
        packed = ak.to_packed(value if isinstance(value, ak.Array) else ak.Array([value]))
        form, length, buffers = ak.to_buffers(packed)
        # Sorted: the order of a dict's tokens depends on the process.
        return tokenize(
            form.to_json(), length, sorted((k, tokenize(np.asarray(v))) for k, v in buffers.items())
        )
    return tokenize(value)
