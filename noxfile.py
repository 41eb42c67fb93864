#!/usr/bin/env -S uv run --script

# /// script
# dependencies = ["nox>=2025.10.14"]
# ///

"""The sessions that need more than one environment; `make` has the everyday ones."""

import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = "uv|virtualenv"

HERE = Path(__file__).parent


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and types."""
    session.install("-e.[lint]")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy")


@nox.session(python=["3.11", "3.12", "3.13"])
def tests(session: nox.Session) -> None:
    """Run the tests."""
    session.install("-e.[test]")
    session.run("pytest", *session.posargs)


@nox.session(python="3.11", venv_backend="uv", default=False)
def minimum(session: nox.Session) -> None:
    """Run the tests with the oldest dependencies that pyproject.toml allows."""
    session.install("-e.[test]", "--resolution=lowest-direct")
    # Old versions warn of what newer ones have mended since.
    session.run("pytest", "-W", "default", *session.posargs)


@nox.session(default=False)
def audit(session: nox.Session) -> None:
    """Look up known vulnerabilities of everything that users install."""
    session.install("-e.[all]", "pip-audit>=2.9")
    session.run("pip-audit", "--skip-editable", *session.posargs)


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Build the documentation."""
    session.install("-e.[docs]")
    session.run("sphinx-build", "-W", "--keep-going", "docs", "docs/_build", *session.posargs)


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Build the sdist and the wheel, and check their metadata."""
    shutil.rmtree(HERE / "dist", ignore_errors=True)
    session.install("build", "twine")
    session.run("python", "-m", "build")
    session.run("twine", "check", "--strict", *map(str, HERE.glob("dist/*")))


if __name__ == "__main__":
    nox.main()
