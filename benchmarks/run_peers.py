"""What derivatives can be had where: the same small analyses in dak_diff and in its peers.

    python -m benchmarks.run_peers

Needs jax, autograd, vector and dask-histogram. Each library is asked for the derivative of the sum of each
analysis, and what comes out is compared with central differences. Prints the table of the README: yes, the
numbers are right; no, with the error; wrong, with the numbers.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import autograd
import awkward as ak
import boost_histogram as bh
import dask
import dask_awkward as dak
import dask_histogram as dh
import jax
import numpy as np
import vector

import dak_diff
from dak_diff import eager

jax.config.update("jax_enable_x64", True)
# Awkward's backend now and then reads buffers before they are computed.
jax.config.update("jax_cpu_enable_async_dispatch", False)
vector.register_awkward()

PT = ak.Array([[50.0, 30.0, 20.0], [], [40.0], [80.0, 60.0]])
ETA = ak.Array([[0.5, -1.0, 0.1], [], [0.3], [1.2, -0.4]])
BINS, EDGES = np.array([1.5, 2.5, 3.5, 1.0]), bh.axis.Regular(3, 1, 4)


class Analysis(NamedTuple):
    """A function of a namespace (ak, or dask_awkward for lazy arrays) and an argument."""

    name: str
    fn: Callable[[Any, Any], Any]
    argument: Any = PT
    asked: str = "gradient"
    lazy: bool = False


def constant(ns: Any, array: ak.Array, beside: Any) -> Any:
    """An array where the argument is: lazy, or on its backend."""
    if ns is dak:
        return dak.from_awkward(array, npartitions=2)
    if isinstance(beside, jax.core.Tracer):
        with contextlib.suppress(RuntimeError):  # JAX has not been told of Awkward
            return ak.to_backend(array, "jax")
    return ak.to_backend(array, ak.backend(beside)) if isinstance(beside, ak.Array) else array


def momenta(ns: Any, pt: Any, eta: Any) -> Any:
    return ns.zip({"pt": pt, "eta": eta, "phi": 0.5 * eta, "mass": 0 * eta + 1}, with_name="Momentum4D")


def pair_mass(ns: Any, pt: Any) -> Any:
    pairs = ns.combinations(momenta(ns, pt, constant(ns, ETA, pt)), 2, fields=["a", "b"])
    return (pairs.a + pairs.b).mass


def calibrated_mass(ns: Any, alpha: Any) -> Any:
    pt, eta = constant(ns, PT, alpha), constant(ns, ETA, alpha)
    jets = momenta(ns, pt, eta)
    jets = ns.with_field(jets, jets.pt + alpha, "pt")
    pairs = ns.combinations(jets, 2, fields=["a", "b"])
    return (pairs.a + pairs.b).mass


def product_of_pairs(ns: Any, pt: Any) -> Any:
    pairs = ns.combinations(pt, 2)
    return pairs["0"] * pairs["1"]


def filled(ns: Any, pt: Any) -> Any:
    weights = ns.sum(pt * pt, axis=1)
    if ns is dak:
        bins = dak.from_awkward(ak.Array(BINS), npartitions=2)
        return dh.factory(bins, weights=weights, axes=(EDGES,), storage=bh.storage.Double())
    return bh.Histogram(EDGES, storage=bh.storage.Double()).fill(BINS, weight=weights)


ANALYSES = [
    Analysis("flat arrays", lambda ns, x: x**3 + x, np.array([5.0, 3.0, 2.0])),
    Analysis("lists, `sum(..., axis=1)`", lambda ns, pt: ns.sum(np.sin(pt) * pt, axis=1)),
    Analysis("masks, `pt[pt > 25]`", lambda ns, pt: pt[pt > 25] ** 2),
    Analysis("sorting, `argsort`", lambda ns, pt: pt[ns.argsort(pt, axis=1)][:, :1] ** 2),
    Analysis("`combinations`", product_of_pairs),
    Analysis("options, `firsts`", lambda ns, pt: ns.fill_none(ns.firsts(pt), 1.0) ** 2),
    Analysis("`std`", lambda ns, pt: ns.std(pt[ns.num(pt) > 1], axis=1)),
    Analysis("records, vector's `(a + b).mass`", pair_mass),
    Analysis("a number put into records", calibrated_mass, 1.5),
    Analysis("histogram, by weights", filled),
    Analysis("lists, over lazy partitions", lambda ns, pt: ns.sum(pt**3, axis=1), lazy=True),
    Analysis("lists, forward mode", lambda ns, pt: ns.sum(np.sin(pt) * pt, axis=1), asked="jvp"),
    Analysis("lists, second order", lambda ns, pt: ns.sum(pt**3, axis=1), asked="hvp"),
]


def total(result: Any) -> Any:
    """The sum of everything, as a number of the library that computed it."""
    if isinstance(result, bh.Histogram):
        return result.values().sum()
    return ak.sum(result, axis=None) if isinstance(result, ak.Array) else result.sum()


class Library(NamedTuple):
    """How a library takes an argument, and makes derivatives of functions."""

    name: str
    arrive: Callable[[Any], Any]
    grad: Callable[[Callable], Callable]
    jvp: Callable[[Callable, Any, Any], Any]


def as_it_is(x: Any) -> Any:
    return x


def on_jax(x: Any) -> Any:
    ak.jax.register_and_check()
    return ak.to_backend(x, "jax") if isinstance(x, ak.Array) else x


#: Awkward's backend last: it teaches JAX about Awkward for the rest of the process.
LIBRARIES = [
    Library("`dak_diff.eager`", as_it_is, eager.grad, lambda f, x, t: eager.jvp(f, (x,), (t,))[1]),
    Library("JAX", as_it_is, jax.grad, lambda f, x, t: jax.jvp(f, (x,), (t,))[1]),
    Library("autograd", as_it_is, autograd.grad, lambda f, x, t: autograd.make_jvp(f)(x)(t)[1]),
    Library("Awkward's JAX backend", on_jax, jax.grad, lambda f, x, t: jax.jvp(f, (x,), (t,))[1]),
]


def ones(x: Any) -> Any:
    return ak.ones_like(x) if isinstance(x, ak.Array) else np.ones_like(x)


def derived(library: Library, analysis: Analysis) -> Any:
    def summed(x: Any) -> Any:
        return total(analysis.fn(dak if analysis.lazy else ak, x))

    x = analysis.argument
    x = library.arrive(dak.from_awkward(x, npartitions=2) if analysis.lazy else x)
    if analysis.asked == "gradient":
        return library.grad(summed)(x)
    return library.jvp(summed if analysis.asked == "jvp" else library.grad(summed), x, ones(x))


def over_dask(analysis: Analysis) -> Any:
    """dak_diff on two partitions."""
    x = analysis.argument
    if isinstance(x, float):
        wrt = dak_diff.parameter(x, name="x")
    else:
        wrt = dak.from_awkward(ak.Array(x), npartitions=2)
    expr = analysis.fn(dak, wrt)
    if analysis.asked == "gradient":
        cotangents = None if isinstance(expr, dak.Array) else np.ones(len(EDGES))
        return dask.compute(dak_diff.vjp(expr, wrt=wrt, cotangents=cotangents))[0]
    derivative = dak_diff.jvp if analysis.asked == "jvp" else dak_diff.hvp
    return derivative(dak.sum(expr), wrt=wrt).compute()


def numbers(x: Any) -> np.ndarray:
    x = ak.to_backend(x, "cpu") if isinstance(x, ak.Array) else x
    return np.asarray(ak.flatten(x, axis=None) if isinstance(x, ak.Array) else x, dtype=float).reshape(-1)


def differences(analysis: Analysis) -> np.ndarray:
    """Central differences, of the sum or (second order) of the gradient along ones."""
    x = analysis.argument
    flat = numbers(x)

    def at(moved: np.ndarray) -> float:
        like = ak.unflatten(moved, ak.num(x)) if isinstance(x, ak.Array) else moved.reshape(np.shape(x))[()]
        return float(total(analysis.fn(ak, like)))

    step, moves = 1e-3, np.eye(len(flat))
    if analysis.asked == "hvp":
        return np.array(
            [sum(a * b * at(flat + step * (a * one + b)) for a in (1, -1) for b in (1, -1)) for one in moves]
        ) / (4 * step**2)
    slopes = np.array([at(flat + step * one) - at(flat - step * one) for one in moves]) / (2 * step)
    return slopes.sum(keepdims=True) if analysis.asked == "jvp" else slopes


def verdict(ask: Callable[[], Any], expected: np.ndarray) -> str:
    try:
        got = numbers(ask())
    except Exception as error:
        return f"no: {type(error).__name__}"
    right = got.shape == expected.shape and np.allclose(got, expected, rtol=1e-5, atol=1e-5)
    return "yes" if right else f"wrong: {got.tolist()}"


def main() -> None:
    expected = [differences(analysis) for analysis in ANALYSES]
    ways = {"dak_diff over Dask": over_dask, **{lib.name: partial(derived, lib) for lib in LIBRARIES}}
    columns = {
        name: [verdict(partial(way, a), e) for a, e in zip(ANALYSES, expected, strict=True)]
        for name, way in ways.items()
    }
    print("| " + " | ".join(["derivative of", *columns]) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for analysis, *cells in zip(ANALYSES, *columns.values(), strict=True):
        print("| " + " | ".join([analysis.name, *cells]) + " |")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
