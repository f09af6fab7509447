"""Each defect of docs/upstream.md is still there; one that is gone takes its workaround with it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "docs/upstream").glob("*.py"))
SKIPPED = 77
LIMIT = 110  # seconds; below the deadline of a test
#: What a section says, up to the script that it shows.
SECTION = re.compile(
    r"^### [^\n]+\n(?:(?!^#).*\n)*?^\*\*In dak_diff:\*\* ((?:.+\n)+)(?:(?!^#).*\n)*?"
    r"^```\{literalinclude\} upstream/(\w+\.py)\n:language: python\n```$",
    re.MULTILINE,
)
WORKAROUND = re.compile(r"`(\w+)`\s+in\s+`([\w./]+)`")


def page():
    return (ROOT / "docs/upstream.md").read_text()


def workarounds():
    """Script -> the text that says what dak_diff does about its defect."""
    return {script: text for text, script in SECTION.findall(page())}


def run(script):
    command = [sys.executable, "-W", "ignore", str(script)]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)


def marked():
    for script in SCRIPTS:
        yield pytest.param(script, marks=[pytest.mark.cluster] * script.stem.startswith("distributed_"))


@pytest.mark.parametrize("script", list(marked()), ids=lambda script: script.stem)
def test_the_defect_is_there(script):
    """A script ends with status 0 as long as it meets its defect."""
    done = run(script)
    if done.returncode == SKIPPED:
        pytest.skip(done.stdout.strip())
    mended = re.search(r"^mended: .*", done.stderr, re.MULTILINE)
    if mended:
        found = WORKAROUND.findall(workarounds()[script.name])
        what = ", ".join(f"the workaround {name} in {file}" for name, file in found)
        pytest.fail(
            f"mended upstream: remove {what + ' and ' if what else ''}this script with its section "
            f"of docs/upstream.md ({mended[0]})"
        )
    assert done.returncode == 0, done.stderr
    assert "should give" in done.stdout.lower(), "it does not say what it gave and should give"


def test_every_script_has_a_section_and_the_reverse():
    included = re.findall(r"literalinclude\} upstream/(\S+)", page())
    assert included == [script for _, script in SECTION.findall(page())], "a section lacks a part"
    assert sorted(included) == [script.name for script in SCRIPTS]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_the_workaround_is_where_the_page_says(script):
    text = workarounds()[script.name]
    found = WORKAROUND.findall(text)
    assert found or text.startswith("nothing")
    for name, file in found:
        assert re.search(rf"\b{name}\b", (ROOT / file).read_text()), (name, file)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_the_script_stands_alone(script):
    """Whoever gets the report has neither this package nor its tests."""
    text = script.read_text()
    assert not re.search(r"\b(import|from) (dak_diff|helpers)\b", text)
    assert text.index('"""\n\n') > 0
    assert text[: text.index('"""\n\n')].count("\n") <= 4
    assert "mended:" in text
