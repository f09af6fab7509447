"""What users set through ``dask.config``."""

from __future__ import annotations

import dask.config

from dak_diff.engine.recordings import MODES

__all__ = ["programs_mode"]


def programs_mode() -> str:
    """The value of ``dak_diff.programs``: "auto", "off" or "check".

    Raises
    ------
    ValueError
        If it is something else.
    """
    mode: str = dask.config.get("dak_diff.programs", "auto")
    if mode not in MODES:
        raise ValueError(
            f"the configuration dak_diff.programs must be one of {', '.join(MODES)}, not {mode!r}"
        )
    return mode
