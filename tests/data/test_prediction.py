"""Which files predict takes, what it leaves out aloud, and how it goes on after one that it cannot read."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from lightning_seg.cli import main
from lightning_seg.data import Coco, Folder, Manifest
from lightning_seg.data.labels.label_map import Labelling
from lightning_seg.data.listing.once import Listings
from lightning_seg.data.listing.prediction import images_to_predict
from lightning_seg.data.readers import Reader
from lightning_seg.data.reading import ReadingRules, read_image
from lightning_seg.errors import DataError
from lightning_seg.running.ending import refuse_failures
from lightning_seg.structures import DatasetInfo
from tests.predictions.videos import write_video


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (200, 100, 0)).save(folder / name)


def names(given: Path | str, *readers: Reader, root: Path | None = None) -> list[str]:
    return [sample.name for sample in images_to_predict(str(given), root, readers)]


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    caplog.set_level(logging.INFO, "pytorch_lightning.utilities.rank_zero")
    return lambda: caplog.text


def test_every_format_that_can_be_read_and_the_others_by_name(tmp_path: Path, said: Callable[[], str]) -> None:
    suffixes = ("avif", "bmp", "gif", "jfif", "jp2", "jpg", "png", "ppm", "tif", "webp")
    write(tmp_path, *(f"{suffix}.{suffix}" for suffix in suffixes), "UPPER.JPG")
    for name in ("a.heic", "b.heic", "notes.txt", "README"):
        (tmp_path / name).write_text("")
    assert names(tmp_path) == ["UPPER", *suffixes]
    assert "leaves out files without the suffix of an image (4): .heic (2), no suffix (1), .txt (1)" in said()
    for suffix in suffixes:
        assert read_image(tmp_path / f"{suffix}.{suffix}").shape == (4, 4, 3)


def test_masks_in_the_folder_are_left_out(tmp_path: Path, said: Callable[[], str]) -> None:
    write(tmp_path, "val/images/a.png", "val/masks/a.png", "new/b.jpg", "new/b.png", "new/c.png", "new/d_mask.png")
    reader = Folder("val/images", "val/masks")
    assert names(tmp_path / "val", reader, root=tmp_path) == ["images/a"]
    assert "leaves out the masks among the images (1): " in said()
    assert "val/masks/a.png; name one alone to predict it" in said()
    assert names("new", reader, root=tmp_path) == ["b", "c", "d_mask"]  # named as masks of that reader are
    assert names("new", Folder("x", "y", mask_name="{stem}_mask.png"), root=tmp_path) == [
        "b.jpg",
        "b.png",
        "c",
        "d_mask",
    ]
    write(tmp_path, "new/d.jpg")
    assert names("new", Folder("x", "y", mask_name="{stem}_mask.png"), root=tmp_path)[-1] == "d"
    Image.new("RGB", (4, 5)).save(tmp_path / "new/b.png")  # another picture
    assert names("new", reader, root=tmp_path) == ["b.jpg", "b.png", "c", "d", "d_mask"]
    assert names(tmp_path / "val/masks/a.png", reader, root=tmp_path) == ["a"]  # asked for by name
    with pytest.raises(
        DataError, match=r"holds no image .* but masks \(1\) and other files \(0\): name a folder of images"
    ):
        names(tmp_path / "val/masks", reader, root=tmp_path)


def test_an_image_that_claims_too_many_pixels_is_left_to_its_reader(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", "a.png", "b.png")
    (tmp_path / "a.png").write_bytes(b"P6\n60000 60000\n255\n" + bytes(100))
    reader = Folder("x", "y")
    assert names(tmp_path, reader) == ["a.jpg", "a.png", "b"]
    rules = ReadingRules(bands=(1, 2))
    info = DatasetInfo(("road", "car"), 255, ((0, 0, 0), (9, 9, 9)))
    listings = Listings({}, str(tmp_path / "a.png"), None, Labelling(info, {}, {}, "refuse"), rules)
    assert listings.type_of_images(["predict"]) == "uint8"


def test_masks_of_any_reader(tmp_path: Path) -> None:
    write(tmp_path, "x/1.png", "x/one_truth.png", "x/2.png")
    (tmp_path / "list.csv").write_text("image,mask\nx/1.png,x/one_truth.png\n")
    (tmp_path / "coco.json").write_text("no JSON: it is never read")
    readers = [Manifest("list.csv"), Coco("coco.json", "x"), Folder("gone", "gone")]
    assert names(tmp_path / "x", *readers, root=tmp_path) == ["1", "2"]


def test_no_name_leads_out_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a/1.png", "b/c/d/2.png", "3.png")
    monkeypatch.chdir(tmp_path / "b" / "c")
    assert names("*/../../../*/*.png") == ["1"]
    assert names("../../*/../*.png") == ["3"]  # once, whatever the number of ways to it
    assert names("../../**/*.png") == ["3", "a/1", "b/c/d/2"]


def test_a_list_names_its_images_a_line_each(tmp_path: Path) -> None:
    write(tmp_path, "lists/a.jpg", "lists/b/ä 1.png", "other/c.png")
    (tmp_path / "lists/near.txt").write_text("b/ä 1.png\n\n  a.jpg  \ngone.jpg\na.jpg\n./a.jpg\n")
    near = images_to_predict(str(tmp_path / "lists/near.txt"), None, [])
    assert [sample.name for sample in near] == ["b/ä 1", "a", "gone"]  # in its order, each once
    assert near[2].image == tmp_path / "lists/gone.jpg"  # for its reader to say so
    (tmp_path / "lists/far.txt").write_text(f"../other/c.png\n{tmp_path}/lists/a.jpg\n")
    assert len(set(names(tmp_path / "lists/far.txt"))) == 2
    assert [read_image(sample.image).shape for sample in images_to_predict("lists/far.txt", tmp_path, [])] == [
        (4, 4, 3)
    ] * 2
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match=r"data\.predict .*empty\.txt is empty: it should hold the path of one image"):
        names(tmp_path / "empty.txt")


def test_several_at_once_each_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a/1.png", "a/2.png", "b/1.png")
    given = [str(tmp_path / "b"), str(tmp_path / "a/*.png"), str(tmp_path / "b/1.png"), str(tmp_path / "gone.png")]
    assert [sample.name for sample in images_to_predict(given, None, [])] == ["b/1", "a/1", "a/2", "gone"]
    monkeypatch.chdir(tmp_path / "a")
    mixed = images_to_predict(["1.png", str(tmp_path / "b"), "../a/2.png"], None, [])
    assert [(sample.name, str(sample.image)) for sample in mixed] == [
        ("a/1", "1.png"), ("b/1", f"{tmp_path}/b/1.png"), ("a/2", "../a/2.png")
    ]  # fmt: skip
    assert names("a/1.png", root=tmp_path) == [sample.name for sample in images_to_predict(["a/1.png"], tmp_path, [])]
    for nothing in ("gone.png", ["gone.png"]):
        with pytest.raises(
            DataError, match=r"data\.predict 'gone\.png' matches no image: expected a file, a folder, a gl"
        ):
            images_to_predict(nothing, None, [])
    with pytest.raises(DataError, match=r"data\.predict \[\] names no image"):
        images_to_predict([], None, [])


def test_the_frames_of_videos(tmp_path: Path, said: Callable[[], str]) -> None:
    write_video(tmp_path / "x/clip.avi", 3)
    write_video(tmp_path / "x/clip.mkv", 1)
    write(tmp_path, "x/clip/000001.png", "x/a.png")
    assert names(tmp_path / "x/clip.avi") == ["clip/000000", "clip/000001", "clip/000002"]
    assert names(tmp_path / "x/clip*") == ["clip.avi/000000", "clip.avi/000001", "clip.avi/000002", "clip.mkv/000000"]
    both = images_to_predict([str(tmp_path / "x/clip.mkv"), str(tmp_path / "x/clip")], None, [])
    assert [sample.name for sample in both] == ["clip/000000", "clip/000001"]
    both = images_to_predict([str(tmp_path / "x/clip.avi"), str(tmp_path / "x/clip")], None, [])
    assert len({sample.name for sample in both}) == 4
    assert names(tmp_path / "x") == ["a", "clip/000001"]
    assert "leaves out files without the suffix of an image (2): .avi (1), .mkv (1)" in said()


def test_frames_with_one_fault_are_told_once() -> None:
    told = r"^3 of 9 images could not be predicted:\n  a ends early \(2 frames\)\n  b is damaged$"
    with pytest.raises(DataError, match=told):
        refuse_failures(["a ends early", "a ends early", "b is damaged"], 9)


def test_goes_on_after_what_cannot_be_read(
    experiment: Callable[..., Path], scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(experiment(eval_batch_size=2))
    main(["fit", "--config", config, "--trainer.max_steps", "1", "--trainer.limit_val_batches", "0"])
    folder = tmp_path / "some"
    write(folder, "a.jpg", "c.png", "e.jpg", "f.jpg")
    (folder / "b.jpg").write_bytes(b"no image")
    (folder / "d.png").write_bytes((folder / "c.png").read_bytes()[:40])
    (folder / "f.jpg").write_bytes((folder / "f.jpg").read_bytes()[:-20])
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught, pytest.warns(UserWarning, match=r"b\.jpg cannot be read.*passed over"):
        main(["predict", "--config", config, "--ckpt_path", "last", "--data.predict", str(folder)])
    assert caught.value.code == 1
    error = capsys.readouterr().err.partition("error: ")[2].splitlines()
    assert error[0] == "3 of 6 images could not be predicted:"
    assert [line.split(" cannot be read")[0] for line in error[1:]] == [
        f"  image {folder}/{n}" for n in ("b.jpg", "d.png", "f.jpg")
    ]
    done = tmp_path / "runs/tiny/version_1/predictions"
    assert sorted(path.name for path in (done / "masks").iterdir()) == ["a.png", "c.png", "e.png"]
    assert sorted(path.name for path in (done / "overlays").iterdir()) == ["a.jpg", "c.jpg", "e.jpg"]
