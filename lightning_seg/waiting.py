"""Waits for work at most a given time, for example for looking up a name, which has no time limit of its own."""

import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def within(seconds: float, work: Callable[[], Result]) -> list[Result]:
    """What ``work`` returns, alone in a list; an empty list if it takes longer.

    Then it goes on in a thread that does not keep the process alive. An error of ``work`` is raised here.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    return results
