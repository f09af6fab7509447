"""A lazy scalar as a plain function of numbers: what minimisers take."""

from __future__ import annotations

import itertools
import math
import numbers
import threading
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import awkward as ak
import dask_awkward as dak
import numpy as np
from dask.base import get_scheduler
from dask.highlevelgraph import HighLevelGraph

from dak_diff.api import plan, reverse_of
from dak_diff.errors import DisconnectedError
from dak_diff.graph.active import State
from dak_diff.graph.collections import as_collection
from dak_diff.graph.content_token import content_token
from dak_diff.graph.evaluation import Evaluation, Precomputed, optimised, run, split
from dak_diff.graph.layers import label_of, repaired
from dak_diff.graph.wrt import beside, flatten_nested, unflatten_nested
from dak_diff.parameter import Parameter
from dak_diff.second_order import hessian

__all__ = ["Objective", "objective"]


def objective(
    loss: Any,
    parameters: Any,
    *,
    method: str = "auto",
    residuals: str = "keep",
    disconnected: str = "raise",
    scheduler: Any = None,
    persist: bool = False,
) -> Objective:
    """A lazy scalar as a function of the values of parameters, with its gradient, for minimisers.

    Parameters
    ----------
    loss : dask_awkward.Scalar or Parameter
        A number, built from the parameters.
    parameters : Parameter, or nested list, tuple or dict of parameters
        Numbers and NumPy arrays of real numbers, made by :func:`~dak_diff.parameter`. Other parameters
        in ``loss`` stay what they are.
    method, residuals, disconnected : str
        As for :func:`~dak_diff.value_and_grad`.
    scheduler : str, callable or distributed.Client, optional
        Where it runs; none given: where Dask would run it at the time of the call.
    persist : bool
        Compute what does not depend on the parameters once, at the first call, and keep it: on a cluster
        in its memory, elsewhere in this process. Each call then runs only what changes. What a cluster
        lost, because its scheduler was started again, the next call computes anew. With
        ``residuals="recompute"`` what is read twice is kept twice.

    Returns
    -------
    Objective
        ``f(x)`` is the value, ``f.grad(x)`` the gradient, ``f.value_and_grad(x)`` both from one pass,
        ``f.hessian(x)`` the matrix of second derivatives.

    Raises
    ------
    TypeError
        If ``loss`` is no scalar, or a parameter is no parameter of real numbers.
    ValueError
        If there is no parameter, one is given twice, or one is made of others by arithmetic.
    DisconnectedError, NoRuleError, OptimizedGraphError
        As :func:`~dak_diff.value_and_grad`, now; the first also if the parameters enter through hard cuts
        alone.

    Notes
    -----
    Laziness: the graph of the derivative is built here; nothing runs before the first call. The
    graphs are optimised once. At a call the tasks that depend on the parameters get the new values and new
    keys; nothing is built again. Units: those of ``loss``; per unit of the parameter. Kinks and ties:
    see docs/explain/kinks.md. Memory: one value and one gradient are remembered.

    The graph is built once, at the values that the parameters have now. At other values it may give other
    numbers but not other types: what gave integers then and floating-point numbers later is an error. The
    columns that it reads are those found then.

    Examples
    --------
    >>> import awkward as ak, dask_awkward as dak, dak_diff
    >>> x = dak.from_awkward(ak.Array([[1.0, 2.0], [3.0]]), npartitions=2)
    >>> a, b = dak_diff.parameter(0.0, name="a"), dak_diff.parameter(0.0, name="b")
    >>> f = objective(dak.sum((x - a) ** 2) + b**2, [a, b])
    >>> f([1.0, 2.0])
    9.0
    >>> f.value_and_grad([1.0, 2.0])
    (9.0, array([-6.,  4.]))
    >>> from scipy.optimize import minimize
    >>> minimize(f.value_and_grad, f.x0, jac=True).x.round(6).tolist()
    [2.0, 0.0]
    """
    if not isinstance(loss, (dak.Scalar, Parameter)) or isinstance(loss, dak.Record):
        raise TypeError(f"the loss must be a lazy scalar, not {loss!r}; sum over events, for instance")
    if isinstance(loss, Parameter) and loss.ndim:
        raise TypeError(f"the loss must be a number, not {loss!r}; take a component, or a sum")
    layout = _Layout(parameters)
    activity = plan(loss, parameters, method, disconnected, reverse=True)
    if disconnected == "raise" and activity.states[activity.expr.name] is not State.ACTIVE:
        raise DisconnectedError(
            f"the loss {label_of(loss.name)!r} depends on the parameters through selections and counts "
            "alone: its gradient is zero wherever there is one, and a minimiser would stay where it is. Use "
            "dak_diff.soft_cut for cuts and dak_diff.soft_histogram for counts."
        )
    value, gradient = reverse_of(activity, parameters, 1.0, residuals)
    graph = HighLevelGraph({n: repaired(x) for n, x in loss.dask.layers.items()}, loss.dask.dependencies)
    alone = as_collection(loss, graph, loss.name)
    both = [value, *(part for _, part in flatten_nested(gradient))]
    requests = {"value": [alone], "value_and_grad": both}
    options = {"method": method, "residuals": residuals, "disconnected": disconnected}
    return Objective(loss, layout, requests, options, scheduler, persist)


class Objective:
    """What :func:`objective` returns: the loss as a function of numbers.

    Every method takes the values in one of three ways: one flat vector of all components in the order of
    ``names``; a nest like that of the parameters; one argument for each parameter, if all are numbers.

    Attributes
    ----------
    names : list of str
        Of the components: ``alpha``, ``bins[0]``, ``bins[1]``, ...
    x0 : numpy.ndarray
        The values that the parameters have (``n * float64``).
    """

    #: iminuit takes :meth:`hessian` unasked, and fails where it is not positive
    has_hessian = False

    def __init__(
        self,
        loss: Any,
        layout: _Layout,
        requests: dict[str, list[Any]],
        options: dict[str, str],
        scheduler: Any,
        persist: bool,
    ):
        self._loss, self._label, self._layout = loss, label_of(loss.name), layout
        self._requests, self._options = requests, options
        self._scheduler, self._persist = scheduler, persist
        self._evaluations: dict[str, Evaluation] = {}
        self._kept: Precomputed | None = None
        self._passes: Counter[str] = Counter()
        #: a cluster counts all evaluations together: it would never forget one of its own
        self._span = {"name": (f"objective-{self._label}",), "ids": (str(uuid.uuid4()),)}
        self._lock = threading.Lock()
        #: token of the values, value, gradients or None: replaced as a whole, so that threads do not mix them
        self._last: tuple[str, float, list[np.ndarray] | None] | None = None
        #: whether the loss was ever finite
        self._begun = False

    def __getstate__(self) -> dict[str, Any]:
        # What was computed, and where, stays here.
        return self.__dict__ | {"_evaluations": {}, "_kept": None, "_last": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    names = property(lambda self: list(self._layout.names))
    x0 = property(lambda self: self._layout.x0())

    @property
    def evaluations(self) -> dict[str, int]:
        """How often the graph was run: for the value alone, for value and gradient, for the Hessian."""
        return {kind: self._passes[kind] for kind in ("value", "value_and_grad", "hessian")}

    @property
    def _parameters(self) -> dict[str, None]:
        """Where iminuit looks for names: it knows no limits."""
        return dict.fromkeys(self._layout.names)

    def __repr__(self) -> str:
        return f"<dak_diff.objective {self._label!r} of {', '.join(self._layout.names)}>"

    def __call__(self, *x: Any) -> float:
        """The value of the loss.

        Parameters
        ----------
        *x : array-like, nest or numbers
            The values of the parameters.

        Returns
        -------
        float

        Raises
        ------
        TypeError
            If something in ``x`` is no real number.
        ValueError
            If ``x`` has another shape than the parameters, or is nan.
        FloatingPointError
            If the loss is nan, has no value, or is infinite before it was ever finite.
        """
        values, _ = self._layout.read(x)
        token = self._layout.token(values)
        last = self._last
        if last is not None and last[0] == token:
            return last[1]
        (result,) = self._run("value", values, token)
        value = self._number(result, values)
        self._last = (token, value, None)
        return value

    def grad(self, *x: Any) -> Any:
        """The gradient: see :meth:`value_and_grad`."""
        return self.value_and_grad(*x)[1]

    def value_and_grad(self, *x: Any) -> tuple[float, Any]:
        """The value of the loss and its gradient, from one pass over the data.

        Parameters and errors are those of calling the objective; a gradient that is nan is a
        FloatingPointError, too.

        Returns
        -------
        value : float
        gradient : numpy.ndarray, or a nest like that of the parameters
            A flat vector (``n * float64``) if ``x`` is one, or numbers; the nest if ``x`` is one.
        """
        values, nested = self._layout.read(x)
        token = self._layout.token(values)
        last = self._last
        if last is not None and last[0] == token and last[2] is not None:
            value, gradients = last[1], last[2]
        else:
            result, *parts = self._run("value_and_grad", values, token)
            value = self._number(result, values)
            gradients = [np.asarray(part, dtype=float) for part in parts]
            self._check("gradient", np.isnan(_flat(gradients)), values)
            self._last = (token, value, gradients)
        return value, self._layout.nest_of(gradients) if nested else _flat(gradients)

    def hessian(self, *x: Any) -> Any:
        """The second derivatives of the loss, from one pass over the data.

        Parameters and errors are those of calling the objective and of :func:`~dak_diff.hessian`; a second
        derivative that is nan is a FloatingPointError, too. The graph is built at the first call; with
        ``persist=True`` what is kept is then computed once more.

        Returns
        -------
        numpy.ndarray, or a nest like that of the parameters twice
            A matrix (``n * n * float64``) in the order of ``names`` if ``x`` is a vector, or numbers; if
            ``x`` is a nest, the blocks that :func:`~dak_diff.hessian` gives.
        """
        values, nested = self._layout.read(x)
        results = self._run("hessian", values, self._layout.token(values))
        parts = [np.asarray(part, dtype=float) for part in results]
        matrix = self._layout.matrix(parts)
        self._check("Hessian", np.isnan(matrix).any(axis=1), values)
        return self._layout.nest_of_blocks(parts) if nested else matrix

    def _run(self, kind: str, values: list, token: str) -> list:
        schedule = get_scheduler(scheduler=self._scheduler, collections=self._requests["value"])
        with self._lock:
            evaluation, kept = self._optimised(kind)
            self._passes[kind] += 1
        keys = (parameter.key for parameter in self._layout.parameters)
        at = dict(zip(keys, values, strict=True))
        return run(schedule, evaluation, kept, at, token, self._span)

    def _optimised(self, kind: str) -> tuple[Evaluation, Precomputed | None]:
        if kind not in self._requests:
            blocks = hessian(self._loss, self._layout.nest, **self._options)
            self._requests["hessian"] = [block for _, block in flatten_nested(blocks)]
            if self._persist:
                # What is kept has the columns that all of them read.
                self._evaluations.clear()
        if kind not in self._evaluations:
            if self._persist:
                self._kept, evaluations = split(list(self._requests.values()), self._layout.parameters)
                self._evaluations.update(zip(self._requests, evaluations, strict=True))
            else:
                self._evaluations[kind] = optimised(self._requests[kind], self._layout.parameters)
        return self._evaluations[kind], self._kept

    def _number(self, result: Any, values: list) -> float:
        value = math.nan if result is None else float(result)
        # A minimiser steps back from an infinite value, but not from the first.
        if math.isnan(value) or (math.isinf(value) and not self._begun):
            what = "has no value" if result is None else f"is {value}"
            raise FloatingPointError(
                f"the loss {self._label!r} {what} at {self._layout.described(values)}. Look for an empty "
                "dataset or selection, the logarithm of an empty bin or of a negative number, 0/0, and "
                "values outside of the domain of the model"
            )
        self._begun = self._begun or math.isfinite(value)
        return value

    def _check(self, what: str, is_nan: np.ndarray, values: list) -> None:
        if is_nan.any():
            names = ", ".join(name for name, bad in zip(self._layout.names, is_nan, strict=True) if bad)
            raise FloatingPointError(
                f"the {what} of {self._label!r} by {names} is nan, at {self._layout.described(values)}. Look "
                "for infinite slopes that are subtracted, as of sqrt(x) at x = 0; docs/explain/kinks.md says "
                "what holds at such points"
            )


def _rows(blocks: list[Any]) -> list[list[Any]]:
    size = math.isqrt(len(blocks))
    return [blocks[start : start + size] for start in range(0, len(blocks), size)]


def _flat(arrays: Iterable[Any]) -> np.ndarray:
    return np.concatenate([np.ravel(np.asarray(a, dtype=float)) for a in arrays])


class _Layout:
    """Where the numbers of a vector, or of a nest, belong."""

    def __init__(self, nest: Any):
        self.nest = nest
        self.parameters = [parameter for _, parameter in flatten_nested(nest)]
        for parameter in self.parameters:
            _check_parameter(parameter)
        if not self.parameters:
            raise ValueError("there are no parameters: nothing to minimise by")
        for name, count in Counter(parameter.name for parameter in self.parameters).items():
            if count > 1:
                raise ValueError(f"the parameter {label_of(name)!r} is there {count} times")
        self.shapes = [np.shape(parameter.value) for parameter in self.parameters]
        self.sizes = [math.prod(shape) for shape in self.shapes]
        self.labels = _distinct([label_of(parameter.name) for parameter in self.parameters])
        self.names = [
            label + (f"[{','.join(map(str, index))}]" if index else "")
            for label, shape in zip(self.labels, self.shapes, strict=True)
            for index in np.ndindex(shape)
        ]

    def x0(self) -> np.ndarray:
        return _flat(parameter.value for parameter in self.parameters)

    def token(self, values: list) -> str:
        # With the names: two objectives of one loss may exchange different parameters for one value.
        return content_token([[p.name for p in self.parameters], values])

    def described(self, values: list) -> str:
        return ", ".join(f"{n}={v:g}" for n, v in zip(self.names, _flat(values).tolist(), strict=True))

    def nest_of(self, arrays: Iterable[np.ndarray]) -> Any:
        return unflatten_nested(self.nest, (a.copy() if a.ndim else float(a) for a in arrays))

    def matrix(self, blocks: list[np.ndarray]) -> np.ndarray:
        pairs = itertools.product(self.sizes, self.sizes)
        flat = [block.reshape(pair) for block, pair in zip(blocks, pairs, strict=True)]
        return np.block(_rows(flat))

    def nest_of_blocks(self, blocks: list[np.ndarray]) -> Any:
        return unflatten_nested(self.nest, [self.nest_of(row) for row in _rows(blocks)])

    def read(self, args: tuple) -> tuple[list, bool]:
        """The value of each parameter, and whether they came as a nest."""
        if len(args) == 1 and self._is_nest(args[0]):
            given = beside(self.nest, args[0], "the values must nest as the parameters")
            parts = [_array(*each) for each in zip(given, self.shapes, self.labels, strict=True)]
            return self._values(parts), True
        if len(args) != 1 and any(self.shapes):
            raise TypeError(
                f"{len(args)} arguments, but not all parameters are numbers: give one vector of "
                f"{', '.join(self.names)} (with iminuit: start from an array), or a nest of the parameters"
            )
        vector = _array(args[0] if len(args) == 1 else args, None, ", ".join(self.names))
        vector = vector.reshape(1) if vector.ndim == 0 else vector
        if vector.shape != (len(self.names),):
            raise ValueError(
                f"expected a vector of {len(self.names)} numbers ({', '.join(self.names)}), "
                f"not one of shape {vector.shape}"
            )
        return self._values(np.split(vector, np.cumsum(self.sizes)[:-1])), False

    def _is_nest(self, x: Any) -> bool:
        if isinstance(x, Mapping):
            return True
        if isinstance(self.nest, Parameter):
            return len(self.shapes[0]) > 1 and np.ndim(x) > 1
        lists = isinstance(self.nest, (list, tuple)) and isinstance(x, (list, tuple))
        return lists and any(not _is_number(part) for part in x)

    def _values(self, parts: list[np.ndarray]) -> list:
        nans = np.isnan(_flat(parts))
        if nans.any():
            bad = ", ".join(name for name, is_nan in zip(self.names, nans, strict=True) if is_nan)
            raise ValueError(f"nan for {bad}: the loss was not evaluated")
        values: list[Any] = []
        for part, parameter, shape in zip(parts, self.parameters, self.shapes, strict=True):
            like = parameter.value
            if isinstance(like, np.ndarray):
                values.append(np.array(part, dtype=like.dtype).reshape(shape))
            else:
                values.append(type(like)(part.reshape(())))
        return values


def _check_parameter(parameter: Any) -> None:
    if not isinstance(parameter, Parameter):
        raise TypeError(f"{parameter!r} is no dak_diff.parameter")
    label = label_of(parameter.name)
    if isinstance(parameter.value, ak.Array) or parameter.dtype.kind != "f":
        raise TypeError(
            f"the parameter {label!r} must be a real number or a NumPy array of real numbers, "
            f"not {parameter.value!r}"
        )
    if parameter.dask.dependencies.get(parameter.name):
        raise ValueError(
            f"{label!r} is made of other parameters by arithmetic: take those that dak_diff.parameter made"
        )


def _distinct(labels: list[str]) -> list[str]:
    """Labels that occur more than once get a number."""
    counts, taken = Counter(labels), set(labels)
    seen: Counter[str] = Counter()
    result = []
    for label in labels:
        new = label
        while counts[label] > 1 and new in taken:
            new = f"{label}_{seen[label]}"
            seen[label] += 1
        taken.add(new)
        result.append(new)
    return result


def _is_number(x: Any) -> bool:
    return isinstance(x, numbers.Number) or (isinstance(x, (np.ndarray, np.generic)) and x.ndim == 0)


def _array(given: Any, shape: tuple[int, ...] | None, label: str) -> np.ndarray:
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise ValueError(f"the value of {label} is no regular array of numbers: {given!r}") from error
    if array.dtype.kind not in "fiu":
        raise TypeError(f"the value of {label} must be real numbers, not {given!r}")
    if shape is not None and array.shape != shape:
        raise ValueError(f"the value of {label} must have the shape {shape}, not {array.shape}")
    return array.astype(float)
