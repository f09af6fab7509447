"""Pairs, lifting and lowering, and derivatives inside derivatives."""

import pickle

import awkward as ak
import numpy as np
import pytest

from dak_diff import eager
from dak_diff.engine.transform import Taping, pushforward, used_primitives
from dak_diff.engine.values import Pair

X = ak.Array([[1.0, 2.0], [], [4.0]])


def test_pairs_pickle():
    pair = Pair(X, {0: (np.array([1.0, 2.0, 3.0]), None)}, 2)
    again = pickle.loads(pickle.dumps(pair))
    assert again.primal.to_list() == X.to_list()
    assert again.width == 2
    np.testing.assert_array_equal(again.tangents[0][0], [1.0, 2.0, 3.0])
    assert again.tangents[0][1] is None


def test_the_result_of_a_pushforward_pickles():
    pair = pushforward(lambda x: np.sin(x) * x, (Pair(X, {0: (np.ones(3),)}),))
    again = pickle.loads(pickle.dumps(pair))
    np.testing.assert_array_equal(again.tangents[0][0], pair.tangents[0][0])


def test_a_transpose_pickles():
    """Between the two layers of a segment it travels like any other data."""

    def fn(x):
        return (ak.sum(np.sin(x) * x[::-1][::-1], axis=-1), ak.max(x))

    taping = Taping()
    _, transpose = taping.finish(fn(taping.watch(X)))
    again = pickle.loads(pickle.dumps(transpose))
    seeds = ({0: np.array([1.0, 2.0, 3.0])}, {0: np.float64(10.0)})
    x = np.array([1.0, 2.0, 4.0])
    expected = (np.sin(x) + x * np.cos(x)) * [1.0, 1.0, 3.0] + [0.0, 0.0, 10.0]
    np.testing.assert_allclose(again(seeds)[0][0], expected, rtol=1e-14)


def test_only_watched_values_have_cotangents():
    taping = Taping()
    (value,), transpose = taping.finish((X * taping.watch(X),))
    assert value.to_list() == [[1.0, 4.0], [], [16.0]]
    (cotangents,) = transpose(({0: np.ones(3)},))
    np.testing.assert_array_equal(cotangents[0], [1.0, 2.0, 4.0])


def test_values_on_the_way_can_be_watched():
    taping = Taping()
    x = taping.watch(X)
    square = taping.watch(x * x)
    _, transpose = taping.finish((3 * square,))
    of_x, of_square = transpose(({0: np.ones(3)},))
    np.testing.assert_array_equal(of_x[0], [6.0, 12.0, 24.0])
    np.testing.assert_array_equal(of_square[0], [3.0, 3.0, 3.0])


def test_one_pass_carries_several_directions():
    calls = []

    def square(x):
        calls.append(x)
        return x * x

    directions = (np.array([1.0, 0.0, 0.0]), None, np.array([0.0, 0.5, 2.0]))
    pair = pushforward(square, (Pair(X, {0: directions}, 3),))
    first, second, third = pair.tangents[0]
    assert len(calls) == 1
    np.testing.assert_array_equal(first, [2.0, 0.0, 0.0])
    assert second is None
    np.testing.assert_array_equal(third, [0.0, 2.0, 16.0])


def test_arguments_without_tangents_stay_plain():
    def fn(x, y):
        assert float(y) == 3.0
        return x * y

    pair = pushforward(fn, (Pair(X, {0: (np.ones(3),)}), 3.0))
    np.testing.assert_array_equal(pair.tangents[0][0], [3.0, 3.0, 3.0])


def test_a_result_that_does_not_depend_on_the_argument_has_no_tangent():
    assert pushforward(ak.num, (Pair(X, {0: (np.ones(3),)}),)).tangents == {}


def test_perturbations_are_not_confused():
    """d/dx x * (d/dy (x + y)) = 1: Siskind and Pearlmutter, IFL 2005."""

    def derivative(fn):
        return lambda x: eager.jvp(fn, (x,))[1]

    assert derivative(lambda x: x * derivative(lambda y: x + y)(2.0))(3.0) == 1.0
    assert eager.grad(lambda x: x * eager.grad(lambda y: x * y)(2.0))(3.0) == 6.0
    assert derivative(lambda x: x * eager.grad(lambda y: x * y * y)(2.0))(3.0) == 24.0
    assert eager.grad(lambda x: x * derivative(lambda y: x * y * y)(2.0))(3.0) == 24.0


def test_perturbations_of_arrays_are_not_confused():
    x = ak.Array([[3.0, 5.0], [], [7.0]])

    def inner(x):
        return eager.jvp(lambda y: x + y, (x,))[1]

    assert eager.jvp(lambda x: x * inner(x), (x,))[1].to_list() == [[1.0, 1.0], [], [1.0]]


def test_a_constant_is_lifted_by_no_level():
    """The tangent of an outer variable is invisible to an inner derivative."""
    assert eager.jvp(lambda x: eager.jvp(lambda y: x * x, (1.0,))[1], (3.0,)) == (0.0, 0.0)


def test_third_derivative():
    def derivative(fn):
        return lambda x: eager.jvp(fn, (x,))[1]

    assert derivative(derivative(derivative(lambda x: x**5)))(2.0) == 240.0


def test_used_primitives_in_order():
    pair = Pair(X, {0: None})
    names = [p.name for p in used_primitives(lambda x: ak.sum(np.sin(x) * x, axis=-1), (pair,), "")]
    assert names == ["sin", "multiply", "sum"]


def layouts(unit):
    """One of each class, with a parameter of its own."""
    numbers = ak.contents.NumpyArray(np.array([1.5, 2.5, 3.5, 4.5]), parameters=unit)
    offsets, mask = ak.index.Index64(np.array([0, 2, 4])), np.array([1, 0, 1, 1])
    yield numbers
    yield ak.contents.ListOffsetArray(offsets, numbers, parameters=unit)
    yield ak.contents.ListArray(offsets[:-1], offsets[1:], numbers, parameters=unit)
    yield ak.contents.RegularArray(numbers, 2, parameters=unit)
    yield ak.contents.IndexedArray(ak.index.Index64(np.arange(4)), numbers, parameters=unit)
    yield ak.contents.IndexedOptionArray(ak.index.Index64(np.array([0, -1, 2, 3])), numbers, parameters=unit)
    yield ak.contents.ByteMaskedArray(ak.index.Index8(mask.astype(np.int8)), numbers, True, parameters=unit)
    bits = ak.index.IndexU8(np.packbits(mask.astype(bool), bitorder="little"))
    yield ak.contents.BitMaskedArray(bits, numbers, True, 4, True, parameters=unit)
    yield ak.contents.UnmaskedArray(numbers, parameters=unit)
    yield ak.contents.RecordArray([numbers], ["x"], parameters=unit)


@pytest.mark.parametrize("layout", list(layouts({"unit": "GeV"})), ids=lambda layout: type(layout).__name__)
def test_parameters_of_every_layout_stay(layout):
    x = ak.Array(layout)
    value, tangent = eager.jvp(lambda x: x, (x,))
    (cotangent,) = eager.vjp(lambda x: x, (x,))[1](tangent)
    for got in (value, tangent, cotangent):
        assert got.type.is_equal_to(x.type, all_parameters=True)
