"""The files that say what the package is agree with each other and with what is installed."""

from __future__ import annotations

import re
from importlib.metadata import requires
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import dak_diff

ROOT = Path(__file__).parents[1]
tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read pyproject.toml")


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def required(project):
    """All requirements of users, by name; one that is given twice is the same twice."""
    given = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    by_name = {}
    for requirement in map(Requirement, given):
        assert by_name.setdefault(requirement.name, requirement).specifier == requirement.specifier
    return by_name


def test_citation(project):
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == dak_diff.__version__
    assert citation["license"] == project["license"]
    assert [author["name"] for author in citation["authors"]] == [a["name"] for a in project["authors"]]


def test_continuous_integration_has_every_python_of_the_classifiers(project):
    workflow = ROOT / ".github" / "workflows" / "ci.yml"
    if not workflow.exists():
        pytest.skip("an sdist has no workflows")
    pythons = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert yaml.safe_load(workflow.read_text())["jobs"]["check"]["strategy"]["matrix"]["python"] == pythons
    assert project["requires-python"] == f">={pythons[0]}"


def test_every_range_has_one_lower_end(required):
    """The tests at the lower ends (ci/test-pins) read them from here."""
    for requirement in required.values():
        assert [s.operator for s in requirement.specifier].count(">=") == 1, requirement


def test_dask_is_one_that_dask_awkward_takes(required):
    """With a newer dask pip would install a dask-awkward from before it said which dask it takes."""
    [upstream] = [
        r for r in map(Requirement, requires("dask-awkward")) if r.name == "dask" and r.marker is None
    ]
    ours, theirs = (
        {s.operator: Version(s.version) for s in r.specifier} for r in (required["dask"], upstream)
    )
    assert theirs[">="] <= ours[">="]
    assert ours["<"] == theirs["<"]
    assert required["distributed"].specifier == required["dask"].specifier
