"""vector's methods of two vectors, of which one carries a derivative: calibrated jets beside muons."""

from __future__ import annotations

import awkward as ak
import dask
import dask_awkward as dak
import numpy as np
import pytest
from helpers import assert_identical, central_difference

import dak_diff as dd
from dak_diff import eager

vector = pytest.importorskip("vector")
vector.register_awkward()


def momenta(pt, eta, phi, mass):
    columns = {"pt": pt, "eta": eta, "phi": phi, "mass": mass}
    return ak.zip({name: ak.Array(column) for name, column in columns.items()}, with_name="Momentum4D")


JETS = momenta(
    [[30.0, 40.0], [], [25.0]], [[1.0, 0.5], [], [-1.5]], [[1.0, -2.0], [], [0.3]], [[1.0, 5.0], [], [2.0]]
)
MUONS = momenta(
    [[20.0, 33.0], [], [12.0]], [[0.2, -0.5], [], [0.9]], [[2.5, 3.0], [], [-1.3]], [[0.1, 0.1], [], [0.1]]
)
AT = 0.1


def moved(ns, jets, k):
    """Jets whose momenta and directions depend on a number."""
    jets = ns.with_field(jets, jets.pt * (1 + k), "pt")
    return ns.with_field(jets, jets.phi + k, "phi")


def numbers(ns, result):
    return (
        ns.sum(result.px + 2 * result.py + 3 * result.pz, axis=1) if result.fields else ns.sum(result, axis=1)
    )


METHODS = {
    **{name: name for name in ("deltaR", "deltaphi", "deltaeta", "deltaangle", "dot", "add", "subtract")},
    **{name: name for name in ("boost", "boostCM_of", "deltaRapidityPhi")},
    "cross": "cross",
}
SIDES = {
    "active on the left": lambda name, jets, muons: getattr(jets, name)(muons),
    "active on the right": lambda name, jets, muons: getattr(muons, name)(jets),
}


@pytest.mark.parametrize("side", SIDES.values(), ids=SIDES)
@pytest.mark.parametrize("name", METHODS)
def test_one_of_two(name, side):
    def fn(k, ns=ak, jets=JETS, muons=MUONS):
        jets = moved(ns, jets, k)
        if name == "cross":
            jets, muons = jets.to_Vector3D(), muons.to_Vector3D()
        return numbers(ns, side(name, jets, muons))

    value, tangent = eager.jvp(fn, (AT,))
    assert_identical(value, fn(AT))
    want = ak.Array(central_difference(fn, (AT,), (1.0,)))
    np.testing.assert_allclose(tangent, want, rtol=1e-8, atol=1e-8)
    assert eager.grad(lambda k: ak.sum(fn(k)))(AT) == pytest.approx(ak.sum(tangent), rel=1e-12)

    lazy = [dak.from_awkward(array, npartitions=2) for array in (JETS, MUONS)]
    k = dd.parameter(AT, name="k")
    over = dak.map_partitions(fn, k, jets=lazy[0], muons=lazy[1])
    np.testing.assert_allclose(dask.compute(dd.jvp(over, k))[0], tangent, rtol=1e-14)


def test_beside_a_vector_that_is_no_array():
    axis = vector.obj(pt=20.0, eta=0.2, phi=2.5, mass=0.1)
    for fn in (lambda k: moved(ak, JETS, k).deltaR(axis), lambda k: axis.dot(moved(ak, JETS, k))):
        tangent = eager.jvp(fn, (AT,))[1]
        want = (fn(AT + 1e-6) - fn(AT - 1e-6)) / 2e-6
        np.testing.assert_allclose(ak.flatten(tangent), ak.flatten(want), rtol=1e-7)


def test_a_selection_by_distance():
    """It needs no derivative, but the distance has one."""

    def fn(k):
        jets = moved(ak, JETS, k)
        return ak.sum(jets[jets.deltaR(MUONS) > 2].pt, axis=1)

    near = fn(0.0)
    assert 0 < ak.sum(near) < ak.sum(JETS.pt)
    assert eager.jvp(fn, (0.0,))[1].to_list() == near.to_list()
