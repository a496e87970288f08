"""``validate --calibrate``: the temperature that a search finds, kept in the checkpoint, used by all that reads it."""

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import lightning_seg
from lightning_seg import files
from lightning_seg.checkpoints import lock
from lightning_seg.checkpoints.calibrated import keep_temperature, temperature_in
from lightning_seg.cli import main
from lightning_seg.errors import CheckpointError
from lightning_seg.files import DRAFT_SUFFIX, sha256
from lightning_seg.inference.temperature import tempered
from lightning_seg.metrics.temperature import COLDEST, HOTTEST, PIXELS, TemperatureFit
from tests.conftest import train_py
from tests.test_run_lock import other_process

LAST = Path("runs/tiny/version_0/checkpoints/last.ckpt")


def generated(seed: int, sureness: float) -> tuple[Tensor, Tensor]:
    """Probabilities (4, 3000) that are as sure as ``sureness`` times the right logits, and the truth."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(4, 3000, generator=generator)
    truth = torch.multinomial(logits.softmax(0).t(), 1, generator=generator).squeeze(1)
    return (sureness * logits).softmax(0), truth


def searched(probabilities: Tensor, truth: Tensor) -> float:
    """The best temperature by golden section, which knows nothing of derivatives."""
    logs = probabilities.double().clamp(min=1e-38).log()

    def loss(beta: float) -> float:
        return float(-(beta * logs).log_softmax(0).gather(0, truth.long()[None]).mean())

    low, high, ratio = 1 / HOTTEST, 1 / COLDEST, (5**0.5 - 1) / 2
    while high - low > 1e-7:
        one, other = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, other) if loss(one) < loss(other) else (one, high)
    return 2 / (low + high)


def fitted(*parts: tuple[Tensor, Tensor]) -> float:
    fit = TemperatureFit()
    for probabilities, truth in parts:
        fit.update(probabilities, truth)
    fit.end()
    return fit.found


@pytest.mark.parametrize("temperature", [0.3, 1.7, 4.0])
def test_probabilities_become_those_of_divided_logits(temperature: float) -> None:
    logits = 5 * torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    found = tempered(logits.softmax(1), temperature, classes=1)
    assert torch.allclose(found, (logits / temperature).softmax(1), atol=1e-6)
    assert tempered(logits, 1) is logits
    assert torch.equal(tempered(torch.tensor([1.0, 0.0]), temperature) > 0.5, torch.tensor([True, False]))


@pytest.mark.parametrize("sureness", [0.4, 1.0, 3.0])
def test_fit_finds_what_a_search_finds_in_any_order(sureness: float) -> None:
    parts = [generated(seed, sureness) for seed in range(3)]
    found = fitted(*parts)
    together = torch.cat([part for part, _ in parts], 1), torch.cat([truth for _, truth in parts])
    assert found == pytest.approx(searched(*together), rel=5e-4)
    assert found == pytest.approx(sureness, rel=0.05)
    assert fitted(*parts[::-1]) == found
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert fitted(*parts) == found
    finally:
        torch.set_num_threads(before)


def test_fit_at_the_borders() -> None:
    sure = torch.tensor([[0.9, 0.8], [0.1, 0.2]])
    assert fitted((sure, torch.tensor([0, 0]))) == COLDEST
    assert fitted((sure, torch.tensor([1, 1]))) == HOTTEST
    assert fitted() == 1


def test_pixels_that_are_no_numbers_say_nothing() -> None:
    known, nothing = generated(0, 1.7), (torch.full((4, 3), torch.nan), torch.tensor([0, 1, 2]))
    assert fitted(known, nothing) == fitted(known)
    assert fitted(nothing) == 1


def test_sample_is_of_pixels_that_count_and_the_same_again() -> None:
    truth = torch.zeros(100, 90, dtype=torch.uint8)
    truth[:50] = 255
    drawn = TemperatureFit.sample(truth, 3, 255)
    assert not drawn[:50].any()
    assert 0.35 * PIXELS < drawn.sum() < 0.5 * PIXELS
    assert torch.equal(drawn, TemperatureFit.sample(truth, 3, 255))
    assert not torch.equal(drawn, TemperatureFit.sample(truth, 4, 255))


@pytest.mark.parametrize("value", [0, -1.0, "2", float("inf"), float("nan")])
def test_a_checkpoint_with_no_temperature_above_0_is_refused(value: Any) -> None:
    with pytest.raises(CheckpointError, match=r"temperature is .* must be a number above 0"):
        temperature_in({"temperature": value})


def test_a_write_that_fails_leaves_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, link = tmp_path / "a.ckpt", tmp_path / "link.ckpt"
    torch.save({"state_dict": {"a": torch.ones(2)}, "epoch": 3}, file)
    link.symlink_to(file)
    keep_temperature(link, 1.5)
    assert link.is_symlink()
    found = torch.load(file, weights_only=True)
    assert temperature_in(found) == 1.5
    assert (found["epoch"], found["state_dict"]["a"].tolist()) == (3, [1, 1])
    before = file.read_bytes()

    def fails(*_: Any) -> None:
        raise OSError("gone")

    monkeypatch.setattr(torch, "save", fails)
    with pytest.raises(CheckpointError, match=r"temperature 2\.0000 cannot be kept in .*a\.ckpt, which stays .*: gone"):
        keep_temperature(file, 2.0)
    assert file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ckpt", "link.ckpt"]


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_half_way(_: Any, file: Any) -> None:
    file.write(b"PK" * 500)
    file.flush()
    die()


@pytest.mark.runs
@pytest.mark.parametrize(
    ("owner", "name", "last_act", "expected"),
    [(torch, "save", die_half_way, 1.5), (os, "fsync", die, 1.5), (files, "sync_folder", die, 2.5)],
    ids=["half of it is written", "all of it is written", "it bears the name"],
)
def test_a_kill_leaves_the_old_checkpoint_or_the_new_one(
    owner: Any, name: str, last_act: Callable[..., None], expected: float, tmp_path: Path
) -> None:
    file = tmp_path / "a.ckpt"
    torch.save({"state_dict": {"a": torch.arange(1000)}, "temperature": 1.5}, file)
    if (child := os.fork()) == 0:
        try:
            setattr(owner, name, last_act)
            keep_temperature(file, 2.5)
        finally:
            os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    found = torch.load(file, weights_only=True)
    assert found["temperature"] == expected
    assert torch.equal(found["state_dict"]["a"], torch.arange(1000))
    keep_temperature(file, 3.5)
    assert torch.load(file, weights_only=True)["temperature"] == 3.5
    assert not list(tmp_path.glob(f"*{DRAFT_SUFFIX}"))


@pytest.mark.runs
def test_a_kill_at_any_time_damages_no_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "a.ckpt"
    torch.save({"state_dict": {"a": torch.arange(100_000)}, "temperature": 2.0}, file)
    for attempt in range(5):
        if (child := os.fork()) == 0:
            try:
                while True:
                    for temperature in (2.0, 3.0):
                        keep_temperature(file, temperature)
            finally:
                os._exit(0)
        time.sleep(0.05 + 0.013 * attempt)
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        found = torch.load(file, weights_only=True)
        assert found["temperature"] in (2.0, 3.0)
        assert torch.equal(found["state_dict"]["a"], torch.arange(100_000))


def truths_of(scenes: Path) -> list[Tensor]:
    return [torch.from_numpy(np.asarray(Image.open(path))) for path in sorted((scenes / "val/masks").iterdir())]


@pytest.fixture
def run(experiment: Callable[..., Path], scenes: Path) -> Path:
    """A checkpoint of a network that knows the shares of the classes, and is twice as sure of them as it should be."""
    main(["fit", "--config", str(experiment()), "--trainer.max_steps", "2", "--model.overrides.SOLVER.BASE_LR", "3e-3"])
    checkpoint = torch.load(LAST, weights_only=True)
    pixels = torch.cat([one.flatten() for one in truths_of(scenes)])
    shares = torch.stack([(pixels == k).float().mean() for k in range(6)])
    checkpoint["state_dict"]["segmentor.network.sem_seg_head.predictor.weight"] *= 1e-3
    checkpoint["state_dict"]["segmentor.network.sem_seg_head.predictor.bias"] = 2 * (shares + 0.01).log()
    torch.save(checkpoint, LAST)
    return LAST


def ece_of(probabilities: list[Tensor], truths: list[Tensor]) -> float:
    """By NumPy, over all pixels that count."""
    counted = [truth.numpy() != 255 for truth in truths]
    sure = np.concatenate([p.numpy().max(0)[c] for p, c in zip(probabilities, counted, strict=True)]).astype(np.float64)
    right = np.concatenate(
        [(p.numpy().argmax(0) == t.numpy())[c] for p, t, c in zip(probabilities, truths, counted, strict=True)]
    )
    bins = np.minimum((sure * 15).astype(int), 14)
    return float(sum(abs((right[bins == b] - sure[bins == b]).sum()) for b in range(15)) / len(sure))


def test_the_command_keeps_what_a_search_finds(
    run: Path, experiment: Callable[..., Path], scenes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images, truths = sorted((scenes / "val/images").iterdir()), truths_of(scenes)
    plain = [(result.mask, torch.from_numpy(result.probabilities)) for result in lightning_seg.load(run)(images)]
    before = torch.load(run, weights_only=True)
    main(["validate", "--ckpt_path", str(run), "--calibrate"])
    after = torch.load(run, weights_only=True)
    drawn = [TemperatureFit.sample(truth, position, 255) for position, truth in enumerate(truths)]
    shown = torch.cat([p[:, some] for (_, p), some in zip(plain, drawn, strict=True)], 1)
    of_shown = torch.cat([truth[some] for truth, some in zip(truths, drawn, strict=True)])
    temperature = after.pop("temperature")
    assert temperature == pytest.approx(searched(shown, of_shown), rel=1e-3)
    assert COLDEST < temperature < HOTTEST
    assert temperature != 1
    assert after.keys() == before.keys()
    assert all(torch.equal(value, after["state_dict"][name]) for name, value in before["state_dict"].items())

    found = json.loads(Path("runs/tiny/version_1/metrics.json").read_text())
    calibrated = [tempered(p, temperature) for _, p in plain]
    assert found["calibration"]["ECE"] == pytest.approx(ece_of(calibrated, truths), abs=1e-5)
    assert found["calibration"]["temperature"] == temperature
    assert (found["weights"]["source"], found["weights"]["path"]) == ("checkpoint", str(run.absolute()))
    assert found["weights"]["sha256"] == sha256(run)
    maps = [torch.from_numpy(mask) for mask, _ in plain]
    right = [(one == truth)[truth != 255] for one, truth in zip(maps, truths, strict=True)]
    assert found["pAcc"] == pytest.approx(torch.cat(right).double().mean().item(), abs=1e-9)
    line = re.search(r"Temperature (\S+) \(before: (\S+)\), kept in (\S+)\. .*: (\S+) \(before: (\S+)\)", caplog.text)
    assert line is not None
    assert (line[2], line[3]) == ("1.0000", str(run))
    assert float(line[1]) == pytest.approx(temperature, abs=1e-4)
    assert float(line[4]) == pytest.approx(found["calibration"]["ECE"], abs=1e-4)
    assert float(line[5]) == pytest.approx(ece_of([p for _, p in plain], truths), abs=1e-4)

    loaded = lightning_seg.load(run)
    for (mask, _), expected, result in zip(plain, calibrated, loaded(images), strict=True):
        assert np.array_equal(result.mask, mask)
        assert np.abs(result.probabilities - expected.numpy()).max() < 1e-6
        assert np.array_equal(result.confidence, result.probabilities.max(0))
    main(
        ["predict", "--ckpt_path", str(run), "--data.predict", str(images[0]), "--save", "confidence", "--output", "o"]
    )
    pixels = np.asarray(Image.open(f"o/confidence/{images[0].stem}.png"))
    assert np.abs(pixels - calibrated[0].amax(0).numpy() * 255).max() < 0.51

    main(["validate", "--ckpt_path", str(run), "--calibrate"])  # begins at the probabilities of 1 again
    assert torch.load(run, weights_only=True)["temperature"] == temperature
    main(["fit", "--config", str(experiment()), "--ckpt_path", "last", "--trainer.max_steps", "4"])
    assert f"The checkpoint's temperature {temperature:.4f} is that of its own weights" in caplog.text
    assert "temperature" not in torch.load(run, weights_only=True)  # of other weights


def test_two_processes_find_what_one_finds(run: Path) -> None:
    other = Path(shutil.copy(run, run.with_name("other.ckpt")))
    given = ["validate", "--calibrate", "--data.batch_size", "1"]  # a network may round by its batch
    main([*given, "--ckpt_path", str(run)])
    done = train_py(*given, "--ckpt_path", str(other), "--trainer.devices", "2", "--trainer.strategy", "ddp")
    assert done.returncode == 0, done.stderr
    temperatures = [torch.load(path, weights_only=True)["temperature"] for path in (run, other)]
    assert temperatures[0] == temperatures[1] != 1
    figures = [json.loads(Path(f"runs/tiny/version_{number}/metrics.json").read_text()) for number in (1, 2)]
    assert [one.pop("weights")["path"] for one in figures] == [str(path.absolute()) for path in (run, other)]
    assert figures[0] == figures[1]
    assert figures[0]["calibration"]["temperature"] == temperatures[0]
    assert done.stderr.count("Temperature ") == 1


def test_a_run_in_training_and_a_folder_that_cannot_be_written_to_are_refused(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lock, "_PATIENCE", 0.2)
    before, given = run.read_bytes(), ["validate", "--ckpt_path", str(run), "--calibrate"]
    with other_process(run.parent.parent), pytest.raises(SystemExit) as caught:
        main(given)
    assert caught.value.code == 1
    said = capsys.readouterr().err
    assert "version_0 is being trained by process" in said
    assert "or copy the checkpoint, and calibrate the copy (only if" in said
    access, closed = os.access, run.parent.resolve()  # root may write anywhere
    monkeypatch.setattr(os, "access", lambda path, mode, **more: path != closed and access(path, mode, **more))
    with pytest.raises(SystemExit) as caught:
        main(given)
    assert caught.value.code == 1
    assert f"keeps the temperature in {run.absolute()}, but its folder cannot be written to" in capsys.readouterr().err
    assert run.read_bytes() == before
    assert [path.name for path in run.parent.parent.parent.iterdir()] == ["version_0"]


def test_what_cannot_be_calibrated_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ["--config", "runs/tiny/version_0/config.yaml"]
    ignored = Path("ignored").absolute()
    for kind in ("images", "masks"):
        (ignored / kind).mkdir(parents=True)
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(ignored / "images/a.png")
    Image.fromarray(np.full((48, 64), 255, np.uint8)).save(ignored / "masks/a.png")
    nothing = {
        "class_path": "Folder",
        "init_args": {"images": str(ignored / "images"), "masks": str(ignored / "masks")},
    }
    for arguments, message in (
        (["validate", *config, "--calibrate"], "keeps the temperature in a checkpoint: give --ckpt_path"),
        (
            ["validate", "--ckpt_path", str(run), "--calibrate", "--trainer.fast_dev_run", "true"],
            "leave out trainer.fast",
        ),
        (
            ["validate", "--ckpt_path", str(run), "--calibrate", "--data.val", json.dumps(nothing)],
            "no pixel that counts",
        ),
    ):
        before = run.read_bytes()
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 1
        assert message in capsys.readouterr().err
        assert run.read_bytes() == before
    assert "temperature" not in torch.load(run, weights_only=True)
