"""Ufuncs of numba.vectorize: partials by the complex step, or an error that says why not."""

import math

import awkward as ak
import dask_awkward as dak
import numpy as np
import pytest
from helpers import collection

import dak_diff as dd
from dak_diff import eager
from dak_diff.errors import NoRuleError

numba = pytest.importorskip("numba")

# numba looks at a flag of arrays that NumPy 2.0 broadcasts for Awkward; so it does without a derivative.
pytestmark = pytest.mark.filterwarnings("ignore:future versions will not create a writeable:FutureWarning")

X = ak.Array([[1.0, 2.0], [], [-3.0]])
#: d/dx (x y + sin x) at y = 2
SLOPES = [[2 + math.cos(1), 2 + math.cos(2)], [], [2 + math.cos(3)]]


def smooth(x, y):
    return x * y + np.sin(x)


def on_demand():
    return numba.vectorize(smooth)


def with_signatures():
    return numba.vectorize(["float64(float64, float64)", "complex128(complex128, complex128)"])(smooth)


makers = pytest.mark.parametrize("make", [on_demand, with_signatures])
methods = pytest.mark.parametrize("method", ["auto", "complex-step"])


def assert_slopes(got):
    assert ak.num(got).to_list() == [2, 0, 1]
    np.testing.assert_allclose(ak.flatten(got), np.concatenate(SLOPES), rtol=1e-15)


@methods
@makers
def test_arrays(make, method):
    ufunc = make()
    value, tangent = eager.jvp(lambda x: ufunc(x, 2.0), (X,), method=method)
    assert value.to_list() == ufunc(X, 2.0).to_list()
    assert_slopes(tangent)
    assert_slopes(eager.grad(lambda x: ak.sum(ufunc(x, 2.0)), method=method)(X))


@methods
@makers
def test_graphs(make, method):
    ufunc, x = make(), collection(X, [2, 1])
    assert_slopes(dd.jvp(ufunc(x, 2.0), x, method=method).compute())
    assert_slopes(dd.grad(dak.sum(ufunc(x, 2.0)), x, method=method).compute())


@pytest.mark.parametrize("first", [np.float32, np.float64])
def test_real_arguments_stay_real(first):
    """A complex loop before the float64 one would give complex numbers from then on."""
    ufunc, untouched = on_demand(), on_demand()
    for dtype in (first, np.float32, np.float64):
        x = np.ones(3, dtype)
        eager.jvp(lambda x: ufunc(x, x), (x,))
        assert ufunc(x, x).dtype == untouched(x, x).dtype
        assert ufunc(x, x).dtype.kind == "f"


def test_single_precision():
    ufunc, x = on_demand(), np.array([1.0, 2.0], dtype=np.float32)
    tangent = eager.jvp(lambda x: ufunc(x, x), (x,))[1]
    assert tangent.dtype == ufunc(x, x).dtype
    np.testing.assert_allclose(tangent, 2 * x + np.cos(x), rtol=2e-7)


def test_results_that_are_no_numbers_have_no_derivative():
    positive = numba.vectorize(lambda x: x > 0)
    assert eager.jvp(lambda x: x * positive(x), (X,))[1].to_list() == [[1.0, 1.0], [], [0.0]]


def branch(x):
    return x if x > 0 else 0.0


def absolute(x):
    return abs(x)


def absolute_times(x):
    return abs(x) * x


def of_math(x):
    return math.sin(x)


RUNS = {
    "jvp": lambda ufunc: eager.jvp(ufunc, (X,)),
    "grad": lambda ufunc: eager.grad(lambda x: ak.sum(ufunc(x)))(X),
    "graph": lambda ufunc: (lambda x: dd.jvp(ufunc(x), x).compute())(collection(X, [2, 1])),
}


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (branch, r"branch.*cannot compile it for complex128.*ak\.where"),
        (of_math, r"of_math.*cannot compile it for complex128.*NumPy's ufuncs"),
        (absolute, r"absolute.*real numbers for complex ones"),
        (absolute_times, r"absolute_times.*loses the derivative"),
    ],
)
def test_what_cannot_be_stepped_is_refused(function, reason, run):
    ufunc = numba.vectorize(function)
    with pytest.raises(NoRuleError, match=reason):
        RUNS[run](ufunc)


def test_signatures_without_complex_numbers_are_refused():
    ufunc = numba.vectorize(["float64(float64, float64)"])(smooth)
    with pytest.raises(NoRuleError, match=r"smooth.*complex128 after float64, or no signatures"):
        eager.jvp(lambda x: ufunc(x, 2.0), (X,))


def test_formulas_only_and_second_derivatives_are_refused():
    ufunc = on_demand()
    with pytest.raises(NoRuleError, match=r"smooth.*method='auto'"):
        eager.jvp(lambda x: ufunc(x, 2.0), (X,), method="dual")
    with pytest.raises(NoRuleError, match=r"smooth.*first derivatives only"):
        eager.jvp(eager.grad(lambda x: ak.sum(ufunc(x, 2.0))), (X,))


def test_jumps_are_no_reason_to_refuse():
    """The difference quotient that checks the complex loop says nothing where the function jumps."""
    steps = numba.vectorize(lambda x: np.floor(x.real) * x)
    x = np.array([1.0, 1.5, 2.0])
    value, tangent = eager.jvp(steps, (x,))
    np.testing.assert_array_equal(value, np.floor(x) * x)
    np.testing.assert_array_equal(tangent, np.floor(x))


def test_a_compiled_function_over_arrays_is_refused_by_name():
    """numba would say that it cannot determine the type of a buffer, and only in the task."""
    double = numba.njit(lambda x: x * 2)
    x = collection(ak.Array([1.0, 2.0, 3.0]), [2, 1])

    def doubled(x):
        return x if ak.backend(x) == "typetracer" else ak.Array(double(ak.to_numpy(x)))

    with pytest.raises(NoRuleError, match="compiled by numba"):
        eager.jvp(doubled, (ak.Array([1.0]),))
    with pytest.raises(NoRuleError, match="compiled by numba"):
        dd.grad(dak.sum(dak.map_partitions(doubled, x)), x)


def test_a_compiled_predicate_selects():
    above = numba.vectorize(["boolean(float64)"])(lambda x: x > 1)
    assert eager.jvp(lambda x: x * above(x), (np.array([0.5, 2.0]),))[1].tolist() == [0.0, 1.0]
