"""Readers find and read files in ZIP and TAR archives as they do on disk."""

import os
import pickle
import re
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED

import numpy as np
import pytest
from PIL import Image

from lightning_seg.data import ADE20K, Catalog, Cityscapes, Coco, CocoStuff, Folder, Manifest, Reader, Split
from lightning_seg.data.archives.index import forget
from lightning_seg.data.archives.member import Member
from lightning_seg.data.archives.places import is_folder, located
from lightning_seg.data.listing.files import file_digest
from lightning_seg.data.listing.prediction import images_to_predict
from lightning_seg.data.readers.reader import OrphanError
from lightning_seg.data.readers.walking import files_below
from lightning_seg.data.reading import ReadingRules, read_image, read_mask
from lightning_seg.data.reading.given import read_given
from lightning_seg.errors import DataError
from lightning_seg.structures import Annotations, Sample
from tests.data.archiving import archived, packed
from tests.data.layouts import LAYOUTS, SIZE, STEMS, ade20k, cityscapes, coco_stuff, folder, save_image
from tests.data.reading.files import deep_png, tiff

IN_ARCHIVES = [layout for layout in LAYOUTS if not layout.__name__.startswith(("catalog", "linked"))]
each_kind = pytest.mark.parametrize("kind", ["zip", "tar"])


def contents(sample: Sample) -> tuple[str, bytes, bytes | Annotations | None]:
    """Name, pixels of the image and values of the mask."""
    mask = sample.mask
    if isinstance(mask, Annotations):
        return sample.name, read_image(sample.image).tobytes(), replace(mask, file="")
    return sample.name, read_image(sample.image).tobytes(), mask and read_mask(mask).values.tobytes()


@each_kind
@pytest.mark.parametrize("layout", IN_ARCHIVES, ids=lambda layout: layout.__name__)
def test_a_root_may_be_an_archive(layout: Callable[..., Reader], kind: str, tmp_path: Path) -> None:
    """Lists, tables and annotations are read from it as well; samples keep nothing but their position."""
    reader = layout(tmp_path / "data", STEMS)
    expected = [contents(sample) for sample in reader.samples(tmp_path / "data")]
    archive = archived(tmp_path / "data", tmp_path / f"all.{kind}")
    shutil.rmtree(tmp_path / "data")
    reader.release()
    samples = reader.samples(archive)
    labels = reader.labels(archive)
    forget()
    archived_samples = [pickle.loads(pickle.dumps(sample)) for sample in samples]
    assert archived_samples == samples
    assert [contents(sample) for sample in archived_samples] == expected
    assert (labels is None) == isinstance(reader, Folder | Manifest | Split)
    assert {type(sample.image) for sample in samples} == {Member}


@each_kind
def test_folders_of_a_reader_go_through_archives(kind: str, tmp_path: Path) -> None:
    """With other names above them, wildcards, and one of the two on disk."""
    folder(tmp_path, STEMS)
    on_disk = [contents(each) for each in Folder("i", "m", mask_name="{stem}_L.png").samples(tmp_path)]
    archived(tmp_path / "i", tmp_path / f"images.{kind}", below="deep/er/")
    reader = Folder(f"images.{kind}/deep/er", "m", mask_name="{stem}_L.png")
    assert [contents(each) for each in reader.samples(tmp_path)] == on_disk
    for part in "ab":
        (tmp_path / part).mkdir()
        save_image(tmp_path / part / "images/1.png", 1, SIZE)
        save_image(tmp_path / part / "masks/1.png", 2, SIZE)
        archived(tmp_path / part, tmp_path / f"{part}.{kind}")
    wild = Folder(f"?.{kind}/images", f"?.{kind}/masks").samples(tmp_path)
    assert [(each.name, str(each.mask)) for each in wild] == [
        (f"{part}.{kind}/1", f"{tmp_path}/{part}.{kind}/masks/1.png") for part in "ab"
    ]


def test_published_archives_are_read_as_they_are_downloaded(tmp_path: Path) -> None:
    stems = ["aachen/aachen_0", "bonn/bonn_1"]
    cityscapes(tmp_path / "c", stems, split="train")
    found = Cityscapes("c", "train").samples(tmp_path)
    expected = [contents(sample) for sample in found]
    assert [sample.name for sample in found] == stems
    for part in ("leftImg8bit", "gtFine"):
        archived(tmp_path / "c" / part, tmp_path / "c" / f"{part}_trainvaltest.zip", below=f"{part}/")
        shutil.rmtree(tmp_path / "c" / part)
    assert [contents(sample) for sample in Cityscapes("c", "train").samples(tmp_path)] == expected
    with pytest.raises(DataError, match=r"leftImg8bit_trainvaltest\.zip/leftImg8bit there is train; check"):
        Cityscapes("c", "val").samples(tmp_path)

    expected = [contents(sample) for sample in ade20k(tmp_path / "a", ["1", "2"]).samples(tmp_path / "a")]
    archived(tmp_path / "a", tmp_path / "ADEChallengeData2016.zip", below="ADEChallengeData2016/")
    for root in (".", "ADEChallengeData2016.zip", "ADEChallengeData2016.zip/ADEChallengeData2016"):
        assert [contents(sample) for sample in ADE20K(root, "train").samples(tmp_path)] == expected

    expected = [contents(sample) for sample in coco_stuff(tmp_path / "s", ["1", "2"]).samples(tmp_path / "s")]
    archived(tmp_path / "s" / "val2017", tmp_path / "val2017.zip", below="val2017/")
    archived(tmp_path / "s" / "stuffthingmaps", tmp_path / "stuffthingmaps_trainval2017.zip")
    assert [contents(sample) for sample in CocoStuff(".", "val2017").samples(tmp_path)] == expected


def test_registered_paths_and_annotations_go_through_archives(tmp_path: Path) -> None:
    from detectron2.data import DatasetCatalog, MetadataCatalog

    archive = packed({"a.png": b"1", "b.png": b"2"}, tmp_path / "set.zip")
    entry = {"file_name": f"{archive}/a.png", "sem_seg_file_name": f"{archive}/b.png"}
    DatasetCatalog.register(str(archive), lambda: [entry])
    MetadataCatalog.get(str(archive)).set(stuff_classes=["a"])
    (sample,) = Catalog(str(archive)).samples(None)
    assert isinstance(sample.image, Member)
    assert isinstance(sample.mask, Member)

    with pytest.raises(DataError, match=r"set\.zip/x/no\.json does not exist"):
        Coco("set.zip/x/no.json", "set.zip").samples(tmp_path)


def test_what_is_not_in_an_archive_is_named_with_what_is(tmp_path: Path) -> None:
    packed({"left/images/1.png": b"", "README": b""}, tmp_path / "set.zip")
    with pytest.raises(DataError, match=r"set\.zip/images does not exist \(its archive holds README, left\): check"):
        Folder("set.zip/images", "set.zip/left").samples(tmp_path)
    with pytest.raises(DataError, match=r"no/set\.zip/images does not exist: check"):
        Folder("no/set.zip/images", "set.zip/left").samples(tmp_path)
    packed({"i/1.png": b"", "i/2.png": b"", "m/1.png": b""}, tmp_path / "pair.tar")
    with pytest.raises(OrphanError) as raised:
        Folder("pair.tar/i", "pair.tar/m").samples(tmp_path)
    assert [(each.kind, str(each.path)) for each in raised.value.orphans] == [
        ("orphan_image", f"{tmp_path}/pair.tar/i/2.png")
    ]


@each_kind
def test_only_a_path_that_names_an_archive_enters_it(kind: str, tmp_path: Path) -> None:
    packed({"1.png": b""}, tmp_path / f"i.{kind}")
    (tmp_path / f"folder.{kind}").mkdir()
    save_image(tmp_path / f"folder.{kind}" / "1.png", 1, SIZE)
    shutil.copy(tmp_path / f"i.{kind}", tmp_path / f"folder.{kind}")
    (sample,) = Folder(f"folder.{kind}", f"i.{kind}").samples(tmp_path)  # a folder may be called so
    assert sample.image == tmp_path / f"folder.{kind}" / "1.png"


@each_kind
def test_no_path_leads_out_of_an_archive(kind: str, tmp_path: Path) -> None:
    save_image(tmp_path / "b.png", 1, SIZE)
    archive = packed({"i/a.png": b"", "list.txt": b"i/../../b.png\ti/../i/a.png\n"}, tmp_path / f"set.{kind}")
    assert located(archive / "i/../../b.png") == archive / "i/../../b.png"
    assert isinstance(located(archive / "i/../i/a.png"), Member)
    with pytest.raises(OrphanError, match=r"names image 'i/\.\./\.\./b\.png', but .* does not exist"):
        Folder(list="list.txt").samples(archive)


@each_kind
def test_images_to_predict_may_lie_in_an_archive(kind: str, tmp_path: Path) -> None:
    folder(tmp_path / "data", STEMS[:3])
    archived(tmp_path / "data", tmp_path / f"set.{kind}")
    reader = Folder(f"set.{kind}/i", f"set.{kind}/m", mask_name="{stem}_L.png")

    def predicted(given: str) -> list[tuple[str, str]]:
        samples = images_to_predict(given, tmp_path, [reader])
        assert {type(each.image) for each in samples} == {Member}
        return [(each.name, str(each.image).removeprefix(f"{tmp_path}/set.{kind}/")) for each in samples]

    names = sorted(STEMS[:3])
    assert [name for name, _ in predicted(f"set.{kind}/i")] == names
    assert [name for name, _ in predicted(f"set.{kind}")] == [f"i/{name}" for name in names]  # without the masks
    assert predicted(f"set.{kind}/i/plain.png") == [("plain", "i/plain.png")]
    assert [name for name, _ in predicted(f"set.{kind}/i/*.[pP]ng")] == ["größe_ß", "plain"]
    assert predicted(f"set.{kind}/**/plain.png") == [("plain", "i/plain.png")]
    assert [name for name, _ in predicted(f"set.{kind}/**")] == names  # without the masks
    assert read_given(tmp_path / f"set.{kind}/i/plain.png").shape == (*SIZE, 3)  # as a Predictor takes it
    for none in ("i/none.png", "*/*/*.png", "x/../../*.png"):
        with pytest.raises(DataError, match=rf"{re.escape(none)}' matches no image"):
            predicted(f"set.{kind}/{none}")
    packed({"clip.mp4": b""}, tmp_path / f"film.{kind}")
    with pytest.raises(DataError, match=rf"video .*film\.{kind}/clip\.mp4 lies in an archive: unpack it"):
        predicted(f"film.{kind}/clip.mp4")


@pytest.mark.parametrize(
    ("name", "compression"), [("a.zip", ZIP_STORED), ("a.zip", ZIP_DEFLATED), ("a.tar", ZIP_STORED)]
)
def test_members_give_their_bytes_from_any_process(name: str, compression: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = {f"{number}/ü.bin": rng.bytes(1 + 5000 * number) for number in range(4)} | {"empty": b""}
    archive = packed(data, tmp_path / name, compression=compression)
    members = {key: located(archive / key) for key in data}
    assert located(archive / "other") == archive / "other"
    if (child := os.fork()) == 0:
        os._exit(any(_bytes(members[key]) != data[key] for _ in range(50) for key in data))
    assert all(_bytes(members[key]) == data[key] for _ in range(50) for key in data)
    assert os.waitpid(child, 0)[1] == 0
    assert file_digest(members["3/ü.bin"], whole=True)[0] == 15001


def test_images_of_every_format_have_the_same_pixels(tmp_path: Path) -> None:
    """8 bits, 16 bits and floats, compressed and not."""
    (tmp_path / "i").mkdir()
    colours = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    grey = colours[..., 0]
    for suffix in ("png", "jpg", "tif", "bmp", "gif", "webp", "ppm", "jp2"):
        Image.fromarray(colours).save(tmp_path / f"i/rgb.{suffix}")
    for name, options in (("none", {}), ("lzw", {"compression": "tiff_lzw"}), ("zip", {"compression": "tiff_deflate"})):
        Image.fromarray(grey.astype(np.float32)).save(tmp_path / f"i/float_{name}.tif", **options)
        Image.fromarray(grey.astype(np.uint16) * 9).save(tmp_path / f"i/deep_{name}.tif", **options)
    (tmp_path / "i/deep.png").write_bytes(deep_png(colours.astype(np.uint16) * 9))
    (tmp_path / "i/big.tif").write_bytes(tiff(colours.astype(np.uint16), big=True))
    rules = ReadingRules(ranges=((0, 2295),))
    for name, compression in (("a.zip", ZIP_DEFLATED), ("b.zip", ZIP_STORED), ("c.tar", ZIP_STORED)):
        archive = archived(tmp_path / "i", tmp_path / name, compression=compression)
        members = files_below(archive)
        assert len(members) == 16
        for path in members:
            assert np.array_equal(read_image(located(path), rules), read_image(tmp_path / "i" / path.name, rules)), path


def _bytes(file: object) -> bytes:
    assert isinstance(file, Member)
    with file.open() as opened:
        return opened.read()


def test_an_archive_is_a_folder_and_its_folders_need_no_entry(tmp_path: Path) -> None:
    archive = packed({"a/b/c.png": b"", "./d//e.png": b"", "f/": b""}, tmp_path / "set.zip")
    found = {name: is_folder(archive / name) for name in ("", "a", "a/b", "d", "f", "a/b/c.png", "b")}
    assert found == {"": True, "a": True, "a/b": True, "d": True, "f": True, "a/b/c.png": False, "b": False}


def test_what_a_large_tar_holds_is_kept_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = {f"d/{number}.bin": b"%d" % number for number in range(1200)} | {"gr\udcfcn.png": b"x"}
    archive = packed(data, tmp_path / "large.tar")

    def found() -> dict[str, bytes]:
        forget()
        return {str(path.relative_to(archive)): _bytes(located(path)) for path in files_below(archive)}

    assert found() == data
    (kept,) = (tmp_path / "cache").rglob("*.json")
    with monkeypatch.context() as context:
        context.setattr(tarfile, "open", None)  # not asked
        assert found() == data
        assert is_folder(archive / "d")
    for damaged in ("", "{}", "[]", '{"state": 1, "members": 3}', kept.read_text()[:-9]):
        kept.write_text(damaged)
        assert found() == data
    packed({"other.bin": b"other"}, archive)
    assert found() == {"other.bin": b"other"}
    kept.unlink()
    assert found() == {"other.bin": b"other"}
    assert not kept.exists()  # few are found as fast without

    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # where nothing can be written
    packed(data, archive)
    assert found() == data
