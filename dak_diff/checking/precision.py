"""How far to move, and what is allowed, in double and in single precision."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DOUBLE", "SINGLE", "Precision"]


@dataclass(frozen=True)
class Precision:
    """Steps, in units of the direction, and what is allowed.

    The first step is eps**(1/5), where rounding and the error of five points are alike; a longer one
    serves where rounding is worse, a shorter one where the function bends or a selection changes.
    ``roughness`` is the largest error of a quotient, by its own estimate, that still says anything;
    ``dot`` allows for sums in another order.
    """

    eps: float
    steps: tuple[float, ...]
    rtol: float
    roughness: float
    dot: float


DOUBLE = Precision(2.0**-52, (2.0**-10, 2.0**-6, 2.0**-14, 2.0**-18), 1e-7, 1e-4, 1e-10)
SINGLE = Precision(2.0**-23, (2.0**-5, 2.0**-3, 2.0**-7, 2.0**-9), 1e-3, 2e-2, 1e-4)
