"""``plot A B`` says whether B is better, or why it cannot say so."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_seg.plot import main
from lightning_seg.plotting.runs import read_run

NAMES = [f"s{place // 4}_{place}" for place in range(40)]


def run(folder: Path, right: int, names: list[str] = NAMES, **changes: Any) -> str:
    """An evaluation of two classes, 100 true pixels each, of which about ``right`` are right in each image."""
    folder.mkdir(parents=True)
    matrices = np.zeros((len(names), 2, 2), np.uint16)
    for index, name in enumerate(names):
        hits = right + int(name.split("_")[1]) % 3
        matrices[index] = [[hits, 100 - hits], [100 - hits, hits]]
    for place, row in changes.pop("rows", {}).items():
        matrices[place] = row
    total = matrices.astype(np.int64).sum(0)
    iou = (total.diagonal() / (total.sum(0) + total.sum(1) - total.diagonal())).tolist()
    figures = {"split": "val", "mIoU": float(np.mean(iou)), "mAcc": 0.5, "pAcc": 0.5, "fwIoU": 0.5}
    figures |= {"IoU": {"a": iou[0], "b": iou[1]}, "confusion_matrix": total.tolist(), "num_images": len(names)}
    (folder / "metrics.json").write_text(json.dumps({**figures, **changes.pop("metrics", {})}))
    classes = changes.pop("classes", ["a", "b"])
    np.savez_compressed(folder / "images.npz", names=names, class_names=classes, matrices=matrices)
    return str(folder)


def said(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    main([*arguments, "--output", str(tmp_path / "plots")])
    found: dict[str, Any] = json.loads((tmp_path / "plots/comparison.json").read_text())
    return found


def test_names_the_better_one_in_any_order_of_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = run(tmp_path / "x/a", 60), run(tmp_path / "x/b", 70, NAMES[::-1])
    [found] = said(tmp_path, first, second)["comparisons"]
    assert found["winner"] == "x/b"
    assert found["sentence"].startswith("x/b is better than x/a by 11.")
    assert found["sentence"].endswith(" on 40 images")
    assert found["sentence"] in capsys.readouterr().out
    figures = [read_run(Path(folder)).metrics["mIoU"] for folder in (first, second)]
    assert (found["mIoU"]["first"], found["mIoU"]["second"]) == tuple(map(pytest.approx, figures))
    assert found["mIoU"]["low"] < found["mIoU"]["difference"] < found["mIoU"]["high"]
    page = (tmp_path / "plots/report.html").read_text()
    assert found["sentence"] in page
    assert found["most_different_images"][0]["name"] in page
    [turned] = said(tmp_path, second, first)["comparisons"]
    assert turned["sentence"] == found["sentence"]


def test_names_no_winner_of_equals(tmp_path: Path) -> None:
    rows = {place: [[55 + 10 * (place % 2), 45 - 10 * (place % 2)], [40, 60]] for place in range(40)}
    other = {place: [[65 - 10 * (place % 2), 35 + 10 * (place % 2)], [40, 60]] for place in range(40)}
    pair = run(tmp_path / "x/a", 60, rows=rows), run(tmp_path / "x/b", 60, rows=other)
    [found] = said(tmp_path, *pair)["comparisons"]
    assert found["winner"] is None
    assert found["sentence"].startswith("No difference can be told between x/a and x/b: ")


def test_scenes_are_drawn_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = run(tmp_path / "x/a", 60), run(tmp_path / "x/b", 70)
    [found] = said(tmp_path, *pair, "--group_by", r"^(s\d+)_")["comparisons"]
    assert found["sentence"].endswith("on 40 images of 10 scenes")
    for pattern, message in (
        ("(", "is no regular expression"),
        ("s", "has no group (…) that names the scene; images are s0_0, s0_1, s0_2"),
        ("^s([5-9])", "finds no scene in 20 of 40 images, such as s0_0, s0_1, s0_2"),
        ("^(s)", "finds 1 scenes (s) in s0_0, s0_1, s0_2, …: an interval needs at least 6"),
    ):
        with pytest.raises(SystemExit) as caught:
            main([*pair, "--group_by", pattern, "--output", str(tmp_path / "plots")])
        assert message in str(caught.value.code)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": {3: [[60, 41], [40, 60]]}}, "s0_3 has 100 true pixels of a in the one and 101 in the other, and 1"),
        ({"names": NAMES[:-1]}, "1 images of x/a, such as s9_39, are not in x/b"),
        ({"names": [*NAMES, "t_40"]}, "1 images of x/b, such as t_40, are not in x/a"),
        ({"classes": ["a", "c"]}, "their classes are ['a', 'b'] and ['a', 'c']"),
        ({"metrics": {"absent_classes": "mmseg"}}, "model.absent_classes is detectron2 and mmseg"),
        ({"metrics": {"confusion_matrix": [[1, 0], [0, 1]]}}, "are of different evaluations: evaluate the run again"),
    ],
)
def test_refuses_what_is_not_of_the_same_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], message: str
) -> None:
    found = said(tmp_path, run(tmp_path / "x/a", 60), run(tmp_path / "x/b", 70, **changes))
    assert message in found["not_compared"]
    assert found["comparisons"] == []
    assert message in capsys.readouterr().err
    assert "Not compared: " in (tmp_path / "plots/report.html").read_text()


@pytest.mark.parametrize(
    ("content", "message"), [(None, "has no images.npz"), (b"PK", "is not the images.npz of a run")]
)
def test_refuses_missing_and_damaged_files(tmp_path: Path, content: bytes | None, message: str) -> None:
    pair = run(tmp_path / "x/a", 60), run(tmp_path / "x/b", 70)
    file = Path(pair[1]) / "images.npz"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    assert message in said(tmp_path, *pair)["not_compared"]
    few = [run(tmp_path / f"few/{side}", 60, NAMES[:5]) for side in "ab"]
    assert said(tmp_path, *few)["not_compared"] == "5 images are too few for an interval: at least 6 are needed"
