"""Levels keep nested derivatives apart.

Each derivative computation gets a number; one that starts inside another gets a
larger one. A primitive is handled by the largest level among its arguments first, so
that the perturbations of two computations are never confused.
"""

from __future__ import annotations

import itertools

__all__ = ["DIFFARRAY_LEVEL", "new_level"]

#: diffarrays made at different places belong to one computation, outside all others.
DIFFARRAY_LEVEL = 0

_levels = itertools.count(1)


def new_level() -> int:
    """A level inside all that exist."""
    return next(_levels)
