"""Which network of a fold judges which sample, and what it is trained on."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from lightning_seg.data import Folder
from lightning_seg.data.readers.several import joined
from lightning_seg.errors import ConfigError
from lightning_seg.reviewing.folds import Folds

READER = {"class_path": "lightning_seg.data.Folder", "init_args": {"images": "images", "masks": "masks"}}


def folds(tmp_path: Path, train: Any, **changes: Any) -> Folds:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"model": {"config": "a.yaml"}, "trainer": {"devices": 4, "max_steps": 7}}))
    data = {"train": train, "val": READER, "test": READER, "root": str(tmp_path), "fold": None, "seed": 0}
    settings: dict[str, Any] = {"split": "train", "count": 3, "group_by": None, **changes}
    return Folds(config, data=data, folder=tmp_path / "folds", **settings)


def readers(root: Path) -> list[Folder]:
    for part in ("a", "b"):
        for kind in ("images", "masks"):
            (root / part / kind).mkdir(parents=True)
            for name in (f"scene_{scene}_{tile}" for scene in range(4) for tile in range(2)):
                Image.new("L", (4, 4)).save(root / part / kind / f"{name}.png")
    return [Folder(images=f"{part}/images", masks=f"{part}/masks") for part in ("a", "b")]


def test_each_sample_of_each_reader_is_in_one_fold_and_groups_stay_together(tmp_path: Path) -> None:
    both = readers(tmp_path)
    samples = joined([reader.samples(tmp_path) for reader in both])  # whose names have their reader in front
    found = folds(tmp_path, [READER, READER], group_by="scene_([0-9])").positions(samples, both, tmp_path)
    assert sorted(position for positions in found for position in positions) == list(range(16))
    assert all(positions for positions in found)
    groups = [{samples[position].name[:9] for position in positions} for positions in found]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 8


def test_other_samples_make_another_review(tmp_path: Path) -> None:
    samples = readers(tmp_path)[0].samples(tmp_path)
    one = folds(tmp_path, READER)
    assert one.made_with(samples) == one.made_with(list(samples))
    assert one.made_with(samples)["samples"] != one.made_with(samples[1:])["samples"]


def test_a_fold_is_trained_as_the_run_on_one_device_and_only_once(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    def train(config: Path, options: Any) -> Path:
        assert options == {"ckpt_path": "last"}
        seen.append(yaml.safe_load(config.read_text()))
        return tmp_path / "folds/fold_1/version_0"

    one = folds(tmp_path, [READER, READER], group_by="(.)")
    with pytest.raises(ConfigError, match=r"the training of fold 1 left no checkpoint in .*version_0"):
        one.checkpoint(1, train)
    [settings] = seen
    folded = {
        part: {
            "class_path": "lightning_seg.data.Split",
            "init_args": {"of": READER, "part": part, "group_by": "(.)", "folds": 3, "fold": 1},
        }
        for part in ("train", "val")
    }
    assert settings["data"] == {
        "train": [folded["train"]] * 2, "val": [folded["val"]] * 2, "test": None, "predict": None,
        "root": str(tmp_path), "fold": None,
    }  # fmt: skip
    assert settings["model"] == {"config": "a.yaml"}
    assert settings["name"] == "fold_1"
    assert settings["trainer"] == {
        "devices": 1, "num_nodes": 1, "strategy": "auto", "max_steps": 7, "default_root_dir": str(tmp_path / "folds"),
    }  # fmt: skip
    for damaged in ("", "[]", '{"checkpoint": "fold_1/x.ckpt"}'):  # of which the file is gone
        (tmp_path / "folds/fold_1.json").write_text(damaged)
        with pytest.raises(ConfigError, match="left no checkpoint"):
            one.checkpoint(1, train)
    (tmp_path / "folds/fold_1").mkdir()
    (tmp_path / "folds/fold_1/x.ckpt").touch()
    assert one.checkpoint(1, train) == tmp_path / "folds/fold_1/x.ckpt"
    assert len(seen) == 4
