"""Functions of arrays that record what they do, and run that."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from dak_diff.engine.recordings import Recordings
from dak_diff.programs.program import Program
from dak_diff.settings import programs_mode

__all__ = ["recorded"]


class recorded:  # noqa: N801
    """A function of arrays that runs as a recorded program: a jit for jagged arrays.

    The first two calls run the function and write down what Awkward and NumPy do to flat arrays. From then on
    the program runs, for arrays of any lengths and numbers of any values, without Awkward's Python. The value
    is the function's own, bit for bit. Where that cannot be promised the function runs as it is.

    Parameters
    ----------
    fn : callable
        A function of Awkward arrays and records, NumPy arrays, numbers, and nests of them. Integers, booleans
        and text among its arguments are constants: other values make other programs. It should have no
        effects besides its result: a program has none.

    Attributes
    ----------
    programs : list of Program
        Those in use. ``print`` shows one line an instruction.
    why : str or None
        Why the last call that ran the function itself did, after the first two; None if there was none.

    Raises
    ------
    ProgramError
        When called, if a program gives something else and the configuration ``dak_diff.programs`` is
        ``"check"``, which runs both. ``"off"`` runs the function as it is; ``"auto"`` is the default.

    Notes
    -----
    Structure: that of ``fn``. Runs at once. The function runs as it is

    - if values leave the arrays: ``float(x)``, ``np.asarray(x)``, iteration over elements;
    - if two recordings differ: random numbers, a clock, a counter;
    - if what it sees besides its arguments changes from call to call;
    - if the values decide its path in more than four ways (``if ak.sum(x) > 0:`` is two).

    References
    ----------
    .. [1] Griewank and Walther, *Evaluating Derivatives*, 2nd ed., SIAM 2008, ch. 6, on tapes that are
       evaluated again at other points.

    Examples
    --------
    >>> import awkward as ak
    >>> from dak_diff import eager
    >>> @eager.recorded
    ... def f(x):
    ...     return ak.sum(x[x > 1] ** 2)
    >>> for x in ([[1.0, 2.0], [3.0]], [[4.0], [], [5.0]], [[2.0, 2.0, 2.0]]):
    ...     print(float(f(ak.Array(x))))
    13.0
    41.0
    12.0
    >>> len(f.programs)
    1
    >>> g = eager.recorded(eager.grad(f))
    """

    def __init__(self, fn: Callable):
        functools.update_wrapper(self, fn, updated=())
        self._recordings = Recordings(fn)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._recordings(args, kwargs, programs_mode())

    @property
    def programs(self) -> list[Program]:
        return self._recordings.programs

    @property
    def why(self) -> str | None:
        return self._recordings.why

    def __reduce__(self) -> tuple:
        return (recorded, (self._recordings.function,))
