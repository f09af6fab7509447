"""Derivatives computed by others, as graphs of one and two partitions (see ../shared/reference)."""

from __future__ import annotations

import importlib.util
import sys
import warnings

import dask
import numpy as np
import pytest
from helpers import METHODS, SHARED, collection

import dak_diff as dd

FILE = SHARED / "reference" / "cases.py"
if not FILE.is_file():
    pytest.skip(f"no {FILE}: set DAK_DIFF_TEST_SHARED", allow_module_level=True)


def load():
    spec = importlib.util.spec_from_file_location("reference_cases", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["reference_cases"] = module
    spec.loader.exec_module(module)
    return module


reference = load()
GRAPHS = [
    pytest.param(case, npartitions, id=f"{case['id']}-{npartitions}")
    for case in reference.CASES
    for npartitions in (1, 2)
    if case["dask"].get(str(npartitions)) == "ok"
]


def test_how_many():
    """A reference that loses its cases must not pass."""
    assert len(GRAPHS) > 420
    assert len({case["id"] for case, _ in (p.values for p in GRAPHS)}) > 210


def within(tangent, bounds):
    """Between the one-sided derivatives, which is what any convention at a kink gives."""
    got, left, right = (np.array(reference.leaves(reference.plain(v)), dtype=float) for v in (tangent, *bounds))
    low, high = np.minimum(left, right), np.maximum(left, right)
    room = 1e-6 * (1 + np.abs(left) + np.abs(right))
    return np.all((low - room <= got) & (got <= high + room) | ~np.isfinite(left) | ~np.isfinite(right))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("case", "npartitions"), GRAPHS)
def test_reference(case, npartitions, method):
    array, direction = (reference.array(case, which) for which in ("input", "tangent"))
    half = len(array) // 2
    lengths = [len(array)] if npartitions == 1 else [half, len(array) - half]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # Some cases are about infinities and NaN.
        warnings.simplefilter("ignore", RuntimeWarning)
        x = collection(array, lengths)
        expr = case["fn"](x)
        value, tangent = dask.compute(*dd.value_and_jvp(expr, x, direction, method=method))
    assert reference.compare(value, case["primal"], case["rtol"], case["atol"]) is None
    if "kink" in case["flags"]:
        assert within(tangent, case["jvp_one_sided"])
    else:
        assert reference.compare(tangent, case["jvp"], case["rtol"], case["atol"]) is None
