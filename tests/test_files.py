"""A file is the old one or the new one, whatever happens while it is written."""

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
import torch

from lightning_seg import audit, cli, plot
from lightning_seg.checkpoints.writing import DurableCheckpointIO
from lightning_seg.errors import DataError, DiskFullError
from lightning_seg.files import inside, naming_full_disk, remove_drafts, replacing
from tests.conftest import REPOSITORY


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


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """No file of this process can grow past so many bytes: a write fails as on a full disk, with another number."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_named_and_takes_nothing_away(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    io = DurableCheckpointIO()
    for size, kept in ((50_000, ""), (200_000, r" The earlier last.ckpt is still there and whole\.")):
        error = rf"last.ckpt cannot be written: File too large \(\d+ of \d+ MiB are free\)\.{kept} Make room and give"
        with pytest.raises(DiskFullError, match=error), file_limit(size):
            io.save_checkpoint({"a": torch.zeros(size)}, path)  # torch: "unexpected pos"
        io.save_checkpoint({"a": 1}, path)
    assert io.load_checkpoint(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_want_of_room_shows_behind_other_errors_and_others_stay(tmp_path: Path, number: int) -> None:
    def save() -> None:
        with naming_full_disk(tmp_path), naming_full_disk(tmp_path / "a"):
            try:
                raise OSError(number, "…")
            except OSError:
                raise RuntimeError("unexpected pos") from None

    with pytest.raises(DiskFullError, match=rf"^{tmp_path}/a cannot be written: {os.strerror(number)}"):
        save()
    with pytest.raises(PermissionError), naming_full_disk(tmp_path):
        raise PermissionError(errno.EACCES, "…")


def test_drafts_of_killed_processes_are_removed(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt.part").touch()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    remove_drafts(tmp_path)
    assert [path.name for path in tmp_path.rglob("*.*")] == ["last.ckpt"]


@pytest.mark.parametrize("name", ["../b.png", "a/../../b.png", "/etc/b.png", "..", ".", "", "a/.."])
@pytest.mark.parametrize("folder", ["run/masks", "."])
def test_no_name_leads_out_of_its_folder(
    tmp_path: Path, name: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"a sample is named .*, which leads out of .*: name it by a relative path"):
        inside(Path(folder), name)
    assert list(tmp_path.iterdir()) == []


def test_names_inside(tmp_path: Path) -> None:
    assert inside(tmp_path, "a/../b/..c.png") == tmp_path / "b/..c.png"
    assert (tmp_path / "b").is_dir()


def test_text_is_utf8_whatever_the_locale_says(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("größe", encoding="utf-8")
    code = (
        "import sys; from lightning_seg.files import use_utf8; use_utf8(); text = open(sys.argv[1]).read(); "
        "open(sys.argv[1], 'w').write(text * 2); print(text)"
    )
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], env=plain, capture_output=True, text=True, check=True
    )
    assert done.stdout == "gr\\xf6\\xdfe\n"
    assert file.read_text(encoding="utf-8") == "größegröße"


@pytest.mark.parametrize("command", [cli, audit, plot])
def test_every_command_sees_to_that_first(command: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "use_utf8", stop)
    with pytest.raises(KeyboardInterrupt):
        command.main(["--config", "there is none.yaml"])
