"""What a function sees besides its arguments, whether it changed: closures, globals, defaults, attributes.

A recorded program holds what they were. A user's code is looked into, that of installed libraries is taken as
it is.
"""

from __future__ import annotations

import enum
import functools
import re
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Any

import awkward as ak
import numpy as np

from dak_diff.programs.program import same
from dak_diff.programs.recorder import is_library_code
from dak_diff.rules.namespace import is_array

__all__ = ["Surroundings"]

_ATOMS = (
    *(bool, int, float, complex, str, bytes, type(None), type(Ellipsis), np.generic, np.dtype, np.ufunc),
    *(re.Pattern, PurePath, enum.Enum, types.BuiltinFunctionType, types.MethodWrapperType, slice, range),
    *(types.WrapperDescriptorType, types.MethodDescriptorType, types.GetSetDescriptorType, frozenset),
    *(types.MemberDescriptorType, types.ClassMethodDescriptorType),
)
#: Objects of compiled libraries that nothing changes once they are made.
_UNCHANGING = frozenset({"correctionlib", "numba"})
#: Flag of classes that are not built into a compiled module.
_MADE_IN_PYTHON = 1 << 9


class Surroundings:
    """What a function sees, as it is now.

    Parameters
    ----------
    function : callable
        Looked into as far as its code is a user's.

    Attributes
    ----------
    opaque : str or None
        What it sees that cannot be looked into, if there is such a thing.
    """

    def __init__(self, function: Callable):
        self.opaque: str | None = None
        self._places: list[tuple[str, Callable[[], Any], Any, Any]] = []
        self._seen: dict[int, Any] = {}
        self._look(getattr(function, "__name__", "the function"), lambda: function)

    def changed(self) -> str | None:
        """The name of the first thing that is not what it was, or None."""
        for name, get, value, content in self._places:
            try:
                now = get()
            except (LookupError, AttributeError, ValueError):
                return name
            if now is not value and not (isinstance(value, _ATOMS) and same(now, value)):
                return name
            if content is not None and not same(_content(now), content):
                return name
        return None

    # ---------------------------------------------------------------- the walk

    def _look(self, name: str, get: Callable[[], Any]) -> None:
        value = get()
        if isinstance(value, types.ModuleType) or value is ak.behavior:
            return
        content = _content(value)
        copied = tuple(x.copy() if is_array(x) else x for x in content) if content is not None else None
        self._places.append((name, get, value, copied))
        if id(value) in self._seen or isinstance(value, _ATOMS):
            return
        self._seen[id(value)] = value
        for inner_name, inner_get in self._inside(name, value):
            self._look(inner_name, inner_get)

    def _inside(self, name: str, value: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
        """The places in a value, each with its name."""
        if isinstance(value, types.FunctionType):
            if not is_library_code(value.__code__.co_filename):
                yield from _of_function(value)
        elif isinstance(value, types.MethodType):
            yield f"{name}.__self__", lambda: value.__self__
            yield f"{name}.__func__", lambda: value.__func__
        elif isinstance(value, functools.partial):
            yield f"{name}.func", lambda: value.func
            yield f"{name}.args", lambda: value.args
            yield f"{name}.keywords", lambda: value.keywords
        elif isinstance(value, (list, tuple)):
            for i in range(len(value)):
                yield f"{name}[{i}]", functools.partial(value.__getitem__, i)
        elif isinstance(value, dict):
            for key in value:
                yield f"{name}[{key!r}]", functools.partial(value.__getitem__, key)
        elif isinstance(value, type):
            if not _is_of_library(value):
                for key in vars(value):
                    if not (key.startswith("__") and key.endswith("__")) or key in ("__call__", "__init__"):
                        yield f"{name}.{key}", functools.partial(_member, value, key)
        elif isinstance(value, (property, staticmethod, classmethod)):
            part = value.fget if isinstance(value, property) else value.__func__
            if part is not None:
                yield name, lambda: part
        elif hasattr(value, "py_func"):
            yield f"{name}.py_func", lambda: value.py_func
        elif hasattr(value, "__wrapped__") and callable(value):
            yield f"{name}.__wrapped__", lambda: value.__wrapped__
        elif not (is_array(value) or isinstance(value, (ak.Array, ak.Record))):
            yield from self._of_object(name, value)

    def _of_object(self, name: str, value: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
        cls = type(value)
        if cls.__module__.partition(".")[0] in _UNCHANGING:
            return
        if not all(c is object or c.__flags__ & _MADE_IN_PYTHON for c in cls.__mro__):
            self.opaque = self.opaque or f"{name}, a {cls.__name__}"
            return
        yield f"type({name})", lambda: type(value)
        for key in (*getattr(value, "__dict__", ()), *_slots(cls)):
            if hasattr(value, key):
                yield f"{name}.{key}", functools.partial(getattr, value, key)


def _slots(cls: type) -> Iterator[str]:
    for c in cls.__mro__:
        slots = vars(c).get("__slots__", ())
        yield from (s for s in ([slots] if isinstance(slots, str) else slots) if not s.startswith("__"))


def _of_function(function: types.FunctionType) -> Iterator[tuple[str, Callable[[], Any]]]:
    label = function.__name__
    for i, cell in enumerate(function.__closure__ or ()):
        yield function.__code__.co_freevars[i], functools.partial(_cell, cell)
    if function.__defaults__:
        yield f"a default of {label}", lambda: function.__defaults__
    if function.__kwdefaults__:
        yield f"a default of {label}", lambda: function.__kwdefaults__
    names = set(_names(function.__code__))
    scope = function.__globals__
    for key in names & scope.keys():
        value = scope[key]
        yield key, functools.partial(scope.__getitem__, key)
        if isinstance(value, types.ModuleType) and not _is_library(value):
            for attribute in names & vars(value).keys():
                yield f"{key}.{attribute}", functools.partial(getattr, value, attribute)


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _cell(cell: Any) -> Any:
    return cell.cell_contents


def _member(cls: type, key: str) -> Any:
    return vars(cls)[key]


def _is_library(module: types.ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return module.__name__ in sys.builtin_module_names if file is None else is_library_code(file)


def _is_of_library(cls: type) -> bool:
    module = sys.modules.get(cls.__module__)
    return module is not None and _is_library(module)


def _content(value: Any) -> Any:
    """What can change in a value while it stays the same object: elements, length, keys."""
    if is_array(value) and not isinstance(value, np.generic):
        return (value,)
    if isinstance(value, (ak.Array, ak.Record)):
        from dak_diff.engine.flatten import NotFlatError, flatten

        try:
            return tuple(flatten(value)[0])
        except NotFlatError:
            return None
    if isinstance(value, (list, tuple)):
        return (len(value),)
    if isinstance(value, dict):
        return tuple(map(repr, value)) if len(value) < 1000 else (len(value),)
    if isinstance(value, set):
        return (repr(value),)
    attributes = getattr(value, "__dict__", None)
    return None if attributes is None or isinstance(value, (type, types.FunctionType)) else tuple(attributes)
