"""The example of the README prints what the README says."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_example(capsys):
    code, printed = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", README.read_text(), re.DOTALL).groups()
    exec(compile(code, str(README), "exec"), {})
    assert capsys.readouterr().out == printed
