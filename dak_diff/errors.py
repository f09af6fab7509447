"""Every exception that dak_diff raises on purpose.

A message says which operation, where, why, and what to do next. Nothing else
lives here: the modules below import it, it imports nothing.
"""

from __future__ import annotations


class DakDiffError(Exception):
    """Base of every error raised by dak_diff."""


class NoRuleError(DakDiffError, NotImplementedError):
    """An operation on the way from ``wrt`` to the output has no derivative rule.

    Cause: a function that dak_diff does not know received a value that depends on
    ``wrt``, or the value left the array (``float(x)``, ``np.asarray(x)``, a numba
    function, an in-place write). Fix: use an operation of the documented map, or
    keep the value inside the array.
    """


class DisconnectedError(DakDiffError, ValueError):
    """``wrt`` is not upstream of ``expr``: the expression is no function of it.

    Fix: differentiate by a collection that the expression was built from, or pass
    ``disconnected="zero"`` if a zero derivative is what you mean.
    """


class StructureError(DakDiffError, ValueError):
    """A tangent or cotangent does not have the type or length of its primal."""


class ComplexStepError(DakDiffError, TypeError):
    """The complex step cannot give the partial of this operation."""


class OptimizedGraphError(DakDiffError, ValueError):
    """The graph went through ``dask.optimize`` or ``persist``: its operations are gone.

    Fix: differentiate the collection as it was before; what was persisted is a source.
    """
