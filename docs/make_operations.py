"""Write docs/reference/operations.md from the map in tests/operations.py: python docs/make_operations.py."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "operations.md"
sys.path.insert(0, str(ROOT / "tests"))

import operations  # noqa: E402

from dak_diff.engine import numpy_functions  # noqa: E402
from dak_diff.engine.array_module import ArrayModule  # noqa: E402

HEAD = """# The map of operations

<!-- Written by docs/make_operations.py from tests/operations.py: change that. -->

Every public operation of Awkward Array, dask-awkward, NumPy's ufuncs and vector, and what its derivative
is. The tests run every row; they fail when a name is new or gone.

| verdict | means |
|---|---|
| exact | the derivative, right to rounding; at kinks see [kinks](../explain/kinks.md) |
| zero by nature | positions, counts, booleans, piecewise constant: zero wherever there is a derivative |
| refused | an error, which says where the derivative would be lost, in the words given |
| not applicable | no numbers go in, or none come out, for the reason given |

*Forward* is `jvp`: "dual" by formulas, "complex step" by `method="complex-step"`, where a formula serves for
what has no complex step. *Reverse* is `vjp` and `grad`.
"""
COLUMNS = ("forward (dual)", "forward (complex step)", "reverse")


def table(rows: Mapping[str, operations.Row], extra: Mapping[str, str] | None = None) -> Iterable[str]:
    """The lines of a table, by name."""
    yield "| " + " | ".join(("name", *COLUMNS, "note")) + " |"
    yield "|---" * (len(COLUMNS) + 2) + "|"
    for name in sorted(rows, key=str.lower):
        row = rows[name]
        note = f"`{row.note}`" if row.verdict == operations.REFUSED else row.note
        note = note or (extra or {}).get(name, "")
        yield f"| `{name}` | " + " | ".join([row.verdict] * len(COLUMNS)) + f" | {note} |"


def functions() -> list[str]:
    """The names of NumPy's functions that have a derivative."""
    own = {"base", "ndarray", "refused", "ufunc", "ufunc_method", "call", "concat", "asarray", "array"}
    methods = {
        name.replace("linalg_", "linalg.")
        for cls in (ArrayModule, numpy_functions.NumpyFunctions)
        for name in vars(cls)
        if not name.startswith("_")
    }
    return sorted((methods | numpy_functions.MOVEMENTS | numpy_functions.JOINS) - own)


def page() -> str:
    """The text of the page."""
    lines = [HEAD]
    for title, before, rows in (
        ("Awkward Array: `ak.`", "`ak.str.*` is not applicable: text.", operations.AWKWARD),
        (
            "dask-awkward: `dak.`",
            "`dak.str.*` is not applicable: text. What dask-awkward has not implemented can be called inside "
            "`map_partitions`.",
            operations.DASK,
        ),
        ("dask-awkward: methods of `dak.Array`", "", operations.DASK_ARRAY),
        ("dask-awkward: methods of `dak.Scalar`", "", operations.DASK_SCALAR),
        ("NumPy: ufuncs", "", operations.UFUNCS),
    ):
        lines += [f"## {title}\n", *([f"{before}\n"] if before else []), *table(rows), ""]
    lines += [
        "## NumPy: functions of arrays\n",
        "Exact, also as methods where NumPy has them: "
        f"{', '.join(f'`{name}`' for name in functions())}. Any other function of what depends on `wrt` is "
        "refused by its name.\n",
    ]
    for dimension, rows in operations.VECTOR.items():
        aliases = operations.ALIASES[dimension]
        generic = {name: row for part in operations.VECTOR.values() for name, row in part.items()}
        named = {**rows, **{alias: generic[name] for alias, name in aliases.items()}}
        lines += [
            f"## vector: {dimension}D" + (" and higher\n" if dimension < 4 else "\n"),
            *table(named, {alias: f"as `{name}`" for alias, name in aliases.items()}),
            "",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page())
