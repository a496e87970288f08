"""Audits of small data sets."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from lightning_seg.audit import main
from lightning_seg.colours import default_palette
from lightning_seg.data import Folder
from lightning_seg.data.labels.label_map import Labelling
from lightning_seg.data.listing.splits import Listing, list_splits
from lightning_seg.structures import DatasetInfo
from tests.conftest import TINY_OVERRIDES, folder
from tests.data import planted

Defects = list[dict[str, str]]


def write_config(root: Path, **data: Any) -> str:
    config = {
        "seed_everything": 3,
        "model": {"config": "Misc/semantic_R_50_FPN_1x.yaml", "weights": "", "overrides": TINY_OVERRIDES},
        "data": {
            "root": str(root), "classes": planted.CLASSES,
            **{split: folder(split) for split in planted.COUNT},
            "train_transforms": [{"class_path": "albumentations.HorizontalFlip"}],
            "batch_size": 2, "num_workers": 0, **data,
        },
        "trainer": {"max_epochs": 1, "accelerator": "cpu", "devices": 1},
    }  # fmt: skip
    Path("set.yaml").write_text(yaml.safe_dump(config))
    return "set.yaml"


def run(config: str, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit status and what is in the newest run's files."""
    status = main(["--config", config, *arguments])
    newest = max(Path("runs", Path(config).stem).iterdir(), key=lambda path: int(path.name.split("_")[1]))
    return status, json.loads((newest / "audit.json").read_text()), (newest / "audit.html").read_text()


def brief(defects: Defects) -> list[tuple[str, str, str]]:
    return [(defect["kind"], defect["split"], defect["path"]) for defect in defects]


def listings(root: Path, *splits: str, classes: Sequence[str] = planted.CLASSES) -> dict[str, Listing]:
    info = DatasetInfo(tuple(classes), 255, default_palette(len(classes)))
    readers = {split: [Folder(images=f"{split}/images", masks=f"{split}/masks")] for split in splits}
    return list_splits(readers, root, Labelling(info, {}, {}, "refuse"))
