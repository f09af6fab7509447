"""Check the derivatives of your own analysis: against differences, and one mode against the other.

The value is moved in the graph itself: a layer ``wrt + step * direction`` stands in the place of
``wrt``, and every layer that hangs on it runs again, selections included.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import awkward as ak
import dask
import dask_awkward as dak
import numpy as np
from dask._task_spec import TaskRef
from dask.base import tokenize

from dak_diff.api import jvp, plan, vjp
from dak_diff.engine.awkward_internals import indexes, leaf_data, pack
from dak_diff.engine.values import is_float, leaf_values, map_leaves
from dak_diff.graph.active import Activity, State, ancestors
from dak_diff.graph.collections import DerivativeScalar, as_collection
from dak_diff.graph.layers import assemble, label_of, map_layer, partitionwise, repaired, single_task
from dak_diff.graph.seeds import Operand, as_operand, from_pieces
from dak_diff.graph.tasks import OnPrimals, any_typetracer, select
from dak_diff.graph.wrt import Target, flatten_nested, resolve
from dak_diff.parameter import Parameter, ParameterLayer, content_token

__all__ = ["check_grads"]

_MODES = ("forward", "reverse")
_POINTS = (-2, -1, 1, 2)
_KINK = "the function has a kink or jump near this point"


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
    point = _Point.of(wrt, seed, method)
    activity = plan(expr, wrt, method)
    for nth in range(1, order + 1):
        problem = _problem(point.derived(expr, nth), point, modes)
        if problem is not None:
            first = _first_layer(activity, point, nth, (problem.mode,))
            raise AssertionError(_message(problem, expr, nth, first))


# ---------------------------------------------------------------- values as flat numbers


def _packed(value: Any) -> Any:
    if isinstance(value, ak.Record):
        layout = value.layout
        value = ak.Array(layout.array[layout.at : layout.at + 1], behavior=value.behavior)
    return ak.Array(pack(value.layout), behavior=value.behavior) if isinstance(value, ak.Array) else value


def _map_floats(value: Any, fn: Any) -> Any:
    """The value, packed, with ``fn(leaf)`` in place of each floating-point leaf."""
    return map_leaves(
        _packed(value), lambda leaf, is_text: leaf if is_text or not is_float(leaf) else fn(leaf)
    )


def _float_leaves(value: Any) -> list[np.ndarray]:
    found: list[np.ndarray] = []

    def on_leaf(leaf: Any) -> Any:
        found.append(np.ravel(leaf))
        return leaf

    _map_floats(value, on_leaf)
    return found


def _structure(value: Any) -> list:
    """Everything that must be the same for numbers to lie at the same places."""
    if not isinstance(value, (ak.Array, ak.Record)):
        return [np.shape(value), value is None]
    layout = _packed(value).layout
    return [*(x.tolist() for x in indexes(layout)), *(len(leaf) for leaf, _ in leaf_data(layout))]


def _type(value: Any) -> str:
    if isinstance(value, ak.Array):
        return str(value.layout.form.type)
    return str(ak.type(value)) if isinstance(value, ak.Record) else str(np.asarray(value).dtype)


class _Numbers:
    """The floating-point numbers of all partitions of a value, one after another."""

    def __init__(self, pieces: list):
        self.pieces = pieces
        parts = [np.concatenate([np.empty(0), *_float_leaves(piece)]) for piece in pieces]
        self.bounds = np.cumsum([0, *map(len, parts)])
        self.flat = np.concatenate(parts)
        self.structures = [_structure(piece) for piece in pieces]

    def alike(self, other: _Numbers) -> np.ndarray:
        """Which partitions of another value have the structure of these."""
        return np.array([a == b for a, b in zip(self.structures, other.structures, strict=True)])

    def each(self, of_partitions: np.ndarray) -> np.ndarray:
        """What is known of a partition for each of its numbers."""
        return np.repeat(of_partitions, np.diff(self.bounds))

    def beside(self, other: _Numbers) -> np.ndarray:
        """The numbers of another value at the places of these, zero where it has no such place."""
        flat = np.zeros(self.flat.shape, other.flat.dtype)
        for i in np.flatnonzero(self.alike(other)):
            flat[slice(*self.bounds[i : i + 2])] = other.flat[slice(*other.bounds[i : i + 2])]
        return flat

    def place(self, at: int) -> str:
        """Where number ``at`` is: ``[3][0].pt``, counted over all partitions."""
        i = int(np.searchsorted(self.bounds, at, side="right")) - 1
        left = at - int(self.bounds[i])

        def mark(leaf: Any) -> Any:
            nonlocal left
            marked = np.zeros(np.size(leaf))
            if 0 <= left < marked.size:
                marked[left] = 1.0
            left -= marked.size
            return marked.reshape(np.shape(leaf))[()]

        piece = self.pieces[i]
        marked = _map_floats(piece, mark)
        if not isinstance(marked, ak.Array):
            return "".join(f"[{n}]" for n in np.argwhere(np.atleast_1d(marked))[0][: np.ndim(marked)])
        found = flatten_nested(marked.to_list())
        path = next(path for path, number in found if isinstance(number, (float, complex)) and number == 1.0)
        if isinstance(piece, ak.Record):
            return "".join(map(_step, path[1:]))
        before = sum(len(p) for p in self.pieces[:i])
        return "".join(map(_step, (path[0] + before, *path[1:])))


def _step(key: Any) -> str:
    return f".{key}" if isinstance(key, str) else f"[{key}]"


def _per_partition(collection: Any) -> list:
    if isinstance(collection, dak.Array):
        return [collection.partitions[i] for i in range(collection.npartitions)]
    return [collection]


def _computed(collections: list) -> list[list]:
    """The partitions of each of some collections, from one run."""
    computed: Any = dask.compute([_per_partition(collection) for collection in collections])[0]
    return list(computed)


# ---------------------------------------------------------------- random directions


def _draw(leaf: Any, rng: np.random.Generator, scale: float = 1.0) -> Any:
    """Odd sixteenths between -1 and 1, so that no element is left out, times a power of two."""
    numbers = scale * (2 * rng.integers(-8, 8, np.shape(leaf)) + 1) / 16
    if np.iscomplexobj(leaf) and np.ndim(leaf):
        numbers = numbers + 1j * scale * (2 * rng.integers(-8, 8, np.shape(leaf)) + 1) / 16
    return np.asarray(numbers).astype(leaf.dtype) if np.ndim(leaf) else float(numbers)


def _scale(leaves: list[np.ndarray]) -> float:
    """The power of two next to the median size of some numbers."""
    sizes = np.abs(np.concatenate(leaves))
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    return float(2.0 ** np.round(np.log2(np.median(sizes)))) if sizes.size else 1.0


def _random_like(pieces: list, rng: np.random.Generator) -> list:
    """Values of the structure of some partitions; each column in units of its own size."""
    leaves = [_float_leaves(piece) for piece in pieces]
    most = max(map(len, leaves))
    scales = [_scale([found[i] for found in leaves if i < len(found)]) for i in range(most)]

    def like(piece: Any) -> Any:
        scale = iter(scales)
        return _map_floats(piece, lambda leaf: _draw(leaf, rng, next(scale)))

    return [like(piece) for piece in pieces]


def _from_pieces(pieces: list, like: Any, label: str) -> Any:
    """Values of the partitions of a collection, as what a seed may be."""
    if not isinstance(like, dak.Array):
        return pieces[0]
    return from_pieces(pieces, like._meta, label, content_token(pieces))


@dataclass(frozen=True)
class _Input:
    """A collection to move: its numbers, and a direction to move it in."""

    collection: Any
    target: Target
    pieces: list
    direction: list
    tangent: Any


@dataclass(frozen=True)
class _Point:
    """Where derivatives are checked."""

    inputs: tuple[_Input, ...]
    seed: int
    method: str

    @classmethod
    def of(cls, wrt: Any, seed: int, method: str) -> _Point:
        collections = [collection for _, collection in flatten_nested(wrt)]
        targets = [resolve(collection) for collection in collections]
        rng, inputs = np.random.default_rng([seed, 0]), []
        for collection, target, pieces in zip(collections, targets, _computed(collections), strict=True):
            direction = _random_like(pieces, rng)
            tangent = _from_pieces(direction, collection, "direction")
            inputs.append(_Input(collection, target, pieces, direction, tangent))
        return cls(tuple(inputs), seed, method)

    @property
    def wrt(self) -> list:
        return [given.collection for given in self.inputs]

    def of_layer(self, layer: Any) -> _Point:
        """The inputs that an inner layer depends on."""
        known = set(ancestors(layer.dask, [layer.name]))
        return replace(self, inputs=tuple(given for given in self.inputs if given.target.base in known))

    def derived(self, expr: Any, order: int) -> Any:
        """The derivative of order ``order - 1`` along the direction: what is differentiated once more."""
        for _ in range(order - 1):
            expr = self.jvp(expr)
        return expr

    def jvp(self, expr: Any) -> Any:
        tangents = [given.tangent for given in self.inputs]
        # The jvp of what is linear in an input does not depend on it.
        return jvp(expr, self.wrt, tangents, method=self.method, disconnected="zero")

    def vjp(self, expr: Any, cotangent: Any) -> list:
        return list(vjp(expr, self.wrt, cotangent, method=self.method, disconnected="zero"))

    def operands(self) -> list[tuple[Target, Operand]]:
        return [(given.target, as_operand(given.target, given.tangent)) for given in self.inputs]

    def precision(self, expr: Any) -> _Precision:
        """Single if anything on the way is."""
        activity = plan(expr, self.wrt, self.method, "zero")
        values = [activity.samples.get(name) for name in activity.order if activity.influence[name]]
        pieces = [given.pieces for given in self.inputs]
        leaves = [leaf for value in [*values, *pieces] for leaf in leaf_values(value)]
        single = any(getattr(leaf, "dtype", None) in ("f2", "f4", "c8") for leaf in leaves)
        return _SINGLE if single else _DOUBLE


# ---------------------------------------------------------------- the moved graph


class _Move:
    """``value + step * direction`` in some columns of a value."""

    def __init__(self, columns: tuple, step: float):
        self.columns, self.step = columns, step

    def __call__(self, value: Any, direction: Any) -> Any:
        if any_typetracer((value, direction)):
            for part in (direction, *(select(value, absolute) for absolute, _ in self.columns)):
                if dak.lib.core.is_typetracer(part):
                    ak.typetracer.touch_data(part)
            return value
        if not self.step:
            # Not value + 0 * direction: that loses the sign of a zero.
            return value
        for absolute, relative in self.columns:
            moves = iter(_float_leaves(select(direction, relative)))
            column = _map_floats(select(value, absolute), lambda leaf, moves=moves: self._moved(leaf, moves))
            value = ak.with_field(value, column, absolute) if absolute else column
        return value

    def _moved(self, leaf: Any, moves: Iterator[np.ndarray]) -> Any:
        return leaf + self.step * next(moves).reshape(np.shape(leaf))[()]


def _moved(expr: Any, point: _Point, step: float) -> Any:
    """``expr`` as it is where ``wrt`` is moved by ``step`` along the direction of the point."""
    graph, operands = expr.dask, point.operands()
    token = tokenize(step, [(target.base, target.columns, seed.token) for target, seed in operands])
    layers: dict[str, Any] = {}
    moved: dict[str, str] = {}
    for _, seed in operands:
        layers.update(seed.graph.layers if seed.graph is not None else {})
    for name in ancestors(graph, [expr.name]):
        layer, upstream = graph.layers[name], {d: graph.layers[d] for d in graph.dependencies.get(name, ())}
        rename = {dep: moved[dep] for dep in upstream if dep in moved}
        if rename:
            moved[name] = f"again-{label_of(name)}-{tokenize(name, token)}"
            run = partial(OnPrimals, label=label_of(name), owner="")
            layers[moved[name]] = map_layer(layer, moved[name], run, rename, upstream)
        else:
            layers[name] = repaired(layer)
        for i, (target, seed) in enumerate(operands):
            if target.base == name:
                below = moved.get(name, name)
                moved[name] = f"moved-{label_of(name)}-{tokenize(below, token, i)}"
                layers[moved[name]] = _move_layer(moved[name], below, target, seed, step)
    output = moved.get(expr.name, expr.name)
    return as_collection(expr, assemble(layers, graph, output), output)


def _move_layer(name: str, below: str, target: Target, seed: Operand, step: float) -> Any:
    move = _Move(target.columns, step)
    if target.on_all_partitions:
        return single_task(name, move, TaskRef((below, 0)), seed.as_task_argument())
    operands = [(below, ("i",)), seed.as_operand()]
    read = [str(operand) for operand, index in operands if index is not None]
    return partitionwise(name, move, operands, dict.fromkeys(read, (target.collection.npartitions,)))


# ---------------------------------------------------------------- numbers side by side


@dataclass(frozen=True)
class _Precision:
    """Steps, in units of the direction, and what is allowed.

    The first step is eps**(1/5), where rounding and the error of five points are alike; a longer one
    serves where rounding is worse, a shorter one where the function bends or a selection changes.
    ``roughness`` is the largest error of a quotient, by its own estimate, that still says anything;
    ``dot`` allows for sums in another order.
    """

    eps: float
    steps: tuple[float, ...]
    rtol: float
    roughness: float
    dot: float


_DOUBLE = _Precision(2.0**-52, (2.0**-10, 2.0**-6, 2.0**-14, 2.0**-18), 1e-7, 1e-4, 1e-10)
_SINGLE = _Precision(2.0**-23, (2.0**-5, 2.0**-3, 2.0**-7, 2.0**-9), 1e-3, 2e-2, 1e-4)


@dataclass(frozen=True)
class _Problem:
    """Two numbers that should be the same, and are not."""

    mode: str
    what: str
    place: str
    got: Any
    expected: Any
    relative: float = 0.0
    absolute: float = 0.0
    note: str = ""


class _Quotient:
    """The five-point difference quotient of one step, with an estimate of its error."""

    def __init__(self, value: _Numbers, moved: list[_Numbers], step: float, precision: _Precision):
        self.alike = np.logical_and.reduce([value.alike(other) for other in moved])
        self.same = value.each(self.alike)
        (far_below, below, above, far_above), here = map(value.beside, moved), value.flat
        with np.errstate(all="ignore"):
            self.number = (8 * (above - below) - (far_above - far_below)) / (12 * step)
            self.gap = np.abs(above - 2 * here + below) / step
            fourth = far_below - 4 * below + 6 * here - 4 * above + far_above
            # Rounding may leave no trace in one number, hardly in half of them.
            typical = np.abs(fourth[self.same & np.isfinite(fourth)])
            self.error = (
                4
                * (np.abs(fourth) + (np.quantile(typical, 0.5, method="lower") if typical.size else 0))
                / step
            )
            finite = np.abs(here[np.isfinite(here)])
            self.rounding = precision.eps * np.max(finite, initial=0.0) / step

    def allowed(self, tangent: np.ndarray, precision: _Precision) -> tuple[np.ndarray, np.ndarray]:
        """Where the quotient says something, and how far from it the derivative may be there."""
        with np.errstate(all="ignore"):
            size = np.maximum(np.abs(self.number), np.abs(tangent))
            # Where large numbers nearly cancel, a result is as good as its largest elements.
            largest = np.max(size[self.same & np.isfinite(size)], initial=0.0)
            scale = np.maximum(size, largest / 128)
            converged = self.error <= precision.roughness * scale + 64 * self.rounding
            allowed = precision.rtol * size + self.error + 8 * self.rounding
            return self.same & np.isfinite(self.number) & converged, allowed


class _Differences:
    """The difference quotients of an expression, of one step after another for as long as that is needed.

    Attributes
    ----------
    value : _Numbers
        The expression where it is.
    number, allowed : array
        For each number of it the first quotient that says something, and how far from that the
        derivative may be.
    alike : array of bool
        Which partitions keep their structure at some step.
    """

    def __init__(self, expr: Any, point: _Point):
        self.expr, self.point, self.precision = expr, point, point.precision(expr)
        steps = self.precision.steps
        # One run reads the sources for the value and the first quotient.
        here, *moved = self._moved(0.0, *(n * steps[0] for n in _POINTS))
        self.value = here
        self.quotients = [_Quotient(here, moved, steps[0], self.precision)]

    def _moved(self, *moves: float) -> list[_Numbers]:
        return [
            _Numbers(pieces) for pieces in _computed([_moved(self.expr, self.point, move) for move in moves])
        ]

    def _each_step(self) -> Iterator[_Quotient]:
        yield self.quotients[0]
        for step in self.precision.steps[1:]:
            moved = self._moved(*(n * step for n in _POINTS))
            self.quotients.append(_Quotient(self.value, moved, step, self.precision))
            yield self.quotients[-1]

    def compare(self, tangent: np.ndarray | None = None) -> np.ndarray:
        """Where no quotient agrees with a tangent; without one, where none says anything."""
        shape, missing = self.value.flat.shape, ~np.isfinite(self.value.flat)
        self.number, self.allowed = np.zeros(shape), np.zeros(shape)
        self.alike = np.zeros(len(self.value.pieces), bool)
        agreed, said = missing, np.zeros(shape, bool)
        for quotient in self._each_step():
            says, allowed = quotient.allowed(quotient.number if tangent is None else tangent, self.precision)
            self.number = np.where(said, self.number, quotient.number)
            self.allowed = np.where(said, self.allowed, allowed)
            said = said | says
            if tangent is not None:
                with np.errstate(all="ignore"):
                    says &= np.abs(tangent - quotient.number) <= allowed
                says |= quotient.same & ~np.isfinite(tangent) & ~np.isfinite(quotient.number)
            agreed = agreed | says
            self.alike |= quotient.alike
            if np.all(agreed) and np.all(self.alike):
                break
        return ~agreed

    def problem(self, mode: str, tangent: np.ndarray | None = None) -> _Problem | None:
        """The worst of the numbers that disagree."""
        bad = self.compare(tangent)
        if not np.any(bad):
            return None if np.all(self.alike) else self._selection(mode)
        got = self.quotients[-1].number if tangent is None else tangent
        with np.errstate(all="ignore"):
            off = self.allowed if tangent is None else np.abs(got - self.number) / self.allowed
            at = int(np.argmax(np.where(bad, np.nan_to_num(off, nan=np.inf), -1.0)))
            relative = self.precision.rtol * max(abs(got[at]), abs(self.number[at]))
        return _Problem(
            mode,
            "the quotient of the last step" if tangent is None else "the jvp",
            f" at {self.value.place(at) or 'its only number'}",
            got[at],
            self.number[at],
            self.precision.rtol,
            float(self.allowed[at] - relative),
            self._note(at),
        )

    def _selection(self, mode: str) -> _Problem:
        i = int(np.argmin(self.alike))
        what = "the value after the smallest step"
        return _Problem(mode, what, f" in partition {i}", "other lengths", "those it has", note=_KINK)

    def _note(self, at: int) -> str:
        """What the quotients of the first and of the smallest step tell of the point."""
        first, last = self.quotients[0], self.quotients[-1]
        if not last.same[at]:
            return _KINK
        # Both one-sided quotients tend to the derivative, if there is one; rounding keeps them apart, too.
        rounding = first.rounding * self.precision.eps ** (-2 / 3)
        smooth = first.gap[at] <= rounding or last.gap[at] <= first.gap[at] / 4
        if not smooth:
            return _KINK
        quotients = np.array([quotient.number[at] for quotient in self.quotients if quotient.same[at]])
        agree = np.ptp(np.abs(quotients)) <= self.precision.roughness * np.max(np.abs(quotients))
        return "" if agree else "the differences of several steps disagree here, so they show nothing"


def _problem(expr: Any, point: _Point, modes: tuple[str, ...]) -> _Problem | None:
    """What is wrong with the first derivative of ``expr``, None if nothing is."""
    differences = _Differences(expr, point)
    if "forward" not in modes:
        return differences.problem("reverse") or _dot_test(
            differences, differences.number, differences.allowed
        )
    tangent = _Numbers(_computed([point.jvp(expr)])[0])
    problem = _other_structure("forward", tangent, differences.value)
    problem = problem or differences.problem("forward", tangent.flat)
    if problem is not None or "reverse" not in modes:
        return problem
    return _dot_test(differences, tangent.flat, differences.precision.dot * np.abs(tangent.flat))


def _other_structure(mode: str, derivative: _Numbers, primal: _Numbers) -> _Problem | None:
    for i, alike in enumerate(primal.alike(derivative)):
        got, expected = derivative.pieces[i], primal.pieces[i]
        if not alike or _type(got) != _type(expected):
            what, place = "the structure of the derivative", f" in partition {i}"
            return _Problem(mode, what, place, f"{_type(got)}: {got}", f"{_type(expected)}: {expected}")
    return None


def _dot_test(differences: _Differences, forward: np.ndarray, allowed: np.ndarray) -> _Problem | None:
    """Whether <J^T w, v> is <w, forward>, where ``forward`` is J v up to ``allowed``."""
    point, value, precision = differences.point, differences.value, differences.precision
    cotangent, weights = _cotangent(value, point.seed, np.isfinite(forward) & np.isfinite(value.flat))
    gradients = point.vjp(differences.expr, _from_pieces(cotangent, differences.expr, "cotangent"))
    terms = [np.empty(0)]
    for given, pieces in zip(point.inputs, _computed(gradients), strict=True):
        gradient = _Numbers(pieces)
        problem = _other_structure("reverse", gradient, _Numbers(given.pieces))
        if problem is not None:
            return problem
        terms.append(np.conj(gradient.flat) * _Numbers(given.direction).flat)
    used = weights != 0
    got = float(np.real(np.sum(np.concatenate(terms))))
    expected = float(np.real(np.vdot(weights[used], forward[used])))
    size = float(np.sum(np.abs(np.concatenate(terms))))
    absolute = float(np.abs(weights[used]) @ allowed[used])
    if abs(got - expected) <= precision.dot * size + absolute:
        return None
    return _Problem("reverse", "<J^T w, v> of the vjp", "", got, expected, precision.dot, absolute)


def _cotangent(value: _Numbers, seed: int, used: np.ndarray) -> tuple[list, np.ndarray]:
    """A random cotangent of the value, zero where it is not used, as partitions and as numbers."""
    rng, keep = np.random.default_rng([seed, 1]), iter(np.split(used, value.bounds[1:-1]))

    def like(piece: Any) -> Any:
        left = next(keep)

        def on_leaf(leaf: Any) -> Any:
            nonlocal left
            here, left = left[: np.size(leaf)], left[np.size(leaf) :]
            return np.where(here.reshape(np.shape(leaf)), _draw(leaf, rng), np.zeros_like(leaf))[()]

        return _map_floats(piece, on_leaf)

    pieces = [like(piece) for piece in value.pieces]
    return pieces, _Numbers(pieces).flat


# ---------------------------------------------------------------- the layer, and the message


def _first_layer(activity: Activity, point: _Point, order: int, modes: tuple[str, ...]) -> str:
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


def _message(problem: _Problem, expr: Any, order: int, first: str) -> str:
    of = {1: "", 2: " of the jvp"}[order]
    lines = [
        f"the {problem.mode} derivative{of} is not what it should be, order {order}",
        f"  output       {label_of(expr.name)!r}{problem.place}",
        f"  got          {problem.got}  ({problem.what})",
        f"  expected     {problem.expected}",
        f"  allowed      {problem.relative:.1e} of the numbers, and {problem.absolute:.1e}",
        f"  first layer  {first!r}",
    ]
    return "\n".join([*lines, f"  note         {problem.note}"] if problem.note else lines)
