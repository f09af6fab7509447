"""NanoAOD-like jets and the analysis that the demo and the benchmarks run."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import awkward as ak
import dask_awkward as dak
import numpy as np
import vector

vector.register_awkward()

FIELDS = ("pt", "eta", "phi", "mass")


def make_events(events: int, seed: int) -> ak.Array:
    """Deterministic events with 0 to about 12 jets, falling in pt: ``n * {Jet: var * {pt, eta, phi, mass}}``.

    In double precision, so that a central difference beside a derivative means something.
    """
    rng = np.random.default_rng(seed)
    counts = rng.poisson(4.0, events)
    jets = int(counts.sum())
    columns = {
        "pt": 18.0 + rng.exponential(35.0, jets),
        "eta": np.clip(rng.normal(0.0, 1.8, jets), -4.7, 4.7),
        "phi": rng.uniform(-np.pi, np.pi, jets),
        "mass": 2.0 + rng.exponential(6.0, jets),
    }
    flat = ak.zip(columns, with_name="Momentum4D")
    return ak.zip({"Jet": ak.unflatten(flat, counts), "event": np.arange(events)}, depth_limit=1)


def write_dataset(folder: Path, partitions: int, events: int) -> Path:
    """One Parquet file a partition; files that are there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(partitions):
        path = folder / f"part-{i:03d}.parquet"
        if not path.exists():
            ak.to_parquet(make_events(events, seed=i), path)
    return folder


def dijet_mass(jets: Any, alpha: Any, ops: ModuleType = dak) -> Any:
    """Mass of the two leading jets after the calibration ``pt * (1 + alpha * f(eta))``."""
    calibrated = jets.pt * (1 + alpha * (1 + 0.1 * jets.eta**2))
    jets = ops.with_field(jets, calibrated, "pt")
    jets = jets[(jets.pt > 25) & (abs(jets.eta) < 2.5)]
    jets = jets[ops.argsort(jets.pt, axis=1, ascending=False)]
    jets = jets[ops.num(jets, axis=1) >= 2]
    return (jets[:, 0] + jets[:, 1]).mass
