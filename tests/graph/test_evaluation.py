"""A graph run again with other values: what gets a new name, what is read, what is kept."""

from __future__ import annotations

import operator
from concurrent.futures import CancelledError

import awkward as ak
import dask
import dask_awkward as dak
import numpy as np
import pytest
from dask._task_spec import Alias, Task, TaskRef
from dask.callbacks import Callback
from helpers import array_of, collection

import dak_diff as dd
from dak_diff.graph.evaluation import Evaluation, Precomputed, optimised, run, split


class Tasks(Callback):
    """The keys that ran."""

    def __init__(self):
        super().__init__(pretask=lambda key, *_: self.keys.append(key))
        self.keys = []


def small():
    """Two parameters; b needs both, c needs none."""
    return {
        ("p-1", 0): 2.0,
        ("q-1", 0): 3.0,
        "a": Task("a", operator.neg, TaskRef(("p-1", 0))),
        "b": (operator.add, "a", ("q-1", 0)),
        "c": Task("c", abs, -7.0),
        "d": Task("d", operator.mul, TaskRef("b"), TaskRef("c")),
        "e": Alias("e", "d"),
        "f": [("p-1", 0), "c"],
    }


def test_values_take_the_place_of_values():
    evaluation = Evaluation(small(), ["e", "c", "f"], [("p-1", 0), ("q-1", 0)])
    graph, keys = evaluation.at({("p-1", 0): 5.0, ("q-1", 0): 1.0}, "one")
    assert keys == ["e-one", "c", "f-one"]
    assert dask.get(graph, keys) == (-28.0, 7.0, [5.0, 7.0])
    assert set(graph) == {
        ("p-1", 0, "one"), ("q-1", 0, "one"), "a-one", "b-one", "c", "d-one", "e-one", "f-one"
    }  # fmt: skip


def test_names_stay_so_that_groups_do():
    """A cluster never forgets the group of a task: the name of its key, up to the content of the graph."""
    distributed = pytest.importorskip("distributed")
    evaluation = Evaluation(small(), ["d", "f"], [("p-1", 0), ("q-1", 0)])
    groups = [
        {
            distributed.utils.key_split_group(key)
            for key in evaluation.at(dict.fromkeys(small(), 1.0), token)[0]
        }
        for token in ("0123abcd", "4567cdef")
    ]
    assert groups[0] == groups[1] == {"p-1", "q-1", "a", "b", "c", "d", "e", "f"}


def test_tasks_that_read_only_parameters_are_marked_as_roots():
    graph, _ = Evaluation(small(), ["d", "f"], [("p-1", 0), ("q-1", 0)]).at(
        {("p-1", 0): 5.0, ("q-1", 0): 1.0}, "one"
    )
    assert {key for key, node in graph.items() if isinstance(node, Task) and node.data_producer} == {"a-one"}
    assert not small()["a"].data_producer


def test_a_parameter_that_is_not_in_the_graph_is_no_harm():
    evaluation = Evaluation(small(), ["c"], ["elsewhere"])
    assert evaluation.at({"elsewhere": 1.0}, "one")[1] == ["c"]


def loss_of(x, p, q):
    y = x.pt * (1 + p)
    return dak.sum(y[y > 1] ** 2) * q[0] + np.log(dak.sum(x.eta * q[1]))


@pytest.fixture
def parameters():
    return [dd.parameter(0.2, name="p"), dd.parameter([1.5, 0.5], name="q")]


@pytest.fixture
def collections(parameters):
    x = collection(array_of("jets"), [5, 3, 4])
    value, gradients = dd.value_and_grad(loss_of(x, *parameters), parameters)
    return [value, *gradients]


def fresh(p, q):
    again = [dd.parameter(p, name="other p"), dd.parameter(q, name="other q")]
    value, gradients = dd.value_and_grad(loss_of(collection(array_of("jets"), [5, 3, 4]), *again), again)
    return dask.compute(value, *gradients)


def at(evaluation, parameters, p, q, token):
    return evaluation.at(dict(zip([x.key for x in parameters], (p, np.array(q)), strict=True)), token)


def downstream(graph, start):
    """By definition: whatever reads something that is downstream."""
    found = set(start)
    while True:
        more = {key for key, node in graph.items() if found.intersection(node.dependencies)} - found
        if not more:
            return found
        found |= more


def test_what_depends_on_the_values_is_renamed_and_nothing_else(collections, parameters):
    evaluation = optimised(collections, parameters)
    one, _ = at(evaluation, parameters, 0.3, [1.0, 2.0], "one")
    two, _ = at(evaluation, parameters, 0.4, [1.0, 2.0], "two")
    for graph, token in ((one, "one"), (two, "two")):
        values = [(*p.key, token) for p in parameters]
        assert set(values) <= set(graph)
        assert {key for key in graph if key[-1] == token} == downstream(graph, values)
    same = set(one) & set(two)
    assert same
    assert all(one[key] is two[key] for key in same)
    assert {key[:-1] for key in set(one) - same} == {key[:-1] for key in set(two) - same}


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_equal_to_a_fresh_graph(collections, parameters, keep, seed):
    rng = np.random.default_rng(seed)
    p, q = float(rng.uniform(-0.5, 0.5)), rng.uniform(0.5, 2, 2)
    if keep:
        kept, (evaluation,) = split([collections], parameters)
    else:
        evaluation = optimised(collections, parameters)
    graph, keys = at(evaluation, parameters, p, q, "now")
    if keep:
        graph.update(kept.on(dask.get))
    for got, want in zip(dask.get(graph, keys), fresh(p, q), strict=True):
        np.testing.assert_array_equal(got, want)


def test_a_task_a_partition_as_with_compute(collections, parameters):
    evaluation = optimised(collections, parameters)
    graph, keys = at(evaluation, parameters, 0.3, [1.0, 2.0], "one")
    with Tasks() as here:
        dask.get(graph, keys)
    with Tasks() as there:
        dask.compute(*collections)
    assert sorted(str(k) for k in there.keys) == sorted(
        str(k[:-1] if k[-1] == "one" else k) for k in here.keys
    )


def test_what_is_kept_runs_once(collections, parameters):
    kept, (evaluation,) = split([collections], parameters)
    with Tasks() as first:
        results = kept.on(dask.get)
    with Tasks() as second:
        assert kept.on(dask.get) is results
    assert set(results) <= set(first.keys)
    assert not second.keys
    graph, keys = at(evaluation, parameters, 0.3, [1.0, 2.0], "one")
    graph.update(results)
    with Tasks() as rest:
        dask.get(graph, keys)
    assert all(key[-1] == "one" for key in rest.keys)


def run_small(schedule, kept=None):
    evaluation = Evaluation(small(), ["d"], [("p-1", 0), ("q-1", 0)])
    span = {"name": ("ours",), "ids": ("1",)}
    return run(schedule, evaluation, kept, {("p-1", 0): 5.0, ("q-1", 0): 1.0}, "one", span)


def test_all_runs_are_in_one_span_unless_the_user_opened_one():
    spans = []

    def schedule(graph, keys):
        spans.append(dask.get_annotations()["span"]["name"])
        return dask.get(graph, keys)

    with dask.annotate(span={"name": ("theirs",), "ids": ("2",)}):
        assert run_small(schedule) == [-28.0]
    assert run_small(schedule) == [-28.0]
    assert spans == [("theirs",), ("ours",)]
    assert not dask.get_annotations()


def test_what_is_cancelled_in_this_process_is_not_run_again():
    asked = []

    def schedule(graph, keys):
        asked.append(keys)
        raise CancelledError

    with pytest.raises(CancelledError):
        run_small(schedule)
    assert len(asked) == 1


def test_what_was_forgotten_is_computed_again():
    kept = Precomputed({"c": Task("c", abs, -7.0)}, ["c"])
    assert run_small(dask.get, kept) == [-28.0]
    kept.forget()
    with Tasks() as again:
        kept.on(dask.get)
    assert again.keys == ["c"]


def test_nothing_to_keep():
    assert Precomputed({}, []).on(dask.get) == {}


def test_results_that_need_no_parameter_are_kept(parameters):
    x = collection(array_of("flat"), [12])
    value, gradient = dd.value_and_grad(dak.sum(x), parameters[0], disconnected="zero")
    kept, (evaluation,) = split([[value, gradient]], parameters[:1])
    graph, keys = evaluation.at({parameters[0].key: 7.0}, "one")
    graph.update(kept.on(dask.get))
    assert dask.get(graph, keys) == (ak.sum(array_of("flat")), 0.0)


def test_a_value_that_is_gone_is_an_error(collections, parameters):
    def inline(graph, keys, **_):
        nodes = dask.utils.ensure_dict(graph)
        constants = {p.key: nodes.pop(p.key) for p in parameters}
        return {key: node.substitute(constants) if hasattr(node, "substitute") else node
                for key, node in nodes.items()}  # fmt: skip

    with dask.config.set(optimizations=[inline]), pytest.raises(RuntimeError, match="exchanged"):
        optimised(collections, parameters)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Parquet files, and the columns that are read of them."""
    pytest.importorskip("pyarrow")
    jets = array_of("jets")
    for i in range(3):
        ak.to_parquet(jets[4 * i : 4 * i + 4], str(tmp_path / f"{i}.parquet"))
    read = []
    io = dak.lib.io.parquet.ak_from_parquet
    upstream = io._load

    def load(*args, **kwargs):
        read.append(kwargs["parquet_columns"])
        return upstream(*args, **kwargs)

    events = dak.from_parquet(str(tmp_path))
    monkeypatch.setattr(io, "_load", load)
    return events, read


@pytest.mark.parametrize("keep", [False, True])
def test_needed_columns_are_read_and_kept_ones_once(files, parameters, keep):
    events, read = files
    # The record itself meets the parameter, so the record is what is kept: with columns that are not there.
    scaled = dak.with_field(events, events.pt * (1 + parameters[0]), "pt")
    collections = list(dd.value_and_grad(dak.sum(scaled.pt * scaled.eta), parameters[0]))
    if keep:
        kept, (evaluation,) = split([collections], parameters[:1])
    else:
        evaluation = optimised(collections, parameters[:1])
    for p in (0.5, 0.7):
        graph, keys = evaluation.at({parameters[0].key: p}, str(p))
        if keep:
            graph.update(kept.on(dask.get))
        value, slope = dask.get(graph, keys)
        total = float(ak.sum(array_of("jets").pt * array_of("jets").eta))
        assert value == pytest.approx((1 + p) * total, rel=1e-14)
        assert slope == pytest.approx(total, rel=1e-14)
    assert len(read) == (3 if keep else 6)
    assert all(
        {c.removesuffix(".list.item").split(".")[-1] for c in columns} == {"pt", "eta"} for columns in read
    )
