"""Derivatives of dask-awkward analyses: lazily, over a cluster."""

from dak_diff import eager
from dak_diff.api import jvp, value_and_jvp
from dak_diff.parameter import parameter

__all__ = ["eager", "jvp", "parameter", "value_and_jvp"]
