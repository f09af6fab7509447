"""Names and numbers of layers and tasks: what is the same has one name, what differs has two."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import awkward as ak
import dask
import dask_awkward as dak
import numpy as np
import pytest
from dask.highlevelgraph import HighLevelGraph
from helpers import SPLITS, array_of, collection

import dak_diff as dd
from dak_diff.graph.draw import picture_of

# dask-awkward names the chunks of a reduction over partitions at random, hence none here.
PRINT_NAMES = """
import dask_awkward as dak, numpy as np
from helpers import array_of, collection
import dak_diff as dd
x = collection(array_of("jagged"), [5, 3, 4])
p = dd.parameter([1.0, 2.0], name="p")
expr = dak.sum(np.sin(x[x > 1] * p[0]) + p[1], axis=1) / dak.num(x)
for name in sorted(dd.jvp(expr, [x, p], TANGENTS).dask.layers):
    print(name)
"""


@pytest.fixture
def x():
    return collection(array_of("jagged"), SPLITS["3"])


def names_in_a_new_process(seed: str, tangents: str) -> list[str]:
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
    code = PRINT_NAMES.replace("TANGENTS", tangents)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    "tangents", ["None", "[2.0, np.ones(2)]", "[array_of('jagged', 1), np.ones(2)]", "[x, p]"]
)
def test_names_are_the_same_in_every_process(tangents):
    names = names_in_a_new_process("1", tangents)
    assert any(name.startswith("jvp-") for name in names)
    assert any(name.startswith("seed-") for name in names)
    assert names == names_in_a_new_process("2", tangents)


def test_the_same_request_has_the_same_name(x):
    direction = array_of("jagged", 1)
    first, second = (dd.jvp(np.sin(x), x, ak.copy(direction)) for _ in range(2))
    assert first.dask.layers.keys() == second.dask.layers.keys()


@pytest.mark.parametrize(
    "other",
    [
        lambda x: dd.jvp(np.sin(x), x, 2.0),
        lambda x: dd.jvp(np.sin(x), x, array_of("jagged")),
        lambda x: dd.jvp(np.sin(x), x, array_of("jagged", 1)),
        lambda x: dd.jvp(np.sin(x), x, method="dual"),
        lambda x: dd.jvp(np.sin(x), x, method="complex-step"),
        lambda x: dd.jvp(np.sin(x), np.sin(x)),
        lambda x: dd.jvp(np.sin(x), [x, np.sin(x)]),
    ],
)
def test_another_request_has_another_name(x, other):
    assert dd.jvp(np.sin(x), x).name != other(x).name


def test_requests_that_differ_in_pairs(x):
    """Arrays whose memory is used again: the second would find the numbers of the first."""
    names = {dd.jvp(np.sin(x), x, array_of("jagged", seed)).name for seed in range(20)}
    assert len(names) == 20


def test_columns_of_one_record_have_different_names(jets):
    records = collection(jets, SPLITS["3"])
    by_pt, by_eta = (dd.jvp(records.px * records.eta, column) for column in (records.pt, records.eta))
    assert by_pt.name != by_eta.name
    both = dask.compute(by_pt, by_eta)
    assert both[0].to_list() != both[1].to_list()


def test_layers_that_do_not_depend_on_wrt_keep_their_names(x):
    other = collection(array_of("jagged"), SPLITS["3"], "other")
    weight = np.exp(other)[other > 1]
    expr = dak.sum(weight, axis=1) * dak.sum(x, axis=1)
    derivative = dd.jvp(expr, x)
    assert weight.dask.layers.keys() <= derivative.dask.layers.keys()
    assert x.name in derivative.dask.layers


def test_one_layer_for_a_segment(x):
    y = x
    for _ in range(5):
        y = np.sin(y)
    value, tangent = dd.value_and_jvp(y, x)
    assert len(y.dask.layers) == 1 + 5
    # The source, its seed, five operations on pairs, the tangent taken from the last.
    assert len(tangent.dask.layers) == 1 + 1 + 1 + 1
    assert value.dask.layers.keys() - tangent.dask.layers.keys() == {value.name}


def test_masks_are_computed_once(x):
    """The mask hangs on an active layer: it reads the primal of the pair, there is no second sine."""
    y = np.sin(x)
    value, tangent = dd.value_and_jvp(y[y > 0.9], x)
    graph = HighLevelGraph.merge(value.dask, tangent.dask)
    assert y.name not in graph.layers
    assert [box.label for box in picture_of(graph).boxes.values()].count("sin") == 1


def number_of_tasks(*collections):
    return len({key for c in dask.optimize(*collections) for key in c.__dask_graph__().to_dict()})


@pytest.mark.parametrize("split", ["1", "3", "12"])
def test_tasks_of_a_chain(split):
    x = collection(array_of("jagged"), SPLITS[split])
    y = np.exp(np.sin(x) * 2 + 1)
    n = len(SPLITS[split])
    value, tangent = dd.value_and_jvp(y, x)
    assert number_of_tasks(y) == n
    assert number_of_tasks(tangent) == n
    # One forward pass a partition, the value and the tangent taken from it.
    assert number_of_tasks(value, tangent) == 3 * n


def test_tasks_of_a_reduction():
    x = collection(array_of("jagged"), SPLITS["12"])
    total = dak.sum(np.sin(x))
    value, tangent = dd.value_and_jvp(total, x)
    primal_tasks = number_of_tasks(total)
    assert number_of_tasks(tangent) == primal_tasks + 1
    assert number_of_tasks(value, tangent) == primal_tasks + 2


@pytest.mark.parametrize("derivative", [dd.jvp, dd.vjp])
def test_derivatives_by_several_seeds_in_one_graph(derivative, x):
    """Where both passes are one task, its name must tell the cotangent."""
    p = dd.parameter(2.0, name="p")
    expr = dak.sum(p * x**2)
    for wrt in (p, x):
        once, thrice = (derivative(expr, wrt, seed) for seed in (1.0, 3.0))
        first, third = dask.compute(once, thrice)
        np.testing.assert_allclose(ak.ravel([third]), 3 * ak.ravel([first]), rtol=1e-15)
        assert ak.array_equal([first], [once.compute()])


def test_layers_come_in_one_order_in_every_process():
    """Pictures and tables follow it; sets of names have another order in each process."""
    code = (
        "import awkward as ak, dask_awkward as dak, numpy as np, dak_diff as dd\n"
        "x, p = dak.from_awkward(ak.Array([[1.0, 2.0], [3.0]]), 2), dd.parameter(0.5, name='p')\n"
        "loss = np.log(dak.sum(np.sin(x * p) + x, axis=None)) * p\n"
        "for derivative in (dd.jvp(loss, p), dd.grad(loss, p)):\n"
        "    print([name.rsplit('-', 1)[0] for name in derivative.dask.layers])\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    orders = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**environment, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(orders) == 1


def test_one_tangent_for_collections_with_other_partitions():
    array, tangent = ak.Array([1.0, 2.0, 3.0, 4.0]), ak.Array([1.0, 0.5, 0.25, 2.0])
    first, second = collection(array, [2, 2]), collection(array, [1, 3])
    both = dask.compute(dd.jvp(first**2, first, tangent), dd.jvp(second**2, second, tangent))
    for got in both:
        assert got.to_list() == [2.0, 2.0, 1.5, 16.0]


def test_the_width_of_trees_is_that_of_the_analysis():
    """Two parameters of one value: the trees over 16 partitions differ with the configuration."""
    x = collection(ak.Array(np.arange(16.0)), [1] * 16)
    p = dd.parameter(2.0, name="p")
    nodes = {}
    for width in (2, 8):
        with dask.config.set({"awkward.aggregation.split-every": width}):
            gradient = dd.grad(dak.sum(x * p), p)
            nodes[width] = len([k for k in gradient.dask if "tree-node-sum-cotangents" in str(k)])
            assert gradient.compute() == 120.0
    assert nodes[2] > nodes[8]
