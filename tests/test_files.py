"""A file is the old one or the new one, whatever happens while it is written."""

from pathlib import Path

import pytest

from lightning_seg.files import remove_drafts, replacing


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "a.txt"
    with replacing(path, "w") as file:
        file.write("old\r\n")
    with pytest.raises(KeyError), replacing(path, "w") as file:  # noqa: PT012
        file.write("new")
        file.flush()
        assert path.read_bytes() == b"old\r\n"
        raise KeyError
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]
    assert path.read_bytes() == b"old\r\n"


def test_drafts_of_killed_processes_are_removed(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt.part").touch()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    remove_drafts(tmp_path)
    assert [path.name for path in tmp_path.rglob("*.*")] == ["last.ckpt"]
