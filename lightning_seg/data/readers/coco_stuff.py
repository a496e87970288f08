"""Reads COCO-Stuff's 171 classes: 80 things of COCO and 91 kinds of stuff."""

from pathlib import Path

from lightning_seg.data.archives.places import is_folder
from lightning_seg.data.readers.finding import resolve
from lightning_seg.data.readers.folder import Folder
from lightning_seg.data.readers.reader import Reader
from lightning_seg.errors import DataError
from lightning_seg.structures import Sample, SourceLabels

STUFF = (
    "banner", "blanket", "branch", "bridge", "building-other", "bush", "cabinet", "cage", "cardboard", "carpet",
    "ceiling-other", "ceiling-tile", "cloth", "clothes", "clouds", "counter", "cupboard", "curtain",
    "desk-stuff", "dirt", "door-stuff", "fence", "floor-marble", "floor-other", "floor-stone", "floor-tile",
    "floor-wood", "flower", "fog", "food-other", "fruit", "furniture-other", "grass", "gravel", "ground-other",
    "hill", "house", "leaves", "light", "mat", "metal", "mirror-stuff", "moss", "mountain", "mud", "napkin",
    "net", "paper", "pavement", "pillow", "plant-other", "plastic", "platform", "playingfield", "railing",
    "railroad", "river", "road", "rock", "roof", "rug", "salad", "sand", "sea", "shelf", "sky-other",
    "skyscraper", "snow", "solid-other", "stairs", "stone", "straw", "structural-other", "table", "tent",
    "textile-other", "towel", "tree", "vegetable", "wall-brick", "wall-concrete", "wall-other", "wall-panel",
    "wall-stone", "wall-tile", "wall-wood", "water-other", "waterdrops", "window-blind", "window-other", "wood",
)  # fmt: skip
FIRST_STUFF_VALUE = 91
UNLABELLED = 255
CONVERTED = "*_labelTrainIds.png"


class CocoStuff(Reader):
    """COCO's images with COCO-Stuff's pixel maps: ``<split>/`` and ``stuffthingmaps/<split>/`` below ``root``.

    The layout of mmsegmentation, ``images/<split>/`` and ``annotations/<split>/``, is read as well, without the
    ``*_labelTrainIds.png`` that its converter lays beside the maps. Stored values are COCO's ids less one: 0 to 89 for
    things (ten of them are unused), 91 to 181 for stuff; 255 is ignored. Names of things are those that Detectron2
    lists.

    Args:
        root: folder of the images' and the maps' folders, or of ``<split>.zip`` and
            ``stuffthingmaps_trainval2017.zip``.
        split: name of a folder, such as ``train2017`` or ``val2017``.
    """

    def __init__(self, root: str, split: str) -> None:
        self.root = root
        self.split = split

    def labels(self, root: Path | None) -> SourceLabels:
        from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES

        things = [category for category in COCO_CATEGORIES if category["isthing"]]
        values: dict[int, str | None] = {category["id"] - 1: category["name"] for category in things}
        values.update(enumerate(STUFF, start=FIRST_STUFF_VALUE))
        names = tuple(name for name in values.values() if name is not None)
        palette = {category["name"]: tuple(category["color"]) for category in things}
        return SourceLabels(names, {**values, UNLABELLED: None}, palette)

    def samples(self, root: Path | None) -> list[Sample]:
        base = resolve(self.root, root)
        layouts = [
            (base / self.split, base / "stuffthingmaps" / self.split),
            (base / "images" / self.split, base / "annotations" / self.split),
            (base / f"{self.split}.zip" / self.split, base / "stuffthingmaps_trainval2017.zip" / self.split),
        ]
        for images, masks in layouts:
            if is_folder(images) and is_folder(masks):
                return Folder(images=str(images), masks=str(masks), skip=[CONVERTED]).samples(None)
        missing = next(folder for folder in layouts[0] if not is_folder(folder))
        raise DataError(f"CocoStuff: {missing} does not exist: check data.root and the reader's root and split")
