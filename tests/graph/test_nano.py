"""The questions of Awkward's issues #2591, #2637, #2638 and #2556, asked of a file in three partitions.

They ask for derivatives of analyses of this file by parameters, which Awkward's JAX backend could not give.
"""

from __future__ import annotations

import awkward as ak
import dask
import dask_awkward as dak
import numpy as np
import pytest
from checks import numbers
from helpers import METHODS, assert_close, assert_identical, central_difference

import dak_diff as dd

FIELDS = ("pt", "eta", "phi", "mass")
ALPHA = 0.3


@pytest.fixture
def lazy_jets(shared):
    uproot = pytest.importorskip("uproot")
    path = shared / "data" / "nanoAOD_2015_CMS_Open_Data_ttbar.root"
    events = uproot.dask(f"{path}:Events", steps_per_file=3)
    assert events.npartitions == 3
    columns = {f: dak.values_astype(events[f"Jet_{f}"], np.float64) for f in FIELDS}
    return dak.zip(columns, with_name="Momentum4D")


@pytest.fixture
def jets(lazy_jets):
    return lazy_jets.compute()


def check(lazy, eager, primal, tolerance=1e-8):
    """Value bit for bit that of the graph; derivative the central difference, by every method."""
    p = dd.parameter(primal, name="p")
    expr = lazy(p)
    want = central_difference(eager, (primal,), (1.0,))
    for method in METHODS:
        value, tangent = dask.compute(*dd.value_and_jvp(expr, p, method=method))
        assert_identical(value, expr.compute())
        np.testing.assert_allclose(numbers(tangent), want, rtol=0, atol=tolerance * np.max(np.abs(want)))


def test_2591_scaled_momenta(lazy_jets, jets):
    check(lambda alpha: lazy_jets.pt + 25 * alpha, lambda alpha: jets.pt + 25 * alpha, ALPHA)


def shifted(ns, jets, alpha):
    return ns.with_field(jets, jets.pt * (1 + alpha), "pt")


def leading_mass(ns, jets):
    pairs = jets[ns.num(jets) > 1]
    return (pairs[:, 0] + pairs[:, 1]).mass


def test_2637_mass_of_the_leading_pair(lazy_jets, jets):
    check(
        lambda alpha: leading_mass(dak, shifted(dak, lazy_jets, alpha)),
        lambda alpha: leading_mass(ak, shifted(ak, jets, alpha)),
        ALPHA,
    )


def test_2638_mean_mass(lazy_jets, jets):
    def mean(ns, alpha, jets):
        mass = leading_mass(ns, shifted(ns, jets, alpha))
        return ns.sum(mass) / ns.count(mass)

    check(lambda alpha: mean(dak, alpha, lazy_jets), lambda alpha: mean(ak, alpha, jets), ALPHA)


def test_2638_mass_by_a_column(lazy_jets, jets):
    """By the momenta themselves, all scaled together: the mass of massless jets is homogeneous in them."""
    massless = dak.with_field(lazy_jets, 0 * lazy_jets.mass, "mass")
    mass = leading_mass(dak, massless)
    value, tangent = dask.compute(*dd.value_and_jvp(mass, lazy_jets.pt, lazy_jets.pt))
    assert_close(tangent, value, 1e-12)


def test_2556_reduced_value_times_an_array(lazy_jets, jets):
    """Euler: sum(sum(pt) * pt) is homogeneous of degree two. (Upstream, its own value never ends.)"""
    total = dak.sum(dak.sum(lazy_jets.pt) * lazy_jets.pt)
    want = ak.sum(jets.pt) ** 2
    value, tangent = dask.compute(*dd.value_and_jvp(total, lazy_jets.pt, lazy_jets.pt))
    assert value == pytest.approx(want, rel=1e-13)
    assert tangent == pytest.approx(2 * want, rel=1e-13)
