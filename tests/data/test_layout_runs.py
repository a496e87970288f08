"""One data set in several layouts gives one run: the same audit, the same weights after a step, the same figures."""

import base64
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_seg.cli import main
from tests.auditing import run as run_audit
from tests.auditing import write_config
from tests.data import planted

pytestmark = pytest.mark.usefixtures("empty_working_directory", "one_thread")

Settings = dict[str, Any]


def as_folders(root: Path, split: str) -> Settings:
    return {"class_path": "Folder", "init_args": {"images": f"{split}/images", "masks": f"{split}/masks"}}


def as_scenes(root: Path, split: str) -> Settings:
    for index in range(planted.COUNT[split]):
        scene = f"{split}/scene{index // 2}"
        move(root / split / "images" / f"{index}.png", root / scene / "rgb" / f"{index}.png")
        move(root / split / "masks" / f"{index}.png", root / scene / "labels" / f"{index}_cls.png")
    names = {"image_name": f"{split}/{{scene}}/rgb/{{id}}.png", "mask_name": f"{split}/{{scene}}/labels/{{id}}_cls.png"}
    return {"class_path": "Folder", "init_args": names}


def as_mask_per_class(root: Path, split: str) -> Settings:
    for path in sorted((root / split / "masks").iterdir()):
        ids = np.asarray(Image.open(path))
        for number, name in enumerate(planted.CLASSES):
            file = root / split / "classes" / name / path.name
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((ids == number).astype(np.uint8) * 255).save(file)
    shutil.rmtree(root / split / "masks")
    where = {"images": f"{split}/images", "masks": f"{split}/classes"}
    return {"class_path": "MaskPerClass", "init_args": {**where, "rest": None}}


def as_labelme(root: Path, split: str) -> Settings:
    """Walls are what no shape covers; doors, windows and what does not count are embedded masks."""
    for path in sorted((root / split / "masks").iterdir()):
        ids = np.asarray(Image.open(path))
        height, width = ids.shape
        shapes = []
        for label, value in (("door", 1), ("window", 2), ("__ignore__", 255)):
            png = io.BytesIO()
            Image.fromarray(ids == value).save(png, "PNG")
            mask = base64.b64encode(png.getvalue()).decode()
            points = [[0, 0], [width - 1, height - 1]]
            shapes.append({"label": label, "shape_type": "mask", "points": points, "mask": mask})
        content = {"shapes": shapes, "imagePath": path.name, "imageHeight": height, "imageWidth": width}
        (root / split / "images" / f"{path.stem}.json").write_text(json.dumps(content))
    return {"class_path": "Labelme", "init_args": {"annotations": f"{split}/images", "background": "wall"}}


def move(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    path.rename(to)


def results(layout: Callable[[Path, str], Settings], place: Path) -> tuple[Any, dict[str, torch.Tensor]]:
    root = planted.build(place / "set")
    readers = {split: layout(root, split) for split in planted.COUNT}
    for reader in readers.values():
        reader["class_path"] = f"lightning_seg.data.{reader['class_path']}"
    config = write_config(root, **readers)
    status, content, _ = run_audit(config)
    assert (status, content["defects"]) == (0, [])
    main(["fit", "--config", config, "--name", place.name])
    folder = Path("runs", place.name, "version_0")
    counts = json.loads((folder / "metrics.json").read_text())["confusion_matrix"]
    weights = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    pixels = {split: figures["class_pixels"] for split, figures in content["splits"].items()}
    return (counts, pixels, content["mean"]), weights


@pytest.mark.runs
def test_every_layout_gives_the_same_run(tmp_path: Path) -> None:
    expected, weights = results(as_folders, tmp_path / "folders")
    for layout in (as_scenes, as_mask_per_class, as_labelme):
        found, same = results(layout, tmp_path / layout.__name__)
        assert found == expected, layout.__name__
        assert all(torch.equal(same[key], value) for key, value in weights.items()), layout.__name__


@pytest.mark.parametrize(
    ("layout", "plant", "kind", "detail"),
    [
        (
            as_scenes,
            "train/scene0/labels/1_cls.png",
            "orphan_image",
            "has no mask named 'train/{scene}/labels/{id}_cls",
        ),
        (as_mask_per_class, "train/classes/door/1.png", "orphan_image", "has no mask of door in"),
        (as_labelme, "train/images/1.png", "orphan_mask", "1.json names image '1.png', but"),
        (as_labelme, "train/images/1.json", "orphan_image", "has no labelme file: annotate it, or leave"),
    ],
)
def test_the_audit_names_what_is_missing(
    layout: Callable[[Path, str], Settings], plant: str, kind: str, detail: str, tmp_path: Path
) -> None:
    root = planted.build(tmp_path / "set")
    reader = layout(root, "train")
    reader["class_path"] = f"lightning_seg.data.{reader['class_path']}"
    (root / plant).unlink()
    status, content, _ = run_audit(write_config(root, train=reader, val=None, test=None))
    assert status == 1
    assert [defect["kind"] for defect in content["defects"]] == [kind]
    assert detail in content["defects"][0]["detail"]


def test_the_audit_names_what_is_wrong_in_class_masks(tmp_path: Path) -> None:
    """Overlaps, smoothed masks and damage, each once, beside the figures of the other images."""
    root = planted.build(tmp_path / "set")
    reader = as_mask_per_class(root, "train")
    reader["class_path"] = f"lightning_seg.data.{reader['class_path']}"
    everywhere = np.full(planted.SIZE, 255, np.uint8)
    Image.fromarray(everywhere).save(root / "train/classes/door/0.png")
    soft = np.asarray(
        Image.open(root / "train/classes/door/1.png")
        .resize((9, 9))
        .resize(planted.SIZE[::-1], Image.Resampling.BICUBIC)
    )
    Image.fromarray(soft).save(root / "train/classes/door/1.png")
    planted.cut(root / "train/classes/door/2.png")
    status, content, _ = run_audit(write_config(root, train=reader, val=None, test=None))
    found = sorted((defect["kind"], defect["detail"].replace(str(root), "")) for defect in content["defects"])
    assert status == 1
    assert [kind for kind, _ in found] == ["lossy_mask", "unreadable", "unreadable"]
    assert "door/1.png has" in found[0][1]
    assert "values between 0 and 255" in found[0][1]
    details = " ".join(detail for _, detail in found[1:])
    assert "masks /train/classes/door/0.png and /train/classes/wall/0.png overlap in" in details
    assert "mask /train/classes/door/2.png cannot be read" in details
    assert content["splits"]["train"]["class_images"]["door"] == 3
