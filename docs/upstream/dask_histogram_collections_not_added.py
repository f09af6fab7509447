"""The sum of two hist.dask histograms. Should: be lazy, as of two AggHistogram. Does: NotImplementedError.

Seen with dask-histogram 2026.2.0, hist 2.12.1. ``sum([h, h])`` is an AttributeError of ``int``.
"""

try:
    import dask.array as da
    import hist.dask
except ImportError as error:
    print(error)
    raise SystemExit(77) from None

h = hist.dask.Hist.new.Reg(1, 0, 2).Double().fill(da.ones(3, chunks=3))
try:
    total = h + h
except NotImplementedError as error:
    print(f"gave {error!r}, should give a histogram of 6.0")
else:
    raise SystemExit(f"mended: gave {total}")
