"""What a run came from and what it predicts, read back from the files that W&B writes."""

import csv
import gzip
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lightning_seg.callbacks import run_artifacts
from lightning_seg.cli import main
from tests.conftest import REPOSITORY, train_py
from tests.loggers.offline import OfflineRun, offline_runs

Experiment = Callable[..., Path]
LOGGER = ["--trainer.logger", "pytorch_lightning.loggers.WandbLogger", "--trainer.logger.project", "p"]
HEAD = REPOSITORY / "examples" / "custom_head" / "head.py"


@pytest.fixture(autouse=True)
def own_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_DATA_DIR", "LIGHTNING_SEG_WANDB_DATA_DIR", "WANDB_RUN_ID", "WANDB_DISABLE_CODE"):
        monkeypatch.delenv(name, raising=False)


def artifacts(run: OfflineRun) -> dict[str, tuple[Any, dict[str, Path]]]:
    """By type and name: the record, and the files that it would upload."""
    found = {}
    for record in run.artifacts:
        files = {entry.path: Path(entry.local_path) for entry in record.manifest.contents}
        found[f"{record.type}:{record.name}"] = record, files
    return found


def test_training(experiment: Experiment, scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "extra.py").write_text("# registers nothing\n")
    config = ["--config", str(experiment(imports=["extra.py"])), "--name", "a name"]
    done = train_py("fit", *config, *LOGGER, "--model.imports", f"[{HEAD}]", "--trainer.max_epochs", "1")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "a name" / "version_0"
    (run,) = offline_runs(folder)
    found = artifacts(run)

    _, code = found["code:source-p"]
    assert code["lightning_seg/module.py"].read_text() == (REPOSITORY / "lightning_seg/module.py").read_text()
    assert code["extra.py"].read_text() == "# registers nothing\n"
    assert code[str(HEAD.relative_to("/"))].read_text() == HEAD.read_text()
    assert code[str((REPOSITORY / "train.py").relative_to("/"))].read_text() == (REPOSITORY / "train.py").read_text()
    assert run.config["_wandb"]["code_path"] == "source-p"

    _, configs = found[f"config:config-{run.run_id}"]
    assert configs["config.yaml"].read_text() == (folder / "config.yaml").read_text()

    for split, count in (("train", 6), ("val", 3)):
        record, files = found[f"dataset:a_name-{split}"]
        assert list(files) == [f"{split}.csv.gz"]  # no image
        rows = list(csv.DictReader(io.StringIO(gzip.decompress(files[f"{split}.csv.gz"].read_bytes()).decode())))
        assert len(rows) == count
        for row in rows:
            assert int(row["labels_bytes"]) == (scenes / row["labels"]).stat().st_size
            assert len(row["image_digest"]) == 32
        assert f'"root":"{scenes}"' in record.metadata.replace(" ", "")
    # By W&B itself:
    assert "torch==" in (run.file.parent / "files" / "requirements.txt").read_text()
    facts = next(record.environment for record in run.records if record.HasField("environment"))
    assert facts.args[:1] == ["fit"]
    assert facts.python


def test_code_that_is_to_stay_private(experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ["--config", str(experiment()), *LOGGER, "--trainer.max_steps", "1"]
    main(["fit", *config, "--trainer.logger.dict_kwargs", '{"save_code": false}'])
    monkeypatch.setenv("WANDB_DISABLE_CODE", "true")  # W&B reads it once a process
    assert train_py("fit", *config).returncode == 0
    for version in range(2):
        (run,) = offline_runs(tmp_path / f"runs/tiny/version_{version}")
        types = {record.type for record in run.artifacts}
        assert "code" not in types
        assert {"config", "dataset"} <= types


def test_predictions_of_test_by_all_processes(experiment: Experiment, scenes: Path, tmp_path: Path) -> None:
    config = ["--config", str(experiment())]
    main(["fit", *config, "--trainer.max_epochs", "1"])
    main(["predict", *config, "--ckpt_path", "last", "--data.predict", str(scenes / "val/images")])
    done = train_py(
        "test", *config, *LOGGER, "--ckpt_path", "last", "--trainer.devices", "2", "--trainer.strategy", "ddp"
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs/tiny/version_2"
    (run,) = offline_runs(folder)
    found = artifacts(run)
    assert {name.partition(":")[0] for name in found} == {"predictions", "dataset", "run_table"}
    assert "dataset:tiny-test" in found
    record, files = found[f"predictions:predictions-{run.run_id}"]
    assert '"sky"' in record.metadata
    masks = sorted(path.name for path in (scenes / "val/masks").iterdir())
    assert sorted(files) == masks
    for name, file in files.items():
        assert file == folder / "predictions/masks" / name  # not copied
        predicted = np.asarray(Image.open(tmp_path / "runs/tiny/version_1/predictions/masks" / name))
        assert np.array_equal(np.asarray(Image.open(file)), predicted)

    callback = ["--trainer.callbacks+=lightning_seg.callbacks.RunArtifacts", "--trainer.callbacks.predictions=false"]
    main(["test", *config, *LOGGER, "--ckpt_path", "last", *callback])
    assert not (tmp_path / "runs/tiny/version_3/predictions").exists()
    main(["test", *config, "--ckpt_path", "last"])
    assert not (tmp_path / "runs/tiny/version_4/predictions").exists()


def test_a_failure_is_one_warning(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(run_artifacts, "TemporaryDirectory", fail)
    monkeypatch.setattr(shutil, "copyfile", fail)  # W&B's too
    main(["fit", "--config", str(experiment()), *LOGGER, "--trainer.max_epochs", "1"])
    said = [str(warning.message) for warning in recwarn if "goes on without it" in str(warning.message)]
    assert len([text for text in said if text.startswith("logging W&B artifacts failed")]) == 1, said
    (run,) = offline_runs(tmp_path)
    assert len(run.rows("train/loss")) == 3
