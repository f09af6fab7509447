"""What a graph will do, asked without data.

Every layer on the way is run once on arrays of length zero, with the real engine. That
tells which layers have floating-point results at all, which rules they will use, and
whether one is missing, before anything is computed. Where a function cannot run on empty
arrays nothing is concluded.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import Any

import awkward as ak
import dask_awkward as dak
import numpy as np
from dask._task_spec import Alias, DataNode, GraphNode, TaskRef, convert_legacy_task
from dask.blockwise import Blockwise
from dask.highlevelgraph import HighLevelGraph
from dask_awkward.layers import AwkwardInputLayer, AwkwardTreeReductionLayer

from dak_diff.engine.item_types import item_types
from dak_diff.engine.transform import used_primitives
from dak_diff.engine.values import Pair, is_float, leaf_values
from dak_diff.errors import NoRuleError
from dak_diff.graph.layers import ExpandedTree
from dak_diff.graph.tasks import CallNode, CallTask, Compose, on_typetracers, primals
from dak_diff.parameter import Parameter
from dak_diff.rules.primitive import Primitive

__all__ = ["Probe", "empty_like", "evaluate", "has_float", "hidden_parameters", "may_be_float"]


def empty_like(collection: Any) -> Any:
    """A value of length zero (of a scalar: the number one) of the type of a collection."""
    if isinstance(collection, Parameter):
        return collection.value
    if isinstance(collection, dak.Scalar):
        return np.dtype(collection.dtype).type(1)
    return _length_zero(collection._meta)


def _length_zero(meta: ak.Array) -> Any:
    return ak.typetracer.length_zero_if_typetracer(meta)


def has_float(collection: Any) -> bool:
    """Whether a collection has floating-point leaves, by its meta."""
    return may_be_float(empty_like(collection))


def may_be_float(value: Any) -> bool:
    """False only if the value has leaves and none is floating point."""
    if isinstance(value, Pair):
        return may_be_float(value.primal)
    if isinstance(value, (ak.Array, ak.Record)) and "unknown" in item_types(value):
        return True
    if isinstance(value, (bool, int, np.integer, np.bool_)):
        return False
    leaves = leaf_values(value)
    return not leaves or any(is_float(leaf) for leaf in leaves)


def hidden_parameters(layer: Any) -> list[Parameter]:
    """Parameters inside the function of a layer, where no graph leads to them."""
    found: list[Parameter] = []
    task = getattr(layer, "task", None)
    stack = [] if task is None else [(task.func, 3), (task.args, 3), (task.kwargs, 3)]
    while stack:
        part, depth = stack.pop()
        if isinstance(part, Parameter):
            found.append(part)
        elif depth and isinstance(part, (list, tuple)):
            stack.extend((p, depth - 1) for p in part)
        elif depth and isinstance(part, dict):
            stack.extend((p, depth - 1) for p in part.values())
        elif depth and isinstance(part, partial):
            stack.extend([(part.func, depth), (part.args, depth), (part.keywords, depth)])
        elif depth and not isinstance(part, (type, ModuleType, ak.Array, GraphNode)):
            stack.append((getattr(part, "__dict__", None), depth - 1))
    return found


_filters = threading.RLock()


class Probe:
    """Runs the layers of one graph on empty arrays, in topological order."""

    def __init__(self, graph: HighLevelGraph, owner: str):
        self._graph, self._owner = graph, owner
        self._values: dict[str, Any] = {}

    def run(self, name: str, layer: Any, wrap: Callable[[Callable], Callable]) -> Any:
        """The value of a layer, wrapped; None if it cannot be known.

        Raises
        ------
        NoRuleError
            If the layer needs a rule that does not exist.
        """
        try:
            value = self._quietly(layer, wrap)
        except NoRuleError:
            raise
        except Exception:
            # A function that cannot run on empty arrays: nothing is concluded from it.
            return None
        self._values[name] = value
        return value

    def seed(self, name: str, seed: Callable) -> None:
        """Put a tangent on the value of a layer."""
        if name in self._values:
            self._values[name] = seed(self._values[name], 1.0)

    def plain(self, name: str) -> None:
        """Forget the derivative of a value that has none."""
        value = self._values[name]
        self._values[name] = value.primal if isinstance(value, Pair) else value

    def samples(self) -> dict[str, Any]:
        """What the layers give on empty arrays, without derivatives."""
        return {name: primals(value, self._owner) for name, value in self._values.items()}

    def primitives(self, layer: Any) -> list[Primitive]:
        """What a layer applies to values that carry a derivative; empty if it cannot be known."""
        used: list[Primitive] = []

        def wrap(fn: Callable) -> Callable:
            return lambda *args: used.extend(used_primitives(fn, args, self._owner))

        try:
            self._quietly(layer, wrap)
        except Exception:
            return []
        return used

    def agrees(self, name: str, layer: Any) -> bool:
        """Whether typetracers say, too, that a layer has no floating-point results.

        What a function makes of an empty array may not be what it makes of a full one; then
        its value is forgotten, and nothing is concluded from it further on.
        """
        read = self._graph.dependencies.get(name, ())
        try:
            metas = {dep: _as_typetracer(primals(self._values[dep], self._owner)) for dep in read}
            agreed = not may_be_float(evaluate(layer, _plainly, metas, self._graph))
        except Exception:
            agreed = False
        if not agreed:
            del self._values[name]
        return agreed

    def _quietly(self, layer: Any, wrap: Callable) -> Any:
        # Empty arrays make NumPy warn of things that are no news. The filters belong to the whole process.
        with _filters, warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return evaluate(layer, wrap, self._values, self._graph)


def _plainly(fn: Callable) -> Callable:
    return lambda *args: on_typetracers(fn, args)


def _as_typetracer(value: Any) -> Any:
    if isinstance(value, ak.Array):
        return ak.Array(value.layout.to_typetracer(forget_length=True), behavior=value.behavior)
    return value


def evaluate(
    layer: Any, wrap: Callable[[Callable], Callable], values: Mapping[str, Any], graph: HighLevelGraph
) -> Any:
    """One partition of a layer, from the values of the layers it reads.

    Raises
    ------
    KeyError
        If one of those is not known.
    """
    if isinstance(layer, AwkwardInputLayer):
        if not layer.is_mockable:
            raise NotImplementedError("a source without meta")
        return _length_zero(layer.io_func.mock())
    if isinstance(layer, Blockwise):
        operands = [_operand(name, index, values) for name, index in layer.indices]
        return wrap(CallTask(layer.task))(*operands)
    layer = layer.tree if isinstance(layer, ExpandedTree) else layer
    if isinstance(layer, AwkwardTreeReductionLayer):
        final = Compose(layer.finalize_func or layer.tree_node_func, layer.concat_func)
        return wrap(final)([values[layer.name_input]])
    mapping = dict(layer)
    key = min((k for k in mapping if isinstance(k, tuple)), key=lambda k: (len(k), k[1:]))
    node = mapping[key]
    node = node if isinstance(node, GraphNode) else convert_legacy_task(key, node, _Keys(graph))
    if isinstance(node, DataNode):
        node = node.value
    if not isinstance(node, GraphNode):
        # Data in the graph itself: what persist leaves, or a parameter.
        return node[:0] if isinstance(node, ak.Array) else node
    order = tuple(sorted(node.dependencies, key=str))
    args = [values[dep[0] if isinstance(dep, tuple) else dep] for dep in order]
    return args[0] if isinstance(node, Alias) else wrap(CallNode(node, order))(*args)


class _Keys:
    """Every key of the layers of a graph, whatever the partition."""

    def __init__(self, graph: HighLevelGraph):
        self.graph = graph

    def __contains__(self, key: Any) -> bool:
        name = key[0] if isinstance(key, tuple) and key else key
        return isinstance(name, str) and name in self.graph.layers


def _operand(name: Any, index: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(name, (TaskRef, Alias)):
        key = name.key
        return values[key[0] if isinstance(key, tuple) else key]
    if index is None:
        return name.value if isinstance(name, DataNode) else name
    return values[name]
