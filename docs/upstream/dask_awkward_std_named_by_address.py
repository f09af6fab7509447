"""The layer of ``dak.std`` and ``dak.var``. Should: be "std-<token>". Does: hold the address of an object.

So its keys differ from process to process. Seen with dask-awkward 2026.2.1.
"""

import awkward as ak
import dask_awkward as dak

x = dak.from_awkward(ak.Array([[1.0, 2.0]]), npartitions=1)
names = [dak.std(x, axis=1).name, dak.var(x, axis=1).name]
print(f"gave {names}, should give names without an address")
if not any(" object at 0x" in name for name in names):
    raise SystemExit("mended: the names have no address")
