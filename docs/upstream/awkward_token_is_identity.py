"""The Dask token of an array. Should: tell its content. Does: tell its address, used again for other data.

Seen with awkward 2.14.0, dask-awkward 2026.2.1: a name of ``from_awkward`` comes back for another array.
"""

import awkward as ak
import dask_awkward as dak


def name_of(numbers):
    return dak.from_awkward(ak.Array(numbers), npartitions=1).name


names = {name_of([float(i), 5.0]) for i in range(200)}
print(f"200 arrays, no two alike, gave {len(names)} names, should give 200")
if len(names) == 200:
    raise SystemExit("mended: other content, another name")
