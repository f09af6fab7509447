"""Derivatives computed by others (see ../shared/reference), on a CUDA device."""

import device
import pytest
from device import skip_if_refused, to_device, to_host
from helpers import METHODS
from test_reference import agreement, cotangent_of, reference

from dak_diff import eager

pytestmark = [*device.needs_device, pytest.mark.filterwarnings("ignore::RuntimeWarning")]
smooth = [case for case in reference.CASES if "kink" not in case["flags"]]


@pytest.mark.parametrize("case", smooth, ids=[case["id"] for case in smooth])
@pytest.mark.parametrize("method", METHODS)
def test_both_modes(case, method):
    x, tangent = (to_device(reference.array(case, which)) for which in ("input", "tangent"))
    skip_if_refused(case["fn"], x)
    value, got = eager.jvp(case["fn"], (x,), (tangent,), method=method)
    assert agreement(to_host(value), case["primal"], case) is None
    assert agreement(to_host(got), case["jvp"], case) is None
    _, pull = eager.vjp(case["fn"], (x,), method=method)
    (got,) = pull(to_device(cotangent_of(case)))
    assert agreement(to_host(got), case["vjp"], case) is None
