"""A reduced scalar in ``dak.where``. Should: broadcast, as in ``x * s``. Does: IncompatiblePartitions.

Seen with dask-awkward 2026.2.1.
"""

import awkward as ak
import dask_awkward as dak
from dask_awkward.utils import IncompatiblePartitions

x = dak.from_awkward(ak.Array([1.0, 2.0]), npartitions=2)
try:
    chosen = dak.where(x > 1, dak.sum(x), 0.0)
except IncompatiblePartitions as error:
    print(f"gave {type(error).__name__}: {error}\nshould give [0.0, 3.0]")
else:
    raise SystemExit(f"mended: gave {chosen.compute(scheduler='sync').to_list()}")
