"""Layers of a derivative graph: the same kind as the layer they come from, around another function.

Also the cure of an upstream defect: a Scalar that enters a partition-wise layer as an
operand with an index is lost when dask-awkward fuses chains of layers (tasks that do not
exist are asked for, and the scheduler waits for ever). Such an operand enters without an
index here, as a Delayed does.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dask._task_spec import Alias, DataNode, GraphNode, Task, TaskRef, convert_legacy_task
from dask.blockwise import Blockwise, blockwise_token
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask_awkward.layers import AwkwardBlockwiseLayer, AwkwardInputLayer, AwkwardTreeReductionLayer

from dak_diff.errors import NoRuleError
from dak_diff.graph.tasks import CallNode, CallTask, Compose, OnPrimals

__all__ = [
    "CotangentLayer",
    "ExpandedTree",
    "FoldedLayer",
    "as_list",
    "assemble",
    "copied",
    "dependencies",
    "label_of",
    "layer_of",
    "map_layer",
    "operand_name",
    "partitionwise",
    "repaired",
    "single_task",
    "task_nodes",
]

_TREE_NODE = "tree-node-"
_TOKEN = re.compile(r"-[0-9a-f]{32}$")
_OBJECT = re.compile(r"<(?:[\w.\-]*[.\-])?(\w+) object at 0x[0-9a-f]+>")


def label_of(name: str) -> str:
    """A layer name without its token: what the user recognises."""
    return _OBJECT.sub(r"\1", _TOKEN.sub("", name)).strip("-<>")


def layer_of(key: Any) -> str:
    """The layer of a task; the inner nodes of a tree have a name of their own."""
    name: str = key[0] if isinstance(key, tuple) else key
    return name.removeprefix(_TREE_NODE)


class FoldedLayer(MaterializedLayer):
    """A materialised layer that can be mocked: references to any partition fold onto partition 0."""

    def mock(self) -> MaterializedLayer:
        key = min(self.mapping)
        name = key[0]
        node = self.mapping[key]
        folded = {dep: (dep[0], 0) for dep in node.dependencies if isinstance(dep, tuple)}
        return MaterializedLayer({(name, 0): node.substitute(folded, key=(name, 0))})


class ExpandedTree(MaterializedLayer):
    """A tree reduction whose inner nodes can be read by other layers, too."""

    def __init__(self, tree: AwkwardTreeReductionLayer):
        self.tree = tree
        keys = {*tree, *((tree.name_input, i) for i in range(tree.npartitions_input))}
        super().__init__({key: convert_legacy_task(key, task, keys) for key, task in tree.items()})

    def mock(self) -> AwkwardTreeReductionLayer:
        return self.tree.mock()


class CotangentLayer(MaterializedLayer):
    """A materialised layer of cotangents: when only columns are asked for there is nothing in it."""

    def mock(self) -> MaterializedLayer:
        name = min(self.mapping)[0]
        return MaterializedLayer({(name, 0): DataNode((name, 0), None)})


def partitionwise(
    name: str, fn: Callable, operands: list[tuple[Any, Any]], numblocks: Mapping
) -> AwkwardBlockwiseLayer:
    """A layer that calls ``fn`` once for each partition.

    Parameters
    ----------
    operands : list of (operand, index)
        A layer name with index ``("i",)``, or a literal or TaskRef with index None.
    """
    task = Task(name, fn, *(TaskRef(blockwise_token(i)) for i in range(len(operands))))
    return AwkwardBlockwiseLayer.from_blockwise(
        Blockwise(name, ("i",), task, operands, numblocks=dict(numblocks))
    )


def single_task(name: str, fn: Callable, *args: Any) -> FoldedLayer:
    """A layer of one task, of operands that exist once (parameters, reduced scalars)."""
    return FoldedLayer({(name, 0): Task((name, 0), fn, *args)})


def operand_name(operand: Any) -> str | None:
    """Layer name of a blockwise operand that has no index, None for a literal."""
    if isinstance(operand, (TaskRef, Alias)):
        key = operand.key
        return key[0] if isinstance(key, tuple) else key
    return None


def repaired(layer: Any) -> Any:
    """The layer with operands of one block in a layer of many taken without an index."""
    if not isinstance(layer, Blockwise) or not isinstance(layer, AwkwardBlockwiseLayer):
        return layer
    blocks = {n[0] for n in layer.numblocks.values() if n}
    single = {
        name
        for name, index in layer.indices
        if index is not None and isinstance(name, str) and name not in layer.io_deps
        and tuple(layer.numblocks.get(name, ())) == (1,)
    }  # fmt: skip
    if len(blocks) < 2 or not single:
        return layer
    new = copy.copy(layer)
    new.indices = tuple(
        (TaskRef((name, 0)), None) if isinstance(name, str) and name in single else (name, index)
        for name, index in layer.indices
    )
    new.numblocks = {k: v for k, v in layer.numblocks.items() if k not in single}
    tokens = (TaskRef(blockwise_token(i)) for i in range(len(layer.indices)))
    new.task = Task(layer.output, OnPrimals(CallTask(layer.task), label_of(layer.output), ""), *tokens)
    for cached in ("_cached_dict", "_dims"):
        new.__dict__.pop(cached, None)
    return new


def dependencies(layer: Any, known: Mapping[str, Any]) -> set[str]:
    """Names of the layers that a layer of ours refers to."""
    if isinstance(layer, Blockwise):
        read = (
            name if isinstance(name, str) and index is not None else operand_name(name)
            for name, index in layer.indices
        )
        return {name for name in read if name is not None and name in known}
    if isinstance(layer, AwkwardTreeReductionLayer):
        return {layer.name_input}
    keys = {dep for node in layer.mapping.values() for dep in node.dependencies}
    return {key[0] if isinstance(key, tuple) and key[0] in known else layer_of(key) for key in keys}


def map_layer(
    layer: Any,
    new_name: str,
    wrap: Callable[[Callable], Callable],
    rename: Mapping[str, str],
    upstream: Mapping[str, Any],
) -> Any:
    """The layer under a new name, around ``wrap(fn)``, reading renamed layers.

    Parameters
    ----------
    rename : mapping
        Name of a dependency -> name of the layer to read instead.
    upstream : mapping
        The layers it may depend on, by name.
    """
    layer = repaired(layer)
    if isinstance(layer, Blockwise):
        return _map_blockwise(layer, new_name, wrap, rename)
    if isinstance(layer, AwkwardTreeReductionLayer):
        return _map_tree(layer, new_name, wrap, rename)
    if isinstance(layer, ExpandedTree):
        return ExpandedTree(_map_tree(layer.tree, new_name, wrap, rename))
    return _map_materialized(layer, new_name, wrap, rename, upstream)


def copied(layer: Blockwise, new_name: str, rename: Mapping[str, str]) -> Any:
    """A partition-wise layer under a new name, reading renamed layers: it runs once more."""
    if not isinstance(layer, AwkwardInputLayer):
        return _map_blockwise(layer, new_name, lambda fn: fn, rename)
    return AwkwardInputLayer(
        name=new_name,
        inputs=layer.inputs,
        io_func=layer.io_func,
        label=layer.label,
        produces_tasks=layer.produces_tasks,
        creation_info=layer.creation_info,
        annotations=layer.annotations,
    )


def _map_blockwise(layer: Blockwise, new_name: str, wrap: Callable, rename: Mapping[str, str]) -> Any:
    def operand(name: Any, index: Any) -> tuple:
        target = operand_name(name) if index is None else name
        if not isinstance(target, str) or rename.get(target, target) == target:
            return name, index
        return (TaskRef((rename[target], 0)), None) if index is None else (rename[target], index)

    tokens = [TaskRef(blockwise_token(i)) for i in range(len(layer.indices))]
    new = Blockwise(
        new_name,
        layer.output_indices,
        Task(new_name, wrap(CallTask(layer.task)), *tokens),
        [operand(name, index) for name, index in layer.indices],
        numblocks={rename.get(k, k): v for k, v in layer.numblocks.items()},
        concatenate=layer.concatenate,
        new_axes=layer.new_axes,
        output_blocks=layer.output_blocks,
        annotations=layer.annotations,
        io_deps=layer.io_deps,
    )
    return AwkwardBlockwiseLayer.from_blockwise(new)


def as_list(values: list) -> list:
    """What a node of a tree gets, as it is."""
    return values


def _map_tree(
    layer: AwkwardTreeReductionLayer, new_name: str, wrap: Callable, rename: Mapping[str, str]
) -> Any:
    node = wrap(Compose(layer.tree_node_func, layer.concat_func))
    final = wrap(Compose(layer.finalize_func or layer.tree_node_func, layer.concat_func))
    return AwkwardTreeReductionLayer(
        name=new_name,
        name_input=rename.get(layer.name_input, layer.name_input),
        npartitions_input=layer.npartitions_input,
        concat_func=as_list,
        tree_node_func=node,
        finalize_func=final,
        split_every=layer.split_every,
        split_out=layer.split_out,
        tree_node_name=f"{_TREE_NODE}{new_name}",
    )


def task_nodes(layer: Any, upstream: Iterable[Any]) -> dict[Any, GraphNode]:
    """The tasks of a materialised layer that reads ``upstream``, old-style tuples converted."""
    mapping = dict(layer)
    keys = set(mapping).union(*(other.get_output_keys() for other in upstream))
    return {
        key: task if isinstance(task, GraphNode) else convert_legacy_task(key, task, keys)
        for key, task in mapping.items()
    }


def _map_materialized(
    layer: Any, new_name: str, wrap: Callable, rename: Mapping[str, str], upstream: Mapping[str, Any]
) -> MaterializedLayer:
    mapping = task_nodes(layer, upstream.values())
    if not mapping:
        # No partitions: x[7:] of three.
        return FoldedLayer({})

    def new_key(key: Any) -> Any:
        if isinstance(key, tuple) and key in mapping:
            return (new_name if key[0] == layer_name else f"{new_name}-{key[0]}", *key[1:])
        if isinstance(key, tuple) and key[0] in rename:
            return (rename[key[0]], *key[1:])
        if isinstance(key, tuple) and layer_of(key) in rename:
            return (_TREE_NODE + rename[layer_of(key)], *key[1:])
        return (rename[key], 0) if isinstance(key, str) and key in rename else key

    partitioned = [key for key in mapping if isinstance(key, tuple)]
    if not partitioned:
        raise NoRuleError(
            f"no derivative rule for the tasks of dask.delayed in layer {label_of(next(iter(mapping)))!r}: "
            "put the function into dak.map_partitions, which takes parameters and scalars"
        )
    layer_name = min(partitioned, key=len)[0]
    tasks: dict[Any, GraphNode] = {}
    for key, node in mapping.items():
        if isinstance(node, Alias):
            tasks[new_key(key)] = Alias(new_key(key), new_key(node.target))
            continue
        order = tuple(sorted(node.dependencies, key=str))
        refs = (TaskRef(new_key(dep)) for dep in order)
        tasks[new_key(key)] = Task(new_key(key), wrap(CallNode(node, order)), *refs)
    return CotangentLayer(tasks) if isinstance(layer, CotangentLayer) else FoldedLayer(tasks)


def assemble(layers: Mapping[str, Any], graph: HighLevelGraph, output: str) -> HighLevelGraph:
    """The graph of ``output``: those of ``layers`` that it needs; ``graph`` knows the old ones."""
    needed: dict[str, set[str]] = {}
    stack = [output]
    while stack:
        name = stack.pop()
        if name in needed:
            continue
        old = name in graph.layers
        needed[name] = set(graph.dependencies.get(name, ())) if old else dependencies(layers[name], layers)
        needed[name].discard(name)
        stack.extend(needed[name])
    # In the order in which they were made: sets of names have another in each process.
    return HighLevelGraph({name: layer for name, layer in layers.items() if name in needed}, needed)
