"""Run folders: never the same twice, and the newest checkpoint that loads."""

from pathlib import Path

import pytest
import torch

from lightning_seg.checkpoints.runs import RunFolder, checkpoint_step, new_run, newest_checkpoint
from lightning_seg.errors import CheckpointError
from tests.runs import save


def test_versions_count_up_and_skip_what_is_taken(tmp_path: Path) -> None:
    (tmp_path / "n" / "version_4").mkdir(parents=True)
    (tmp_path / "n" / "notes").mkdir()
    assert new_run(tmp_path, "n").version == "version_5"
    assert new_run(tmp_path, "n").version == "version_6"
    assert new_run(tmp_path, "other").version == "version_0"


def test_newest_loadable_checkpoint(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path, "n", "last") is None
    best = save(tmp_path / "n/version_2/checkpoints/best.ckpt", 5, 100)
    last = save(tmp_path / "n/version_2/checkpoints/last.ckpt", 9, 100)
    save(tmp_path / "n/version_1/checkpoints/last.ckpt", 50, 900)
    (tmp_path / "n/version_10/checkpoints").mkdir(parents=True)  # a later run that wrote none

    assert newest_checkpoint(tmp_path, "n", "last", to_train=True) is None  # the newest has yet to write one
    (tmp_path / "n/version_10/checkpoints").rmdir()
    (tmp_path / "n/version_11").mkdir()  # an evaluation

    def found(which: str) -> Path:
        result = newest_checkpoint(tmp_path, "n", which)
        assert result is not None
        assert result[0].path in result[1].parents
        return result[1]

    assert found("last") == last
    assert found("best") == best
    last.write_bytes(last.read_bytes()[:50])
    with pytest.warns(UserWarning, match="last.ckpt cannot be read.*passed over"):
        assert found("last") == best


def test_what_is_in_the_files_counts_not_their_times(tmp_path: Path) -> None:
    folder = tmp_path / "n/version_0/checkpoints"
    save(folder / "previous.ckpt", 8, 900)
    save(folder / "last.ckpt", 9, 100)
    for mode, better in (("max", "best-v2.ckpt"), ("min", "best-v1.ckpt")):
        for step, (name, score) in enumerate((("best-v2.ckpt", 0.7), ("best-v1.ckpt", 0.5), ("best.ckpt", 0.6))):
            scores = {f"/gone/{name}": torch.tensor(score), "/gone/x.ckpt": 0.9}
            state = {"best_k_models": scores, "monitor": "val/mIoU"}
            callbacks = {f"ModelCheckpoint{{'monitor': 'val/mIoU', 'mode': '{mode}'}}": state}
            torch.save({"state_dict": {}, "global_step": step, "callbacks": callbacks}, folder / name)
        assert newest_checkpoint(tmp_path, "n", "best") == (RunFolder(tmp_path, "n", "version_0"), folder / better)
    assert newest_checkpoint(tmp_path, "n", "last") == (RunFolder(tmp_path, "n", "version_0"), folder / "last.ckpt")
    save(folder / "previous.ckpt", 9, 900)
    assert newest_checkpoint(tmp_path, "n", "last") == (RunFolder(tmp_path, "n", "version_0"), folder / "last.ckpt")


def test_a_training_without_a_checkpoint_is_passed_over_to_evaluate_alone(tmp_path: Path) -> None:
    older = save(tmp_path / "n/version_0/checkpoints/last.ckpt", 5, 0)
    (tmp_path / "n/version_1/checkpoints").mkdir(parents=True)
    assert newest_checkpoint(tmp_path, "n", "last", to_train=True) is None
    with pytest.warns(UserWarning, match="version_1 has no last checkpoint: looking in an older run"):
        assert newest_checkpoint(tmp_path, "n", "last") == (RunFolder(tmp_path, "n", "version_0"), older)


def test_no_training_goes_on_from_weights_alone(tmp_path: Path) -> None:
    last = save(tmp_path / "n/version_2/checkpoints/last.ckpt", 9, 100)
    weights = last.with_name("weights.ckpt")
    torch.save({"state_dict": {}, "global_step": 12}, weights)
    for to_train, expected in ((True, last), (False, weights)):
        found = newest_checkpoint(tmp_path, "n", "last", to_train=to_train)
        assert found is not None
        assert found[1] == expected
    with pytest.raises(CheckpointError, match=r"weights\.ckpt holds weights alone .* give it as model\.weights"):
        checkpoint_step(weights, to_train=True)


def test_checkpoint_step_checks_the_file(tmp_path: Path) -> None:
    assert checkpoint_step(save(tmp_path / "a.ckpt", 7, 0)) == 7
    torch.save({"state_dict": {}, "loops": print}, tmp_path / "code.ckpt")
    with pytest.raises(CheckpointError, match="could run code"):
        checkpoint_step(tmp_path / "code.ckpt")
