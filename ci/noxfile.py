#!/usr/bin/env -S uv run --script
# /// script
# dependencies = ["nox>=2025.10.14"]
# ///
"""One session for each thing that checks: nox -f ci/noxfile.py -s NAME -- ARGUMENTS.

What a session runs is the script of that name in this folder, which also runs without nox; only the tests
on several Pythons are made here. Without -s: lint and tests.
"""

from __future__ import annotations

from pathlib import Path

import nox

nox.needs_version = ">=2025.10.14"
ROOT = Path(__file__).parents[1]
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.envdir = ROOT / ".venv-nox"
PYPROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)


def run_script(session: nox.Session, name: str, *args: str) -> None:
    """A script of ci/, with the arguments after -- as its last."""
    session.chdir(ROOT)
    session.run(f"ci/{name}", *args, *session.posargs, external=True)


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Everything ci/lint checks, types too; arguments are the names of tools."""
    run_script(session, "lint")


@nox.session(venv_backend="none", default=False)
def types(session: nox.Session) -> None:
    """Types alone."""
    run_script(session, "lint", "mypy")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The tests, on every Python of the classifiers; arguments go to pytest."""
    session.chdir(ROOT)
    session.install("--editable", ".", *nox.project.dependency_groups(PYPROJECT, "test"))
    session.run("pytest", "-n", "auto", *session.posargs)


@nox.session(venv_backend="none", default=False)
def pins(session: nox.Session) -> None:
    """The tests at the lower ends of the dependency ranges; arguments go to pytest."""
    run_script(session, "test-pins")


@nox.session(venv_backend="none", default=False)
def coverage(session: nox.Session) -> None:
    """The tests with a report of the lines they do not run; arguments go to pytest."""
    run_script(session, "test", "--cov", "--cov-report=term")


@nox.session(venv_backend="none", default=False)
def docs(session: nox.Session) -> None:
    """The documentation; arguments go to sphinx-build."""
    run_script(session, "docs")


@nox.session(venv_backend="none", default=False)
def bench(session: nox.Session) -> None:
    """A dijet mass and its derivative, with the picture of the README; arguments go to benchmarks.demo."""
    run_script(session, "demo")


@nox.session(venv_backend="none", default=False)
def gpu(session: nox.Session) -> None:
    """The tests that need a CUDA device, and their benchmark."""
    run_script(session, "gpu")


@nox.session(venv_backend="none", default=False)
def package(session: nox.Session) -> None:
    """The sdist and the wheel; an argument is the folder to keep them in."""
    run_script(session, "package")


if __name__ == "__main__":
    nox.main()
