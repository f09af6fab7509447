"""Every block of Python in the README and the documentation runs, and prints what the page says."""

from __future__ import annotations

import doctest
import inspect
import re
from pathlib import Path

import pytest

import dak_diff
from dak_diff import eager, errors, testing

ROOT = Path(__file__).parents[1]
#: A block, and the block of what it prints, if one follows.
EXAMPLE = re.compile(r"^```python\n(.*?)^```\n(?:\n```\n(.*?)^```)?", re.DOTALL | re.MULTILINE)
#: A cell of a notebook, without its options. What it prints is put below it when the page is built.
CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(?::[^\n]*\n)*(.*?)^```", re.DOTALL | re.MULTILINE)
#: page -> what it needs beside the package.
NEEDS = {
    "docs/tutorial.md": ("uproot", "vector", "scipy", "matplotlib"),
    "docs/how-to/calibrate.md": ("vector", "matplotlib"),
    "docs/how-to/fit.md": ("iminuit", "scipy", "matplotlib"),
    "docs/how-to/histograms.md": ("hist", "dask_histogram", "scipy"),
    "docs/how-to/cluster.md": ("distributed", "dask_jobqueue", "bokeh", "scipy"),
    "docs/how-to/systematics.md": ("iminuit",),
    "docs/how-to/corrections.md": ("correctionlib",),
    "docs/how-to/numba.md": ("numba",),
    "docs/how-to/coffea.md": ("coffea",),
}
#: Pages for a device, which the stand-in for CuPy takes the place of.
ON_A_DEVICE = {"docs/how-to/gpu.md"}


def pages():
    return sorted(
        str(path.relative_to(ROOT))
        for path in (ROOT / "README.md", *ROOT.glob("docs/**/*.md"))
        if EXAMPLE.search(path.read_text()) or CELL.search(path.read_text())
    )


@pytest.fixture
def in_a_folder(tmp_path, monkeypatch):
    """Pages write files; figures are drawn without a screen."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")


@pytest.mark.parametrize("name", pages())
def test_examples(name, capsys, in_a_folder, request):
    """Blocks of a page follow one another; what a block prints is shown below it."""
    if name in ON_A_DEVICE:
        request.getfixturevalue("stand_in_as_cuda")
    for module in NEEDS.get(name, ()):
        pytest.importorskip(module)
    text = (ROOT / name).read_text()
    names = {}
    for cell in CELL.findall(text):
        exec(compile(cell, name, "exec"), names)
    capsys.readouterr()
    for code, printed in EXAMPLE.findall(text):
        exec(compile(code, name, "exec"), names)
        assert capsys.readouterr().out == printed


def test_no_block_escapes():
    """A fence of another kind would not be run: blocks that are no Python say what they are."""
    known = {"python", "{code-cell}", "sh", "mermaid", "dot", ""}
    for path in (ROOT / "README.md", *ROOT.glob("docs/**/*.md")):
        fences = re.findall(r"^```([^\n]*)\n.*?^```$", path.read_text(), re.DOTALL | re.MULTILINE)
        languages = {fence.split(" ")[0] for fence in fences if not fence.startswith("{") or "cell" in fence}
        assert languages <= known, path
        assert not [fence for fence in fences if fence.startswith("python ")], path


def public_names():
    for module in (dak_diff, eager, errors, testing):
        prefix = module.__name__.removeprefix("dak_diff").lstrip(".")
        for name in module.__all__:
            if not inspect.ismodule(getattr(module, name)):
                yield f"{prefix}.{name}".lstrip("."), getattr(module, name)


@pytest.mark.parametrize(
    ("name", "thing"), list(public_names()), ids=lambda x: x if isinstance(x, str) else ""
)
def test_every_public_name_has_an_example_that_is_run(name, thing):
    """And stands in the reference."""
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(thing) or "")
    assert any(not example.options.get(doctest.SKIP) for example in examples)
    assert re.search(rf"^   {re.escape(name)}$", (ROOT / "docs/reference/api.md").read_text(), re.MULTILINE)
