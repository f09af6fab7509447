"""Pictures of derivative graphs: layer by layer, or with segments opened operation by operation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dask.blockwise import Blockwise
from dask.highlevelgraph import HighLevelGraph
from dask_awkward.layers import AwkwardInputLayer, AwkwardTreeReductionLayer

from dak_diff.graph.active import ancestors
from dak_diff.graph.cotangent_tasks import (
    AddCotangents,
    KeepCotangents,
    KeepValues,
    PickValue,
    PickValues,
    SumCotangents,
    TakeGradient,
)
from dak_diff.graph.layers import ExpandedTree, label_of, operand_name
from dak_diff.graph.picture import Box, Picture
from dak_diff.graph.segment_tasks import Backward, ForwardBackward, ForwardSegment, Step, TransposeTask
from dak_diff.graph.tangent_tasks import PickResult, PushSegment

__all__ = ["DETAILS", "picture_of", "render", "role_of"]

DETAILS = ("layers", "operations")

#: The first that fits. A chain that Dask fuses is called after its last layer: results tell the mode, too.
_PREFIXES = {
    "jvp-tangent-": "result",
    "jvp-jacobian-": "result",
    "vjp-gradient-": "result",
    "vjp-jacobian-": "result",
    "jvp-": "tangent",
    "seed-": "seed",
    "primal-": "primal",
    "fwd-": "forward",
    "vjp-": "adjoint",
    "cotangents-": "adjoint",
    "add-cotangents-": "sum",
    "sum-cotangents-": "sum",
}

_TRAVELS = {"tangent": "tangent", "adjoint": "cotangent", "sum": "cotangent"}


def role_of(name: str, layer: Any) -> str:
    """What a layer does in a derivative graph, by its name."""
    if isinstance(layer, AwkwardInputLayer):
        return "source"
    return next((role for prefix, role in _PREFIXES.items() if name.startswith(prefix)), "value")


def picture_of(graph: HighLevelGraph, detail: str = "layers") -> Picture:
    """The picture of a graph; ``detail="operations"`` opens all segments, not only those with tangents."""
    if detail not in DETAILS:
        raise ValueError(f"detail must be one of {', '.join(DETAILS)}, not {detail!r}")
    return _Drawing(graph, opened=detail == "operations").picture


def render(picture: Picture, filename: str | None, format: str | None = None) -> Any:
    """Lay a picture out with graphviz; written to a file unless there is no name."""
    import graphviz
    from dask.dot import graphviz_to_file

    source = graphviz.Source(picture.dot())
    return source if filename is None else graphviz_to_file(source, filename, format)


class _Drawing:
    """A graph being drawn."""

    def __init__(self, graph: HighLevelGraph, opened: bool):
        self.graph, self.opened, self.picture = graph, opened, Picture()
        names = ancestors(graph, graph.layers)
        for name in names:
            layer = graph.layers[name]
            if not self._is_opened(name):
                blocks = len(layer.get_output_keys())
                count = f"\n{blocks} partitions" if blocks > 1 else ""
                self.picture.boxes[name] = Box(label_of(name) + count, role_of(name, layer), name)
        for name in names:
            if self._is_opened(name):
                self._open(name)
        for name in names:
            if self._is_opened(name):
                self._connect_segment(name)
            else:
                self._connect(name)

    def _function(self, name: str) -> Any:
        task = getattr(self.graph.layers[name], "task", None)
        return getattr(task, "func", None)

    def _segment(self, name: str) -> ForwardSegment | None:
        """The segment that a layer runs, or walks back."""
        fn = self._function(name)
        if isinstance(fn, ForwardSegment):
            return fn
        if isinstance(fn, ForwardBackward):
            return fn.segment
        return self._segment(self._operands(name)[0] or name) if isinstance(fn, Backward) else None

    def _is_opened(self, name: str) -> bool:
        """Whether a layer is drawn operation by operation: with tangents, always."""
        return isinstance(self._function(name), PushSegment) or (self.opened and bool(self._segment(name)))

    def _operands(self, name: str) -> list[str | None]:
        layer = self.graph.layers[name]
        if not isinstance(layer, Blockwise):
            return sorted(self.graph.dependencies[name])
        names = (operand if index is not None else operand_name(operand) for operand, index in layer.indices)
        return [n if isinstance(n, str) and n in self.graph.layers else None for n in names]

    # ---------------------------------------------------------------- segments

    def _open(self, name: str) -> None:
        fn, segment = self._function(name), self._segment(name)
        assert segment is not None
        keys = []
        if not isinstance(fn, Backward):
            for step in segment.steps:
                opened = "tangent" if isinstance(fn, PushSegment) else "forward"
                role = opened if step.active else "value"
                self.picture.boxes[f"{name}/{step.name}"] = Box(step.label, role, step.name)
                keys.append(f"{name}/{step.name}")
                if step.seeds:
                    self.picture.boxes[f"{name}+{step.name}"] = Box("seed", "seed", step.name)
                    keys.append(f"{name}+{step.name}")
        if not isinstance(fn, ForwardSegment):
            for step in _walked_back(segment, fn.positions):
                self.picture.boxes[f"{name}~{step.name}"] = Box(step.label, "adjoint", step.name)
                keys.append(f"{name}~{step.name}")
        self.picture.clusters.append((f"{label_of(name)}, {len(self.graph.layers[name])} partitions", keys))

    def _connect_segment(self, name: str) -> None:
        fn, segment, operands = self._function(name), self._segment(name), self._operands(name)
        assert segment is not None
        walked = [] if isinstance(fn, ForwardSegment) else _walked_back(segment, fn.positions)
        names = {step.name for step in walked}
        forward = operands[0] if isinstance(fn, Backward) else name
        for step in segment.steps:
            reads = [what for kind, what in step.operands if kind == "step"]
            if forward == name:
                for what in reads:
                    start, end = f"{name}/{what}", f"{name}/{step.name}"
                    self.picture.connect(start, end, self._travels(start, end, "value"))
                for kind, what in step.operands:
                    if kind == "input":
                        self._join(operands[what], f"{name}/{step.name}", ("value", None))
                for _, places in step.seeds:
                    self.picture.connect(f"{name}+{step.name}", f"{name}/{step.name}", "tangent")
                    for place in places:
                        self._join(operands[place], f"{name}+{step.name}", ("value", None))
            if step.name in names:
                self.picture.connect(f"{forward}/{step.name}", f"{name}~{step.name}", "residual")
                for what in sorted(names.intersection(reads)):
                    self.picture.connect(f"{name}~{step.name}", f"{name}~{what}", "cotangent")
        if not isinstance(fn, ForwardSegment):
            given = operands[-len(fn.positions) :]
            for position, operand in zip(fn.positions, given, strict=True):
                self._join(operand, f"{name}~{segment.outputs[position]}", ("cotangent", None))

    def _boxes(self, name: str, pick: tuple[str, int | None]) -> list[str]:
        """The boxes of what is taken from a layer."""
        segment = self._segment(name) if self._is_opened(name) else None
        if segment is None:
            return [name]
        kind, position = pick
        if kind == "cotangent":
            found = [f"{name}~{step}" for step in _receivers(segment, position)]
        else:
            chosen = segment.outputs if position is None else (segment.outputs[position],)
            found = [f"{name}/{step}" for step in chosen]
        return [key for key in found if key in self.picture.boxes]

    # ---------------------------------------------------------------- edges

    def _join(self, start: str | None, end: str, pick: tuple[str, int | None]) -> None:
        if start is not None:
            for key in self._boxes(start, pick):
                self.picture.connect(key, end, self._travels(key, end, pick[0]))

    def _travels(self, start: str, end: str, kind: str) -> str:
        roles = [self.picture.boxes[key].role for key in (start, end)]
        # What a sum of cotangents reads of a forward pass are those that it made at once.
        if kind == "cotangent" or roles == ["forward", "sum"]:
            return "cotangent"
        if roles[0] == "forward" and roles[1] in ("adjoint", "result"):
            return "residual"
        if roles[0] == "seed":
            return "tangent" if roles[1] in ("tangent", "result", "primal") else "cotangent"
        return "value" if roles[1] == "value" else _TRAVELS.get(roles[0], "value")

    def _connect(self, name: str) -> None:
        for operand, pick in self._picks(name):
            self._join(operand, name, pick)

    def _picks(self, name: str) -> Iterator[tuple[str | None, tuple[str, int | None]]]:
        """What a layer reads of each layer."""
        layer, fn, operands = self.graph.layers[name], self._function(name), self._operands(name)
        tree = layer.tree if isinstance(layer, ExpandedTree) else layer
        if isinstance(tree, AwkwardTreeReductionLayer):
            yield tree.name_input, _pick_of_tree(tree)
        elif isinstance(fn, TakeGradient):
            yield operands[0], ("value", fn.position)
            yield operands[1], ("cotangent", fn.entry)
        elif isinstance(fn, KeepValues):
            for kept in fn.positions:
                yield operands[0], ("value", kept)
        elif isinstance(fn, KeepCotangents):
            for kept in fn.entries:
                yield operands[0], ("cotangent", kept)
        elif isinstance(fn, AddCotangents):
            for operand, entry in zip(operands, fn.positions, strict=True):
                yield operand, ("cotangent", entry)
        else:
            position = fn.position if isinstance(fn, (PickValue, PickResult)) else _picked(layer)
            for operand in operands:
                yield operand, ("value", position)


def _walked_back(segment: ForwardSegment, positions: tuple[int, ...]) -> list[Step]:
    """The steps that cotangents of some results come through."""
    reached = {segment.outputs[position] for position in positions}
    for step in reversed(segment.steps):
        if step.name in reached and step.active:
            reached.update(what for kind, what in step.operands if kind == "step")
    return [step for step in segment.steps if step.active and step.name in reached]


def _receivers(segment: ForwardSegment, entry: int | None) -> list[str]:
    """The steps whose transposes give an entry of the cotangents of a segment."""
    inputs = [i for i, on in enumerate(segment.active) if on]
    if entry is None:
        return list(segment.outputs)
    if entry >= len(inputs):
        return [[step.name for step in segment.steps if step.watched][entry - len(inputs)]]
    return [step.name for step in segment.steps if ("input", inputs[entry]) in step.operands]


def _pick_of_tree(tree: AwkwardTreeReductionLayer) -> tuple[str, int | None]:
    if isinstance(tree.tree_node_func, SumCotangents):
        return "cotangent", tree.tree_node_func.position
    node: Any = tree.tree_node_func
    while node is not None:
        inner = getattr(node, "inner", None) or getattr(node, "fn", None)
        if isinstance(node, PickValues):
            return "value", node.position
        node = inner
    return "value", None


def _picked(layer: Any) -> int | None:
    """The result of a segment that a materialised layer reads."""
    if isinstance(layer, Blockwise):
        return None
    functions = (getattr(task, "func", None) for task in getattr(layer, "mapping", {}).values())
    return next((fn.picked for fn in functions if isinstance(fn, TransposeTask)), None)
