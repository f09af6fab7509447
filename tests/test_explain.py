"""The table of what will be differentiated: exact text."""

from __future__ import annotations

import awkward as ak
import dask_awkward as dak
import numpy as np
import pytest
from helpers import SPLITS, array_of, collection

import dak_diff as dd
from dak_diff.errors import DisconnectedError, NoRuleError


@pytest.fixture
def x():
    return collection(array_of("jagged"), SPLITS["3"])


@pytest.fixture
def expr(x):
    other = collection(array_of("jagged", 1), SPLITS["3"], "other")
    y = np.sin(x)
    return dak.sum(y[y > 0.5] * dd.parameter(0.5, name="alpha") + np.exp(other)[y > 0.5], axis=1)


TABLE = """\
layer             how
alpha     -       source
source    wrt     source
other     -       source
sin       active  rule: sin
exp       -       does not depend on wrt
greater   -       not differentiable
getitem   active  structure only: take
getitem   -       not differentiable
multiply  active  rule: multiply
add       active  rule: add
sum       active  structure only: sum
"""


def test_table(expr, x, capsys):
    explanation = dd.explain(expr, x)
    assert str(explanation) + "\n" == TABLE
    assert capsys.readouterr().out == TABLE
    assert repr(explanation) == "<Explanation of 11 layers>"


def test_table_of_the_complex_step(expr, x):
    """Where the partial is a constant there is nothing to step."""
    explanation = dd.explain(expr, x, method="complex-step")
    stepped = TABLE.replace("rule: sin", "complex step: sin").replace(
        "rule: multiply", "complex step: multiply"
    )
    assert str(explanation) + "\n" == stepped


def mixed(x):
    return np.exp(x) + np.cbrt(x)[:, :1]


def test_one_layer_of_several_kinds(x):
    how = {
        label: how
        for label, _, how in dd.explain(dak.map_partitions(mixed, x), x, method="complex-step").rows
    }
    assert how["mixed"] == "rule: cbrt, add; complex step: exp"


def test_order(expr, x):
    """From the sources to the output, each layer of the graph once."""
    labels = [label for label, _, _ in dd.explain(expr, x).rows]
    assert len(labels) == len(expr.dask.layers)
    assert labels.index("source") < labels.index("sin") < labels.index("multiply") < labels.index("sum")
    assert labels[-1] == "sum"


def test_by_a_parameter(x):
    alpha = dd.parameter(0.5, name="alpha")
    rows = {label: (state, how) for label, state, how in dd.explain(np.sin(x) * alpha, alpha).rows}
    assert rows["sin"] == ("-", "does not depend on wrt")
    assert rows["multiply"] == ("active", "rule: multiply")
    assert rows["alpha"][0] == "wrt"
    assert rows["alpha"][1] != "not differentiable"


def test_errors_are_those_of_jvp(x):
    other = collection(array_of("jagged", 2), SPLITS["3"], "unrelated")
    with pytest.raises(DisconnectedError, match="unrelated"):
        dd.explain(np.sin(x), other)
    with pytest.raises(TypeError, match="values_astype"):
        dd.explain(np.sin(x), dak.num(x))
    with pytest.raises(NoRuleError, match="user-layer"):
        dd.explain(dak.map_partitions(as_float, x, meta=x._meta, label="user-layer"), x)


def as_float(x):
    return x * float(ak.sum(x))


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_the_graph_of_the_derivative_as_text(expr, x, mode):
    """As `visualize` draws it, box by box; nothing needs to be installed."""
    explanation = dd.explain(expr, x)
    mermaid, dot = explanation.mermaid(mode).splitlines(), explanation.dot(mode).splitlines()
    for lines, box in ((mermaid, ":::"), (dot, "shape=")):
        boxes = [line for line in lines if box in line]
        if mode == "reverse":
            assert len(boxes) == len(dd.vjp(expr, x).dask.layers)
        else:
            operations = [label for label, how, _ in explanation.rows if how == "active"]
            assert all(any(operation in line for line in boxes) for operation in operations)
        assert any({"forward": "jvp-tangent-", "reverse": "vjp-"}[mode] in line for line in boxes)
    assert any({"forward": "==>", "reverse": "--o"}[mode] in line for line in mermaid)
    assert "fwd-" not in explanation.mermaid("forward")


def test_operations_as_text(expr, x):
    assert "subgraph" in dd.explain(expr, x).mermaid("reverse", detail="operations")


def test_no_such_mode(expr, x):
    with pytest.raises(ValueError, match="forward, reverse"):
        dd.explain(expr, x).mermaid("backward")


def test_arithmetic_on_what_has_no_derivative_is_no_source(x):
    p = dd.parameter(0.5, name="p")
    rows = {label: how for label, _, how in dd.explain(np.sqrt(dak.sum(x[x > p])), p).rows}
    assert rows["sqrt"] == "not differentiable"
    assert rows["p"] == rows["source"] == "source"
