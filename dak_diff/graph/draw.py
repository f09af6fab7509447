"""Pictures of derivative graphs, layer by layer, through Dask's own drawing (graphviz)."""

from __future__ import annotations

from typing import Any

from dask.highlevelgraph import HighLevelGraph
from dask_awkward.layers import AwkwardInputLayer

__all__ = ["draw", "role_of"]

#: role -> (colour, shape, what it is); shapes tell roles apart without colour.
STYLES = {
    "source": ("#cfe3f7", "cylinder", "reads data"),
    "value": ("#ececec", "box", "the value"),
    "seed": ("#ffe08a", "house", "puts a tangent or cotangent in"),
    "tangent": ("#f7b6a1", "octagon", "value and tangent together"),
    "forward": ("#c9e5b5", "box3d", "a segment: value, and what its transpose needs"),
    "adjoint": ("#c9b8e8", "invtrapezium", "cotangents, backwards"),
    "sum": ("#e3daf5", "invtriangle", "adds cotangents"),
    "primal": ("#dcdcdc", "note", "reads values out of pairs"),
    "result": ("#f08060", "doubleoctagon", "takes the result out"),
}

_PREFIXES = {
    "jvp-": "tangent",
    "seed-": "seed",
    "primal-": "primal",
    "tangent-": "result",
    "gradient-": "result",
    "fwd-": "forward",
    "vjp-": "adjoint",
    "cotangents-": "adjoint",
    "add-cotangents-": "sum",
    "sum-cotangents-": "sum",
}


def role_of(name: str, layer: Any) -> str:
    """What a layer does in a derivative graph, by its name."""
    if isinstance(layer, AwkwardInputLayer):
        return "source"
    return next((role for prefix, role in _PREFIXES.items() if name.startswith(prefix)), "value")


def draw(graph: HighLevelGraph, filename: str | None, format: str | None = None, **kwargs: Any) -> Any:
    """Draw a graph of layers, coloured and shaped by role."""
    from dask.dot import graphviz_to_file
    from dask.highlevelgraph import to_graphviz

    attributes = {}
    for name, layer in graph.layers.items():
        colour, shape, meaning = STYLES[role_of(name, layer)]
        attributes[name] = {"fillcolor": colour, "shape": shape, "style": "filled", "tooltip": meaning}
    picture = to_graphviz(graph, data_attributes=attributes, **kwargs)
    return picture if filename is None else graphviz_to_file(picture, filename, format)
