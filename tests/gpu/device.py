"""The device that the tests of this folder run on, or why there is none.

With ``DAK_DIFF_STAND_IN=1`` it is the stand-in for CuPy: that tries the tests themselves where no device is.
"""

from __future__ import annotations

import os
from typing import Any

import awkward as ak
import numpy as np
import pytest
import stand_in
from awkward._backends import dispatch

STAND_IN = os.environ.get("DAK_DIFF_STAND_IN") == "1"


def _found() -> tuple[Any, str]:
    if STAND_IN:
        dispatch._name_to_backend_cls["cuda"] = stand_in.StandInBackend
        return stand_in, ""
    try:
        import cupy
    except ImportError:
        return None, 'CuPy is not installed: pip install "dak_diff[cuda]"'
    try:
        return cupy, "" if cupy.cuda.runtime.getDeviceCount() else "there is no CUDA device"
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return cupy, f"there is no CUDA device: {error}"


library, reason = _found()
needs_device = [
    pytest.mark.gpu,
    pytest.mark.skipif(bool(reason), reason=reason),
    # Elsewhere a warning is an error; compilers of kernels warn of their own.
    pytest.mark.filterwarnings("default"),
]


def to_device(value: Any) -> Any:
    """A value with its arrays on the device; numbers stay."""
    return stand_in.moved(value, "cuda", lambda x: library.asarray(x) if type(x) is np.ndarray else x)


def to_host(value: Any) -> Any:
    """The same value with arrays of NumPy."""
    return stand_in.moved(value, "cpu", lambda x: x.get()[()] if isinstance(x, library.ndarray) else x)


def is_on_device(value: Any) -> bool:
    """Whether every array in a value is on the device."""
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        return all(map(is_on_device, value))
    if isinstance(value, (ak.Array, ak.Record)):
        return ak.backend(value) == "cuda"
    return not isinstance(value, (np.ndarray, np.generic))


def skip_if_refused(fn: Any, *inputs: Any) -> None:
    """Skip what Awkward itself refuses on the device: there is no value to differentiate."""
    try:
        fn(*inputs)
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        pytest.skip(f"Awkward refuses it on the device: {type(error).__name__}: {first}")
