"""Puts small errors into the code, one at a time, and lists those that no test notices.

``python -m tests.gates.mutate metrics --sample 100``, in the repository. An error (a *mutant*) is one change in a
function: another operator, a number that is one larger, a call left out. Each gets a copy of this process, which has
imported all tests already, and runs the tests that execute the changed lines. Libraries for this import torch anew
for each mutant, or leave properties out. The code of a function is exchanged in place, so what a module computes as
it is imported, default arguments and messages of errors are left alone. Mutants that may live stand in
``tests/gates/survivors.md`` with the reason.
"""

import argparse
import ast
import gc
import json
import os
import random
import re
import resource
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import coverage
import pytest

from tests.gates.mutations import mutations_of

QUICK = ["-m", "not slow and not runs"]

ROOMS = {
    "metrics": (["lightning_seg/metrics/*.py"], ["tests/metrics", "tests/test_calibrating.py", *QUICK]),
    "losses": (["lightning_seg/losses/*.py"], ["tests/losses", *QUICK]),
    "inference": (["lightning_seg/inference/*.py"], ["tests/inference", "-m", "not slow"]),  # some compile a kernel
    "samplers": (
        ["lightning_seg/data/loading/sampler.py", "lightning_seg/data/loading/position.py"],
        ["tests/data/test_sampler.py", "tests/test_position.py", *QUICK],
    ),
}
"""Patterns of the files that are changed, and what pytest runs to notice, beside the doctests of these files."""

SHARE = 0.9
"""Of the mutants, so many must be noticed."""

QUIET = ["-q", "-p", "no:cacheprovider", "-o", "addopts=", "--doctest-modules", "--hypothesis-seed=0"]
SECONDS, FACTOR = 20, 5
"""Of CPU that a mutant may take beyond so many times what its tests took before."""

Lines = dict[str, dict[int, list[str]]]


class Mutant(NamedTuple):
    """One change, and what it is called."""

    path: str
    key: tuple[str, int]
    code: CodeType
    lines: range
    text: str

    def put_in(self) -> bool:
        """Exchange the code of every function that was made from this place; False if none can take it."""
        changed = False
        for function in gc.get_objects():
            if isinstance(function, FunctionType) and _place(function.__code__) == (self.path, *self.key):
                with suppress(ValueError):  # it uses other variables of the functions around it
                    function.__code__ = self.code
                    changed = True
        return changed


def _place(code: CodeType) -> tuple[str, str, int]:
    return code.co_filename, code.co_name, code.co_firstlineno


def mutants_of(path: Path) -> Iterator[Mutant]:
    """All mutants of the functions of a file."""
    tree = ast.parse(path.read_bytes())
    before = dict(_functions(compile(tree, str(path), "exec")))
    for name, key, lines, text in mutations_of(tree):
        code = dict(_functions(compile(tree, str(path), "exec")))[key]
        if code != before[key]:
            yield Mutant(str(path), key, code, lines, f"{path.relative_to(Path.cwd())}: {name}: {text}")


def _functions(code: CodeType) -> Iterator[tuple[tuple[str, int], CodeType]]:
    """The code of functions and methods by name and line, without that of functions within them."""
    for part in code.co_consts:
        if isinstance(part, CodeType):
            if part.co_flags & 0x2:  # CO_NEWLOCALS: a function; the rest are bodies of classes
                yield (part.co_name, part.co_firstlineno), part
            else:
                yield from _functions(part)


class Watch:
    """Notes which test runs which line, and how long it takes."""

    def __init__(self, files: list[str]) -> None:
        self.measured = coverage.Coverage(data_file=None, config_file=False, include=files)
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        before = os.times()
        self.measured.start()
        self.measured.switch_context(item.nodeid)
        found = yield
        self.measured.stop()
        self.seconds[item.nodeid] = sum(os.times()[:2]) - sum(before[:2])
        return found

    def lines(self, files: list[str]) -> Lines:
        data = self.measured.get_data()
        return {
            file: {line: [*filter(None, tests)] for line, tests in data.contexts_by_lineno(file).items()}
            for file in files
        }


def in_a_copy(work: Any, seconds: float) -> int:
    """The status of a copy of this process that does something; negative if a signal ended it."""
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (round(seconds), round(seconds) + 5))
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        status = 99
        try:
            status = int(work())
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def watch(files: list[str], tests: list[str]) -> tuple[Lines, dict[str, float]]:
    """Which tests run each line, and the seconds of CPU of each test."""
    with tempfile.NamedTemporaryFile("r+") as told:

        def work() -> int:
            plugin = Watch(files)
            status = pytest.main([*QUIET, *tests], plugins=[plugin])
            Path(told.name).write_text(json.dumps([plugin.lines(files), plugin.seconds]))
            return status

        if in_a_copy(work, 3600) != 0:
            sys.exit(f"error: the tests fail without any mutant: pytest {' '.join(tests)}")
        lines, seconds = json.load(told)
    return {file: {int(line): names for line, names in found.items()} for file, found in lines.items()}, seconds


def survives(mutant: Mutant, tests: list[str], seconds: float) -> bool | None:
    """Whether all tests pass with it; None if it cannot be put in."""

    def work() -> int:
        return pytest.main([*QUIET, "-x", *tests]) if mutant.put_in() else 98

    status = in_a_copy(work, seconds) if tests else 0
    return None if status == 98 else status == 0


def try_room(room: str, sample: int, seed: int, reasons: dict[str, str]) -> bool:
    """Try mutants of a room, say what was found, and whether enough were noticed."""
    patterns, arguments = ROOMS[room]
    paths = sorted(path.resolve() for pattern in patterns for path in Path().glob(pattern))
    files = [str(path) for path in paths]
    tests = [*files, *arguments]
    if pytest.main([*QUIET, "--collect-only", "-qq", *tests]) != 0:
        return False
    gc.freeze()
    lines, seconds = watch(files, tests)
    gc.unfreeze()
    every = [mutant for path in paths for mutant in mutants_of(path)]
    chosen = random.Random(seed).sample(every, min(sample, len(every)))
    tried, living = 0, []
    for mutant in chosen:
        names = sorted(
            {name for line in mutant.lines for name in lines[mutant.path].get(line, [])}, key=seconds.__getitem__
        )
        found = survives(mutant, names, SECONDS + FACTOR * sum(map(seconds.__getitem__, names)))
        tried += found is not None
        if found:
            living.append(mutant.text)
            print(f"  {mutant.lines[0]}: {mutant.text}: {reasons.get(mutant.text, 'no reason is known')}", flush=True)
    share = 1 - len(living) / max(1, tried)
    print(
        f"{room}: {share:.1%} of {tried} mutants were noticed, of {len(every)} that there are (seed {seed})", flush=True
    )
    return share >= SHARE


def main() -> None:
    """Try the rooms that are named."""
    parser = argparse.ArgumentParser(description="Lists small errors in the code that no test notices.")
    parser.add_argument("rooms", nargs="*", default=[*ROOMS], help=f"of {', '.join(ROOMS)}; all, if none is named")
    parser.add_argument("--sample", type=int, default=100, help="how many mutants of each room are tried")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    given = parser.parse_args()
    listed = Path(__file__).with_name("survivors.md").read_text()
    reasons = dict(re.findall(r"^- `(.*)`\n  (.*)$", listed, re.MULTILINE))
    enough = [try_room(room, given.sample, given.seed, reasons) for room in given.rooms]
    sys.exit(not all(enough))


if __name__ == "__main__":
    main()
