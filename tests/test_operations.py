"""The map in `operations.py` holds every public name, once, and each verdict is true."""

import contextlib
import importlib.util
import inspect
import sys
from dataclasses import replace
from pathlib import Path

import awkward as ak
import checks
import dask
import dask_awkward as dak
import numpy as np
import operations
import pytest
import vector.backends.awkward
from helpers import collection
from operations import (
    ALIASES,
    AWKWARD,
    DASK,
    DASK_ARRAY,
    DASK_SCALAR,
    EXACT,
    LATER,
    NOT_APPLICABLE,
    REFUSED,
    UFUNCS,
    VECTOR,
    ZERO,
)

import dak_diff
from dak_diff import eager
from dak_diff.errors import DakDiffError

LIBRARIES = {"ak": ak, "dak": dak, "dak.Array": dak.Array, "dak.Scalar": dak.Scalar, "np": np}
EAGER = {("ak", name): row for name, row in AWKWARD.items()} | {
    ("np", name): row for name, row in UFUNCS.items() if hasattr(np, name)
}
LAZY = {
    (library, name): row
    for library, table in {"dak": DASK, "dak.Array": DASK_ARRAY, "dak.Scalar": DASK_SCALAR}.items()
    for name, row in table.items()
}
DOCS = Path(__file__).parents[1] / "docs"


def rows(table, *verdicts):
    found = {name: row for name, row in table.items() if row.verdict in verdicts and row.case}
    # Sorted: some tables come from sets, whose order differs between processes.
    return pytest.mark.parametrize(
        "row", [pytest.param(found[name], id=".".join(name)) for name in sorted(found)]
    )


@pytest.fixture
def rng():
    return np.random.default_rng(20240607)


# ---------------------------------------------------------------- every name, once


def momenta(dimension):
    return getattr(vector.backends.awkward, f"MomentumAwkward{dimension}D")


def names_of_vectors(dimension):
    return {name for table in (VECTOR, ALIASES) for d in table if d <= dimension for name in table[d]}


@pytest.mark.parametrize(
    ("public", "known"),
    [
        pytest.param(operations.public_functions(ak), set(AWKWARD), id="awkward"),
        pytest.param(operations.public_functions(dak), set(DASK), id="dask_awkward"),
        pytest.param(operations.public_members(dak.Array), set(DASK_ARRAY), id="dask_awkward.Array"),
        pytest.param(operations.public_members(dak.Scalar), set(DASK_SCALAR), id="dask_awkward.Scalar"),
        pytest.param(
            operations.public_ufuncs(),
            set(UFUNCS) - {name for name in LATER if not hasattr(np, name)},
            id="ufuncs",
        ),
        *(
            pytest.param(operations.public_members(momenta(d)), names_of_vectors(d), id=f"vector {d}D")
            for d in VECTOR
        ),
    ],
)
def test_every_public_name_has_a_row(public, known):
    """If this fails: give the new name a row in operations.py, or take out the row of the old one."""
    assert public - known == set(), "names without a row"
    assert known - public == set(), "rows of names that upstream does not have"


def test_names_of_vectors_are_given_once():
    names = [name for table in (VECTOR, ALIASES) for d in table for name in table[d]]
    assert len(names) == len(set(names))


def test_verdicts_are_four():
    tables = (AWKWARD, DASK, DASK_ARRAY, DASK_SCALAR, UFUNCS, *VECTOR.values())
    for row in (row for table in tables for row in table.values()):
        assert row.verdict in (EXACT, ZERO, REFUSED, NOT_APPLICABLE)
        assert bool(row.note) == (row.verdict in (REFUSED, NOT_APPLICABLE))
        assert row.case or row.verdict == NOT_APPLICABLE
        assert row.verdict != NOT_APPLICABLE or " " not in row.note


@pytest.mark.parametrize("name", ["make_operations", "make_rules"])
def test_page_is_what_the_script_writes(name):
    """If this fails: run the script."""
    if not hasattr(np, "matvec"):
        pytest.skip("NumPy of this version lacks ufuncs that are on the page")
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.PAGE.read_text() == script.page()


# ---------------------------------------------------------------- a row shows its name


def running(row, in_memory):
    """The code of all functions that run in a row's function, until it is refused: no file is written."""
    codes = set()
    inputs = row.case.inputs if in_memory else partitioned(row.case.inputs)
    previous = sys.getprofile()
    sys.setprofile(lambda frame, event, _: codes.add(frame.f_code) if event == "call" else None)
    with contextlib.suppress(Exception):
        if in_memory and row.verdict == REFUSED:
            eager.jvp(row.case.fn, inputs)
        else:
            row.case.fn(*inputs)
    sys.setprofile(previous)
    return codes


@pytest.mark.parametrize(
    ("library", "name"), [key for key, row in (EAGER | LAZY).items() if row.case and key[0] != "np"]
)
@pytest.mark.filterwarnings("ignore")
def test_row_calls_what_it_is_called_after(library, name):
    row = (EAGER | LAZY)[library, name]
    if row.needs:
        pytest.importorskip(row.needs)
    member = inspect.getattr_static(LIBRARIES[library], name)
    code = inspect.unwrap(getattr(member, "fget", member)).__code__
    assert code in running(row, library == "ak")


# ---------------------------------------------------------------- arrays in memory


def is_zero(value):
    return not np.any(np.array([np.asarray(n).astype(float) for n in checks.numbers(value)]))


def check_exact(case, rng):
    """Forward by formulas and by complex step against differences, reverse against forward."""
    tangents = checks.random_like(case.inputs, rng)
    expected = checks.difference_quotient(case, tangents)
    assert np.any(expected), "the derivative is zero here: that is another verdict"
    for method in ("dual", "complex-step"):
        _, tangent = eager.jvp(case.fn, case.inputs, tangents, method=method)
        checks.assert_close(tangent, expected, 0.0 if case.exact else 1e-8, f"jvp by {method}")
    checks.check_dot(case, "auto", rng)


def check_zero(case, rng):
    tangents = checks.random_like(case.inputs, rng)
    assert not np.any(checks.difference_quotient(case, tangents))
    for method in ("dual", "complex-step"):
        assert is_zero(eager.jvp(case.fn, case.inputs, tangents, method=method)[1])
    value, pull = eager.vjp(case.fn, case.inputs)
    assert is_zero(pull(checks.random_like(value, rng)))


@rows(EAGER, EXACT)
def test_exact(row, rng):
    check_exact(row.case, rng)


@rows(EAGER, ZERO)
def test_zero_by_nature(row, rng):
    check_zero(row.case, rng)


@rows(EAGER, REFUSED)
@pytest.mark.filterwarnings("ignore:The JAX backend is deprecated:DeprecationWarning")
def test_refused(row):
    if row.needs:
        pytest.importorskip(row.needs)
    for derivative in (
        lambda: eager.jvp(row.case.fn, row.case.inputs, method="dual"),
        lambda: eager.jvp(row.case.fn, row.case.inputs, method="complex-step"),
        lambda: eager.vjp(row.case.fn, row.case.inputs),
    ):
        with pytest.raises(DakDiffError) as refusal:
            derivative()
        assert row.note in str(refusal.value)


# ---------------------------------------------------------------- collections


def partitioned(inputs):
    return [
        collection(x, [len(x) // 2, len(x) - len(x) // 2], label=f"input-{i}") for i, x in enumerate(inputs)
    ]


def weights(piece):
    return checks.random_like(piece, np.random.default_rng(7))


def derive_lazily(case, rng):
    """The tangents and the cotangent of a collection, and differences of the values it computes."""
    wrt = partitioned(case.inputs)
    expr = case.fn(*wrt)
    tangents = checks.random_like(case.inputs, rng)
    cotangent = dak.map_partitions(weights, expr, meta=expr._meta) if isinstance(expr, dak.Array) else 0.75
    *forward, cotangents, w = dask.compute(
        *(dak_diff.jvp(expr, wrt, list(tangents), method=method) for method in ("dual", "complex-step")),
        dak_diff.vjp(expr, wrt, cotangent),
        cotangent,
    )
    whole = replace(case, fn=lambda *inputs: case.fn(*partitioned(inputs)).compute())
    return forward, cotangents, w, tangents, checks.difference_quotient(whole, tangents)


@rows(LAZY, EXACT)
@pytest.mark.filterwarnings("ignore:Please ensure that:UserWarning")
def test_lazily_exact(row, rng):
    forward, cotangents, w, tangents, expected = derive_lazily(row.case, rng)
    assert np.any(expected)
    for tangent in forward:
        checks.assert_close(tangent, expected, 0.0 if row.case.exact else 1e-8, "jvp")
    gap = abs(checks.inner(w, forward[0]) - checks.inner(cotangents, tangents))
    assert gap <= 1e-12 * checks.norm(w) * checks.norm(forward[0]), f"forward and reverse differ by {gap}"


@rows(LAZY, ZERO)
def test_lazily_zero_by_nature(row, rng):
    forward, cotangents, *_, expected = derive_lazily(row.case, rng)
    assert not np.any(expected)
    assert all(map(is_zero, forward))
    assert is_zero(cotangents)


@rows(LAZY, REFUSED)
def test_lazily_refused(row):
    wrt = partitioned(row.case.inputs)
    for derivative in (
        lambda: dak_diff.jvp(row.case.fn(*wrt), wrt, method="dual"),
        lambda: dak_diff.jvp(row.case.fn(*wrt), wrt, method="complex-step"),
        lambda: dak_diff.vjp(row.case.fn(*wrt), wrt),
    ):
        with pytest.raises(DakDiffError) as refusal:
            dask.compute(derivative())
        assert row.note in str(refusal.value)


@rows(LAZY, NOT_APPLICABLE)
def test_unimplemented_upstream(row):
    """If this fails: dask-awkward has it now, so it gets a verdict."""
    with pytest.raises(NotImplementedError):
        row.case.fn(*partitioned(row.case.inputs))


# ---------------------------------------------------------------- vectors


def vector_rows(*verdicts):
    """Each name in each dimension; conversions start from polar coordinates only, to save time."""
    found = {
        (name, f"{dimension}D", storage): replace(row.case, inputs=operations.vectors(dimension, storage))
        for dimension in VECTOR
        for storage in ("polar", "Cartesian")
        for lowest, table in VECTOR.items()
        for name, row in table.items()
        if lowest <= dimension and row.verdict in verdicts
        if storage == "polar" or not name.startswith("to_")
    }
    return pytest.mark.parametrize("case", [pytest.param(c, id=" ".join(key)) for key, c in found.items()])


@vector_rows(EXACT)
def test_vector_exact(case, rng):
    check_exact(case, rng)


@vector_rows(ZERO)
def test_vector_zero_by_nature(case, rng):
    check_zero(case, rng)


@pytest.mark.parametrize(
    ("dimension", "alias", "name"),
    [(d, alias, name) for d in VECTOR for low in ALIASES if low <= d for alias, name in ALIASES[low].items()],
)
def test_other_names_of_vectors_give_the_same(dimension, alias, name):
    v, _ = operations.vectors(dimension, "polar")
    got, expected = getattr(v, alias), getattr(v, name)
    if name.startswith("to_"):
        got, expected = got(), expected()
    assert np.any(checks.numbers(expected))
    assert checks.numbers(got) == checks.numbers(expected)
