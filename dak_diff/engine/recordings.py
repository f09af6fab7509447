"""A function and its programs: recorded at first, replayed from then on.

A program is used when two recordings of it agree in every instruction and every constant. So what draws
random numbers, counts its calls or reads a clock is found out. A length that was the same in all recordings
may have had an influence that cannot be seen (C code takes it out of a symbol unasked): it is guarded,
tentatively, until a recording in which it differs agrees all the same. What the function sees besides its
arguments is looked at before each call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np

from dak_diff.engine.awkward_internals import recorded_backend
from dak_diff.engine.flatten import NotFlatError, Structure, flatten, unflatten
from dak_diff.engine.surroundings import Surroundings
from dak_diff.engine.values import is_active
from dak_diff.errors import ProgramError
from dak_diff.programs.aliases import Aliases
from dak_diff.programs.array import input_value
from dak_diff.programs.passes import shorten
from dak_diff.programs.program import Program, Variable, first_difference, same
from dak_diff.programs.recorder import Recorder, Tracked, current, recording_into
from dak_diff.programs.source import GuardMissedError, compiled
from dak_diff.programs.stepped import first_wrong
from dak_diff.rules.namespace import is_array

__all__ = ["MODES", "MOST_PROGRAMS", "Recordings"]

#: What to do with programs: use them, do without, or run both ways and compare.
MODES = ("auto", "off", "check")
#: A function that needs more of them for one structure of its arguments runs the ordinary way.
MOST_PROGRAMS = 4
#: As often it is recorded, for one structure of its arguments.
MOST_RECORDINGS = 16


@dataclass(frozen=True)
class _Recording:
    """What was recorded once; ``run`` and ``shortened`` are there when another recording agreed."""

    program: Program
    structure: Structure
    shortened: Program | None = None
    run: Callable[..., list] | None = None

    def replayed(self, inputs: list[Any]) -> Any:
        """The value, from the program."""
        assert self.run is not None
        return unflatten(self.structure, self.run(*inputs), _backend())


@dataclass(frozen=True)
class _Call:
    """The arguments of one call, taken apart."""

    leaves: list[Any]
    structure: Structure

    @property
    def key(self) -> Hashable:
        """Calls of one key may share a program."""
        return (self.structure, tuple(np.geterr().items()))

    @property
    def inputs(self) -> list[Any]:
        """What a program is given of them."""
        return [leaf for leaf in self.leaves if _is_input(leaf)]

    def ordinarily(self, function: Callable) -> Any:
        """What the function gives."""
        args, kwargs = unflatten(self.structure, self.leaves, _backend())
        return function(*args, **kwargs)


class Recordings:
    """The programs of one function.

    Parameters
    ----------
    function : callable
        Of values that :func:`~dak_diff.engine.flatten.flatten` takes apart.
    """

    def __init__(self, function: Callable):
        self.function = function
        self._of: dict[Hashable, tuple[_Recording, ...]] = {}
        self._given_up: dict[Hashable, str] = {}
        self._recorded: dict[Hashable, int] = {}
        self._surroundings: Surroundings | None = None
        self._changes = 0
        self._why: str | None = None
        self._lock = threading.RLock()

    @property
    def programs(self) -> list[Program]:
        """Those that are in use."""
        return [r.shortened for found in self._of.values() for r in found if r.shortened is not None]

    @property
    def why(self) -> str | None:
        """Why the last call that ran the ordinary way did, or None."""
        return self._why

    def __call__(self, args: tuple, kwargs: dict[str, Any], mode: str = "auto") -> Any:
        """The value; ``mode`` is one of :data:`MODES`."""
        if mode == "off" or current() is not None or is_active((args, kwargs)):
            return self.function(*args, **kwargs)
        try:
            call = _Call(*flatten((args, kwargs)))
        except NotFlatError as error:
            self._why = f"{error} among the arguments is not looked into"
            return self.function(*args, **kwargs)
        key = call.key
        if key in self._given_up and key not in self._of:
            return self.function(*args, **kwargs)
        self._look_around()
        failed = False
        for recording in self._of.get(key, ()):
            if recording.run is None:
                continue
            try:
                value = recording.replayed(call.inputs)
            except GuardMissedError:
                continue
            except Exception:
                failed = True
                break
            if mode == "check":
                self._check(recording, call, value)
            return value
        if failed or key in self._given_up:
            # Where a program failed, the ordinary way raises what users know.
            return self.function(*args, **kwargs)
        with self._lock:
            return self._record(key, call)

    def _look_around(self) -> None:
        """Forget the programs if what the function sees is not what it was."""
        if self._surroundings is not None and (name := self._surroundings.changed()) is not None:
            with self._lock:
                self._of, self._surroundings = {}, None
                self._changes += 1
                self._why = f"{name}, which it sees, changed since it was recorded"

    # ---------------------------------------------------------------- recording

    def _record(self, key: Hashable, call: _Call) -> Any:
        if self._changes > MOST_PROGRAMS:
            self._give_up(key, self._why or "")
            return call.ordinarily(self.function)
        if self._surroundings is None:
            self._surroundings = Surroundings(self.function)
        if self._surroundings.opaque is not None:
            self._give_up(key, f"it sees {self._surroundings.opaque}, which may change unseen")
            return call.ordinarily(self.function)
        try:
            new, value, reason = _recorded(self.function, call)
        except NotFlatError as error:
            self._give_up(key, f"{error} in its result is not looked into")
            return call.ordinarily(self.function)
        except Exception as error:
            # What fails in the ordinary way, too, raises there.
            value = call.ordinarily(self.function)
            self._give_up(key, f"recording it failed: {type(error).__name__}: {error}")
            return value
        changed = self._surroundings.changed()
        if changed is not None:
            reason = f"it changes {changed}"
        if reason is not None:
            self._give_up(key, reason)
        else:
            self._add(key, new, call, value)
        return value

    def _add(self, key: Hashable, new: _Recording, call: _Call, value: Any) -> None:
        """Confirm a recording by another one, or keep it until another one does."""
        found = self._of.get(key, ())
        differences = [_difference(old, new) for old in found]
        self._recorded[key] = self._recorded.get(key, 0) + 1
        if None in differences:
            place = differences.index(None)
            agreed = _agreed(found[place], new)
            reason = self._trial(agreed, call, value)
            if reason is not None:
                self._of.pop(key)
                self._give_up(key, reason)
                return
            self._of[key] = (*found[:place], agreed, *found[place + 1 :])
        else:
            waiting = [r for r in found if r.run is None]
            used = [r for r in found if r.run is not None]
            # Those that nothing confirmed make room: the oldest first.
            self._of[key] = (*used, *waiting[1 - MOST_PROGRAMS :], new)
            if len(used) == MOST_PROGRAMS:
                self._give_up(key, f"more than {MOST_PROGRAMS} programs: {differences[-1]}")
        if self._recorded[key] == MOST_RECORDINGS and key not in self._given_up:
            self._give_up(key, f"{MOST_RECORDINGS} recordings: {next(filter(None, differences), '')}")

    def _trial(self, recording: _Recording, call: _Call, value: Any) -> str | None:
        """What speaks against a program before its first use."""
        if not _same_values(value, call.ordinarily(self.function)):
            return "it gives something else when it is recorded"
        try:
            replayed = recording.replayed(call.inputs)
        except Exception as error:
            return f"its program fails where it was recorded: {type(error).__name__}: {error}"
        return None if _same_values(value, replayed) else "its program gives something else"

    def _give_up(self, key: Hashable, reason: str) -> None:
        """Record no more; what is in use stays, for each of its paths is guarded."""
        self._why = self._given_up[key] = reason

    def _check(self, recording: _Recording, call: _Call, value: Any) -> None:
        if _same_values(value, call.ordinarily(self.function)):
            return
        values: dict[Variable, Any] = {}
        _recorded(self.function, call, values)
        place = first_wrong(recording.program, call.inputs, values)
        raise ProgramError(
            f"the program of {getattr(self.function, '__name__', 'a function')} gives something else. "
            f"The first instruction that differs: {place or 'none, when it was run again'}. "
            'Set the configuration "dak_diff.programs" to "off", and please report it.'
        )


def _recorded(
    function: Callable, call: _Call, values: dict[Variable, Any] | None = None
) -> tuple[_Recording, Any, str | None]:
    """A recording of one call, its value, and why it must not be used if it must not."""
    recorder, backend = Recorder(values), recorded_backend()
    with recording_into(recorder):
        lifted = [input_value(recorder, leaf) if _is_input(leaf) else leaf for leaf in call.leaves]
        args, kwargs = unflatten(call.structure, lifted, backend)
        results, structure = flatten(function(*args, **kwargs))
        outputs = tuple(
            x.variable if isinstance(x, Tracked) else recorder.constant(x) if is_array(x) else x
            for x in results
        )
    program = recorder.program(outputs)
    reason = recorder.escapes[0] if recorder.escapes else None
    if reason is None:
        aliases = Aliases(program)
        if any(map(aliases.is_written, program.inputs)):
            reason = "it writes to its arguments"
    value = unflatten(structure, [x.held if isinstance(x, Tracked) else x for x in results], _backend())
    return _Recording(program, structure), value, reason


def _difference(one: _Recording, other: _Recording) -> str | None:
    if one.structure != other.structure:
        return "its result has another structure another time"
    return first_difference(one.program, other.program)


def _agreed(one: _Recording, other: _Recording) -> _Recording:
    """The program of two recordings, with those tentative guards that both have."""
    program = one.program.with_tentative(one.program.tentative & other.program.tentative)
    short = shorten(program)
    return _Recording(program, one.structure, short, compiled(short))


def _same_values(a: Any, b: Any) -> bool:
    """Whether two values are the same, bit for bit in what can be reached."""
    (one, structure), (other, other_structure) = flatten(a), flatten(b)
    if structure == other_structure and all(map(same, one, other)):
        return True
    one, other = flatten(_packed(a))[0], flatten(_packed(b))[0]
    return structure == other_structure and len(one) == len(other) and all(map(same, one, other))


def _packed(value: Any) -> Any:
    if isinstance(value, (ak.Array, ak.Record)):
        return ak.to_packed(value)
    if isinstance(value, dict):
        return {key: _packed(part) for key, part in value.items()}
    return tuple(map(_packed, value)) if isinstance(value, (tuple, list)) else value


def _is_input(leaf: Any) -> bool:
    return isinstance(leaf, (int, float, complex, np.generic)) or is_array(leaf)


def _backend() -> Any:
    return recorded_backend().base
