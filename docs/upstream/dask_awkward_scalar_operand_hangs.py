"""An array by its own sum, plus one. Should: compute. Does: wait for ever, on more than one partition.

The optimised graph asks for tasks that do not exist. Seen with dask-awkward 2026.2.1, dask 2025.3.1.
"""

import awkward as ak
import dask
import dask_awkward as dak
from dask._task_spec import convert_legacy_graph

x = dak.from_awkward(ak.Array([1.0, 2.0, 3.0, 4.0]), npartitions=4)
(optimised,) = dask.optimize(x * dak.sum(x) + 1)
graph = convert_legacy_graph(dict(optimised.dask))
missing = sorted({key for task in graph.values() for key in task.dependencies} - set(graph))
print(f"tasks that are asked for and do not exist: gave {missing}, should give none")
if not missing:
    raise SystemExit("mended: every task that is asked for exists")
