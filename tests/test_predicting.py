"""The command predict: the same files from any number of processes, and after it was killed."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_seg.cli import main
from tests.conftest import train_py
from tests.predictions.videos import write_video
from tests.runs import Experiment

pytestmark = pytest.mark.runs

FORMATS = ("masks", "overlays", "probabilities", "coco", "polygons")


@pytest.fixture
def trained(experiment: Experiment) -> Path:
    main(["fit", "--config", str(experiment(eval_batch_size=2)), "--trainer.max_steps", "1", "--data.val", "null"])
    return Path("runs/tiny/version_0")


@pytest.fixture
def inputs(tmp_path: Path) -> list[str]:
    """Nine images in two sizes, one that is none, one that is not there, and a video of five frames."""
    random = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(9):
        size = (48, 64) if number % 3 else (40, 50)
        pixels = np.kron(random.integers(0, 256, (8, 10, 3)), np.ones((6, 7, 1)))[: size[0], : size[1]]
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    (folder / "4b.jpg").write_bytes(b"no image")
    write_video(tmp_path / "clip.avi", 5)
    return [str(folder), str(tmp_path / "clip.avi"), str(tmp_path / "gone.jpg")]


def arguments(trained: Path, inputs: list[str], output: str, *more: str) -> list[str]:
    given = ["--ckpt_path", str(trained), "--data.predict", json.dumps(inputs), "--save", *FORMATS]
    return ["predict", *given, "--output", output, *more]


def files(folder: str) -> dict[str, bytes]:
    """All but what says how the command was run."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in Path(folder).rglob("*")
        if path.is_file() and path.name not in ("run.lock", "config.yaml") and path.parent.name != "logs"
    }


def refused(capsys: pytest.CaptureFixture[str], *given: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main(given)
    assert caught.value.code == 1
    return capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.*passed over")
def test_the_same_files_from_1_2_and_3_processes_and_after_kills(
    trained: Path,
    inputs: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = refused(capsys, *arguments(trained, inputs, "one"))
    expected = files("one")
    assert sum(name.startswith("masks/") for name in expected) == 14
    assert {"videos/clip.mp4", "coco.json", "coco_results.json", "inputs.csv", "made_with.json"} < expected.keys()
    assert len(expected) == 5 + 14 * len(FORMATS)
    told = error.partition("error: ")[2].splitlines()
    assert told[0] == "2 of 16 images could not be predicted:"
    assert told[1].startswith(f"  image {tmp_path}/gone.jpg does not exist")
    assert told[2].startswith(f"  image {tmp_path}/photos/4b.jpg cannot be read")
    for devices in (2, 3):
        done = train_py(*arguments(trained, inputs, str(devices), "--trainer.devices", str(devices)))
        assert done.returncode == 1
        assert done.stderr.count("2 of 16 images could not be predicted") == 1
        assert files(str(devices)) == expected, devices
    for devices, count in ((1, 8), (2, 31)):
        name = f"killed-{devices}"
        listener = {"class_path": "tests.ranks.DiesAtFile", "init_args": {"folder": name, "files": count}}
        killed = ["--trainer.devices", str(devices), "--trainer.callbacks", json.dumps([listener])]
        assert train_py(*arguments(trained, inputs, name, *killed)).returncode != 1
        before = {file: (Path(name) / file).stat() for file in files(name) if not file.startswith("inputs")}
        assert 0 < len(before) < len(expected)
        refused(capsys, *arguments(trained, inputs, name))
        assert files(name) == expected, devices
    masks = [Path(name) / "masks/photos/0.png" for name in ("killed-1", "killed-2")]
    kept = [mask.stat().st_mtime_ns for mask in masks]
    caplog.set_level(logging.INFO, "pytorch_lightning.utilities.rank_zero")
    refused(capsys, *arguments(trained, inputs, "killed-1"))
    assert "14 of 16 images are predicted in killed-1 already; --overwrite would begin anew" in caplog.text
    assert [mask.stat().st_mtime_ns for mask in masks] == kept


def test_a_folder_is_that_of_the_same_predictions(
    trained: Path, tmp_path: Path, inputs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    def predict(*more: str) -> str:
        capsys.readouterr()
        main(["predict", "--ckpt_path", str(trained), "--data.predict", str(tmp_path / "clip.avi"), *more])
        return capsys.readouterr().out

    assert "Results in runs/tiny/version_1/predictions:" in predict()
    assert "Results in runs/tiny/version_1/predictions:" in predict("--save", "masks,coco")
    assert "Results in runs/tiny/version_2/predictions:" in predict("--data.eval_batch_size", "1")
    mask = Path("runs/tiny/version_1/predictions/masks/clip/000000.png")
    before = mask.stat().st_mtime_ns
    assert "Results in runs/tiny/version_1/predictions:" in predict()
    assert mask.stat().st_mtime_ns == before
    predict("--overwrite")
    assert mask.stat().st_mtime_ns > before
    assert not Path("runs/tiny/version_1/predictions/coco").exists()
    refused(capsys, "predict", "--ckpt_path", str(trained), "--data.predict", str(tmp_path / "gone"), "--output", "new")
    assert (Path("new") / "config.yaml").exists()
    (tmp_path / "gone").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "gone/a.png")
    main(["predict", "--ckpt_path", str(trained), "--data.predict", str(tmp_path / "gone"), "--output", "new"])
    assert Path("new/masks/a.png").exists()
    same = ["predict", "--ckpt_path", str(trained), "--data.predict", str(tmp_path / "clip.avi")]
    where = "runs/tiny/version_1/predictions"
    assert "holds predictions that were made otherwise (data.eval_batch_size: 2 there, 1 here)" in refused(
        capsys, *same, "--data.eval_batch_size", "1", "--output", where
    )
    assert f"error: {trained} holds config.yaml, and nothing says that predict wrote it" in refused(
        capsys, *same, "--output", str(trained)
    )
    assert "error: --save mask: no such format of a prediction; choose from masks, overlays" in refused(
        capsys, *same, "--save", "mask"
    )
    assert "--save cityscapes: the server of Cityscapes wants its 19 classes" in refused(
        capsys, *same, "--save", "cityscapes", "masks"
    )
    assert len(list(Path("runs/tiny").iterdir())) == 3  # refused ones leave none
