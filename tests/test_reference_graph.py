"""Derivatives computed by others, as graphs of one and two partitions (see ../shared/reference)."""

from __future__ import annotations

import warnings

import dask
import pytest
from helpers import METHODS, collection
from test_reference import agreement, between, reference

import dak_diff as dd

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

GRAPHS = [
    pytest.param(case, npartitions, id=f"{case['id']}-{npartitions}")
    for case in reference.CASES
    for npartitions in (1, 2)
    if case["dask"].get(str(npartitions)) == "ok"
]


def test_how_many():
    """A reference that loses its cases must not pass."""
    assert len(GRAPHS) > 420


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("case", "npartitions"), GRAPHS)
def test_jvp(case, npartitions, method):
    array, direction = (reference.array(case, which) for which in ("input", "tangent"))
    half = len(array) // 2
    x = collection(array, [len(array)] if npartitions == 1 else [half, len(array) - half])
    with warnings.catch_warnings():
        # dask-awkward asks the user of unflatten to be careful.
        warnings.simplefilter("ignore", UserWarning)
        expr = case["fn"](x)
    value, tangent = dask.compute(*dd.value_and_jvp(expr, x, direction, method=method))
    assert agreement(value, case["primal"], case) is None
    if "kink" in case["flags"]:
        assert between(tangent, case["jvp_one_sided"]["left"], case["jvp_one_sided"]["right"]) is None
    else:
        assert agreement(tangent, case["jvp"], case) is None
