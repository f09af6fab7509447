"""The examples of the documents print what the documents say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLE = re.compile(r"```python\n(.*?)```\n(?:\n```\n(.*?)```)?", re.DOTALL)


@pytest.mark.parametrize("name", ["README.md", "docs/how-to/custom_rules.md", "docs/how-to/histograms.md"])
def test_examples(name, capsys):
    """Blocks of a document follow one another; what a block prints is shown below it."""
    examples = EXAMPLE.findall((ROOT / name).read_text())
    assert examples
    names = {}
    for code, printed in examples:
        exec(compile(code, name, "exec"), names)
        assert capsys.readouterr().out == printed
