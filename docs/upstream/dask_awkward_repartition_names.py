"""An array in two partitions and in six. Should: be two layers. Does: both have one name, and results mix.

Seen with dask-awkward 2026.2.1, dask 2025.3.1.
"""

import awkward as ak
import dask
import dask_awkward as dak

x = dak.from_awkward(ak.Array(list(range(12))), npartitions=3)
two, six = x.repartition(npartitions=2), x.repartition(npartitions=6)
print(f"{two.name}\n{six.name}")
ten_times, _ = dask.compute(two * 10, six, scheduler="sync")
print(f"computed together, two * 10 gave {ten_times.to_list()}, should give {list(range(0, 120, 10))}")
if two.name != six.name:
    raise SystemExit("mended: the names tell the number of partitions")
