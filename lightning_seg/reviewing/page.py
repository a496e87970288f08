"""Writes ``review.html``: one file with all pictures, which fetches nothing and keeps decisions in the browser."""

import base64
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_seg.colours import show_colour
from lightning_seg.data.dataset import SegmentationDataset
from lightning_seg.data.labels.colours import colourise
from lightning_seg.data.reading import as_shown
from lightning_seg.data.stored import read_whole
from lightning_seg.files import inside, replacing
from lightning_seg.reviewing.record import PREDICTIONS
from lightning_seg.reviewing.regions import decode

_LONGEST = 420
"""Pixels of the longer side of a picture."""

_AROUND = 0.75
"""How much of its own size is shown on each side of a region."""

_LEAST_SHOWN = 96
"""Pixels of the image that are shown at least, in each direction."""

_OPACITY = 0.65


def write_page(
    folder: Path, suspects: Sequence[Mapping[str, Any]], source: Mapping[str, Any], dataset: SegmentationDataset
) -> None:
    """Write the page of some suspects, of which one image is in memory at once.

    Args:
        folder: of the review, with its predictions.
        suspects: as ``suspects.json`` has them, in the order in which they are shown.
        source: what a file of decisions says of where they come from.
        dataset: of the split.
    """
    places = {sample.name: position for position, sample in enumerate(dataset.samples)}
    pictures: list[dict[str, Any]] = [{} for _ in suspects]
    by_image = sorted(range(len(suspects)), key=lambda number: places[suspects[number]["image"]])
    name, read = None, None
    for number in by_image:
        suspect = suspects[number]
        if suspect["image"] != name or read is None:
            name, read = suspect["image"], _read(folder, dataset, places[suspect["image"]])
        pictures[number] = _draw(suspect, *read, dataset)
    info = dataset.info
    content = {
        "id": source["id"],
        "source": dict(source),
        "colours": {n: show_colour(colour) for n, colour in zip(info.names, info.palette, strict=True)},
        "suspects": list(suspects),
        "pictures": pictures,
    }
    text = json.dumps(content, ensure_ascii=True).replace("<", "\\u003c")
    page = (files(__package__) / "page.html").read_text(encoding="utf-8").replace("DATA", text, 1)
    with replacing(folder / "review.html", "w") as file:
        file.write(page)


_Read = tuple[NDArray[np.uint8], NDArray[Any], NDArray[Any]]


def _read(folder: Path, dataset: SegmentationDataset, position: int) -> _Read:
    """Image as shown, labels and prediction of a sample."""
    sample = dataset.samples[position]
    image, labels = read_whole(sample, dataset.tables[sample.source], dataset.rules)
    data = np.fromfile(inside(folder / PREDICTIONS, f"{sample.name}.png"), np.uint8)
    predicted = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    return as_shown(image, dataset.rules), labels, np.asarray(predicted)


def _draw(
    suspect: Mapping[str, Any],
    image: NDArray[np.uint8],
    labels: NDArray[Any],
    predicted: NDArray[Any],
    dataset: SegmentationDataset,
) -> dict[str, Any]:
    left, top, width, height = suspect["box"]
    rows = _around(top, height, labels.shape[0])
    columns = _around(left, width, labels.shape[1])
    mask = decode(suspect["counts"], (labels.shape[0], labels.shape[1]))[rows, columns]
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_TC89_L1)
    shown = image[rows, columns]
    panels = {"image": shown}
    for name, ids in (("label", labels), ("prediction", predicted)):
        panels[name] = _blend(colourise(ids[rows, columns], dataset.info), shown)
    outline = "".join(
        "M" + "L".join(f"{x + 0.5:g} {y + 0.5:g}" for x, y in contour[:, 0].tolist()) + "Z" for contour in contours
    )
    size = {"width": mask.shape[1], "height": mask.shape[0]}
    return {**{name: _encode(panel) for name, panel in panels.items()}, "outline": outline, **size}


def _around(start: int, length: int, limit: int) -> slice:
    """A region's rows or columns with some around them."""
    more = max(int(_AROUND * length), (_LEAST_SHOWN - length) // 2, 1)
    return slice(max(0, start - more), min(limit, start + length + more))


def _blend(coloured: NDArray[np.uint8], image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.addWeighted(coloured, _OPACITY, np.ascontiguousarray(image), 1 - _OPACITY, 0), np.uint8)


def _encode(panel: NDArray[np.uint8]) -> str:
    scale = _LONGEST / max(panel.shape[:2])
    if scale < 1:
        size = max(1, round(panel.shape[1] * scale)), max(1, round(panel.shape[0] * scale))
        panel = np.asarray(cv2.resize(panel, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, data = cv2.imencode(".jpg", panel[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
