"""Small data sets in every layout that a reader reads: three classes and ignored pixels."""

import base64
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lightning_seg.data import (
    ADE20K,
    VOC,
    CamVid,
    Catalog,
    Cityscapes,
    Coco,
    CocoStuff,
    Folder,
    Labelme,
    Manifest,
    MaskPerClass,
    Reader,
    Split,
)

STEMS = ["plain", "mit Leerzeichen", "größe_ß", "街/路面", "a/b/c.d", "..x"[2:] + "UPPER"]
SIZE = (6, 9)


def truth(index: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Class ids 0 to 2 and ignored pixels, another map for each index."""
    return np.random.default_rng(index).choice(np.array([0, 1, 2, 255], np.uint8), size)


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def save_image(path: Path, index: int, size: tuple[int, int]) -> Path:
    return save(path, np.full((*size, 3), 20 * index, np.uint8))


def stored(ids: np.ndarray, values: Sequence[int], ignored: int) -> np.ndarray:
    """What a format stores for class ids."""
    return np.append(np.asarray(values, np.uint8), [ignored]).astype(np.uint8)[np.where(ids == 255, len(values), ids)]


def folder(root: Path, stems: list[str], size: tuple[int, int] = SIZE) -> Reader:
    for index, stem in enumerate(stems):
        save_image(root / "i" / (f"{stem}.JPG" if index % 2 else f"{stem}.png"), index, size)
        save(root / "m" / f"{stem}_L.{'PNG' if index % 3 else 'png'}", truth(index, size))
    return Folder(images="i", masks="m", mask_name="{stem}_L.png")


def scene_folders(root: Path, stems: list[str], size: tuple[int, int] = SIZE) -> Reader:
    for index, stem in enumerate(stems):
        save_image(root / f"scene {index % 2}" / "rgb" / f"{stem}.png", index, size)
        save(root / f"scene {index % 2}" / "labels" / f"{stem}.png", truth(index, size))
    return Folder(images="scene */rgb", masks="scene */labels")


def named_parts(root: Path, stems: list[str], size: tuple[int, int] = SIZE) -> Reader:
    for index, stem in enumerate(stems):
        folder, _, name = stem.rpartition("/")
        save_image(root / "i" / f"{stem}.png", index, size)
        save(root / "m" / folder / f"{name}--{name}.png", truth(index, size))
    return Folder(images="i", masks="m", image_name="{id}.png", mask_name="{id}--{id}.png")


def mask_per_class(root: Path, stems: list[str], size: tuple[int, int] = SIZE) -> Reader:
    """Images and masks in one folder; no mask where a class has no pixel."""
    for index, stem in enumerate(stems):
        save_image(root / "d" / f"{stem}.{'JPG' if index % 2 else 'jpg'}", index, size)
        for class_id, name in enumerate("abc"):
            covered = truth(index, size) == class_id
            if covered.any():
                save(root / "d" / f"{stem}_{name}.png", covered.astype(np.uint8) * 255)
    return MaskPerClass("d", "d", mask_name="{stem}_{class}.png", rest=None, missing="absent", image_suffixes=[".jpg"])


def linked_folder(root: Path, stems: list[str], size: tuple[int, int] = SIZE) -> Reader:
    for index, stem in enumerate(stems):
        save_image(root / "elsewhere" / f"{stem}.jpg", index, size)
        save(root / "m" / f"{stem}.png", truth(index, size))
    (root / "i").mkdir()
    for entry in (root / "elsewhere").iterdir():
        (root / "i" / entry.name).symlink_to(entry)
    (root / "i" / "loop").symlink_to(root / "i")
    return Folder(images="i", masks="m")


def listed_folder(root: Path, stems: list[str], size: tuple[int, int] = SIZE) -> Reader:
    folder(root, stems, size)
    (root / "all.txt").write_text("".join(f"{stem}\t\n" for stem in stems))
    for index, stem in enumerate(stems):  # a list has one spelling only
        (root / "m" / f"{stem}_L.PNG").rename(root / "m" / f"{stem}_L.png") if index % 3 else None
        (root / "i" / f"{stem}.JPG").rename(root / "i" / f"{stem}.jpg") if index % 2 else None
    return Folder(images="i", masks="m", mask_name="{stem}_L.png", list="all.txt")


def csv_manifest(root: Path, stems: list[str], size: tuple[int, int] = SIZE) -> Reader:
    folder(root, stems, size)
    rows = [
        f'"i/{stem}.{"JPG" if index % 2 else "png"}","m/{stem}_L.{"PNG" if index % 3 else "png"}",here'
        for index, stem in enumerate(stems)
    ]
    (root / "all.csv").write_text(
        "\n".join(["image,mask,split", *rows, "no.jpg,no.png,elsewhere"]), encoding="utf-8-sig"
    )
    return Manifest(file="all.csv", split="here")


def json_manifest(root: Path, stems: list[str], size: tuple[int, int] = SIZE) -> Reader:
    folder(root / "deep", stems, size)  # paths relative to the file
    rows = [
        {"x": f"i/{stem}.{'JPG' if index % 2 else 'png'}", "y": f"m/{stem}_L.{'PNG' if index % 3 else 'png'}"}
        for index, stem in enumerate(stems)
    ]
    (root / "deep" / "all.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return Manifest(file="deep/all.jsonl", image_column="x", mask_column="y")


def whole_split(root: Path, stems: list[str], size: tuple[int, int] = SIZE) -> Reader:
    return Split(of=folder(root, stems, size), part="val", fractions=[0, 1])


def cityscapes(root: Path, stems: list[str], size: tuple[int, int] = SIZE, split: str = "val") -> Reader:
    for index, stem in enumerate(stems):
        save_image(root / "leftImg8bit" / split / f"{stem}_leftImg8bit.png", index, size)
        mask = stored(truth(index, size), [7, 8, 11], 4)
        save(root / "gtFine" / split / f"{stem}_gtFine_labelIds.png", mask)
        save(root / "gtFine" / split / f"{stem}_gtFine_color.png", np.zeros((*size, 3), np.uint8))
        save(root / "gtFine" / split / f"{stem}_gtFine_instanceIds.png", mask.astype(np.uint16) * 1000)
    return Cityscapes(root=".", split=split)


def cityscapes_train_ids(root: Path, stems: list[str], size: tuple[int, int] = SIZE) -> Reader:
    for index, stem in enumerate(stems):
        save_image(root / "c/leftImg8bit/train" / f"{stem}_leftImg8bit.png", index, size)
        save(root / "c/gtFine/train" / f"{stem}_gtFine_labelTrainIds.png", truth(index, size))
    return Cityscapes(root="c", split="train")


def ade20k(root: Path, stems: list[str], size: tuple[int, int] = SIZE, split: str = "train") -> Reader:
    folder = "training" if split == "train" else "validation"
    for index, stem in enumerate(stems):
        save_image(root / "images" / folder / f"{stem}.jpg", index, size)
        save(root / "annotations" / folder / f"{stem}.png", stored(truth(index, size), [1, 2, 3], 0))
    return ADE20K(root=".", split=split)


def voc(root: Path, stems: list[str], size: tuple[int, int] = SIZE) -> Reader:
    for index, stem in enumerate(stems):
        save_image(root / "JPEGImages" / f"{stem}.jpg", index, size)
        mask = Image.fromarray(truth(index, size), mode="P")
        mask.putpalette([38 * value % 256 for value in range(768)])
        (root / "SegmentationClass" / f"{stem}.png").parent.mkdir(parents=True, exist_ok=True)
        mask.save(root / "SegmentationClass" / f"{stem}.png")
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/val.txt").write_text("".join(f"{stem}\t\n" for stem in stems))
    return VOC(root=".", split="val")


def camvid(root: Path, stems: list[str], size: tuple[int, int] = SIZE, split: str = "test") -> Reader:
    for index, stem in enumerate(stems):
        save_image(root / split / f"{stem}.png", index, size)
        save(root / f"{split}annot" / f"{stem}.png", stored(truth(index, size), [0, 1, 2], 11))
    return CamVid(root=".", split=split)


def coco_stuff(root: Path, stems: list[str], size: tuple[int, int] = SIZE, split: str = "val") -> Reader:
    for index, stem in enumerate(stems):
        save_image(root / f"{split}2017" / f"{stem}.jpg", index, size)
        save(root / f"stuffthingmaps/{split}2017" / f"{stem}.png", stored(truth(index, size), [0, 1, 2], 255))
    return CocoStuff(root=".", split=f"{split}2017")


def coco(root: Path, stems: list[str], size: tuple[int, int] = SIZE) -> Reader:
    content = coco_content(root, stems, size)
    (root / "all.json").write_text(json.dumps(content))
    return Coco(annotations="all.json", images="i", background=None)


def coco_content(root: Path, stems: list[str], size: tuple[int, int] = SIZE) -> dict[str, Any]:
    """Three categories with ids in any order, each region a run-length encoding."""
    categories = [{"id": 90, "name": "c"}, {"id": 0, "name": "a"}, {"id": 7, "name": "b"}]
    images, annotations = [], []
    for index, stem in enumerate(stems):
        save_image(root / "i" / f"{stem}.jpg", index, size)
        images.append({"id": 100 - index, "file_name": f"{stem}.jpg", "height": size[0], "width": size[1]})
        for category, class_id in ((0, 0), (7, 1), (90, 2)):
            region = (truth(index, size) == class_id).T.ravel()
            changes = np.flatnonzero(np.diff(region)) + 1
            runs = np.diff([0, *changes, region.size]).tolist()
            annotations.append(
                {
                    "id": len(annotations), "image_id": 100 - index, "category_id": category,
                    "segmentation": {"size": list(size), "counts": [0, *runs] if region[0] else runs},
                }
            )  # fmt: skip
    return {"images": images, "annotations": annotations, "categories": categories}


def catalog_of_masks(root: Path, stems: list[str], size: tuple[int, int] = SIZE) -> Reader:
    folder(root, stems, size)

    def load() -> list[dict[str, Any]]:
        return [
            {"file_name": str(sample.image), "sem_seg_file_name": str(sample.mask), "height": size[0], "width": size[1]}
            for sample in Folder(images="i", masks="m", mask_name="{stem}_L.png").samples(root)
        ]

    return registered(root, load, stuff_classes=["a", "b", "c"], ignore_label=255)


def catalog_of_annotations(root: Path, stems: list[str], size: tuple[int, int] = SIZE) -> Reader:
    from detectron2.data.datasets import load_coco_json

    (root / "all.json").write_text(json.dumps(coco_content(root, stems, size)))
    name = registered(root, lambda: load_coco_json(str(root / "all.json"), str(root / "i"), str(root))).name
    return Catalog(name, background=None)


def labelme(root: Path, stems: list[str], size: tuple[int, int] = SIZE) -> Reader:
    """A file beside each image, as Windows writes its path; masks between two pixels, over a polygon that they hide."""
    for index, stem in enumerate(stems):
        save_image(root / "d" / f"{stem}.jpg", index, size)
        shapes: list[dict[str, Any]] = [
            {"label": "c", "points": [[0, 0], [size[1], 0], [size[1], size[0]], [0, size[0]]]}
        ]
        for label, class_id in (("__ignore__", 255), ("a", 0), ("b", 1), ("c", 2)):
            png = io.BytesIO()
            Image.fromarray((truth(index, size) == class_id).astype(np.uint8)).save(png, "PNG")
            points = [[0, 0], [size[1] - 1, size[0] - 1]]
            mask = base64.b64encode(png.getvalue()).decode()
            shapes.append({"label": label, "shape_type": "mask", "points": points, "mask": mask})
        content = {"imagePath": rf"..\somewhere\{Path(stem).name}.jpg", "imageData": "AAAA", "shapes": shapes}
        content |= {"imageHeight": size[0], "imageWidth": size[1]}
        (root / "d" / f"{stem}.json").write_text(json.dumps(content))
    return Labelme("d", background=None)


def registered(root: Path, load: Callable[[], list[dict[str, Any]]], **metadata: Any) -> Catalog:
    from detectron2.data import DatasetCatalog, MetadataCatalog

    DatasetCatalog.register(str(root), load)
    MetadataCatalog.get(str(root)).set(**metadata)
    return Catalog(str(root))


LAYOUTS: list[Callable[..., Reader]] = [
    folder, scene_folders, named_parts, mask_per_class,
    linked_folder, listed_folder, csv_manifest, json_manifest, whole_split, cityscapes,
    cityscapes_train_ids, ade20k, voc, camvid, coco_stuff, coco, labelme, catalog_of_masks, catalog_of_annotations,
]  # fmt: skip
