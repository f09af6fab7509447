"""A reduced scalar times an array. Should: be the array times the scalar. Does: TypeError while it is built.

Seen with dask-awkward 2026.2.1.
"""

import awkward as ak
import dask_awkward as dak

x = dak.from_awkward(ak.Array([1.0, 2.0]), npartitions=1)
print("x * sum gave", (x * dak.sum(x)).compute(scheduler="sync").to_list())
try:
    product = dak.sum(x) * x
except TypeError as error:
    print(f"sum * x gave {error!r}, should give the same")
else:
    raise SystemExit(f"mended: sum * x gave {product.compute(scheduler='sync').to_list()}")
