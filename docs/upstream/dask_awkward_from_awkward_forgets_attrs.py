"""One array with two sets of attributes. Should: be two layers. Does: both have one name, one loses its own.

Seen with dask-awkward 2026.2.1, awkward 2.14.0. ``behavior`` and ``attrs`` are not in the token.
"""

import awkward as ak
import dask
import dask_awkward as dak

array = ak.Array([1.0, 2.0])
gev, mev = (dak.from_awkward(array, npartitions=1, attrs={"unit": unit}) for unit in ("GeV", "MeV"))
units = [value.attrs["unit"] for value in dask.compute(gev, mev, scheduler="sync")]
print(f"computed together gave {units}, should give ['GeV', 'MeV']")
if units == ["GeV", "MeV"]:
    raise SystemExit("mended: each has its own attributes")
