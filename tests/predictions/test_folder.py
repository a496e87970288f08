"""A folder of predictions: what is done stays, what is not is done, and nothing is mixed up."""

import csv
import json
import os
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from PIL import Image

from lightning_seg.colours import default_palette
from lightning_seg.data.reading.video import Frame
from lightning_seg.errors import ConfigError
from lightning_seg.predictions import Prediction
from lightning_seg.predictions.folder import PredictionFolder
from lightning_seg.predictions.record import Input, Inputs
from lightning_seg.sources import ByteSource
from lightning_seg.structures import DatasetInfo, Sample
from tests.predictions.videos import write_video

INFO = DatasetInfo(("x", "y"), 255, default_palette(2))
IMAGE = np.zeros((4, 6, 3), np.uint8)
SCORES = np.zeros((2, 4, 6), np.float32)
MADE_WITH = {"checkpoint": "abc", "trainer.precision": "32-true"}


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    (tmp_path / "in").mkdir()
    for name in ("b", "a", "c"):
        Image.fromarray(IMAGE).save(tmp_path / "in" / f"{name}.png")
    return [Sample(name, tmp_path / "in" / f"{name}.png") for name in ("b", "a", "c")]


def folder(path: Path, *formats: str, overwrite: bool = False, **changed: str) -> PredictionFolder:
    return PredictionFolder(path / "out", formats or ("masks",), {**MADE_WITH, **changed}, overwrite=overwrite)


def predict(into: PredictionFolder, samples: list[Sample], *places: int, value: int = 1, rank: int = 0) -> None:
    labels = np.full((4, 6), value, np.uint8)
    for place in places:
        sample = samples[place]
        into.write(Prediction(sample.name, labels, INFO, lambda: IMAGE, lambda: SCORES), Path(str(sample.image)), rank)
    into.close()


def value(path: Path, name: str) -> int:
    return int(np.asarray(Image.open(path / f"out/masks/{name}.png")).max())


def test_goes_on_with_what_is_not_done(tmp_path: Path, samples: list[Sample]) -> None:
    assert folder(tmp_path).begin(samples) == set()
    predict(folder(tmp_path), samples, 2)
    predict(folder(tmp_path), samples, 0, rank=1)
    assert folder(tmp_path).begin(samples) == {0, 2}
    assert folder(tmp_path, "masks", "coco").begin(samples) == set()
    (tmp_path / "out/masks/c.png").write_bytes(b"")  # after a power cut
    assert folder(tmp_path).begin(samples) == {0}
    (tmp_path / "out/masks/c.png").unlink()
    assert folder(tmp_path).begin(samples) == {0}


def test_a_line_that_was_cut_off_does_not_count(tmp_path: Path, samples: list[Sample]) -> None:
    folder(tmp_path).begin(samples)
    predict(folder(tmp_path), samples, 0, 1)
    notes = tmp_path / "out/inputs-0.csv"
    notes.write_bytes(notes.read_bytes()[:-1])
    assert folder(tmp_path).begin(samples) == {0}


def test_a_file_that_has_changed_is_predicted_again_in_every_format(tmp_path: Path, samples: list[Sample]) -> None:
    folder(tmp_path).begin(samples)
    predict(folder(tmp_path, "masks", "overlays"), samples, 0, 1)
    os.utime(tmp_path / "in/b.png", ns=(1, 1))
    assert folder(tmp_path).begin(samples) == {1}
    assert not (tmp_path / "out/overlays/b.jpg").exists()  # of the old one, which --save masks would leave
    (tmp_path / "in/a.png").unlink()
    assert folder(tmp_path).begin(samples) == set()


class Member(ByteSource):
    def __init__(self, name: str) -> None:
        self.name = name

    def open(self) -> BinaryIO:
        return BytesIO()

    def __str__(self) -> str:
        return self.name


def test_members_of_an_archive_are_as_old_as_it(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"1")
    members = [Sample(name, Member(str(tmp_path / "a.zip/x" / name))) for name in "ab"]
    folder(tmp_path).begin(members)
    predict(folder(tmp_path), members, 1)
    assert folder(tmp_path).begin(members) == {1}
    (tmp_path / "a.zip").write_bytes(b"12")
    assert folder(tmp_path).begin(members) == set()


def test_the_table_is_in_the_order_of_the_inputs(tmp_path: Path, samples: list[Sample]) -> None:
    folder(tmp_path).begin(samples)
    for rank, place in enumerate((2, 0, 1)):
        predict(folder(tmp_path), samples, place, rank=rank)
    folder(tmp_path).end(samples, INFO.names)
    with (tmp_path / "out/inputs.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert [row["name"] for row in rows] == ["b", "a", "c"]
    assert rows[0]["file"] == str(samples[0].image)
    assert int(rows[0]["bytes"]) == (tmp_path / "in/b.png").stat().st_size
    assert not list((tmp_path / "out").glob("inputs-*"))
    assert json.loads((tmp_path / "out/made_with.json").read_text()) == MADE_WITH


def test_other_predictions_are_refused_or_replaced(tmp_path: Path, samples: list[Sample]) -> None:
    folder(tmp_path).begin(samples)
    predict(folder(tmp_path, "masks", "overlays"), samples, 0, 1)
    folder(tmp_path).end(samples, INFO.names)
    folder(tmp_path).refuse_others()
    message = (
        r'out holds predictions that were made otherwise \(checkpoint: "abc" there, "def" here\): give another --output'
    )
    with pytest.raises(ConfigError, match=message):
        folder(tmp_path, checkpoint="def").refuse_others()
    anew = folder(tmp_path, overwrite=True, checkpoint="def")
    anew.refuse_others()
    assert anew.begin(samples[1:]) == set()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"made_with.json"}
    predict(anew, samples, 1, value=0)
    assert value(tmp_path, "a") == 0


def test_what_predict_has_not_written_is_never_touched(tmp_path: Path, samples: list[Sample]) -> None:
    (tmp_path / "out/masks").mkdir(parents=True)
    folder(tmp_path).refuse_others()
    (tmp_path / "out/masks/a.png").write_bytes(b"mine")
    for overwrite in (False, True):
        with pytest.raises(
            ConfigError, match=r"out holds masks, and nothing says that predict wrote it: give another --out"
        ):
            folder(tmp_path, overwrite=overwrite).refuse_others()
    folder(tmp_path, "coco").refuse_others()
    (tmp_path / "out/config.yaml").touch()
    with pytest.raises(ConfigError, match=r"out holds config\.yaml, and nothing says"):
        folder(tmp_path, "coco").refuse_others()


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ConfigError, match=r"out cannot be written to \(File exists\): give another --output"):
        folder(tmp_path).claim()
    with pytest.raises(ConfigError, match=r"below/out cannot be written to \(Not a directory\)"):
        folder(tmp_path / "out/below").claim()


def test_coco_is_joined_again_where_anything_was_added(tmp_path: Path, samples: list[Sample]) -> None:
    def joined() -> list[str]:
        return [image["file_name"] for image in json.loads((tmp_path / "out/coco.json").read_text())["images"]]

    folder(tmp_path, "coco").begin(samples[:2])
    predict(folder(tmp_path, "coco"), samples, 1, 0)
    folder(tmp_path, "coco").end(samples[:2], INFO.names)
    assert joined() == ["b.png", "a.png"]
    assert folder(tmp_path, "coco").begin(samples) == {0, 1}
    assert not (tmp_path / "out/coco.json").exists()  # a kill must not leave one that is not complete
    predict(folder(tmp_path, "coco"), samples, 2)
    folder(tmp_path, "coco").end(samples, INFO.names)
    assert joined() == ["b.png", "a.png", "c.png"]
    kept = (tmp_path / "out/coco.json").stat()
    assert folder(tmp_path, "coco").begin(samples) == {0, 1, 2}
    folder(tmp_path, "coco").end(samples, INFO.names)
    assert (tmp_path / "out/coco.json").stat() == kept


def test_without_a_record_everything_is_written_anew(tmp_path: Path, samples: list[Sample]) -> None:
    for number in (0, 1):
        plain = PredictionFolder(tmp_path / "out")
        assert plain.begin(samples) == set()
        predict(plain, samples, 0, value=number)
        plain.end(samples, INFO.names)
        assert value(tmp_path, "b") == number
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"masks", "overlays"}


def test_names_that_are_no_text_and_hold_anything(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    odd = [Input('a,"\n1', os.fsdecode(b"/x/\xff.png"), "1", "2"), Input("é", "/y", "3", "4")]
    for entry in odd:
        inputs.note(entry, 3)
    inputs.close()
    assert [*inputs.join(["é"]).values()] == odd[::-1]
    assert [*inputs.join([]).values()] == sorted(odd)


def test_overlays_of_a_video_become_a_video(tmp_path: Path) -> None:
    import cv2

    write_video(tmp_path / "clip.avi", 5, size=(33, 45), rate=8)
    frames = [Sample(f"x/clip/{number:06d}", Frame(tmp_path / "clip.avi", number)) for number in range(5)]
    into = folder(tmp_path, "masks", "overlays")
    into.begin(frames)
    for number, frame in enumerate(frames):
        image = np.full((33, 45, 3), 40 * number, np.uint8)
        labels = np.zeros((33, 45), np.uint8)
        into.write(
            Prediction(frame.name, labels, INFO, partial(np.copy, image), lambda: SCORES),
            Path(str(frame.image)),
            number % 2,
        )
    into.close()
    into.end(frames, INFO.names)
    video = cv2.VideoCapture(str(tmp_path / "out/videos/x/clip.mp4"))
    assert video.get(cv2.CAP_PROP_FPS) == 8
    shown = []
    while (found := video.read())[0]:
        shown.append(found[1])
    assert len(shown) == 5
    assert shown[0].shape == (34, 46, 3)
    expected = [0.45 * 40 * number + 0.55 * np.mean(INFO.palette[0]) for number in range(5)]
    assert np.abs([frame.mean() - value for frame, value in zip(shown, expected, strict=True)]).max() < 4
    assert folder(tmp_path, "masks", "overlays").begin(frames) == {0, 1, 2, 3, 4}
    write_video(tmp_path / "clip.avi", 6, size=(33, 45))
    assert folder(tmp_path, "masks", "overlays").begin(frames) == set()  # the video is another one
    assert not (tmp_path / "out/videos/x/clip.mp4").exists()
