"""Label maps as the servers of Cityscapes and ADE20K take them."""

import re
from collections.abc import Mapping, Sequence
from typing import IO

import numpy as np
from PIL import Image

from lightning_seg.predictions.prediction import Prediction
from lightning_seg.structures import DatasetInfo, summarise


def cityscapes(prediction: Prediction, file: IO[bytes]) -> None:
    """An 8-bit grey PNG of ``labelIds``, of which the server evaluates 19."""
    _write(file, prediction, _cityscapes_ids())


def ade20k(prediction: Prediction, file: IO[bytes]) -> None:
    """An 8-bit grey PNG of 1 to 150, in the order of ADE20K's scene parsing; 0 would be no class."""
    _write(file, prediction, _ade20k_ids())


def cityscapes_problem(info: DatasetInfo, names: Sequence[str]) -> str | None:
    """Why the server would not take, or would misread, such predictions."""
    pattern, example = r"[^_]+_\d{6}_\d{6}(_.*)?", "frankfurt_000000_000294_leftImg8bit"
    return _problem("Cityscapes", info, names, _cityscapes_ids(), pattern, example)


def ade20k_problem(info: DatasetInfo, names: Sequence[str]) -> str | None:
    """Why the server would not take, or would misread, such predictions."""
    return _problem("ADE20K", info, names, _ade20k_ids(), r"ADE_(train|val|test)_\d{8}", "ADE_test_00000001")


def _cityscapes_ids() -> dict[str, int]:
    from detectron2.data.datasets.builtin_meta import CITYSCAPES_CATEGORIES

    return {category["name"]: category["id"] for category in CITYSCAPES_CATEGORIES}


def _ade20k_ids() -> dict[str, int]:
    from detectron2.data.datasets.builtin_meta import ADE20K_SEM_SEG_CATEGORIES

    return {name: number for number, name in enumerate(ADE20K_SEM_SEG_CATEGORIES, start=1)}


def _problem(
    server: str, info: DatasetInfo, names: Sequence[str], ids: Mapping[str, int], pattern: str, example: str
) -> str | None:
    if missing := [name for name in ids if name not in info.names]:
        return f"the server of {server} wants its {len(ids)} classes, of which data.classes lacks {summarise(missing)}"
    if others := [name for name in info.names if name not in ids]:
        return f"the server of {server} knows {len(ids)} classes, but not {summarise(others)} of data.classes"
    known = re.compile(pattern)
    if strange := [name for name in names if not known.fullmatch(name.rpartition("/")[2])]:
        return f"the server of {server} goes by names such as {example}, but images are named {summarise(strange, 3)}"
    return None


def _write(file: IO[bytes], prediction: Prediction, ids: Mapping[str, int]) -> None:
    table = np.array([ids[name] for name in prediction.info.names], np.uint8)
    Image.fromarray(table[prediction.labels]).save(file, "PNG")
