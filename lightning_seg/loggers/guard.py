"""Wraps a logger so that its failures do not end the run."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar, cast

from pytorch_lightning.loggers import Logger
from pytorch_lightning.loggers.logger import DummyExperiment

from lightning_seg.errors import Forgiving
from lightning_seg.lightning_internals import is_main_process

LoggerType = TypeVar("LoggerType", bound=Logger)

_OPENING_NOTHING = ("after_save_checkpoint", "finalize", "save")
"""Methods that Lightning calls even if nothing was logged; they need not open the logger."""


class Guard:
    """Passes everything on to a logger, and turns what its methods raise into one warning.

    ``isinstance`` sees the class of the logger, since Lightning, this project and users' callbacks ask for kinds such
    as ``WandbLogger``.

    A logger that cannot be opened is not called again. One that fails later, for example on a full disk, is called
    again.

    Args:
        logger: the logger to wrap.

    Attributes:
        closed: whether the logger could not be opened; only the main process knows.
        forgiving: gives the warning.
    """

    _logger: Any
    closed: bool
    forgiving: Forgiving

    def __init__(self, logger: Logger) -> None:
        vars(self).update(_logger=logger, closed=False, forgiving=Forgiving(f"logging with {type(logger).__name__}"))

    @property  # type: ignore[misc]  # an object's own class can be set
    def __class__(self) -> Any:
        """The logger's class, for ``isinstance``."""
        return type(self._logger)

    @property
    def experiment(self) -> Any:
        """What the logger writes to; if it cannot be opened, an object that takes every call."""
        if is_main_process() and not self.closed:
            with self.forgiving:
                return self._open()
            self.closed = True
        return DummyExperiment()

    def _open(self) -> Any:
        there = hasattr(type(self._logger), "experiment") or "experiment" in vars(self._logger)
        return self._logger.experiment if there else None  # Lightning's base class has none

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._logger, name)
        return partial(self._call, name) if callable(value) and not name.startswith("_") else value

    def __setattr__(self, name: str, value: Any) -> None:
        if name in vars(self):
            vars(self)[name] = value
        else:
            setattr(self._logger, name, value)

    def __reduce__(self) -> Any:
        return _restored, (type(self), dict(vars(self)))

    def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """What a method of the logger returns; None if it fails or the logger is closed."""
        if name not in _OPENING_NOTHING:
            self.experiment  # noqa: B018  # opens the logger
        return self._try(getattr(self._logger, name), *args, **kwargs)

    def _try(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not self.closed:
            with self.forgiving:
                return method(*args, **kwargs)
        return None


def _restored(kind: type[Guard], attributes: dict[str, Any]) -> Guard:
    """The guard that was pickled."""
    guard = object.__new__(kind)
    vars(guard).update(attributes)
    return guard


def guarded(logger: LoggerType) -> LoggerType:
    """A logger whose failures do not end the run."""
    return cast(LoggerType, Guard(logger))


def usable(loggers: Iterable[Logger], *kinds: type[LoggerType]) -> list[LoggerType]:
    """The loggers of some kinds, without those that could not be opened."""
    of_kind = [logger for logger in loggers if isinstance(logger, kinds)]
    return [logger for logger in of_kind if not (isinstance(logger, Guard) and logger.closed)]
