"""Where the CPU waits for the GPU, as torch tells it."""

import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


@contextmanager
def noted_waits() -> Iterator[list[str]]:
    """Gives a list that fills with ``module.function`` of what waits, of this project or of transformers."""
    where: list[str] = []
    before = warnings.showwarning

    def note(message: object, *_: object, **__: object) -> None:
        if "called a synchronizing" not in str(message):  # the mode also says that it is a prototype
            return
        stack = [frame for frame in traceback.extract_stack() if {"lightning_seg", "transformers"} & _parts(frame)]
        where.append(f"{Path(stack[-1].filename).stem}.{stack[-1].name}" if stack else "elsewhere")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield where
        finally:
            torch.cuda.set_sync_debug_mode("default")
            warnings.showwarning = before


def _parts(frame: traceback.FrameSummary) -> set[str]:
    return set(Path(frame.filename).parts)
