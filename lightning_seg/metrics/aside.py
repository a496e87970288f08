"""Computes in threads what the next image need not wait for."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from torch import Tensor

from lightning_seg.machine import usable_cpus

_MOST_THREADS = 4
"""Loading processes need CPUs, too."""


class Aside:
    """Takes tasks and gives their results in the same order; few are on the way at once, since each holds an image.

    NumPy and OpenCV let other threads run meanwhile.
    """

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        self._tasks: deque[Future[Tensor]] = deque()
        self._most = 0

    def start(self, task: Callable[[], Tensor]) -> None:
        """Run a task soon."""
        if self._threads is None:  # threads cannot be copied, as a module may be between evaluations
            count = max(1, min(_MOST_THREADS, usable_cpus() // 2))
            self._threads = ThreadPoolExecutor(count, "errors")
            self._most = 2 * count
        self._tasks.append(self._threads.submit(task))

    def surplus(self) -> Iterator[Tensor]:
        """Results of the oldest tasks, until as few are on the way as may be; this waits for them."""
        while len(self._tasks) > self._most:
            yield self._tasks.popleft().result()

    def rest(self) -> Iterator[Tensor]:
        """Results of all tasks; the threads end."""
        while self._tasks:
            yield self._tasks.popleft().result()
        self.stop()

    def stop(self) -> None:
        """Forget all tasks."""
        self._tasks.clear()
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
            self._threads = None
