"""Derivatives from worker processes are those of one process, to the last bit."""

from __future__ import annotations

import awkward as ak
import dask
import dask_awkward as dak
import numpy as np
import pytest
from helpers import array_of, assert_close, assert_identical

import dak_diff as dd

pytestmark = pytest.mark.cluster


def analysis(partitions):
    """Selected momenta, calibrated by two parameters, and what they are calibrated with."""
    jets = dak.from_awkward(array_of("jets"), npartitions=partitions)
    scale, slope = (dd.parameter(value, name=name) for name, value in {"scale": 0.25, "slope": -0.1}.items())
    pt = jets.pt * (1 + scale + slope * jets.eta)
    return pt[pt > 1], jets, {"scale": scale, "slope": slope}


def loss(partitions):
    pt, jets, parameters = analysis(partitions)
    return np.log(dak.sum(np.sin(pt) * pt)), jets, parameters


def by_parameters(partitions):
    expr, _, parameters = loss(partitions)
    value, gradient = dd.value_and_grad(expr, wrt=parameters)
    return [value, *gradient.values()]


def recomputed(partitions):
    expr, _, parameters = loss(partitions)
    value, gradient = dd.value_and_grad(expr, wrt=parameters, residuals="recompute")
    return [value, *gradient.values()]


def in_one_pass(partitions):
    """The cotangent of a sum does not wait for it: both passes are one task."""
    pt, jets, parameters = analysis(partitions)
    value, gradient = dd.value_and_grad(dak.sum(np.sin(pt)), wrt=[jets.pt, parameters["slope"]])
    return [value, *gradient]


def by_columns(partitions):
    expr, jets, _ = loss(partitions)
    return list(dd.vjp(expr, wrt=[jets.pt, jets.eta]))


def of_events(partitions):
    _, jets, parameters = analysis(partitions)
    return [dd.vjp(np.sin(jets.pt * parameters["scale"]), jets.pt, cotangents=array_of("jagged"))]


def tangents(partitions):
    pt, _, parameters = analysis(partitions)
    return list(dd.value_and_jvp(np.sin(pt), parameters["scale"]))


def second_order(partitions):
    expr, _, parameters = loss(partitions)
    return [dd.hvp(expr, parameters["scale"], 1.0)]


CASES = [by_parameters, recomputed, in_one_pass, by_columns, of_events, tangents, second_order]
cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)


@cases
def test_bit_for_bit(case, client):
    asked = case(4)
    there, here = dask.compute(*asked, scheduler=client), dask.compute(*asked, scheduler="sync")
    assert len(there) == len(here) > 0
    for got, want in zip(there, here, strict=True):
        assert_identical(got, want)


@cases
def test_another_number_of_partitions(case, client):
    there, here = dask.compute(*case(6), scheduler=client), dask.compute(*case(1), scheduler="sync")
    for got, want in zip(there, here, strict=True):
        # Twelve events, added in another order.
        assert_close(got, want, 1e-13)


def test_the_number_of_someone_else(client):
    """d/ds log sum sin(x s) at s = 1 is sum x cos(x) / sum sin(x)."""
    x = array_of("jagged")
    s = dd.parameter(1.0, name="s")
    total = dak.sum(np.sin(dak.from_awkward(x, npartitions=3) * s))
    flat = ak.to_numpy(ak.flatten(x))
    value, slope = dask.compute(*dd.value_and_grad(np.log(total), wrt=s), scheduler=client)
    np.testing.assert_allclose(value, np.log(np.sum(np.sin(flat))), rtol=1e-14)
    np.testing.assert_allclose(slope, np.sum(flat * np.cos(flat)) / np.sum(np.sin(flat)), rtol=1e-13)
