"""Classes of libraries that dak_diff never imports itself: there is none to meet where it is not loaded."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["histogram_types", "loaded"]


def loaded(module: str, name: str) -> Any:
    """A class of a module for ``isinstance``: (), of which nothing is an instance, if it is not loaded."""
    return getattr(sys.modules.get(module), name, ())


def histogram_types() -> Any:
    """The class of all histograms of boost-histogram, hist and dask-histogram."""
    return loaded("boost_histogram", "Histogram")
