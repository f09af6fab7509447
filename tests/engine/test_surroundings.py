"""What a function sees besides its arguments, and whether it changed."""

import functools
import io
import math
import types

import awkward as ak
import numpy as np
import pytest

from dak_diff.engine.surroundings import Surroundings

TABLE = np.arange(4.0)
SETTINGS = {"scale": 2.0, "parts": [1.0, 2.0]}
ARRAY = ak.from_numpy(np.ones(3))
FACTOR = 2.0


class Calibration:
    """With an attribute, a constant of the class and a method that sees a global."""

    offset = 1.0

    def __init__(self):
        self.scale = 2.0

    def __call__(self, x):
        return self.scale * x + self.offset + TABLE[0]


class Slotted:
    __slots__ = ("scale",)


calibration, slotted = Calibration(), Slotted()
slotted.scale = 2.0


def helper(x):
    return x * SETTINGS["scale"]


def closure(value):
    return lambda x: x * value[0]


cell = [1.0]
module = types.ModuleType("mine")
module.constant = 1.0


def changes(monkeypatch):
    """Each with a function, and a change of what it sees."""
    yield "a global", lambda x: x * FACTOR, lambda: monkeypatch.setitem(globals(), "FACTOR", 3.0)
    yield "a table", lambda x: x * TABLE[1], lambda: monkeypatch.setattr(TABLE, "flat", 7.0)
    yield "a dict", lambda x: helper(x), lambda: monkeypatch.setitem(SETTINGS, "scale", 3.0)
    yield "a key", lambda x: len(SETTINGS) * x, lambda: monkeypatch.setitem(SETTINGS, "more", 3.0)
    yield "a list inside", lambda x: SETTINGS["parts"][0] * x, lambda: SETTINGS["parts"].append(3.0)
    yield "a closure", closure(cell), lambda: cell.__setitem__(0, 5.0)
    yield "a default", _with_default, lambda: monkeypatch.setattr(_with_default, "__defaults__", (3.0,))
    yield "an attribute", lambda x: calibration(x), lambda: monkeypatch.setattr(calibration, "scale", 3.0)
    yield "a class", lambda x: calibration(x), lambda: monkeypatch.setattr(Calibration, "offset", 3.0)
    yield "a bound method", calibration.__call__, lambda: monkeypatch.setattr(calibration, "scale", 4.0)
    yield (
        "a partial",
        functools.partial(np.multiply, TABLE),
        lambda: monkeypatch.setattr(TABLE, "flat", 8.0),
    )
    yield "a helper", lambda x: helper(x), lambda: monkeypatch.setitem(globals(), "helper", abs)
    yield (
        "a user's module",
        lambda x: module.constant * x,
        lambda: monkeypatch.setattr(module, "constant", 2.0),
    )
    yield "an Awkward array", lambda x: x * ARRAY, lambda: np.asarray(ARRAY).__setitem__(0, 5.0)
    yield "a method of a class", lambda x: calibration(x), lambda: monkeypatch.setattr(TABLE, "flat", 9.0)
    yield "a slot", lambda x: x * slotted.scale, lambda: monkeypatch.setattr(slotted, "scale", 3.0)
    yield "a nested function", _nested, lambda: monkeypatch.setitem(globals(), "FACTOR", 5.0)


def _with_default(x, factor=2.0):
    return x * factor


def _nested(x):
    return next((lambda y: y * FACTOR)(v) for v in [x])


def test_every_change_is_seen(monkeypatch):
    for name, function, change in changes(monkeypatch):
        surroundings = Surroundings(function)
        assert surroundings.opaque is None, name
        assert surroundings.changed() is None, name
        change()
        assert surroundings.changed() is not None, name
        assert Surroundings(function).changed() is None, name


def test_an_equal_number_is_no_change(monkeypatch):
    surroundings = Surroundings(lambda x: x * FACTOR)
    monkeypatch.setitem(globals(), "FACTOR", float("2.0"))
    assert surroundings.changed() is None


def test_what_changed_is_named(monkeypatch):
    surroundings = Surroundings(lambda x: helper(x))
    monkeypatch.setitem(SETTINGS, "scale", 3.5)
    assert surroundings.changed() == "SETTINGS['scale']"


def test_libraries_are_taken_as_they_are():
    assert len(Surroundings(lambda x: np.sum(ak.flatten(x)) * math.pi)._places) == 1


def test_functions_that_see_each_other():
    def even(n):
        return n == 0 or odd(n - 1)

    def odd(n):
        return n != 0 and even(n - 1)

    assert Surroundings(even).changed() is None


@pytest.mark.parametrize("opaque", [iter([1.0]), io.BytesIO(b"1"), np.random.default_rng()])
def test_what_cannot_be_looked_into_is_named(opaque):
    assert f"opaque, a {type(opaque).__name__}" in Surroundings(lambda x: (opaque, x)).opaque
