"""Computes together what several requests ask for at the same time."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lightning_seg.trained.result import Result

Predict: TypeAlias = Callable[[list[Any]], list[Result]]
_Wish: TypeAlias = tuple[NDArray[np.uint8], "Future[Result]"]


class Batcher:
    """One thread that predicts whatever waits, up to a number of images at once.

    An image that cannot be predicted fails alone: those that were to be computed with it are computed again, each by
    itself.

    Args:
        predict: gives a result for each (H, W, 3) uint8 RGB image.
        batch_size: images at most that are predicted at once.
    """

    def __init__(self, predict: Predict, batch_size: int) -> None:
        self._predict = predict
        self._batch_size = batch_size
        self._waiting: SimpleQueue[_Wish | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="predicting", daemon=True)
        self._thread.start()

    def submit(self, image: NDArray[np.uint8]) -> "Future[Result]":
        """Ask for an image. A future that is cancelled before its turn costs nothing."""
        future: Future[Result] = Future()
        self._waiting.put((image, future))
        return future

    def close(self) -> None:
        """Predict what still waits, and end the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (wish := self._waiting.get()) is not None:
            batch = [wish]
            while len(batch) < self._batch_size:
                try:
                    following = self._waiting.get_nowait()
                except Empty:
                    break
                if following is None:
                    self._waiting.put(None)  # for the outer loop
                    break
                batch.append(following)
            self._answer([(image, future) for image, future in batch if future.set_running_or_notify_cancel()])

    def _answer(self, batch: Sequence[_Wish]) -> None:
        if not batch:
            return
        try:
            results = self._predict([image for image, _ in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
        else:
            for (_, future), result in zip(batch, results, strict=True):
                future.set_result(result)
            return
        for wish in batch:
            self._answer([wish])
