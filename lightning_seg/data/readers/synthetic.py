"""Writes small made-up scenes to disk, as image and mask files: data for a first run and for tests."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from lightning_seg.data.readers.finding import resolve
from lightning_seg.data.readers.folder import Folder
from lightning_seg.data.readers.reader import Reader
from lightning_seg.data.readers.scenes import paint_scene
from lightning_seg.errors import DataError
from lightning_seg.structures import Sample

SETTINGS_FILE = "scenes.json"


class Synthetic(Reader):
    """Landscapes with houses, trees and balls that hide one another, with an ignored seam (255) between objects.

    The classes are those of :data:`lightning_seg.data.readers.scenes.CLASSES`. The same arguments give the same
    files. They are written once and then read as :class:`Folder` reads any other data set.

    Args:
        root: folder to write ``images/*.jpg`` and ``masks/*.png`` to.
        count: how many scenes.
        seed: two data sets with different seeds share no scene.
        size: height and width in pixels.
    """

    def __init__(self, root: str, count: int, seed: int, size: tuple[int, int] = (128, 160)) -> None:
        self.root = root
        self.count = count
        self.seed = seed
        self.size = size

    def prepare(self, root: Path | None) -> None:
        target = resolve(self.root, root)
        if target.exists():
            self._check(target)
            return
        # Written beside its place and renamed, so that a run that is killed here leaves nothing half done.
        draft = target.with_name(f"{target.name}.{os.getpid()}.part")
        shutil.rmtree(draft, ignore_errors=True)
        (draft / "images").mkdir(parents=True)
        (draft / "masks").mkdir()
        for index in range(self.count):
            image, mask = paint_scene(np.random.default_rng([self.seed, index]), *self.size)
            Image.fromarray(image).save(draft / "images" / f"{index:04d}.jpg", quality=95)
            Image.fromarray(mask).save(draft / "masks" / f"{index:04d}.png")
        (draft / SETTINGS_FILE).write_text(json.dumps(self.settings))
        try:
            draft.rename(target)
        except OSError:  # another job was faster
            shutil.rmtree(draft)
            self._check(target)

    def samples(self, root: Path | None) -> list[Sample]:
        target = resolve(self.root, root)
        return Folder(images=str(target / "images"), masks=str(target / "masks")).samples(None)

    @property
    def settings(self) -> dict[str, int | list[int]]:
        """The arguments that decide the files; they are stored beside them."""
        return {"count": self.count, "seed": self.seed, "size": list(self.size)}

    def _check(self, target: Path) -> None:
        settings = target / SETTINGS_FILE
        if not settings.is_file():
            raise DataError(f"{target} exists but holds no {SETTINGS_FILE}: choose another root for the scenes")
        found = json.loads(settings.read_text())
        if found != self.settings:
            raise DataError(
                f"{target} holds scenes made with {found}, not {self.settings}: remove it or choose another root"
            )
