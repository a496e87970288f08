"""Any logger, but one whose failure does not end the run."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.loggers.logger import DummyExperiment
from pytorch_lightning.utilities import rank_zero_only

from lightning_seg.errors import Forgiving

LoggerType = TypeVar("LoggerType", bound=Logger)


class Guard(Logger):
    """Stands before a logger's own class, and turns what it raises into one warning.

    A logger that cannot be opened is left alone from then on; one that fails later, on a full disk say, is asked again.
    """

    _forgiving: Forgiving | None = None
    closed = False
    """Whether it could not be opened, and takes nothing any more; known on the main process."""

    @property
    def forgiving(self) -> Forgiving:
        if self._forgiving is None:
            self._forgiving = Forgiving(f"logging with {type(self).__name__}")
        return self._forgiving

    @property
    def experiment(self) -> Any:
        """What the logger writes to; something that takes every call where it could not be opened."""
        if getattr(rank_zero_only, "rank", 0) == 0 and not self.closed:
            with self.forgiving:
                return self._open()
            self.closed = True
        return DummyExperiment()

    @experiment.setter
    def experiment(self, value: Any) -> None:
        """What a logger may assign to an attribute of its own, it may still assign."""
        own = _own_experiment(type(self))
        if hasattr(own, "__set__"):
            own.__set__(self, value)
        else:
            vars(self)["experiment"] = value

    def _open(self) -> Any:
        own = _own_experiment(type(self))
        if hasattr(own, "__get__"):
            return super().experiment  # type: ignore[misc]  # Lightning's base class has none
        return vars(self).get("experiment", own)  # a plain attribute, which the property above hides

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self._try(super().log_metrics, metrics, step)  # type: ignore[safe-super]  # a real logger's, not the base's

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self._try(super().log_hyperparams, params, *args, **kwargs)  # type: ignore[safe-super]  # as above

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        self._try(super().log_graph, model, input_array)

    def save(self) -> None:
        self._try(super().save)

    def after_save_checkpoint(self, checkpoint_callback: Checkpoint) -> None:
        self._try(super().after_save_checkpoint, checkpoint_callback)

    def finalize(self, status: str) -> None:
        self._try(super().finalize, status)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _blank, type(self).__bases__, super().__reduce_ex__(protocol)[2]

    def _try(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        if not self.closed:
            with self.forgiving:
                method(*args, **kwargs)


def _own_experiment(kind: type[Any]) -> Any:
    """``experiment`` as the class of a logger has it, behind its guard; None where only instances do, or nothing."""
    classes = (vars(base) for base in kind.__mro__ if not issubclass(base, Guard))
    return next((names["experiment"] for names in classes if "experiment" in names), None)


def _blank(guard: type[Any], kind: type[Logger]) -> Logger:
    """An object of a guarded class before its state is set, for unpickling."""
    made: Logger = object.__new__(_class(guard, kind))
    return made


def _class(guard: type[Any], kind: type[Logger]) -> type[Any]:
    return type(kind.__name__, (guard, kind), {"__module__": kind.__module__})


def guarded(logger: LoggerType, guard: type[Any] = Guard) -> LoggerType:
    """The same object, still an instance of its own class, behind a guard."""
    logger.__class__ = _class(guard, type(logger))
    return logger


def usable(loggers: Iterable[Logger], *kinds: type[LoggerType]) -> list[LoggerType]:
    """The loggers of some kinds, but for those that could not be opened."""
    of_kind = [logger for logger in loggers if isinstance(logger, kinds)]
    return [logger for logger in of_kind if not (isinstance(logger, Guard) and logger.closed)]
