"""Pictures and charts, read back from the files that W&B and TensorBoard write."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lightning_seg.callbacks.drawing import reduce, reduce_labels
from lightning_seg.callbacks.wandb_masks import error_ids, mask_ids
from lightning_seg.cli import main
from lightning_seg.colours import default_palette
from lightning_seg.data.labels.colours import colourise
from lightning_seg.data.surveying.samples import cover_classes
from lightning_seg.structures import DatasetInfo
from tests.conftest import CLASSES, train_py, write_pair
from tests.loggers.offline import OfflineRun, offline_runs

Experiment = Callable[..., Path]
LOGGER = ["--trainer.logger", "pytorch_lightning.loggers.WandbLogger", "--trainer.logger.project", "p"]


@pytest.fixture(autouse=True)
def own_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_DATA_DIR", "LIGHTNING_SEG_WANDB_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)


def masks(run: OfflineRun, row: dict[str, Any], kind: str) -> dict[str, np.ndarray]:
    """By sample, those of a ``val/pictures`` entry."""
    names = [caption.partition(":")[0] for caption in row["captions"]]
    files = [run.file.parent / "files" / masks_of_one[kind]["path"] for masks_of_one in row["all_masks"]]
    return {name: np.asarray(Image.open(file)) for name, file in zip(names, files, strict=True)}


def table(run: OfflineRun, entry: dict[str, Any]) -> dict[str, Any]:
    return json.loads((run.file.parent / "files" / entry["path"]).read_text())  # type: ignore[no-any-return]


def test_pictures_and_charts_of_a_run(experiment: Experiment, scenes: Path, tmp_path: Path) -> None:
    config = ["--config", str(experiment()), *LOGGER]
    main(["fit", *config])
    main(["predict", *config, "--ckpt_path", "last", "--data.predict", str(scenes / "val/images")])
    runs = tmp_path / "runs/tiny"
    (run,) = offline_runs(runs / "version_0/wandb")
    rows = run.rows("val/pictures")
    assert len(rows) == 2
    _, last = rows[-1]
    found = masks(run, last, "predictions")
    assert len(found) == 3
    for name, mask in found.items():
        predicted = np.asarray(Image.open(runs / f"version_1/predictions/masks/{name}.png"))
        truth = np.asarray(Image.open(scenes / f"val/masks/{name}.png"))
        assert np.array_equal(mask, predicted)
        assert np.array_equal(masks(run, last, "ground_truth")[name], truth)
        assert np.array_equal(masks(run, last, "errors")[name], np.where(truth == 255, 2, mask != truth))
    labels = run.config["_wandb"]["mask/class_labels"]
    named = labels["val/pictures_wandb_delimeter_predictions"]["value"]
    assert {int(number): name for number, name in named.items() if name != "ignored"} == dict(enumerate(CLASSES))

    samples = table(run, run.rows("val/samples")[-1][1])
    assert samples["columns"] == ["name", "picture", "mIoU", "pAcc", "epoch", "step"]
    figures = [row[2] for row in samples["data"]]
    assert figures == sorted(figures)
    assert [row[4:] for row in samples["data"]] == [[1, 5]] * 3

    ((_, training),) = run.rows("train/pictures")
    assert training["count"] == 6

    metrics = json.loads((runs / "version_0/metrics.json").read_text())
    by_epoch = table(run, run.rows("val/IoU_by_epoch")[-1][1])
    assert by_epoch["columns"] == ["epoch", "step", *CLASSES]
    assert [row[:2] for row in by_epoch["data"]] == [[0, 2], [1, 5]]
    assert by_epoch["data"][-1][2:] == pytest.approx([metrics["IoU"][name] for name in CLASSES])
    bars = table(run, run.rows("val/IoU_bars_table")[-1][1])
    assert dict(bars["data"]) == pytest.approx({name: iou for name, iou in metrics["IoU"].items() if iou is not None})
    cells = table(run, run.rows("val/confusion_matrix_table")[-1][1])["data"]
    counts = np.array(metrics["confusion_matrix"])
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    assert np.array([cell[2] for cell in cells]).reshape(6, 6) == pytest.approx(shares)
    card = run.config["dataset"]
    assert card["samples"] == {"train": 6, "val": 3}
    pixels = np.zeros(6)
    for file in (scenes / "train/masks").iterdir():
        pixels += np.bincount(np.asarray(Image.open(file)).ravel(), minlength=256)[:6]
    histogram = table(run, run.rows("data/classes_table")[0][1])["data"]
    assert [row[1] for row in histogram] == pytest.approx(pixels / pixels.sum())


def test_samples_of_another_process_and_by_name(experiment: Experiment, tmp_path: Path) -> None:
    path = experiment()
    chosen = [
        file.stem
        for file in sorted((Path(path.read_text().split("root: ")[1].split("\n")[0]) / "val/images").iterdir())
    ][1:]
    callback = {
        "class_path": "lightning_seg.callbacks.SamplePictures",
        "init_args": {"ids": chosen, "longest_side": 32},
    }
    done = train_py(
        "fit", "--config", str(path), *LOGGER, "--trainer.callbacks", json.dumps([callback]),
        "--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.batch_size", "1", "--trainer.max_steps", "3",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (run,) = offline_runs(tmp_path)
    ((_, row),) = run.rows("val/pictures")
    found = masks(run, row, "predictions")
    assert set(found) == set(chosen)  # the second sample is the other process's
    assert {mask.shape for mask in found.values()} == {(24, 32)}
    assert len(run.rows("train/pictures")) == 1


def by_name(*ids: str) -> list[str]:
    return [
        "--trainer.callbacks",
        json.dumps([{"class_path": "lightning_seg.callbacks.SamplePictures", "init_args": {"ids": list(ids)}}]),
    ]


@pytest.mark.parametrize("devices", ["1", "2"])
def test_a_name_that_does_not_exist_stops_all_processes_at_once(experiment: Experiment, devices: str) -> None:
    done = train_py(
        "fit", "--config", str(experiment()), *LOGGER, *by_name("0001", "nobody"), "--data.batch_size", "1",
        "--trainer.devices", devices, "--trainer.strategy", "ddp" if devices == "2" else "auto", timeout=120,
    )  # fmt: skip
    assert done.returncode != 0
    assert "error: SamplePictures(ids): data.val has no sample nobody" in done.stderr
    assert "Epoch 0" not in done.stdout


def test_names_that_only_other_splits_have(experiment: Experiment, tmp_path: Path) -> None:
    config = ["--config", str(experiment())]
    main(["fit", *config, *LOGGER, "--trainer.max_epochs", "1"])
    for version, ids, shown in ((1, ("0001", "of val"), {"0001"}), (2, ("of val",), {"0000", "0001", "0002"})):
        main(["test", *config, *LOGGER, *by_name(*ids), "--ckpt_path", "last"])
        (run,) = offline_runs(tmp_path / f"runs/tiny/version_{version}")
        ((_, row),) = run.rows("test/pictures")
        assert set(masks(run, row, "predictions")) == shown
        assert run.rows("test/IoU_bars_table")
        assert not run.rows("test/IoU_by_epoch")  # the checkpoint has the validation's rows


def test_more_classes_than_masks_can_hold(experiment: Experiment, tmp_path: Path) -> None:
    """300 of them, in 16-bit masks: pictures are overlays, and all else is as with few."""
    random = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            labels = random.integers(0, 300, (6, 8)).astype(np.uint16).repeat(8, 0).repeat(8, 1)
            write_pair(tmp_path / "many" / split, str(number), labels)
    classes = [f"class {number}" for number in range(300)]
    config = ["--config", str(experiment(root=str(tmp_path / "many"), classes=classes, ignore_index=65535)), *LOGGER]
    main(["fit", *config, "--trainer.max_epochs", "1"])
    images = str(tmp_path / "many/val/images")
    main(["predict", *config, "--ckpt_path", "last", "--data.predict", images])
    (run,) = offline_runs(tmp_path / "runs/tiny/version_0")
    for name, count, panels in (("val/pictures", 2, 4), ("train/pictures", 4, 1)):
        ((_, row),) = run.rows(name)
        assert row["count"] == count
        assert "all_masks" not in row
        for file in row["filenames"]:
            assert Image.open(run.file.parent / "files" / file).size == (panels * 64, 48)
    metrics = json.loads((tmp_path / "runs/tiny/version_0/metrics.json").read_text())
    assert sum(map(sum, metrics["confusion_matrix"])) == 2 * 48 * 64
    cells = table(run, run.rows("val/confusion_matrix_table")[-1][1])["data"]
    assert len(cells) == 2500
    assert len(table(run, run.rows("data/classes_table")[0][1])["data"]) == 300
    predicted = Image.open(tmp_path / "runs/tiny/version_1/predictions/masks/0.png")
    assert predicted.mode == "I;16"
    assert np.asarray(predicted).max() < 300


def test_overlays_for_tensorboard(experiment: Experiment, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = ["--trainer.logger", "TensorBoardLogger", "--trainer.logger.save_dir", "runs"]
    main(["fit", "--config", str(experiment()), *logger, "--trainer.max_epochs", "1"])
    (file,) = tmp_path.rglob("events*")
    assert file.parent == tmp_path / "runs/tiny/version_0/tensorboard"
    events = EventAccumulator(str(file), size_guidance={"images": 0})
    events.Reload()
    tags = events.Tags()["images"]
    assert len([tag for tag in tags if tag.startswith("val/pictures/")]) == 3
    assert len([tag for tag in tags if tag.startswith("train/pictures/")]) == 6
    picture = events.Images(next(tag for tag in tags if tag.startswith("val/")))[0]
    assert (picture.height, picture.width) == (48, 4 * 64)


def test_no_room_for_pictures(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """A file stands where W&B would make the folder of its pictures; the scalars still arrive."""
    import wandb

    init = wandb.init

    def start(**settings: Any) -> Any:
        run = init(**settings)
        (Path(run.dir) / "media").write_text("")
        return run

    monkeypatch.setattr(wandb, "init", start)
    main(["fit", "--config", str(experiment()), *LOGGER])
    said = [str(warning.message) for warning in recwarn if "goes on without it" in str(warning.message)]
    assert len(said) == 1, said
    (run,) = offline_runs(tmp_path)
    assert len(run.rows("train/loss")) == 6
    assert len(run.rows("val/mIoU")) == 2
    assert not run.rows("val/pictures")


def test_ids_that_a_mask_can_hold() -> None:
    def info(count: int, ignore: int) -> DatasetInfo:
        return DatasetInfo(tuple(map(str, range(count))), ignore, default_palette(count))

    labels = np.array([[0, 1], [255, -1]])
    ids, names = mask_ids(labels, info(2, 255))  # type: ignore[misc]
    assert ids.tolist() == [[0, 1], [255, 255]]
    assert names == {0: "0", 1: "1", 255: "ignored"}
    ids, _ = mask_ids(labels, info(2, -1))  # type: ignore[misc]
    assert ids.tolist() == [[0, 1], [2, 2]]
    assert mask_ids(np.array([[255]]), info(256, -1)) is not None
    assert mask_ids(np.array([[-1]]), info(256, -1)) is None
    assert mask_ids(np.array([[0]]), info(257, -1)) is None
    assert error_ids(np.array([[0, 1, 1]]), np.array([[0, 0, 255]]), info(2, 255)).tolist() == [[0, 1, 2]]


def test_reduced_labels_lie_where_the_reduced_image_does() -> None:
    info = DatasetInfo(("a", "b"), 255, ((10, 20, 30), (200, 100, 0)))
    labels = np.zeros((101, 203), np.uint8)
    labels[50:, 100:] = 1
    small = reduce_labels(labels, 64)
    picture = reduce(colourise(labels, info), 64)
    assert small.shape == picture.shape[:2] == (32, 64)
    assert np.mean(np.abs(colourise(small, info).astype(int) - picture) > 60) < 0.02
    assert reduce_labels(labels, 300) is labels


def test_covering_classes_takes_the_rare_one() -> None:
    counts = np.zeros((20, 4), int)
    counts[:, 0] = 9
    counts[17, 3] = 1
    counts[5, [1, 2]] = 1
    assert cover_classes(counts, 3) == [5, 17, 0]
    assert len(cover_classes(counts, 50)) == 20
