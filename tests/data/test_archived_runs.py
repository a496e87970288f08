"""Runs on archives are the runs on the files that they hold."""

import gzip
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_seg import audit
from lightning_seg.cli import main
from lightning_seg.data import Folder
from lightning_seg.data.listing.files import FileLists
from tests.auditing import run as run_audit
from tests.conftest import folder
from tests.data.archiving import archived, packed
from tests.data.layouts import cityscapes


@pytest.mark.runs
def test_a_run_on_the_published_archives_is_the_run_on_files(experiment: Callable[..., Path], tmp_path: Path) -> None:
    """Trained, validated, audited and predicted, with two loading processes, by the reader of the data set."""
    for split, stems in (("train", ["ulm/1", "ulm/2"]), ("val", ["bonn/1"])):
        cityscapes(tmp_path / "data", stems, (48, 64), split)
    readers = {
        split: {"class_path": "lightning_seg.data.Cityscapes", "init_args": {"root": "data", "split": split}}
        for split in ("train", "val")
    }

    def run(name: str, predict: str) -> tuple[Any, Any, list[Path]]:
        config = str(experiment(num_workers=2, test=None, classes=[], root=str(tmp_path), **readers))
        options = ["--config", config, "--name", name, "--trainer.max_steps=1", "--trainer.max_epochs=-1"]
        defects = audit.main(options)
        main(["fit", *options])
        main(["predict", *options, f"--ckpt_path=runs/{name}/version_1", f"--data.predict={predict}"])
        versions = [Path(f"runs/{name}/version_{number}") for number in range(3)]
        metrics = json.loads((versions[1] / "metrics.json").read_text())["confusion_matrix"]
        checked = re.sub(r"(\w+)_trainvaltest\.zip/\1", r"\1", (versions[0] / "audit.json").read_text())
        state = torch.load(versions[1] / "checkpoints/last.ckpt", weights_only=False)["state_dict"]
        return (metrics, defects, checked), state, sorted((versions[2] / "predictions").glob("*/**/*.png"))

    on_disk, weights, expected = run("disk", "data/leftImg8bit/val")
    for part in ("leftImg8bit", "gtFine"):
        archived(tmp_path / "data" / part, tmp_path / "data" / f"{part}_trainvaltest.zip", below=f"{part}/")
        shutil.rmtree(tmp_path / "data" / part)
    in_archives, same_weights, shown = run("zip", "data/leftImg8bit_trainvaltest.zip/leftImg8bit/val")
    assert in_archives == on_disk
    assert all(torch.equal(same_weights[key], value) for key, value in weights.items())
    assert [path.name for path in shown] == [path.name for path in expected] != []
    assert [path.read_bytes() for path in shown] == [path.read_bytes() for path in expected]
    inputs = Path("runs/zip/version_2/predictions/inputs.csv").read_text()
    assert "leftImg8bit_trainvaltest.zip/leftImg8bit/val/bonn/1_leftImg8bit.png," in inputs


def test_the_audit_names_members_and_shows_them(experiment: Callable[..., Path], scenes: Path, tmp_path: Path) -> None:
    """A damaged one, one whose size is not true, and an image without a mask."""
    files = {path.relative_to(scenes / "val").as_posix(): path.read_bytes() for path in scenes.glob("val/*/*")}
    first, second, third = sorted(name for name in files if name.startswith("images"))
    files.pop(f"masks/{Path(third).stem}.png")
    files[first] = files[first][:200]
    archive = packed(files, tmp_path / "val.zip")
    data = bytearray(archive.read_bytes())
    data[data.rindex(second.encode()) - 46 + 24] ^= 1
    archive.write_bytes(data)
    val = {"class_path": "lightning_seg.data.Folder", "init_args": {"images": "images", "masks": "masks"}}
    status, found, page = run_audit(str(experiment(train=val, val=None, test=None, root=str(archive))))
    assert status == 1
    defects = {defect["path"]: (defect["kind"], defect["detail"]) for defect in found["defects"]}
    assert defects[f"{archive}/{first}"][0] == "unreadable"
    assert defects[f"{archive}/{second}"] == (
        "unreadable",
        f"image {archive}/{second} cannot be read (it holds other than the {len(files[second]) ^ 1} bytes that the "
        "archive states): replace or remove it",
    )
    assert defects[f"{archive}/{third}"] == ("orphan_image", f"has no mask named '{{stem}}.png' in {archive}/masks")
    assert f'"><div><code>{archive}/{third}</code>' in page
    assert f'class="defect"><div><code>{archive}/{third}</code>' not in page  # a picture stands between


def test_the_list_of_files_names_members_and_has_their_digests(scenes: Path, tmp_path: Path) -> None:
    def listed(root: Path, reader: Folder) -> str:
        lists = FileLists({"val": reader.samples(root)}, root)
        lists.run()
        assert lists.unread == {"val": 0}
        return gzip.decompress(lists.tables["val"]).decode()

    archived(scenes / "val", tmp_path / "val.tar")
    expected = listed(scenes, Folder(**folder("val")["init_args"]))
    reader = Folder("val.tar/images", "val.tar/masks")
    assert listed(tmp_path, reader).replace("val.tar/", "val/") == expected
