"""The page shows slices and the calibration curve where ``metrics.json`` has them."""

from pathlib import Path

from lightning_seg.plot import write_report
from lightning_seg.plotting.runs import Run
from lightning_seg.plotting.slices import MOST, slices_section


def metrics() -> dict[str, object]:
    one = {"mAcc": 0.5, "pAcc": 0.5, "fwIoU": None, "images": 2, "pixels": 9}
    bins = [{"from": 0.5, "to": 1.0, "count": 9, "confidence": 0.8, "accuracy": 0.7}]
    return {
        "split": "val", "mIoU": 0.5, "mAcc": 0.5, "pAcc": 0.5, "fwIoU": 0.5, "IoU": {"a": 0.5},
        "confusion_matrix": [[9]], "num_images": 2,
        "slices": {"camera": {"<left>": {**one, "mIoU": 0.25}, "right": {**one, "mIoU": 0.125}}},
        "calibration": {"ECE": 0.1, "bins": bins},
    }  # fmt: skip


def test_page(tmp_path: Path) -> None:
    files = write_report([Run("a", tmp_path, metrics=metrics())], tmp_path)
    page = files[-1].read_text()
    assert tmp_path / "calibration.png" in files
    assert "<h2>Calibration</h2>" in page
    assert "<h2>Slices</h2>" in page
    assert "&lt;left&gt;" in page
    assert page.index("0.1250") < page.index("0.2500")


def test_many_values_are_cut_and_none_are_no_section(tmp_path: Path) -> None:
    found = {str(place): {"mIoU": 0.5, "pAcc": 0.5, "fwIoU": 0.5, "images": 1} for place in range(MOST + 2)}
    assert "2 more are in metrics.json" in slices_section(
        [Run("a", tmp_path, metrics={"slices": {"c": found}})], {"a": "a"}
    )
    assert slices_section([Run("a", tmp_path)], {"a": "a"}) == ""


def test_several_runs_share_a_table(tmp_path: Path) -> None:
    found = {"pAcc": 0.5, "fwIoU": 0.5}
    one = {"left": {**found, "mIoU": 0.75, "images": 3}, "right": {**found, "mIoU": 0.5, "images": 1}}
    other = {"left": {**found, "mIoU": 0.25, "images": 4}, "top": {**found, "mIoU": None, "images": 1}}
    runs = [Run(name, tmp_path, metrics={"slices": {"c": some}}) for name, some in (("a", one), ("b", other))]
    page = slices_section(runs, {"a": "<i>a</i>", "b": "<i>b</i>"})
    assert "<th class=number>mIoU<br><i>a</i></th><th class=number>mIoU<br><i>b</i></th>" in page
    rows = [row.split("</td>") for row in page.split("<tr><td>")[1:]]
    cells = [[cell.split(">")[-1] for cell in row[:4]] for row in rows]
    assert cells == [["right", "0.5000", "–", "1"], ["left", "0.7500", "0.2500", "3 / 4"], ["top", "–", "–", "1"]]
