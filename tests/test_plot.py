"""Pictures and the page of runs, from their files alone."""

import base64
import csv
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from lightning_seg.plot import main
from lightning_seg.plotting.figures import colours_of, draw_classes, draw_curves
from lightning_seg.plotting.runs import Run, differing_settings, read_run, with_distinct_names


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """A run that validated twice, and one that was only evaluated, without one class."""
    made = []
    for number, iou in enumerate(({"a": 0.5, "b<c": 0.25}, {"a": 0.75, "b<c": None})):
        run = tmp_path / "name" / f"version_{number}"
        run.mkdir(parents=True)
        metrics = {"split": "val", "mIoU": 0.375, "mAcc": 0.5, "pAcc": 0.625, "fwIoU": None, "IoU": iou}
        matrix = [[3, 1], [0, 0]]
        (run / "metrics.json").write_text(json.dumps({**metrics, "confusion_matrix": matrix, "num_images": 7}))
        made.append(run)
    with (made[0] / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["epoch", "step", "train/loss", "val/mIoU"])
        writer.writeheader()
        writer.writerows({"epoch": 0, "step": step, "train/loss": 1 / (step + 1)} for step in range(5))
        writer.writerow({"epoch": 0, "step": 4, "val/mIoU": 0.375})
    return made


def test_curves_and_bars_show_what_the_files_say(runs: list[Path]) -> None:
    read = [read_run(run) for run in runs]
    panels = {panel.get_title(loc="left"): panel for panel in draw_curves(read).axes}
    assert set(panels) == {"train/loss", "val/mIoU"}
    assert panels["val/mIoU"].collections[0].get_offsets().tolist() == [[4, 0.375]]
    assert panels["train/loss"].lines[0].get_xydata().tolist() == [[step, 1 / (step + 1)] for step in range(5)]
    panel = draw_classes(read).axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["b<c", "a"]
    assert [[bar.get_width() for bar in bars] for bars in panel.containers] == [[0.25, 0.5], [0.0, 0.75]]
    assert [text.get_text() for text in panel.texts] == ["no pixels"]
    [legend] = panel.figure.legends
    assert [text.get_text() for text in legend.texts] == [
        "name/version_0: mIoU 0.375", "name/version_1: mIoU 0.375 over 1 of 2 classes"
    ]  # fmt: skip


@pytest.mark.parametrize("count", [1, 2])
def test_report_is_one_page_with_its_pictures(
    runs: list[Path], count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    main([str(run) for run in runs[:count]])
    said = [Path(line) for line in capsys.readouterr().out.splitlines()]
    folder = runs[0] / "plots" if count == 1 else Path("plots")
    names = ["curves.png", "classes.png", "confusion.png" if count == 1 else "comparison.json", "report.html"]
    assert said == [folder / name for name in names]
    assert np.asarray(Image.open(folder / "classes.png").convert("L")).std() > 5
    page = (folder / "report.html").read_text()
    held = [base64.b64decode(code) for code in re.findall(r'src="data:image/png;base64,([^"]+)"', page)]
    assert held == [path.read_bytes() for path in said if path.suffix == ".png"]
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    cells = [text for row in rows_of(page) for text in row]
    best = ["name/version_0", "0.3750 step 4", "0.3750 step 4", "val –"]
    assert cells[: len(best) + 5] == [*best, "0.3750", "0.5000", "0.6250", "–", "7"]
    assert cells.count("0.3750 over 1 of 2 classes") == count - 1


def rows_of(page: str) -> list[list[str]]:
    """The texts in the cells of a page's tables, without heads."""
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", page)]
    return [[re.sub("<[^>]+>", "", cell) for cell in row] for row in rows if row]


def validations(run: Path, *points: tuple[int, float | str]) -> None:
    lines = [f"0,{step},,{value}\n" for step, value in points]
    (run / "metrics.csv").write_text("epoch,step,train/loss,val/mIoU\n0,0,1.5,\n" + "".join(lines))


def test_the_best_and_the_last_validation(runs: list[Path]) -> None:
    validations(runs[0], (1, 0.25), (2, 0.5), (3, 0.5), (4, "nan"), (5, 0.125), (6, "nan"))
    (runs[1] / "metrics.csv").write_text("epoch,step,val/mIoU\n0,0,0.375\n")  # of an evaluation
    trained, evaluated = (read_run(run) for run in runs)
    assert (trained.best, trained.last) == ((2, 0.5), (5, 0.125))
    assert (evaluated.best, evaluated.last) == (None, None)
    assert [len(panel.lines) for panel in draw_curves([trained, evaluated]).axes if panel.get_visible()] == [1, 1]
    (runs[1] / "checkpoints").mkdir()  # of a training that has not logged a loss
    assert read_run(runs[1]).last == (0, 0.375)


def test_settings_are_compared_key_by_key(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flip = {"class_path": "A.Flip", "init_args": {"p": 0.5}}
    crop = {"class_path": "A.Crop", "init_args": {"height": 8}}
    common = {"trainer": {"devices": 1, "callbacks": None}}
    both = [
        {**common, "model": {"overrides": {"SOLVER.STEPS": [1, 2]}, "weights": ""}, "data": {"transforms": [flip]}},
        {**common, "model": {"overrides": {}, "weights": "a<b"}, "data": {"transforms": [flip | {"p": 0}, crop]}},
    ]
    for run, settings in zip(runs, both, strict=True):
        (run / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    expected = {
        "model.overrides.SOLVER.STEPS": ["[1, 2]", "–"],
        "model.weights": ['""', "a<b"],
        "model.overrides": ["–", "{}"],
        "data.transforms.0.p": ["0.5", "0"],
        "data.transforms.1.class_path": ["–", "A.Crop"],
        "data.transforms.1.height": ["–", "8"],
    }
    assert differing_settings([read_run(run) for run in runs]) == expected
    third = tmp_path / "name" / "version_2"
    third.mkdir()
    validations(third, (1, 0.25))
    monkeypatch.chdir(tmp_path)
    main([str(run) for run in (*runs, third)])
    page = Path("plots/report.html").read_text()
    shown = {key: values for key, *values in rows_of(page) if key in expected}
    assert {
        key: [value.replace("&lt;", "<").replace("&quot;", '"') for value in values] for key, values in shown.items()
    } == expected
    assert "version_2 has no config.yaml" in page
    assert "<b" not in page
    (runs[1] / "config.yaml").write_text((runs[0] / "config.yaml").read_text())
    main([str(run) for run in runs])
    assert "<h2>Settings that differ</h2><p>None.</p>" in Path("plots/report.html").read_text()


def test_pictures_of_runs_stand_on_the_page(runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (30, 20), (9, 90, 200)).save(runs[0] / "predictions.png")
    predicted = [tmp_path / "name" / f"version_{number}" for number in (2, 3)]
    for count, run in zip((2, 11), predicted, strict=True):
        for index in range(count):
            file = run / "predictions/overlays" / ("sub" if index else "") / f"{10 - index}.v1.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (840, 420), (index, 0, 0)).save(file)
    monkeypatch.chdir(tmp_path)
    main([str(run) for run in (runs[0], *predicted)])
    page = Path("plots/report.html").read_text()
    assert base64.b64encode((runs[0] / "predictions.png").read_bytes()).decode() in page
    images = [row[0] for row in rows_of(page[page.index("Predicted images") :])]
    assert images == ["10.v1", "sub/9.v1", *[f"sub/{name}.v1" for name in (0, 1, 2, 3, 4, 5)]]
    thumbnails = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert len(thumbnails) == 2 + 8
    assert Image.open(io.BytesIO(base64.b64decode(thumbnails[0]))).size == (420, 210)
    assert "3 more are in the run folders" in page


def test_runs_of_one_name_are_told_apart(runs: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "name" / "version_0"
    shutil.copytree(runs[0], copy)
    named = with_distinct_names([read_run(run) for run in (*runs, copy)])
    assert [run.name for run in named] == [f"{tmp_path.name}/name/version_0", "name/version_1", "copy/name/version_0"]
    assert len(set(colours_of([named[0]] * 25))) == 25


def test_the_page_says_which_weights_were_evaluated(runs: list[Path]) -> None:
    metrics = json.loads((runs[1] / "metrics.json").read_text())
    for weights, said in (
        ({"source": "checkpoint", "path": "/a/best.ckpt", "global_step": 7, "epoch": 0}, "best.ckpt, after 7 steps"),
        ({"source": "training", "global_step": 7, "epoch": 0}, "after 7 steps"),
        ({"source": "model.weights", "path": "timm://resnet18"}, "resnet18"),
    ):
        (runs[1] / "metrics.json").write_text(json.dumps({**metrics, "weights": weights}))
        assert read_run(runs[1]).evaluated == said


def test_refuses_a_folder_that_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([str(tmp_path)])
    assert caught.value.code == 1
    assert "neither metrics.csv nor metrics.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("metrics.csv", "name,age\nAnn,3\n", "metrics.csv is not the metrics.csv of a run (KeyError: 'step')"),
        ("metrics.csv", "step,train/loss\n1,a\n", "is not the metrics.csv of a run (ValueError: could not convert"),
        ("metrics.csv", "step,train/loss\n1,2,3\n", "is not the metrics.csv of a run (TypeError"),
        ("metrics.json", "[1, 2]", "metrics.json is not the metrics.json of a run: it has no split, mIoU"),
        ("metrics.json", '{"split": "val"', "metrics.json is not the metrics.json of a run (Expecting"),
        ("config.yaml", "[a", "config.yaml is not the config.yaml of a run (ParserError)"),
        ("config.yaml", "[a]", "config.yaml is not the config.yaml of a run: it holds no settings"),
    ],
)
def test_foreign_files_are_named_and_left_out(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, text: str, message: str
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / file).write_text(text)
    with pytest.raises(SystemExit) as caught:
        main([str(other)])
    assert caught.value.code == 1
    assert message in capsys.readouterr().err
    main([str(other), str(runs[1]), str(tmp_path)])
    said = capsys.readouterr()
    assert [line.partition(":")[0] for line in said.err.splitlines()] == ["left out", "left out"]
    assert str(runs[1] / "plots" / "report.html") in said.out


def test_a_torn_last_row_is_no_row(runs: list[Path]) -> None:
    table = runs[0] / "metrics.csv"
    before = read_run(runs[0]).curves
    table.write_bytes(table.read_bytes() + b"0,5,0.1")
    assert read_run(runs[0]).curves == before


def of_folds(runs: list[Path], *folds: dict[str, object]) -> list[str]:
    for run, data in zip(runs, folds, strict=True):
        (run / "config.yaml").write_text(yaml.safe_dump({"data": data}))
    return [str(run) for run in runs]


def split(part: str, fold: int | None, folds: int | None = 3) -> dict[str, object]:
    reader = {"class_path": "lightning_seg.data.Split", "init_args": {"part": part, "folds": folds, "fold": fold}}
    return {"class_path": "lightning_seg.data.Labelled", "init_args": {"of": reader, "label_map": {1: "a"}}}


def test_mean_and_spread_over_folds(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    metrics = json.loads((runs[1] / "metrics.json").read_text())
    (runs[1] / "metrics.json").write_text(json.dumps({**metrics, "mIoU": 0.75}))
    for first, second in (
        ({"train": split("train", 2), "val": split("val", 2)}, {"train": split("train", 0), "val": split("val", 0)}),
        ({"fold": 2, "train": [split("train", None)]}, {"fold": 0, "train": [split("train", 1)]}),
    ):
        main(of_folds(runs, first, second))
        lines = capsys.readouterr().out.splitlines()[-5:]
        assert lines == [
            "val over folds 0, 2 of 3; no evaluated run of fold 1",
            "      mean ± std       lowest to highest",
            "mIoU  0.5625 ± 0.2652  0.3750 to 0.7500",
            "a     0.6250 ± 0.1768  0.5000 to 0.7500",
            "b<c   0.2500           0.2500 to 0.2500 in 1 of 2",
        ]
    page = Path("plots/report.html").read_text()
    assert "val over folds 0, 2 of 3" in page
    assert ["mIoU", "0.5625 ± 0.2652", "0.3750 to 0.7500"] in rows_of(page)
    assert "b&lt;c" in page


def test_a_class_without_pixels_in_any_fold(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    for run in runs:
        metrics = json.loads((run / "metrics.json").read_text())
        (run / "metrics.json").write_text(json.dumps({**metrics, "IoU": {"a": 0.5, "b": None}}))
    main([*of_folds(runs, {"fold": 0}, {"fold": 1}), "--output", str(runs[0] / "plots")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-5] == "val over folds 0, 1"
    assert lines[-1] == "b     –                no pixels"


def test_runs_that_are_not_of_folds_have_no_table_of_them(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def said(*folds: dict[str, object]) -> tuple[bool, str]:
        main(of_folds(runs, *folds))
        written = capsys.readouterr()
        lines = [line for line in written.err.splitlines(keepends=True) if not line.startswith("not compared")]
        return "mean ± std" in written.out, "".join(lines)

    assert said({"fold": 0}, {"fold": None}) == (False, "")
    assert said({"train": split("train", 0), "val": split("val", 1)}, {"fold": 1}) == (False, "")
    both = "no table of folds: name/version_0 and name/version_1 are both of fold 1: name one run of each fold\n"
    assert said({"fold": 1}, {"fold": 1}) == (False, both)
    metrics = json.loads((runs[1] / "metrics.json").read_text())
    (runs[1] / "metrics.json").write_text(json.dumps({**metrics, "split": "test"}))
    other = "no table of folds: the runs were evaluated on test and on val: evaluate all on one split\n"
    assert said({"fold": 1}, {"fold": 0}) == (False, other)
    validations(runs[1], (1, 0.25))
    (runs[1] / "metrics.json").unlink()
    assert said({"fold": 1}, {"fold": 0}) == (False, "")


def test_settings_of_one_group_stand_together() -> None:
    first = {"model.config": 1, "model.criterion": None, "data.batch_size": 2, "name": "a"}
    second = {"model.config": 2, "model.criterion.eps": 1, "data.batch_size": 3, "name": "b", "model.compile": True}
    runs = [Run(name, Path(), settings=settings) for name, settings in (("a", first), ("b", second))]
    order = ["model.config", "model.criterion", "model.criterion.eps", "model.compile", "data.batch_size", "name"]
    assert [*differing_settings(runs)] == order


def test_a_run_without_a_counted_pixel_has_no_figure(runs: list[Path], tmp_path: Path) -> None:
    figures = json.loads((runs[1] / "metrics.json").read_text())
    (runs[1] / "metrics.json").write_text(json.dumps({**figures, "mIoU": None, "IoU": {"a": None, "b<c": None}}))
    [legend] = draw_classes([read_run(run) for run in runs]).legends
    assert legend.texts[1].get_text() == "name/version_1: mIoU – over 0 of 2 classes"
