"""ak.pad_none of no lists. Should: be of one type. Does: it depends on what lies in memory behind the array.

Seen with awkward 2.14.0, awkward-cpp 57. Here a list lies behind that is longer, or shorter, than the target.
"""

import awkward as ak

longer, shorter = ak.Array([[1.0, 2.0, 3.0]])[[0]], ak.Array([[1.0]])[[0]]
types = [str(ak.pad_none(array[:0], 2).type) for array in (longer, shorter)]
print(f"gave {types}, should give ['0 * var * ?float64', '0 * var * ?float64']")
if len(set(types)) == 1:
    raise SystemExit("mended: the type is that of the input alone")
