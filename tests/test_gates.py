"""The gates that no other test runs: what they read is true, and what finds weak tests finds one."""

import ast
import fnmatch
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.gates.mutations import mutations_of
from tests.gates.wheel import lost

PYPROJECT = (REPOSITORY / "pyproject.toml").read_text()


def test_files_of_the_package_that_are_no_code_are_in_the_wheel() -> None:
    declared = re.findall(r'^"([\w.]+)" = \["([\w.*]+)"\]$', PYPROJECT, re.MULTILINE)
    patterns = [f"{package.replace('.', '/')}/{name}" for package, name in declared]
    others = [path for path in (REPOSITORY / "lightning_seg").rglob("*.*") if path.suffix not in (".py", ".pyc")]
    names = [path.relative_to(REPOSITORY).as_posix() for path in others if path.is_file()]
    assert "lightning_seg/py.typed" in names
    assert len(names) >= 3
    assert not [name for name in names if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]


def test_the_gates_try_the_pythons_that_are_promised() -> None:
    first, last = map(int, re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', PYPROJECT).groups())  # type: ignore[union-attr]
    (tried,) = re.findall(r"^PYTHONS = (\[.*\])$", (REPOSITORY / "noxfile.py").read_text(), re.MULTILINE)
    assert ast.literal_eval(tried) == [f"3.{minor}" for minor in range(first, last)]


def test_a_wheel_that_lacks_a_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    listed = subprocess.run(["git", "ls-files", "lightning_seg"], capture_output=True, text=True, check=True)
    with zipfile.ZipFile(tmp_path / "one.whl", "w") as wheel:
        for name in listed.stdout.split():
            if name != "lightning_seg/serving/page.html":
                wheel.writestr(name, "")
    assert lost(tmp_path / "one.whl") == ["lightning_seg/serving/page.html"]


SOURCE = '''
import math

LIMIT = 3

def large(values, least: int = 4):
    """A docstring."""
    if not values:
        raise ValueError(f"none of {1}")
    total = math.fsum(values)
    return [value for value in values if value.real > least and total]
'''


def test_mutations_change_one_place_and_put_it_back() -> None:
    tree = ast.parse(SOURCE)
    before = ast.unparse(tree)
    texts = []
    for name, place, lines, text in mutations_of(tree):
        assert (name, place) == ("large", ("large", 6))
        assert ast.unparse(tree) != before
        texts.append((lines[0], len(lines), text))
    assert ast.unparse(tree) == before
    comprehension = "return [value for value in values if value.real"
    assert texts == [
        (8, 1, "not values → values in if values:"),
        (9, 1, "raise ValueError(f'none of {1}') → pass"),
        (11, 1, f"{comprehension} > least and total] → return"),
        (11, 1, "for value in values if value.real > least and total → for value in values in "
                "return [value for value in values]"),
        (11, 1, f"value.real > least and total → value.real > least or total in {comprehension} > least or total]"),
        (11, 1, f"value.real > least → value.real >= least in {comprehension} >= least and total]"),
    ]  # fmt: skip


@pytest.mark.runs
def test_a_mutant_that_no_test_notices_is_listed(tmp_path: Path) -> None:
    """Of a function, a property and code that no test runs; a loop without end is noticed."""
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy/__init__.py").touch()
    (tmp_path / "toy/code.py").write_text(
        "def above(x: int) -> bool:\n    return x > 3\n\n\n"
        "class Steps:\n    @property\n    def count(self) -> int:\n        n = 0\n"
        "        while n < 5:\n            n += 1\n        return n\n\n\n"
        "def unused() -> int:\n    return 1\n"
    )
    (tmp_path / "test_code.py").write_text(
        "from toy.code import Steps, above\n\n\n"
        "def test_above():\n    assert above(5)\n    assert not above(1)\n\n\n"
        "def test_count():\n    assert Steps().count == 5\n"
    )
    settings = "mutate.SECONDS = 1; mutate.ROOMS = {'toy': (['toy/*.py'], ['test_code.py'])}"
    program = f"from tests.gates import mutate; {settings}; mutate.main()"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = ['.', {str(REPOSITORY)!r}]; {program}"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    listed = [line.strip() for line in done.stdout.splitlines() if line.startswith("  ")]
    assert sorted(listed) == [
        "15: toy/code.py: unused: 1 → 2 in return 2: no reason is known",
        "15: toy/code.py: unused: return 1 → return: no reason is known",
        "2: toy/code.py: above: 3 → 4 in return x > 4: no reason is known",
        "2: toy/code.py: above: x > 3 → x >= 3 in return x >= 3: no reason is known",
        "8: toy/code.py: Steps.count: 0 → 1 in n = 1: no reason is known",
    ]
    assert "toy: 58.3% of 12 mutants were noticed, of 12 that there are (seed 0)" in done.stdout
    assert done.returncode == 1
