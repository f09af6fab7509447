"""Reverse mode over a graph: the transposed adjoint graph.

Each segment of the forward pass (:mod:`dak_diff.graph.forward_pass`) gets a layer ``vjp-<labels>``
(cotangents of its results to cotangents of its inputs). Every edge turns round: what a value
used by all partitions receives is summed by a tree, reductions and other materialised layers
are transposed task by task, and what several consumers give back is added. Nothing runs.
"""

from __future__ import annotations

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
    SeedCotangent,
    SpreadSum,
    SumCotangents,
    TakeGradient,
)
from dak_diff.graph.forward_pass import ForwardPass
from dak_diff.graph.histograms import LazyHistogram
from dak_diff.graph.layers import (
    CotangentLayer,
    as_list,
    assemble,
    copied,
    dependencies,
    label_of,
    partitionwise,
    repaired,
    single_task,
)
from dak_diff.graph.seeds import Operand
from dak_diff.graph.segment_tasks import (
    Backward,
    ForwardBackward,
    Recompute,
    TransposeTask,
)
from dak_diff.graph.sums import is_sum_of_alike, is_sum_of_numbers, node_size
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
        token = tokenize(*of_activity, keep, seed.token, self.node_size)
        #: tree -> inner node that others read -> what gives cotangents to it
        self.inner: dict[str, dict[Any, list[tuple[Any, int | None]]]] = {}
        #: layers of one task, whose result is the same for all partitions
        self.once: set[str] = set()
        #: layer -> (layer of cotangents, entry to take)
        self.given: dict[str, list[tuple[str, int | None]]] = {}
        if seed.graph is not None:
            self.graph = HighLevelGraph.merge(self.graph, seed.graph)
        self.forward = ForwardPass(activity, self.graph, keep, token)
        self.layers = self.forward.layers
        if seed.graph is not None:
            for name, layer in seed.graph.layers.items():
                self.layers.setdefault(name, repaired(layer))

    def _backward(self) -> None:
        self._seed_output()
        for depth in range(max(self.forward.depth.values(), default=0), -1, -1):
            for name in reversed(self.forward.barriers):
                if self.forward.depth[name] == depth:
                    self._backward_barrier(name)
            for number, segment in enumerate(self.forward.segments):
                if segment.depth == depth:
                    self._backward_segment(number)

    def _seed_output(self) -> None:
        value, label = self.forward.value_of(self.forward.final), label_of(self.expr.name)
        name = self.forward.new_name("seed", label, value)
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
        self.given[self.forward.final] = [(name, None)]

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
        new = self.forward.new_name("add-cotangents", label_of(name), name, given)
        fn = AddCotangents(tuple(position for _, position in given))
        layers = [layer for layer, _ in given]
        if self.once.issuperset(layers) or self.forward.blocks.get(name, 1) == 1:
            self.layers[new] = single_task(new, fn, *(TaskRef((layer, 0)) for layer in layers))
            self.once.add(new)
        else:
            operands = [self._operand(layer) for layer in layers]
            self.layers[new] = partitionwise(
                new, fn, operands, self._blocks(layers, self.forward.blocks[name])
            )
        self.given[name] = [(new, None)]
        return new

    def _once_more(self, name: str) -> str:
        """The name of a layer that reads and computes again what must not be held until the backward pass."""
        layer = self.layers[name]
        if self.activity.states.get(name) is not State.KEPT or not isinstance(layer, Blockwise):
            return name
        new = self.forward.new_name("again", label_of(name), name)
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
        forward, inputs, fn = self.forward.forwards[number]
        found: dict[int, str] = {}
        for position, name in enumerate(fn.outputs):
            layer = self._cotangent(name) if self.forward.is_active(name) else None
            if layer is not None:
                found[position] = layer
        watched = [step.name for step in fn.steps if step.watched]
        if not found or not (any(fn.active) or watched):
            return
        positions, cotangents = tuple(found), list(found.values())
        blocks = self.forward.blocks[self.forward.segments[number].members[0]]
        label = forward.removeprefix("fwd-").rsplit("-", 1)[0]
        counts = self._blocks(cotangents, blocks)
        before = inputs.numblocks
        operands = [*inputs.operands.values(), *map(self._operand, cotangents)]
        if not self._waits_for(cotangents, forward):
            new = forward
            both = ForwardBackward(label, positions, fn)
            self.layers[new] = partitionwise(new, both, operands, before | counts)
        elif self.keep:
            new = self.forward.new_name("vjp", label, forward, cotangents)
            kept = [(forward, ("i",)), *map(self._operand, cotangents)]
            counts[forward] = (blocks,)
            self.layers[new] = partitionwise(new, Backward(label, positions), kept, counts)
        else:
            new = self.forward.new_name("vjp", label, forward, cotangents)
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
        new = self.forward.new_name("cotangents", label, backward, entries)
        counts = {backward: (blocks,)}
        self.layers[new] = partitionwise(new, KeepCotangents(entries), [(backward, ("i",))], counts)
        return new

    def _tree_sum(self, name: str, layer: str, entry: int, blocks: int) -> str:
        new = self.forward.new_name("sum-cotangents", label_of(name), name, layer, entry)
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
        value, picked = self.forward.value_of(name), None
        cotangent, inner = self._cotangent(name), self.inner.get(value, {})
        if (cotangent is None and not inner) or not self.forward.is_active(name):
            return
        if value in self.forward.picked:
            forward, source, picked = self.forward.picked[value]
            if cotangent is not None and self._backward_sum(name, source, cotangent):
                return
            sources = {forward: source}
        else:
            upstream = (self.forward.source(name, dep) for dep in self.activity.upstream(name))
            sources = {self.forward.value_of(source): source for source in upstream}
        transposed = TransposedLayer(
            self.layers[value],
            value,
            cotangent,
            self.forward.new_name("vjp", label_of(name), value, cotangent, inner),
            {v: self.forward.is_active(s) for v, s in sources.items()},
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
            new = self.forward.new_name("cotangents", label_of(source), source, transposed.name)
            count = self.forward.blocks.get(source) or len(self.layers[source_value].get_output_keys())
            self.forward.blocks[source] = count
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
        new = self.forward.new_name("vjp", label_of(name), name, cotangent)
        self.layers[new] = single_task(new, fn, TaskRef((cotangent, 0)))
        self.once.add(new)
        self.given.setdefault(source, []).append((new, None))
        return True

    def value(self) -> tuple[HighLevelGraph, str]:
        """The graph of the value that comes with the gradient, and the name of its layer."""
        name = self.forward.value_of(self.forward.final)
        return assemble(self.layers, self.graph, name), name

    def gradients(self) -> list[tuple[HighLevelGraph, str]]:
        """For each target the graph of its gradient, and the name of its layer."""
        self._backward()
        return [self._gradient(i, target) for i, target in enumerate(self.targets)]

    def _gradient(self, i: int, target: Target) -> tuple[HighLevelGraph, str]:
        column = self.forward.columns[i]
        name = self.forward.new_name("vjp-gradient", label_of(target.base), target.columns, column)
        operands: list[tuple[Any, Any]]
        upstream = target.base in self.activity.states
        if not upstream:
            self._know(target.collection)
        if target.on_all_partitions:
            cotangent = self._cotangent(column) if upstream else None
            given = None if cotangent is None else TaskRef((cotangent, 0))
            value = TaskRef((self.forward.value_of(column) if upstream else target.collection.name, 0))
            self.layers[name] = single_task(name, TakeGradient(()), value, given)
            return assemble(self.layers, self.graph, name), name
        if not upstream:
            fn, operands = TakeGradient(()), [(target.collection.name, ("i",)), self._operand(None)]
        else:
            forward, position = self.forward.places[column]
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
