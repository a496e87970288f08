"""Files for readers to find."""

import json
from pathlib import Path
from typing import Any

from lightning_seg.data import Folder

CATEGORY = {"id": 1, "name": "a"}


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def found(reader: Folder, root: Path) -> list[tuple[str, str, str]]:
    return [
        (sample.name, sample.image.relative_to(root).as_posix(), sample.mask.relative_to(root).as_posix())
        for sample in reader.samples(root)
        if sample.mask is not None
    ]


def write_coco(root: Path, images: list[dict[str, Any]], *, name: str = "coco.json", **more: Any) -> None:
    (root / name).write_text(json.dumps({"images": images, "categories": [CATEGORY], "annotations": [], **more}))
