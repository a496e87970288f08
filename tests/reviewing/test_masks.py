"""Masks with accepted regions ignored, in the encodings of their sources, read back by the project's own reader."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lightning_seg import SegmentationDataModule
from lightning_seg.data import Folder
from lightning_seg.data.listing.splits import Listing
from lightning_seg.data.stored import read_whole
from lightning_seg.errors import ConfigError, DataError
from lightning_seg.reviewing.decisions import Decisions, read_decisions
from lightning_seg.reviewing.masks import write_ignored
from lightning_seg.reviewing.regions import encode

SIZE = (12, 15)
IDS = np.arange(180).reshape(SIZE) % 3
REGION = np.zeros(SIZE, bool)
REGION[3:9, 4:11] = True
COUNTS = encode(REGION[3:9, 4:11], 4, 3, SIZE)
COLOURS = np.array([(200, 0, 0), (0, 200, 0), (0, 0, 200)], np.uint8)
PALETTE: dict[str, Any] = {"a": "#c80000", "b": "#00c800", "c": "#0000c8", "ignore": "#ffffff"}


def grey(path: Path) -> None:
    Image.fromarray(IDS.astype(np.uint8)).save(path)


def indexed(path: Path) -> None:
    image = Image.fromarray(IDS.astype(np.uint8))
    image.putpalette(COLOURS.ravel().tolist())
    image.save(path)


def deep(path: Path) -> None:
    Image.fromarray((IDS + 1000).astype(np.uint16)).save(path)


def coloured(path: Path) -> None:
    Image.fromarray(COLOURS[IDS]).save(path)


def array(path: Path) -> None:
    np.save(path, IDS.astype(np.int32))


def placed(path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    transform = rasterio.transform.from_origin(500000, 5e6, 10, 10)
    with rasterio.open(
        path, "w", driver="GTiff", height=12, width=15, count=1, dtype="uint8", crs="EPSG:32632", transform=transform
    ) as file:
        file.write(IDS.astype(np.uint8), 1)


DEEP_MAP = {1000: "a", 1001: "b", 1002: "c", 65535: "ignore"}
SOURCES: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "grey": (grey, ".png", {}),
    "palette by value": (indexed, ".png", {}),
    "palette by colour": (indexed, ".png", {"palette": PALETTE}),
    "16 bits": (deep, ".png", {"label_map": DEEP_MAP}),
    "colours": (coloured, ".png", {"palette": PALETTE}),
    "array": (array, ".npy", {}),
    "GeoTIFF": (placed, ".tif", {}),
}


def listing_of(root: Path, write: Any, suffix: str, **settings: Any) -> tuple[Listing, SegmentationDataModule]:
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for name in ("one", "two"):
        Image.new("RGB", SIZE[::-1]).save(root / f"images/{name}.png")
        write(root / f"masks/{name}{suffix}")
    reader = Folder(images="images", masks="masks", mask_name=f"{{stem}}{suffix}")
    data = SegmentationDataModule(["a", "b", "c"], reader, root=str(root), **settings)
    return data.listings.complete("train"), data


@pytest.mark.parametrize("source", SOURCES)
def test_accepted_regions_are_ignored_in_the_same_encoding(tmp_path: Path, source: str) -> None:
    write, suffix, settings = SOURCES[source]
    listing, data = listing_of(tmp_path, write, suffix, **settings)
    before = {path: path.read_bytes() for path in (tmp_path / "masks").iterdir()}
    decisions = Decisions("train", {}, {"one": [COUNTS]})
    assert write_ignored(decisions, listing, tmp_path / "new", data.root) == (2, 1)
    assert {path: path.read_bytes() for path in (tmp_path / "masks").iterdir()} == before
    again = SegmentationDataModule(
        ["a", "b", "c"],
        Folder(images="images", masks="new/masks", mask_name=f"{{stem}}{suffix}"),
        root=str(tmp_path),
        **settings,
    ).listings.complete("train")
    for sample in again.samples:
        _, found = read_whole(sample, again.table_of(sample))
        assert np.array_equal(found, np.where(REGION & (sample.name == "one"), 255, IDS))
    name = f"masks/one{suffix}"
    if suffix == ".png":
        old, new = Image.open(tmp_path / name), Image.open(tmp_path / "new" / name)
        assert (old.mode, old.format) == (new.mode, new.format)
        if old.mode == "P":
            assert (new.getpalette() or [])[:9] == COLOURS.ravel().tolist()
    if suffix == ".tif":
        import rasterio

        with rasterio.open(tmp_path / name) as one, rasterio.open(tmp_path / "new" / name) as other:
            assert (one.crs, one.transform, one.dtypes) == (other.crs, other.transform, other.dtypes)


def test_nothing_is_written_over_the_originals(tmp_path: Path) -> None:
    listing, data = listing_of(tmp_path, grey, ".png")
    before = (tmp_path / "masks/one.png").read_bytes()
    with pytest.raises(ConfigError, match=r"would write over .*one.png: give a new folder"):
        write_ignored(Decisions("train", {}, {"one": [COUNTS]}), listing, tmp_path, data.root)
    assert (tmp_path / "masks/one.png").read_bytes() == before


def test_colours_without_an_ignored_one_are_refused(tmp_path: Path) -> None:
    listing, data = listing_of(tmp_path, coloured, ".png", palette={k: v for k, v in PALETTE.items() if k != "ignore"})
    with pytest.raises(ConfigError, match="stores colours, and none is ignored: name one"):
        write_ignored(Decisions("train", {}, {"one": [COUNTS]}), listing, tmp_path / "new", data.root)


def test_samples_that_are_gone_and_masks_of_another_size_are_refused(tmp_path: Path) -> None:
    listing, data = listing_of(tmp_path, grey, ".png")
    with pytest.raises(DataError, match=r"the split has no sample three"):
        write_ignored(Decisions("train", {}, {"three": [COUNTS]}), listing, tmp_path / "new", data.root)
    Image.new("L", (5, 5)).save(tmp_path / "masks/one.png")
    with pytest.raises(DataError, match=r"one.png is of another size than when it was reviewed"):
        write_ignored(Decisions("train", {}, {"one": [COUNTS]}), listing, tmp_path / "new", data.root)


def test_files_without_decisions_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "decisions.json"
    with pytest.raises(ConfigError, match=r"cannot be read"):
        read_decisions(file)
    file.write_text("[1]")
    with pytest.raises(ConfigError, match="holds no decisions: give the"):
        read_decisions(file)
    file.write_text('{"split": "val", "data": {}, "decisions": []}')
    with pytest.raises(ConfigError, match=r"accepts no suspect"):
        read_decisions(file)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "null", '{"decisions": []}', '{"split": "val", "data": {}}',
        '{"split": "val", "data": 3, "decisions": []}', '{"split": "val", "data": {}, "decisions": [{"image": "a"}]}',
        '{"split": "val", "data": {}, "decisions": [{"decision": "maybe", "image": "a", "counts": "1"}]}',
        '{"split": "val", "data": {}, "decisions": [{"decision": "accept", "image": "a"}]}',
        '{"split": "val", "data": {}, "suspects": []}',
    ],
)  # fmt: skip
def test_damaged_decisions_are_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "decisions.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"--apply .*decisions.json holds no decisions: give the"):
        read_decisions(file)


@pytest.mark.parametrize("counts", ["", "garbage", "o" * 500, "\x00", "0", COUNTS[:-2], "é"])
def test_damaged_regions_are_named(tmp_path: Path, counts: str) -> None:
    listing, data = listing_of(tmp_path, grey, ".png")
    with pytest.raises(DataError, match=r"one.png is of another size than when it was reviewed: the run-length"):
        write_ignored(Decisions("train", {}, {"one": [counts]}), listing, tmp_path / "new", data.root)
    assert not (tmp_path / "new/masks/one.png").exists()
