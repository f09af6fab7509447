"""The checker that users run: right analyses pass, a rule made wrong fails and is named."""

from __future__ import annotations

import awkward as ak
import dask
import dask_awkward as dak
import numpy as np
import pytest
from helpers import SPLITS, array_of, collection

import dak_diff as dd
from dak_diff.errors import DisconnectedError
from dak_diff.rules import reducers
from dak_diff.rules.elementwise import Elementwise
from dak_diff.rules.primitive import UFUNCS, raw
from dak_diff.testing import check_grads


def jagged(split="3"):
    return collection(array_of("jagged"), SPLITS[split])


def number():
    return dd.parameter(0.75, name="p")


def analysis(x, p):
    """Ufuncs, a mask, lists reduced, a broadcast, everything reduced, arithmetic of scalars."""
    calibrated = np.sin(x * p)
    selected = calibrated[x > 1]
    return dak.sum(selected * dak.max(x, axis=1)) / dak.count(x) + 1


def every_event(x, p):
    return dak.sum(np.sin(x * p)[x > 1] ** 2, axis=1)


def single_precision():
    x = collection(ak.values_astype(array_of("jagged"), np.float32), SPLITS["3"])
    return np.exp(-x) * x**2, x


def jets_and(build):
    jets = collection(array_of("jets"), SPLITS["3"])
    return build(jets)


def columns(jets):
    first, second = dak.unzip(dak.combinations(jets, 2))
    return (first + second).mass, {"pt": jets.pt, "angles": [jets.eta, jets.phi]}


def near_a_threshold():
    """The step of 2**-10 crosses the threshold at some element, the next one does not."""
    x = collection(ak.Array([[1.0, 1.0 + 2.0**-12], [1.5], [0.5, 2.0]]), [2, 1])
    return dak.sum(x[x > 1.0 + 2.0**-13] ** 3), x


def through(build, *inputs):
    return build(*inputs), inputs


RIGHT = {
    "array": lambda: (every_event(x := jagged(), 0.5), x),
    "scalar": lambda: (analysis(x := jagged(), 0.5), x),
    "one partition": lambda: (analysis(x := jagged("1"), 0.5), x),
    "empty partition": lambda: (analysis(x := jagged("empty middle"), 0.5), x),
    "parameter": lambda: (analysis(jagged(), p := number()), p),
    "tuple": lambda: through(analysis, jagged(), number()),
    "vector parameter": lambda: (jagged() * (p := dd.parameter([0.5, 2.0]))[0] * p[1], p),
    "columns, nested": lambda: jets_and(columns),
    "list of columns": lambda: jets_and(lambda jets: (jets.pt * jets.eta + jets.phi, jets[["pt", "eta"]])),
    "whole record": lambda: jets_and(lambda jets: (jets.px * jets.charge, jets)),
    "record comes out": lambda: jets_and(lambda jets: (jets[jets.pt > 1], jets)),
    "reduced scalar": lambda: (jagged() * (total := dak.sum(jagged())) ** 2, total),
    "inner layer": lambda: (np.sin(y := jagged() ** 2) * y, y),
    "not finite": lambda: (np.log(x := collection(ak.Array([[1.0, -1.0], [0.0]]), [1, 1])), x),
    "float32": single_precision,
    "near a threshold": near_a_threshold,
    "linear": lambda: (dak.sum(x := jagged(), axis=1), x),
    "constant slope of a sum of signs": lambda: (dak.sum(np.sign((x := jagged()) - 1.0) * x), x),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", RIGHT)
def test_right_analyses_pass(name, order):
    check_grads(*RIGHT[name](), order)


@pytest.mark.parametrize("method", ["dual", "complex-step"])
@pytest.mark.parametrize("seed", range(3))
def test_any_seed_and_method(seed, method):
    x, p = jagged(), number()
    check_grads(analysis(x, p), (x, p), seed=seed, method=method)


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_any_scheduler(scheduler):
    x, p = jagged(), number()
    with dask.config.set(scheduler=scheduler):
        check_grads(analysis(x, p), (x, p))


@pytest.mark.cluster
def test_on_a_cluster(client):
    x, p = jagged(), number()
    with dask.config.set(scheduler=client):
        check_grads(analysis(x, p), (x, p))


def test_a_tangent_is_an_expression_like_any_other():
    x, p = jagged(), number()
    check_grads(dd.jvp(every_event(x, p), p), x)


def sine_with(monkeypatch, partial):
    monkeypatch.setitem(UFUNCS, np.sin, (Elementwise(np.sin, (partial,)),))


def wrong_cosine(out, x):
    return np.cos(x) * 1.001


def fails(expr, wrt, *args, layer, **kwargs):
    with pytest.raises(AssertionError) as caught:
        check_grads(expr, wrt, *args, **kwargs)
    message = str(caught.value)
    assert f"first layer  {layer!r}" in message, message
    return message


@pytest.mark.parametrize("modes", [("forward",), ("reverse",), ("forward", "reverse")], ids="+".join)
@pytest.mark.parametrize("build", [analysis, every_event])
@pytest.mark.parametrize("by", ["x", "p", "both"])
def test_partial_wrong_by_a_thousandth(monkeypatch, build, by, modes):
    sine_with(monkeypatch, wrong_cosine)
    x, p = jagged(), number()
    message = fails(build(x, p), {"x": x, "p": p, "both": [x, p]}[by], modes=modes, layer="sin")
    assert f"the {modes[0]} derivative is not what it should be, order 1" in message
    assert "kink" not in message


def test_the_message_tells_where_and_what():
    values = [[0.5], [], [1.0, 2.0, 0.25], [3.0]]
    records = ak.zip({"n": [[1], [], [2, 3, 4], [5]], "v": ak.zip({"a": values, "b": values}, depth_limit=2)})
    x = collection(ak.with_field(records, values, "c"), [1, 3])

    def wrong_for_two(out, a):
        return np.where(a == 2.0, 1.001 * np.cos(a), np.cos(a))

    with pytest.MonkeyPatch.context() as monkeypatch:
        sine_with(monkeypatch, wrong_for_two)
        expr = dak.zip({"n": x.n, "v": dak.zip({"a": x.c, "b": np.sin(x.c)})})
        message = fails(expr, x.c, modes=["forward"], layer="sin")
    assert "output       'zip' at [2][1].v.b\n" in message
    lines = dict(line.split(None, 1) for line in message.splitlines()[2:])
    got, expected = (float(lines[key].split()[0]) for key in ("got", "expected"))
    assert got / expected == pytest.approx(1.001, abs=1e-6)
    assert lines["allowed"].startswith("1.0e-07 of the numbers, and ")


def test_a_derivative_that_is_lost(monkeypatch):
    sine_with(monkeypatch, lambda out, x: 0 * x)
    x = jagged()
    fails(every_event(x, 0.5), x, layer="sin")


def test_in_single_precision_a_hundredth_is_seen(monkeypatch):
    sine_with(monkeypatch, lambda out, x: np.cos(x) * 1.01)
    _, x = single_precision()
    fails(np.sin(x) ** 2, x, layer="sin")


@pytest.mark.parametrize("order", [1, 2])
def test_wrong_only_in_reverse(monkeypatch, order):
    right = reducers.Sum.pull
    monkeypatch.setattr(
        reducers.Sum, "pull", lambda self, r, cotangent, a: right(self, r, cotangent * 1.001, a)
    )
    x, p = jagged(), number()
    expr = every_event(x, p) ** 2
    check_grads(expr, (x, p), order, modes=["forward"])
    for modes in (["reverse"], ["forward", "reverse"]):
        message = fails(expr, (x, p), order, modes=modes, layer="sum")
        assert "the reverse derivative is not" in message


def test_wrong_only_forward(monkeypatch):
    right = reducers.Sum.push
    monkeypatch.setattr(reducers.Sum, "push", lambda self, r, tangents: right(self, r, tangents) * 1.001)
    x = jagged()
    expr = every_event(x, 0.5) ** 2
    check_grads(expr, x, modes=["reverse"])
    fails(expr, x, layer="sum")


def test_wrong_only_in_the_second_derivative(monkeypatch):
    sine_with(monkeypatch, lambda out, x: np.cos(raw(x)))
    x, p = jagged(), number()
    expr = every_event(x, p)
    check_grads(expr, (x, p))
    for mode in ("forward", "reverse"):
        message = fails(expr, (x, p), order=2, modes=[mode], layer="sin")
        assert f"the {mode} derivative of the jvp is not what it should be, order 2" in message


@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize(
    ("fn", "at", "layer"),
    [
        (abs, 0.0, "absolute"),
        (lambda x: dak.sum(x[x > 1], axis=1), 1.0, "getitem"),
        (lambda x: np.floor(x) + x, 2.0, "floor"),
        (lambda x: np.sqrt(x), 0.0, "sqrt"),
        (lambda x: np.maximum(x, 1.0) * 2, 1.0, "maximum"),
    ],
    ids=["abs", "threshold", "floor", "edge of the domain", "maximum"],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_kink_or_jump_is_called_so(fn, at, layer, mode):
    x = collection(ak.Array([[0.5, 3.25], [at]]), [1, 1])
    if layer == "sqrt" and mode == "forward":
        # The jvp is infinite and no difference exists: nothing contradicts it.
        check_grads(fn(x), x, modes=[mode])
        return
    message = fails(fn(x), x, modes=[mode], layer=layer)
    assert "the function has a kink or jump near this point" in message


def test_a_tangent_of_another_type(monkeypatch):
    right = dd.jvp
    monkeypatch.setattr(
        "dak_diff.checking.point.jvp", lambda *args, **kw: dak.values_astype(right(*args, **kw), np.float32)
    )
    x = jagged()
    message = fails(np.sin(x), x, layer="sin")
    assert "float32: " in message
    assert "the structure of the derivative" in message


def test_a_gradient_of_another_structure(monkeypatch):
    right = dd.vjp
    monkeypatch.setattr(
        "dak_diff.checking.point.vjp", lambda *args, **kw: [g[:, :1] for g in right(*args, **kw)]
    )
    x = jagged()
    message = fails(np.sin(x), x, layer="sin")
    assert "the structure of the derivative" in message


def test_what_is_asked_for_exists():
    x = jagged()
    with pytest.raises(ValueError, match="order must be 1 or 2, not 3"):
        check_grads(x**2, x, 3)
    with pytest.raises(ValueError, match="modes must be some of forward, reverse"):
        check_grads(x**2, x, modes=["sideways"])
    with pytest.raises(ValueError, match="modes must be some of"):
        check_grads(x**2, x, modes=[])
    with pytest.raises(DisconnectedError):
        check_grads(x**2, jagged("1"))


def test_rounding_is_no_kink():
    x = collection(ak.Array([0.3, 0.6, 0.9]), [2, 1])
    message = fails((x / 3 + 4e9) - 4e9, x, layer="subtract")
    assert "the differences of several steps disagree here" in message


def test_a_step_that_crosses_a_threshold_takes_nothing_from_a_wrong_rule():
    """The longest step moves 26 over the cut; the others agree, so the note would mislead."""
    twice_too_steep = dd.custom_jvp(lambda x: 1 - np.exp(-x / 20))
    twice_too_steep.defjvp(lambda p, t: (twice_too_steep(*p), np.exp(-p[0] / 20) / 10 * t[0]))
    x = collection(ak.Array([[52.0, 26.0]]), [1])
    seen = dak.map_partitions(twice_too_steep, x)
    message = fails(dak.sum(seen[x > 25.93], axis=1), x, layer="lambda")
    assert "note" not in message
