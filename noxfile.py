"""Gates that are too slow for every commit: ``nox -l`` lists them, ``nox -s build`` runs one.

They need nox and uv: ``pip install nox uv``. Environments are made by ``make install``, as users make theirs.
``python3.10`` to ``python3.13`` must be found; with pyenv, ``pyenv shell 3.10 3.11 3.12 3.13`` sees to it.
``nox -s "locked(version='3.12')" -- tests/metrics`` gives pytest other arguments.
"""

from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["build", "audit", "coverage"]

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
"""As ``requires-python`` says."""

QUICK = ["-m", "not slow and not runs"]
"""What pytest is given where a session is given nothing."""


def install(session: nox.Session, name: str, *settings: str) -> str:
    """Make an environment, or bring one up to date, and return its folder."""
    folder = f".nox/{name}"
    session.run("make", "install", f"VENV={folder}", *settings)
    return folder


def test(session: nox.Session, environment: str) -> None:
    """Run the tests in it, those that train no run if none are named."""
    session.run(f"{environment}/bin/python", "-m", "pytest", *(session.posargs or QUICK))


@nox.session
@nox.parametrize("version", PYTHONS)
def locked(session: nox.Session, version: str) -> None:
    """Tests with the versions of requirements-locked.txt."""
    test(session, install(session, f"locked-{version}", f"PYTHON=python{version}"))


@nox.session
@nox.parametrize("version", PYTHONS)
def newest(session: nox.Session, version: str) -> None:
    """Tests with the newest versions that pyproject.toml admits."""
    test(session, install(session, f"newest-{version}", f"PYTHON=python{version}", "LATEST=1"))


@nox.session
def oldest(session: nox.Session) -> None:
    """Tests with the lower bounds of pyproject.toml, on the oldest Python."""
    folder = ".nox/oldest"
    session.run("uv", "venv", "--quiet", "--seed", "--allow-existing", "--python", PYTHONS[0], folder)
    lowest = ["--python", f"{folder}/bin/python", "--resolution", "lowest-direct"]
    session.run("uv", "pip", "install", "--quiet", *lowest, "--editable", ".[dev]")
    test(session, install(session, "oldest"))  # keeps what fits, and adds Detectron2


@nox.session
def coverage(session: nox.Session) -> None:
    """Branches that the tests take, in all processes that they start."""
    session.run("make", "coverage", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation site, with warnings as errors."""
    session.run("make", "docs")


@nox.session
def mutate(session: nox.Session) -> None:
    """Whether the tests notice small errors that are put into the code: a sample, or the rooms and settings given."""
    session.run("make", "mutate", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Wheel and sdist: complete, accepted by twine, and a run with the wheel alone, outside of this folder."""
    tools, made = ".nox/tools", Path(".nox/dist").resolve()
    session.run("uv", "venv", "--quiet", "--allow-existing", tools)
    session.run("uv", "pip", "install", "--quiet", "--python", f"{tools}/bin/python", "build", "twine")
    session.run("rm", "-rf", str(made))
    session.run(f"{tools}/bin/python", "-m", "build", "--outdir", str(made))
    files = sorted(map(str, made.iterdir()))
    session.run(f"{tools}/bin/python", "-m", "twine", "check", "--strict", *files)
    environment = session.posargs[0] if session.posargs else install(session, "build")
    session.run(f"{environment}/bin/python", "tests/gates/wheel.py", *files)


@nox.session
def audit(session: nox.Session) -> None:
    """Known weaknesses of the locked versions; needs a network that reaches a vulnerability database."""
    session.run(
        "uvx", "pip-audit", "--requirement", "requirements-locked.txt", "--strict", "--disable-pip", "--require-hashes"
    )
