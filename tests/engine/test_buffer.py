"""A derivative never leaves the array silently."""

import copy
import math
import operator

import awkward as ak
import numpy as np
import pytest

from dak_diff import eager
from dak_diff.errors import NoRuleError

NUMBER = 1.5
FLAT = np.array([1.5, 2.5])
JAGGED = ak.Array([[1.5, 2.5], [], [3.5]])

LEAVING = {
    "float(x)": (float, NUMBER),
    "int(x)": (int, NUMBER),
    "complex(x)": (complex, NUMBER),
    "math.sin": (math.sin, NUMBER),
    "np.asarray(x)": (np.asarray, FLAT),
    "np.array(x)": (np.array, FLAT),
    "x.item()": (lambda x: x[:1].item(), FLAT),
    "x.tolist()": (lambda x: x.tolist(), FLAT),
    "x.tobytes()": (lambda x: x.tobytes(), FLAT),
    "x.ctypes": (lambda x: x.ctypes, FLAT),
    "index": (operator.index, NUMBER),
    "ak.to_numpy of missing values": (lambda x: ak.to_numpy(ak.pad_none(x, 2)), JAGGED),
    "np.asarray of ak.Array": (lambda x: np.asarray(x[0]), JAGGED),
    "ak.to_list": (ak.to_list, JAGGED),
    "float of an element": (lambda x: float(x[0, 0]), JAGGED),
    "float of a sum": (lambda x: float(ak.sum(x)), JAGGED),
    "item of a sum": (lambda x: ak.sum(x).item(), JAGGED),
    "new lists from elements": (lambda x: ak.Array([[x[0, 0]], [x[0, 1]]]), JAGGED),
    "numpy array of elements": (lambda x: np.array([x[0, 0], x[0, 1]]), JAGGED),
    "loop over elements": (lambda x: [float(v) for v in x[0]], JAGGED),
    "ak.to_json": (ak.to_json, JAGGED),
    "ak.to_arrow_table": (ak.to_arrow_table, JAGGED),
    "view as integers": (lambda x: x.view(np.int64), FLAT),
    "other byte order": (lambda x: ak.to_buffers(x, byteorder=">"), JAGGED),
}


@pytest.mark.parametrize("name", LEAVING)
@pytest.mark.parametrize("mode", ["jvp", "vjp"])
def test_leaving_the_array_is_refused(name, mode):
    if name == "ak.to_arrow_table":
        pytest.importorskip("pyarrow")
    fn, x = LEAVING[name]
    with pytest.raises(NoRuleError, match="no derivative rule for"):
        getattr(eager, mode)(fn, (x,))


def assign(x):
    x[0] = 1.0
    return x


def add_in_place(x):
    out = np.zeros(2)
    out += x
    return out


def add_to_active_in_place(x):
    x += 1.0
    return x


@pytest.mark.parametrize("fn", [assign, add_in_place, add_to_active_in_place])
def test_writing_in_place_is_refused(fn):
    with pytest.raises(NoRuleError):
        eager.jvp(fn, (FLAT,))


def test_filling_a_numpy_array_is_refused():
    """NumPy raises an error of its own, because of ours."""

    def fill(x):
        out = np.zeros(2)
        out[0] = x[0]
        return out

    with pytest.raises((NoRuleError, ValueError)) as caught:
        eager.jvp(fill, (FLAT,))
    assert isinstance(caught.value, NoRuleError) or isinstance(caught.value.__cause__, NoRuleError)


def test_numbers_may_be_counted_up():
    """`+=` on a number binds a new number, as it does without derivatives."""

    def total(x):
        result = ak.sum(x[0])
        result += ak.sum(x[2])
        result *= 2.0
        return result

    assert eager.jvp(total, (JAGGED,)) == (15.0, 6.0)


def test_a_message_names_the_operation_and_a_way_out():
    with pytest.raises(NoRuleError, match=r"float\(x\).*depends on wrt.*NumPy or Awkward functions"):
        eager.jvp(float, (NUMBER,))


def test_constants_leave_freely():
    """What does not depend on the argument is an ordinary number."""

    def shifted(x):
        return x + float(ak.sum(ak.num(x))) + np.asarray(ak.num(x)).max()

    value, tangent = eager.jvp(shifted, (JAGGED,))
    assert value.to_list() == [[6.5, 7.5], [], [8.5]]
    assert tangent.to_list() == [[1.0, 1.0], [], [1.0]]


def test_masks_are_arrays_of_numpy_to_other_libraries():
    """Selected with what has a derivative, missing or not; what has one stays with us."""
    option = ak.Array([1.0, None, 3.0])

    def total(x):
        mask = ak.to_numpy(x > 1.5)
        missing = ak.to_numpy(ak.mask(option, x > 1.5))
        assert type(mask) is np.ndarray
        assert type(missing) is np.ma.MaskedArray
        assert type(ak.to_numpy(x)) is not np.ndarray
        return ak.sum(x[mask] * missing[mask].filled(5.0))

    assert eager.grad(total)(ak.Array([1.0, 2.0, 3.0])).to_list() == [0.0, 5.0, 3.0]


def test_branching_on_a_value_takes_its_branch():
    def absolute(x):
        return x if x > 0 else -x

    assert eager.jvp(absolute, (-2.0,)) == (2.0, -1.0)
    assert eager.jvp(absolute, (3.0,)) == (3.0, 1.0)


def test_branching_on_whether_it_is_zero():
    assert eager.jvp(lambda x: 2 * x if x else x, (3.0,)) == (6.0, 2.0)
    assert eager.jvp(lambda x: 2 * x if x else x, (0.0,)) == (0.0, 1.0)


def test_a_number_is_written_as_one():
    texts = []
    eager.jvp(lambda x: texts.append(f"{x:.1f}") or x, (NUMBER,))
    assert texts == ["1.5"]


def test_parts_of_complex_numbers():
    z, along = np.array([1 + 2j]), np.array([3 + 5j])
    assert eager.jvp(lambda z: z.real * 10 + z.imag, (z,), (along,))[1].tolist() == [35.0]
    assert eager.jvp(lambda x: x.real + x.imag, (np.array([2.0]),))[1].tolist() == [1.0]


def test_what_numpy_arrays_have():
    def check(x):
        assert (x.shape, x.ndim, x.size, x.nbytes, x.dtype) == ((2, 3), 2, 6, 48, np.float64)
        assert len(x) == 2
        assert [row.shape for row in x] == [(3,), (3,)]
        assert x.T.shape == (3, 2)
        assert x.ravel().shape == (6,)
        assert (x > 2).any()
        assert not (x > 2).all()
        return x.T.reshape(2, 3).copy().astype(np.float64)

    x = np.arange(6.0).reshape(2, 3)
    value, tangent = eager.jvp(check, (x,), x)
    np.testing.assert_array_equal(value, x.T.reshape(2, 3))
    np.testing.assert_array_equal(tangent, value)


@pytest.mark.parametrize("name", ["sum", "mean", "prod", "min", "max"])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_methods_of_arrays_are_numpys(name, axis):
    x = np.array([[1.0, 2.0, 4.0], [8.0, 0.5, 3.0]])
    value, tangent = eager.jvp(lambda x: getattr(x, name)(axis=axis), (x,), x)
    np.testing.assert_array_equal(value, getattr(x, name)(axis=axis))
    degree = {"prod": x.size if axis is None else x.shape[axis]}.get(name, 1)
    np.testing.assert_allclose(tangent, degree * value, rtol=1e-15)


def test_operators_keep_python_numbers_weak():
    x = np.array([1.0, 2.0], dtype=np.float32)
    for fn in (
        lambda x: 2.5 * x,
        lambda x: x + 1,
        lambda x: 1 - x,
        lambda x: x**2,
        lambda x: 1.5 / x,
        abs,
        lambda x: -x,
    ):
        value, tangent = eager.jvp(fn, (x,))
        assert value.dtype == tangent.dtype == np.float32


def test_diffarrays_survive_copies():
    x = eager.diffarray(np.array([1.0, 2.0]))
    assert copy.copy(x).tangent.tolist() == [1.0, 1.0]


def test_repr_shows_values():
    assert "1.5" in repr(eager.diffarray(FLAT))
