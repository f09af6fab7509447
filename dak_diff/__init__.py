"""Derivatives of dask-awkward analyses: lazily, over a cluster."""

from dak_diff import eager, errors, testing
from dak_diff.api import grad, jvp, stop_gradient, value_and_grad, value_and_jvp, visualize, vjp
from dak_diff.backends import to_backend
from dak_diff.engine.custom import custom_jvp, custom_vjp
from dak_diff.engine.stepped import complex_step
from dak_diff.explain import explain
from dak_diff.jacobian import jacobian
from dak_diff.objective import objective
from dak_diff.parameter import parameter
from dak_diff.second_order import hessian, hvp
from dak_diff.soft import soft_cut, soft_histogram
from dak_diff.statistics import mean, std, var

__version__ = "0.1.0"

__all__ = [
    "complex_step",
    "custom_jvp",
    "custom_vjp",
    "eager",
    "errors",
    "explain",
    "grad",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "mean",
    "objective",
    "parameter",
    "soft_cut",
    "soft_histogram",
    "std",
    "stop_gradient",
    "testing",
    "to_backend",
    "value_and_grad",
    "value_and_jvp",
    "var",
    "visualize",
    "vjp",
]
