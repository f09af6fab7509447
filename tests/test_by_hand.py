"""A few derivatives worked out with pencil and paper: no other test computes these numbers."""

import awkward as ak
import numpy as np
import pytest
import vector
from helpers import METHODS

from dak_diff import eager

every_method = pytest.mark.parametrize("method", METHODS)


@every_method
def test_polynomial(method):
    """(x^3 - 2x)' = 3x^2 - 2."""
    x = ak.Array([[0.0, 1.0], [], [2.0, -1.0]])
    _, tangent = eager.jvp(lambda x: x**3 - 2 * x, (x,), method=method)
    assert tangent.to_list() == [[-2.0, 1.0], [], [10.0, 1.0]]


@every_method
def test_product_of_a_list(method):
    """d(abc) = (bc, ac, ab)."""
    x = ak.Array([[2.0, 3.0, 5.0], [7.0]])
    (cotangent,) = eager.vjp(lambda x: ak.prod(x, axis=-1), (x,), method=method)[1](ak.Array([1.0, 2.0]))
    assert cotangent.to_list() == [[15.0, 10.0, 6.0], [2.0]]


@every_method
def test_mean_and_variance(method):
    """x = (1, 5), x_dot = (1, 0): mean 3, var 4; mean_dot = 1/2, var_dot = 2/2 (x0 - 3) = -2."""
    x, x_dot = ak.Array([[1.0, 5.0]]), ak.Array([[1.0, 0.0]])
    assert eager.jvp(lambda x: ak.mean(x, axis=-1), (x,), (x_dot,), method=method)[1].to_list() == [0.5]
    assert eager.jvp(lambda x: ak.var(x, axis=-1), (x,), (x_dot,), method=method)[1].to_list() == [-2.0]


@every_method
def test_invariant_mass_of_two_massless_particles_back_to_back(method):
    """m^2 = 2 pt1 pt2 (cosh d_eta - cos d_phi) = 4 pt1 pt2 at d_phi = pi: m = 2 sqrt(9 * 4) = 12,
    dm/dpt1 = m / (2 pt1) = 2/3, dm/dpt2 = 3/2."""

    def mass(pt):
        p4 = vector.zip({"pt": pt, "eta": 0 * pt, "phi": np.pi * ak.local_index(pt), "mass": 0 * pt})
        return (p4[:, 0] + p4[:, 1]).mass

    value, pull = eager.vjp(mass, (ak.Array([[9.0, 4.0]]),), method=method)
    assert value.to_list() == pytest.approx([12.0], rel=1e-15)
    assert pull(1.0)[0].to_list()[0] == pytest.approx([2 / 3, 1.5], rel=1e-14)


@every_method
def test_transverse_momentum_of_a_sum(method):
    """px = 3, py = 4 from two particles: d hypot = (0.6, 0.8)."""
    px, py = ak.Array([[1.0, 2.0]]), ak.Array([[3.0, 1.0]])

    def pt(px, py):
        return np.hypot(ak.sum(px, axis=-1), ak.sum(py, axis=-1))

    px_bar, py_bar = eager.vjp(pt, (px, py), method=method)[1](10.0)
    assert px_bar.to_list() == [[pytest.approx(6.0, rel=1e-15)] * 2]
    assert py_bar.to_list() == [[pytest.approx(8.0, rel=1e-15)] * 2]


@every_method
def test_softmax_of_two(method):
    """softmax(0, log 3) = (1/4, 3/4); ds0/dx0 = s0 (1 - s0) = 3/16, ds1/dx0 = -3/16."""
    x, x_dot = ak.Array([[0.0, np.log(3.0)]]), ak.Array([[1.0, 0.0]])
    _, tangent = eager.jvp(lambda x: ak.softmax(x, axis=-1), (x,), (x_dot,), method=method)
    assert tangent.to_list()[0] == pytest.approx([3 / 16, -3 / 16], rel=1e-14)


@every_method
def test_poisson_likelihood_of_a_counting_experiment(method):
    """n log(mu s + b) - (mu s + b): slope s (n / (mu s + b) - 1) = 5 (24 / 15 - 1) = 3 at mu = 1."""
    _, slope = eager.jvp(lambda mu: 24 * np.log(5 * mu + 10) - (5 * mu + 10), (1.0,), method=method)
    assert slope == pytest.approx(3.0, rel=1e-15)


@every_method
def test_sort_carries_each_tangent_along(method):
    x, x_dot = ak.Array([[3.0, 1.0, 2.0], [5.0, 4.0]]), ak.Array([[30.0, 10.0, 20.0], [50.0, 40.0]])
    _, tangent = eager.jvp(lambda x: ak.sort(x, axis=-1), (x,), (x_dot,), method=method)
    assert tangent.to_list() == [[10.0, 20.0, 30.0], [40.0, 50.0]]


@every_method
def test_an_element_that_is_taken_twice_counts_twice(method):
    x = ak.Array([[1.0, 2.0], [3.0]])
    (cotangent,) = eager.vjp(lambda x: x[[0, 0, 1]], (x,), method=method)[1](1.0)
    assert cotangent.to_list() == [[2.0, 2.0], [1.0]]
