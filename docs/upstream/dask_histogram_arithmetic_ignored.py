"""A filled hist.dask histogram by two, or less another. Should: scale, subtract. Does: neither, in silence.

Seen with dask-histogram 2026.2.0, hist 2.12.1, boost-histogram 1.8.1.
"""

try:
    import dask.array as da
    import hist.dask
except ImportError as error:
    print(error)
    raise SystemExit(77) from None


def filled():
    return hist.dask.Hist.new.Reg(1, 0, 2).Double().fill(da.ones(3, chunks=3))


twice = float((filled() * 2).compute(scheduler="sync").sum())
difference = float((filled() - filled()).compute(scheduler="sync").sum())
print(f"h * 2, h - h gave {twice}, {difference}, should give 6.0, 0.0 (or an error)")
if (twice, difference) == (6.0, 0.0):
    raise SystemExit("mended: arithmetic is done")
