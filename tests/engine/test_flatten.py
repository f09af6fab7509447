"""Values taken apart into what a program is given, and put together again, for all that tests know."""

import awkward as ak
import numpy as np
import pytest
from awkward._backends.numpy import NumpyBackend
from cases import COMPLEX, JETS, MUONS, OPTION, PAIRS, RECORDS, STRUCTURES

from dak_diff.engine.flatten import NotFlatError, flatten, unflatten

VALUES = {
    **STRUCTURES,
    "records": RECORDS,
    "tuples": PAIRS,
    "vectors": MUONS,
    "complex": COMPLEX,
    "one record": JETS[0, 0],
    "bit masked": ak.Array(
        ak.contents.BitMaskedArray(
            ak.index.IndexU8(np.array([5], dtype=np.uint8)),
            ak.contents.NumpyArray(np.arange(4.0)),
            valid_when=True,
            length=4,
            lsb_order=True,
        )
    ),
    "attrs": ak.Array([1.0], attrs={"scale": 2.0}),
    "named axis": ak.with_named_axis(ak.Array([[1.0]]), ("event", "jet")),
    "text": ak.Array(["a", "bc"]),
    "numbers": (1.5, np.float32(2.5), 2j, np.int64(3), np.bool_(True)),
    "nest": {"x": [OPTION, (None, "text", 3, True)], "y": np.arange(3.0)},
}


@pytest.mark.parametrize("name", VALUES)
def test_it_is_put_together_again(name):
    value = VALUES[name]
    leaves, structure = flatten(value)
    again = unflatten(structure, leaves, NumpyBackend.instance())
    assert flatten(again)[1] == structure
    assert repr(again) == repr(value)
    if isinstance(value, (ak.Array, ak.Record)):
        assert ak.to_list(again) == ak.to_list(value)
        assert (again.layout.form if isinstance(value, ak.Array) else again.layout.array.form) == (
            value.layout.form if isinstance(value, ak.Array) else value.layout.array.form
        )
        assert again.attrs == value.attrs


def test_other_leaves_make_no_other_structure():
    assert flatten(ak.Array([[1.0, 2.0], []]))[1] == flatten(ak.Array([[], [3.0], [4.0]]))[1]
    assert hash(flatten(JETS)[1]) == hash(flatten(JETS[1:])[1])


X = ak.Array([[1.0, 2.0], []])
DIFFERENT = {
    "dtype": ak.values_astype(X, np.float32),
    "parameters": ak.with_parameter(X, "kind", "jet"),
    "attrs": ak.Array(X, attrs={"scale": 2.0}),
    "behavior": ak.Array(X, behavior={"mine": 1}),
    "layout": X[[0, 1]],
    "option": ak.mask(X, X > 1),
    "record": ak.zip({"x": X}),
    "stride": ak.Array(np.arange(6.0)[::2]),
    "list": [X],
    "an integer": (X, 1),
    "a number": 1.0,
    "None": None,
    "text": "a",
}


def test_each_structure_is_another():
    structures = [flatten(value)[1] for value in (X, *DIFFERENT.values())]
    assert all(a != b for i, a in enumerate(structures) for b in structures[:i])


@pytest.mark.parametrize(
    ("a", "b"),
    [(1, 2), (1, True), ("a", "b"), (None, False), ((1,), [1]), ({"x": 1}, {"y": 1}), (slice(1), slice(2))],
)
def test_constants_belong_to_the_structure(a, b):
    assert flatten(a)[1] != flatten(b)[1]


@pytest.mark.parametrize("value", [object(), {1, 2}, np.array(["a"]), lambda x: x])
def test_what_has_no_leaves(value):
    with pytest.raises(NotFlatError, match=f"an? (array of <U1|{type(value).__name__})"):
        flatten([value])
