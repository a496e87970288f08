"""The audit of images of bands: exact figures, lines to paste, and what is wrong with bands."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
from PIL import Image
from rasterio.transform import from_origin

from lightning_seg.audit import main as audit
from lightning_seg.cli import main as train
from lightning_seg.data.auditing import pool
from lightning_seg.data.listing.defects import KINDS, MEANINGS
from tests.auditing import brief, run, write_config
from tests.conftest import folder
from tests.data import planted
from tests.geo.rasters import write

pytestmark = pytest.mark.usefixtures("empty_working_directory")

NODATA = 7
PLACE = {"crs": "EPSG:32632", "transform": from_origin(500_000, 5_000_000, 10, 10)}
COUNT = {"train": 4, "val": 2}


def values(kind: str, seed: int, bands: int = 4) -> np.ndarray:
    rng = np.random.default_rng(seed)
    scale = {"uint8": 40, "uint16": 900, "int16": 500, "float32": 0.1}[kind]
    middle = {"uint8": 120, "uint16": 4000, "int16": -100, "float32": 0.3}[kind]
    made = rng.normal(middle, scale, (bands, *planted.SIZE)) * np.arange(1, bands + 1)[:, None, None]
    if kind == "float32":
        return made.astype(kind)
    return made.clip(np.iinfo(kind).min, np.iinfo(kind).max).astype(kind)


def build(root: Path, kind: str = "uint16", bands: int = 4, **settings: Any) -> Path:
    """Images of 4 bands with a few pixels without data, and masks, all in one place."""
    for number, (split, count) in enumerate(COUNT.items()):
        for part in ("images", "masks"):
            (root / split / part).mkdir(parents=True)
        for index in range(count):
            pixels = values(kind, 10 * number + index, bands)
            pixels[:, :5, : 3 + index] = NODATA
            write(root / split / "images" / f"{index}.tif", pixels, nodata=NODATA, **{**PLACE, **settings})
            write(root / split / "masks" / f"{index}.tif", planted.ids(10 * number + index)[None], **PLACE)
    return root


def config(root: Path, **data: Any) -> str:
    readers = {split: folder(split) for split in COUNT}
    for reader in readers.values():
        reader["init_args"]["mask_name"] = "{stem}.tif"
    return write_config(root, **readers, test=None, train_transforms=[], **{"bands": [4, 3, 2, 1], **data})


def edit(path: Path, change: Callable[[np.ndarray], np.ndarray], **settings: Any) -> Path:
    """Write a raster again, of other values or with another profile."""
    with rasterio.open(path) as file:
        profile, pixels = file.profile, change(file.read())
    keep = {key: profile[key] for key in ("crs", "transform", "nodata") if profile.get(key) is not None}
    return write(path, pixels, **{**keep, **settings})


def stored(root: Path, split: str = "train") -> np.ndarray:
    """(bands, pixels) of a split as rasterio reads them, without those that have no data."""
    parts = []
    for path in sorted((root / split / "images").iterdir()):
        with rasterio.open(path) as file:
            pixels = file.read().reshape(file.count, -1)
        absent = (pixels == NODATA).all(axis=0) | ~np.isfinite(pixels).all(axis=0)
        parts.append(pixels[:, ~absent])
    return np.concatenate(parts, axis=1).astype(np.float64)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "int16", "float32"])
def test_figures_of_bands_equal_numpys(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    root = build(tmp_path / "set", kind)
    larger = np.pad(values(kind, 77), ((0, 0), (0, 9), (0, 30)), mode="reflect")
    if kind == "float32":
        larger[2, 20, 30:35] = np.nan
    write(root / "train/images/9.tif", larger, nodata=NODATA, **PLACE)
    mask = np.pad(planted.ids(77), ((0, 9), (0, 30)), mode="reflect")
    write(root / "train/masks/9.tif", mask[None], **PLACE)
    status, content, page = run(config(root))
    assert (status, content["defects"]) == (0, [])
    expected = stored(root)[[3, 2, 1, 0]]
    figures = content["splits"]["train"]
    assert content["mean"] == figures["mean"] == pytest.approx(expected.mean(axis=1), rel=1e-9)
    assert content["std"] == figures["std"] == pytest.approx(expected.std(axis=1), rel=1e-9)
    assert figures["type"] == kind
    tolerance = 2.0**-12 if kind == "float32" else 1e-12
    for percent, found in figures["percentiles"].items():
        assert found == pytest.approx(np.percentile(expected, int(percent), axis=1), rel=tolerance)
    counted = sum(figures["class_pixels"].values()) + figures["ignored_pixels"]
    assert counted == 4 * np.prod(planted.SIZE) + mask.size
    assert sum(figures["class_pixels"].values()) < expected.shape[1]  # of pixels without data, no label counts
    printed = capsys.readouterr().out
    assert f"Values of train, {kind}" in printed
    assert "MODEL.PIXEL_MEAN: [" in page
    assert f"<h3>train, {kind}</h3>" in page


@pytest.mark.parametrize("kind", ["uint16", "float32"])
def test_any_number_of_processes_counts_the_same(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = build(tmp_path / "set", kind)
    monkeypatch.setattr(pool, "_CHUNK", 1)
    found = []
    for workers in (1, 2, 3):
        monkeypatch.setattr(pool, "usable_cpus", lambda workers=workers: workers)
        found.append(run(config(root))[1])
    assert found[0] == found[1] == found[2]


def printed_lines(printed: str, start: str) -> dict[str, Any]:
    """The lines of a config after a text, up to the first that is none."""
    lines = printed[printed.index(start) :].splitlines()[1:]
    block = []
    for line in lines:
        if not re.match(r"(model:|data:|  (  )?[\w.]+:)", line):
            break
        block.append(line)
    return yaml.safe_load("\n".join(block))


def pasted(path: str, more: dict[str, Any]) -> str:
    """Put printed lines into a config."""
    content = yaml.safe_load(Path(path).read_text())
    content["data"].update(more.get("data", {}))
    content["model"]["overrides"].update(more.get("model", {}).get("overrides", {}))
    Path(path).write_text(yaml.safe_dump(content))
    return path


@pytest.mark.runs
def test_printed_lines_are_taken_by_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """First without any setting, as a user begins."""
    root = build(tmp_path / "set")
    path = config(root, bands=None)
    status, content, page = run(path)
    assert status == 1
    assert {kind for kind, _, _ in brief(content["defects"])} == {"unfit"}
    printed = capsys.readouterr().out
    lines = printed_lines(printed, "To read 4 bands as stored, write:")
    assert lines["data"] == {"bands": [1, 2, 3, 4]}
    expected = stored(root)
    assert lines["model"]["overrides"]["MODEL.PIXEL_MEAN"] == pytest.approx(expected.mean(axis=1), rel=1e-6)
    assert lines["model"]["overrides"]["MODEL.PIXEL_STD"] == pytest.approx(expected.std(axis=1), rel=1e-6)
    assert "To read 4 bands as stored, write:" in page
    mapped = printed_lines(printed, "To read bytes, in which percentiles 2 and 98 are 0 and 255, write:")
    assert mapped["data"]["value_range"] == [
        pytest.approx(np.percentile(band, (2, 98)), rel=1e-6) for band in expected
    ]  # fmt: skip

    with pytest.raises(SystemExit):
        train(["fit", "--config", pasted(path, {"data": lines["data"]})])
    refused = re.search(r"python -m lightning_seg\.audit (--config \S+)", capsys.readouterr().err)
    assert refused is not None
    assert audit(refused[1].rstrip("`").split()) == 0  # as the message says
    again = printed_lines(capsys.readouterr().out, "To normalise by the pixels of the training images, write:")
    assert again["model"] == lines["model"]
    pasted(path, again)
    train(["fit", "--config", path, "--trainer.fast_dev_run", "true"])

    path = pasted(config(root, bands=None), mapped)
    status, content, _ = run(path)
    assert (status, content["defects"], content["splits"]["train"]["type"]) == (0, [], "uint8")
    bytes_of = printed_lines(capsys.readouterr().out, "To normalise by the pixels of the training images, write:")
    train(["fit", "--config", pasted(path, bytes_of), "--trainer.fast_dev_run", "true"])


def constant_band(root: Path) -> Path:
    for path in sorted((root / "train/images").iterdir()):
        edit(path, lambda pixels: np.concatenate([pixels[:2], np.full_like(pixels[:1], 5), pixels[3:]]))
    return root / "train/images/0.tif"


def band_constant_in_one_image(root: Path) -> Path:
    return edit(root / "val/images/1.tif", lambda pixels: np.concatenate([pixels[:3], np.full_like(pixels[:1], 9)]))


def all_nodata(root: Path) -> Path:
    return edit(root / "train/images/2.tif", lambda pixels: np.full_like(pixels, NODATA))


def other_bands(root: Path) -> Path:
    return edit(root / "train/images/1.tif", lambda pixels: np.concatenate([pixels, pixels[:1] + 1]))


def too_few_bands(root: Path) -> Path:
    return edit(root / "train/images/1.tif", lambda pixels: pixels[:3])


def other_type(root: Path) -> Path:
    return edit(root / "val/images/0.tif", lambda pixels: pixels.astype(np.int16))


def other_resolution(root: Path) -> Path:
    transform = from_origin(500_000, 5_000_000, 20, 20)
    edit(root / "train/masks/3.tif", lambda pixels: pixels, transform=transform)
    return edit(root / "train/images/3.tif", lambda pixels: pixels, transform=transform)


def mask_elsewhere(root: Path) -> Path:
    return edit(root / "val/masks/1.tif", lambda pixels: pixels, transform=from_origin(500_010, 5_000_000, 10, 10))


def mask_in_another_system(root: Path) -> Path:
    return edit(root / "train/masks/1.tif", lambda pixels: pixels, crs="EPSG:32633")


PLANTS = [
    ("constant_band", "train", constant_band, r"band 3 is 5 at every pixel of data\.train \(4 images, such as .*0"),
    (
        "constant_band",
        "val",
        band_constant_in_one_image,
        r"band 4 has one value at every pixel in 1 of 2 images, .*9",
    ),
    ("all_nodata", "train", all_nodata, r"no pixel of image .*2\.tif has data"),
    ("other_bands", "train", other_bands, r"image .*1\.tif has 5 bands, but 5 of 6 images have 4 bands: "),
    ("unfit", "train", too_few_bands, r"image .*1\.tif has 3 bands of uint16, but data\.bands asks for band 4"),
    ("other_type", "val", other_type, r"0\.tif has values of type int16, but 5 of 6 images have values of type uint16"),
    ("other_resolution", "train", other_resolution, r"has pixels of 20 × 20 m, but 5 of 6 images have pixels of 10 × "),
    ("other_grid", "val", mask_elsewhere, r"mask .*1\.tif begins at \(500010, 5000000\), but its image .*1\.tif at"),
    ("other_grid", "train", mask_in_another_system, r"mask .*1\.tif is in EPSG:32633, but its image .* in EPSG:32632"),
]


@pytest.mark.parametrize(("kind", "split", "plant", "said"), PLANTS, ids=lambda value: getattr(value, "__name__", ""))
def test_each_defect_of_bands_is_found_once(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    split: str,
    plant: Callable[[Path], Path],
    said: str,
) -> None:
    root = build(tmp_path / "set")
    path = str(plant(root))
    status, content, page = run(config(root))
    assert (status, brief(content["defects"])) == (1, [(kind, split, path)])
    assert re.search(said, content["defects"][0]["detail"])
    printed = capsys.readouterr().out
    assert f"{kind} (1): {MEANINGS[kind]}" in printed
    assert re.search(said, printed)
    assert path in page
    assert f"<h3>{kind} (1)</h3>" in page
    if split == "train" or kind in ("other_type", "other_grid"):
        assert page.count("data:image/jpeg") > 3


def test_a_mask_elsewhere_is_found_without_bands(tmp_path: Path) -> None:
    root = build(tmp_path / "set", "uint8", bands=3)
    path = mask_elsewhere(root)
    _, content, _ = run(config(root, bands=None))
    assert brief(content["defects"]) == [("other_grid", "val", str(path))]


def test_with_a_range_deep_and_shallow_bands_are_told_apart(tmp_path: Path) -> None:
    root = build(tmp_path / "set")
    path = edit(root / "train/images/0.tif", lambda pixels: (pixels // 64).astype(np.uint8))
    _, content, _ = run(config(root, value_range=[0, 16000]))
    assert brief(content["defects"]) == [("other_type", "train", str(path))]
    assert "values of 8 bits, but 5 of 6 images have values of more than 8 bits" in content["defects"][0]["detail"]


def test_one_deep_image_among_others_changes_no_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = planted.build(tmp_path / "set")
    planted.deep_image(root)
    run(write_config(root))
    printed = capsys.readouterr().out
    assert "as stored, write" not in printed
    assert "set data.value_range, such as [0, 4080]" in printed


def test_deep_grey_images_are_told_a_range(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = planted.build(tmp_path / "set")
    grey = {}
    for path in sorted(root.glob("*/images/*.png")):
        grey[path] = planted.pixels(len(grey))[..., 0].astype(np.uint16) * 16
        Image.fromarray(grey[path]).save(path)
    path = write_config(root)
    run(path)
    lines = printed_lines(capsys.readouterr().out, "To read RGB of bytes, in which percentiles 2 and 98 are 0 and 255")
    of_train = [pixels for path, pixels in grey.items() if "train" in path.parts]
    assert lines["data"]["value_range"] == pytest.approx(np.percentile(of_train, (2, 98)).tolist(), rel=1e-6)
    status, content, _ = run(pasted(path, lines))
    assert (status, content["defects"]) == (0, [])


def test_the_order_of_three_channels_is_that_of_the_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_config(planted.build(tmp_path / "set"))
    _, content, _ = run(path)
    printed = capsys.readouterr().out
    assert "blue, green, red: INPUT.FORMAT is BGR" in printed
    start = "For a network without published weights"
    overrides = printed_lines(printed, start)["model"]["overrides"]
    assert overrides["MODEL.PIXEL_MEAN"] == pytest.approx(content["mean"][::-1], rel=1e-6)
    run(path, "--model.overrides.INPUT.FORMAT", "RGB")
    printed = capsys.readouterr().out
    assert "BGR" not in printed
    assert printed_lines(printed, start)["model"]["overrides"]["MODEL.PIXEL_STD"] == pytest.approx(
        content["std"], rel=1e-6
    )


def test_every_kind_has_a_meaning() -> None:
    assert list(MEANINGS) == list(KINDS)


@pytest.mark.parametrize("plant", [mask_elsewhere, too_few_bands, other_type])
def test_a_quick_look_stops_at_what_no_run_can_use(
    tmp_path: Path, plant: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = build(tmp_path / "set")
    path = plant(root)
    with pytest.raises(SystemExit):
        train(["fit", "--config", pasted(config(root), CHANNELS)])
    assert str(path) in capsys.readouterr().err


CHANNELS = {"model": {"overrides": {"MODEL.PIXEL_MEAN": [0.0] * 4, "MODEL.PIXEL_STD": [1.0] * 4}}}


def test_the_keys_are_those_of_the_networks_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = config(build(tmp_path / "set"))
    content = yaml.safe_load(Path(path).read_text())
    content["model"] = {"config": "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.py", "weights": ""}
    Path(path).write_text(yaml.safe_dump(content))
    run(path)
    assert "\n    model.pixel_mean: [" in capsys.readouterr().out
    content["model"]["config"] = "nowhere.yaml"  # which fit tells
    Path(path).write_text(yaml.safe_dump(content))
    assert run(path)[0] == 0
    assert "\n    MODEL.PIXEL_MEAN: [" in capsys.readouterr().out
