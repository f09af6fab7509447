"""The complete examples run as a user runs them, and find what they should."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


@pytest.mark.cluster
def test_fit_on_a_cluster():
    pytest.importorskip("scipy")
    pytest.importorskip("distributed")
    script = EXAMPLES / "fit_on_a_cluster.py"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, check=True, capture_output=True, text=True
    )
    _, *rows, passes = done.stdout.strip().split("\n")
    pulls = {row.split()[0]: float(row.split()[-1]) for row in rows}
    assert set(pulls) == {"mu", "jes", "norm", "slope"}
    assert all(abs(pull) < 1 for pull in pulls.values()), done.stdout
    with_gradients, without = (int(word) for word in passes.replace(",", " ").split() if word.isdigit())
    # Four parameters: differences take a pass for each of them beside that of the value.
    assert 2 * with_gradients < without
