"""Histograms filled inside a differentiated function, as a processor fills them; what they refuse."""

from __future__ import annotations

import subprocess
import sys

import awkward as ak
import numpy as np
import pytest

import dak_diff as dd
from dak_diff import eager
from dak_diff.errors import NoRuleError, StructureError

bh = pytest.importorskip("boost_histogram")
hist = pytest.importorskip("hist")

X = np.array([0.5, 1.5, 1.7, 2.5, 9.0, -1.0])
W = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
NAMES = ["a", "b", "a", "b", "c", "a"]
AXIS = bh.axis.Regular(3, 0, 3)
#: Which of the five bins of AXIS, flow bins included, each entry falls in.
BIN = np.array([1, 2, 2, 3, 4, 0])


def filled(w, *axes, positions=(X,), storage=None):
    histogram = bh.Histogram(*(axes or (AXIS,)), storage=storage or bh.storage.Double())
    histogram.fill(*positions, weight=w)
    return histogram


def in_bins(per_entry):
    return np.bincount(BIN, weights=per_entry, minlength=5)


#: name -> (function of the weights, its derivative by w in the direction ones, flow bins included)
READINGS = {
    "values": (lambda w: filled(w**2).values(flow=True), in_bins(2 * W)),
    "inner": (lambda w: filled(w**2).values(), in_bins(2 * W)[1:-1]),
    "view": (lambda w: filled(w).view(flow=True) ** 2, 2 * in_bins(W) * in_bins(W * 0 + 1)),
    "numpy": (lambda w: filled(w).to_numpy()[0], in_bins(W * 0 + 1)[1:-1]),
    "sum": (lambda w: np.log(filled(w).sum(flow=True)), 6 / W.sum()),
    "variances": (
        lambda w: filled(w, storage=bh.storage.Weight()).variances(flow=True),
        in_bins(2 * W),
    ),
    "added": (lambda w: (filled(w) + filled(w**2)).values(flow=True), in_bins(1 + 2 * W)),
    "added to a constant": (lambda w: (filled(W) + filled(w)).values(flow=True), in_bins(W * 0 + 1)),
    "constant added": (lambda w: (filled(w) + filled(W)).values(flow=True), in_bins(W * 0 + 1)),
    "subtracted": (lambda w: (filled(W) - filled(w)).values(flow=True), -in_bins(W * 0 + 1)),
    "from zero": (lambda w: sum([filled(w), filled(w)]).values(flow=True), 2 * in_bins(W * 0 + 1)),
    "scaled": (lambda w: (3 * filled(w) / 2).values(flow=True), 1.5 * in_bins(W * 0 + 1)),
    "scaled by what is active": (
        lambda w: (filled(w) * w[0]).values(flow=True),
        in_bins(W) + in_bins(W * 0 + 1),
    ),
    "constant scaled by what is active": (lambda w: (filled(W) * w[1]).values(flow=True), in_bins(W)),
    "scaled variances": (
        lambda w: (filled(W, storage=bh.storage.Weight()) * w[1]).variances(flow=True),
        2 * 2.0 * in_bins(W**2),
    ),
    "one weight for all": (lambda w: filled(w[2]).values(flow=True), in_bins(W * 0 + 1)),
    "grown": (
        lambda w: filled(w, bh.axis.StrCategory([], growth=True), positions=(NAMES,)).values(),
        [3.0, 2.0, 1.0],
    ),
    "grown where it was": (
        lambda w: filled(w, bh.axis.Regular(2, 0, 2, growth=True)).values(),
        filled(np.ones(6), bh.axis.Regular(2, 0, 2, growth=True)).values(),
    ),
    "category without a bin": (
        lambda w: filled(w, bh.axis.StrCategory(["b"]), positions=(NAMES,)).values(flow=True),
        [2.0, 4.0],
    ),
    "category that is dropped": (
        lambda w: filled(w, bh.axis.StrCategory(["b"], overflow=False), positions=(NAMES,)).values(flow=True),
        [2.0],
    ),
}


@pytest.mark.parametrize("name", READINGS)
def test_readings(name):
    read, want = READINGS[name]
    value, tangent = eager.jvp(read, (W,), (np.ones(6),))
    np.testing.assert_array_equal(value, read(W))
    np.testing.assert_allclose(tangent, want, rtol=1e-15)
    _, pull = eager.vjp(read, W)
    cotangent = np.linspace(1, 2, np.size(value)).reshape(np.shape(value))
    np.testing.assert_allclose((pull(cotangent)[0]).sum(), (cotangent * want).sum(), rtol=1e-14)


def test_filled_in_place_and_returned():
    """A processor fills histograms of its own and gives them back."""

    def process(w):
        events = ak.zip({"x": X, "w": w})
        out = {"mass": hist.Hist.new.Reg(3, 0, 3, name="mass").Weight(), "n": len(events)}
        out["mass"].fill(mass=events.x, weight=events.w**2)
        out["mass"].fill(mass=events.x, weight=events.w)
        return out

    value, tangent = eager.jvp(process, (W,), (np.ones(6),))
    assert type(value["mass"]) is type(tangent["mass"]) is hist.Hist
    assert value["mass"] == process(W)["mass"]
    np.testing.assert_allclose(tangent["mass"].values(flow=True), in_bins(2 * W + 1), rtol=1e-15)
    np.testing.assert_allclose(tangent["mass"].variances(flow=True), in_bins(4 * W**3 + 2 * W), rtol=1e-15)


def test_what_is_not_active_is_filled_by_boost_histogram():
    def constant(w):
        assert type(filled(W)) is bh.Histogram
        return w

    eager.jvp(constant, (W,), (W,))


REFUSED = {
    "slices": (lambda w: filled(w)[1:], "__getitem__"),
    "projections": (lambda w: filled(w).project(0), "project"),
    "comparisons": (lambda w: filled(w) == filled(w), "__eq__"),
    "arrays": (lambda w: np.asarray(filled(w)), "of a histogram"),
    "counts": (lambda w: filled(w).counts(), "counts"),
    "attributes": (lambda w: filled(w)._hist, "_hist"),
    "numbers added": (lambda w: filled(w) + 1.0, "adding or subtracting numbers"),
    "bins scaled": (lambda w: filled(w) * np.ones(3), "scaling bin by bin"),
    "sums of squares": (lambda w: filled(w, storage=bh.storage.Weight()).sum(), "sum"),
    "positions": (lambda w: filled(None, positions=(w,)), "soft_histogram"),
    "positions and weights": (lambda w: filled(w, positions=(w,)), "soft_histogram"),
    "samples": (
        lambda w: bh.Histogram(AXIS, storage=bh.storage.WeightedMean()).fill(X, weight=W, sample=w),
        "WeightedMean and samples",
    ),
    "an axis that grew by nan": (
        lambda w: filled(
            w[:3], bh.axis.Regular(2, 0, 1, growth=True), positions=(np.array([np.nan, 0.2, 2.3]),)
        ),
        "continuous axis grew",
    ),
    "other storages": (lambda w: filled(w, storage=bh.storage.Unlimited()), "Unlimited"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name):
    function, message = REFUSED[name]
    with pytest.raises(NoRuleError, match=message):
        eager.jvp(function, (W,), (W,))


def test_scaled_variances_are_those_of_boost_histogram():
    """Bit for bit: multiplied by the square of the factor."""
    for factor in np.random.default_rng(3).uniform(0.1, 10, 50):
        start = filled(W / 3, storage=bh.storage.Weight())
        value, _ = eager.jvp(lambda f, start=start: start * f, (float(factor),))
        np.testing.assert_array_equal(value.variances(flow=True), (start * factor).variances(flow=True))


def test_it_can_be_printed():
    def printed(w):
        assert "with a derivative" in f"{filled(w)}"
        return w

    eager.jvp(printed, (W,), (W,))


def test_tangents_of_another_shape():
    with pytest.raises(StructureError, match=r"shape \(4,\), its bins \(3,\), with flow bins \(5,\)"):
        eager.vjp(filled, W)[1](np.ones(4))
    with pytest.raises(StructureError, match="must have its axes"):
        eager.vjp(filled, W)[1](filled(W, bh.axis.Regular(4, 0, 3)))
    with pytest.raises(StructureError, match="its axes and its storage"):
        eager.vjp(filled, W)[1](filled(W, storage=bh.storage.Weight()))


def test_a_rule_is_asked_for_a_histogram_that_has_a_derivative():
    @dd.custom_jvp
    def total(histogram):
        return histogram.sum(flow=True)

    @total.defjvp
    def total_jvp(primals, tangents):
        return primals[0].sum(flow=True), 100.0 * tangents[0].sum(flow=True)

    value, slope = eager.jvp(lambda w: total(filled(w)), (W,))
    assert (value, slope) == (W.sum(), 100.0 * len(W))


def test_a_library_that_the_function_itself_loads():
    """The first fill of a process is watched, too."""
    code = """
import sys, numpy as np
import dak_diff as dd
from dak_diff import eager

def filled(w):
    import boost_histogram as bh
    histogram = bh.Histogram(bh.axis.Regular(2, 0, 2))
    histogram.fill(np.array([0.5, 1.5, 1.5]), weight=w)
    return histogram.values()

assert "boost_histogram" not in sys.modules
print(eager.jvp(filled, (np.array([1.0, 2.0, 3.0]),))[1].tolist())
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[1.0, 2.0]\n"
