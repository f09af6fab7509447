"""Functions that bring their own rule: equal to the same function without one, in every mode and order."""

from __future__ import annotations

import pickle

import awkward as ak
import dask
import dask_awkward as dak
import numpy as np
import pytest
from checks import random_like, type_of
from helpers import METHODS, array_of, assert_close, assert_identical, collection

import dak_diff as dd
from dak_diff import eager
from dak_diff.errors import NoRuleError, StructureError

# ---------------------------------------------------------------- functions, and their rules


def wave(x):
    return np.sin(x) * x


def wave_jvp(primals, tangents):
    (x,), (x_dot,) = primals, tangents
    return wave(x), (np.cos(x) * x + np.sin(x)) * x_dot


def wave_forward(x):
    return wave(x), x


def wave_backward(x, y_bar):
    return ((np.cos(x) * x + np.sin(x)) * y_bar,)


def scaled_total(x, factor, name):
    assert name == "total"
    return ak.sum(x**2 * factor, axis=1)


def scaled_total_jvp(primals, tangents):
    x, factor, _ = primals
    x_dot, factor_dot, _ = tangents
    return scaled_total(*primals), ak.sum(2 * x * factor * x_dot + x**2 * factor_dot, axis=1)


def scaled_total_forward(x, factor, name):
    return scaled_total(x, factor, name), (x, factor)


def scaled_total_backward(kept, y_bar):
    x, factor = kept
    return 2 * x * factor * y_bar, ak.sum(x**2 * y_bar), None


def polar(x, y):
    return {"r": np.hypot(x, y), "phi": np.arctan2(y, x), "n": ak.num(x)}


def polar_jvp(primals, tangents):
    (x, y), (x_dot, y_dot) = primals, tangents
    value = polar(x, y)
    r_dot = (x * x_dot + y * y_dot) / value["r"]
    phi_dot = (x * y_dot - y * x_dot) / value["r"] ** 2
    return value, {"r": r_dot, "phi": phi_dot, "n": value["n"] * 0}


def polar_forward(x, y):
    return polar(x, y), (x, y)


def polar_backward(kept, y_bar):
    x, y = kept
    r = np.hypot(x, y)
    by_r, by_phi = y_bar["r"], y_bar["phi"]
    return x / r * by_r - y / r**2 * by_phi, y / r * by_r + x / r**2 * by_phi


def leading(jets):
    return ak.firsts(jets.pt * np.cosh(jets.eta))


def leading_jvp(primals, tangents):
    (jets,), (dots,) = primals, tangents
    return leading(jets), ak.firsts(dots.pt * np.cosh(jets.eta) + jets.pt * np.sinh(jets.eta) * dots.eta)


def leading_forward(jets):
    return leading(jets), jets


def leading_backward(jets, y_bar):
    first = ak.local_index(jets.pt) == 0
    y_bar = ak.fill_none(y_bar, 0.0)
    zero = ak.zeros_like(jets)
    zero = ak.with_field(zero, ak.where(first, np.cosh(jets.eta) * y_bar, 0.0), "pt")
    return (ak.with_field(zero, ak.where(first, jets.pt * np.sinh(jets.eta) * y_bar, 0.0), "eta"),)


def with_jvp(fn, rule):
    function = dd.custom_jvp(fn)
    function.defjvp(rule)
    return function


def with_vjp(fn, forward, backward):
    function = dd.custom_vjp(fn)
    function.defvjp(forward, backward)
    return function


JAGGED, JETS = array_of("jagged"), array_of("jets")
FUNCTIONS = {
    # name: (function, jvp rule, vjp rule, active arguments, constants)
    "one argument": (wave, wave_jvp, (wave_forward, wave_backward), (JAGGED,), ()),
    "flat": (wave, wave_jvp, (wave_forward, wave_backward), (array_of("flat"),), ()),
    "referred to twice": (wave, wave_jvp, (wave_forward, wave_backward), (JAGGED[[0, 0, 2]],), ()),
    "number": (wave, wave_jvp, (wave_forward, wave_backward), (0.75,), ()),
    "single precision": (
        wave,
        wave_jvp,
        (wave_forward, wave_backward),
        (ak.values_astype(JAGGED, "float32"),),
        (),
    ),
    "array, number and text": (
        scaled_total,
        scaled_total_jvp,
        (scaled_total_forward, scaled_total_backward),
        (JAGGED, 1.5),
        ("total",),
    ),
    "several results": (
        polar,
        polar_jvp,
        (polar_forward, polar_backward),
        (JAGGED, array_of("jagged", 1)),
        (),
    ),
    "records and None": (leading, leading_jvp, (leading_forward, leading_backward), (JETS,), ()),
}


@pytest.fixture(params=FUNCTIONS)
def case(request):
    fn, jvp_rule, vjp_rule, primals, constants = FUNCTIONS[request.param]
    ruled = {"custom_jvp": with_jvp(fn, jvp_rule), "custom_vjp": with_vjp(fn, *vjp_rule)}
    bound = {name: (lambda *args, f=f: f(*args, *constants)) for name, f in [("plain", fn), *ruled.items()]}
    tolerance = 1e-6 if "float32" in str(type_of(primals)) else 1e-12
    return bound, primals, tolerance


@pytest.fixture
def rng():
    return np.random.default_rng(20260322)


kinds = pytest.mark.parametrize("kind", ["custom_jvp", "custom_vjp"])


@kinds
@pytest.mark.parametrize("method", METHODS)
def test_both_modes(case, kind, method, rng):
    fns, primals, tolerance = case
    tangents = random_like(primals, rng)
    value, want = eager.jvp(fns["plain"], primals, tangents)
    got_value, got = eager.jvp(fns[kind], primals, tangents, method=method)
    assert_close(got_value, value, tolerance)
    assert_close(got, want, tolerance)
    cotangent = random_like(value, rng)
    want = eager.vjp(fns["plain"], primals)[1](cotangent)
    got = eager.vjp(fns[kind], primals, method=method)[1](cotangent)
    assert_close(got, want, tolerance)
    assert type_of(got) == type_of(want)


@kinds
def test_second_order(case, kind, rng):
    fns, primals, tolerance = case
    tangents, moves = random_like(primals, rng), random_like(primals, rng)

    def slope(fn):
        return lambda *args: eager.jvp(fn, args, tangents)[1]

    cotangent = random_like(fns["plain"](*primals), rng)

    def pulled(fn):
        return lambda *args: eager.vjp(fn, args)[1](cotangent)

    for outer in (slope, pulled):
        want = eager.jvp(outer(fns["plain"]), primals, moves)[1]
        assert_close(eager.jvp(outer(fns[kind]), primals, moves)[1], want, 10 * tolerance)
    want = eager.vjp(slope(fns["plain"]), primals)[1](cotangent)
    assert_close(eager.vjp(slope(fns[kind]), primals)[1](cotangent), want, 10 * tolerance)


@kinds
def test_an_opaque_function_needs_only_its_rule(kind):
    """The derivative that is given is the one that is used: here, wrong by a factor of two."""

    def opaque(x):
        return ak.Array([[float(v) ** 2 for v in row] for row in x.to_list()])

    def forward(x):
        return opaque(x), x

    functions = {
        "custom_jvp": with_jvp(
            opaque, lambda primals, tangents: (opaque(*primals), 4 * primals[0] * tangents[0])
        ),
        "custom_vjp": with_vjp(opaque, forward, lambda x, y_bar: (4 * x * y_bar,)),
    }
    x = ak.Array([[1.0, 2.0], [3.0]])
    with pytest.raises(NoRuleError):
        eager.jvp(opaque, (x,))
    value, tangent = eager.jvp(functions[kind], (x,))
    assert value.to_list() == [[1.0, 4.0], [9.0]]
    assert tangent.to_list() == [[4.0, 8.0], [12.0]]
    assert eager.vjp(functions[kind], (x,))[1](1.0)[0].to_list() == [[4.0, 8.0], [12.0]]
    assert functions[kind](x).to_list() == value.to_list()


# ---------------------------------------------------------------- in graphs


@dd.custom_jvp
def ruled_wave(x):
    return wave(x)


ruled_wave.defjvp(wave_jvp)


@dd.custom_vjp
def ruled_total(x, factor, name="total"):
    return scaled_total(x, factor, name)


ruled_total.defvjp(scaled_total_forward, scaled_total_backward)


def in_graph(fns):
    x, p = collection(JAGGED, [5, 0, 7]), dd.parameter(1.5, name="p")
    expr = dak.map_partitions(fns[1], dak.map_partitions(fns[0], x), p, "total")
    return np.log(dak.sum(expr**2)), [x, p]


@pytest.mark.cluster
@pytest.mark.parametrize("scheduler", ["sync", "processes", "distributed"])
def test_graphs(scheduler, request):
    want = dask.compute(*dd.value_and_grad(*in_graph((wave, scaled_total))))
    expr, wrt = in_graph((ruled_wave, ruled_total))
    chosen = request.getfixturevalue("client") if scheduler == "distributed" else scheduler
    got = dask.compute(*dd.value_and_grad(expr, wrt), scheduler=chosen)
    assert_close(list(got), list(want), 1e-12)
    slopes = [dd.jvp(*in_graph(fns)) for fns in ((wave, scaled_total), (ruled_wave, ruled_total))]
    assert_close(*dask.compute(*slopes, scheduler=chosen), 1e-12)


def test_explained(capsys):
    dd.explain(*in_graph((ruled_wave, ruled_total)))
    shown = capsys.readouterr().out
    assert "rule: ruled_wave" in shown
    assert "rule: ruled_total" in shown


@pytest.mark.parametrize("function", [ruled_wave, with_jvp(wave, wave_jvp)], ids=["by name", "by value"])
def test_pickles(function):
    again = pickle.loads(pickle.dumps(function))
    assert (again is function) is (function is ruled_wave)
    assert_identical(eager.jvp(again, (JAGGED,))[1], eager.jvp(function, (JAGGED,))[1])


def test_keywords_and_defaults():
    assert_identical(ruled_total(JAGGED, factor=2.0), scaled_total(JAGGED, 2.0, "total"))
    _, slope = eager.jvp(lambda p: ruled_total(JAGGED, factor=p), (2.0,))
    assert_close(slope, ak.sum(JAGGED**2, axis=1), 1e-13)


# ---------------------------------------------------------------- errors that name the function


def test_no_rule():
    for function, how in ((dd.custom_jvp(wave), "@wave.defjvp"), (dd.custom_vjp(wave), "wave.defvjp")):
        assert_identical(function(JAGGED), wave(JAGGED))
        with pytest.raises(NoRuleError, match=f"'wave' has no rule yet.*{how}"):
            eager.jvp(function, (JAGGED,))
    x = collection(JAGGED, [5, 0, 7])
    with pytest.raises(NoRuleError, match="'wave' has no rule yet"):
        dd.grad(dak.sum(dak.map_partitions(dd.custom_jvp(wave), x)), x)


@pytest.mark.parametrize(
    ("backward", "message"),
    [
        (lambda kept, y_bar: (y_bar, y_bar), r"'wave' must return one cotangent for each of its 1 arguments"),
        (lambda kept, y_bar: y_bar, r"'wave' must return one cotangent"),
        (lambda kept, y_bar: (y_bar[:, :1],), r"'wave', argument 0.*other lengths"),
        (lambda kept, y_bar: (ak.sum(y_bar, axis=1),), r"'wave', argument 0.*has type"),
    ],
)
def test_wrong_cotangents(backward, message):
    function = with_vjp(wave, wave_forward, backward)
    with pytest.raises(StructureError, match=message):
        eager.vjp(function, (JAGGED,))[1](1.0)
    x = collection(JAGGED, [5, 0, 7])
    with pytest.raises(StructureError, match="'wave'"):
        dd.vjp(dak.map_partitions(function, x), x).compute()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda primals, tangents: tangents[0], r"'wave' must return \(value, tangent\)"),
        (lambda primals, tangents: (wave(*primals), tangents[0][:, :1]), "'wave'.*other lengths"),
    ],
)
def test_wrong_tangent(rule, message):
    with pytest.raises(StructureError, match=message):
        eager.jvp(with_jvp(wave, rule), (JAGGED,))


def test_wrong_forward():
    function = with_vjp(wave, wave, wave_backward)
    with pytest.raises(StructureError, match=r"forward rule of 'wave' must return \(value, residuals\)"):
        eager.jvp(function, (JAGGED,))


def test_a_rule_that_cannot_be_transposed():
    def rule(primals, tangents):
        return wave(*primals), ak.Array(np.asarray(ak.flatten(tangents[0])))

    with pytest.raises(NoRuleError):
        eager.vjp(with_jvp(wave, rule), (JAGGED,))[1](1.0)


def test_only_positional_arguments():
    @dd.custom_jvp
    def named(x, *, power):
        return x**power

    with pytest.raises(TypeError, match=r"'named' has a rule.*positional; power cannot be"):
        eager.jvp(lambda x: named(x, power=2), (JAGGED,))


def test_a_backward_rule_that_cannot_be_transposed_serves_reverse_mode():
    """Compiled code for one: over a graph it was refused, since layers were tried forwards only."""
    cube = dd.custom_vjp(lambda x: x**3)

    def backward(x, cotangent):
        flat = 3 * np.asarray(ak.flatten(x)) ** 2 * np.asarray(ak.flatten(cotangent))
        return (ak.unflatten(flat, ak.num(x)),)

    cube.defvjp(lambda x: (x**3, x), backward)
    x = collection(JAGGED, [5, 0, 7])
    cubes = dak.map_partitions(cube, x)
    (gradient,) = dask.compute(dd.grad(np.log(dak.sum(cubes)), x))
    assert_close(gradient, 3 * JAGGED**2 / ak.sum(JAGGED**3), 1e-13)
    with pytest.raises(NoRuleError, match=r"np\.asarray"):
        dd.jvp(cubes, x)


def test_a_function_with_a_rule_takes_what_it_needs_as_arguments():
    def by_jvp(x, p):
        @dd.custom_jvp
        def scaled(x):
            return x**2 * p

        scaled.defjvp(lambda xs, ts: (scaled(*xs), 2 * xs[0] * ts[0] * p))
        return scaled(x)

    def by_vjp(x, p):
        @dd.custom_vjp
        def scaled(x):
            return x**2 * p

        scaled.defvjp(lambda x: (x**2 * p, x), lambda x, bar: (2 * x * bar * p,))
        return scaled(x)

    for fn in (by_jvp, by_vjp):
        with pytest.raises(NoRuleError, match=r"'scaled' has a rule, but closes over.*make it an argument"):
            eager.vjp(fn, (np.array([1.0, 2.0]), 2.0))
        _, tangent = eager.jvp(lambda x, fn=fn: fn(x, 2.0), (np.array([1.0, 2.0]),))
        assert tangent.tolist() == [4.0, 8.0]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (lambda xs, ts: (xs[0] ** 2, 2 * xs[0]), "not linear in the tangents.*not the slope"),
        (lambda xs, ts: (xs[0] ** 2, None), "must return a tangent, not None"),
    ],
    ids=["slope", "None"],
)
def test_a_rule_that_forgets_the_tangent(rule, words):
    square = dd.custom_jvp(lambda x: x**2)
    square.defjvp(rule)
    with pytest.raises(StructureError, match=words):
        eager.grad(lambda x: np.sum(square(x)))(np.array([1.0, 2.0]))


def test_a_rule_that_gives_one_number_for_an_array():
    square = dd.custom_vjp(lambda x: x**2)
    square.defvjp(lambda x: (x**2, x), lambda x, bar: (float(np.sum(2 * x * bar)),))
    with pytest.raises(StructureError, match="argument 0: one number for an array"):
        eager.grad(lambda x: np.sum(square(x)))(np.array([1.0, 2.0]))
