"""From an image file to its label map, against Detectron2's ``DefaultPredictor`` with the same weights."""

import time
from collections.abc import Iterator

import numpy as np
from inference import PEER, load_side, write_models

from sections.images import write_scenes
from sections.table import Row, Settings

NAMES = ("checkpoint", "the same, channels_last", "model.pt2", PEER)


def run(settings: Settings) -> Iterator[Row]:
    """A checkpoint, as it is and channels-last, and the exported program."""
    folder = settings.folder / "inference"
    folder.mkdir()
    write_models(folder, ("pt2", "pth"))
    size, files = ((96, 160), 2) if settings.tiny else ((1024, 2048), 6)
    write_scenes(folder / "scenes", files, size=size)
    images = sorted((folder / "scenes/images").iterdir())
    sides = {name: load_side(name, folder, settings.device) for name in NAMES}
    found = {name: [side(path) for path in images] for name, side in sides.items()}  # warm, and looked at
    taken = {}
    for name, side in sides.items():
        start = time.perf_counter()
        for path in images:
            side(path)
        taken[name] = (time.perf_counter() - start) / len(images)
    for name in sides:
        if name != PEER:
            differing = max(float(np.mean(a != b)) for a, b in zip(found[name], found[PEER], strict=True))
            yield Row(
                f"{name}, {size[0]}×{size[1]}", 1000 * taken[name], 1000 * taken[PEER], taken[PEER] / taken[name],
                unit="ms", failed=differing > 1e-2, note=f"{differing:.1e} of the pixels differ",
            )  # fmt: skip
