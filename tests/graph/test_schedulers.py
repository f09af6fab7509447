"""The same numbers whoever runs the tasks."""

from __future__ import annotations

import awkward as ak
import dask
import dask_awkward as dak
import numpy as np
import pytest
from helpers import array_of, assert_close

import dak_diff as dd


@pytest.fixture
def requests(jets):
    """Derivatives that need pairs, tangents and parameters to travel, and the numbers to expect."""
    # Worker processes do not import the tests: the source holds its partitions.
    x = dak.from_awkward(jets, npartitions=4)
    alpha = dd.parameter(0.25, name="alpha")
    pt = x.pt * (1 + alpha)
    mean = dak.sum(pt) / dak.count(pt)
    direction = array_of("jagged")
    asked = (
        dd.jvp(np.sin(pt[pt > 1]), alpha),
        dd.jvp(x.pt**2, x.pt, direction),
        *dd.value_and_jvp(dak.sum(mean * pt), alpha),
        dd.jvp(x, x.pt),
    )
    scaled = jets.pt * 1.25
    number = ak.count(jets.pt)
    ones = {
        name: ak.ones_like(jets.pt) if name == "pt" else ak.zeros_like(jets[name]) for name in jets.fields
    }
    expected = (
        (np.cos(scaled) * jets.pt)[scaled > 1],
        2 * jets.pt * direction,
        ak.sum(scaled) ** 2 / number,
        2 * ak.sum(scaled) * ak.sum(jets.pt) / number,
        ak.zip(ones, with_name="Momentum4D"),
    )
    return asked, expected


def check(requests, **how):
    asked, expected = requests
    for got, want in zip(dask.compute(*asked, **how), expected, strict=True):
        assert_close(got, want, 1e-13)


@pytest.mark.parametrize(
    "scheduler", ["sync", "threads", pytest.param("processes", marks=pytest.mark.cluster)]
)
def test_local(requests, scheduler):
    check(requests, scheduler=scheduler)


@pytest.mark.cluster
def test_cluster(requests, client):
    check(requests, scheduler=client)
