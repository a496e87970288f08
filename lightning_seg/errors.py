"""Errors that tell a user what is wrong, where, and what to do about it.

The command line prints the message alone, without a stack trace, and exits with status 1.
"""

import os
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType


class LightningSegError(Exception):
    """Base of every error that a user, not a developer, can mend."""


class ConfigError(LightningSegError):
    """A setting that cannot work, such as an unknown Detectron2 key, or two settings that contradict each other."""


class DataError(LightningSegError):
    """An image, a mask or a folder that cannot be used as it is."""


class UnreadableError(DataError):
    """A file that cannot be opened or decoded, or annotations that cannot be painted."""


class UnfitImageError(DataError):
    """An image with more bits, bands, pages or pixels than the settings allow."""


class LossyMaskError(DataError):
    """A mask in a format that changes label values."""


class IgnoreIsClassError(ConfigError):
    """The ignore index is also the id of a class."""


class CheckpointError(LightningSegError):
    """A checkpoint or weight file that is missing, unreadable or made for another model."""


class LossError(LightningSegError):
    """A training loss that is not finite."""


class BusyError(LightningSegError):
    """A run folder that another process trains in."""


class DiskFullError(LightningSegError):
    """A file that cannot be written for lack of room."""


class DependencyError(LightningSegError):
    """A library that must be installed first."""


class LaunchError(LightningSegError):
    """All problems that keep a run from starting, one line for each.

    Args:
        problems: at least one.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\nerror: ".join(problems))


FOREIGN = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""The errors that code of Detectron2, of timm and of users raises for what it cannot take."""


def reason_of(error: BaseException) -> str:
    """What a foreign error says, in one line: the system's words, else its message, else its kind.

    >>> reason_of(FileNotFoundError(2, "No such file or directory", "a.png")), reason_of(ValueError())
    ('No such file or directory', 'ValueError')
    """
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


def describe(error: BaseException) -> str:
    """The kind and the message of an error in foreign code, and the line that raised it.

    The line is the innermost one outside torch and outside Python's imports: a line of torch would not tell which layer
    or setting is wrong. A syntax error's message names its line itself.
    """
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if f"{os.sep}torch{os.sep}" not in frame.filename and "importlib" not in frame.filename
    ]
    what = f"{type(error).__name__}: {error}"
    if not frames or isinstance(error, SyntaxError):
        return what
    file = Path(frames[-1].filename)
    return f"{what} ({file.parent.name}/{file.name}, line {frames[-1].lineno}: {frames[-1].line})"


class Forgiving:
    """A ``with`` block whose errors become one warning, for work that a run can do without, such as drawing pictures.

    >>> pictures = Forgiving("drawing pictures")
    >>> with warnings.catch_warnings(record=True) as said:
    ...     for _ in range(2):
    ...         with pictures:
    ...             raise OSError("no space left")
    >>> len(said), pictures.failed
    (1, True)

    Args:
        what: the work, as the warning names it.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.failed = False

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        if not self.failed:
            warnings.warn(f"{self.what} failed, and the run goes on without it: {describe(error)}", stacklevel=2)
        self.failed = True
        return True


def operation_without_determinism(error: BaseException) -> str | None:
    """The operation that torch refuses under deterministic algorithms, if an error says that; else None.

    >>> refused = "nll_loss2d_forward does not have a deterministic implementation, but you set …"
    >>> operation_without_determinism(RuntimeError(refused))
    'nll_loss2d_forward'
    >>> operation_without_determinism(RuntimeError("out of memory")) is None
    True
    """
    operation, found, _ = str(error).partition(" does not have a deterministic implementation")
    return operation if found and isinstance(error, RuntimeError) else None
