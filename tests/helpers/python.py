"""A Python that has imported everything already, for tests of commands in which their start is not the point."""

import atexit
import functools
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


@functools.cache
def python() -> str:
    """The path of a program that runs ``train.py …`` and ``-m lightning_seg.… …`` as ``sys.executable`` does.

    It starts a command in a tenth of a second, where the interpreter imports for four. A test takes ``sys.executable``
    where the start of a process is the point, or its death, or that commands differ in the seed of their hashes.
    """
    if sys.platform != "linux":  # forks of a process with so many libraries are at home there
        return sys.executable
    folder = Path(tempfile.mkdtemp(prefix="lightning_seg-python-"))
    program = folder / "python"
    client = [sys.executable, "-IS", str(HERE / "warm_client.py"), sys.executable, str(folder / "socket")]
    program.write_text(f'#!/bin/sh\nexec {shlex.join(client)} "$@"\n')
    program.chmod(0o755)
    command = [sys.executable, str(HERE / "warm_server.py"), str(folder)]
    pipe = subprocess.PIPE  # the streams of its copies are made for pipes, which suits whatever they become
    server = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)
    assert server.stdout is not None
    if server.stdout.readline() != b"ready\n":
        raise RuntimeError(f"{shlex.join(command)} does not start: {server.communicate()[1].decode()}")
    atexit.register(server.communicate)  # the end of its input is its end, and that of the folder
    return str(program)
