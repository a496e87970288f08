"""A class that no pixel shows is told before a training, with the lines that mend it where the ignore index took it."""

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from lightning_seg.cli import main as train
from lightning_seg.colours import default_palette
from lightning_seg.data import Coco, SegmentationDataModule
from lightning_seg.data.auditing import quick
from lightning_seg.data.auditing.absent import absent_classes, lines_of_class
from lightning_seg.data.auditing.statistics import SplitStatistics
from lightning_seg.data.labels.label_map import Labelling
from lightning_seg.data.listing.splits import Listing
from lightning_seg.errors import ConfigError, DataError
from lightning_seg.structures import DatasetInfo, Sample
from tests.auditing import brief, run, write_config
from tests.conftest import write_pair
from tests.data import planted

pytestmark = pytest.mark.usefixtures("empty_working_directory")

PERSON = {"train": 5, "val": 3}
"""Samples of each split."""


def binary(root: Path, foreground: int = 255) -> Path:
    """Background 0, and a disc."""
    rng = np.random.default_rng(3)
    for split, count in PERSON.items():
        for index in range(count):
            mask = np.zeros((32, 40), np.uint8)
            cv2.circle(mask, tuple(map(int, rng.integers(8, 24, 2))), 7, foreground, -1)
            write_pair(root / split, str(index), mask)
            pixels = rng.integers(0, 256, (32, 40, 3), np.uint8)  # those of write_pair are all alike
            Image.fromarray(pixels).save(root / split / "images" / f"{index}.jpg")
    return root


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What ``fit`` says before it stops."""
    with pytest.raises(SystemExit) as caught:
        train(["fit", *arguments])
    assert caught.value.code == 1
    return capsys.readouterr().err


def test_the_commonest_binary_masks_and_the_lines_that_mend_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    root = binary(tmp_path / "set")
    config = write_config(root, classes=["background", "person"], test=None)
    ignored = sum((np.asarray(Image.open(path)) == 255).sum() for path in (root / "train/masks").iterdir())
    share = ignored / (PERSON["train"] * 32 * 40)
    message = refusal(capsys, "--config", config)
    assert (
        f"data.train: {root}/train/masks: no pixel is of class 'person', but {share:.1%} have the value 255, which is "
        f"ignored because data.ignore_index is not set (values seen: 0 in {1 - share:.1%}, 255 in {share:.1%})\n"
    ) in message
    assert f"data.val: {root}/val/masks: no pixel is of class 'person'" in message
    lines = re.findall(r"If 255 is 'person', write:\n(data:\n  \S.*)", message)
    assert lines == ["data:\n  label_map: {0: background, 255: person}"]

    assert message.splitlines()[1:] == refusal(capsys, "--config", config, "--dry_run").splitlines()[1:]
    status, content, page = run(config)
    assert status == 1
    assert brief(content["defects"]) == [("absent_class", part, f"{root}/{part}/masks") for part in PERSON]
    assert all(lines[0] in defect["detail"] for defect in content["defects"])
    assert lines[0] in capsys.readouterr().out
    assert page.count(lines[0]) == 2

    Path("mended.yaml").write_text(lines[0])
    train(["fit", "--config", config, "--config", "mended.yaml", "--trainer.num_sanity_val_steps", "0"])
    [metrics] = [json.loads(path.read_text()) for path in Path("runs/set").glob("*/metrics.json")]
    assert (
        "data.train, stored labels of each class:\n  background: 0\n  person: 255\n"
        f"  seen in 5 masks: 0 in {1 - share:.1%}, 255 in {share:.1%}"
    ) in caplog.text
    assert metrics["num_averaged_classes"] == 2
    assert metrics["IoU"]["person"] is not None
    status, content, _ = run(config, "--config", "mended.yaml")
    assert (status, content["defects"]) == (0, [])
    assert content["splits"]["train"]["class_pixels"]["person"] == ignored


def test_an_ignore_index_that_was_chosen_leaves_nothing_to_learn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(binary(tmp_path / "set"), classes=["background", "person"], test=None, ignore_index=255)
    message = refusal(capsys, "--config", config)
    assert "class 'background' is alone, so that there is nothing to learn (values seen: 0 in " in message
    assert "check the masks against data.classes, data.label_map and data.ignore_index" in message
    assert "data.val" not in message
    _, content, _ = run(config)
    details = [defect["detail"] for defect in content["defects"]]
    assert details[0].startswith("class 'background' is alone")
    assert details[1:] == ["data.val has no pixel of class 'person': means over classes leave it out"]


def test_binary_masks_of_0_and_1_pass(tmp_path: Path) -> None:
    config = write_config(binary(tmp_path / "set", foreground=1), classes=["background", "person"], test=None)
    assert run(config)[0] == 0
    train(["fit", "--config", config, "--trainer.max_steps", "1", "--trainer.limit_val_batches", "0"])
    saved = yaml.safe_load(Path("runs/set/version_1/config.yaml").read_text())
    assert saved["data"]["ignore_index"] is None  # so that the same is assumed again


def test_255_where_nothing_is_said() -> None:
    assert SegmentationDataModule(classes=["a", "b"]).ignore_index == 255
    assert SegmentationDataModule(classes=["a", "b"], ignore_index=254).ignore_index == 254


INFO = DatasetInfo(("road", "car", "dog"), 255, default_palette(3))
SAMPLES = [Sample(str(index), Path(f"i/{index}.jpg"), Path(f"m/{index}.png")) for index in range(4)]


def told(
    pixels: list[int], ignored: int, *, whole: bool = True, split: str = "train", label_map: Any = None, **how: Any
) -> list[tuple[bool, str, str]]:
    """Whether refused, detail and remedy, of a split with such pixels of road, car, dog and 255."""
    table = Labelling(INFO, label_map or {}, {}, **{"unknown": "refuse", "ignore_assumed": True, **how}).table(None, "")
    figures = SplitStatistics(3, 4)
    for _ in SAMPLES[: 4 if whole else 3]:
        seen = {value: count for value, count in (*enumerate(pixels), (255, ignored)) if count}
        figures.add_mask(np.array(pixels), ignored, 0, seen)
    found = absent_classes(split, figures, Listing(SAMPLES, [table]), INFO, whole=whole)
    assert all((defect.kind, defect.path) == ("absent_class", "m") for defect in found)
    return [(defect.refused, defect.detail, "\n".join(defect.remedy)) for defect in found]


def test_much_that_is_ignored_may_be_one_of_several_classes() -> None:
    [(refused, detail, remedy)] = told([50, 30, 0], 20)
    assert refused
    assert detail.startswith("no pixel is of class 'dog', but 20.0% have the value 255")
    assert "If 255 is 'dog', write:\ndata:\n  label_map: {0: road, 1: car, 255: dog}" in remedy
    assert remedy.endswith("If it stands for pixels that do not count, write:\ndata:\n  ignore_index: 255")
    assert told([50, 30, 0], 20, split="val")[0][0] is False  # whose few images may lack what train shows
    assert told([50, 30, 0], 20, split="test") == []
    assert told([50, 30, 0], 20, whole=False) == []  # the others may have it
    assert told([50, 30, 1], 19) == []
    assert told([50, 45, 0], 5) == [(False, "data.train has no pixel of class 'dog': it is not learnt", "")]
    assert told([50, 30, 0], 20, ignore_assumed=False)[0][0] is False
    assert told([50, 30, 0], 20, label_map={0: "road", 1: "car", 255: "ignore"})[0][0] is False
    assert told([50, 45, 0], 5, split="test") == []  # a few images may lack a class


def test_one_class_alone() -> None:
    [(refused, detail, remedy)] = told([90, 0, 0], 1, whole=False)
    assert refused
    assert detail.startswith("no pixel is of class 'car', 'dog' in 3 of 4 masks, but 1.1% have the value 255")
    assert "label_map: {0: road, 2: dog, 255: car}" in remedy
    assert "ignore_index: 255" in remedy
    assert told([90, 0, 0], 0, whole=False) == []
    assert "ignore_index" not in told([90, 0, 0], 1)[0][2]  # which would leave nothing to learn
    for split in ("val", "test"):
        [(refused, _, remedy)] = told([90, 0, 0], 1, split=split)
        assert refused
        assert remedy.endswith("write:\ndata:\n  ignore_index: 255")
    assert told([90, 0, 0], 0)[0][:2] == (
        True,
        "class 'road' is alone, so that there is nothing to learn (values seen: 0 in 100.0%): check the masks against "
        "data.classes, data.label_map and data.ignore_index",
    )
    assert [refused for refused, *_ in told([90, 0, 0], 0, split="val")] == [False, False]
    assert told([0, 0, 0], 9, ignore_assumed=False, split="val")[0][1].startswith("no pixel counts (values seen: 255")


def test_names_that_yaml_would_misread_are_quoted() -> None:
    info = DatasetInfo(("no", "a: b"), 255, default_palette(2))
    table = Labelling(info, {}, {}, "refuse", ignore_assumed=True).table(None, "data.train")
    assert yaml.safe_load(lines_of_class(table, "a: b")) == {"data": {"label_map": {0: "no", 255: "a: b"}}}


@pytest.mark.parametrize(("place", "passes"), [(5, True), (7, False)], ids=["seen", "not among those looked at"])
def test_more_masks_are_read_where_one_class_alone_was_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int, passes: bool
) -> None:
    mask = np.zeros((16, 16), np.uint8)
    mask[:4] = 255
    for index in range(20):
        write_pair(tmp_path, f"{index:02d}", np.where(index == place, np.uint8(1), mask))
    monkeypatch.setattr(quick, "WHOLE_FILES", 3)
    monkeypatch.setattr(quick, "HEADERS", 5)
    info = DatasetInfo(("background", "defect"), 255, default_palette(2))
    table = Labelling(info, {}, {}, "refuse", ignore_assumed=True).table(None, "data.train")
    samples = [Sample(p.stem, p, tmp_path / f"masks/{p.stem}.png") for p in sorted((tmp_path / "images").iterdir())]
    if passes:
        figures = quick.refuse_visible_defects({"train": Listing(samples, [table])})
        assert figures["train"].masks == 4
        return
    with pytest.raises(DataError, match=r"'defect' in 5 of 20 masks, but 25\.0% have the value 255") as caught:
        quick.refuse_visible_defects({"train": Listing(samples, [table])})
    assert "label_map: {0: background, 255: defect}" in str(caught.value)
    assert "ignore_index: 255" in str(caught.value)


@pytest.mark.parametrize("background", ["background", None])
def test_a_coco_file_without_annotations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], background: str | None
) -> None:
    file = planted.coco(tmp_path / "set")
    content = {**json.loads(file.read_text()), "annotations": []}
    content["categories"].append({"id": 2, "name": "b"})
    file.write_text(json.dumps(content))
    init = {"annotations": "all.json", "images": "i", "background": background}
    reader = {"class_path": "lightning_seg.data.Coco", "init_args": init}
    config = write_config(file.parent, classes=None, train=reader, val=reader, test=None)
    expected = "none of the 2 images has an annotation: name the file that has them as annotations"
    message = refusal(capsys, "--config", config)
    assert f"data.train: {file}: {expected}\ndata.val: {file}: {expected}\n" in message
    _, audited, _ = run(config)
    kinds = [defect["kind"] for defect in audited["defects"]]
    assert kinds.count("absent_class") == 1
    assert audited["defects"][kinds.index("absent_class")]["detail"] == expected


def test_one_class_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'person' is the only class: .*data\.classes: \[background, person\]"):
        SegmentationDataModule(classes=["person"])
    file = planted.coco(tmp_path / "set")
    with pytest.raises(ConfigError, match=r"'a' is the only class: .*, or with the reader's background"):
        SegmentationDataModule(train=Coco(str(file), "i", background=None))
    assert SegmentationDataModule(train=Coco(str(file), "i")).class_names == ["background", "a"]
