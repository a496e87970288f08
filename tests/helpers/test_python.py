"""A copy of the server's process is like a new process, but for the time that it takes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.python import python

pytestmark = [
    pytest.mark.runs,
    pytest.mark.skipif("sys.platform != 'linux'", reason="the interpreter itself is taken there"),
]

SHOWS = """
import atexit, json, os, sys
print(json.dumps([sys.argv, os.getcwd(), sys.path[0], os.environ["ASKED"], __name__, __file__, __spec__ is None]))
print(sys.stdin.read())
print("said", file=sys.stderr)
atexit.register(print, "at the end")
"""

ENDS = {
    "end": "",
    "exit": "sys.exit(3)",
    "message": "sys.exit('no')",
    "error": "{}['key']",
    "abrupt": "sys.stdout.flush(); os._exit(4)",
    "signal": "sys.stdout.flush(); os.kill(os.getpid(), 15)",
}


def run(interpreter: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [interpreter, *arguments], input="given", capture_output=True, text=True, check=False,
        env={**os.environ, "ASKED": "this", **environment},
    )  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
def test_what_a_command_sees_and_how_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/shows.py").write_text(SHOWS + ENDS[end])
    found, expected = (run(program, "inner/shows.py", "a", "--b=c d") for program in (python(), sys.executable))
    assert found.returncode == expected.returncode
    assert found.stdout == expected.stdout
    assert "given" in found.stdout
    assert found.stderr.splitlines()[0] == "said"
    assert found.stderr.splitlines()[-1] == expected.stderr.splitlines()[-1]  # a traceback has other lines above


def test_it_need_not_import(tmp_path: Path) -> None:
    (tmp_path / "imports.py").write_text("import sys; print('lightning_seg.cli' in sys.modules, sys.argv[0])")
    assert run(python(), str(tmp_path / "imports.py")).stdout.split()[0] == "True"
    once = run(python(), str(tmp_path / "imports.py"), PYTHONPATH="elsewhere")
    assert once.stdout.split()[0] == "False"  # what is read at the start of an interpreter needs one
    assert run(python(), "-c", "import sys; print('torch' in sys.modules)").stdout == "False\n"


def test_a_module_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(python(), "-m", "lightning_seg.audit", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "lightning_seg.audit" in done.stdout


def test_a_rank_knows_itself_from_the_start(tmp_path: Path) -> None:
    (tmp_path / "rank.py").write_text(
        "from pytorch_lightning.utilities import rank_zero_only; print(rank_zero_only.rank)"
    )
    assert run(python(), str(tmp_path / "rank.py")).stdout == "0\n"
    assert run(python(), str(tmp_path / "rank.py"), LOCAL_RANK="3").stdout == "3\n"


WAITS = """
import os, signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75))
print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(("number", "status"), [("SIGUSR1", 75), ("SIGTERM", -15), ("SIGKILL", -9)])
def test_signals_reach_the_copy(tmp_path: Path, number: str, status: int) -> None:
    (tmp_path / "waits.py").write_text(WAITS)
    with subprocess.Popen([python(), str(tmp_path / "waits.py")], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        copy = int(process.stdout.readline())
        process.send_signal(signal.Signals[number])
        assert process.wait(timeout=20) == status
        assert process.stdout.read() == b""  # which the copy held open
    given_up = time.monotonic() + 20
    while Path(f"/proc/{copy}").exists():
        assert time.monotonic() < given_up
        time.sleep(0.02)


def test_processes_of_a_copy_are_copies(tmp_path: Path) -> None:
    (tmp_path / "inner.py").write_text("import sys; print('lightning_seg.cli' in sys.modules)")
    (tmp_path / "outer.py").write_text("import subprocess, sys; subprocess.run([sys.executable, sys.argv[1]])")
    assert run(python(), str(tmp_path / "outer.py"), str(tmp_path / "inner.py")).stdout == "True\n"
