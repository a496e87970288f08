"""Stands in for an interpreter: a copy of the server's process runs the command, with this one's files and signals.

Run with the real interpreter, the server's socket, and what an interpreter is given. What is neither a file nor a
module of this project goes to the real interpreter. Imports little, since it starts with every command.
"""

import json
import os
import signal
import socket
import sys

FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def main() -> None:
    interpreter, address, *argv = sys.argv[1:]
    if argv[0].endswith(".py") or (argv[0] == "-m" and argv[1].startswith("lightning_seg")):
        signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)  # until it is known to whom
        with socket.socket(socket.AF_UNIX) as server:
            server.connect(address)
            payload = json.dumps({"argv": argv, "cwd": os.getcwd(), "env": dict(os.environ)}).encode()  # noqa: PTH109, pathlib costs as much as all of this
            socket.send_fds(server, [len(payload).to_bytes(8, "big")], [0, 1, 2])
            server.sendall(payload)
            answers = server.makefile()
            pid = json.loads(answers.readline())["pid"]
            if pid is not None:
                for number in FORWARDED:
                    signal.signal(number, lambda number, _: os.kill(pid, number))
                signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
                end_like(json.loads(answers.readline())["status"])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    os.execv(interpreter, [interpreter, *argv])


def end_like(status: int) -> None:
    """Exit with a status, or by a signal where it is negative."""
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


if __name__ == "__main__":
    main()
