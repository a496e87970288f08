"""Forks a copy of itself for each command, so that the suite imports torch and Lightning once, not once a command.

Run by :mod:`tests.helpers.python` with the folder of its socket. A request is a JSON object (``argv`` without the
interpreter, ``cwd``, ``env``) and three files: standard input, output and errors. The answer is ``{"pid": …}`` and,
at its end, ``{"status": …}``; or ``{"pid": null}`` where only an interpreter that starts anew can do what is asked.

A copy is a process like any other: its exit status, signals, output, threads and global state are its own. It shares
with other copies what an interpreter settles at its start: the seed of hashes, and what modules read as they are
imported. Where the environment differs in that, the answer is null.
"""

import gc
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

REPOSITORY = Path(__file__).parents[2]
IMPORTED = (
    "lightning_seg.cli",
    "lightning_seg.callbacks",
    "detectron2.modeling",
    "detectron2.projects.point_rend",
    "matplotlib.backends.backend_agg",
    "torch.utils.flop_counter",
)
"""What nearly every command imports, in part at its first use.

Not wandb: it makes a folder as it is imported, which the first copy to end would remove.
"""

READ_AT_START = ("PYTHON", "LD_", "OMP_", "MKL_", "OPENBLAS_", "CUDA_", "MPL", "TORCH_", "PYTORCH_")
"""Beginnings of the names of variables that an interpreter or a module reads once, as it starts."""

Request = dict[str, Any]


class Server:
    """Listens for commands until its standard input ends, as it does with the process that started it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.executable = folder, str(folder / "python")
        self.running: dict[int, socket.socket] = {}
        self.at_start = _read_at_start(dict(os.environ))
        self.selector = selectors.DefaultSelector()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(folder / "socket"))
        self.listener.listen()
        self.wake, wake = os.pipe()
        os.set_blocking(wake, False)
        self.pipe = self.wake, wake
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the commands; their end is the end of this
        for source in (self.listener, self.wake, 0):
            self.selector.register(source, selectors.EVENT_READ)

    def serve(self) -> Request | None:
        """A request in the copy that is to fulfil it; None in the server itself, at its end."""
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is self.listener:
                    request = self._accept()
                    if request is not None:
                        return request
                elif key.fileobj == self.wake:
                    os.read(self.wake, 4096)
                    self._tell_the_end()
                elif key.fileobj == 0:
                    if not os.read(0, 1):
                        for pid in self.running:
                            os.kill(pid, signal.SIGKILL)
                        shutil.rmtree(self.folder)
                        return None
                elif key.data in self.running:  # who asked has gone
                    self.selector.unregister(key.fileobj)
                    os.kill(key.data, signal.SIGKILL)

    def _accept(self) -> Request | None:
        client, _ = self.listener.accept()
        head, files, _, _ = socket.recv_fds(client, 8, 3)
        request = json.loads(_receive(client, int.from_bytes(head, "big")))
        pid = os.fork() if _read_at_start(request["env"]) == self.at_start else None
        if pid == 0:
            self._become(client, files)
            return request
        for file in files:
            os.close(file)
        client.sendall(json.dumps({"pid": pid}).encode() + b"\n")
        if pid is None:
            client.close()
        else:
            self.running[pid] = client
            self.selector.register(client, selectors.EVENT_READ, pid)
        return None

    def _become(self, client: socket.socket, files: list[int]) -> None:
        """Leave the server behind, in the copy."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.selector.close()
        for held in (self.listener, client, *self.running.values()):
            held.close()
        for number in self.pipe:
            os.close(number)
        for target, file in enumerate(files):
            os.dup2(file, target)
            os.close(file)

    def _tell_the_end(self) -> None:
        while self.running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            client = self.running.pop(pid)
            if client in {key.fileobj for key in self.selector.get_map().values()}:
                self.selector.unregister(client)
            with client, suppress(OSError):  # who asked may have gone
                client.sendall(json.dumps({"status": os.waitstatus_to_exitcode(status)}).encode() + b"\n")


def _receive(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += client.recv(count - len(data))
    return data


def _read_at_start(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(READ_AT_START)}


def fulfil(request: Request, executable: str) -> None:
    """Run a file or ``-m module`` as the interpreter would, to the end of this process."""
    import numpy as np

    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]
    sys.executable = executable  # processes that the command starts are copies, too
    np.random.seed()  # noqa: NPY002, the state that the copies would share
    _set_rank()
    if request["argv"][0] == "-m":
        module, *arguments = request["argv"][1:]
        sys.modules.pop(module, None)
        sys.argv, sys.path[0] = [module, *arguments], str(Path.cwd())
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        file = Path(request["argv"][0])
        sys.argv, sys.path[0] = request["argv"], str(file.resolve().parent)
        main = sys.modules["__main__"] = ModuleType("__main__")
        main.__file__ = str(file.absolute())
        exec(compile(file.read_bytes(), str(file), "exec"), main.__dict__)


def _set_rank() -> None:
    """What Lightning and torchmetrics do as they are imported."""
    from lightning_fabric.utilities import rank_zero
    from torchmetrics.utilities import prints

    rank_zero.rank_zero_only.rank = rank_zero._get_rank() or 0
    prints.rank_zero_only.rank = int(os.environ.get("LOCAL_RANK", "0"))


def main() -> None:
    sys.path[0] = str(REPOSITORY)
    server = Server(Path(sys.argv[1]))
    for name in IMPORTED:
        import_module(name)
    gc.freeze()  # else copies would look through all of it for garbage
    os.write(1, b"ready\n")
    request = server.serve()
    if request is not None:
        executable = server.executable
        del server
        fulfil(request, executable)


if __name__ == "__main__":
    main()
