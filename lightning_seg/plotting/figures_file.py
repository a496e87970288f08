"""Reads ``metrics.json``, and refuses one that is damaged or of another version, before anything is drawn of it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning_seg.errors import ConfigError

AVERAGES = ("mIoU", "mAcc", "pAcc", "fwIoU")

PARTS = {
    "boundary": "boundaries",
    "small_missed": "small regions missed",
    "invented": "regions invented",
    "confused": "classes confused",
    "interaction": "interaction",
}
"""The parts of ``errors`` in ``metrics.json``, and what they are called; their sum is 1 − mIoU."""

_Check = Callable[[Any, str], None]


def read_figures(file: Path) -> dict[str, Any]:
    """The contents of ``metrics.json``.

    Raises:
        ConfigError: if it is none: names the file and what is wrong.
    """
    try:
        figures = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is not the metrics.json of a run ({error})") from None
    needed = ("split", *AVERAGES, "IoU", "confusion_matrix", "num_images")
    if missing := [name for name in needed if not isinstance(figures, dict) or name not in figures]:
        raise ConfigError(f"{file} is not the metrics.json of a run: it has no {', '.join(missing)}")
    try:
        _object({**dict.fromkeys(AVERAGES, _figure), "split": _text, "IoU": _each(_figure), "num_images": _count})(
            figures, ""
        )
        _those_there(_OPTIONAL)(figures, "")
        classes = len(figures["IoU"])
        _expect(classes > 0, figures["IoU"], "IoU", "an object of classes")
        _list(_list(_count, classes), classes)(figures["confusion_matrix"], "confusion_matrix")
    except ValueError as error:
        raise ConfigError(
            f"{file} is not the metrics.json of a run: {error}; evaluate the run again with this version"
        ) from None
    return dict(figures)


def shown(value: float | None, digits: int = 4) -> str:
    """A figure as text; – where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def _expect(right: bool, value: Any, where: str, expected: str) -> None:
    if not right:
        raise ValueError(f"{where or 'all'} is {str(value)[:40]!r}, expected {expected}")


def _figure(value: Any, where: str) -> None:
    right = value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    _expect(right, value, where, "a number or null")


def _number(value: Any, where: str) -> None:
    _expect(value is not None, value, where, "a number")
    _figure(value, where)


def _count(value: Any, where: str) -> None:
    _expect(type(value) is int and 0 <= value < 2**63, value, where, "a count")


def _text(value: Any, where: str) -> None:
    _expect(isinstance(value, str), value, where, "a text")


def _object(checks: Mapping[str, _Check]) -> _Check:
    def check(value: Any, where: str) -> None:
        _expect(isinstance(value, dict), value, where, "an object")
        for name, of_one in checks.items():
            _expect(name in value, sorted(value), where, f"an object with {name}")
            of_one(value[name], f"{where}.{name}".lstrip("."))

    return check


def _those_there(checks: Mapping[str, _Check]) -> _Check:
    def check(value: Any, where: str) -> None:
        _expect(isinstance(value, dict), value, where, "an object")
        for name, of_one in checks.items():
            if value.get(name) is not None:
                of_one(value[name], f"{where}.{name}".lstrip("."))

    return check


def _each(of_one: _Check) -> _Check:
    def check(value: Any, where: str) -> None:
        _expect(isinstance(value, dict), value, where, "an object")
        for name, one in value.items():
            of_one(one, f"{where}.{name}")

    return check


def _list(of_one: _Check, length: int | None = None) -> _Check:
    def check(value: Any, where: str) -> None:
        right = isinstance(value, list) and length in (None, len(value))
        _expect(right, value, where, "a list" if length is None else f"a list of {length}")
        for place, one in enumerate(value):
            of_one(one, f"{where}[{place}]")

    return check


_PAIR = {"true": _text, "predicted": _text, "cost": _number}
_BIN = {"count": _count, "confidence": _figure, "accuracy": _figure}
_SLICE = {"mIoU": _figure, "pAcc": _figure, "fwIoU": _figure, "images": _count}
_OPTIONAL: dict[str, _Check] = {
    "weights": _those_there({"path": _text, "sha256": _text}),
    "absent_classes": _text,
    "errors": _object({**dict.fromkeys(PARTS, _number), "confused_pairs": _list(_object(_PAIR))}),
    "calibration": _object({"ECE": _figure, "bins": _list(_object(_BIN))}),
    "slices": _each(_each(_object(_SLICE))),
}
