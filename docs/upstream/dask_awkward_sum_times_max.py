"""A sum times a maximum. Should: compute. Does: AssertionError in the column optimisation; the reverse works.

Seen with dask-awkward 2026.2.1, awkward 2.14.0.
"""

import awkward as ak
import dask_awkward as dak

x = dak.from_awkward(ak.Array([1.0, 2.0, 3.0]), npartitions=1)
print("max * sum gave", (dak.max(x) * dak.sum(x)).compute(scheduler="sync"))
try:
    product = (dak.sum(x) * dak.max(x)).compute(scheduler="sync")
except AssertionError as error:
    print(f"sum * max gave {error!r}, should give 18.0")
else:
    raise SystemExit(f"mended: sum * max gave {product}")
