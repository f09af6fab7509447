"""One table of functions and inputs; `test_cases.py` runs every generic check on every row.

A row says where its inputs lie if the function has a domain or kinks: all inputs here keep away from kinks and
ties by more than the step of a difference quotient. What happens at kinks is in `rules/test_ufuncs.py`.
Numbers are short binary fractions, so that sums, and differences of linear functions, are exact.
"""

from collections.abc import Callable
from dataclasses import dataclass

import awkward as ak
import numpy as np
import vector

vector.register_awkward()


@dataclass(frozen=True)
class Case:
    """A function of some arrays.

    `exact` marks a linear function of numbers that stay short binary fractions: its differences have no error.
    `domain` says in words where the inputs must lie.
    """

    name: str
    fn: Callable
    inputs: tuple
    exact: bool = False
    domain: str = ""

    def __str__(self):
        return self.name


def build(data, type_=None):
    array = ak.Array(data)
    return array if type_ is None else ak.enforce_type(array, type_)


# ---------------------------------------------------------------- inputs, by structure

FLAT = build([1.125, -2.25, 3.5, 0.375, -0.625])
JAGGED = build([[1.125, -2.25, 3.5], [], [0.375], [-0.625, 2.75]])
OTHER = build([[0.5, 1.75, -1.375], [], [2.125], [0.8125, -3.25]])
POSITIVE = build([[1.125, 2.25, 3.5], [], [0.375], [0.625, 2.75]])
FULL = build([[1.125, -2.25, 3.5], [0.375, 1.5], [-0.625, 2.75]])
DEEP = build([[[1.125, -2.25], [], [3.5]], [], [[0.375, -0.625, 2.75]]])
REGULAR = build([[1.125, -2.25, 3.5], [0.375, -0.625, 2.75]], "3 * float64")
RECTANGULAR = ak.from_numpy(np.array([[1.125, -2.25, 3.5], [0.375, -0.625, 2.75]]))
OPTION = build([[1.125, None, 3.5], [], [None, -0.625], [2.75]])
OPTION_LISTS = build([[1.125, -2.25], None, [], [3.5]])
BYTE_MASKED = ak.mask(JAGGED, JAGGED > -1)
UNION = build([1.125, [-2.25, 3.5], 0.375, []])
INDEXED = JAGGED[[0, 0, 3, 2]]
COMPLEX = build([[1.125 - 0.5j, -2.25 + 1.5j], [], [0.375 + 2.0j]])
RECORDS = build(
    [
        [{"pt": 1.125, "eta": -2.25, "charge": 1, "tag": "b"}, {"pt": 3.5, "eta": 0.375, "charge": -1, "tag": "light"}],
        [],
        [{"pt": 0.625, "eta": 2.75, "charge": -1, "tag": "c"}],
    ]
)
PAIRS = build([(1.125, [2.25]), (3.5, []), (0.375, [0.5, -1.5])])
JETS = build(
    [
        [{"pt": 31.5, "eta": 0.75, "phi": 1.125, "mass": 4.5}, {"pt": 20.25, "eta": -1.5, "phi": -2.5, "mass": 3.25}],
        [],
        [
            {"pt": 55.0, "eta": 2.125, "phi": 0.375, "mass": 7.5},
            {"pt": 42.75, "eta": 1.0, "phi": 2.875, "mass": 6.0},
            {"pt": 12.5, "eta": -0.25, "phi": -0.625, "mass": 1.75},
        ],
    ]
)
MUONS = ak.with_name(JETS, "Momentum4D")

STRUCTURES = {
    "flat": FLAT,
    "jagged": JAGGED,
    "deep": DEEP,
    "regular": REGULAR,
    "rectangular": RECTANGULAR,
    "option": OPTION,
    "option lists": OPTION_LISTS,
    "byte masked": BYTE_MASKED,
    "union": UNION,
    "indexed": INDEXED,
    "sliced": JAGGED[1:, ::-1],
}

# ---------------------------------------------------------------- ufuncs

REAL = [[0.375, -1.25, 2.625], [], [1.125]]
ABOVE_ZERO = [[0.375, 1.25, 2.625], [], [1.125]]
INSIDE_ONE = [[0.375, -0.875, 0.625], [], [0.125]]
ABOVE_ONE = [[1.375, 2.25, 3.625], [], [1.125]]

UNARY_UFUNCS = {
    REAL_NUMBERS: ufuncs
    for REAL_NUMBERS, ufuncs in {
        "real": (
            np.negative, np.positive, np.square, np.exp, np.exp2, np.expm1, np.sin, np.cos, np.tan, np.arctan,
            np.sinh, np.cosh, np.tanh, np.arcsinh, np.deg2rad, np.radians, np.rad2deg, np.degrees,
        ),
        "not 0": (np.reciprocal, np.cbrt, np.absolute, np.fabs, np.sign),
        "above 0": (np.sqrt, np.log, np.log2, np.log10),
        "above -1": (np.log1p,),
        "between -1 and 1": (np.arcsin, np.arccos, np.arctanh),
        "above 1": (np.arccosh,),
        "no integer": (np.modf,),
        "no power of 2": (np.frexp,),
    }.items()
}  # fmt: skip
