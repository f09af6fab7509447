"""Imports point one way: rules, programs <- engine <- graph <- api; only graph and above know Dask."""

import ast
from pathlib import Path

import pytest

import dak_diff

PACKAGE = Path(dak_diff.__file__).parent
FOREIGN = ("dask", "dask_awkward", "distributed")
ABOVE_ENGINE = ("dak_diff.graph", "dak_diff.api", "dak_diff.eager", "dak_diff.recorded", "dak_diff.parameter")
FORBIDDEN = {
    "rules": (*FOREIGN, "awkward", *ABOVE_ENGINE, "dak_diff.engine", "dak_diff.programs"),
    "programs": (*FOREIGN, "awkward", *ABOVE_ENGINE, "dak_diff.engine"),
    "engine": (*FOREIGN, *ABOVE_ENGINE),
    "recorded.py": (*FOREIGN, "dak_diff.graph", "dak_diff.api", "dak_diff.parameter"),
    "eager.py": (*FOREIGN, "dak_diff.graph", "dak_diff.api", "dak_diff.parameter"),
    "graph": ("dak_diff.api", "dak_diff.explain", "dak_diff.eager", "dak_diff.checking"),
    "checking": ("dak_diff.testing", "dak_diff.explain", "dak_diff.eager"),
    "errors.py": (*FOREIGN, "awkward", "numpy", "dak_diff"),
}


def imported_modules(path):
    """Every module that a file imports, at its top or inside a function, with its full name."""
    here = ("dak_diff", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = ".".join(here[: len(here) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (parent, node.module)))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def offences(paths, forbidden):
    return [
        f"{path.name} imports {module}"
        for path in paths
        for module in imported_modules(path)
        if any(module == name or module.startswith(f"{name}.") for name in forbidden)
    ]


@pytest.mark.parametrize("part", FORBIDDEN)
def test_imports_point_one_way(part):
    root = PACKAGE / part
    paths = sorted(root.rglob("*.py")) if root.is_dir() else [root]
    assert paths
    assert offences(paths, FORBIDDEN[part]) == []


def test_the_search_sees_what_it_looks_for():
    assert offences([PACKAGE / "api.py"], FORBIDDEN["engine"])
    assert offences([PACKAGE / "engine" / "tape.py"], ("dak_diff.rules",))


def test_only_one_folder_knows_the_private_api_of_awkward():
    knowing = {
        path.parent.name
        for path in (PACKAGE / "engine").rglob("*.py")
        for module in imported_modules(path)
        if any(part.startswith("_") for part in module.split(".") if module.startswith("awkward"))
    }
    assert knowing == {"awkward_internals"}
