"""The forward pass of an adjoint graph: what it computes, and what it leaves for the backward pass.

The touched partition-wise layers are gathered into segments; each gets a layer ``fwd-<labels>``: its
results, and its transpose held as data. Reductions and other barriers give their plain values.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

from dask.base import tokenize
from dask.blockwise import Blockwise
from dask.highlevelgraph import HighLevelGraph
from dask_awkward.layers import AwkwardTreeReductionLayer

from dak_diff.graph.active import Activity, State
from dak_diff.graph.cotangent_tasks import (
    KeepValues,
    PickValue,
    PickValues,
    PutColumns,
    TakeColumns,
)
from dak_diff.graph.layers import (
    ExpandedTree,
    label_of,
    map_layer,
    partitionwise,
    repaired,
)
from dak_diff.graph.segment_tasks import (
    ForwardSegment,
    Step,
    settle,
)
from dak_diff.graph.segments import Inputs, LayerNode, gather, readers
from dak_diff.graph.tasks import CallTask, Compose, OnPrimals
from dak_diff.graph.wrt import Target

__all__ = ["ForwardPass"]


class ForwardPass:
    """The layers from the targets to the expression, as an adjoint graph has them.

    Parameters
    ----------
    activity : Activity
        What lies between the expression and its targets.
    graph : HighLevelGraph
        Of the expression.
    keep : bool
        Whether segments keep what they know for the backward pass.
    token : str
        Of the derivative: it ends the names of its layers.

    Attributes
    ----------
    layers : dict
        What was made, by name.
    final : str
        What stands for the expression.
    segments, barriers, depth
        See :mod:`dak_diff.graph.segments`.
    columns, blocks, places, picked, forwards
        See below.
    """

    def __init__(self, activity: Activity, graph: HighLevelGraph, keep: bool, token: str):
        self.activity, self.graph, self.keep, self.token = activity, graph, keep, token
        self.targets = activity.targets
        self.layers: dict[str, Any] = {}
        #: layer -> layer that gives its plain value in this graph
        self.values: dict[str, str] = {}
        #: layer -> number of partitions
        self.blocks: dict[str, int] = {}
        #: base -> the layer in which its columns were put back
        self.cut: dict[str, str] = {}
        #: target -> the layer of its columns
        self.columns: list[str] = [target.base for target in self.targets]
        #: result of a segment -> (its forward layer, position)
        self.places: dict[str, tuple[str, int]] = {}
        #: tree -> (forward layer it reads, result of the segment, position)
        self.picked: dict[str, tuple[str, str, int]] = {}
        #: step that is no layer of the user -> what it does, and reads
        self.pseudo: dict[str, tuple[Callable, list[str]]] = {}
        #: segment -> its layer, what that reads and runs
        self.forwards: dict[int, tuple[str, Inputs, ForwardSegment]] = {}
        self._build()

    def _build(self) -> None:
        nodes = self._nodes()
        self.depth, self.segments = gather(nodes)
        self.read_by = readers(nodes)
        self.segment_of = {m: i for i, segment in enumerate(self.segments) for m in segment.members}
        self.barriers = [node.name for node in nodes if node.barrier]
        for depth in range(max(self.depth.values(), default=0) + 1):
            for number, segment in enumerate(self.segments):
                if segment.depth == depth:
                    self._forward_segment(number)
            for name in self.barriers:
                if self.depth[name] == depth:
                    self._forward_barrier(name)

    def _nodes(self) -> list[LayerNode]:
        touched: set[str] = set()
        nodes: list[LayerNode] = []

        def add(name: str, reads: list[str], barrier: bool = False) -> None:
            touched.add(name)
            nodes.append(LayerNode(name, tuple(r for r in dict.fromkeys(reads) if r in touched), barrier))

        for name in self.activity.order:
            layer = self.graph.layers[name]
            if self.activity.states[name] is State.KEPT:
                self.layers[name] = repaired(layer)
            else:
                reads = [self.source(name, dep) for dep in self.activity.upstream(name)]
                add(name, reads, barrier=not isinstance(layer, Blockwise))
            for i, target in enumerate(self.targets):
                if target.base == name and not target.on_all_partitions:
                    self._cut_columns(i, target, add)
        self.final = self.cut.get(self.activity.expr.name, self.activity.expr.name)
        return nodes

    def _cut_columns(self, i: int, target: Target, add: Callable) -> None:
        """Two more steps: the columns taken out, where their cotangents are caught, and put back."""
        current = self.cut.get(target.base, target.base)
        paths = tuple(absolute for absolute, _ in target.columns)
        token = tokenize(current, paths, i, self.token)
        column, back = (f"{role}-{label_of(target.base)}-{token}" for role in ("column", "wrt"))
        blocks = target.collection.npartitions
        self.blocks.update({column: blocks, back: blocks})
        self.pseudo[column] = (TakeColumns(paths), [current])
        self.pseudo[back] = (PutColumns(paths), [current, column])
        add(column, [current])
        add(back, [current, column])
        self.columns[i], self.cut[target.base] = column, back

    def source(self, reader: str, dep: str) -> str:
        """What a layer reads for ``dep``: with the columns put back, if they reach it."""
        return self.cut.get(dep, dep) if reader in self.activity.arrived else dep

    def is_active(self, name: str) -> bool:
        """Whether a value carries a derivative from one task to another."""
        if name in self.pseudo or any(t.base == name and t.on_all_partitions for t in self.targets):
            return True
        return self.activity.states.get(name) is State.ACTIVE

    def new_name(self, role: str, label: str, *what: Any) -> str:
        """A name of this derivative for a new layer."""
        return f"{role}-{label}-{tokenize(what, self.token)}"

    def value_of(self, name: str) -> str:
        """The layer that gives the plain value of a layer; results of segments are taken out here."""
        if name in self.places and name not in self.values:
            forward, position = self.places[name]
            new = self.new_name("value", label_of(name), name)
            blocks = {forward: (self.blocks[name],)}
            self.layers[new] = partitionwise(new, PickValue(position), [(forward, ("i",))], blocks)
            self.values[name] = new
        return self.values.get(name, name)

    def _forward_barrier(self, name: str) -> None:
        layer, upstream = self.graph.layers[name], self.activity.upstream(name)
        new = self.new_name("value", label_of(name), name)

        def wrap(fn: Callable) -> Callable:
            held = self.activity.held(name, fn)
            return Compose(settle, OnPrimals(held, label_of(name), self.activity.owner, name))

        self.values[name], self.blocks[name] = new, len(layer.get_output_keys())
        sources = {dep: self.source(name, dep) for dep in upstream}
        if isinstance(layer, AwkwardTreeReductionLayer) and sources[layer.name_input] in self.segment_of:
            source = sources[layer.name_input]
            _, position = self.places[source]
            layer = copy.copy(layer)
            layer.concat_func = Compose(layer.concat_func, PickValues(position))
            read = self._for_trees(self.segment_of[source])
            rename = {layer.name_input: read}
            self.picked[new] = (read, source, position)
        else:
            rename = {dep: self.value_of(source) for dep, source in sources.items()}
        mapped = map_layer(layer, new, wrap, rename, upstream)
        tree = isinstance(mapped, AwkwardTreeReductionLayer)
        self.layers[new] = ExpandedTree(mapped) if tree else mapped

    def _for_trees(self, number: int) -> str:
        """What trees read of a segment, taken out: residuals and cotangents stay where they are made."""
        forward, _, fn = self.forwards[number]
        positions = tuple(i for i, name in enumerate(fn.outputs) if self._is_reduced(name))
        new = self.new_name("value", label_of(forward).removeprefix("fwd-"), forward, positions)
        if new not in self.layers:
            blocks = {forward: (len(self.layers[forward]),)}
            self.layers[new] = partitionwise(new, KeepValues(positions), [(forward, ("i",))], blocks)
        return new

    def _is_reduced(self, name: str) -> bool:
        layers = (self.graph.layers.get(reader) for reader in self.read_by.get(name, ()))
        return any(isinstance(layer, AwkwardTreeReductionLayer) for layer in layers)

    def _forward_segment(self, number: int) -> None:
        segment = self.segments[number]
        members = set(segment.members)
        inputs = Inputs()
        steps = []
        for name in segment.members:
            if name in self.pseudo:
                fn, reads = self.pseudo[name]
                resolved = [
                    ("step", r)
                    if r in members
                    else inputs.read(r, self.value_of(r), ("i",), (self.blocks[name],))
                    for r in reads
                ]
            else:
                layer = repaired(self.graph.layers[name])
                self.blocks[name] = len(layer)
                fn = self.activity.held(name, CallTask(layer.task))
                resolved = inputs.resolve(layer, members, partial(self.source, name), self.value_of)
            watched, active = name in self.columns, self.is_active(name)
            steps.append(Step(name, label_of(name), fn, tuple(resolved), watched, active))
        self._emit_forward(number, tuple(steps), inputs)

    def _emit_forward(self, number: int, steps: tuple, inputs: Inputs) -> None:
        segment = self.segments[number]
        outputs = tuple(name for name in segment.members if self._is_needed(name, number))
        active = tuple(self.is_active(n) for n, _ in inputs.operands)
        label = _label([step.label for step in steps if step.name not in self.pseudo])
        method, owner = self.activity.method, self.activity.owner
        fn = ForwardSegment(steps, outputs, active, method, self.keep, owner)
        new = self.new_name("fwd", label, segment.members)
        self.layers[new] = partitionwise(new, fn, list(inputs.operands.values()), inputs.numblocks)
        self.places.update({name: (new, position) for position, name in enumerate(outputs)})
        self.forwards[number] = (new, inputs, fn)

    def _is_needed(self, name: str, number: int) -> bool:
        outside = any(self.segment_of.get(reader) != number for reader in self.read_by.get(name, ()))
        return outside or name == self.final or name in self.columns


def _label(labels: list[str]) -> str:
    """A few labels that say what a segment is; not those that dask-awkward puts before every reduction."""
    dull = {"getitem", "prepare-axis-none-chunk", "chunk-reducer-non-positional"}
    distinct = list(dict.fromkeys(label for label in labels if label not in dull))
    return "-".join(distinct[-3:]) or "getitem"
