"""Reverse mode over a graph: the transposed adjoint graph.

The touched partition-wise layers are gathered into segments; each gets two layers:
``fwd-<labels>`` (its results, and its transpose held as data) and ``vjp-<labels>``
(cotangents of its results to cotangents of its inputs). Every edge turns round: what a value
used by all partitions receives is summed by a tree, reductions and other materialised layers
are transposed task by task, and what several consumers give back is added. Nothing runs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import dask_awkward as dak
import numpy as np
from dask._task_spec import DataNode, GraphNode, Task, TaskRef
from dask.base import tokenize
from dask.blockwise import BlockIndex, Blockwise
from dask.highlevelgraph import HighLevelGraph
from dask_awkward.layers import AwkwardTreeReductionLayer

from dak_diff.engine.histogram_axes import axes_grow
from dak_diff.engine.loaded import histogram_types
from dak_diff.graph.active import Activity, State
from dak_diff.graph.cotangent_tasks import (
    AddCotangents,
    KeepCotangents,
    KeepValues,
    PickValue,
    PickValues,
    PutColumns,
    SeedCotangent,
    SpreadSum,
    SumCotangents,
    TakeColumns,
    TakeGradient,
)
from dak_diff.graph.histograms import LazyHistogram
from dak_diff.graph.layers import (
    CotangentLayer,
    ExpandedTree,
    as_list,
    assemble,
    copied,
    dependencies,
    label_of,
    map_layer,
    partitionwise,
    repaired,
    single_task,
)
from dak_diff.graph.seeds import Operand
from dak_diff.graph.segment_tasks import (
    Backward,
    ForwardBackward,
    ForwardSegment,
    Recompute,
    Step,
    TransposeTask,
    settle,
)
from dak_diff.graph.segments import Inputs, LayerNode, gather, readers
from dak_diff.graph.sums import is_sum_of_alike, is_sum_of_numbers, node_size
from dak_diff.graph.tasks import CallTask, Compose, OnPrimals
from dak_diff.graph.transposed_layer import TransposedLayer
from dak_diff.graph.wrt import Target

__all__ = ["Reverse"]


class Reverse:
    """The adjoint graph of one expression.

    Parameters
    ----------
    activity : Activity
        What lies between the expression and its targets.
    seed : Operand
        The cotangent of the expression.
    keep : bool
        Keep what the forward pass knows until the backward pass; otherwise run it again.
    """

    def __init__(self, activity: Activity, seed: Operand, keep: bool = True):
        self.activity, self.seed, self.keep = activity, seed, keep
        self.graph, self.expr, self.targets = activity.graph, activity.expr, activity.targets
        bases = [(t.base, t.columns) for t in self.targets]
        self.node_size = node_size()
        # With the seed: a task that makes both passes knows it.
        of_activity = (activity.method, bases, self.expr.name, activity.owner)
        self.token = tokenize(*of_activity, keep, seed.token, self.node_size)
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
        #: tree -> inner node that others read -> what gives cotangents to it
        self.inner: dict[str, dict[Any, list[tuple[Any, int | None]]]] = {}
        #: layers of one task, whose result is the same for all partitions
        self.once: set[str] = set()
        #: layer -> (layer of cotangents, entry to take)
        self.given: dict[str, list[tuple[str, int | None]]] = {}
        self.pseudo: dict[str, tuple[Callable, list[str]]] = {}
        self.forwards: dict[int, tuple[str, Inputs, ForwardSegment]] = {}
        if seed.graph is not None:
            self.layers.update({n: repaired(layer) for n, layer in seed.graph.layers.items()})
            self.graph = HighLevelGraph.merge(self.graph, seed.graph)
        self._build()

    # ---------------------------------------------------------------- the layers, and columns cut out

    def _build(self) -> None:
        nodes = self._nodes()
        self.depth, self.segments = gather(nodes)
        self.read_by = readers(nodes)
        self.owner = {m: i for i, segment in enumerate(self.segments) for m in segment.members}
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
                reads = [self._source(name, dep) for dep in self.activity.upstream(name)]
                add(name, reads, barrier=not isinstance(layer, Blockwise))
            for i, target in enumerate(self.targets):
                if target.base == name and not target.on_all_partitions:
                    self._cut_columns(i, target, add)
        self.final = self.cut.get(self.expr.name, self.expr.name)
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

    def _source(self, reader: str, dep: str) -> str:
        """What a layer reads for ``dep``: with the columns put back, if they reach it."""
        return self.cut.get(dep, dep) if reader in self.activity.arrived else dep

    def _is_active(self, name: str) -> bool:
        """Whether a value carries a derivative from one task to another."""
        if name in self.pseudo or any(t.base == name and t.on_all_partitions for t in self.targets):
            return True
        return self.activity.states.get(name) is State.ACTIVE

    # ---------------------------------------------------------------- forward

    def _new_name(self, role: str, label: str, *what: Any) -> str:
        return f"{role}-{label}-{tokenize(what, self.token)}"

    def _value(self, name: str) -> str:
        """The layer that gives the plain value of a layer; results of segments are taken out here."""
        if name in self.places and name not in self.values:
            forward, position = self.places[name]
            new = self._new_name("value", label_of(name), name)
            blocks = {forward: (self.blocks[name],)}
            self.layers[new] = partitionwise(new, PickValue(position), [(forward, ("i",))], blocks)
            self.values[name] = new
        return self.values.get(name, name)

    def _forward_barrier(self, name: str) -> None:
        layer, upstream = self.graph.layers[name], self.activity.upstream(name)
        new = self._new_name("value", label_of(name), name)

        def wrap(fn: Callable) -> Callable:
            held = self.activity.held(name, fn)
            return Compose(settle, OnPrimals(held, label_of(name), self.activity.owner, name))

        self.values[name], self.blocks[name] = new, len(layer.get_output_keys())
        sources = {dep: self._source(name, dep) for dep in upstream}
        if isinstance(layer, AwkwardTreeReductionLayer) and sources[layer.name_input] in self.owner:
            source = sources[layer.name_input]
            _, position = self.places[source]
            layer = copy.copy(layer)
            layer.concat_func = Compose(layer.concat_func, PickValues(position))
            read = self._for_trees(self.owner[source])
            rename = {layer.name_input: read}
            self.picked[new] = (read, source, position)
        else:
            rename = {dep: self._value(source) for dep, source in sources.items()}
        mapped = map_layer(layer, new, wrap, rename, upstream)
        tree = isinstance(mapped, AwkwardTreeReductionLayer)
        self.layers[new] = ExpandedTree(mapped) if tree else mapped

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
                    else inputs.read(r, self._value(r), ("i",), (self.blocks[name],))
                    for r in reads
                ]
            else:
                layer = repaired(self.graph.layers[name])
                self.blocks[name] = len(layer)
                fn = self.activity.held(name, CallTask(layer.task))
                resolved = inputs.resolve(layer, members, partial(self._source, name), self._value)
            watched, active = name in self.columns, self._is_active(name)
            steps.append(Step(name, label_of(name), fn, tuple(resolved), watched, active))
        self._emit_forward(number, tuple(steps), inputs)

    def _emit_forward(self, number: int, steps: tuple, inputs: Inputs) -> None:
        segment = self.segments[number]
        outputs = tuple(name for name in segment.members if self._is_needed(name, number))
        active = tuple(self._is_active(n) for n, _ in inputs.operands)
        label = _label([step.label for step in steps if step.name not in self.pseudo])
        method, owner = self.activity.method, self.activity.owner
        fn = ForwardSegment(steps, outputs, active, method, self.keep, owner)
        new = self._new_name("fwd", label, segment.members)
        self.layers[new] = partitionwise(new, fn, list(inputs.operands.values()), inputs.numblocks)
        self.places.update({name: (new, position) for position, name in enumerate(outputs)})
        self.forwards[number] = (new, inputs, fn)

    def _is_needed(self, name: str, number: int) -> bool:
        outside = any(self.owner.get(reader) != number for reader in self.read_by.get(name, ()))
        return outside or name == self.final or name in self.columns

    # ---------------------------------------------------------------- backward

    def _backward(self) -> None:
        self._seed_output()
        for depth in range(max(self.depth.values(), default=0), -1, -1):
            for name in reversed(self.barriers):
                if self.depth[name] == depth:
                    self._backward_barrier(name)
            for number, segment in enumerate(self.segments):
                if segment.depth == depth:
                    self._backward_segment(number)

    def _seed_output(self) -> None:
        value, label = self._value(self.final), label_of(self.expr.name)
        name = self._new_name("seed", label, value)
        fn = SeedCotangent(label)
        if isinstance(self.expr, dak.Array):
            blocks = (self.expr.npartitions,)
            operands = [(value, ("i",)), self.seed.as_operand(), (BlockIndex(blocks), ("i",))]
            names = [value, *([self.seed.name] if self.seed.name and self.seed.partitioned else [])]
            self.layers[name] = partitionwise(name, fn, operands, dict.fromkeys(names, blocks))
        else:
            # The cotangent of a number does not depend on the number.
            known = self._stand_in(self.expr.name)
            layer = single_task(
                name, fn, TaskRef((value, 0)) if known is None else known, self.seed.as_task_argument()
            )
            # When only columns are asked for, a histogram that grows has not grown.
            grows = isinstance(self.expr, LazyHistogram)
            self.layers[name] = CotangentLayer(layer.mapping) if grows else layer
            self.once.add(name)
        self.given[self.final] = [(name, None)]

    def _stand_in(self, name: str) -> Any:
        """For a value of which only the type matters: not a number, in the place of a number."""
        sample = self.activity.samples.get(name)
        if isinstance(sample, (float, np.floating)):
            return type(sample)("nan")
        if isinstance(sample, histogram_types()):
            return None if axes_grow(sample) else sample
        return float("nan") if isinstance(sample, (int, np.integer)) else None

    def _cotangent(self, name: str) -> str | None:
        """The layer of the cotangents of a value: the sum of what its consumers gave."""
        given = self.given.get(name)
        if not given:
            return None
        if len(given) == 1 and given[0][1] is None:
            return given[0][0]
        new = self._new_name("add-cotangents", label_of(name), name, given)
        fn = AddCotangents(tuple(position for _, position in given))
        layers = [layer for layer, _ in given]
        if self.once.issuperset(layers) or self.blocks.get(name, 1) == 1:
            self.layers[new] = single_task(new, fn, *(TaskRef((layer, 0)) for layer in layers))
            self.once.add(new)
        else:
            operands = [self._operand(layer) for layer in layers]
            self.layers[new] = partitionwise(new, fn, operands, self._blocks(layers, self.blocks[name]))
        self.given[name] = [(new, None)]
        return new

    def _for_trees(self, number: int) -> str:
        """What trees read of a segment, taken out: residuals and cotangents stay where they are made."""
        forward, _, fn = self.forwards[number]
        positions = tuple(i for i, name in enumerate(fn.outputs) if self._is_reduced(name))
        new = self._new_name("value", label_of(forward).removeprefix("fwd-"), forward, positions)
        if new not in self.layers:
            blocks = {forward: (len(self.layers[forward]),)}
            self.layers[new] = partitionwise(new, KeepValues(positions), [(forward, ("i",))], blocks)
        return new

    def _is_reduced(self, name: str) -> bool:
        layers = (self.graph.layers.get(reader) for reader in self.read_by.get(name, ()))
        return any(isinstance(layer, AwkwardTreeReductionLayer) for layer in layers)

    def _once_more(self, name: str) -> str:
        """The name of a layer that reads and computes again what must not be held until the backward pass."""
        layer = self.layers[name]
        if self.activity.states.get(name) is not State.KEPT or not isinstance(layer, Blockwise):
            return name
        new = self._new_name("again", label_of(name), name)
        rename = {dep: self._once_more(dep) for dep in dependencies(layer, self.layers)}
        self.layers[new] = copied(layer, new, rename)
        return new

    def _operand(self, layer: str | None) -> tuple[Any, Any]:
        """A layer of cotangents for a partition-wise layer, or that there are none."""
        if layer is None:
            return DataNode(None, None), None
        return (TaskRef((layer, 0)), None) if layer in self.once else (layer, ("i",))

    def _blocks(self, layers: Iterable[str], blocks: int) -> dict[str, tuple[int, ...]]:
        return {layer: (blocks,) for layer in layers if layer not in self.once}

    def _waits_for(self, layers: Iterable[str], forward: str) -> bool:
        """Whether layers need to know what a forward layer gives."""
        stack, seen = list(layers), set()
        while stack:
            name = stack.pop()
            if name == forward:
                return True
            # What the user made waits for nothing that was made here.
            if name not in seen and name not in self.graph.layers:
                seen.add(name)
                stack.extend(dependencies(self.layers[name], self.layers))
        return False

    def _backward_segment(self, number: int) -> None:
        forward, inputs, fn = self.forwards[number]
        found: dict[int, str] = {}
        for position, name in enumerate(fn.outputs):
            layer = self._cotangent(name) if self._is_active(name) else None
            if layer is not None:
                found[position] = layer
        watched = [step.name for step in fn.steps if step.watched]
        if not found or not (any(fn.active) or watched):
            return
        positions, cotangents = tuple(found), list(found.values())
        blocks = self.blocks[self.segments[number].members[0]]
        label = forward.removeprefix("fwd-").rsplit("-", 1)[0]
        counts = self._blocks(cotangents, blocks)
        before = inputs.numblocks
        operands = [*inputs.operands.values(), *map(self._operand, cotangents)]
        if not self._waits_for(cotangents, forward):
            new = forward
            both = ForwardBackward(label, positions, fn)
            self.layers[new] = partitionwise(new, both, operands, before | counts)
        elif self.keep:
            new = self._new_name("vjp", label, forward, cotangents)
            kept = [(forward, ("i",)), *map(self._operand, cotangents)]
            counts[forward] = (blocks,)
            self.layers[new] = partitionwise(new, Backward(label, positions), kept, counts)
        else:
            new = self._new_name("vjp", label, forward, cotangents)
            again = {name: self._once_more(name) for name in before}
            operands = [(again.get(o, o) if index == ("i",) else o, index) for o, index in operands]
            counts.update({again[name]: blocks for name, blocks in before.items()})
            self.layers[new] = partitionwise(new, Recompute(label, positions, fn), operands, counts)
        given = [
            (name, indexed) for (name, indexed), on in zip(inputs.operands, fn.active, strict=True) if on
        ]
        given += [(name, True) for name in watched]
        summed = tuple(entry for entry, (_, indexed) in enumerate(given) if not indexed)
        read = self._for_sums(label, new, summed, blocks) if 0 < len(summed) < len(given) else new
        for entry, (name, indexed) in enumerate(given):
            part = (new, entry) if indexed else (self._tree_sum(name, read, entry, blocks), None)
            self.given.setdefault(name, []).append(part)

    def _for_sums(self, label: str, backward: str, entries: tuple[int, ...], blocks: int) -> str:
        """What sums over partitions read: the cotangents of columns stay on the worker that made them."""
        new = self._new_name("cotangents", label, backward, entries)
        counts = {backward: (blocks,)}
        self.layers[new] = partitionwise(new, KeepCotangents(entries), [(backward, ("i",))], counts)
        return new

    def _tree_sum(self, name: str, layer: str, entry: int, blocks: int) -> str:
        new = self._new_name("sum-cotangents", label_of(name), name, layer, entry)
        self.layers[new] = AwkwardTreeReductionLayer(
            name=new,
            name_input=layer,
            npartitions_input=blocks,
            concat_func=as_list,
            tree_node_func=SumCotangents(entry),
            split_every=self.node_size,
            tree_node_name=f"tree-node-{new}",
        )
        return new

    def _backward_barrier(self, name: str) -> None:
        value, picked = self._value(name), None
        cotangent, inner = self._cotangent(name), self.inner.get(value, {})
        if (cotangent is None and not inner) or not self._is_active(name):
            return
        if value in self.picked:
            forward, source, picked = self.picked[value]
            if cotangent is not None and self._backward_sum(name, source, cotangent):
                return
            sources = {forward: source}
        else:
            upstream = (self._source(name, dep) for dep in self.activity.upstream(name))
            sources = {self._value(source): source for source in upstream}
        transposed = TransposedLayer(
            self.layers[value],
            value,
            cotangent,
            self._new_name("vjp", label_of(name), value, cotangent, inner),
            {v: self._is_active(s) for v, s in sources.items()},
            partial(
                TransposeTask,
                label=label_of(name),
                method=self.activity.method,
                owner=self.activity.owner,
                picked=picked,
            ),
            [self.layers[v] for v in sources],
            {v: self._stand_in(s) for v, s in sources.items()},
            inner,
        )
        for tree, nodes in transposed.inner.items():
            for key, given in nodes.items():
                self.inner.setdefault(tree, {}).setdefault(key, []).extend(given)
        self.layers[transposed.name] = CotangentLayer(transposed.tasks)
        for source_value, parts in transposed.external.items():
            source = sources[source_value]
            new = self._new_name("cotangents", label_of(source), source, transposed.name)
            count = self.blocks.get(source) or len(self.layers[source_value].get_output_keys())
            self.blocks[source] = count
            tasks: dict[Any, GraphNode] = {}
            for i in range(count):
                refs = parts.get(i, [])
                fn = AddCotangents(tuple(position for _, position in refs))
                key = (new, i)
                tasks[key] = Task(key, fn, *(TaskRef(k) for k, _ in refs)) if refs else DataNode(key, None)
            self.layers[new] = CotangentLayer(tasks)
            self.given.setdefault(source, []).append((new, None))

    def _backward_sum(self, name: str, source: str, cotangent: str) -> bool:
        """Whether the cotangent of a sum over partitions is that of each summand: no tree is walked then."""
        layer = self.graph.layers[name]
        if is_sum_of_numbers(layer):
            fn: Callable = SpreadSum()
        elif is_sum_of_alike(layer, self.activity.samples.get(name)):
            fn = AddCotangents((None,))
        else:
            return False
        # A layer of its own also where nothing changes: what all partitions read must not be fused away.
        new = self._new_name("vjp", label_of(name), name, cotangent)
        self.layers[new] = single_task(new, fn, TaskRef((cotangent, 0)))
        self.once.add(new)
        self.given.setdefault(source, []).append((new, None))
        return True

    # ---------------------------------------------------------------- results

    def value(self) -> tuple[HighLevelGraph, str]:
        """The graph of the value that comes with the gradient, and the name of its layer."""
        name = self._value(self.final)
        return assemble(self.layers, self.graph, name), name

    def gradients(self) -> list[tuple[HighLevelGraph, str]]:
        """For each target the graph of its gradient, and the name of its layer."""
        self._backward()
        return [self._gradient(i, target) for i, target in enumerate(self.targets)]

    def _gradient(self, i: int, target: Target) -> tuple[HighLevelGraph, str]:
        column = self.columns[i]
        name = self._new_name("vjp-gradient", label_of(target.base), target.columns, column)
        operands: list[tuple[Any, Any]]
        upstream = target.base in self.activity.states
        if not upstream:
            self._know(target.collection)
        if target.on_all_partitions:
            cotangent = self._cotangent(column) if upstream else None
            given = None if cotangent is None else TaskRef((cotangent, 0))
            value = TaskRef((self._value(column) if upstream else target.collection.name, 0))
            self.layers[name] = single_task(name, TakeGradient(()), value, given)
            return assemble(self.layers, self.graph, name), name
        if not upstream:
            fn, operands = TakeGradient(()), [(target.collection.name, ("i",)), self._operand(None)]
        else:
            forward, position = self.places[column]
            ((backward, entry),) = self.given.get(column, [(None, None)])
            places = tuple(relative for _, relative in target.columns)
            operands = [(forward, ("i",)), self._operand(backward)]
            if places != ((),):
                self._know(target.collection)
                operands.append((target.collection.name, ("i",)))
            fn = TakeGradient(places, position, entry)
        names = [operand for operand, index in operands if index is not None]
        blocks = dict.fromkeys(names, (target.collection.npartitions,))
        self.layers[name] = partitionwise(name, fn, operands, blocks)
        return assemble(self.layers, self.graph, name), name

    def _know(self, collection: Any) -> None:
        """Layers of a collection that the expression itself does not read."""
        layers = collection.dask.layers
        self.layers.update({n: repaired(x) for n, x in layers.items() if n not in self.layers})
        self.graph = HighLevelGraph.merge(self.graph, collection.dask)


def _label(labels: list[str]) -> str:
    """A few labels that say what a segment is; not those that dask-awkward puts before every reduction."""
    dull = {"getitem", "prepare-axis-none-chunk", "chunk-reducer-non-positional"}
    distinct = list(dict.fromkeys(label for label in labels if label not in dull))
    return "-".join(distinct[-3:]) or "getitem"
