"""The formats by name: what each writes of one image, and where."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lightning_seg.errors import ConfigError
from lightning_seg.files import inside, replacing
from lightning_seg.hints import did_you_mean
from lightning_seg.predictions import pictures
from lightning_seg.predictions.prediction import Prediction


@dataclass(frozen=True)
class Format:
    """How a prediction is written.

    Attributes:
        suffix: of the file, which lies in a folder with the format's name.
        write: writes one prediction to a file; the same prediction gives the same bytes.
    """

    suffix: str
    write: Callable[[Prediction, IO[bytes]], None]


FORMATS = {
    "masks": Format(".png", pictures.masks),
    "overlays": Format(".jpg", pictures.overlays),
}

USUAL_FORMATS = ("masks", "overlays")


def formats_of(names: Sequence[str]) -> list[str]:
    """The names, each once, in the order of :data:`FORMATS`.

    Raises:
        ConfigError: if one is unknown, with those that are known.
    """
    for name in names:
        if name not in FORMATS:
            raise ConfigError(
                f"--save {name} is no format of a prediction: choose from {', '.join(FORMATS)}"
                f"{did_you_mean(name, FORMATS)}"
            )
    return [name for name in FORMATS if name in names]


def file_of(folder: Path, form: str, name: str) -> Path:
    """Where the prediction of an image is written: ``<folder>/<format>/<name><suffix>``.

    Raises:
        DataError: if the name leads out of the folder.
    """
    return inside(folder / form, name + FORMATS[form].suffix)


def save(prediction: Prediction, folder: Path, formats: Sequence[str] = USUAL_FORMATS) -> list[Path]:
    """Write a prediction in some formats; each file is whole at every moment.

    Args:
        prediction: of one image.
        folder: in which each format has a folder.
        formats: names of :data:`FORMATS`.

    Returns:
        The files, in the order of the formats.

    Raises:
        DataError: if the prediction's name leads out of the folder.
        DiskFullError: if there is no room.
    """
    paths = [file_of(folder, form, prediction.name) for form in formats]
    for form, path in zip(formats, paths, strict=True):
        with replacing(path) as file:
            FORMATS[form].write(prediction, file)
    return paths
