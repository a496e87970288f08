"""Data sets as they lie on disk, trained on through the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightning_seg.cli import main


def reader(kind: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": f"lightning_seg.data.{kind}", "init_args": arguments}


def metrics() -> dict[str, Any]:
    return json.loads(Path("runs/tiny/version_0/metrics.json").read_text())  # type: ignore[no-any-return]


def test_coco_polygons(experiment: Callable[..., Path], shared: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Classes come from the JSON; two of its names are one class here."""
    root = shared / "data" / "fruits_nuts_coco"
    whole = reader("Coco", annotations="data/trainval.json", images="data/images")
    config = experiment(
        root=str(root), classes=None, label_map={"date": "dried", "fig": "dried"}, test=None,
        train=reader("Split", of=whole, part="train"), val=reader("Split", of=whole, part="val"),
        train_transforms=[reader("RandomScaleCrop", height=128, width=128, scale_limits=[0.2, 0.5])],
        eval_transforms=[{"class_path": "albumentations.SmallestMaxSize", "init_args": {"max_size": 128}}],
    )  # fmt: skip
    with caplog.at_level("INFO"):
        main(["fit", "--config", str(config), "--trainer.max_epochs", "1"])
    assert list(metrics()["IoU"]) == ["background", "dried", "hazelnut"]
    assert metrics()["num_images"] == 2
    assert metrics()["num_valid_pixels"] == 2 * 800 * 600
    assert "dried: 1, 2" in caplog.text


REGISTRATION = """
import json, os
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

def get_dicts(folder):
    dataset_dicts = []
    for idx, name in enumerate(sorted(os.listdir(os.path.join(folder, "images")))):
        record = {"file_name": os.path.join(folder, "images", name), "image_id": idx, "height": 48, "width": 64}
        px, py = [10.5, 40.5, 40.5, 10.5], [8.5, 8.5, 30.5, 30.5]
        record["annotations"] = [{
            "bbox": [min(px), min(py), max(px), max(py)], "bbox_mode": BoxMode.XYXY_ABS,
            "segmentation": [[coordinate for point in zip(px, py) for coordinate in point]], "category_id": 0,
        }]
        dataset_dicts.append(record)
    return dataset_dicts

for d in ["train", "val"]:
    DatasetCatalog.register("balloon_" + d, lambda d=d: get_dicts("SCENES/" + d))
    MetadataCatalog.get("balloon_" + d).set(thing_classes=["balloon"])
"""  # as Detectron2's tutorial registers its balloons


def test_a_registered_data_set(experiment: Callable[..., Path], scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "balloons.py").write_text(REGISTRATION.replace("SCENES", str(scenes)))
    config = experiment(
        imports=["balloons.py"], classes=None, test=None,
        train=reader("Catalog", name="balloon_train"), val=reader("Catalog", name="balloon_val"),
    )  # fmt: skip
    main(["fit", "--config", str(config), "--trainer.max_epochs", "1"])
    assert list(metrics()["IoU"]) == ["background", "balloon"]
    assert sum(metrics()["confusion_matrix"][1]) == 3 * 30 * 22


def test_a_data_set_that_nobody_registered(experiment: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    config = experiment(classes=None, test=None, train=reader("Catalog", name="balloons"), val=None)
    with pytest.raises(SystemExit, match="1"):
        main(["fit", "--config", str(config)])
    assert "error: no data set is registered as 'balloons': name the file" in capsys.readouterr().err


def test_classes_must_come_from_somewhere(experiment: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="1"):
        main(["fit", "--config", str(experiment(classes=None))])
    assert "error: data.classes is empty: list the class names in id order" in capsys.readouterr().err
