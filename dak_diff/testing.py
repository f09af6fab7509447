"""Check the derivatives of your own analysis: against differences, and one mode against the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import awkward as ak
import dask_awkward as dak
import numpy as np

from dak_diff.api import plan
from dak_diff.checking.differences import Differences, Problem
from dak_diff.checking.numbers import Numbers, computed, draw, map_floats, type_of
from dak_diff.checking.point import Point, as_seed
from dak_diff.graph.active import Activity, State
from dak_diff.graph.collections import DerivativeScalar
from dak_diff.graph.layers import label_of
from dak_diff.parameter import Parameter, ParameterLayer

__all__ = ["check_grads"]

_MODES = ("forward", "reverse")


def check_grads(
    expr: Any,
    wrt: Any,
    order: int = 1,
    modes: Iterable[str] = _MODES,
    *,
    seed: int = 0,
    method: str = "auto",
) -> None:
    """Check the derivative of a collection along a random direction; runs the analysis at once.

    Parameters
    ----------
    expr : dask_awkward.Array or Scalar
        What is differentiated.
    wrt : collection, or nested list, tuple or dict of collections
        As for :func:`dak_diff.jvp`. Its numbers are brought to this process.
    order : {1, 2}
        2: check also the derivative of the directional derivative (forward of forward, reverse of
        forward).
    modes : iterable of {"forward", "reverse"}
        ``jvp`` against differences of the value; ``vjp`` against ``jvp`` by the dot test
        <w, J v> = <J^T w, v>, or against differences if "forward" is not asked for.
    seed : int
        Of the random direction and cotangent, which are short binary fractions.
    method : {"auto", "dual", "complex-step"}
        Where partials come from.

    Raises
    ------
    AssertionError
        If a derivative is wrong, with the place in the output, both numbers, what was allowed, and
        the first layer at which they part; or if the differences do not converge there, because of
        a kink or a jump near this point, which is said.
    ValueError
        If ``order`` or ``modes`` are none of those above.
    DisconnectedError, TypeError, NoRuleError, OptimizedGraphError
        As :func:`dak_diff.jvp` and :func:`dak_diff.vjp`.

    Notes
    -----
    Structure: any (``n * var * float64``, records, scalars); float32 anywhere on the way widens what
    is allowed from 1e-7 to 1e-3 of the derivative. Units: ``wrt`` is moved in units of the median of
    each of its columns, by 2**-10 of it (float32: 2**-5), then by other steps where differences have
    not converged or a selection changes.
    Not lazy: ``expr`` runs about five times, with the scheduler of ``dask.compute``; after a failure
    once more for each layer. Give it a small sample.
    Where the value is not finite nothing is checked. Kinks: the conventions of docs/explain/kinks.md
    are no limits of differences, so a point on a kink fails.

    References
    ----------
    .. [1] Fornberg, "Generation of finite difference formulas on arbitrarily spaced grids",
       Math. Comp. 51 (1988) 699, table 1 (five points).
    .. [2] Griewank and Walther, *Evaluating Derivatives*, 2nd ed., SIAM 2008, ch. 3.3.

    Examples
    --------
    >>> import awkward as ak, dask_awkward as dak
    >>> from dak_diff.testing import check_grads
    >>> x = dak.from_awkward(ak.Array([[1.0, 2.0], [], [3.0]]), npartitions=2)
    >>> check_grads(dak.sum(x[x > 1.5] ** 3), wrt=x, order=2)
    """
    modes = tuple(modes)
    if order not in (1, 2):
        raise ValueError(f"order must be 1 or 2, not {order!r}")
    if not modes or not set(modes) <= set(_MODES):
        raise ValueError(f"modes must be some of {', '.join(_MODES)}, not {modes!r}")
    point = Point.of(wrt, seed, method)
    activity = plan(expr, wrt, method)
    for nth in range(1, order + 1):
        problem = _problem(point.derived(expr, nth), point, modes)
        if problem is not None:
            first = _first_layer(activity, point, nth, (problem.mode,))
            raise AssertionError(_message(problem, expr, nth, first))


def _problem(expr: Any, point: Point, modes: tuple[str, ...]) -> Problem | None:
    """What is wrong with the first derivative of ``expr``, None if nothing is."""
    differences = Differences(expr, point)
    if "forward" not in modes:
        return differences.problem("reverse") or _dot_test(
            differences, differences.number, differences.allowed
        )
    tangent = Numbers(computed([point.jvp(expr)])[0])
    problem = _other_structure("forward", tangent, differences.value)
    problem = problem or differences.problem("forward", tangent.flat)
    if problem is not None or "reverse" not in modes:
        return problem
    return _dot_test(differences, tangent.flat, differences.precision.dot * np.abs(tangent.flat))


def _other_structure(mode: str, derivative: Numbers, primal: Numbers) -> Problem | None:
    for i, alike in enumerate(primal.alike(derivative)):
        got, expected = derivative.pieces[i], primal.pieces[i]
        if not alike or type_of(got) != type_of(expected):
            what, place = "the structure of the derivative", f" in partition {i}"
            return Problem(mode, what, place, f"{type_of(got)}: {got}", f"{type_of(expected)}: {expected}")
    return None


def _dot_test(differences: Differences, forward: np.ndarray, allowed: np.ndarray) -> Problem | None:
    """Whether <J^T w, v> is <w, forward>, where ``forward`` is J v up to ``allowed``."""
    point, value, precision = differences.point, differences.value, differences.precision
    cotangent, weights = _cotangent(value, point.seed, np.isfinite(forward) & np.isfinite(value.flat))
    gradients = point.vjp(differences.expr, as_seed(cotangent, differences.expr, "cotangent"))
    terms = [np.empty(0)]
    for given, pieces in zip(point.inputs, computed(gradients), strict=True):
        gradient = Numbers(pieces)
        problem = _other_structure("reverse", gradient, Numbers(given.pieces))
        if problem is not None:
            return problem
        terms.append(np.conj(gradient.flat) * Numbers(given.direction).flat)
    used = weights != 0
    got = float(np.real(np.sum(np.concatenate(terms))))
    expected = float(np.real(np.vdot(weights[used], forward[used])))
    size = float(np.sum(np.abs(np.concatenate(terms))))
    absolute = float(np.abs(weights[used]) @ allowed[used])
    if abs(got - expected) <= precision.dot * size + absolute:
        return None
    return Problem("reverse", "<J^T w, v> of the vjp", "", got, expected, precision.dot, absolute)


def _cotangent(value: Numbers, seed: int, used: np.ndarray) -> tuple[list, np.ndarray]:
    """A random cotangent of the value, zero where it is not used, as partitions and as numbers."""
    rng, keep = np.random.default_rng([seed, 1]), iter(np.split(used, value.bounds[1:-1]))

    def like(piece: Any) -> Any:
        left = next(keep)

        def on_leaf(leaf: Any) -> Any:
            nonlocal left
            here, left = left[: np.size(leaf)], left[np.size(leaf) :]
            return np.where(here.reshape(np.shape(leaf)), draw(leaf, rng), np.zeros_like(leaf))[()]

        return map_floats(piece, on_leaf)

    pieces = [like(piece) for piece in value.pieces]
    return pieces, Numbers(pieces).flat


def _first_layer(activity: Activity, point: Point, order: int, modes: tuple[str, ...]) -> str:
    """The label of the first layer, from wrt on, whose derivative of this order is wrong."""
    for name in activity.order:
        if activity.states[name] is State.ACTIVE and name != activity.expr.name:
            layer = _collection_of(activity, name)
            if layer is None:
                continue
            here = point.of_layer(layer)
            if _problem(here.derived(layer, order), here, modes) is not None:
                return label_of(name)
    return label_of(activity.expr.name)


def _collection_of(activity: Activity, name: str) -> Any:
    """A layer of the graph as a collection; None if what it holds is none, or is not known."""
    graph, sample = activity.graph, activity.samples.get(name)
    layer = graph.layers[name]
    if isinstance(layer, ParameterLayer) and isinstance(sample, (float, np.floating, np.ndarray)):
        return Parameter(name, graph, sample)
    if isinstance(sample, (float, np.floating)):
        return DerivativeScalar(graph, name, None, np.asarray(sample).dtype)
    if not isinstance(sample, ak.Array):
        return None
    blocks = {key[1] for key in layer.get_output_keys() if isinstance(key, tuple) and key[0] == name}
    meta = ak.Array(sample.layout.to_typetracer(forget_length=True), behavior=sample.behavior)
    return dak.Array(graph, name, meta, (None,) * (len(blocks) + 1))


def _message(problem: Problem, expr: Any, order: int, first: str) -> str:
    of = {1: "", 2: " of the jvp"}[order]
    verdict = "cannot be checked here" if problem.note else "is not what it should be"
    allowed = f"{problem.relative:.1e} of the numbers, and {problem.absolute:.1e}"
    return "\n".join(
        [
            f"the {problem.mode} derivative{of} {verdict}, order {order}",
            f"  output       {label_of(expr.name)!r}{problem.place}",
            f"  got          {problem.got}  ({problem.what})",
            f"  expected     {problem.expected}",
            f"  note         {problem.note}" if problem.note else f"  allowed      {allowed}",
            f"  first layer  {first!r}",
        ]
    )
