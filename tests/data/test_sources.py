"""Images and masks whose bytes are in no file of their own, by a source and a reader in a user's own file."""

import json
import pickle
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from PIL import Image

from lightning_seg import audit
from lightning_seg.cli import main
from lightning_seg.data.listing.files import file_digest
from lightning_seg.data.loading.records import Records
from lightning_seg.data.readers import Reader, Split
from lightning_seg.data.reading import read_header, read_image, read_mask
from lightning_seg.errors import UnreadableError
from lightning_seg.sources import ByteSource, name_below
from lightning_seg.structures import Sample
from tests.conftest import folder

USERS_FILE = '''
"""Images in memory."""

from io import BytesIO
from pathlib import Path

from lightning_seg.data import ByteSource, Reader
from lightning_seg.structures import Sample

BYTES = {path.relative_to("SCENES").as_posix(): path.read_bytes() for path in Path("SCENES").rglob("*.*")}


class InMemory(ByteSource):
    def __init__(self, key):
        self.key = key

    def open(self):
        return BytesIO(BYTES[self.key])

    def __str__(self):
        return "memory:" + self.key


class Memory(Reader):
    def __init__(self, part: str):
        self.part = part

    def samples(self, root):
        stems = sorted(Path(key).stem for key in BYTES if key.startswith(self.part + "/images/"))
        return [
            Sample(stem, InMemory(f"{self.part}/images/{stem}.jpg"), InMemory(f"{self.part}/masks/{stem}.png"))
            for stem in stems
        ]
'''

STORE: dict[str, bytes] = {}


class Stored(ByteSource):
    """One entry of :data:`STORE`."""

    def __init__(self, key: str) -> None:
        self.key = key

    def open(self) -> BinaryIO:
        if self.key not in STORE:
            raise FileNotFoundError(self.key)
        return BytesIO(STORE[self.key])

    def __str__(self) -> str:
        return f"store.bin/{self.key}"


@pytest.fixture(autouse=True)
def _store() -> None:
    STORE.clear()
    for key, pixels in (("a.png", np.full((3, 4, 3), 90, np.uint8)), ("m.png", np.eye(3, 4, dtype=np.uint8))):
        file = BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        STORE[key] = file.getvalue()


@pytest.mark.runs
def test_a_run_on_bytes_in_memory_is_the_run_on_files(
    experiment: Callable[..., Path], scenes: Path, tmp_path: Path
) -> None:
    """Trained, validated, audited and predicted; two processes load."""
    (tmp_path / "users_memory.py").write_text(USERS_FILE.replace("SCENES", str(scenes)))

    def memory(part: str) -> dict[str, Any]:
        return {"class_path": "users_memory.Memory", "init_args": {"part": part}}

    def run(name: str, predict: str | dict[str, Any], **data: Any) -> tuple[Any, list[Path]]:
        config = str(experiment(num_workers=2, test=None, **data))
        options = ["--config", config, "--name", name, "--trainer.max_steps=1", "--trainer.max_epochs=-1"]
        assert audit.main(options) == 0
        main(["fit", *options])
        given = f"--data.predict={predict if isinstance(predict, str) else json.dumps(predict)}"
        main(["predict", *options, f"--ckpt_path=runs/{name}/version_1", given])
        metrics = json.loads(Path(f"runs/{name}/version_1/metrics.json").read_text())
        found = json.loads(Path(f"runs/{name}/version_0/audit.json").read_text())
        assert Path(f"runs/{name}/version_1/predictions.png").is_file()
        shown = sorted(Path(f"runs/{name}/version_2/predictions").glob("*/*.*"))
        return (metrics["confusion_matrix"], found), shown

    in_memory, shown = run(
        "memory", memory("val"), imports=["users_memory.py"], train=memory("train"), val=memory("val")
    )
    on_disk, expected = run("disk", "val/images", train=folder("train"), val=folder("val"))
    assert in_memory == on_disk
    assert [path.name for path in shown] == [path.name for path in expected] != []
    for mine, theirs in zip(shown, expected, strict=True):
        assert mine.read_bytes() == theirs.read_bytes()


def test_everything_that_is_read_of_a_file_is_read_of_a_source() -> None:
    image, mask = Stored("a.png"), Stored("m.png")
    assert read_image(image).tolist() == np.full((3, 4, 3), 90).tolist()
    assert np.array_equal(read_mask(mask).values, np.eye(3, 4))
    assert read_header(image, "image").upright == (3, 4)
    assert file_digest(image, whole=True)[0] == len(STORE["a.png"])


def test_what_cannot_be_read_is_named() -> None:
    with pytest.raises(UnreadableError, match=r"^image store\.bin/b\.png does not exist$"):
        read_image(Stored("b.png"))
    STORE["b.png"] = STORE["a.png"][:40]
    with pytest.raises(UnreadableError, match=r"^mask store\.bin/b\.png cannot be read \(.*\): replace or remove it$"):
        read_mask(Stored("b.png"))


def test_existence_is_found_out_by_opening() -> None:
    class Broken(Stored):
        def open(self) -> BinaryIO:
            raise KeyError(self.key)

    assert Stored("a.png").exists()
    assert not Stored("b.png").exists()
    assert Broken("b.png").exists()  # reading says what is wrong


def test_sources_of_one_name_are_equal_also_after_a_journey() -> None:
    sample = Sample("a", Stored("a.png"), Stored("m.png"))
    assert pickle.loads(pickle.dumps(sample)) == sample
    assert hash(Stored("a.png")) == hash(Stored("a.png"))
    assert Stored("a.png") != Stored("m.png")
    samples = [sample, Sample("b", Path("images/b.jpg"), Path("masks/b.png")), Sample("c", Stored("c.png"))]
    assert Records(samples)[:] == samples


@pytest.mark.parametrize(
    ("root", "name"), [("/data", "set.zip/a.png"), ("/data/set.zip", "a.png"), ("/dat", "/data/set.zip/a.png")]
)
def test_a_source_below_a_folder_is_named_from_there(root: str, name: str) -> None:
    class Member(Stored):
        def __str__(self) -> str:
            return f"/data/set.zip/{self.key}"

    assert name_below(Member("a.png"), Path(root)) == name
    assert name_below(Member("a.png"), None) == "/data/set.zip/a.png"
    assert name_below(Stored("x//y"), Path("/data")) == "store.bin/x//y"  # as it says, where that is no path below


def test_samples_are_grouped_by_the_names_of_their_sources() -> None:
    class Frames(Reader):
        def samples(self, root: Path | None) -> list[Sample]:
            return [
                Sample(f"{scene}{frame}", Stored(f"scene_{scene}/{frame}.png")) for scene in "abcd" for frame in "xy"
            ]

    parts = [
        Split(Frames(), part, (0.5, 0.5, 0.0), group_by="(scene_.)").samples(None)  # type: ignore[arg-type]
        for part in ("train", "val")
    ]
    scenes = [{sample.name[0] for sample in part} for part in parts]
    assert scenes[0] | scenes[1] == set("abcd")
    assert not scenes[0] & scenes[1]
