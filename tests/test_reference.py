"""Every derivative of shared/reference, computed by others (its README says by whom).

At kinks the reference holds one convention of several; a derivative must lie between the one-sided ones.
"""

import importlib.util

import numpy as np
import pytest
from helpers import METHODS, SHARED

from dak_diff import eager

FOLDER = SHARED / "reference"


def load():
    spec = importlib.util.spec_from_file_location("reference_cases", FOLDER / "cases.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if not FOLDER.is_dir():
    pytest.skip(f"no {FOLDER}: set DAK_DIFF_TEST_SHARED", allow_module_level=True)
reference = load()

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
every_case = pytest.mark.parametrize("case", reference.CASES, ids=[case["id"] for case in reference.CASES])
every_method = pytest.mark.parametrize("method", METHODS)


def agreement(got, expected, case):
    return reference.compare(got, expected, case["rtol"], case["atol"])


def between(got, low, high):
    """None if every number lies between two others, which are differences with an error of some 1e-8."""
    got, low, high = (reference.plain(v) for v in (got, low, high))
    if reference.signature(got) != reference.signature(low):
        return f"structure differs: {got} against {low}"
    x, a, b = (np.array(reference.leaves(v), dtype=float) for v in (got, low, high))
    finite = np.isfinite(a) & np.isfinite(b)
    x, a, b = x[finite], np.minimum(a, b)[finite], np.maximum(a, b)[finite]
    slack = 1e-7 * np.maximum(abs(a), abs(b)) + 1e-9
    inside = (x >= a - slack) & (x <= b + slack)
    return None if inside.all() else f"{x[~inside]} is not between {a[~inside]} and {b[~inside]}"


def cotangent_of(case):
    _, _, type_ = case["output_type"].partition(" * ")
    return reference.build(case["cotangent"], type_) if type_ else case["cotangent"]


@every_case
@every_method
def test_jvp(case, method):
    x, tangent = (reference.array(case, which) for which in ("input", "tangent"))
    value, got = eager.jvp(case["fn"], (x,), (tangent,), method=method)
    assert agreement(value, case["primal"], case) is None
    if "kink" in case["flags"]:
        assert between(got, case["jvp_one_sided"]["left"], case["jvp_one_sided"]["right"]) is None
    else:
        assert agreement(got, case["jvp"], case) is None


@every_case
@every_method
def test_vjp(case, method):
    x = reference.array(case, "input")
    value, pull = eager.vjp(case["fn"], (x,), method=method)
    assert agreement(value, case["primal"], case) is None
    (got,) = pull(cotangent_of(case))
    if "kink" in case["flags"]:
        assert between(got, case["vjp_range"]["lo"], case["vjp_range"]["hi"]) is None
    else:
        assert agreement(got, case["vjp"], case) is None
