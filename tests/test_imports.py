"""The user's own files."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from lightning_seg.errors import ConfigError
from lightning_seg.imports import import_user_code


def test_runs_each_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "log"
    for folder in ("a", "b"):
        Path(folder).mkdir()
        Path(folder, "head.py").write_text(f"open({str(log)!r}, 'a').write({folder!r})")
    import_user_code(["a/head.py", "b/head.py", str(tmp_path / "a" / "head.py"), "json"], "model.imports")
    assert log.read_text() == "ab"


def test_classes_have_the_name_of_their_file(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for name in ("own_classes", "json", "not-a-name"):
            (tmp_path / folder / f"{name}.py").write_text(f"class Mine:\n    origin = {folder!r}\n")
            import_user_code([str(tmp_path / folder / f"{name}.py")], "data.imports")
    assert importlib.import_module("own_classes").Mine.origin == "a"  # the first, if there are two
    assert not hasattr(json, "Mine")
    assert len([name for name in sys.modules if name.startswith(("user_own_classes_", "user_json_"))]) == 3


@pytest.mark.parametrize(
    ("source", "text", "message"),
    [
        ("none.py", None, r"model\.imports none\.py does not exist \(looked for .*none\.py\)"),
        ("bad.py", "x = 1\nx.y", r"AttributeError: .* \(.*bad\.py, line 2: x\.y\)"),
        ("lost.py", "x = 1\nopen('gone')", r"FileNotFoundError: .*'gone' \(.*lost\.py, line 2: open\('gone'\)\)"),
        ("torn.py", "def", r"SyntaxError: .*\(torn\.py, line 1\)$"),
        ("no_such_module", None, r"ModuleNotFoundError: No module named 'no_such_module'"),
    ],
)
def test_names_file_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, text: str | None, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path(source).write_text(text)
    before = set(sys.modules)
    for _ in range(2):  # a file that failed is tried again
        with pytest.raises(ConfigError, match=message):
            import_user_code([source], "model.imports")
    assert not [name for name in set(sys.modules) - before if name.startswith("user_")]
