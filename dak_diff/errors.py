"""Every exception that dak_diff raises on purpose.

A message says which operation, where, why, and what to do next. Nothing else
lives here: the modules below import it, it imports nothing.
"""

from __future__ import annotations

__all__ = [
    "ComplexStepError",
    "DakDiffError",
    "DisconnectedError",
    "NoRuleError",
    "OptimizedGraphError",
    "ProgramError",
    "StructureError",
]


class DakDiffError(Exception):
    """Base of every error raised by dak_diff.

    Examples
    --------
    >>> import dak_diff
    >>> from dak_diff import eager
    >>> try:
    ...     eager.jvp(float, (1.0,))
    ... except dak_diff.errors.DakDiffError as error:
    ...     print(type(error).__name__)
    NoRuleError
    """


class NoRuleError(DakDiffError, NotImplementedError):
    """An operation on the way from ``wrt`` to the output has no derivative rule.

    Cause: a function that dak_diff does not know received a value that depends on
    ``wrt``, or the value left the array (``float(x)``, ``np.asarray(x)``, a numba
    function, an in-place write). Fix: use an operation of the documented map, or
    keep the value inside the array.

    Examples
    --------
    >>> import numpy as np
    >>> from dak_diff import eager
    >>> eager.jvp(np.unique, (np.array([3.0, 4.0]),))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    dak_diff.errors.NoRuleError: no derivative rule for numpy.unique. Write it with ...
    """


class DisconnectedError(DakDiffError, ValueError):
    """``wrt`` is not upstream of ``expr``: the expression is no function of it.

    Fix: differentiate by a collection that the expression was built from, or pass
    ``disconnected="zero"`` if a zero derivative is what you mean.

    Examples
    --------
    >>> import dak_diff
    >>> a, b = dak_diff.parameter(1.0, name="a"), dak_diff.parameter(2.0, name="b")
    >>> dak_diff.jvp(a * 2, wrt=b)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    dak_diff.errors.DisconnectedError: the output 'mul-...' does not depend on wrt 'b-...
    """


class StructureError(DakDiffError, ValueError):
    """A tangent or cotangent does not have the type or length of its primal.

    Examples
    --------
    >>> import awkward as ak
    >>> from dak_diff import eager
    >>> eager.jvp(ak.sum, (ak.Array([[1.0, 2.0]]),), (ak.Array([1.0]),))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    dak_diff.errors.StructureError: the tangent has type float64, its primal var * float64; ...
    """


class ComplexStepError(DakDiffError, TypeError):
    """The complex step cannot give the partial of this operation.

    Examples
    --------
    >>> import dak_diff
    >>> from dak_diff import eager
    >>> eager.jvp(dak_diff.complex_step(abs), (1.0,))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    dak_diff.errors.ComplexStepError: 'abs' gives real numbers for complex ones: ...
    """


class ProgramError(DakDiffError, RuntimeError):
    """A recorded program gives something else than the function that it was recorded from.

    Looked for where the configuration ``dak_diff.programs`` is ``"check"``. Fix: give the function as an
    argument what it reads elsewhere; if it reads nothing, set ``"off"``, and report it.

    Examples
    --------
    >>> import dask, os
    >>> import awkward as ak
    >>> from dak_diff import eager
    >>> @eager.recorded
    ... def scaled(x):
    ...     return x * float(os.environ["SCALE"])
    >>> with dask.config.set({"dak_diff.programs": "check"}):
    ...     for scale in ("2", "2", "3"):
    ...         os.environ["SCALE"] = scale
    ...         y = scaled(ak.Array([[1.0, 2.0], [3.0]]))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    dak_diff.errors.ProgramError: the program of scaled gives something else. ...
    """


class OptimizedGraphError(DakDiffError, ValueError):
    """The graph went through ``dask.optimize`` or ``persist``: its operations are gone.

    Fix: differentiate the collection as it was before; what was persisted is a source.

    Examples
    --------
    >>> import awkward as ak, dask, dask_awkward as dak, dak_diff
    >>> x = dak.from_awkward(ak.Array([1.0, 2.0]), npartitions=1)
    >>> (y,) = dask.optimize(x * 2)
    >>> dak_diff.jvp(y, wrt=x)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    dak_diff.errors.OptimizedGraphError: no path leads from wrt 'from-awkward-...' to 'multiply-...
    """
