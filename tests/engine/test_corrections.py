"""correctionlib inside a derivative: what depends on wrt is refused, what does not is evaluated."""

from __future__ import annotations

import awkward as ak
import dask_awkward as dak
import numpy as np
import pytest

import dak_diff as dd
from dak_diff import eager
from dak_diff.errors import NoRuleError

schema = pytest.importorskip("correctionlib.schemav2")

EVENTS = ak.Array([[{"pt": 30.0, "eta": 0.5}, {"pt": 90.0, "eta": 2.0}], [], [{"pt": 50.0, "eta": 1.0}]])


def correction(name, inputs, data):
    variables = [schema.Variable(name=x, type="real") for x in inputs]
    output = schema.Variable(name="weight", type="real")
    made = schema.Correction(name=name, version=1, inputs=variables, output=output, data=data)
    return made.to_evaluator()


def binned(by, edges, content):
    return {"nodetype": "binning", "input": by, "edges": edges, "content": content, "flow": "clamp"}


TABLE = correction("table", ["eta"], binned("eta", [0, 0.8, 3], [0.9, 0.7]))


def scaled(k, ns=ak, events=EVENTS):
    return ns.with_field(events, events.pt * (1 + k), "pt")


def test_what_depends_on_wrt_is_refused_with_its_name():
    with pytest.raises(NoRuleError, match=r"correction 'table' of correctionlib.*stop_gradient.*custom_jvp"):
        eager.jvp(lambda k: TABLE.evaluate(scaled(k).pt), (0.1,))
    x = dak.from_awkward(EVENTS.eta, npartitions=2)
    with pytest.raises(NoRuleError, match="'table'"):
        dd.jvp(TABLE.evaluate(x), wrt=x).compute()


def test_columns_beside_active_ones_are_evaluated():
    """Selected with the momentum that depends on k; the weights by hand."""

    def total(k, ns=ak, events=EVENTS):
        jets = scaled(k, ns, events)
        jets = jets[jets.pt > 40]
        return ns.sum(jets.pt * TABLE.evaluate(jets.eta))

    value, slope = eager.jvp(total, (0.0,))
    assert value == pytest.approx(140 * 0.7)
    assert slope == pytest.approx(140 * 0.7)
    assert eager.grad(total)(0.0) == pytest.approx(140 * 0.7)
    k = dd.parameter(0.0, name="k")
    lazy = total(k, dak, dak.from_awkward(EVENTS, npartitions=2))
    assert dd.grad(lazy, k).compute() == pytest.approx(140 * 0.7)


def test_a_table_at_what_is_stopped_is_a_constant():
    def total(k):
        pt = scaled(k).pt
        return ak.sum(pt * TABLE.evaluate(dd.stop_gradient(pt)))

    value, slope = eager.jvp(total, (0.0,))
    assert value == pytest.approx(170 * 0.7)
    assert slope == pytest.approx(170 * 0.7)
    np.testing.assert_allclose(eager.grad(total)(0.0), slope)
