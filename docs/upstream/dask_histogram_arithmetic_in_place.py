"""A histogram and its double, computed together. Should: differ. Does: both are the double.

Seen with dask-histogram 2026.2.0, boost-histogram 1.8.1.
"""

import dask

try:
    import boost_histogram as bh
    import dask.array as da
    import dask_histogram as dh
except ImportError as error:
    print(error)
    raise SystemExit(77) from None

h = dh.factory(da.ones(3, chunks=3), axes=(bh.axis.Regular(1, 0, 2),), storage=bh.storage.Double())
once, twice = (float(value.sum()) for value in dask.compute(h, h * 2, scheduler="sync"))
print(f"h, h * 2 gave {once}, {twice}, should give 3.0, 6.0")
if (once, twice) == (3.0, 6.0):
    raise SystemExit("mended: h is left alone")
