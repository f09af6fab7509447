"""Difference quotients of several steps, beside a derivative."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from dak_diff.checking.moved import moved
from dak_diff.checking.numbers import Numbers, computed
from dak_diff.checking.point import Point
from dak_diff.checking.precision import Precision

__all__ = ["Differences", "Problem"]

_POINTS = (-2, -1, 1, 2)
_KINK = "the function has a kink or jump near this point"


@dataclass(frozen=True)
class Problem:
    """Two numbers that should be the same, and are not."""

    mode: str
    what: str
    place: str
    got: Any
    expected: Any
    relative: float = 0.0
    absolute: float = 0.0
    note: str = ""


class _Quotient:
    """The five-point difference quotient of one step, with an estimate of its error."""

    def __init__(self, value: Numbers, moved: list[Numbers], step: float, precision: Precision):
        self.alike = np.logical_and.reduce([value.alike(other) for other in moved])
        self.same = value.each(self.alike)
        (far_below, below, above, far_above), here = map(value.beside, moved), value.flat
        with np.errstate(all="ignore"):
            self.number = (8 * (above - below) - (far_above - far_below)) / (12 * step)
            self.gap = np.abs(above - 2 * here + below) / step
            fourth = far_below - 4 * below + 6 * here - 4 * above + far_above
            # Rounding may leave no trace in one number, hardly in half of them.
            typical = np.abs(fourth[self.same & np.isfinite(fourth)])
            self.error = (
                4
                * (np.abs(fourth) + (np.quantile(typical, 0.5, method="lower") if typical.size else 0))
                / step
            )
            finite = np.abs(here[np.isfinite(here)])
            self.rounding = precision.eps * np.max(finite, initial=0.0) / step

    def allowed(self, tangent: np.ndarray, precision: Precision) -> tuple[np.ndarray, np.ndarray]:
        """Where the quotient says something, and how far from it the derivative may be there."""
        with np.errstate(all="ignore"):
            size = np.maximum(np.abs(self.number), np.abs(tangent))
            # Where large numbers nearly cancel, a result is as good as its largest elements.
            largest = np.max(size[self.same & np.isfinite(size)], initial=0.0)
            scale = np.maximum(size, largest / 128)
            converged = self.error <= precision.roughness * scale + 64 * self.rounding
            allowed = precision.rtol * size + self.error + 8 * self.rounding
            return self.same & np.isfinite(self.number) & converged, allowed


class Differences:
    """The difference quotients of an expression, of one step after another for as long as that is needed.

    Attributes
    ----------
    value : Numbers
        The expression where it is.
    number, allowed : array
        For each number of it the first quotient that says something, and how far from that the
        derivative may be.
    alike : array of bool
        Which partitions keep their structure at some step.
    """

    def __init__(self, expr: Any, point: Point):
        self.expr, self.point, self.precision = expr, point, point.precision(expr)
        steps = self.precision.steps
        # One run reads the sources for the value and the first quotient.
        here, *others = self._moved(0.0, *(n * steps[0] for n in _POINTS))
        self.value = here
        self.quotients = [_Quotient(here, others, steps[0], self.precision)]

    def _moved(self, *moves: float) -> list[Numbers]:
        return [
            Numbers(pieces) for pieces in computed([moved(self.expr, self.point, move) for move in moves])
        ]

    def _each_step(self) -> Iterator[_Quotient]:
        yield self.quotients[0]
        for step in self.precision.steps[1:]:
            others = self._moved(*(n * step for n in _POINTS))
            self.quotients.append(_Quotient(self.value, others, step, self.precision))
            yield self.quotients[-1]

    def compare(self, tangent: np.ndarray | None = None) -> np.ndarray:
        """Where no quotient agrees with a tangent; without one, where none says anything."""
        shape, missing = self.value.flat.shape, ~np.isfinite(self.value.flat)
        self.number, self.allowed = np.zeros(shape), np.zeros(shape)
        self.alike = np.zeros(len(self.value.pieces), bool)
        agreed, said = missing, np.zeros(shape, bool)
        for quotient in self._each_step():
            says, allowed = quotient.allowed(quotient.number if tangent is None else tangent, self.precision)
            self.number = np.where(said, self.number, quotient.number)
            self.allowed = np.where(said, self.allowed, allowed)
            said = said | says
            if tangent is not None:
                with np.errstate(all="ignore"):
                    says &= np.abs(tangent - quotient.number) <= allowed
                says |= quotient.same & ~np.isfinite(tangent) & ~np.isfinite(quotient.number)
            agreed = agreed | says
            self.alike |= quotient.alike
            if np.all(agreed) and np.all(self.alike):
                break
        return ~agreed

    def problem(self, mode: str, tangent: np.ndarray | None = None) -> Problem | None:
        """The worst of the numbers that disagree."""
        bad = self.compare(tangent)
        if not np.any(bad):
            return None if np.all(self.alike) else self._selection(mode)
        got = self.quotients[-1].number if tangent is None else tangent
        with np.errstate(all="ignore"):
            off = self.allowed if tangent is None else np.abs(got - self.number) / self.allowed
            at = int(np.argmax(np.where(bad, np.nan_to_num(off, nan=np.inf), -1.0)))
            relative = self.precision.rtol * max(abs(got[at]), abs(self.number[at]))
        return Problem(
            mode,
            "the quotient of the last step" if tangent is None else "the jvp",
            f" at {self.value.place(at) or 'its only number'}",
            got[at],
            self.number[at],
            self.precision.rtol,
            float(self.allowed[at] - relative),
            self._note(at),
        )

    def _selection(self, mode: str) -> Problem:
        i = int(np.argmin(self.alike))
        what = "the value after the smallest step"
        return Problem(mode, what, f" in partition {i}", "other lengths", "those it has", note=_KINK)

    def _note(self, at: int) -> str:
        """What the quotients of the first and of the smallest step tell of the point."""
        first, last = self.quotients[0], self.quotients[-1]
        if not last.same[at]:
            return _KINK
        # Both one-sided quotients tend to the derivative, if there is one; rounding keeps them apart, too.
        rounding = first.rounding * self.precision.eps ** (-2 / 3)
        smooth = first.gap[at] <= rounding or last.gap[at] <= first.gap[at] / 4
        if not smooth:
            return _KINK
        quotients = np.abs([quotient.number[at] for quotient in self.quotients if self._says(quotient, at)])
        # A long step may cross a threshold: that is no news if its own error tells of it.
        agree = quotients.size and np.ptp(quotients) <= self.precision.roughness * np.max(quotients)
        return "" if agree else "the differences of several steps disagree here, so they show nothing"

    def _says(self, quotient: _Quotient, at: int) -> bool:
        """Whether a quotient says something of one number."""
        return bool(quotient.allowed(quotient.number, self.precision)[0][at])
