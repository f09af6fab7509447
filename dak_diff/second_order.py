"""Second derivatives of collections: lazy functions from a graph to the graph of its derivative."""

from __future__ import annotations

from typing import Any

import dask_awkward as dak

from dak_diff.api import grad, jvp, match_nest
from dak_diff.engine.matching import match_leaves
from dak_diff.engine.values import Cotangents, derivative_like
from dak_diff.graph.active import ancestors
from dak_diff.graph.cotangent_tasks import add_cotangents
from dak_diff.graph.wrt import flatten_nested, resolve, unflatten_nested
from dak_diff.jacobian import jacobian

__all__ = ["hessian", "hvp"]


def hvp(
    expr: Any,
    wrt: Any,
    tangents: Any = None,
    *,
    method: str = "auto",
    residuals: str = "keep",
    disconnected: str = "raise",
) -> Any:
    """Hessian-vector product of a scalar collection, in the nesting of ``wrt``, lazily.

    Parameters
    ----------
    expr : dask_awkward.Scalar
        What is differentiated twice.
    wrt : collection, or nested list, tuple or dict of collections
        As for :func:`~dak_diff.jvp`.
    tangents : collection, ak.Array, number, or a nest of them as ``wrt``; optional
        The direction, as for :func:`~dak_diff.jvp`; none given: ones.
    method : {"auto", "dual", "complex-step"}
        Where partials come from. Second partials come from formulas.
    residuals : {"keep", "recompute"}
        As for :func:`~dak_diff.vjp`.
    disconnected : {"raise", "zero"}
        What to do if ``expr`` does not depend on some ``wrt``.

    Returns
    -------
    collection, or the nesting of ``wrt``
        For each ``wrt`` the sum over ``wrt`` of H_ij t_j, of its type (``n * var * float64 -> n * var *
        float64``). Units: units of ``expr`` per unit of that ``wrt``, per unit of seed.

    Raises
    ------
    DisconnectedError, TypeError, StructureError, NoRuleError, OptimizedGraphError
        As :func:`~dak_diff.grad` and :func:`~dak_diff.jvp`. What ``expr`` is linear in gives zero.

    Notes
    -----
    Laziness: the layers of the gradient with their tangents; nothing runs. Forward over reverse;
    where one ``wrt`` is computed from another, block by block, in either order.
    At kinks: the derivative of the convention in docs/explain/kinks.md, never a delta function.

    References
    ----------
    .. [1] Pearlmutter, *Fast exact multiplication by the Hessian*, Neural Computation 6 (1994) 147.

    Examples
    --------
    >>> import awkward as ak, dask_awkward as dak, dak_diff
    >>> x = dak.from_awkward(ak.Array([[1.0, 2.0], [3.0]]), npartitions=2)
    >>> dak_diff.hvp(dak.sum(x**3), wrt=x).compute().to_list()
    [[6.0, 12.0], [18.0]]
    """
    gradients = grad(expr, wrt, method=method, residuals=residuals, disconnected=disconnected)
    layers = {name for _, g in flatten_nested(gradients) for name in g.dask.layers}
    if all(resolve(collection).base in layers for _, collection in flatten_nested(wrt)):
        products = [
            jvp(g, wrt, tangents, method=method, disconnected="zero") for _, g in flatten_nested(gradients)
        ]
        return unflatten_nested(wrt, products)
    return unflatten_nested(wrt, _in_pairs(expr, wrt, tangents, method, residuals))


def _in_pairs(expr: Any, wrt: Any, tangents: Any, method: str, residuals: str) -> list[Any]:
    """Block by block, each in the order that leaves both collections where they can be perturbed."""
    # What does not depend on something was refused before, if it is to be refused.
    options: dict[str, Any] = {"method": method, "disconnected": "zero"}
    collections = [collection for _, collection in flatten_nested(wrt)]
    bases = [resolve(collection).base for collection in collections]
    products = []
    for inner, base in zip(collections, bases, strict=True):
        upstream = ancestors(expr.dask, [base]) if base in expr.dask.layers else ()
        blocks = []
        for outer, other, tangent in zip(collections, bases, match_nest(wrt, tangents), strict=True):
            if other != base and other in upstream:
                gradient = grad(expr, inner, residuals=residuals, **options)
                blocks.append(jvp(gradient, outer, tangent, **options))
            else:
                slope = jvp(expr, outer, tangent, **options)
                blocks.append(grad(slope, inner, residuals=residuals, **options))
        products.append(_sum(blocks))
    return products


def _sum(blocks: list[Any]) -> Any:
    if len(blocks) == 1 or not isinstance(blocks[0], dak.Array):
        return sum(blocks[1:], blocks[0])
    return dak.map_partitions(_added, *blocks, label="add-blocks", meta=blocks[0]._meta)


def _added(first: Any, *others: Any) -> Any:
    """The sum of the numbers of arrays of one type, records included."""
    if dak.lib.core.is_typetracer(first):
        return first
    total = add_cotangents(Cotangents(match_leaves(first, value)) for value in (first, *others))
    return derivative_like(first, total or {})


def hessian(
    expr: Any, wrt: Any, *, method: str = "auto", residuals: str = "keep", disconnected: str = "raise"
) -> Any:
    """Second derivatives of a scalar collection by parameters, lazily.

    Parameters
    ----------
    expr : dask_awkward.Scalar
        What is differentiated twice.
    wrt : Parameter, or nested list, tuple or dict of parameters
        Numbers and NumPy arrays.
    method, residuals, disconnected
        As for :func:`hvp`.

    Returns
    -------
    Scalar, or the nesting of ``wrt`` twice
        Outer nesting: the first derivative, inner: the second. A block has the shape of its outer parameter
        followed by that of its inner one (``float64``, ``3 * float64 -> 3 * 3 * float64``). Units: units of
        ``expr`` per unit of both.

    Raises
    ------
    TypeError
        If a ``wrt`` is no parameter of numbers: a Hessian by a collection has as many numbers as the square
        of its length; :func:`hvp` gives its products.
    DisconnectedError, NoRuleError, OptimizedGraphError
        As :func:`~dak_diff.grad`. What ``expr`` is linear in gives zero.

    Notes
    -----
    Laziness: the layers of the gradient with their tangents; nothing runs. One pass over the data:
    forward over reverse with one tangent for each component.

    References
    ----------
    .. [1] Pearlmutter, *Fast exact multiplication by the Hessian*, Neural Computation 6 (1994) 147.

    Examples
    --------
    >>> import awkward as ak, dask, dask_awkward as dak, dak_diff
    >>> x = dak.from_awkward(ak.Array([[1.0, 2.0], [3.0]]), npartitions=2)
    >>> a, b = dak_diff.parameter(0.5, name="a"), dak_diff.parameter([1.0, 2.0], name="b")
    >>> expr = dak.sum(x * a * b[0] + x * b[1] ** 3)
    >>> blocks = dask.compute(dak_diff.hessian(expr, {"a": a, "b": b}))[0]
    >>> blocks["a"]["b"].tolist(), blocks["b"]["b"].tolist()
    ([6.0, 0.0], [[0.0, 0.0], [0.0, 72.0]])
    """
    gradients = grad(expr, wrt, method=method, residuals=residuals, disconnected=disconnected)
    return jacobian(gradients, wrt, method=method, mode="forward", disconnected="zero")
