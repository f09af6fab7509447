"""One optimised graph, run again and again with other values of its parameters.

The graph of a derivative is made and optimised once. For each run the new values take the place
of those in the tasks of the parameters, and every task that depends on them gets a key of its own:
a cluster takes two tasks of one key for the same number, whatever is in them.

The scheduler of a cluster never forgets a span, nor the groups of tasks in it. So the new part of a key comes
after the name, which tells the group, and all runs are in one span: what it remembers grows no further.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any

import dask
from dask._task_spec import DataNode, GraphNode, Task, TaskRef, convert_legacy_task
from dask.base import collections_to_dsk
from dask.blockwise import fuse_roots, optimize_blockwise
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.utils import ensure_dict
from dask_awkward.lib.optimize import optimize_columns, rewrite_layer_chains
from dask_awkward.lib.utils import typetracer_nochecks

from dak_diff.parameter import ParameterLayer

__all__ = ["Evaluation", "Precomputed", "optimised", "run", "split"]

Key = Any


class Evaluation:
    """A low-level graph whose parameters can be exchanged.

    Parameters
    ----------
    graph : mapping
        Tasks by key, optimised.
    results : sequence of keys
        What is asked of it.
    parameters : iterable of keys
        The tasks to exchange. One that the results do not need may be missing in the graph.
    """

    def __init__(self, graph: Mapping[Key, Any], results: Sequence[Key], parameters: Iterable[Key]):
        nodes = _nodes(graph)
        self.results = list(results)
        self._parameters = [key for key in parameters if key in nodes]
        changing = _downstream(nodes, self._parameters)
        self._constant = {key: node for key, node in nodes.items() if key not in changing}
        #: task that depends on parameters -> itself, and what it reads that does, too
        self._dependent = {
            key: (nodes[key], [dep for dep in nodes[key].dependencies if dep in changing])
            for key in changing
            if key not in self._parameters
        }
        #: tasks that read nothing but parameters
        self._first = {
            key
            for key, (node, _) in self._dependent.items()
            if isinstance(node, Task) and node.dependencies.issubset(self._parameters)
        }

    def at(self, values: Mapping[Key, Any], token: str) -> tuple[dict[Key, Any], list[Key]]:
        """The graph at these values, and the keys of its results.

        Parameters
        ----------
        values : mapping
            Key of a parameter -> its new value.
        token : str
            Of the content of the values: it ends the key of every task that depends on them.
        """
        renamed = {key: _renamed(key, token) for key in (*self._parameters, *self._dependent)}
        tasks = dict(self._constant)
        for key in self._parameters:
            tasks[renamed[key]] = DataNode(renamed[key], values[key])
        for key, (node, reads) in self._dependent.items():
            tasks[renamed[key]] = node.substitute({dep: renamed[dep] for dep in reads}, key=renamed[key])
        for key in self._first:
            # A scheduler holds such tasks back until a worker has room. It knows them by the sizes of groups,
            # which grow from run to run, or by this mark.
            tasks[renamed[key]]._data_producer = True
        return tasks, [renamed.get(key, key) for key in self.results]


def _renamed(key: Key, token: str) -> Key:
    return (*key, token) if isinstance(key, tuple) else f"{key}-{token}"


def _nodes(graph: Mapping[Key, Any]) -> dict[Key, Any]:
    keys = set(graph)
    nodes: dict[Key, Any] = {}
    for key, task in graph.items():
        # A Future stays what it is: it tells the cluster that the result is there.
        node = task if isinstance(task, TaskRef) else convert_legacy_task(key, task, keys)
        nodes[key] = node if isinstance(node, (GraphNode, TaskRef)) else DataNode(key, node)
    return nodes


def _downstream(nodes: Mapping[Key, Any], start: Iterable[Key]) -> set[Key]:
    """The keys, and all that depend on them."""
    readers: dict[Key, list[Key]] = {}
    for key, node in nodes.items():
        for dep in getattr(node, "dependencies", ()):
            readers.setdefault(dep, []).append(key)
    return _closure(start, readers)


def _closure(start: Iterable[Key], edges: Mapping[Key, Iterable[Key]]) -> set[Key]:
    found: set[Key] = set()
    stack = list(start)
    while stack:
        key = stack.pop()
        if key not in found:
            found.add(key)
            stack.extend(edges.get(key, ()))
    return found


def optimised(collections: Sequence[Any], parameters: Sequence[Any]) -> Evaluation:
    """Collections as ``dask.compute`` would run them, with parameters to exchange.

    Raises
    ------
    RuntimeError
        If an optimisation put the value of a parameter into other tasks.
    """
    graph = HighLevelGraph.merge(*(c.dask for c in collections))
    keys = [c.key for c in collections]
    tasks = ensure_dict(collections_to_dsk(collections))
    needed = graph.cull(keys).layers
    for parameter in parameters:
        if parameter.name in needed and parameter.key not in tasks:
            raise RuntimeError(
                f"the task of {parameter!r} is gone after optimisation: its value may be inside other tasks, "
                "where it cannot be exchanged. Look at dask.config.get('optimizations')."
            )
    return Evaluation(tasks, keys, [p.key for p in parameters])


# -------------------------------------------------------------------- what does not depend on parameters


def split(
    requests: Sequence[Sequence[Any]], parameters: Sequence[Any]
) -> tuple[Precomputed, list[Evaluation]]:
    """What does not depend on the parameters, to be kept, and for each request the rest.

    The columns to read are found for all requests together. Then the graph is cut, and only then are
    tasks fused: fusion would put what can be kept and what cannot into one task.

    Parameters
    ----------
    requests : sequence of sequences of collections
        Each becomes an evaluation.
    parameters : sequence of Parameter
        What will be exchanged.
    """
    collections = [c for request in requests for c in request]
    graph = HighLevelGraph.merge(*(c.dask for c in collections))
    keys = [c.key for c in collections]
    if _wanted("columns"):
        with typetracer_nochecks():
            graph = optimize_columns(graph, keys)
    changing = _closure((p.name for p in parameters), graph.dependents)
    read = {dep for name in changing if name in graph.layers for dep in graph.dependencies[name]}
    border = {
        name
        for name in read.union(c.name for c in collections) - changing
        if not isinstance(graph.layers[name], ParameterLayer)
    }
    needed = graph.cull(set(keys)).layers
    border.intersection_update(needed)
    kept_keys = {name: sorted(needed[name].get_output_keys(), key=str) for name in sorted(border)}
    flat = [key for keys in kept_keys.values() for key in keys]
    before = _closure(border, graph.dependencies)
    kept = Precomputed(_fused(_part(graph, before, {}), flat) if flat else {}, flat)
    stand_ins = {name: MaterializedLayer({k: DataNode(k, None) for k in kept_keys[name]}) for name in border}
    after = {n: () if n in border else graph.dependencies[n] for n in graph.layers}
    evaluations = []
    for request in requests:
        rest = _part(graph, _closure((c.name for c in request), after), stand_ins)
        results = [c.key for c in request]
        evaluations.append(Evaluation(_fused(rest, results), results, [p.key for p in parameters]))
    return kept, evaluations


def _part(graph: HighLevelGraph, names: set[str], stand_ins: Mapping[str, Any]) -> HighLevelGraph:
    return HighLevelGraph(
        {name: stand_ins.get(name, graph.layers[name]) for name in names},
        {name: set() if name in stand_ins else set(graph.dependencies[name]) for name in names},
    )


def _wanted(optimisation: str) -> bool:
    return bool(dask.config.get("awkward.optimization.enabled")) and optimisation in dask.config.get(
        "awkward.optimization.which"
    )


def _fused(graph: HighLevelGraph, keys: list[Key]) -> dict[Key, Any]:
    """The optimisations of dask-awkward that come after that of columns."""
    if _wanted("layer-chains"):
        graph = rewrite_layer_chains(graph, keys)
    graph = fuse_roots(optimize_blockwise(graph, keys=keys), keys=keys)
    return ensure_dict(graph.cull(set(keys)))


class Precomputed:
    """Results that all evaluations read: computed once, where the evaluations run.

    On a cluster they stay in its memory as long as this object lives, elsewhere in this process.

    Parameters
    ----------
    graph : mapping
        The tasks that make them.
    keys : list of keys
        Which results are kept.
    """

    def __init__(self, graph: Mapping[Key, Any], keys: list[Key]):
        self._graph, self._keys = graph, keys
        self._where: Any = None
        self._results: dict[Key, Any] | None = None
        self._lock = threading.Lock()

    def on(self, schedule: Callable) -> dict[Key, Any]:
        """The results as tasks of a graph, computed if they are not at hand where ``schedule`` runs."""
        client = _client(schedule)
        with self._lock:
            if self._results is None or self._where is not client or _is_lost(self._results):
                self._results = None
                if client is None:
                    values = schedule(self._graph, self._keys) if self._keys else []
                    tasks: Any = map(DataNode, self._keys, values)
                else:
                    tasks = client.get(self._graph, self._keys, sync=False) if self._keys else []
                self._where, self._results = client, dict(zip(self._keys, tasks, strict=True))
            return self._results

    def forget(self) -> None:
        """Compute the results anew when they are asked for next."""
        with self._lock:
            self._results = None


def run(
    schedule: Callable,
    evaluation: Evaluation,
    kept: Precomputed | None,
    values: Mapping[Key, Any],
    token: str,
    span: Mapping[str, tuple[str, ...]],
) -> list[Any]:
    """The results of an evaluation at these values.

    Where a cluster lost what the tasks read, because its scheduler was started again for instance, that is
    computed anew and the evaluation run again, once.

    Parameters
    ----------
    schedule : callable
        Where it runs: takes a graph and keys.
    evaluation, values, token
        See :meth:`Evaluation.at`.
    kept : Precomputed, optional
        What the evaluation reads besides.
    span : dict
        "name" and "ids" of the span to which a cluster counts the tasks, unless the caller opened one.
    """

    def once() -> list[Any]:
        graph, results = evaluation.at(values, token)
        if kept is not None:
            graph.update(kept.on(schedule))
        return list(schedule(graph, results))

    with dask.annotate(span=dask.get_annotations().get("span", span)):
        try:
            return once()
        except CancelledError:
            if _client(schedule) is None:
                raise
            if kept is not None:
                kept.forget()
            return once()


def _client(schedule: Callable) -> Any:
    """The cluster behind a scheduler function, None for this machine."""
    distributed, owner = sys.modules.get("distributed"), getattr(schedule, "__self__", None)
    return owner if distributed is not None and isinstance(owner, distributed.Client) else None


def _is_lost(results: Mapping[Key, Any]) -> bool:
    return any(
        getattr(future, "status", None) in ("error", "cancelled", "lost") for future in results.values()
    )
