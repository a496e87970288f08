"""``plot A B`` says whether B is better, or why it cannot say so."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import stats

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
    assert "<th class=number>difference</th><th class=number>95 % interval</th></tr>" in page
    assert found["most_different_images"][0]["name"] in page
    [turned] = said(tmp_path, second, first)["comparisons"]
    assert turned["sentence"] == found["sentence"]


def page_of(tmp_path: Path, *runs: str) -> str:
    main([*runs, "--output", str(tmp_path / "plots")])
    return (tmp_path / "plots/report.html").read_text()


def test_pictures_of_images_that_differ_are_overlays_or_of_the_data(tmp_path: Path) -> None:
    pair = run(tmp_path / "x/a", 60), run(tmp_path / "x/b", 70)
    assert "Pictures are left out: no overlays of both runs, and the data of x/a cannot be read" in page_of(
        tmp_path, *pair
    )
    for kind, mode in (("images", "RGB"), ("masks", "L")):
        (tmp_path / kind).mkdir()
        for name in NAMES:
            Image.new(mode, (24, 12), 1).save(tmp_path / kind / f"{name}.png")
    folder = {"images": str(tmp_path / "images"), "masks": str(tmp_path / "masks")}
    reader = {"class_path": "lightning_seg.data.readers.Folder", "init_args": folder}
    data = {"data": {"classes": ["a", "b"], "val": reader}}
    (Path(pair[0]) / "config.yaml").write_text(json.dumps(data))
    page = page_of(tmp_path, *pair)
    assert "Pictures are left out" not in page
    assert page.count("data:image/jpeg") == 8
    for folder_of_run in pair:
        overlays = Path(folder_of_run) / "predictions/overlays"
        overlays.mkdir(parents=True)
        for name in NAMES:
            Image.new("RGB", (24, 12)).save(overlays / f"{name}.jpg")
    page = page_of(tmp_path, *pair)
    assert page.count(', x/a" src="data:image/jpeg') == page.count(', x/b" src="data:image/jpeg') == 8


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


def of_seed(folder: Path, seed: int, right: int, rate: float = 0.1, **changes: Any) -> str:
    """An evaluation of the best checkpoint of a training of its own."""
    training = folder.parent.parent / f"trainings/{folder.name}"
    (training / "checkpoints").mkdir(parents=True)
    (training / "metrics.csv").write_text("step,epoch,train/loss\n1,0,0.5\n")
    settings = {"seed_everything": seed, "name": folder.name, "model": {"optimizer": {"lr": rate}}}
    (training / "config.yaml").write_text(json.dumps({**settings, "ckpt_path": None}))
    weights = {"source": "checkpoint", "path": str(training / "checkpoints/best.ckpt"), "sha256": folder.name}
    weights |= {"global_step": 100 * seed, **changes.pop("weights", {})}
    made = run(folder, right, metrics={"weights": weights}, **changes)
    (folder / "config.yaml").write_text(json.dumps({"seed_everything": 1, "ckpt_path": weights["path"]}))
    return made


def test_seeds_of_one_configuration_are_one_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = [of_seed(tmp_path / f"x/a{seed}", seed, 60 + seed) for seed in range(3)]
    other = [of_seed(tmp_path / f"x/b{seed}", seed, 80 + seed, rate=0.2) for seed in range(3)]
    found = said(tmp_path, one[0], other[0], one[1], other[1], one[2], other[2])
    values = [[read_run(Path(folder)).metrics["mIoU"] for folder in some] for some in (one, other)]
    assert [side["runs"] for side in found["seeds"]] == [["x/a0", "x/a1", "x/a2"], ["x/b0", "x/b1", "x/b2"]]
    for side, expected in zip(found["seeds"], values, strict=True):
        half = 4.302653 * np.std(expected, ddof=1) / 3**0.5  # Student's t of two degrees of freedom
        figures = side["mIoU"]
        assert figures["values"] == pytest.approx(expected)
        assert (figures["mean"], figures["sd"]) == pytest.approx((np.mean(expected), np.std(expected, ddof=1)))
        assert (figures["low"], figures["high"]) == pytest.approx((figures["mean"] - half, figures["mean"] + half))
    [pair] = found["comparisons"]
    welch = stats.ttest_ind(values[1], values[0], equal_var=False).confidence_interval(0.95)
    assert tuple(pair["over_seeds"].values()) == pytest.approx((welch.low, welch.high))
    assert pair["mIoU"]["difference"] == pytest.approx(np.mean(values[1]) - np.mean(values[0]))
    assert pair["winner"] == "x/b0 (3 seeds)"
    assert pair["sentence"].startswith("x/b0 (3 seeds) is better than x/a0 (3 seeds) by ")
    assert " over seeds, " in pair["sentence"]
    page = (tmp_path / "plots/report.html").read_text()
    printed = capsys.readouterr().out
    for text in (pair["sentence"], f"x/a0 (3 seeds): mIoU {100 * np.mean(values[0]):.2f}, standard deviation "):
        assert text in page
        assert text in printed


def test_what_holds_over_images_alone_is_no_winner_of_seeds(tmp_path: Path) -> None:
    one = [of_seed(tmp_path / f"x/a{seed}", seed, right) for seed, right in enumerate((50, 70))]
    other = [of_seed(tmp_path / f"x/b{seed}", seed, right, rate=0.2) for seed, right in enumerate((60, 80))]
    [pair] = said(tmp_path, *one, *other)["comparisons"]
    assert pair["mIoU"]["low"] > 0
    assert pair["over_seeds"]["low"] < 0
    assert pair["winner"] is None
    assert pair["sentence"].startswith("No difference can be told between x/a0 (2 seeds) and x/b0 (2 seeds): +")
    [mixed] = said(tmp_path, *one, other[1])["comparisons"]
    assert mixed["winner"] is None
    assert mixed["over_seeds"] is None
    assert mixed["sentence"].startswith("Whether x/b1 is better than x/a0 (2 seeds) cannot be told: +")
    assert mixed["sentence"].endswith("on 40 images; x/b1 is one training: evaluate others with other seeds")


def test_trainings_without_any_spread_have_no_winner(tmp_path: Path) -> None:
    one = [of_seed(tmp_path / f"x/a{seed}", seed, 50) for seed in range(2)]
    other = [of_seed(tmp_path / f"x/b{seed}", seed, 80, rate=0.2) for seed in range(2)]
    [pair] = said(tmp_path, *one, *other)["comparisons"]
    assert (pair["winner"], pair["over_seeds"]) == (None, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 0},
        {"weights": {"sha256": "a0"}},
        {"weights": {"path": "gone/checkpoints/best.ckpt"}},
        {"weights": {"path": "{training}/last.ckpt"}},
        {"rate": 0.2},
    ],
)
def test_only_runs_that_differ_in_their_seed_alone_are_summed_up(tmp_path: Path, changes: dict[str, Any]) -> None:
    first = of_seed(tmp_path / "x/a0", 0, 60)
    if (weights := changes.get("weights", {})).get("path", "").startswith("{"):
        weights["path"] = str(tmp_path / "trainings/a1/checkpoints/last.ckpt")
    second = of_seed(tmp_path / "x/a1", **{"seed": 1, "right": 70, **changes})
    found = said(tmp_path, first, second)
    assert found["seeds"] == []
    assert found["comparisons"][0]["winner"] == "x/a1"  # of one run each: over images, as ever


def test_trainings_alone_are_summed_up_but_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = []
    for place, (seed, rate) in enumerate(((0, 0.1), (1, 0.1), (0, 0.2))):
        folders.append(run(tmp_path / f"x/t{place}", 60 + place))
        folder = Path(folders[-1])
        (folder / "images.npz").unlink()
        (folder / "checkpoints").mkdir()
        (folder / "config.yaml").write_text(json.dumps({"seed_everything": seed, "model": {"lr": rate}}))
    found = said(tmp_path, *folders)
    assert [side["runs"] for side in found["seeds"]] == [["x/t0", "x/t1"]]
    assert (found["comparisons"], found["not_compared"]) == ([], None)
    assert capsys.readouterr().err == ""
