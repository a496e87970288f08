"""Work that is not waited for longer than a given time, such as looking up a name, which has no limit of its own."""

import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def within(seconds: float, work: Callable[[], Result]) -> list[Result]:
    """What ``work`` returns, alone in a list; an empty list where that takes longer.

    It goes on in a thread that does not keep the process alive. An error of ``work`` is raised here.
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
