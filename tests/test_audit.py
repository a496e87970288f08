"""The audit as users have it: a clean set is silent, and each planted defect is found once, with its path."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_seg.audit import main
from lightning_seg.cli import main as train
from lightning_seg.data.auditing.statistics import MOST_LABELS, SplitStatistics
from lightning_seg.data.listing.defects import KINDS
from tests.auditing import brief, run, write_config
from tests.conftest import REPOSITORY, folder
from tests.data import planted
from tests.helpers.python import python

pytestmark = pytest.mark.usefixtures("empty_working_directory")


def test_a_clean_set_has_no_defects(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = planted.build(tmp_path / "set")
    status, content, page = run(write_config(root))
    assert status == 0
    assert content["defects"] == []
    printed = capsys.readouterr().out
    assert printed.count("defect") == printed.count("No defects were found") == 1
    assert not [kind for kind in KINDS if kind in printed]
    assert "runs/set/version_0/audit.html" in printed
    assert "no defect" in page
    main(["--config", "set.yaml"])
    assert sorted(path.name for path in Path("runs/set").iterdir()) == ["version_0", "version_1"]


def test_figures_equal_those_of_all_pixels(tmp_path: Path) -> None:
    root = planted.build(tmp_path / "set")
    Image.fromarray(planted.pixels(5, (30, 20))).save(root / "train/images/odd.png")
    Image.fromarray(planted.ids(5)[:30, :20]).save(root / "train/masks/odd.png")
    _, content, _ = run(write_config(root))
    assert list(content["splits"]) == ["train", "val", "test"]
    images = [np.asarray(Image.open(path)) for path in sorted((root / "train/images").iterdir())]
    masks = [np.asarray(Image.open(path)) for path in sorted((root / "train/masks").iterdir())]
    pixels = np.concatenate([image.reshape(-1, 3) for image in images]).astype(float)
    figures = content["splits"]["train"]
    assert figures["images"] == 7
    assert figures["sizes"] == {"64x48": 6, "20x30": 1}
    assert content["mean"] == figures["mean"] == pytest.approx(pixels.mean(axis=0), rel=1e-12)
    assert content["std"] == figures["std"] == pytest.approx(pixels.std(axis=0), rel=1e-10)
    frequencies = []
    for index, name in enumerate(planted.CLASSES):
        having = [mask for mask in masks if (mask == index).any()]
        assert figures["class_pixels"][name] == sum((mask == index).sum() for mask in masks)
        assert figures["class_images"][name] == len(having)
        counted = sum((mask != 255).sum() for mask in having)
        frequencies.append(figures["class_pixels"][name] / counted)
    assert figures["ignored_pixels"] == sum((mask == 255).sum() for mask in masks)
    assert figures["unknown_pixels"] == 0
    expected = np.median(frequencies) / frequencies
    assert list(content["class_weights"]["weights"].values()) == pytest.approx(expected, rel=1e-3)
    assert "Eigen" in content["class_weights"]["formula"]


PLANTS = [
    ("unreadable", "train", planted.truncated_image),
    ("unreadable", "val", planted.truncated_mask),
    ("unreadable", "train", planted.truncated_jpeg_mask),
    ("unreadable", "train", planted.empty_image),
    ("unreadable", "train", planted.damaged_jpeg),
    ("unreadable", "train", planted.flipped_bit),
    ("unreadable", "val", planted.flipped_bit_of_mask),
    ("unfit", "train", planted.deep_image),
    ("unfit", "train", planted.image_of_many_bands),
    ("unfit", "val", planted.image_of_two_pages),
    ("lossy_mask", "train", planted.lossy_tiff_mask),
    ("orphan_image", "train", planted.orphan_image),
    ("orphan_mask", "val", planted.orphan_mask),
    ("size_mismatch", "train", planted.size_mismatch),
    ("unknown_id", "val", planted.unknown_id),
    ("unknown_colour", "val", planted.unknown_colour),
    ("lossy_mask", "train", planted.jpeg_mask),
    ("lossy_mask", "train", planted.jpeg_mask_by_name),
    ("lossy_mask", "train", planted.blurred_mask),
    ("lossy_mask", "train", planted.enlarged_mask),
    ("lossy_mask", "train", planted.laundered_mask),
    ("lossy_mask", "train", planted.translucent_mask),
    ("absent_class", "val", planted.absent_class),
    ("all_ignored", "test", planted.all_ignored),
    ("exif_rotation", "val", planted.exif_rotation),
    ("exif_rotation", "val", planted.upside_down),
    ("duplicate", "train", planted.duplicate),
    ("leak", "test", planted.leak),
    ("leak", "val", planted.leak_in_another_format),
]
COLOURED = (planted.unknown_colour, planted.blurred_mask, planted.enlarged_mask, planted.translucent_mask,
            planted.laundered_mask)  # fmt: skip
OF_BANDS = ("other_grid", "other_bands", "other_type", "other_resolution", "all_nodata", "constant_band")
"""Kinds of other images than RGB of 8 bits."""
SURVIVED = ("absent_class", "all_ignored", "duplicate", "leak")
"""Kinds that a run does not stop at."""


@pytest.mark.parametrize(("kind", "split", "plant"), PLANTS, ids=lambda value: getattr(value, "__name__", value))
def test_each_defect_is_found_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, split: str, plant: planted.Plant
) -> None:
    root = planted.build(tmp_path / "set", colours=plant in COLOURED)
    path = str(plant(root))
    status, content, page = run(write_config(root, palette=planted.PALETTE if plant in COLOURED else None))
    assert brief(content["defects"]) == [(kind, split, path)]
    assert set(content["defects"][0]) == {"kind", "split", "path", "detail"}
    assert status == 1
    printed = capsys.readouterr().out
    assert path in printed
    assert kind in printed
    assert path in page


def test_what_is_unfit_is_named_with_what_would_mend_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same in the audit and before a run; a range lets both pass, a limit stops both."""
    root = planted.build(tmp_path / "set")
    path = planted.deep_image(root)
    config = write_config(root)
    _, content, _ = run(config)
    (defect,) = content["defects"]
    assert re.fullmatch(
        rf"image {path} has 1 band of uint16 with values from 0 to 4080, and networks take 0 to 255: set "
        r"data.value_range, such as \[0, 4080\], .*, or convert the images", defect["detail"],
    )  # fmt: skip
    with pytest.raises(SystemExit):
        train(["fit", "--config", config])
    assert defect["detail"] in capsys.readouterr().err

    status, content, page = run(config, "--data.value_range", "[0, 4080]")
    assert (status, content["defects"]) == (0, [])
    assert page.count("data:image/jpeg") > 10
    train(["fit", "--config", config, "--data.value_range", "[0, 4080]", "--trainer.fast_dev_run", "true"])

    status, content, _ = run(config, "--data.value_range", "[0, 4080]", "--data.max_pixels", "3071")
    images = sum(planted.COUNT.values())
    assert [defect["kind"] for defect in content["defects"]].count("unfit") == 2 * images
    assert status == 1


def test_all_at_once(tmp_path: Path) -> None:
    """One of each that values can have, among them the ignore index; in several processes."""
    root = planted.build(tmp_path / "set")
    plants = [entry for entry in PLANTS if entry[2] in (
        planted.truncated_image, planted.truncated_mask, planted.orphan_image, planted.orphan_mask,
        planted.size_mismatch, planted.unknown_id, planted.jpeg_mask, planted.blurred_mask, planted.absent_class,
        planted.all_ignored, planted.exif_rotation, planted.duplicate, planted.leak, planted.deep_image,
    )]  # fmt: skip
    for _, _, plant in plants[::-1]:  # absent_class opens masks that others then cut
        plant(root)
    with Image.open(root / "test/masks/1.png") as image:
        assert 255 in np.asarray(image)
    status, content, page = run(write_config(root))
    assert status == 1
    found = brief(content["defects"])
    assert len(found) == len(set(found)) == len(plants)
    assert {kind for kind, _, _ in found} == set(KINDS) - {"unknown_colour", "ignore_is_class", *OF_BANDS}
    for defect in content["defects"]:
        assert defect["path"] in page
    assert not re.search(r"(src|href)=\"(?!data:image)|https?:|url\(|@import|<script|<link", page)
    assert page.count("data:image/jpeg;base64,") > len(plants)


def test_unknown_labels_have_their_pixel_counts(tmp_path: Path) -> None:
    root = planted.build(tmp_path / "set")
    planted.unknown_id(root)
    _, content, _ = run(write_config(root))
    assert "77 in 30 pixels" in content["defects"][0]["detail"]
    assert content["splits"]["val"]["unknown_pixels"] == 30
    status, content, _ = run(write_config(root, unknown="ignore"))  # the user knows
    assert status == 0
    assert content["splits"]["val"]["unknown_pixels"] == 30
    root = planted.build(tmp_path / "colours", colours=True)
    planted.unknown_colour(root)
    _, content, _ = run(write_config(root, palette=planted.PALETTE))
    assert "#010203 in 30 pixels" in content["defects"][0]["detail"]


def test_values_seen_are_listed_with_their_shares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = planted.build(tmp_path / "set")
    planted.unknown_id(root)
    _, content, page = run(write_config(root))
    for split in planted.COUNT:
        masks = np.concatenate([np.asarray(Image.open(path)).ravel() for path in (root / split / "masks").iterdir()])
        values, counts = np.unique(masks, return_counts=True)
        labels = content["splits"][split]["labels"]
        assert {stored: label["pixels"] for stored, label in labels.items()} == dict(
            zip(map(str, values), counts, strict=True)
        )
    meanings = {stored: label["meaning"] for stored, label in content["splits"]["val"]["labels"].items()}
    assumed = "ignored by default"
    assert meanings == {"0": "wall", "1": "door", "2": "window", "255": assumed, "77": "nothing"}
    share = 30 / (4 * 48 * 64)
    printed = capsys.readouterr().out
    assert re.search(rf"│ 77 +│ nothing +│ +0\.000 │ +{100 * share:.3f} │ +0\.000 │", printed)
    assert re.search(rf"<td>77</td><td>nothing</td>.*?<td class=\"number\">{share:.2%}</td>", page)
    assert f"<td>255</td><td>{assumed}</td>" in page
    _, content, _ = run(write_config(root, unknown="ignore", ignore_index=255))
    labels = content["splits"]["val"]["labels"]
    assert (labels["255"]["meaning"], labels["77"]["meaning"]) == ("ignored", "nothing, so ignored")


def test_colours_seen_are_listed(tmp_path: Path) -> None:
    root = planted.build(tmp_path / "set", colours=True)
    planted.unknown_colour(root)
    _, content, page = run(write_config(root, palette=planted.PALETTE))
    labels = content["splits"]["val"]["labels"]
    assert {stored: label["meaning"] for stored, label in labels.items()} == {
        "#c02020": "wall", "#20c020": "door", "#2020c0": "window", "#000000": "ignored", "#010203": "nothing"
    }  # fmt: skip
    assert labels["#010203"]["pixels"] == 30
    assert 'style="background:#010203"></span> #010203</td><td>nothing</td>' in page


def test_of_very_many_values_in_a_split_the_commonest_are_kept() -> None:
    figures = SplitStatistics(2)
    for start in range(0, 10_000, 1000):
        figures.add_mask(np.array([9, 1]), 0, 0, {**dict.fromkeys(range(start, start + 1000), 1), 70_000: 5})
    assert len(figures.labels) < 2 * MOST_LABELS
    assert figures.labels[0][70_000] == 50


def test_colours_without_a_palette_are_counted_the_commonest_first(tmp_path: Path) -> None:
    root = planted.build(tmp_path / "set", colours=True)
    mask = planted.as_colours(planted.ids(100))  # of the first sample of val
    counts = [(mask == colour).all(axis=2).sum() for colour in planted.COLOURS]
    _, content, _ = run(write_config(root))
    [detail] = [defect["detail"] for defect in content["defects"] if defect["path"].endswith("val/masks/0.png")]
    names = list(planted.PALETTE.values())
    order = sorted(range(4), key=lambda index: -counts[index])
    listed = ", ".join(f"{names[index]} in {counts[index]} pixels" for index in order)
    assert f"stores colours, {listed}: say which class" in detail
    assert detail.endswith(f'with data.palette, {{CLASS: "{names[order[0]]}", …}}')


def test_many_sizes_are_counted_in_bins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = planted.build(tmp_path / "set")
    for index in range(14):
        size = (40 + 3 * index, 100 + 20 * index)
        Image.fromarray(planted.pixels(index, size)).save(root / f"train/images/s{index}.png")
        Image.fromarray(np.resize(planted.ids(index), size)).save(root / f"train/masks/s{index}.png")
    _, _, page = run(write_config(root))
    train, val = re.search("Image sizes.*?<h3>train</h3>(.*?)<h3>val</h3>(.*?)<h3>test", page, re.DOTALL).groups()
    assert "15 different sizes; most often 64×48 (6)" in train
    bins = re.findall(r'<td class="number">(\d+)-(\d+)</td>.*?<td class="number">(\d+)</td>', train)
    widths, heights = bins[:7], bins[7:]
    assert widths[0] == ("50", "99", "6")
    assert widths[1] == ("100", "149", "3")
    assert sum(int(count) for _, _, count in widths) == sum(int(count) for _, _, count in heights) == 20
    assert heights[0] == ("40", "44", "2")
    assert "64×48" in val
    assert "different" not in val
    out = capsys.readouterr().out
    assert "train: 20 images; sizes 64 to 360 wide, 40 to 79 high; 15 different, such as 64×48 (6), " in out


def test_no_two_meanings_have_one_colour_in_the_legend(tmp_path: Path) -> None:
    root = planted.build(tmp_path / "set")
    planted.unknown_id(root)
    _, _, page = run(write_config(root, palette={"wall": "#000000", "door": "#ff00ff", "window": "#00ff00"}))
    legend = re.search('<p class="legend">.*?</p>', page)
    assert legend is not None
    colours = dict(re.findall(r'background:(#\w+)"></span> ([\w ]+)<', legend[0]))
    assert list(colours.values()) == ["wall", "door", "window", "ignored", "without a meaning"]
    shown = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in colours])
    gaps = np.abs(shown[:, None] - shown[None]).max(axis=2)
    assert (gaps[~np.eye(5, dtype=bool)] >= 64).all()


def test_a_folder_that_cannot_be_made_is_told_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(planted.build(tmp_path / "set"))
    monkeypatch.setattr("lightning_seg.audit.list_splits", lambda *_: pytest.fail("the data were listed"))
    Path("runs").touch()
    assert main(["--config", config]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: the run's folder runs/set cannot be made (")
    assert "runs is a file): set trainer.default_root_dir" in said.err


def test_the_folder_of_runs_is_that_of_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRATCH", str(tmp_path / "scratch"))
    config = write_config(planted.build(tmp_path / "set"))
    assert main(["--config", config, "--trainer.default_root_dir", "$SCRATCH/runs", "--name", "street/small"]) == 0
    assert (tmp_path / "scratch/runs/street/small/version_0/audit.json").is_file()
    assert main(["--config", config, "--name", "../street"]) == 1
    assert capsys.readouterr().err.startswith("error: the run's name '../street' leads out of runs")


def test_what_was_found_is_printed_though_no_file_can_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = planted.build(tmp_path / "set")
    path = planted.unknown_id(root)
    config = write_config(root)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lightning_seg.audit.write_page", full)
    assert main(["--config", config]) == 1
    said = capsys.readouterr()
    assert f"{path} has class id 77" in said.out
    assert "error: the files of the audit cannot be written: [Errno 28] No space left on device; set" in said.err


def test_an_ignore_index_that_is_a_class(tmp_path: Path) -> None:
    root = planted.build(tmp_path / "set")
    for path in root.glob("*/masks/*.png"):
        planted.edit(path, lambda mask: np.minimum(mask, 2))
    planted.orphan_mask(root)
    status, content, _ = run(write_config(root, ignore_index=2))
    assert status == 1
    assert brief(content["defects"])[-1] == ("ignore_is_class", "train", "set.yaml")
    assert "ignore_index 2 is the id of class 'window'" in content["defects"][-1]["detail"]
    assert {defect["kind"] for defect in content["defects"]} == {"ignore_is_class", "orphan_mask"}


def test_a_colour_that_is_ignored_and_a_class(tmp_path: Path) -> None:
    root = planted.build(tmp_path / "set", colours=True)
    for path in root.glob("*/masks/*.png"):
        planted.edit(path, lambda mask: np.where(mask == 0, np.uint8([192, 32, 32]), mask))
        planted.edit(path, lambda mask: np.where(mask.sum(axis=2, keepdims=True) == 0, np.uint8([192, 32, 32]), mask))
    _, content, _ = run(write_config(root, palette={**planted.PALETTE, "ignore": "#c02020"}))
    assert "ignore_is_class" in {defect["kind"] for defect in content["defects"]}


def test_two_readers_of_one_folder_share_their_defects(tmp_path: Path) -> None:
    root = planted.build(tmp_path / "set")
    orphan, lossy = planted.orphan_image(root), planted.jpeg_mask(root)
    parts = {
        part: {
            "class_path": "lightning_seg.data.Split",
            "init_args": {"of": folder("train"), "part": part, "fractions": [0.5, 0.5]},
        }
        for part in ("train", "val")
    }
    _, content, _ = run(write_config(root, **parts, test=None))
    assert sorted((kind, path) for kind, _, path in brief(content["defects"])) == [
        ("lossy_mask", str(lossy)),
        ("orphan_image", str(orphan)),
    ]
    counts = [figures["images"] for figures in content["splits"].values()]
    assert sum(counts) == 6


def test_a_test_split_on_the_files_of_val_is_no_leak(tmp_path: Path) -> None:
    root = planted.build(tmp_path / "set")
    status, content, _ = run(write_config(root, test=folder("val")))
    assert status == 0
    assert content["splits"]["test"] == content["splits"]["val"]


def test_lists_and_tables_tell_every_orphan(tmp_path: Path) -> None:
    root = planted.build(tmp_path / "set")
    for name in ("train/images/0.png", "train/images/1.png", "train/masks/2.png"):
        (root / name).unlink()
    expected = [
        ("orphan_image", "train", str(root / "train/images/2.png")),
        ("orphan_mask", "train", str(root / "train/masks/0.png")),
        ("orphan_mask", "train", str(root / "train/masks/1.png")),
    ]
    pairs = [(f"train/images/{index}.png", f"train/masks/{index}.png") for index in range(6)]
    (root / "list.txt").write_text("".join(f"{image} {mask}\n" for image, mask in pairs))
    (root / "table.csv").write_text("image,mask\n" + "".join(f"{image},{mask}\n" for image, mask in pairs))
    for reader in (
        {"class_path": "lightning_seg.data.Folder", "init_args": {"list": "list.txt"}},
        {"class_path": "lightning_seg.data.Manifest", "init_args": {"file": "table.csv"}},
    ):
        _, content, _ = run(write_config(root, train=reader))
        assert brief(content["defects"]) == expected


def test_hostile_annotations(tmp_path: Path) -> None:
    nothing, huge = [[1, 2, float("nan"), 4, 5, 6]], [[0, 0, 1e9, 0, 1e9, 1e9]]
    file = planted.coco(tmp_path / "set", (0, 1, nothing), (0, 1, huge), (1, 1, {"size": [48, 64], "counts": [5]}))
    reader = {"class_path": "lightning_seg.data.Coco", "init_args": {"annotations": "all.json", "images": "i"}}
    _, content, _ = run(write_config(file.parent, classes=None, train=reader, val=None, test=None))
    assert brief(content["defects"]) == [("unreadable", "train", str(file))] * 3
    for number, defect in zip((12, 13, 14), content["defects"], strict=True):
        assert f"annotation {number} has" in defect["detail"]
    assert content["splits"]["train"]["class_images"] == {"background": 2, "a": 2}
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(file.parent / "i/0.png").save(file.parent / "i/0.png", exif=exif)
    (file.parent / "i/1.png").unlink()
    _, content, _ = run(write_config(file.parent, classes=None, train=reader, val=None, test=None))
    assert {kind for kind, _, path in brief(content["defects"]) if path.endswith("i/0.png")} == {"exif_rotation"}
    assert brief(content["defects"])[0] == ("orphan_mask", "train", str(file.parent / "i/1.png"))


@pytest.mark.runs
def test_the_command(tmp_path: Path) -> None:
    root = planted.build(tmp_path / "set")
    write_config(tmp_path / "elsewhere")

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [python(), "-m", "lightning_seg.audit", "--config", "set.yaml", *arguments],
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    flags = ["--data.root", str(root), "--model.overrides.MODEL.RESNETS.DEPTH", "50", "--trainer.max_epochs", "7"]
    done = command(*flags)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "weight" in done.stdout
    assert done.stderr == ""
    path = planted.truncated_image(root)
    done = command(*flags)
    assert done.returncode == 1
    assert f"image {path} cannot be read" in done.stdout
    done = command()
    assert (done.returncode, done.stdout) == (1, "")
    assert f"error: data.root {tmp_path / 'elsewhere'} does not exist: name the folder" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data.rot", "x"], "did you mean data.root"),
        (["--trainer.max_epoch", "x"], "did you mean trainer.max_epochs"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--config", write_config(tmp_path), *flags])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_what_cannot_be_listed_is_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = planted.build(tmp_path / "set")
    assert main(["--config", write_config(root, val=folder("valid"))]) == 1
    assert capsys.readouterr().err == (
        f"error: folder of images {root / 'valid/images'} does not exist: check data.root and the reader's images\n"
    )
    assert main(["--config", write_config(root, train=None, val=None, test=None)]) == 1
    assert "nothing to audit" in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.runs
@pytest.mark.parametrize(
    ("split", "plant"),
    [
        (split, plant)
        for kind, split, plant in PLANTS
        if kind not in SURVIVED and plant not in (planted.upside_down, planted.translucent_mask)
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_fit_stops_before_the_model_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], split: str, plant: planted.Plant
) -> None:
    root = planted.build(tmp_path / "set", colours=plant in COLOURED)
    path = plant(root)
    config = write_config(root, palette=planted.PALETTE if plant in COLOURED else None)
    with pytest.raises(SystemExit) as caught:
        train(["fit", "--config", config])
    message = capsys.readouterr().err
    assert caught.value.code == 1
    assert path.stem in message
    assert f"data.{split}: " in message
    assert "python -m lightning_seg.audit --config …" in message


@pytest.mark.runs
def test_a_saved_config_can_be_audited(tmp_path: Path) -> None:
    root = planted.build(tmp_path / "set")
    planted.all_ignored(root)
    planted.leak(root)
    planted.upside_down(root)
    planted.duplicate(root)
    train(["fit", "--config", write_config(root), "--trainer.max_steps", "1"])  # survives all of these
    status, content, _ = run("runs/set/version_0/config.yaml", "--name", "config")
    assert status == 1
    assert len(content["defects"]) == 4


def test_camvid(shared: Path) -> None:
    root = shared / "data" / "camvid" / "CamVid"
    config = str(REPOSITORY / "configs" / "camvid_semantic_fpn_r50.yaml")
    status, content, _ = run(config, "--data.root", str(root))
    assert (status, content["defects"]) == (0, [])
    assert [figures["images"] for figures in content["splits"].values()] == [367, 101, 233]
    train_pixels = content["splits"]["train"]
    assert sum(train_pixels["class_pixels"].values()) + train_pixels["ignored_pixels"] == 367 * 480 * 360


def test_fruits(shared: Path) -> None:
    root = shared / "data" / "fruits_nuts_coco" / "data"
    images = "images" if (root / "images").is_dir() else "."
    init = {"annotations": "trainval.json", "images": images}
    reader = {"class_path": "lightning_seg.data.Coco", "init_args": init}
    status, content, _ = run(write_config(root, classes=None, train=reader, val=None, test=None))
    assert (status, content["defects"]) == (0, [])
    assert content["splits"]["train"]["images"] == 18
    assert content["splits"]["train"]["sizes"] == {"800x600": 18}
