"""``2 - s`` and ``s - 2``. Should: be two layers. Does: both have one name; products and quotients are wrong.

Seen with dask-awkward 2026.2.1, dask 2025.3.1.
"""

import awkward as ak
import dask_awkward as dak

s = dak.sum(dak.from_awkward(ak.Array([1.0, 4.0]), npartitions=1))
print(f"{(2 - s).name}\n{(s - 2).name}")
print("(2 - s) * (s - 2) gave", ((2 - s) * (s - 2)).compute(scheduler="sync"), "should give -9.0")
if (2 - s).name != (s - 2).name:
    raise SystemExit("mended: the names tell the order of the operands")
