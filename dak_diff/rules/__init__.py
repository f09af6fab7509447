"""Derivative rules of everything that touches a float buffer, by kind.

Nothing here knows Awkward or Dask: rules are functions of flat arrays, and of
nothing else, so that the same rule serves NumPy, CuPy, dual numbers and tapes.
"""

from dak_diff.rules import ufuncs as _ufuncs  # noqa: F401  fills the registry
