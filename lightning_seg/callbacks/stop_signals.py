"""SIGTERM, SIGUSR1 and Ctrl-C as a wish to stop, which all training processes learn of at the same step."""

import os
import signal
import threading
import time
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments import LightningEnvironment

STATUS = {signal.SIGUSR1: 75, signal.SIGINT: 130, signal.SIGTERM: 143}
"""Exit status after each signal: EX_TEMPFAIL of sysexits.h (start me again), and what a shell shows for the others."""

_ONE_CTRL_C = 1.0
"""Seconds within which SIGINT counts once: a terminal sends it to all processes, and torchrun passes its own on."""

_ANSWER = b"\nCtrl-C: saving at the end of this step, or of the running validation; once more ends the run at once\n"


class StopSignals:
    """Remembers a signal until training has come to a place where it can stop.

    The handlers only set a number. Lightning's own talk to the other processes from inside the handler, which hangs
    unless all of them do so at the same moment.
    """

    def __init__(self) -> None:
        self._status = 0
        self._interrupted: float | None = None

    def listen(self) -> None:
        """Take over from Lightning, which gives the signals back to whom they belonged when it is done."""
        if threading.current_thread() is threading.main_thread():
            for number in STATUS:
                if number != signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:  # as a job behind the shell
                    signal.signal(number, self._note)

    def _note(self, number: int, _: Any) -> None:
        self._status = max(self._status, STATUS[signal.Signals(number)])
        if number == signal.SIGINT:
            now = time.monotonic()
            if self._interrupted is None:
                self._interrupted = now
                os.write(2, _ANSWER)  # print may be at work just now
            elif now - self._interrupted > _ONE_CTRL_C:
                raise KeyboardInterrupt

    def agreed(self, trainer: pl.Trainer) -> int:
        """The exit status if any process was signalled, else 0: the same on all, which must all ask.

        Costs a reduction of one integer. The wait for the device that comes with it is no second one: with several
        processes Lightning itself waits for one before every batch.
        """
        if trainer.world_size == 1:
            return self._status
        status = torch.tensor(self._status, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(status, reduce_op="max"))


def exit_status(trainer: pl.Trainer, status: int) -> int:
    """What this process ends with, where all agreed on ``status``.

    0 in those that Lightning started: their parent, whose status is the one that counts, would be killed with SIGKILL
    if it saw one of them fail before it has ended itself.
    """
    environment = getattr(trainer.strategy, "cluster_environment", None)
    return 0 if isinstance(environment, LightningEnvironment) and trainer.local_rank > 0 else status
