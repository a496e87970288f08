"""The formats by name: what each writes of one image, and where."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lightning_seg.errors import ConfigError
from lightning_seg.files import inside, replacing
from lightning_seg.hints import did_you_mean
from lightning_seg.predictions import coco, pictures, polygons, probabilities, servers
from lightning_seg.predictions.prediction import Prediction
from lightning_seg.structures import DatasetInfo


@dataclass(frozen=True)
class Format:
    """How a prediction is written.

    Attributes:
        suffix: of the file, which lies in a folder with the format's name.
        write: writes one prediction to a file; the same prediction gives the same bytes.
        problem: says why class names or names of images do not fit; None where they do.
    """

    suffix: str
    write: Callable[[Prediction, IO[bytes]], None]
    problem: Callable[[DatasetInfo, Sequence[str]], str | None] | None = None


FORMATS = {
    "masks": Format(".png", pictures.masks),
    "overlays": Format(".jpg", pictures.overlays),
    "probabilities": Format(".npz", probabilities.half),
    "probabilities_8bit": Format(".npz", probabilities.bytes_of),
    "confidence": Format(".png", probabilities.confidence),
    "coco": Format(".json", coco.coco),
    "cityscapes": Format("_labelIds.png", servers.cityscapes, servers.cityscapes_problem),
    "ade20k": Format(".png", servers.ade20k, servers.ade20k_problem),
    "polygons": Format(".geojson", polygons.polygons),
}

USUAL_FORMATS = ("masks", "overlays")

PROBABILITIES = frozenset({"probabilities", "probabilities_8bit", "confidence"})
"""Formats that need more than a label map."""


def formats_of(given: Sequence[str]) -> list[str]:
    """The formats that are asked for, each once, in the order of :data:`FORMATS`.

    Args:
        given: names, several of which may stand in one text: ``masks,coco``, ``[masks, coco]``.

    Raises:
        ConfigError: if one is unknown, with those that are known, or if there is none.
    """
    names = re.findall(r"[^\s,\[\]]+", " ".join(given))
    for name in names or ["nothing"]:
        if name not in FORMATS:
            raise ConfigError(
                f"--save {name}: no such format of a prediction; choose from {', '.join(FORMATS)}"
                f"{did_you_mean(name, FORMATS)}"
            )
    return [name for name in FORMATS if name in names]


def refuse_misfits(formats: Sequence[str], info: DatasetInfo, names: Sequence[str]) -> None:
    """Refuse formats of a server that wants other classes, or other names of images.

    Args:
        formats: names of :data:`FORMATS`.
        info: class names.
        names: of the images.

    Raises:
        ConfigError: says what does not fit.
    """
    for form in formats:
        check = FORMATS[form].problem
        if check is not None and (problem := check(info, names)) is not None:
            raise ConfigError(f"--save {form}: {problem}; leave it out, or mend that")


def file_of(folder: Path, form: str, name: str) -> Path:
    """Where the prediction of an image lies: ``<folder>/<format>/<name><suffix>``."""
    return folder / form / (name + FORMATS[form].suffix)


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
    paths = [inside(folder / form, prediction.name + FORMATS[form].suffix) for form in formats]
    for form, path in zip(formats, paths, strict=True):
        with replacing(path, synced=False) as file:  # some milliseconds a file; one that a power cut emptied is redone
            FORMATS[form].write(prediction, file)
    return paths
