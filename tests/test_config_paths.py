"""Paths in a YAML that begin with ``./`` or ``../``."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_seg.cli import main
from lightning_seg.config_paths import expanded, with_paths_from

TEXT = """# ./ in a comment
model:
  config: ./base.yaml
  imports: ["./head.py", ../shared/more.py, plain.py]
  overrides: {A.B: 1e-4, "C": './weights.pth'}
data:
  root: &root ../photos
  train: {class_path: lightning_seg.data.Folder, init_args: {images: ./i, masks: masks}}
  predict: *root
"""


def test_what_no_user_or_variable_has_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("SCRATCH", "/scratch")
    assert expanded("~/a") == "/home/me/a"
    assert expanded("$SCRATCH/${SCRATCH}") == "/scratch//scratch"
    for path in ("~nosuch/a", "$NONE/a", "~\0/a", "a//b/./~"):
        assert expanded(path) == path


def test_only_such_paths_change() -> None:
    text = with_paths_from(Path("/w/configs"), TEXT, Path("/w"))
    found = yaml.safe_load(text)
    assert found["model"]["config"] == "configs/base.yaml"
    assert found["model"]["imports"] == ["configs/head.py", "shared/more.py", "plain.py"]
    assert found["model"]["overrides"]["C"] == "configs/weights.pth"
    assert found["data"]["root"] == found["data"]["predict"] == "/w/photos"
    assert found["data"]["train"]["init_args"] == {"images": "/w/configs/i", "masks": "masks"}
    assert text.splitlines()[0] == TEXT.splitlines()[0]
    assert "A.B: 1e-4," in text


def test_beside_the_working_directory_they_are_absolute() -> None:
    text = with_paths_from(Path("/elsewhere"), "model: {config: ./a.yaml, weights: ../b.pth}", Path("/w"))
    assert yaml.safe_load(text) == {"model": {"config": "/elsewhere/a.yaml", "weights": "/b.pth"}}


@pytest.mark.parametrize("text", ["model: {config: ./a.yaml", "", "./a", "- ./a: [", "model: {weights: ''}"])
def test_what_is_no_configuration_is_left_to_the_parser(text: str) -> None:
    assert with_paths_from(Path("/w"), text, Path("/w")) in (text, '"a"')


def parsed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--print_config"])
    printed = capsys.readouterr()
    assert caught.value.code == 0, printed.err
    return yaml.safe_load(printed.out)


def test_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of a flag are relative to the working directory; a group's file lies beside the YAML that names it."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/part.yaml").write_text("{batch_size: 3}")
    (tmp_path / "configs/a.yaml").write_text("model: {config: ./base.yaml, weights: ../w.pth}\ndata: ./part.yaml")
    (tmp_path / "configs/main.yaml").write_text("fit: {model: {config: ./base.yaml}}")
    monkeypatch.chdir(tmp_path)
    found = parsed(capsys, "fit", "--config", "configs/a.yaml", "--data.root", "./photos")
    assert found["model"]["config"] == "configs/base.yaml"
    assert found["model"]["weights"] == "w.pth"
    assert found["data"]["root"] == "./photos"
    assert found["data"]["batch_size"] == 3
    assert parsed(capsys, "--config", "configs/main.yaml", "fit")["model"]["config"] == "configs/base.yaml"
    monkeypatch.setenv("PL_FIT__CONFIG", "configs/a.yaml")
    assert parsed(capsys, "fit")["model"]["config"] == "configs/base.yaml"


def test_what_a_command_prints_holds_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run's ``config.yaml`` lies elsewhere than its first one, and has paths of flags too."""
    (tmp_path / "a.yaml").write_text("model: {config: ./base.yaml}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["fit", "--config", "a.yaml", "--data.root", "../photos", "--model.weights", "./w.pth", "--print_config"])
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/config.yaml").write_text(capsys.readouterr().out)
    found = parsed(capsys, "fit", "--config", "runs/config.yaml")
    assert found["model"]["config"] == "base.yaml"
    assert found["data"]["root"] == "../photos"
    assert found["model"]["weights"] == "./w.pth"


def test_a_users_file_beside_its_config_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """``./mine.py`` is that of the config's folder, also where the working directory has one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "chosen_here.py").write_text("raise RuntimeError('the wrong file')")
    (tmp_path / "sub/chosen_here.py").write_text("import albumentations as A\nclass Mine(A.HorizontalFlip): pass")
    (tmp_path / "sub/a.yaml").write_text(
        "data: {imports: [./chosen_here.py], train_transforms: [{class_path: chosen_here.Mine}]}\nmodel: {config: a}"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    for config in ("sub/a.yaml", "~/sub/a.yaml"):
        found = parsed(capsys, "fit", "--config", config)
        assert found["data"]["imports"] == [str(tmp_path / "sub/chosen_here.py")]
        assert found["data"]["train_transforms"][0]["class_path"] == "chosen_here.Mine"


def test_a_users_file_of_a_flag_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "of_a_flag.py").write_text("import albumentations as A\nclass Mine(A.HorizontalFlip): pass")
    with pytest.raises(SystemExit):
        main(["fit", "--model.config", "a", "--data.imports", "[./of_a_flag.py]", "--print_config"])
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/config.yaml").write_text(capsys.readouterr().out)
    assert parsed(capsys, "fit", "--config", "runs/config.yaml")["data"]["imports"] == ["./of_a_flag.py"]
