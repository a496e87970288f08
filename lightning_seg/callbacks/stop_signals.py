"""Takes SIGTERM, SIGUSR1 and Ctrl-C as requests to stop, and lets all training processes stop at the same step."""

import os
import signal
import threading
import time
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments import LightningEnvironment

STATUS = {signal.SIGUSR1: 75, signal.SIGINT: 130, signal.SIGTERM: 143}
"""Exit status after each signal: EX_TEMPFAIL of sysexits.h (start me again) for SIGUSR1, else the one of a shell."""

_ONE_CTRL_C = 1.0
"""Seconds within which SIGINTs count as one: a terminal sends it to all processes, and torchrun passes its own on."""

_ANSWER = b"\nCtrl-C: saving at the end of this step, or of the running validation; once more ends the run at once\n"


class StopSignals:
    """Remembers a signal until the training reaches a place where it can stop.

    The handlers only set a number. Lightning's handlers call the other processes, which hangs unless all of them do so
    at the same moment.
    """

    def __init__(self) -> None:
        self._status = 0
        self._interrupted: float | None = None

    def listen(self) -> None:
        """Replace Lightning's handlers. Lightning restores the original handlers when it is done."""
        if threading.current_thread() is threading.main_thread():
            for number in STATUS:
                if number != signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:  # background jobs ignore it
                    signal.signal(number, self._note)

    def _note(self, number: int, _: Any) -> None:
        self._status = max(self._status, STATUS[signal.Signals(number)])
        if number == signal.SIGINT:
            now = time.monotonic()
            if self._interrupted is None:
                self._interrupted = now
                os.write(2, _ANSWER)  # the signal may have interrupted a print
            elif now - self._interrupted > _ONE_CTRL_C:
                raise KeyboardInterrupt

    def agreed(self, trainer: pl.Trainer) -> int:
        """The exit status if any process got a signal, else 0. All processes must ask, and get the same answer.

        It costs a reduction of one integer. It adds no wait for the device: with several processes, Lightning waits
        for it before every batch anyway.
        """
        if trainer.world_size == 1:
            return self._status
        status = torch.tensor(self._status, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(status, reduce_op="max"))


def exit_status(trainer: pl.Trainer, status: int) -> int:
    """The status that this process ends with when all have agreed on ``status``.

    Processes that Lightning started end with 0. The status of their parent counts; if one of them failed before the
    parent has ended, the parent would be killed with SIGKILL.
    """
    environment = getattr(trainer.strategy, "cluster_environment", None)
    return 0 if isinstance(environment, LightningEnvironment) and trainer.local_rank > 0 else status
