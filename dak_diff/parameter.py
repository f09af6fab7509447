"""A value that is the same for all partitions, and can be differentiated by.

A :class:`Parameter` is a ``Delayed``, because that is the one collection which
dask-awkward feeds to partition-wise layers as what it is: an operand without an index.
Its value is known while the graph is built, so metas are exact.
"""

from __future__ import annotations

import copy
import itertools
import numbers
import operator
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import awkward as ak
import dask_awkward as dak
import numpy as np
from dask._task_spec import DataNode, Task, TaskRef
from dask.base import is_dask_collection, tokenize
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask_awkward.lib import core as _core
from numpy.lib.mixins import NDArrayOperatorsMixin

from dak_diff.engine.awkward_internals import diff_backend, refuse_in_arrays
from dak_diff.engine.loaded import loaded
from dak_diff.engine.nests import is_nest, map_parts
from dak_diff.engine.values import leaf_values
from dak_diff.graph.content_token import content_token
from dak_diff.graph.histogram_arithmetic import mend_arithmetic

__all__ = ["Parameter", "ParameterLayer", "derive", "parameter"]


class ParameterLayer(MaterializedLayer):
    """The one task of a parameter."""


class Parameter(NDArrayOperatorsMixin, Delayed):
    """A lazy value without partitions: made by :func:`parameter`, and by arithmetic on parameters.

    Attributes
    ----------
    name : str
        Of its layer; its key is ``(name, 0)``.
    value : float, numpy.ndarray or ak.Array
        What it is now.
    """

    __slots__ = ("_value",)
    __array_priority__ = 3000
    __iter__ = None  # Awkward takes iterables apart

    def __init__(self, name: str, dsk: HighLevelGraph, value: Any):
        _know_parameters()
        super().__init__((name, 0), dsk, layer=name)
        self._value = value

    name = property(lambda self: self._key[0])
    value = property(lambda self: self._value)
    _meta = property(lambda self: self._value)

    @property
    def dtype(self) -> np.dtype:
        return np.asarray(self._value).dtype

    @property
    def ndim(self) -> int:
        return self._value.ndim if isinstance(self._value, ak.Array) else np.ndim(self._value)

    def __reduce__(self) -> tuple:
        return (Parameter, (self.name, self._dask, self._value))

    def _rebuild(self, dsk: Any, *, rename: Any = None) -> Parameter:
        name = rename.get(self.name, self.name) if rename else self.name
        if name not in getattr(dsk, "layers", ()):
            dsk = HighLevelGraph({name: ParameterLayer(dict(dsk))}, {name: set()})
        return Parameter(name, dsk, self._value)

    def __repr__(self) -> str:
        return f"dak_diff.parameter<{self.name}, value={self._value!r}>"

    def __getattr__(self, attr: str) -> NoReturn:
        raise AttributeError(
            f"a parameter has no attribute {attr!r}: write it with NumPy's functions, np.sum(p); its current "
            "value is p.value"
        )

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("a parameter is not callable")

    def __bool__(self) -> NoReturn:
        raise TypeError(
            "the truth of a lazy parameter is not known: branch on p.value, which is a constant, or write it "
            "with ufuncs, np.maximum(p, 0) for one"
        )

    def __float__(self) -> NoReturn:
        raise TypeError(
            "a lazy parameter is no number yet: use NumPy's functions of it, np.exp(p) for math.exp(p), or "
            "p.value if a constant is meant"
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        raise TypeError("a lazy parameter is no array yet: np.stack([p, q]) is lazy, p.value a constant")

    __hash__ = Delayed.__hash__

    def __len__(self) -> int:
        return len(self._value)

    def __getitem__(self, where: Any) -> Parameter:
        return derive(operator.getitem, self, where)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__":
            return NotImplemented
        arrays = [x for x in inputs if isinstance(x, dak.Array)]
        if arrays:
            return arrays[0].__array_ufunc__(ufunc, method, *inputs, **kwargs)
        if kwargs:
            raise TypeError(
                f"numpy.{ufunc.__name__} of a parameter takes no {', '.join(kwargs)}=: use it in "
                "dak.map_partitions"
            )
        return derive(ufunc, *inputs)

    def __array_function__(self, func: Callable, types: Any, args: tuple, kwargs: dict) -> Any:
        arguments, collections = _taken_out((args, kwargs))
        call = _Call(func, arguments)
        if not all(isinstance(x, Parameter) for x in collections):
            raise TypeError(
                f"numpy.{func.__name__} takes parameters, but no collections beside them: use "
                f"dak.{func.__name__} if there is one, ufuncs, or a function in dak.map_partitions"
            )
        value = call(*(x.value for x in collections))
        if func in _OF_METADATA:
            return value
        if is_nest(value):
            place = itertools.count()
            return map_parts(value, lambda _: derive(_Call(func, arguments, next(place)), *collections))
        return derive(call, *collections)


#: They ask for what is known of a lazy value.
_OF_METADATA = frozenset({np.shape, np.ndim, np.size, np.result_type, np.iscomplexobj, np.isrealobj})


@dataclass(frozen=True)
class _Place:
    """Where in arguments which of the collections stands; no number, which would have the same token."""

    index: int


def _taken_out(arguments: Any) -> tuple[Any, list[Any]]:
    """Arguments with places for the collections in them, and these."""
    collections: list[Any] = []

    def without(part: Any) -> Any:
        if is_dask_collection(part):
            collections.append(part)
            return _Place(len(collections) - 1)
        return map_parts(part, without) if is_nest(part) else part

    return without(arguments), collections


class _Call:
    """A function of NumPy and its arguments, as a function of the collections that were taken out of them.

    Parameters
    ----------
    part : int, optional
        Which of several results.
    """

    def __init__(self, fn: Callable, arguments: Any, part: int | None = None):
        self.fn, self.arguments, self.part, self.__name__ = fn, arguments, part, fn.__name__

    def __call__(self, *values: Any) -> Any:
        def filled(part: Any) -> Any:
            if isinstance(part, _Place):
                return values[part.index]
            return map_parts(part, filled) if is_nest(part) else part

        args, kwargs = filled(self.arguments)
        result = self.fn(*args, **kwargs)
        result = result if self.part is None else result[self.part]
        # np.where(p > 0, p, q) is an array without dimensions, which collections do not take.
        return result[()] if isinstance(result, np.ndarray) and not result.ndim else result

    def __dask_tokenize__(self) -> Any:
        return (self.fn.__module__, self.__name__, self.part, content_token(self.arguments))


def derive(fn: Callable, *args: Any) -> Any:
    """``fn`` of parameters and constants as a parameter; with a reduced scalar, as a scalar."""
    name = f"{_core.hyphenize(_core.funcname(fn))}-{tokenize(fn, *map(content_token, args))}"
    collections = [x for x in args if is_dask_collection(x)]
    refs = (TaskRef(x.key) if is_dask_collection(x) else x for x in args)
    layer = ParameterLayer({(name, 0): Task((name, 0), _Promoting(fn), *refs)})
    graph = HighLevelGraph.from_collections(name, layer, dependencies=collections)
    meta = _Promoting(fn)(*(x._meta if is_dask_collection(x) else x for x in args))
    if all(isinstance(x, Parameter) for x in collections):
        return Parameter(name, graph, meta)
    return _core.new_scalar_object(graph, name, meta=meta)


class _Promoting:
    """``fn`` for which a reduction that may be None is a number, as dask-awkward does it."""

    def __init__(self, fn: Callable):
        self.__wrapped__ = fn

    def __call__(self, *args: Any) -> Any:
        return _core._promote_maybenones(self.__wrapped__)(*args)


def _histograms() -> tuple:
    """Lazy histograms, which answer for arithmetic with a parameter themselves."""
    return loaded("dask_histogram.core", "AggHistogram"), loaded("dask_histogram.boost", "Histogram")


def _operator(operate: Callable, reflected: bool) -> Callable:
    mixin = getattr(NDArrayOperatorsMixin, f"__{'r' if reflected else ''}{operate.__name__}__")

    def method(self: Parameter, *others: Any) -> Any:
        if isinstance(others[0] if others else None, _histograms()):
            return NotImplemented
        args = (*others, self) if reflected else (self, *others)
        if all(isinstance(x, (Parameter, dak.Scalar, int, float, complex)) for x in args):
            # Python's own operator keeps a Python number weakly typed.
            return derive(operate, *args)
        return mixin(self, *others)

    return method


_UNARY: tuple[Callable, ...] = (operator.neg, operator.pos, operator.abs)
_BINARY: tuple[Callable, ...] = (
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.floordiv,
    operator.pow,
    operator.mod,
)

for _operate in (*_BINARY, *_UNARY):
    setattr(Parameter, f"__{_operate.__name__}__", _operator(_operate, reflected=False))
for _operate in _BINARY:
    setattr(Parameter, f"__r{_operate.__name__}__", _operator(_operate, reflected=True))


def parameter(value: Any, name: str | None = None) -> Parameter:
    """A scalar, vector or array that is the same for all partitions.

    Parameters
    ----------
    value : float, array-like or ak.Array
        A number is weakly typed, as a Python float is: it does not turn float32 into float64.
        An array keeps its dtype.
    name : str, optional
        What it is called in graphs. Its full name ends in a token of its content: a name and a value
        make a parameter, wherever it is made. Without a name it is like no other.

    Returns
    -------
    Parameter
        Usable on either side of arithmetic with collections, in ufuncs, ``dak.where``,
        ``dak.with_field``, ``dak.zip``, ``dak.map_partitions``, as ``p[0]``, and as ``wrt``. Among
        themselves parameters go into NumPy's functions: ``np.sum(p**2)``, ``p @ covariance @ p``.

    Raises
    ------
    TypeError
        If the value has no floating-point numbers and is no integer number.

    Notes
    -----
    Laziness: one layer of one task; nothing runs.
    It enters partition-wise layers as an operand without an index: the same value for every
    partition, one task whatever their number.

    Examples
    --------
    >>> import awkward as ak, dask_awkward as dak, dak_diff
    >>> x = dak.from_awkward(ak.Array([[1.0, 2.0], [3.0]]), npartitions=2)
    >>> alpha = dak_diff.parameter(0.5, name="alpha")
    >>> (x * (1 + alpha)).compute().to_list()
    [[1.5, 3.0], [4.5]]
    """
    if isinstance(value, np.ndarray) and not value.ndim:
        value = value[()]
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        value = float(value)
    if isinstance(value, (list, tuple)):
        value = np.asarray(value, dtype=float)
    if not isinstance(value, (float, np.floating, np.ndarray, ak.Array)) or not any(
        leaf.dtype.kind in "fc" for leaf in map(np.asarray, leaf_values(value))
    ):
        raise TypeError(
            f"a parameter is a number or an array of floating-point numbers, not {value!r}; "
            "convert integers with np.asarray(value, dtype=float)"
        )
    if isinstance(value, ak.Array):
        value = copy.deepcopy(ak.to_packed(value))
    elif isinstance(value, np.ndarray):
        # Its name says what it holds.
        value = np.array(value)
        value.flags.writeable = False
    label = name or "parameter"
    # Nuisance parameters that all begin at 0 are not one.
    own = name or uuid.uuid4().hex
    full = f"{label}-{tokenize(own, content_token(value))}"
    layer = ParameterLayer({(full, 0): DataNode((full, 0), value)})
    return Parameter(full, HighLevelGraph({full: layer}, {full: set()}), value)


_AS_CONSTANT = (
    "Awkward's own functions would take a parameter for a constant, and its derivative would be lost. Make "
    "the array a collection (dak.from_awkward), pass the parameter through dak.map_partitions "
    "(dak.map_partitions(ak.fill_none, x, p)), or give p.value if a constant is meant."
)
_lock = threading.Lock()


def _know_parameters() -> None:
    """Teach dask-awkward, once, that a parameter has a value for metas and goes with any partitions."""
    with _lock:
        mend_arithmetic()
        if getattr(_core.meta_or_identity, "knows_dak_diff", False):
            return
        diff_backend()
        refuse_in_arrays(Parameter, _AS_CONSTANT)
        numbers.Number.register(Parameter)  # dak.with_field takes arrays and numbers
        upstream, upstream_check = _core.meta_or_identity, _core.PartitionCompatibility._check

        def meta_or_identity(obj: Any) -> Any:
            return obj.value if isinstance(obj, Parameter) else upstream(obj)

        def check(*args: Any) -> Any:
            return upstream_check(*(arg for arg in args if not isinstance(arg, Parameter)))

        _core.PartitionCompatibility._check = staticmethod(check)
        meta_or_identity.knows_dak_diff = True  # type: ignore[attr-defined]
        _core.meta_or_identity = meta_or_identity


def _scalar_array_ufunc(self: dak.Scalar, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
    """``np.log(dak.sum(x))``, which dask-awkward lacks."""
    arrays = [x for x in inputs if isinstance(x, dak.Array)]
    if method != "__call__" or (kwargs and not arrays):
        return NotImplemented
    return arrays[0].__array_ufunc__(ufunc, method, *inputs, **kwargs) if arrays else derive(ufunc, *inputs)


def _scalar_operator(upstream: Callable) -> Callable:
    """``dak.sum(x) * x`` is for the array to answer: dask-awkward's Scalar raises."""

    def method(self: dak.Scalar, other: Any) -> Any:
        return NotImplemented if isinstance(other, (dak.Array, Parameter)) else upstream(self, other)

    return method


def _reflected_scalar_operator(operate: Callable, upstream: Callable) -> Callable:
    """``2 - s``: dask-awkward gives it the name of ``s - 2``, so one of them would be the other."""

    def method(self: dak.Scalar, other: Any) -> Any:
        return upstream(self, other) if is_dask_collection(other) else derive(operate, other, self)

    return method


def _mend_scalars() -> None:
    if not hasattr(dak.Scalar, "__array_ufunc__"):
        dak.Scalar.__array_ufunc__ = _scalar_array_ufunc
        for operate in _BINARY:
            name, reflected = f"__{operate.__name__}__", f"__r{operate.__name__}__"
            setattr(dak.Scalar, name, _scalar_operator(getattr(dak.Scalar, name)))
            backwards = _scalar_operator(getattr(dak.Scalar, reflected))
            setattr(dak.Scalar, reflected, _reflected_scalar_operator(operate, backwards))


_mend_scalars()
