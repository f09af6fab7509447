"""A whole analysis fitted with gradients on a cluster: events to parameters, nothing frozen on the way.

Simulated events of two jets or more and missing transverse momentum go through a jet-energy scale, a soft
cut on the missing momentum and a soft histogram of the dijet mass. The Poisson likelihood of the histogram
is minimised by all four parameters at once: each step is one pass over the events by the workers, which
gives the value and the gradient.

Run it: python docs/examples/fit_on_a_cluster.py
"""

from __future__ import annotations

import awkward as ak
import dask_awkward as dak
import numpy as np
from scipy.optimize import minimize

import dak_diff

EDGES = np.linspace(60.0, 180.0, 25)
#: What the pseudo-data are made with: signal strength, jet-energy scale in percent, normalisation and slope
#: of the background.
TRUTH = {"mu": 1.3, "jes": 1.0, "norm": 0.9, "slope": 0.2}
START = {"mu": 1.0, "jes": 0.0, "norm": 1.0, "slope": 0.0}
#: How well the jet-energy scale is known from elsewhere, in percent.
JES_UNCERTAINTY = 3.0
#: Both yields stay positive: the logarithm of a negative expectation is no likelihood.
BOUNDS = [(0.1, None), (None, None), (0.1, None), (None, None)]


def simulate(seed: int, events: int = 2_000) -> ak.Array:
    """Events of one partition: a resonance at 125 GeV and a falling background, with jets and met."""
    rng = np.random.default_rng(seed)
    signal = rng.random(events) < 0.3
    mass = np.where(signal, rng.normal(125, 6, events), 50 + rng.exponential(45, events))
    y, opening = rng.normal(0, 0.8, events), rng.uniform(0.8, 2.2, events)
    # Two massless jets, back to back in phi, with this invariant mass.
    pt = mass / np.sqrt(2 * (np.cosh(opening) + 1))
    third = rng.random(events) < 0.3
    pts = np.stack([pt, pt, rng.uniform(5, 15, events)], axis=1)
    etas = np.stack([y + opening / 2, y - opening / 2, rng.normal(0, 2, events)], axis=1)
    phi = rng.uniform(-np.pi, np.pi, events)
    phis = np.stack([phi, phi + np.pi, rng.uniform(-np.pi, np.pi, events)], axis=1)
    keep = np.stack([np.ones(events, bool), np.ones(events, bool), third], axis=1)
    jets = {
        name: ak.drop_none(ak.mask(ak.Array(x), keep))
        for name, x in (("pt", pts), ("eta", etas), ("phi", phis))
    }
    met = np.where(signal, rng.gamma(4, 15, events), rng.gamma(2, 15, events))
    return ak.zip({"jets": ak.zip(jets), "met": met, "signal": signal}, depth_limit=1)


def dijet_mass(jets, scale):
    """Invariant mass of the two leading jets, jets of the order of scaled momenta."""
    pt = jets.pt * scale
    order = dak.argsort(pt, axis=1, ascending=False)
    pt, eta, phi = (x[order][:, :2] for x in (pt, jets.eta, jets.phi))
    cosh = np.cosh(eta[:, 0] - eta[:, 1]) - np.cos(phi[:, 0] - phi[:, 1])
    return np.sqrt(2 * pt[:, 0] * pt[:, 1] * cosh)


def spectrum(events, p):
    """Expected bin contents, as a lazy array: differentiable by every parameter."""
    mass = dijet_mass(events.jets, 1 + p["jes"] / 100)
    passed = dak_diff.soft_cut(events.met, threshold=30.0, width=5.0)
    background = p["norm"] * np.exp(p["slope"] * (mass - 100) / 100)
    weight = passed * dak.where(events.signal, p["mu"], background)
    return dak_diff.soft_histogram(mass, EDGES, bandwidth=3.0, weights=weight)


def parameters(values):
    return {name: dak_diff.parameter(value, name=name) for name, value in values.items()}


def negative_log_likelihood(expected, observed, p):
    """Poisson, up to a constant, with the constraint of the jet-energy scale."""
    counts = dak.from_awkward(ak.Array(observed), npartitions=1)
    return dak.sum(expected - counts * np.log(expected)) + 0.5 * (p["jes"] / JES_UNCERTAINTY) ** 2


def fit(partitions: int = 8) -> dict:
    """Pseudo-data at the truth, and two fits from another point: with gradients, and without.

    Runs where Dask runs: on the cluster, if there is a client.
    """
    meta = ak.Array(simulate(0, 1).layout.to_typetracer(forget_length=True))
    events = dak.from_map(simulate, range(partitions), meta=meta, label="simulate")
    # A draw in which all four come out within one sigma, as about one in five does.
    rng = np.random.default_rng(1)
    expected = spectrum(events, parameters(TRUTH)).compute()
    observed = rng.poisson(ak.to_numpy(expected)).astype(float)

    p = parameters(START)
    loss = negative_log_likelihood(spectrum(events, p), observed, p)
    with_gradients = dak_diff.objective(loss, p, persist=True)
    found = minimize(with_gradients.value_and_grad, with_gradients.x0, jac=True, bounds=BOUNDS)
    without = dak_diff.objective(loss, p, persist=True)
    again = minimize(without, without.x0, bounds=BOUNDS)
    covariance = np.linalg.inv(with_gradients.hessian(found.x))
    return {
        "fitted": dict(zip(START, found.x.tolist(), strict=True)),
        "sigma": dict(zip(START, np.sqrt(np.diag(covariance)).tolist(), strict=True)),
        "without": dict(zip(START, again.x.tolist(), strict=True)),
        "passes": (found.nfev, again.nfev),
    }


def main() -> None:
    import distributed

    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        result = fit()
    print("parameter   truth   fitted   sigma    pull")
    for name, truth in TRUTH.items():
        value, sigma = result["fitted"][name], result["sigma"][name]
        print(f"{name:<10} {truth:>6.3f} {value:>8.4f} {sigma:>7.4f} {(value - truth) / sigma:>7.2f}")
    print("passes over the events: {} with gradients, {} without".format(*result["passes"]))


if __name__ == "__main__":
    main()
