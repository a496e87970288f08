"""The command line as users have it: whole runs, overrides, resuming, and every refusal."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from lightning_seg.callbacks import Throughput, Vitals
from lightning_seg.cli import SegmentationCLI, main
from lightning_seg.module import SegmentationModule
from tests.conftest import CLASSES, REPOSITORY, train_py, write_pair
from tests.models.lazy_configs import OPTIMIZER, TINY
from tests.runs import Experiment, logged


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit status and the last message of a command that must fail."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return int(caught.value.code or 0), message[message.index("error: ") :]


def test_without_arguments_the_commands_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    status, message = refusal(capsys)
    assert (status, "{fit,validate,test,predict}" in message) == (2, True)


def test_a_run_from_start_to_prediction(experiment: Experiment, scenes: Path, tmp_path: Path) -> None:
    config = str(experiment())
    fit = train_py("fit", "--config", config)
    assert fit.returncode == 0, fit.stderr
    run = tmp_path / "runs" / "tiny" / "version_0"
    for file in ("config.yaml", "metrics.csv", "metrics.json", "predictions.png", "checkpoints/last.ckpt"):
        assert (run / file).exists(), file
        if "/" not in file:
            assert f"runs/tiny/version_0/{file}" in fit.stdout
    assert len(logged(run, "train/loss")) == 6
    assert logged(run, "train/loss") == logged(run, "train/loss_sem_seg")
    assert len(logged(run, "lr/0")) == 6
    assert {f"val/IoU/{name}" for name in CLASSES} < set(next(csv.reader((run / "metrics.csv").open())))

    best = str(run / "checkpoints" / "best.ckpt")
    validate = train_py("validate", "--config", config, "--ckpt_path", best)
    assert validate.returncode == 0, validate.stderr
    assert "callbacks" not in validate.stderr
    metrics = json.loads((tmp_path / "runs/tiny/version_1/metrics.json").read_text())
    assert metrics["mIoU"] == max(logged(run, "val/mIoU"))
    assert metrics["split"] == "val"
    assert metrics["num_images"] == 3
    assert np.sum(metrics["confusion_matrix"]) == metrics["num_valid_pixels"]
    assert metrics["IoU"].keys() == set(CLASSES)

    predict = train_py(
        "predict", "--config", config, "--ckpt_path", "best", "--data.predict", str(scenes / "val/images")
    )
    assert predict.returncode == 0, predict.stderr
    predictions = tmp_path / "runs/tiny/version_2/predictions"
    assert len(list((predictions / "overlays").glob("*.jpg"))) == 3
    matrix = np.zeros((6, 6), int)
    for path in sorted((predictions / "masks").glob("*.png")):
        mask = Image.open(path)
        assert mask.mode == "P"
        truth, predicted = np.asarray(Image.open(scenes / "val/masks" / path.name)), np.asarray(mask)
        np.add.at(matrix, (truth[truth != 255], predicted[truth != 255]), 1)
    assert matrix.tolist() == metrics["confusion_matrix"]


def test_validation_does_not_depend_on_processes(experiment: Experiment, tmp_path: Path) -> None:
    two = {"root": "two", "count": 2, "seed": 5, "size": [48, 64]}
    config = str(experiment(val={"class_path": "lightning_seg.data.Synthetic", "init_args": two}))
    main(["fit", "--config", config, "--trainer.max_epochs", "1", "--trainer.limit_val_batches", "0"])
    results, files = [], []
    for devices in (1, 2, 3):  # the third process has no sample
        done = train_py(
            "validate", "--config", config, "--ckpt_path", "last", "--trainer.devices", str(devices),
            "--trainer.strategy", "ddp", "--model.boundary_iou", "true",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "val: 2 images" in done.stdout
        assert done.stdout.count("mIoU_worst_tenth") == 1
        assert "val/IoU/sky" not in done.stdout
        run = tmp_path / f"runs/tiny/version_{devices}"
        results.append(json.loads((run / "metrics.json").read_text()))
        files.append([(run / name).read_bytes() for name in ("images.csv", "images.npz")])
    assert results[0] == results[1] == results[2]
    assert files[0] == files[1] == files[2]
    assert results[0]["num_images"] == 2
    assert {"mDice", "Precision", "mRecall", "BoundaryIoU", "mIoU_per_image"} < results[0].keys()
    assert sorted(path.name for path in (tmp_path / "runs/tiny").iterdir()) == [f"version_{n}" for n in range(4)]


def test_rerun_resume_and_saved_config(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(experiment())
    runs = tmp_path / "runs" / "tiny"
    main(["fit", "--config", config, "--ckpt_path", "last", "--trainer.max_epochs", "1"])
    assert "starting afresh" in capsys.readouterr().err
    first = logged(runs / "version_0", "train/loss")
    (runs / "version_0" / "checkpoints" / "torn.ckpt").write_bytes(b"torn")
    torch.save({"state_dict": {}, "global_step": 99}, runs / "version_0" / "checkpoints" / "weights.ckpt")

    with pytest.warns(UserWarning, match=r"weights\.ckpt holds weights alone .* passed over"):
        main(["fit", "--config", config, "--ckpt_path", "last"])  # two epochs: goes on with the second
    assert [path.name for path in runs.iterdir()] == ["version_0"]
    resumed = logged(runs / "version_0", "train/loss")
    assert resumed[:3] == first
    assert len(resumed) == 6
    assert len(logged(runs / "version_0", "val/mIoU")) == 2


def test_a_moved_run_keeps_its_best_checkpoint(experiment: Experiment, tmp_path: Path) -> None:
    config = str(experiment())
    main(["fit", "--config", config, "--trainer.max_epochs", "1"])
    (tmp_path / "runs").rename(tmp_path / "moved")
    folder = tmp_path / "moved/tiny/version_0/checkpoints"
    checkpoint = torch.load(folder / "last.ckpt", weights_only=True)
    for state in checkpoint["callbacks"].values():
        if "best_k_models" in state:  # a score that no later epoch reaches
            state["best_k_models"] = {path: torch.tensor(2.0) for path in state["best_k_models"]}
            state["best_model_score"] = state["kth_value"] = state["current_score"] = torch.tensor(2.0)
    torch.save(checkpoint, folder / "last.ckpt")
    best = (folder / "best.ckpt").read_bytes()
    main(["fit", "--config", config, "--ckpt_path", "last", "--trainer.default_root_dir", "moved"])
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == 6
    assert (folder / "best.ckpt").read_bytes() == best


def test_last_leaves_older_runs_alone(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(experiment())
    last = ["fit", "--config", config, "--ckpt_path", "last", "--trainer.limit_val_batches", "0"]
    main([*last, "--trainer.max_epochs", "1"])
    run = tmp_path / "runs/tiny/version_0"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    main([*last, "--trainer.fast_dev_run", "1"])
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    (tmp_path / "runs/tiny/version_5/checkpoints").mkdir(parents=True)  # a run that died before its first checkpoint
    capsys.readouterr()
    main([*last, "--trainer.max_epochs", "1"])
    assert "No checkpoint in the newest training in runs/tiny: starting afresh" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert (tmp_path / "runs/tiny/version_6/checkpoints/last.ckpt").exists()


def test_max_steps_inside_an_epoch_ends_with_a_validation(experiment: Experiment, tmp_path: Path) -> None:
    main(["fit", "--config", str(experiment()), "--trainer.max_steps", "2", "--trainer.check_val_every_n_epoch", "2"])
    run = tmp_path / "runs/tiny/version_0"
    assert len(logged(run, "val/mIoU")) == 1
    assert torch.load(run / "checkpoints/best.ckpt", weights_only=True)["global_step"] == 2


def test_folders_and_names(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = yaml.safe_load(experiment().read_text())
    (tmp_path / "before.yaml").write_text(yaml.safe_dump({"fit": settings}))
    monkeypatch.setenv("HOME", str(tmp_path))
    short = ["--trainer.max_epochs", "1", "--trainer.logger", "false", "--trainer.default_root_dir", "~/there"]
    main(["--config", "before.yaml", "fit", *short])
    run = tmp_path / "there/before/version_0"
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert (run / "metrics.json").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["before.yaml", "there", "tiny.yaml"]
    taken = ["--trainer.default_root_dir", "tiny.yaml", "--ckpt_path", str(run / "checkpoints/last.ckpt")]
    for command in (["validate"], ["predict", "--data.predict", "x"]):
        code, found = refusal(capsys, *command, "--config", "tiny.yaml", *taken)
        assert (code, "tiny.yaml is a file" in found) == (1, True)


def test_saved_config_reproduces_the_run(experiment: Experiment, tmp_path: Path) -> None:
    runs = tmp_path / "runs" / "tiny"
    main(["fit", "--config", str(experiment()), "--trainer.log_every_n_steps", "4"])
    assert len(logged(runs / "version_0", "perf/images_per_s")) == 1  # after step 4 of 6, in the second epoch
    saved = yaml.safe_load((runs / "version_0" / "config.yaml").read_text())
    assert saved["name"] == "tiny"
    assert "ckpt_path" not in saved
    main(["fit", "--config", str(runs / "version_0" / "config.yaml")])
    assert logged(runs / "version_1", "train/loss") == logged(runs / "version_0", "train/loss")
    assert logged(runs / "version_1", "val/mIoU") == logged(runs / "version_0", "val/mIoU")


@pytest.mark.parametrize(("given", "interval", "points"), [(None, 3, 2), (50, 50, 0)])
def test_the_loss_of_few_images_is_logged_unless_it_is_set(
    experiment: Experiment, tmp_path: Path, given: int | None, interval: int, points: int
) -> None:
    config = experiment()  # 6 samples, 2 a batch, 2 epochs
    settings = yaml.safe_load(config.read_text())
    settings["trainer"] |= {"log_every_n_steps": given, "limit_val_batches": 0}
    config.write_text(yaml.safe_dump(settings))
    ran = SegmentationCLI(["fit", "--config", str(config)])
    assert ran.trainer.log_every_n_steps == interval  # type: ignore[attr-defined]
    assert (ran.run.path / "metrics.csv").exists() == bool(points)
    assert not points or len(logged(ran.run.path, "train/loss")) == points
    saved = yaml.safe_load((ran.run.path / "config.yaml").read_text())
    assert saved["trainer"]["log_every_n_steps"] == given


def test_predictions_keep_folders_and_sizes(experiment: Experiment, scenes: Path, tmp_path: Path) -> None:
    config = str(
        experiment(eval_transforms=[{"class_path": "albumentations.Resize", "init_args": {"height": 32, "width": 32}}])
    )
    main(["fit", "--config", config, "--trainer.max_steps", "1", "--trainer.limit_val_batches", "0"])
    images = tmp_path / "images"
    (images / "sub").mkdir(parents=True)
    for name, size in (("a.jpg", (50, 30)), ("a.png", (31, 64)), ("sub/a.jpg", (40, 40))):
        Image.new("RGB", size, (90, 120, 200)).save(images / name)
    main(["predict", "--config", config, "--ckpt_path", "last", "--data.predict", str(images)])
    masks = tmp_path / "runs/tiny/version_1/predictions/masks"
    sizes = {path.relative_to(masks).as_posix(): Image.open(path).size for path in masks.rglob("*.png")}
    assert sizes == {"a.jpg.png": (50, 30), "a.png.png": (31, 64), "sub/a.png": (40, 40)}


class OwnThroughput(Throughput):
    """A user's, in place of the default one."""


def test_a_subclass_replaces_a_default_callback(experiment: Experiment) -> None:
    given = ["--trainer.callbacks+", "tests.test_cli.OwnThroughput"]
    ran = SegmentationCLI(
        ["fit", "--config", str(experiment()), *given, "--trainer.max_steps", "1", "--trainer.limit_val_batches", "0"]
    )
    kinds = [type(callback) for callback in ran.trainer.callbacks]
    assert [kind for kind in kinds if issubclass(kind, Throughput)] == [OwnThroughput]
    assert Vitals in kinds


def settings(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    with pytest.raises(SystemExit):
        main(["fit", *arguments, "--print_config"])
    return yaml.safe_load(capsys.readouterr().out)  # type: ignore[no-any-return]


def test_overrides_are_kept_key_by_key(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(experiment())
    before = yaml.safe_load(Path(config).read_text())["model"]["overrides"]
    later = tmp_path / "later.yaml"
    later.write_text("model: {overrides: {SOLVER.BASE_LR: 0.5, MODEL.RESNETS.NORM: GN}}\ntrainer: {max_epochs: 7}")
    printed = settings(
        capsys, "--config", config, "--model.overrides.MODEL.RESNETS.DEPTH", "50", "--config", str(later),
        "--model.overrides.SOLVER.STEPS=[1, 2]", "--model.overrides.MODEL.WEIGHTS", "",
        "--model.overrides.SOLVER.BASE_LR", "2e-3",
    )  # fmt: skip
    assert printed["model"]["overrides"] == {
        **before,
        "MODEL.RESNETS.DEPTH": 50,
        "MODEL.RESNETS.NORM": "GN",
        "SOLVER.STEPS": [1, 2],
        "MODEL.WEIGHTS": "",
        "SOLVER.BASE_LR": 0.002,
    }
    assert printed["trainer"]["max_epochs"] == 7


def test_wandb_logger_parses(experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    """Its own argument ``config`` must not meet the parser's ``--config``."""
    logger = ["--trainer.logger", "pytorch_lightning.loggers.WandbLogger", "--trainer.logger.project", "p"]
    printed = settings(capsys, "--config", str(experiment()), *logger)
    assert printed["trainer"]["logger"]["init_args"]["project"] == "p"


def test_criterion_auxiliary_head_and_syncbn(
    experiment: Experiment, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "criterion.yaml").write_text(
        """
model:
  auxiliary_stage: res4
  overrides: {MODEL.RESNETS.NORM: SyncBN}
  criterion:
    class_path: lightning_seg.losses.WeightedSum
    init_args:
      weights: [1.0, 0.5]
      criteria:
        - {class_path: lightning_seg.losses.CrossEntropy, init_args: {class_weights: [1, 1, 1, 2, 2, 3]}}
        - {class_path: lightning_seg.losses.Dice}
"""
    )
    arguments = ["--config", str(experiment()), "--config", str(tmp_path / "criterion.yaml")]
    main(["fit", *arguments, "--trainer.max_epochs", "1"])
    run = tmp_path / "runs" / "tiny" / "version_0"
    parts = [logged(run, f"train/{name}") for name in ("loss_cross_entropy", "loss_dice", "loss_auxiliary")]
    assert logged(run, "train/loss") == pytest.approx([sum(step) for step in zip(*parts, strict=True)], rel=1e-5)
    main(["validate", *arguments, "--ckpt_path", "last"])
    assert logged(tmp_path / "runs/tiny/version_1", "val/loss") == logged(run, "val/loss")
    again = SegmentationModule.load_from_checkpoint(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert again.segmentor.auxiliary is not None
    assert again.segmentor.criterion.weights == [1.0, 0.5]
    assert again.segmentor.criterion.criteria[0].class_weights.tolist() == [1, 1, 1, 2, 2, 3]
    assert "SyncBN needs a GPU" in caplog.text


def test_syncbn_on_several_processes_without_a_gpu(experiment: Experiment, tmp_path: Path) -> None:
    settings = {f"MODEL.{part}.NORM": "SyncBN" for part in ("RESNETS", "FPN", "SEM_SEG_HEAD")}
    done = train_py(
        "fit", "--config", str(experiment()), "--trainer.max_epochs", "1", "--trainer.devices", "2",
        "--trainer.strategy", "ddp", "--trainer.sync_batchnorm", "true", "--trainer.limit_val_batches", "0",
        *(argument for key, norm in settings.items() for argument in (f"--model.overrides.{key}", norm)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count("SyncBN needs a GPU") == 1
    assert (done.stdout + done.stderr).count("trainer.sync_batchnorm needs a GPU") == 1
    assert np.isfinite(logged(tmp_path / "runs/tiny/version_0", "train/loss")).all()


def test_a_lazy_config_runs_once_a_command(experiment: Experiment, tmp_path: Path) -> None:
    config = experiment()
    model = {"config": "lazy.py", "weights": ""}
    config.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), "model": model}))
    (tmp_path / "lazy.py").write_text(TINY + OPTIMIZER + "open('runs.txt', 'a').write('.')\n")
    main(["fit", "--config", str(config), "--trainer.max_steps", "1", "--trainer.limit_val_batches", "0"])
    assert Path("runs.txt").read_text() == "."
    main(["validate", "--config", str(config), "--ckpt_path", "last"])
    assert Path("runs.txt").read_text() == ".."


def test_one_override_keeps_the_files_others(experiment: Experiment, tmp_path: Path) -> None:
    main(
        [
            "fit",
            "--config",
            str(experiment()),
            "--model.overrides.MODEL.RESNETS.DEPTH",
            "34",
            "--trainer.max_steps",
            "1",
        ]
    )
    state = torch.load(next((tmp_path / "runs/tiny/version_0/checkpoints").glob("*.ckpt")), weights_only=True)[
        "state_dict"
    ]
    assert "segmentor.network.backbone.bottom_up.res4.5.conv1.weight" in state  # ResNet-34 has six blocks there
    assert state["segmentor.network.backbone.fpn_output2.weight"].shape[0] == 16  # FPN.OUT_CHANNELS of the file


def test_environment_variables(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PL_FIT__TRAINER__MAX_STEPS", "77")
    assert settings(capsys, "--config", str(experiment()))["trainer"]["max_steps"] == 77


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--trainer.max_epoch", "3"], 2, "did you mean trainer.max_epochs"),
        (["--data.batchsize", "3"], 2, "did you mean data.batch_size"),
        (["--model.overides.A", "3"], 2, "did you mean model.overrides"),
        (["--data.batch_size", "many"], 2, "data.batch_size"),
        (["--model.overrides.MODEL.RESNET.DEPTH", "34"], 1, "did you mean MODEL.RESNETS.DEPTH"),
        (["--model.config", "Misc/semantic_R_50_FPN.yaml"], 1, "Misc/semantic_R_50_FPN_1x.yaml"),
        (["--ckpt_path", "nowhere.ckpt"], 1, "checkpoint nowhere.ckpt does not exist"),
        (["--model.weights", "nowhere.pth"], 1, "weights nowhere.pth do not exist"),
        (["--data.root", "nowhere"], 1, "data.root nowhere does not exist"),
        (["--model.config", "~nosuch/a.yaml"], 1, "error: model.config '~nosuch/a.yaml' is neither a file"),
        (["--ckpt_path", "~nosuch/a.ckpt"], 1, "error: checkpoint ~nosuch/a.ckpt does not exist"),
        (["--model.weights", "~nosuch/w.pth"], 1, "error: weights ~nosuch/w.pth do not exist"),
        (["--data.root", "~nosuch"], 1, "error: data.root ~nosuch does not exist"),
        (["--model.imports", "[~nosuch/head.py]"], 1, "error: model.imports ~nosuch/head.py does not exist"),
        (["--config", "~nosuch/a.yaml"], 2, "~nosuch/a.yaml"),
        (["--name", "../street"], 1, "error: the run's name '../street' leads out of runs"),
        (["--name", "/street"], 1, "error: the run's name '/street' leads out of runs"),
    ],
)
def test_refuses_flags(
    experiment: Experiment, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, message: str
) -> None:
    code, found = refusal(capsys, "fit", "--config", str(experiment()), *arguments)
    assert code == status
    assert message in found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainer: {max_epoch: 3}", "later.yaml: Subcommand 'fit' does not accept option 'trainer.max_epoch'; did you"),
        ("fit: {trainer: {max_epoch: 3}}", "later.yaml: Subcommand 'fit' does not accept option 'fit.trainer"),
        ("data: {train: {class_path: lightning_seg.data.Folder, init_args: {image: a}}}", "did you mean images"),
        ("data: {train: {class_path: lightning_seg.data.Foldr}}", "did you mean Folder"),
        ("modle: {weights: null}", "later.yaml: Subcommand 'fit' does not accept option 'modle.weights'; did you mean"),
        (
            "data: {train_transforms: [{class_path: detectron2.data.transforms.ResizeShortestEdge}]}",
            "data.train_transforms: detectron2.data.transforms.ResizeShortestEdge is not of albumentations, whose "
            "transforms are used here: take albumentations.SmallestMaxSize\n",
        ),
        (
            "data: {train_transforms: [{class_path: albumentations.OneOf, init_args: {transforms: [{class_path: "
            "torchvision.transforms.RandomHorizontalFlip}]}}]}",
            "data.train_transforms: torchvision.transforms.RandomHorizontalFlip is not of albumentations, whose "
            "transforms are used here: take albumentations' own, or derive",
        ),
        (
            "data: {train_transforms: [{class_path: albumentations.OneOf, init_args: {transforms: [{class_path: "
            "albumentations.Blur, init_args: {blurlimit: 3}}]}}]}",
            "data.train_transforms: albumentations.Blur has no option 'blurlimit'; did you mean blur_limit?",
        ),
        ("data: {train: {class_path: albumentations.Blur}}", "data.train: albumentations.Blur is no Reader"),
        (
            "data: {train_transforms: [{class_path: not_named.Mine}]}",
            "No module named 'not_named'; a file of your own is named in data.imports: [not_named.py]",
        ),
        ("data: {batch_size: [1]}", "batch_size"),
        ("data: {batch_size: 1", "later.yaml"),
    ],
)
def test_refuses_files(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    (tmp_path / "later.yaml").write_text(text)
    code, found = refusal(capsys, "fit", "--config", str(experiment()), "--config", str(tmp_path / "later.yaml"))
    assert code == 2
    assert message in found


OWN = """
import albumentations as A
from lightning_seg.data import Folder

class Negative(A.ImageOnlyTransform):
    def __init__(self, level=255, p=1.0):
        super().__init__(p=p)
        self.level = level

    def apply(self, img, **params):
        return self.level - img

class Scenes(Folder):
    def __init__(self, part="train"):
        super().__init__(f"{part}/images", f"{part}/masks")
"""


def test_classes_of_the_users_own_files(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside the config, or where the command runs; named in a config or by a flag."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/own_parts_a.py").write_text(OWN)
    (tmp_path / "own_parts_b.py").write_text(OWN)
    negative = {"class_path": "own_parts_a.Negative", "init_args": {"level": 250}}
    given = experiment(imports=["own_parts_a.py"], train_transforms=[negative])
    config = str(given.rename(tmp_path / "mine/tiny.yaml"))
    (tmp_path / "later.yaml").write_text("data: {train: {class_path: own_parts_b.Scenes}}")
    flags = ["--data.imports+=own_parts_b.py", "--config", str(tmp_path / "later.yaml"), "--trainer.max_steps", "1"]
    main(["fit", "--config", config, *flags, "--trainer.limit_val_batches", "0"])
    saved = tmp_path / "runs/tiny/version_0/config.yaml"
    data = yaml.safe_load(saved.read_text())["data"]
    assert data["imports"] == [str(tmp_path / "mine/own_parts_a.py"), "own_parts_b.py"]
    assert data["train_transforms"] == [{"class_path": "own_parts_a.Negative", "init_args": {"level": 250, "p": 1.0}}]
    assert data["train"]["class_path"] == "own_parts_b.Scenes"
    capsys.readouterr()
    assert settings(capsys, "--config", str(saved))["data"]["imports"] == data["imports"]
    (tmp_path / "own_parts_c.py").write_text("import gone_for_good")
    code, found = refusal(capsys, "fit", "--config", config, "--data.imports", "[own_parts_c.py]")
    assert (code, "data.imports own_parts_c.py failed: ModuleNotFoundError: No module" in found) == (1, True)


def test_refuses_checkpoints(experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(experiment())
    torch.save({"model": {}}, tmp_path / "plain.pth")
    code, found = refusal(capsys, "validate", "--config", config, "--ckpt_path", str(tmp_path / "plain.pth"))
    assert "give plain weights as model.weights" in found
    code, found = refusal(capsys, "validate", "--config", config, "--ckpt_path", "last")
    assert "holds no run with a last checkpoint" in found
    code, found = refusal(capsys, "validate", "--config", config)
    assert "would use random weights" in found
    main(["fit", "--config", config, "--trainer.max_steps", "1"])
    code, found = refusal(
        capsys, "validate", "--config", config, "--ckpt_path", "last", "--data.classes", "[a, b, c, d]"
    )
    assert code == 1
    assert "made for another model" in found


class _Opens:
    """Makes a file where it is unpickled."""

    def __reduce__(self) -> Any:
        return (open, ("made_by_the_checkpoint", "w"))


def test_no_checkpoint_runs_code(experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, path = str(experiment()), str(tmp_path / "evil.ckpt")
    torch.save({"state_dict": {"a": torch.zeros(1)}, "global_step": 1, "callbacks": _Opens()}, path)
    asks = f"{path} cannot be read: it asks for io.open, and anything but tensors and plain values could run code\n"
    for command in ("fit", "validate", "test", "predict"):
        assert refusal(capsys, command, "--config", config, "--ckpt_path", path) == (1, f"error: checkpoint {asks}")
    assert refusal(capsys, "fit", "--config", config, "--model.weights", path) == (1, f"error: weights {asks}")
    done = train_py("validate", "--config", config, "--ckpt_path", path)
    assert done.returncode == 1
    assert done.stderr.endswith(f"error: checkpoint {asks}")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "made_by_the_checkpoint").exists()
    torch.load(path, weights_only=False)
    assert Path("made_by_the_checkpoint").exists(), "the file is harmless, so the test shows nothing"


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        ("torn.ckpt", b"PK torn", "torn.ckpt cannot be read: it is damaged"),
        ("empty.ckpt", b"", "empty.ckpt cannot be read: "),
        ("http://127.0.0.1:9/a.ckpt", None, "http://127.0.0.1:9/a.ckpt "),
    ],
)
def test_checkpoints_that_cannot_be_read(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, contents: bytes | None,
    message: str
) -> None:  # fmt: skip
    config = str(experiment())
    if contents is not None:
        (tmp_path / name).write_bytes(contents)
    for option in ("--ckpt_path", "--model.weights"):
        code, found = refusal(capsys, "fit", "--config", config, option, name)
        assert code == 1
        assert message in found
        assert len(found.splitlines()) == 1


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("defect", ["empty", "orphan", "truncated", "size", "id"])
def test_refuses_data(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str], defect: str, workers: str
) -> None:
    root = tmp_path / "bad"
    mask = np.zeros((32, 32), np.uint8)
    for index in range(2):
        write_pair(root / "train", str(index), mask)
    images, masks = root / "train" / "images", root / "train" / "masks"
    if defect == "empty":
        for path in images.iterdir():
            path.unlink()
        expected = f"{images} holds no image"
    elif defect == "orphan":
        Image.fromarray(mask).save(masks / "orphan.png")
        expected = "have no image in"
    elif defect == "truncated":
        data = (images / "1.jpg").read_bytes()
        (images / "1.jpg").write_bytes(data[: len(data) // 2])
        expected = f"image {images / '1.jpg'} cannot be read"
    elif defect == "size":
        write_pair(root / "train", "1", mask, image_size=(32, 40))
        expected = f"mask {masks / '1.png'} is 32×32 pixels, but its image {images / '1.jpg'} is 40×32"
    else:
        write_pair(root / "train", "1", mask + 9)
        expected = f"{masks / '1.png'} has class id 9 in 1024 pixels"
    config = str(experiment(root=str(root), val=None))
    code, found = refusal(capsys, "fit", "--config", config, "--data.num_workers", workers)
    assert code == 1
    assert expected in found


def test_missing_detectron2_in_one_message(experiment: Experiment) -> None:
    hide = "import sys; sys.modules['detectron2'] = None; from lightning_seg.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", hide, "fit", "--config", str(experiment())],
        capture_output=True, text=True, check=False, cwd=REPOSITORY,
    )  # fmt: skip
    assert done.returncode == 1
    assert "error: Detectron2 is not installed" in done.stderr
    assert "make install" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_says_what_options_of_lightning_mean_here(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("fit", "validate", "test", "predict"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        said = " ".join(capsys.readouterr().out.split())
        assert "A checkpoint, a run folder, wandb://…, or last or best of the newest run" in said
        assert "Has no effect: no checkpoint may run code." in said
        assert "hpc" not in said


@pytest.mark.runs
def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom lightning_seg.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = ('detectron2', 'wandb', 'timm', 'tensorboard')\n"  # transformers is imported by torchmetrics, if there
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout.splitlines()[-1] == "[]"
