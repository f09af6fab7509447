"""The computations of Awkward's issues about its JAX backend, which had no derivative or a wrong one there.

Each is done again in memory, by every method, and over a graph of two partitions. What is expected was
worked out with pencil and paper, or is a central difference of plain Awkward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import awkward as ak
import dask
import dask_awkward as dak
import numpy as np
import pytest
from helpers import METHODS, assert_close, assert_identical, central_difference, collection

import dak_diff as dd
from dak_diff import eager
from dak_diff.errors import NoRuleError

every_method = pytest.mark.parametrize("method", METHODS)


# ---------------------------------------------------------------- one array, one function


@dataclass(frozen=True)
class Issue:
    """A function of one array, the direction of a tangent and the weights of a cotangent.

    ``tangent`` and ``cotangent`` are what must come out, by hand. A function of ``(ns, x)`` is run with
    ``ns=ak`` and ``ns=dak``; ``in_graphs`` says that dask-awkward has its operations.
    """

    number: int
    wrong: str
    fn: Callable
    x: ak.Array
    direction: ak.Array | float
    tangent: Any
    weights: ak.Array | float
    cotangent: Any
    in_graphs: bool = True


def sum_of_sum_times_array(ns, x):
    return ns.sum(ns.sum(x) * x)


def mean_momentum(ns, jets):
    # dask-awkward has no mean of everything.
    return ak.mean(jets.pt) if ns is ak else ns.sum(jets.pt) / ns.count(jets.pt)


def squared_first(ns, x):
    return ns.firsts(x) ** 2


def products_of_pairs(ns, x):
    first, second = ns.unzip(ns.combinations(x, 2))
    return first * second


def products_of_pairs_by_position(ns, x):
    first, second = ns.unzip(ns.argcombinations(x, 2))
    return x[first] * x[second]


def sorted_lists(ns, x):
    return ns.sort(x, axis=1)


def sorted_columns(ns, x):
    return ns.sort(x, axis=0)


NUMBERS = ak.Array([[1.0, 2.0, 3.0], [5.0, 6.0]])
JETS = ak.zip({"pt": ak.Array([[40.0, 20.0], [], [30.0], [10.0]]), "eta": [[0.5, 1.0], [], [2.0], [-1.0]]})
SOME_EMPTY = ak.Array([[1.5], [2.5], [], [3.5, 9.0], [], [], [4.5], [5.5]])
LISTS = ak.Array([[2.0, 3.0, 5.0], [], [7.0], [4.0, 6.0]])
ASCENDING = ak.Array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
SHUFFLED = ak.Array([[7.0, 2.0, 6.0], [1.0, 8.0, 9.0], [4.0, 5.0, 3.0]])
PLACES = ak.Array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])

ISSUES = [
    Issue(
        2556,
        "a reduced number times an array was a TypeError",
        sum_of_sum_times_array,
        NUMBERS,
        # (S^2)' = 2 S S_dot, S = 17
        direction=ak.Array([[1.0, 0.0, -1.0], [0.5, 2.0]]),
        tangent=2 * 17 * 2.5,
        weights=1.0,
        cotangent=[[34.0, 34.0, 34.0], [34.0, 34.0]],
    ),
    Issue(
        2638,
        "a mean could not be differentiated: its count has no derivative",
        mean_momentum,
        JETS,
        direction=JETS,
        tangent=25.0,
        weights=1.0,
        cotangent=[
            [{"pt": 0.25, "eta": 0.0}] * 2,
            [],
            [{"pt": 0.25, "eta": 0.0}],
            [{"pt": 0.25, "eta": 0.0}],
        ],
    ),
    Issue(
        3454,
        "firsts assigned in place, which JAX refuses",
        squared_first,
        SOME_EMPTY,
        direction=ak.Array([[1.0], [2.0], [], [3.0, 7.0], [], [], [-1.0], [0.5]]),
        tangent=[3.0, 10.0, None, 21.0, None, None, -9.0, 5.5],
        weights=ak.Array([1.0, -1.0, None, 2.0, None, None, 0.5, 3.0]),
        cotangent=[[3.0], [-5.0], [], [14.0, 0.0], [], [], [4.5], [33.0]],
    ),
    Issue(
        3467,
        "combinations asked for the address of a buffer",
        products_of_pairs,
        LISTS,
        direction=ak.Array([[1.0, 0.0, -1.0], [], [1.0], [2.0, 0.5]]),
        # (ab)' = a_dot b + a b_dot for ab, ac, bc
        tangent=[[3.0, 5.0 - 2.0, -3.0], [], [], [12.0 + 2.0]],
        weights=ak.Array([[1.0, 2.0, -1.0], [], [], [0.5]]),
        cotangent=[[3.0 + 10.0, 2.0 - 5.0, 4.0 - 3.0], [], [0.0], [3.0, 2.0]],
    ),
    Issue(
        3467,
        "argcombinations asked for the address of a buffer",
        products_of_pairs_by_position,
        LISTS,
        direction=ak.Array([[1.0, 0.0, -1.0], [], [1.0], [2.0, 0.5]]),
        tangent=[[3.0, 3.0, -3.0], [], [], [14.0]],
        weights=ak.Array([[1.0, 2.0, -1.0], [], [], [0.5]]),
        cotangent=[[13.0, -3.0, 1.0], [], [0.0], [3.0, 2.0]],
    ),
    Issue(
        3541,
        "sorting in order gave silent zeros",
        sorted_columns,
        ASCENDING,
        direction=ASCENDING,
        tangent=ASCENDING.to_list(),
        weights=PLACES,
        cotangent=PLACES.to_list(),
        in_graphs=False,
    ),
    Issue(
        3541,
        "sorting out of order gave silent zeros",
        sorted_columns,
        SHUFFLED,
        direction=PLACES,
        tangent=[[4.0, 2.0, 9.0], [7.0, 8.0, 3.0], [1.0, 5.0, 6.0]],
        weights=PLACES,
        cotangent=[[7.0, 2.0, 6.0], [1.0, 8.0, 9.0], [4.0, 5.0, 3.0]],
        in_graphs=False,
    ),
    Issue(
        3541,
        "sorting lists gave silent zeros",
        sorted_lists,
        SHUFFLED,
        direction=PLACES,
        tangent=[[2.0, 3.0, 1.0], [4.0, 5.0, 6.0], [9.0, 7.0, 8.0]],
        weights=PLACES,
        cotangent=[[3.0, 1.0, 2.0], [4.0, 5.0, 6.0], [8.0, 9.0, 7.0]],
    ),
]

every_issue = pytest.mark.parametrize("issue", ISSUES, ids=lambda i: f"{i.number} {i.fn.__name__}")
every_issue_of_graphs = pytest.mark.parametrize(
    "issue", [i for i in ISSUES if i.in_graphs], ids=lambda i: f"{i.number} {i.fn.__name__}"
)

#: All these numbers are short: only the order of a sum, and the formulas of squares, may round.
TOLERANCE = 1e-15


@every_issue
@every_method
def test_forward(issue, method):
    value, tangent = eager.jvp(lambda x: issue.fn(ak, x), (issue.x,), (issue.direction,), method=method)
    assert_identical(value, issue.fn(ak, issue.x))
    assert_close(tangent, issue.tangent, TOLERANCE)


@every_issue
@every_method
def test_reverse(issue, method):
    value, pull = eager.vjp(lambda x: issue.fn(ak, x), (issue.x,), method=method)
    assert_identical(value, issue.fn(ak, issue.x))
    assert_close(pull(issue.weights)[0], issue.cotangent, TOLERANCE)


def in_two(array):
    return collection(array, [1, len(array) - 1])


@every_issue_of_graphs
@every_method
def test_forward_over_a_graph(issue, method):
    x = in_two(issue.x)
    tangent = dd.jvp(issue.fn(dak, x), x, issue.direction, method=method)
    assert_close(tangent.compute(), issue.tangent, TOLERANCE)


@every_issue_of_graphs
@every_method
def test_reverse_over_a_graph(issue, method):
    x = in_two(issue.x)
    # dask-awkward forgets the divisions of x[positions]: an array could not be split at them.
    weights = in_two(issue.weights) if isinstance(issue.weights, ak.Array) else issue.weights
    cotangent = dd.vjp(issue.fn(dak, x), x, weights, method=method)
    assert_close(cotangent.compute(), issue.cotangent, TOLERANCE)


# ---------------------------------------------------------------- 2591: calibrated jets, added up

#: Jets without mass, in pairs: m^2 = 2 pt1 pt2 (cosh(eta1 - eta2) - cos(phi1 - phi2)). Back to back it is
#: 4 pt1 pt2; at right angles and log 2 apart in eta it is 2.5 pt1 pt2.
PAIRS = ak.zip(
    {
        "pt": ak.Array([[9.0, 4.0], [16.0, 1.0], [25.0, 9.0], [10.0, 4.0]]),
        "eta": ak.Array([[0.0, 0.0], [1.0, 1.0], [-0.5, -0.5], [np.log(2), 0.0]]),
        "phi": ak.Array([[0.5, 0.5 - np.pi], [np.pi, 0.0], [-1.0, np.pi - 1.0], [1.0, 1.0 - np.pi / 2]]),
        "mass": ak.Array([[0.0, 0.0]] * 4),
    },
    with_name="Momentum4D",
)
MASSES = [12.0, 8.0, 30.0, 10.0]
ALPHA = 0.5


def mean_mass(ns, jets, alpha):
    """The mean mass of the leading two jets, with all momenta scaled."""
    jets = ns.with_field(jets, jets.pt * (1 + alpha), "pt")
    mass = (jets[:, 0] + jets[:, 1]).mass
    return ns.sum(mass) / ns.count(mass)


def slopes(pt):
    """d(mean mass)/d(pt): a mass is the square root of both momenta, times (1 + alpha)."""
    return [[(1 + ALPHA) * m / (2 * p) / 4 for p in ps] for m, ps in zip(MASSES, pt.to_list(), strict=True)]


@every_method
def test_2591_mass_of_calibrated_jets(method):
    """Adding four-vectors was a TypeError, the mean an error. A mass is homogeneous in all momenta."""
    primals = (PAIRS, ALPHA)
    value, tangent = eager.jvp(lambda j, a: mean_mass(ak, j, a), primals, (0.0, 1.0), method=method)
    # Energies and momenta cancel in a mass of a tenth of them.
    assert value == pytest.approx(15 * (1 + ALPHA), rel=1e-13)
    assert tangent == pytest.approx(15, rel=1e-13)
    by_jets, by_alpha = eager.vjp(lambda j, a: mean_mass(ak, j, a), primals, method=method)[1](1.0)
    assert by_alpha == pytest.approx(15, rel=1e-13)
    assert_close(by_jets.pt, slopes(PAIRS.pt), 1e-13)


@every_method
def test_2591_over_a_graph(method):
    jets, alpha = in_two(PAIRS), dd.parameter(ALPHA, name="alpha")
    mean = mean_mass(dak, jets, alpha)
    value, tangent = dd.value_and_jvp(mean, alpha, method=method)
    by_pt, by_alpha = dd.grad(mean, [jets.pt, alpha], method=method)
    value, tangent, by_pt, by_alpha = dask.compute(value, tangent, by_pt, by_alpha)
    assert value == pytest.approx(15 * (1 + ALPHA), rel=1e-13)
    assert tangent == pytest.approx(15, rel=1e-13)
    assert by_alpha == pytest.approx(15, rel=1e-13)
    assert_close(by_pt, slopes(PAIRS.pt), 1e-13)


# ---------------------------------------------------------------- 2603: a behavior with a compiled kernel


@cache
def squared_mass_kernel(signed: bool):
    numba = pytest.importorskip("numba")

    def squared_mass(t, x, y, z):
        return t * t - x * x - y * y - z * z

    return numba.vectorize([numba.float64(*[numba.float64] * 4)] if signed else [])(squared_mass)


def candidates(signed: bool = False):
    """Pairs of candidates whose class and sum are the test's, and whose mass calls the kernel."""
    kernel = squared_mass_kernel(signed)

    class CandidateArray(ak.Array):
        @property
        def mass(self):
            return np.sqrt(kernel(self.t, self.x, self.y, self.z))

    def add(a, b):
        return ak.zip(
            {name: a[name] + b[name] for name in "txyz"}, with_name="Candidate", behavior=a.behavior
        )

    return ak.zip(
        {
            "t": ak.Array([[5.0, 7.0], [3.0, 4.0], [2.0, 1.5]]),
            "x": ak.Array([[1.0, -2.0], [0.5, 1.0], [-1.0, 1.0]]),
            "y": ak.Array([[2.0, 1.0], [-1.0, 0.25], [0.5, -0.5]]),
            "z": ak.Array([[0.5, 3.0], [1.0, -2.0], [0.0, 0.25]]),
        },
        with_name="Candidate",
        behavior={("*", "Candidate"): CandidateArray, (np.add, "Candidate", "Candidate"): add},
    )


def mass_of_scaled(ns, pairs, scale):
    pairs = ns.with_field(pairs, pairs.t * scale, "t")
    return (pairs[:, 0] + pairs[:, 1]).mass


def energies_over_masses(pairs, scale):
    """d(mass)/d(scale) = E sum(t) / m, with E = scale sum(t), written out in NumPy."""
    t, x, y, z = (np.sum(np.asarray(pairs[name]), axis=1) for name in "txyz")
    return scale * t * t / np.sqrt((scale * t) ** 2 - x**2 - y**2 - z**2)


@pytest.mark.parametrize("method", ["auto", "complex-step"])
def test_2603_kernel_of_a_behavior(method):
    """The kernel was looked for in jax.numpy by its name, and not found."""
    pairs = candidates()
    want = energies_over_masses(pairs, 1.25).tolist()
    fn = partial(mass_of_scaled, ak, pairs)
    value, tangent = eager.jvp(fn, (1.25,), method=method)
    assert_identical(value, fn(1.25))
    assert_close(tangent, want, 1e-14)
    assert eager.vjp(fn, (1.25,), method=method)[1](1.0)[0] == pytest.approx(sum(want), rel=1e-14)
    lazy, scale = dak.from_awkward(pairs, npartitions=2), dd.parameter(1.25, name="scale")
    mass = mass_of_scaled(dak, lazy, scale)
    tangent, slope = dask.compute(
        dd.jvp(mass, scale, method=method), dd.grad(dak.sum(mass), scale, method=method)
    )
    assert_close(tangent, want, 1e-14)
    assert slope == pytest.approx(sum(want), rel=1e-14)


@pytest.mark.parametrize(("signed", "method"), [(False, "dual"), (True, "auto"), (True, "complex-step")])
def test_2603_kernel_without_a_derivative(signed, method):
    """Neither formula nor complex loop: an error with the name of the kernel, in memory and over a graph."""
    pairs = candidates(signed)
    with pytest.raises(NoRuleError, match="squared_mass"):
        eager.jvp(lambda scale: mass_of_scaled(ak, pairs, scale), (1.25,), method=method)
    lazy, scale = dak.from_awkward(pairs, npartitions=2), dd.parameter(1.25, name="scale")
    with pytest.raises(NoRuleError, match="squared_mass"):
        dd.jvp(mass_of_scaled(dak, lazy, scale), scale, method=method)


# ---------------------------------------------------------------- 2637: calibrate, analyse, differentiate

N_EVENTS = 40
SHIFT = 25.0


@pytest.fixture(scope="module")
def events():
    """Jets by the dozen: up to five in an event, momenta from 15 to 80."""
    rng = np.random.default_rng(2637)
    counts = rng.integers(0, 6, N_EVENTS)
    total = int(counts.sum())
    columns = {
        "pt": rng.uniform(15, 80, total).round(2),
        "eta": rng.uniform(-3, 3, total).round(3),
        "phi": rng.uniform(-3, 3, total).round(3),
        "mass": rng.uniform(2, 9, total).round(3),
    }
    return ak.unflatten(ak.zip(columns), counts)


@pytest.fixture(scope="module")
def files(events, tmp_path_factory):
    """The same events in two Parquet files, which are two partitions."""
    pytest.importorskip("pyarrow")
    folder = tmp_path_factory.mktemp("events")
    for i, part in enumerate((events[:17], events[17:])):
        ak.to_parquet(ak.zip({"jets": part}, depth_limit=1), folder / f"{i}.parquet")
    return folder


def calibrated(ns, jets, alpha):
    """All momenta shifted by the same number, by assigning the column anew: what the issue asks for."""
    jets = ns.with_name(jets, "Momentum4D")
    jets["pt"] = jets["pt"] + SHIFT * alpha
    return jets


def selected(ns, jets, alpha):
    jets = calibrated(ns, jets, alpha)
    jets = jets[(jets.pt > 30) & (abs(jets.eta) < 2.5)]
    return jets[ns.num(jets) >= 2]


def scalar_sum(ns, jets, alpha):
    """The mean over selected events of the sum of momenta."""
    ht = ns.sum(selected(ns, jets, alpha).pt, axis=1)
    return ns.sum(ht) / ns.count(ht)


def leading_mass(ns, jets, alpha):
    """The mean mass of the two hardest jets of selected events."""
    jets = selected(ns, jets, alpha)
    jets = jets[ns.argsort(jets.pt, axis=1, ascending=False)]
    mass = (jets[:, 0] + jets[:, 1]).mass
    return ns.sum(mass) / ns.count(mass)


def test_2637_selection_is_the_same_nearby(events):
    """What the other tests rest on: some jets are cut away, none close to the threshold."""
    kept = [ak.num(selected(ak, events, ALPHA + step).pt).to_list() for step in (-6e-4, 0.0, 6e-4)]
    assert kept[0] == kept[1] == kept[2]
    assert 10 < len(kept[1]) < N_EVENTS
    assert sum(kept[1]) < ak.count(events.pt)


@every_method
def test_2637_records_that_carry_a_derivative(events, method):
    """A number that is differentiated by, added to an array, was a TypeError."""
    value, tangent = eager.jvp(lambda a: calibrated(ak, events, a), (ALPHA,), method=method)
    assert_identical(value, calibrated(ak, events, ALPHA))
    ones = ak.ones_like(events.pt)
    want = ak.zip({"pt": SHIFT * ones, "eta": 0 * ones, "phi": 0 * ones, "mass": 0 * ones})
    assert tangent.to_list() == want.to_list()
    (slope,) = eager.vjp(lambda a: calibrated(ak, events, a).pt, (ALPHA,), method=method)[1](1.0)
    assert slope == SHIFT * ak.count(events.pt)


@every_method
def test_2637_analysis_in_memory(events, method):
    jets = selected(ak, events, ALPHA)
    slope = eager.grad(lambda a: scalar_sum(ak, events, a), method=method)(ALPHA)
    # Every jet that is kept moves by SHIFT.
    assert slope == pytest.approx(SHIFT * ak.count(jets.pt) / len(jets), rel=1e-14)
    fn = partial(leading_mass, ak, events)
    (want,) = central_difference(fn, (ALPHA,), (1.0,))
    value, tangent = eager.jvp(fn, (ALPHA,), method=method)
    assert_identical(value, fn(ALPHA))
    assert tangent == pytest.approx(want, rel=1e-9)
    assert eager.grad(fn, method=method)(ALPHA) == pytest.approx(tangent, rel=1e-13)


@every_method
def test_2637_analysis_over_files(files, events, method):
    """From Parquet to the derivative by the calibration and by every momentum, nothing run before the end."""
    jets = dak.from_parquet(str(files)).jets
    assert jets.npartitions == 2
    alpha = dd.parameter(ALPHA, name="alpha")
    ht, mass = scalar_sum(dak, jets, alpha), leading_mass(dak, jets, alpha)
    requests = (
        *dd.value_and_jvp(mass, alpha, method=method),
        dd.jvp(ht, alpha, method=method),
        *dd.value_and_grad(mass, [jets.pt, alpha], method=method),
        dd.grad(ht, alpha, method=method),
    )
    value, tangent, ht_tangent, again, (by_pt, by_alpha), ht_slope = dask.compute(*requests)
    (want,) = central_difference(lambda a: leading_mass(ak, events, a), (ALPHA,), (1.0,))
    kept = selected(ak, events, ALPHA)
    assert value == again == pytest.approx(leading_mass(ak, events, ALPHA), rel=1e-14)
    assert tangent == pytest.approx(want, rel=1e-9)
    assert by_alpha == pytest.approx(tangent, rel=1e-13)
    # alpha acts through the momenta alone.
    assert SHIFT * ak.sum(by_pt) == pytest.approx(tangent, rel=1e-13)
    by_pt_in_memory = eager.grad(lambda pt: leading_mass(ak, ak.with_field(events, pt, "pt"), ALPHA))(
        events.pt
    )
    assert_close(by_pt, by_pt_in_memory, 1e-13)
    assert ak.sum(by_pt != 0) == 2 * len(kept)
    for slope in (ht_tangent, ht_slope):
        assert slope == pytest.approx(SHIFT * ak.count(kept.pt) / len(kept), rel=1e-13)
