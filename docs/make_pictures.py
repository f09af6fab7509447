"""Draw the graphs shown in docs/explain/two_ideas.md: python docs/make_pictures.py (needs graphviz)."""

from __future__ import annotations

import re
from pathlib import Path

import awkward as ak
import dask
import dask_awkward as dak
import numpy as np
from dask.highlevelgraph import HighLevelGraph

import dak_diff
from dak_diff.graph.draw import picture_of
from dak_diff.graph.picture import Picture

IMAGES = Path(__file__).resolve().parent / "images"


def pictures() -> dict[str, Picture]:
    """Name of a file -> what it shows."""
    jets = dak.from_awkward(ak.Array([[50.0, 30.0], [40.0], [80.0, 60.0, 20.0]]), npartitions=3)
    alpha = dak_diff.parameter(0.1, name="alpha")
    pt = jets * (1 + alpha)
    loss = np.log(dak.sum(pt[pt > 25], axis=None))
    forward = dak_diff.value_and_jvp(loss, wrt=alpha)
    reverse = dak_diff.value_and_grad(loss, wrt=alpha)
    graphs = {"value": (loss,), "forward": forward, "reverse": reverse}
    return {
        **{name: _picture(graph) for name, graph in graphs.items()},
        **{f"{name}_fused": _picture(dask.optimize(*graphs[name])) for name in ("forward", "reverse")},
        "reverse_operations": _picture(reverse, "operations"),
    }


def _picture(collections: tuple, detail: str = "layers") -> Picture:
    return picture_of(HighLevelGraph.merge(*(part.dask for part in collections)), detail)


if __name__ == "__main__":
    import graphviz

    for name, picture in pictures().items():
        # Tooltips hold the names of layers, which differ from run to run.
        dot = re.sub(r', tooltip="[^"]*"', "", picture.dot())
        (IMAGES / f"{name}.svg").write_bytes(graphviz.Source(dot).pipe("svg"))
