"""Write docs/reference/rules.md from the tables in dak_diff/rules: python docs/make_rules.py."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from dak_diff.rules import (
    complex_step,
    elementwise,
    kernel_sums,
    products,
    reducers,
    special,
    structure,
    ufuncs,
)
from dak_diff.rules.complex_step import ALLOWED
from dak_diff.rules.primitive import Primitive

PAGE = Path(__file__).resolve().parent / "reference" / "rules.md"

HEAD = """# The rules

<!-- Written by docs/make_rules.py from the tables in dak_diff/rules: change those. -->

Every derivative that dak_diff knows; all else is made of these, by running Awkward's own code on them. What
each public operation gives is in [the map of operations](operations.md), what happens at kinks in
[kinks](../explain/kinks.md).

| kind | the author writes | forward | reverse |
|---|---|---|---|
| elementwise | one partial `p` per argument | `y_dot = sum p_i x_dot_i` | `x_bar_i = conj(p_i) y_bar` |
| linear | the transpose | the operation itself | the transpose |
| selection | the index it selects by | the same selection | a scatter-add |
| custom | residuals, pushforward, pullback | | |
| not differentiable | the reason | a symbolic zero | a symbolic zero |

To add a ufunc, write its line in `dak_diff/rules/ufuncs.py` (NumPy) or `special.py` (SciPy): both modes and
all orders come from it, and `tests/rules/` finds the new row by itself. A function of your own gets its rule
by [a decorator](../how-to/custom_rules.md).

In the formulas `out` is the result; `where(c, a, b)` takes `b`'s place for `a` where `c` does not hold.
"""


def clean(node: ast.AST) -> str:
    """A formula as one would write it: plain values and derivatives are not told apart, nor modules named."""
    text = re.sub(r"\braw\((\w+)\)", r"\1", ast.unparse(node))
    return " ".join(re.sub(r"\b(np|sp)\.|\breturn ", "", text).split())


class Formulas:
    """The formulas of a module, as they stand in its source."""

    def __init__(self, module: ModuleType):
        self.tree = ast.parse(inspect.getsource(module))
        self.functions = {node.name: node for node in self.tree.body if isinstance(node, ast.FunctionDef)}
        self.used: dict[str, None] = {}

    def rows(self, table: ast.Dict) -> Iterator[tuple[str, str]]:
        """Name of a ufunc, or of one of its outputs, and its partials."""
        for key, value in zip(table.keys, table.values, strict=True):
            name = key.value if isinstance(key, ast.Constant) else key.attr
            outputs = value.elts if isinstance(value, ast.List) else [value]
            for i, row in enumerate(outputs):
                parts = row.elts if isinstance(row, ast.Tuple) else [row]
                output = f"{name}[{i}]" if len(outputs) > 1 else name
                yield output, ", ".join(f"`{self.formula(part)}`" for part in parts)

    def formula(self, node: ast.AST) -> str:
        """One line; the functions that it needs are noted."""
        node = node.body if isinstance(node, ast.Lambda) else node
        for name in (part.id for part in ast.walk(node) if isinstance(part, ast.Name)):
            if name in self.functions and name not in self.used:
                self.used[name] = None
        return clean(node)

    def definition(self, name: str) -> str:
        """What a function says it is, or what it does."""
        node = self.functions[name]
        said = ast.get_docstring(node)
        if said:
            return said.split("\n\n")[0].replace("``", "`")
        return f"`{'; '.join(map(self.formula, node.body))}`"

    def definitions(self) -> Iterator[tuple[str, str]]:
        """The functions that formulas need, and those that these need."""
        known: set[str] = set()
        while missing := [name for name in self.used if name not in known]:
            for name in missing:
                known.add(name)
                arguments = ", ".join(arg.arg for arg in self.functions[name].args.args if arg.arg != "sp")
                yield f"{name}({arguments})", self.definition(name)


def table_in(tree: ast.AST, name: str) -> ast.Dict:
    """The dict literal that a module assigns to a name, or that a function of it returns."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", None) == name:
            return node.value
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node.body[-1].value
    raise KeyError(name)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """The lines of a table in Markdown."""
    head = list(head)
    yield "| " + " | ".join(head) + " |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield "| " + " | ".join(cell.replace("\n", " ").replace("|", "\\|") for cell in row) + " |"
    yield ""


def said_of(primitive: Primitive) -> str:
    """What the docstring of a primitive says, on one line and with one kind of quotes."""
    return inspect.cleandoc(type(primitive).__doc__ or "").replace("``", "`")


def page() -> str:
    """The text of the page."""
    numpy, scipy = Formulas(ufuncs), Formulas(special)
    steps = Formulas(complex_step)
    domains = {ufunc.__name__: steps.definition(domain.__name__) for ufunc, domain in ALLOWED.items()}
    by_formula = [
        (f"`{name}`", partials, domains.get(name, "").replace("`True`", "everywhere"))
        for name, partials in numpy.rows(table_in(numpy.tree, "PARTIALS"))
    ]
    of_scipy = [(f"`{name}`", partials) for name, partials in scipy.rows(table_in(scipy.tree, "_table"))]
    moving = [getattr(structure, name) for name in structure.__all__]
    others = [
        elementwise.scale,
        products.einsum,
        *(getattr(kernel_sums, name) for name in kernel_sums.__all__),
    ]
    primitives = [*(p for p in moving if isinstance(p, Primitive)), ufuncs.conjugate, *others]
    reductions = [p for p in reducers.REDUCERS.values() if isinstance(p, reducers.Reduction)]
    without = {ufunc: reason for name in _WITHOUT for ufunc, reason in getattr(ufuncs, name).items()}
    return "\n".join(
        [
            HEAD,
            "## Ufuncs of NumPy\n",
            "*Complex step*: where it serves if it is asked for; elsewhere the formula does.\n",
            *table(("ufunc", "partials", "complex step"), by_formula),
            *table(("in formulas", "is"), ((f"`{name}`", text) for name, text in numpy.definitions())),
            "## Ufuncs of `scipy.special`\n",
            *table(("ufunc", "partials"), of_scipy),
            *table(("in formulas", "is"), ((f"`{name}`", text) for name, text in scipy.definitions())),
            "## Reductions of lists\n",
            *table(("reducer", "kind", "rule"), ((f"`{p.name}`", p.kind, said_of(p)) for p in reductions)),
            "## Operations that move values, and sums with kernels\n",
            *table(("primitive", "kind", "rule"), ((f"`{p.name}`", p.kind, said_of(p)) for p in primitives)),
            "## Without a derivative\n",
            *table(("ufunc", "why"), ((f"`{ufunc.__name__}`", reason) for ufunc, reason in without.items())),
            *table(
                ("reducer", "why"),
                ((f"`{p.name}`", p.reason) for p in reducers.REDUCERS.values() if p not in reductions),
            ),
        ]
    )


_WITHOUT = ("ZERO", "NOT_NUMBERS", "NOT_IMPLEMENTED")

if __name__ == "__main__":
    PAGE.write_text(page())
