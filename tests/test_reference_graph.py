"""Derivatives computed by others, as graphs of one and two partitions (see ../shared/reference)."""

from __future__ import annotations

import warnings

import dask
import dask_awkward as dak
import pytest
from helpers import METHODS, collection
from test_reference import agreement, between, cotangent_of, reference

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


def lazily(case, npartitions):
    array = reference.array(case, "input")
    half = len(array) // 2
    x = collection(array, [len(array)] if npartitions == 1 else [half, len(array) - half])
    with warnings.catch_warnings():
        # dask-awkward asks the user of unflatten to be careful.
        warnings.simplefilter("ignore", UserWarning)
        return case["fn"](x), x


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("case", "npartitions"), GRAPHS)
def test_jvp(case, npartitions, method):
    expr, x = lazily(case, npartitions)
    direction = reference.array(case, "tangent")
    value, tangent = dask.compute(*dd.value_and_jvp(expr, x, direction, method=method))
    assert agreement(value, case["primal"], case) is None
    if "kink" in case["flags"]:
        assert between(tangent, case["jvp_one_sided"]["left"], case["jvp_one_sided"]["right"]) is None
    else:
        assert agreement(tangent, case["jvp"], case) is None


@pytest.mark.parametrize("residuals", ["keep", "recompute"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("case", "npartitions"), GRAPHS)
def test_vjp(case, npartitions, method, residuals):
    expr, x = lazily(case, npartitions)
    cotangent = cotangent_of(case)
    if isinstance(expr, dak.Array):
        blocks = [expr.partitions[i] for i in range(expr.npartitions)]
        lengths = (
            [len(cotangent)] if len(blocks) == 1 else dask.compute(*(dak.num(b, axis=0) for b in blocks))
        )
        cotangent = collection(cotangent, lengths, "cotangent")
    gradient = dd.vjp(expr, x, cotangent, method=method, residuals=residuals).compute()
    if "kink" in case["flags"]:
        assert between(gradient, case["vjp_range"]["lo"], case["vjp_range"]["hi"]) is None
    else:
        assert agreement(gradient, case["vjp"], case) is None
