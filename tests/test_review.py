"""The command that lists labels which are probably wrong: by itself, killed, on several processes, and its page."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

import lightning_seg
from lightning_seg import review as command_module
from lightning_seg.data import Folder, Split
from lightning_seg.data.reading import read_mask
from lightning_seg.errors import ConfigError
from lightning_seg.review import main
from lightning_seg.reviewing.regions import decode
from tests.browsers import CHROMIUM, Browser
from tests.conftest import CLASSES
from tests.predictors import trained_by_hand


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Path:
    """A run whose network is sure that all is of class 1."""
    run = tmp_path_factory.mktemp("run")
    path = trained_by_hand(run, scenes)
    content = torch.load(path, weights_only=False)
    name = next(key for key in content["state_dict"] if key.endswith("predictor.bias"))
    content["state_dict"][name][1] = 1e4
    (run / "checkpoints").mkdir()
    torch.save(content, run / "checkpoints/last.ckpt")
    path.unlink()
    readers = {
        split: {
            "class_path": "lightning_seg.data.Folder",
            "init_args": {"images": f"{split}/images", "masks": f"{split}/masks"},
        }
        for split in ("train", "val")
    }
    settings = {"classes": list(CLASSES), **readers, "root": str(scenes), "num_workers": 0}
    (run / "config.yaml").write_text(yaml.safe_dump({"data": settings, "model": {"config": "not/read.yaml"}}))
    return run


def review(run: Path, output: Path, *more: str) -> dict[str, Any]:
    assert main(["--ckpt_path", str(run), "--output", str(output), "--device", "cpu", *more]) == 0
    return dict(json.loads((output / "suspects.json").read_text()))


def test_suspects_are_the_regions_of_other_labels(checkpoint: Path, scenes: Path, tmp_path: Path) -> None:
    found = review(checkpoint, tmp_path / "out", "--split", "val")
    suspects = found["suspects"]
    assert len(suspects) == found["found"] > 3
    assert [one["score"] for one in suspects] == sorted((one["score"] for one in suspects), reverse=True)
    for one in suspects:
        assert one["predicted"] == CLASSES[1] != one["label"]
        assert one["mask"] == str(scenes / f"val/masks/{one['image']}.png")
        values = read_mask(Path(one["mask"])).values
        assert values is not None
        region = decode(one["counts"], (values.shape[0], values.shape[1]))
        assert region.sum() == one["pixels"]
        assert np.unique(values[region]).tolist() == [CLASSES.index(one["label"])]
        assert one["confidence"] > 0.5 > one["label_probability"]


def test_the_run_and_its_split_are_usual_and_the_list_has_an_end(checkpoint: Path) -> None:
    assert main(["--ckpt_path", str(checkpoint), "--most", "2", "--shown", "1", "--device", "cpu"]) == 0
    found = json.loads((checkpoint / "review_train/suspects.json").read_text())
    assert found["split"] == "train"
    assert len(found["suspects"]) == 2 < found["found"]
    content = re.search(r'id="data">(.*?)</script>', (checkpoint / "review_train/review.html").read_text(), re.DOTALL)
    assert content is not None
    shown = json.loads(content[1])
    assert shown["suspects"] == found["suspects"][:1]
    assert all(shown["pictures"][0][part].startswith("data:image/jpeg") for part in ("image", "label", "prediction"))


def test_what_is_judged_is_left_as_it_is(
    checkpoint: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = review(checkpoint, tmp_path / "out", "--split", "val")
    regions = tmp_path / "out/regions.jsonl"
    whole = regions.read_bytes()
    lines = whole.splitlines(keepends=True)
    regions.unlink()
    (tmp_path / "out/regions-1.jsonl").write_bytes(lines[2] + lines[0][:-20])  # killed in the midst of a line
    capsys.readouterr()
    assert review(checkpoint, tmp_path / "out", "--split", "val") == first
    assert regions.read_bytes() == whole
    assert "1 of 3 images are judged in" in capsys.readouterr().err
    assert not [*(tmp_path / "out").glob("regions-*")]
    pictures = sorted((tmp_path / "out/predictions").iterdir())
    pictures[0].unlink()
    pictures[1].write_bytes(b"")  # by a power cut
    assert review(checkpoint, tmp_path / "out", "--split", "val") == first
    assert "1 of 3 images are judged in" in capsys.readouterr().err
    assert all(picture.stat().st_size for picture in pictures)


def test_a_config_of_other_data_is_laid_over_that_of_the_run(checkpoint: Path, scenes: Path, tmp_path: Path) -> None:
    other = yaml.safe_load((checkpoint / "config.yaml").read_text())["data"]["train"]
    (tmp_path / "other.yaml").write_text(yaml.safe_dump({"data": {"val": other}}))
    found = review(checkpoint, tmp_path / "out", "--split", "val", "--config", str(tmp_path / "other.yaml"))
    assert {str(Path(one["mask"]).parent) for one in found["suspects"]} == {str(scenes / "train/masks")}


def test_a_folder_of_another_review_is_refused(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    review(checkpoint, tmp_path / "out", "--split", "val")
    other = ["--ckpt_path", str(checkpoint), "--output", str(tmp_path / "out"), "--device", "cpu"]
    assert main(other) == 1
    assert 'made otherwise (split: "val" there, "train" here): give another --output' in capsys.readouterr().err
    assert main([*other, "--overwrite"]) == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    assert main([*other, "--output", str(tmp_path / "mine")]) == 1
    assert "mine holds files that no review wrote" in capsys.readouterr().err
    assert main([*other, "--output", str(tmp_path / "mine/notes.txt")]) == 1
    assert "notes.txt holds files that no review wrote" in capsys.readouterr().err


def test_wrong_settings_are_refused(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given, message in [
        (["--ckpt_path", str(checkpoint), "--split", "test"], "--split test needs data.test"),
        (["--ckpt_path", str(checkpoint), "--split", "all"], "--split is all, but must be train, val or test"),
        (["--ckpt_path", str(checkpoint), "--most", "0"], "--most is 0, but must be at least 1"),
        (["--ckpt_path", str(checkpoint), "--apply", "d.json"], "--apply and --write_ignored go together"),
        (["--ckpt_path", str(checkpoint), "--folds", "1"], "--folds is 1, but must be at least 2"),
        (["--ckpt_path", str(checkpoint), "--group_by", "(a)"], "--group_by keeps samples in one fold: give --folds"),
        (["--ckpt_path", str(checkpoint), "--folds", "2", "--data.fold", "0"], "is that of fold 0 (data.fold) already"),
        (["--ckpt_path", str(checkpoint), "--folds", "99"], "Split(folds=99) is more than the 6 samples in 6 groups"),
        ([], "review needs a trained model"),
        (["--ckpt_path", str(tmp_path / "no.ckpt")], "no.ckpt does not exist"),
    ]:
        assert main(given) == 1
        assert message in capsys.readouterr().err


def command(run: Path, output: Path, processes: int) -> subprocess.Popen[bytes]:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    arguments = ["--ckpt_path", str(run), "--output", str(output), "--device", "cpu"]
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "lightning_seg.review", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.runs
@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_any_number_of_processes_finds_the_same(checkpoint: Path, tmp_path: Path, count: int) -> None:
    alone = review(checkpoint, tmp_path / "1")
    assert command(checkpoint, tmp_path / "many", count).wait(300) == 0
    assert json.loads((tmp_path / "many/suspects.json").read_text()) == alone


@pytest.mark.runs
@pytest.mark.slow
def test_a_killed_review_goes_on(checkpoint: Path, tmp_path: Path) -> None:
    alone = review(checkpoint, tmp_path / "alone")
    killed = command(checkpoint, tmp_path / "out", 1)
    notes = tmp_path / "out/regions-0.jsonl"
    while killed.poll() is None and not (notes.is_file() and notes.stat().st_size):
        time.sleep(0.002)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert review(checkpoint, tmp_path / "out") == alone


def folds_of(run: Path, output: Path, *more: str) -> dict[str, Any]:
    return review(run, output, "--folds", "2", *more)


@pytest.mark.runs
def test_each_fold_is_judged_by_a_network_that_has_not_seen_it(
    experiment: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = lightning_seg.fit(
        experiment(), {"trainer.max_epochs": 1, "trainer.limit_val_batches": 0, "name": "base"}
    ).path
    out = tmp_path / "out"
    trained: list[str] = []
    with pytest.MonkeyPatch.context() as patch:

        def train(config: Path, options: Mapping[str, Any]) -> lightning_seg.Run:
            if len(trained) == 1:
                raise ConfigError("killed here")
            trained.append(config.name)
            return lightning_seg.fit(config, options)

        patch.setattr(command_module, "fit", train)
        assert main(["--ckpt_path", str(run), "--output", str(out), "--device", "cpu", "--folds", "2"]) == 1
    assert trained == ["fold_0.yaml"]
    first = out / "folds/fold_0/version_0/checkpoints/last.ckpt"
    before = first.stat().st_mtime_ns
    capsys.readouterr()
    found = folds_of(run, out)
    assert first.stat().st_mtime_ns == before  # a finished fold is not trained again
    assert "3 of 6 images are judged in" in capsys.readouterr().err
    assert sorted(path.name for path in (out / "folds").glob("fold_*/*")) == ["version_0", "version_0"]
    judged = {line["name"]: line for line in map(json.loads, (out / "regions.jsonl").read_text().splitlines())}
    assert sorted(judged) == sorted(path.stem for path in Path(found["data"]["root"]).glob("train/images/*"))
    seen, compared, root = set(), 0, Path(found["data"]["root"])
    for fold in range(2):
        settings = yaml.safe_load((out / f"folds/fold_{fold}/version_0/config.yaml").read_text())
        assert settings["trainer"]["max_epochs"] == 1
        assert settings["model"] == yaml.safe_load((run / "config.yaml").read_text())["model"]
        parts = {
            part: Split(Folder("train/images", "train/masks"), part, folds=2, fold=fold).samples(root)
            for part in ("train", "val")
        }
        assert settings["data"]["train"]["init_args"]["fold"] == settings["data"]["val"]["init_args"]["fold"] == fold
        mine = {sample.name for sample in parts["val"]}
        assert not mine & {sample.name for sample in parts["train"]}
        seen |= mine
        predictor = lightning_seg.load(out / f"folds/fold_{fold}/version_0/checkpoints/last.ckpt", device="cpu")
        for sample in parts["val"]:
            if judged[sample.name]["regions"]:
                stored = cv2.imread(str(out / f"predictions/{sample.name}.png"), cv2.IMREAD_UNCHANGED)
                assert stored is not None
                assert np.array_equal(stored, predictor(str(sample.image)).mask)
                compared += 1
    assert compared > 2
    assert seen == set(judged)
    assert (out / "review.html").is_file()
    (out / "folds/fold_1.json").unlink()  # killed after its last checkpoint
    assert folds_of(run, out) == found
    assert not (out / "folds/fold_1/version_1").exists()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_decisions_of_the_page_become_ignored_pixels(checkpoint: Path, scenes: Path, tmp_path: Path) -> None:
    suspects = review(checkpoint, tmp_path / "out", "--split", "val")["suspects"]
    address = (tmp_path / "out/review.html").as_uri()
    browser = Browser(tmp_path / "profile")
    try:
        browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
        browser.call("Page.navigate", url=address)
        browser.wait("document.querySelectorAll('#panels img').length == 3")
        for key in ("a", "r", "n", "p", "a"):  # the third is accepted after next and previous
            browser.press(key)
        browser.press("a")
        browser.press("p")
        browser.press("u")
        assert "3 of" in browser.script("document.getElementById('count').textContent")
        browser.call("Page.reload")
        browser.wait("document.querySelectorAll('#panels img').length == 3")
        assert browser.script("document.getElementById('count').textContent").endswith("2 accepted")
        browser.press("d")
        end = time.monotonic() + 20
        while not (tmp_path / "decisions.json").is_file() and time.monotonic() < end:
            time.sleep(0.05)
        requests = [e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"]
        assert all(url.startswith((address, "data:", "blob:")) for url in requests)
        assert not [event for event in browser.events if event["method"] == "Runtime.exceptionThrown"]
    finally:
        browser.close()
    decided = json.loads((tmp_path / "decisions.json").read_text())["decisions"]
    assert [(one["id"], one["decision"]) for one in decided] == [
        (suspects[0]["id"], "accept"), (suspects[1]["id"], "reject"), (suspects[2]["id"], "accept"),
    ]  # fmt: skip
    assert main(["--apply", str(tmp_path / "decisions.json"), "--write_ignored", str(tmp_path / "new")]) == 0
    for sample in Folder(images="val/images", masks="val/masks").samples(scenes):
        assert isinstance(sample.mask, Path)
        before, after = (read_mask(root / f"val/masks/{sample.name}.png").values for root in (scenes, tmp_path / "new"))
        assert before is not None
        assert after is not None
        expected = before.copy()
        for one in (suspects[0], suspects[2]):
            if one["image"] == sample.name:
                expected[decode(one["counts"], expected.shape)] = 255
        assert np.array_equal(after, expected)
