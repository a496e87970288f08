"""Label maps in COCO's JSON: one run-length encoding for each class of an image, as COCO-Stuff has it."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from lightning_seg.files import replacing
from lightning_seg.predictions.prediction import Prediction

COMPLETE, RESULTS = FILES = ("coco.json", "coco_results.json")
"""What all images are joined in: a data set with ids and names of its categories, and the list that servers take."""


def coco(prediction: Prediction, file: IO[bytes]) -> None:
    """``height``, ``width`` and ``segments``, each with ``category_id``, ``segmentation``, ``area`` and ``bbox``.

    A category's id is the class id + 1.
    """
    from pycocotools import mask

    labels = prediction.labels
    segments = []
    for class_id in np.unique(labels).tolist():
        region = mask.encode(np.asfortranarray(labels == class_id, np.uint8))
        segments.append(
            {
                "category_id": class_id + 1,
                "segmentation": {"size": list(labels.shape), "counts": region["counts"].decode("ascii")},
                "area": int(mask.area(region)),
                "bbox": mask.toBbox(region).tolist(),
            }
        )
    part = {"height": labels.shape[0], "width": labels.shape[1], "segments": segments}
    file.write(json.dumps(part).encode())


def join(folder: Path, parts: Sequence[tuple[str, str, Path]], class_names: Sequence[str]) -> None:
    """Write :data:`COMPLETE` and :data:`RESULTS` from the files of all images, one image at a time.

    An image's id is the number that its name ends in, as COCO has it, where all names end in different ones; else its
    place from 1.

    Args:
        folder: to write to.
        parts: name, image file and part of each image.
        class_names: K names in id order.
    """
    ids = _image_ids([name for name, _, _ in parts])
    categories = [{"id": number, "name": name} for number, name in enumerate(class_names, start=1)]
    with replacing(folder / COMPLETE) as file:
        file.write(b'{"categories": ' + json.dumps(categories).encode() + b',\n"images": [')
        _write_items(file, _images(ids, parts))
        file.write(b'],\n"annotations": [')
        _write_items(file, _annotations(ids, parts))
        file.write(b"]}\n")
    with replacing(folder / RESULTS) as file:
        file.write(b"[")
        wanted = ("image_id", "category_id", "segmentation")
        _write_items(file, ({key: found[key] for key in wanted} for found in _annotations(ids, parts)))
        file.write(b"]\n")


def _image_ids(names: Sequence[str]) -> list[int]:
    stems = [name.rpartition("/")[2].rpartition("_")[2] for name in names]  # COCO_val2014_000000000042
    numbers = {int(stem) for stem in stems if stem.isascii() and stem.isdigit()}
    return [int(stem) for stem in stems] if len(numbers) == len(names) else list(range(1, len(names) + 1))


def _images(ids: Sequence[int], parts: Sequence[tuple[str, str, Path]]) -> Iterator[dict[str, Any]]:
    for image_id, (_, image, path) in zip(ids, parts, strict=True):
        part = json.loads(path.read_bytes())
        yield {"id": image_id, "file_name": image, "height": part["height"], "width": part["width"]}


def _annotations(ids: Sequence[int], parts: Sequence[tuple[str, str, Path]]) -> Iterator[dict[str, Any]]:
    number = 0
    for image_id, (_, _, path) in zip(ids, parts, strict=True):
        for segment in json.loads(path.read_bytes())["segments"]:
            number += 1
            yield {"id": number, "image_id": image_id, **segment, "iscrowd": 0}


def _write_items(file: IO[bytes], items: Iterable[dict[str, Any]]) -> None:
    for number, item in enumerate(items):
        file.write((",\n" if number else "\n").encode() + json.dumps(item).encode())
