"""``s.__rsub__(c)``, as Python calls it for ``c - s``. Should: be c - s. Does: s - c for two collections.

Seen with dask-awkward 2026.2.1.
"""

import awkward as ak
import dask_awkward as dak

x = dak.from_awkward(ak.Array([1.0, 4.0]), npartitions=1)
s, c = dak.sum(x), dak.count(x)
gave = s.__rsub__(c).compute(scheduler="sync")
print(f"gave {gave}, should give {2.0 - 5.0}")
if gave == 2.0 - 5.0:
    raise SystemExit("mended: the operands are in order")
