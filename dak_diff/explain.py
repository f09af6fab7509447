"""What will be differentiated, and how, before anything runs: text that needs nothing installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from dask.highlevelgraph import HighLevelGraph

from dak_diff.api import jvp, plan, vjp
from dak_diff.graph.active import Activity, State
from dak_diff.graph.draw import picture_of
from dak_diff.graph.layers import label_of
from dak_diff.graph.picture import Picture
from dak_diff.graph.wrt import flatten_nested
from dak_diff.rules.complex_step import ALLOWED
from dak_diff.rules.elementwise import Elementwise
from dak_diff.rules.primitive import Primitive

__all__ = ["Explanation", "explain"]

_MODES: dict[str, Callable[..., Any]] = {"forward": jvp, "reverse": vjp}


@dataclass(frozen=True)
class Explanation:
    """One row a layer: (label, active or not, how it is differentiated).

    ``str()`` gives the table; :meth:`mermaid` and :meth:`dot` the derivative's graph as text.
    """

    rows: tuple[tuple[str, str, str], ...]
    _derivatives: Mapping[str, Callable[[], Any]] = field(repr=False, compare=False)

    def __str__(self) -> str:
        rows = [("layer", "", "how"), *self.rows]
        widths = [max(len(row[i]) for row in rows) for i in range(2)]
        return "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}".rstrip() for a, b, c in rows)

    def __repr__(self) -> str:
        return f"<Explanation of {len(self.rows)} layers>"

    def mermaid(self, mode: str = "forward", detail: str = "layers") -> str:
        """The graph of the derivative in Mermaid's language, which Markdown pages of GitHub draw.

        Parameters
        ----------
        mode : {"forward", "reverse"}
            The graph of ``jvp``, or that of ``vjp``.
        detail : {"layers", "operations"}
            One box a layer, tangents operation by operation; or all segments opened.

        Examples
        --------
        >>> import awkward as ak, dask_awkward as dak, dak_diff
        >>> x = dak.from_awkward(ak.Array([[1.0, 2.0], [3.0]]), npartitions=2)
        >>> explanation = dak_diff.explain(x * x, wrt=x)
        layer                 how
        from-awkward  wrt     source
        multiply      active  rule: multiply
        >>> print(explanation.mermaid().splitlines()[0])
        flowchart BT
        """
        return self._picture(mode, detail).mermaid()

    def dot(self, mode: str = "forward", detail: str = "layers") -> str:
        """The graph of the derivative in Graphviz's language; as :meth:`mermaid`."""
        return self._picture(mode, detail).dot()

    def _picture(self, mode: str, detail: str) -> Picture:
        if mode not in self._derivatives:
            raise ValueError(f"mode must be one of {', '.join(self._derivatives)}, not {mode!r}")
        parts = [part.dask for _, part in flatten_nested(self._derivatives[mode]())]
        return picture_of(HighLevelGraph.merge(*parts), detail)


def explain(expr: Any, wrt: Any, *, method: str = "auto") -> Explanation:
    """Print how each layer of ``expr`` will be differentiated by ``wrt``.

    Parameters
    ----------
    expr, wrt, method
        As for :func:`~dak_diff.jvp`.

    Returns
    -------
    Explanation
        The table that was printed: one row a layer, from the sources to the output. An active
        layer is differentiated by *rules* (named), by a *complex step*, or it only moves
        values (*structure only*); a layer that is not active has no floating-point results,
        or does not depend on ``wrt``. Its ``mermaid()`` and ``dot()`` give the derivative's graph as text.

    Raises
    ------
    DisconnectedError, TypeError, NoRuleError
        As :func:`~dak_diff.jvp` does.

    Notes
    -----
    Structure: any collection. Laziness: each layer is run once on empty arrays; no data are read.

    Examples
    --------
    >>> import awkward as ak, dask_awkward as dak, dak_diff
    >>> x = dak.from_awkward(ak.Array([[1.0, 2.0], [3.0]]), npartitions=2)
    >>> _ = dak_diff.explain(dak.sum(x[x > 1] ** 2, axis=1), wrt=x)
    layer                 how
    from-awkward  wrt     source
    greater       -       not differentiable
    getitem       active  structure only: take
    power         active  rule: power
    sum           active  structure only: sum
    """
    activity = plan(expr, wrt, method, reverse=True, explaining=True)
    rows = []
    for name in activity.order:
        active = activity.states[name] is State.ACTIVE
        state = "wrt" if activity.is_base(name) else "active" if active else "-"
        rows.append((label_of(name), state, _how(name, activity, method)))
    derivatives = {mode: partial(fn, expr, wrt, method=method) for mode, fn in _MODES.items()}
    explanation = Explanation(tuple(rows), derivatives)
    print(explanation)
    return explanation


def _how(name: str, activity: Activity, method: str) -> str:
    if activity.states[name] is State.ACTIVE:
        return _how_active(activity.primitives[name], method)
    if not activity.graph.dependencies.get(name):
        return "source"
    return "not differentiable" if activity.influence[name] else "does not depend on wrt"


def _how_active(primitives: list[Primitive], method: str) -> str:
    stepped = [p for p in primitives if isinstance(p, Elementwise) and _is_stepped(p, method)]
    ruled = [p for p in primitives if p.kind in ("elementwise", "custom") and p not in stepped]
    parts = []
    if ruled:
        parts.append("rule: " + ", ".join(dict.fromkeys(p.name for p in ruled)))
    if stepped:
        parts.append("complex step: " + ", ".join(dict.fromkeys(p.name for p in stepped)))
    if not parts:
        parts.append("structure only" + (": " if primitives else "") + ", ".join(p.name for p in primitives))
    return "; ".join(parts)


def _is_stepped(primitive: Elementwise, method: str) -> bool:
    if primitive.partials is None:
        return True
    constant = all(isinstance(partial, (int, float)) for partial in primitive.partials)
    return method == "complex-step" and primitive.ufunc in ALLOWED and not constant
