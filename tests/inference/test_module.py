"""``model.inference``: what a module says of images, keeps in a checkpoint and counts in an evaluation."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torchmetrics.functional.classification import multiclass_calibration_error

import lightning_seg
from lightning_seg.cli import main
from lightning_seg.errors import CheckpointError
from lightning_seg.inference import Augmented, SlidingWindow, Whole
from lightning_seg.metrics.calibration import BINS
from lightning_seg.module import SegmentationModule
from lightning_seg.structures import Item, Placement
from tests.conftest import CLASSES, train_py
from tests.inference.networks import Windowed, picture
from tests.models.samples import make_batch
from tests.training import fit, make

WAYS = {
    "null": None,
    "windows": SlidingWindow((24, 32), 0.5),
    "views": Augmented([1.0, 0.5]),
    "windows of views": Augmented([1.0, 1.5], of=SlidingWindow((24, 32))),
}


@pytest.mark.parametrize("way", WAYS)
def test_labels_probabilities_and_bands_of_a_module_agree(way: str) -> None:
    module = make(inference=WAYS[way]).eval()
    batch: list[Item] = [
        {"image": picture(40, 64), "height": 55, "width": 33},
        {"image": picture(33, 47, seed=1)},
        {"image": picture(40, 64, seed=2), "height": 20, "width": 30, "placement": Placement(4, 8, 30, 50, True, True)},
    ]
    labels = module.predict_step(batch, 0)
    found = module.probabilities(batch)
    for sample, one, map_ in zip(batch, found, labels, strict=True):
        assert one.shape == (5, *map_.shape)
        torch.testing.assert_close(one.sum(0), torch.ones(map_.shape))
        assert torch.equal(one.argmax(0), map_.long())
        bands = list(module.probability_bands(sample))
        torch.testing.assert_close(torch.cat([band for _, band in bands], 1), one, rtol=0, atol=1e-6)
        assert torch.equal(torch.cat([band for _, band in module.label_bands(sample)]), map_)
        read: Any = {**sample, "image": Windowed(sample["image"])}
        assert torch.equal(torch.cat([band for _, band in module.label_bands(read)]), map_)
        [bands_from] = module.predict_step([read], 0)
        assert torch.equal(torch.cat([band for _, band in bands_from(0)]), map_)
    assert not found[0].requires_grad
    assert torch.equal(module(batch[0]["image"][None])[0], module.predict_step([{"image": batch[0]["image"]}], 0)[0])


@pytest.mark.parametrize("way", WAYS)
def test_calibration_is_that_of_the_method_and_changes_nothing_else(way: str) -> None:
    batch = make_batch([(40, 64), (20, 24), (33, 47)])  # windows cover the second one
    samples: Any = [{**sample, "truth": sample["sem_seg"]} for sample in batch]
    module, plain = (make(inference=WAYS[way], calibration=asked).eval() for asked in (True, False))
    with torch.no_grad():
        maps, expected_maps = (one.validation_step(samples, 0)["predictions"] for one in (module, plain))
    report, expected = module.evaluation.report("val"), plain.evaluation.report("val")
    assert all(torch.equal(one, other) for one, other in zip(maps, expected_maps, strict=True))
    torch.testing.assert_close(report.images.losses, expected.images.losses, rtol=1e-6, atol=0)
    assert report.calibration is not None
    own = torch.cat([one.flatten(1).t() for one in module.probabilities(batch)])
    truth = torch.cat([sample["sem_seg"].flatten() for sample in batch]).long()
    ece = multiclass_calibration_error(own, truth, num_classes=5, n_bins=BINS, ignore_index=255)
    assert report.calibration.error == pytest.approx(float(ece), abs=1e-5)
    assert report.calibration.counts[:, 0].sum() == (truth != 255).sum()


@pytest.mark.parametrize("way", [SlidingWindow((64, 64)), Augmented([1.0], flip=False)])
def test_what_covers_the_image_is_null_to_the_bit(way: Any) -> None:
    null, other = make().eval(), make(inference=way).eval()
    batch = make_batch([(40, 64), (40, 64), (33, 47)])
    for sample in batch:
        sample["height"], sample["width"] = 61, 43
    with torch.no_grad():
        (maps, losses), (expected_maps, expected_losses) = (one._predict(batch) for one in (other, null))
    assert all(torch.equal(one, expected) for one, expected in zip(maps, expected_maps, strict=True))
    assert losses == expected_losses
    assert len(losses[0]) == 1


def test_losses_of_windows_are_those_that_the_network_gives_them() -> None:
    module = make(inference=SlidingWindow((24, 64), 0.5)).eval()
    (sample,) = make_batch([(48, 64)])
    with torch.no_grad():
        _, (losses,) = module._predict([sample])
        parts = [
            module.segmentor.evaluate(
                [{"image": sample["image"][:, top : top + 24], "sem_seg": sample["sem_seg"][top : top + 24]}]
            ).losses[0]["loss_sem_seg"]
            for top in (0, 12, 24)
        ]
    assert float(losses["loss_sem_seg"]) == pytest.approx(float(torch.stack(parts).mean()), rel=1e-5)


def test_a_checkpoint_keeps_it_and_another_may_be_given(tmp_path: Path) -> None:
    way = Augmented([1.0, 0.5], flip=False, of=SlidingWindow((24, 32), overlap=0.5, blend="uniform", batch_size=3))
    trainer = fit(make(inference=way), [make_batch([(32, 32), (32, 32)])], tmp_path)
    trainer.save_checkpoint(tmp_path / "m.ckpt")
    again = SegmentationModule.load_from_checkpoint(tmp_path / "m.ckpt", weights_only=True).inference
    assert isinstance(again, Augmented)
    assert again.views == way.views
    assert isinstance(again.of, SlidingWindow)
    assert vars(again.of) == {**vars(way.of), "init_args": again.of.init_args}
    other = SegmentationModule.load_from_checkpoint(tmp_path / "m.ckpt", weights_only=True, inference=None).inference
    assert isinstance(other, Whole)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"class_path": "os.system", "init_args": {}}, "os.system is no lightning_seg.inference.Inference"),
        ({"class_path": "lightning_seg.inference.Not", "init_args": {}}, "Not is not found"),
        ({"class_path": "mine.Way"}, "the checkpoint's inference mine.Way was not made of plain values alone"),
        (
            {
                "class_path": "lightning_seg.inference.Augmented",
                "init_args": {"of": {"class_path": "lightning_seg.losses.Dice", "init_args": {}}},
            },
            "losses.Dice is no lightning_seg.inference.Inference: give it: load_from_checkpoint(path, inference=…)",
        ),
    ],
)
def test_a_checkpoint_builds_only_ways_of_inference(description: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(message)):
        make(inference=description)


SLIDING = {"class_path": "lightning_seg.inference.SlidingWindow", "init_args": {"window": [20, 24], "overlap": 0.5}}
RESIZED = [{"class_path": "albumentations.SmallestMaxSize", "init_args": {"max_size": 36}}]
PADDED = [
    {"class_path": "albumentations.LongestMaxSize", "init_args": {"max_size": 52}},
    {"class_path": "albumentations.PadIfNeeded", "init_args": {"min_height": 60, "min_width": 60}},
]


VIEWS = {"class_path": "lightning_seg.inference.Augmented", "init_args": {"scales": [1.0, 0.75], "of": SLIDING}}


@pytest.mark.parametrize(("way", "transforms"), [(None, PADDED), (SLIDING, RESIZED), (VIEWS, PADDED)])
def test_files_of_predict_have_the_figures_of_validate(
    experiment: Callable[..., Path], scenes: Path, tmp_path: Path, way: Any, transforms: list[Any]
) -> None:
    """To the last digit, whatever the batch; evaluations take it from the run, and ``load`` from its checkpoint."""
    config = experiment(eval_transforms=transforms)
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"name": "n"}))
    (tmp_path / "way.yaml").write_text(yaml.safe_dump({"model": {"inference": way}}))
    runs = tmp_path / "runs/n"
    short = ["--trainer.max_steps", "1", "--trainer.logger", "false"]
    main(["fit", "--config", str(config), "--config", str(tmp_path / "way.yaml"), *short])
    main(["validate", "--ckpt_path", str(runs / "version_0"), "--data.batch_size", "1"])
    main(["predict", "--ckpt_path", str(runs / "version_0"), "--data.predict", str(scenes / "val/images")])
    figures = [yaml.safe_load((runs / f"version_{n}/metrics.json").read_text()) for n in (0, 1)]
    assert figures[0]["mIoU"] == figures[1]["mIoU"]

    classes = len(CLASSES)
    matrix = np.zeros((classes, classes), np.int64)
    predictor = lightning_seg.load(runs / "version_0", device="cpu")
    for file in sorted((runs / "version_2/predictions/masks").glob("*.png")):
        image = next((scenes / "val/images").glob(f"{file.stem}.*"))
        assert np.array_equal(predictor(image).mask, np.asarray(Image.open(file)))
        truth = np.asarray(Image.open(scenes / "val/masks" / file.name))
        counted = truth != 255
        np.add.at(matrix, (truth[counted], np.asarray(Image.open(file))[counted]), 1)
    present = matrix.sum(1) > 0
    ious = np.diag(matrix)[present] / (matrix.sum(0) + matrix.sum(1) - np.diag(matrix))[present]
    assert figures[0]["mIoU"] == float(np.mean(ious))


@pytest.mark.slow
def test_two_processes_come_to_the_same(experiment: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "way.yaml").write_text(yaml.safe_dump({"model": {"inference": VIEWS}}))
    config, runs = str(experiment(eval_transforms=PADDED)), tmp_path / "runs/tiny"
    main(["fit", "--config", config, "--config", str(tmp_path / "way.yaml"), "--trainer.max_steps", "1"])
    both = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    done = train_py("validate", "--ckpt_path", str(runs / "version_0"), *both)
    assert done.returncode == 0, done.stderr
    figures = [yaml.safe_load((runs / f"version_{n}/metrics.json").read_text()) for n in (0, 1)]
    assert figures[0]["mIoU"] == figures[1]["mIoU"]


WINDOWS = "--model.inference=lightning_seg.inference.SlidingWindow"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [WINDOWS, "--model.inference.overlap=1"],
            "model.inference.init_args.overlap is 1.0, but must be a number in [0, 1)",
        ),
        ([WINDOWS, "--model.inference.window=[9]"], "model.inference.init_args.window is [9], but must be two whole"),
        (
            ["--model.inference=Augmented", "--model.inference.of=SlidingWindow", "--model.inference.of.batch_size=0"],
            "model.inference.init_args.batch_size is 0, but must be a whole number of at least 1",
        ),
        (
            ["--model.criterion=lightning_seg.losses.Dice", "--model.criterion.smooth=-1"],
            "Dice.smooth is -1.0, but must be finite, at least 0",
        ),
    ],
)
def test_what_a_chosen_class_refuses_is_said_in_one_line(
    experiment: Callable[..., Path], capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["fit", "--config", str(experiment()), *arguments])
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert ended.value.code == 1
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {message}")
