"""Several readers in a split: each sample is read as its own reader says, and the run is that of one reader."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lightning_seg.audit import parse
from lightning_seg.cli import main
from lightning_seg.data import ADE20K, Cityscapes, Coco, Folder, Labelled, SegmentationDataModule, Split, Synthetic
from lightning_seg.data.listing.prediction import images_to_predict
from lightning_seg.data.readers.several import joined
from lightning_seg.data.transforms import RandomScaleCrop
from lightning_seg.errors import ConfigError, DataError
from lightning_seg.plot import main as plot
from lightning_seg.structures import Sample
from tests.auditing import run
from tests.conftest import CLASSES, TINY_OVERRIDES, write_pair
from tests.data import planted
from tests.data.modules import epochs, make, trainer_of

Experiment = Callable[..., Path]

SHIFTED: dict[int | str, str] = {**{10 + index: name for index, name in enumerate(CLASSES)}, 255: "ignore"}
"""What the masks of the second half store."""


@pytest.fixture(scope="module")
def halves(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The six scenes of ``train`` in two folders; masks of the second store each class ten higher."""
    root = tmp_path_factory.mktemp("halves")
    for index, image in enumerate(sorted((scenes / "train/images").iterdir())):
        half = "a" if index < 3 else "b"
        for kind in ("images", "masks"):
            (root / half / kind).mkdir(parents=True, exist_ok=True)
        (root / half / "images" / image.name).write_bytes(image.read_bytes())
        mask = np.asarray(Image.open(scenes / f"train/masks/{image.stem}.png"))
        stored = mask if half == "a" else np.where(mask == 255, 255, mask + 10).astype(np.uint8)
        Image.fromarray(stored).save(root / half / "masks" / f"{image.stem}.png")
    return root


def half(name: str) -> Folder:
    return Folder(images=f"{name}/images", masks=f"{name}/masks")


def described(name: str, **beside: Any) -> dict[str, Any]:
    return {
        "class_path": "lightning_seg.data.Folder",
        "init_args": {"images": f"{name}/images", "masks": f"{name}/masks"},
        **beside,
    }


def both() -> list[Any]:
    return [half("a"), Labelled(half("b"), SHIFTED)]


NAMES = st.lists(st.sampled_from(["a", "b", "0/a", "1/a", "0/0/a"]), unique=True)


@given(parts=st.lists(NAMES, min_size=1, max_size=4))
def test_every_sample_comes_once_under_a_name_of_its_own(parts: list[list[str]]) -> None:
    given_ = [[Sample(name, Path(f"{place}/{name}.jpg")) for name in part] for place, part in enumerate(parts)]
    samples = joined(given_)
    assert [(sample.source, sample.image) for sample in samples] == [
        (place, sample.image) for place, part in enumerate(given_) for sample in part
    ]
    assert len({sample.name for sample in samples}) == len(samples)
    taken = [name for part in parts for name in part]
    if len(set(taken)) == len(taken):  # a name changes only where it must
        assert [sample.name for sample in samples] == taken


@pytest.mark.parametrize(
    "settings",
    [{}, {"cache": "ram"}, {"sampler": "rare_class"}, {"num_workers": 2}],
    ids=["plain", "cache", "rare", "workers"],
)
def test_samples_are_those_of_one_reader(scenes: Path, halves: Path, settings: dict[str, Any]) -> None:
    settings = {"train_transforms": [RandomScaleCrop(32, 40)], "val": None, "seed": 4, **settings}
    assert epochs(make(halves, train=both(), **settings), 2) == epochs(make(scenes, **settings), 2)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_the_order_is_the_same_for_any_number_of_processes(halves: Path, processes: int) -> None:
    alone = epochs(make(halves, train=both(), val=None, batch_size=6), 2)
    ranks = []
    for rank in range(processes):
        data = make(halves, train=both(), val=None, batch_size=6 // processes)
        data.trainer = trainer_of(rank, processes)
        ranks.append(epochs(data, 2))
    for epoch in range(2):
        dealt = [look for step in zip(*(seen[epoch] for seen in ranks), strict=True) for look in step]
        assert dealt == alone[epoch]


def test_figures_are_counted_against_each_readers_truth(scenes: Path, halves: Path) -> None:
    one, several = make(scenes, val=half("train")), make(halves, train=None, val=both())
    for data in (one, several):
        data.setup("validate")
    for index in range(6):
        expected, found = one.datasets["val"][index], several.datasets["val"][index]
        assert torch.equal(found["truth"], expected["truth"])
        assert (found["name"], found["position"]) == (expected["name"], index)


def test_names_that_clash_begin_with_the_place_of_their_reader(halves: Path) -> None:
    data = make(halves, train=[half("a"), half("a")], val=None, batch_size=1)
    data.setup("fit")
    names = [sample.name for sample in data.datasets["train"].samples]
    assert names == [f"{place}/000{index}" for place in range(2) for index in range(3)]


def test_a_run_is_that_of_one_reader_and_goes_on_where_it_was(experiment: Experiment, halves: Path) -> None:
    """By the command: its weights, and those of a run that was stopped within an epoch."""
    several = {
        "train": [described(f"{halves}/a"), described(f"{halves}/b", label_map=SHIFTED)],
        "val": described(f"{halves}/a"),
    }
    signal = {"class_path": "tests.ranks.SignalIn", "init_args": {"step": 4, "rank": 0}}

    def weights(name: str, *more: str, **data: Any) -> dict[str, torch.Tensor]:
        config = str(experiment(**data))
        main(["fit", "--config", config, "--trainer.limit_val_batches", "0", *more, "--name", name])
        state: dict[str, torch.Tensor] = torch.load(
            max(Path("runs", name).iterdir()) / "checkpoints/last.ckpt", weights_only=True
        )["state_dict"]
        return state

    expected = weights("one")
    found = [weights("several", **several)]
    with pytest.raises(SystemExit) as caught:
        weights("stopped", "--trainer.callbacks", json.dumps([signal]), **several)
    assert caught.value.code == 75
    found.append(weights("stopped", "--ckpt_path", "last", **several))
    saved = "runs/several/version_0/config.yaml"
    given, labelled = parse(["--config", saved]).data.train
    assert given.init_args.images == f"{halves}/a/images"
    assert labelled.init_args.of.init_args.images == f"{halves}/b/images"
    assert labelled.init_args.label_map == SHIFTED
    for state in found:
        assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())


def options(config: dict[str, Any], tmp_path: Path, *more: str) -> Any:
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump({"model": {"config": "x.yaml"}, "data": config}))
    return parse(["--config", str(file), *more]).data


def test_a_label_map_stands_beside_the_class_path(tmp_path: Path) -> None:
    inner = described("b", label_map={1: "x"})
    config = {
        "train": [described("a", label_map={"1-3": "x"}), described("b", label_map=None)],
        "val": {"class_path": "Split", "init_args": {"of": inner, "part": "val"}},
    }
    data = options(config, tmp_path, "--data.test", json.dumps(described("c", label_map={"7": "x"})))
    assert data.train[0].class_path == "lightning_seg.data.Labelled"
    assert data.train[0].init_args.label_map == {"1-3": "x"}
    assert data.train[0].init_args.of.init_args.images == "a/images"
    assert data.train[1].class_path == "lightning_seg.data.Folder"
    assert data.val.init_args.of.init_args.label_map == {1: "x"}
    assert data.test.init_args.label_map == {"7": "x"}


def test_the_shell_changes_readers(tmp_path: Path) -> None:
    one, two = {"train": described("a")}, {"train": [described("a"), described("b")]}
    assert options(one, tmp_path, "--data.train.init_args.images", "x").train.init_args.images == "x"
    changed = options(two, tmp_path, "--data.train.init_args.images", "x").train
    assert [reader.init_args.images for reader in changed] == ["a/images", "x"]
    added = options(two, tmp_path, "--data.train+", json.dumps(described("c", label_map={7: "x"}))).train
    assert [reader.class_path.rsplit(".", 1)[1] for reader in added] == ["Folder", "Folder", "Labelled"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--data.train.0.init_args.images", "x"], "data.train is a list: here, --data.train.NAME changes its last"),
        (["--data.val", json.dumps(described("a", labelmap={}))], "labelmap stands beside class_path, where init_args"),
        (["--data.val", json.dumps([described("a", labelmap={})])], "reader's label_map may; did you mean label_map?"),
        (
            ["--data.val.init_args.imags", "x"],
            "data.val: lightning_seg.data.Folder has no option 'imags'; did",
        ),
        (
            ["--data.train", '[{"class_path": "lightning_seg.data.Foldr"}]'],
            "data.train: module 'lightning_seg.data' has no attribute 'Foldr'; did you mean Folder?",
        ),
        (
            ["--data.train", json.dumps([{"class_path": "lightning_seg.data.Folder", "init_args": {"imges": "x"}}])],
            "data.train: lightning_seg.data.Folder has no option 'imges'; did you mean images",
        ),
    ],
)
def test_mistakes_in_a_command_are_named(
    more: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {"train": [described("a"), described("b")], "val": described("a")}
    with pytest.raises(SystemExit) as caught:
        options(config, tmp_path, *more)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def listed(root: Path, train: list[Any], **settings: Any) -> SegmentationDataModule:
    data = SegmentationDataModule(train=train, root=str(root), batch_size=1, num_workers=0, **settings)
    data.setup("fit")
    return data


def test_messages_name_the_reader_and_its_label_map(halves: Path) -> None:
    def refused(label_map: dict[int | str, str]) -> str:
        with pytest.raises((ConfigError, DataError)) as caught:
            listed(halves, [half("a"), Labelled(half("b"), label_map)], classes=CLASSES).datasets["train"][5]
        return str(caught.value)

    own = "data.train.1.label_map"
    assert refused({10: "moon"}).startswith(f"{own}, value 10: 'moon' is not in data.classes: add it there, or map it ")
    assert refused({"rest": "moon"}).startswith(f"{own}, rest: 'moon' is not in data.classes")
    assert f"map it with {own} to a class" in refused({10: "moon"})
    assert refused({"car": "sky"}).startswith(f"{own} maps car, but data.train.1 has no such value")
    assert refused({"10-12": "sky", 11: "hill"}).startswith(f"{own} maps value 11 to sky and to hill")
    assert refused({"9-1": "sky"}).startswith(f"{own} has the range '9-1'")
    assert refused({10: "sky"}).endswith(f"add a class, or map the value with {own}")
    one = SegmentationDataModule(CLASSES, Labelled(half("b"), {10: "moon"}), root=str(halves), batch_size=1)
    with pytest.raises(ConfigError, match=r"^data\.train\.label_map, value 10: 'moon'"):
        one.setup("fit")


def test_a_label_map_of_its_own_is_in_place_of_the_common_one(halves: Path) -> None:
    """And a palette may colour what only one of them maps."""
    common: dict[int | str, str] = {**dict(enumerate(CLASSES)), 255: "ignore"}
    data = listed(halves, both(), classes=CLASSES, label_map={**common, "moon": "sky"}, palette={"moon": "#010203"})
    first, second = data.datasets["train"].tables
    assert (first.values[0], second.values[10]) == (0, 0)
    assert 10 not in first.values
    assert 0 not in second.values
    assert first.colours == {(1, 2, 3): 0}
    assert second.colours == {}
    assert data.datasets["train"][5]["sem_seg"].unique().tolist() == [0, 1, 2, 3, 4, 5, 255]


def test_classes_are_those_of_the_first_reader_that_names_any(tmp_path: Path) -> None:
    own: dict[int | str, str] = {"road": "way", "rest": "other"}
    readers = [Folder(images="i", masks="m"), Labelled(Cityscapes(root=".", split="train"), own)]
    assert SegmentationDataModule(train=readers, label_map={"sky": "air"}).class_names == ["way", "other"]
    cityscapes = Cityscapes(root=".", split="train")
    data = SegmentationDataModule(train=[cityscapes, ADE20K(root=".", split="train")], root=str(tmp_path))
    with pytest.raises(ConfigError, match=r"^data\.train\.1 stores .* as .*, but: .* is not in data\.classes"):
        data.setup("fit")


def test_settings_that_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.val is an empty list: name a reader, or write null"):
        SegmentationDataModule(CLASSES, half("a"), [])
    with pytest.raises(ConfigError, match="Labelled has two label maps of its own, one inside the other"):
        Labelled(Labelled(half("a"), {}), {})
    with pytest.raises(ConfigError, match="Split has two label maps of its own"):
        Labelled(Split(Labelled(half("a"), {}), "train"), {})


def test_a_split_keeps_the_label_map_of_what_it_splits(halves: Path) -> None:
    inner = Split(Labelled(half("b"), SHIFTED), "train", [0.5, 0.5])
    data = listed(halves, [inner], classes=CLASSES)
    assert data.datasets["train"].tables[0].values[15] == 5


def test_made_up_scenes_are_written_by_every_reader(tmp_path: Path) -> None:
    readers = [Synthetic(root=name, count=2, seed=seed, size=(16, 16)) for seed, name in enumerate("ab")]
    data = SegmentationDataModule(CLASSES, [readers[0], Labelled(readers[1], SHIFTED)], root=str(tmp_path))
    assert all(reader.prepares for reader in data.readers["train"])
    data.prepare_data()
    assert len(data.listings.split("train").samples) == 4


def two_sets(root: Path) -> Path:
    """Two clean sets for ``train``: ``0`` stores the classes as 0 to 2, ``1`` as 10 to 12."""
    for place in range(2):
        planted.build(root / str(place))
    for mask in (root / "1").glob("*/masks/*.png"):
        planted.edit(mask, lambda ids: np.where(ids == 255, 255, ids + 10).astype(np.uint8))
    for image in (root / "1").glob("*/images/*.png"):
        planted.edit(image, lambda pixels: 255 - pixels)
    return root


def config_of(root: Path, **data: Any) -> str:
    own = {**{10 + index: name for index, name in enumerate(planted.CLASSES)}, 255: "ignore"}
    readers = [described("0/train"), described("1/train", label_map=own)]
    settings = {"root": str(root), "classes": planted.CLASSES, "train": readers, "ignore_index": 255, **data}
    model = {"config": "Misc/semantic_R_50_FPN_1x.yaml", "weights": ""}
    Path("set.yaml").write_text(yaml.safe_dump({"model": model, "data": settings}))
    return "set.yaml"


@pytest.mark.usefixtures("empty_working_directory")
def test_the_audit_counts_all_readers_together_and_names_files(tmp_path: Path) -> None:
    root = two_sets(tmp_path / "sets")
    status, content, page = run(config_of(root))
    assert (status, content["defects"]) == (0, [])
    split = content["splits"]["train"]
    assert split["images"] == 12
    masks = [np.asarray(Image.open(file)) for file in sorted(root.glob("?/train/masks/*.png"))]
    for index, name in enumerate(planted.CLASSES):
        assert split["class_pixels"][name] == sum(int(np.isin(mask, (index, 10 + index)).sum()) for mask in masks)
    assert {key: label["meaning"] for key, label in split["labels"].items()} == {
        "0": "wall", "1": "door", "2": "window", "10": "wall", "11": "door", "12": "window", "255": "ignored",
    }  # fmt: skip
    assert page.count("<figure>") == 6
    broken = planted.edit(root / "1/train/masks/2.png", lambda mask: planted.put(mask, 0))
    planted.copied(root, "0/train/{}/5.png", "1/train/{}/9.png")
    planted.edit(root / "1/train/masks/9.png", lambda ids: np.where(ids == 255, 255, ids + 10).astype(np.uint8))
    orphan = planted.orphan_image(root / "1")
    status, content, _ = run(config_of(root))
    found = [(defect["kind"], defect["path"]) for defect in content["defects"]]
    copy = root / "1/train/images/9.png"
    assert found == [("orphan_image", str(orphan)), ("unknown_id", str(broken)), ("duplicate", str(copy))]
    assert "map the value with data.train.1.label_map" in content["defects"][1]["detail"]


@pytest.mark.usefixtures("empty_working_directory")
def test_a_value_that_means_several_classes_has_a_row_for_each(tmp_path: Path) -> None:
    root = two_sets(tmp_path / "sets")
    swapped = {10: "door", 11: "wall", 12: "window", 255: "ignore"}
    first = described("1/train", label_map={10: "wall", 11: "door", 12: "window", 255: "ignore"})
    _, content, _ = run(config_of(root, train=[first, described("1/val", label_map=swapped)]))
    labels = content["splits"]["train"]["labels"]
    assert labels.keys() == {"10 (wall)", "10 (door)", "11 (door)", "11 (wall)", "12", "255"}
    masks = [np.asarray(Image.open(file)) for file in (root / "1/val/masks").iterdir()]
    assert labels["10 (door)"]["pixels"] == sum(int((mask == 10).sum()) for mask in masks)


@pytest.mark.parametrize("own", [None, {0: "wall", 1: "door"}])
@pytest.mark.usefixtures("empty_working_directory")
def test_a_class_that_one_reader_hides_behind_255_is_found(
    tmp_path: Path, own: dict[int, str] | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though the other reader shows it."""
    root = planted.build(tmp_path / "sets")
    for index in range(3):
        mask = np.zeros(planted.SIZE, np.uint8)
        mask[10:20, 10:20] = 255
        write_pair(root / "binary", str(index), mask)
    second = described("binary", **({} if own is None else {"label_map": own}))
    config = config_of(root, train=[described("train"), second], ignore_index=None)
    with pytest.raises(SystemExit):
        main(["fit", "--config", config])
    said = capsys.readouterr().err
    lacking = "'door', 'window'"
    assert f"no pixel of data.train.1 is of class {lacking}, but 3.3% have the value 255" in said
    assert "values seen: 0 in 96.7%, 255 in 3.3%" in said
    lines = "{0: wall, 2: window, 255: door}" if own is None else "{0: wall, 255: door}"
    assert f"label_map: {lines}  # beside the class_path of data.train.1" in said
    assert "ignore_index: 255" in said
    (defect,) = [one for one in run(config)[1]["defects"] if one["kind"] == "absent_class"]
    assert "no pixel of data.train.1" in defect["detail"]


def test_a_class_is_lost_only_where_no_reader_has_it(tmp_path: Path) -> None:
    file = planted.coco(tmp_path)
    coco = Coco(annotations=str(file), images=str(tmp_path / "i"))
    lost = Labelled(coco, {1: "ignore"})
    for readers, expected in (([lost], ["a"]), ([lost, lost], ["a"]), ([lost, coco], [])):
        data = SegmentationDataModule(["background", "a"], readers)
        assert data.listings.split("train").lost == expected


def test_how_labels_are_read_is_told_once_for_each_way(
    halves: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        data = SegmentationDataModule(CLASSES, [*both(), half("a")], half("a"), root=str(halves), batch_size=1)
        data.take_quick_look()
        data.setup("fit")
    told = [record.message for record in caplog.records if "stored labels" in record.message]
    assert [message.partition(",")[0] for message in told] == ["data.train.0", "data.train.1"]
    assert "  ground: 11\n" in told[1]
    assert "\n  seen: 1" in told[1]


def test_masks_among_images_to_predict_are_known_through_wrappers(tmp_path: Path) -> None:
    for name in ("a.png", "a_mask.png"):
        Image.new("L", (4, 4)).save(tmp_path / name)
    reader = Labelled(Folder(images="no", masks="no", mask_name="{stem}_mask.png"), {})
    (sample,) = images_to_predict(str(tmp_path), None, [reader])
    assert sample.name == "a"


@pytest.mark.runs
@pytest.mark.usefixtures("empty_working_directory")
def test_real_data_sets_train_as_one(shared: Path) -> None:
    """CamVid's masks and COCO's polygons, by classes of both."""
    camvid = {"class_path": "CamVid", "init_args": {"root": "camvid/CamVid", "split": "val"}}
    fruits = "fruits_nuts_coco/data"
    coco = {"class_path": "Coco", "init_args": {"annotations": f"{fruits}/trainval.json", "images": f"{fruits}/images"}}
    road: dict[str, str] = {"Road": "road", "rest": "other"}
    nuts: dict[str, str] = {"date": "fruit", "fig": "fruit", "hazelnut": "fruit", "background": "other"}
    crop = {"class_path": "lightning_seg.data.RandomScaleCrop", "init_args": {"height": 64, "width": 64}}
    data = {
        "root": str(shared / "data"), "classes": ["other", "road", "fruit"], "num_workers": 0, "batch_size": 2,
        "train": [{**camvid, "label_map": road}, {**coco, "label_map": nuts}], "val": {**camvid, "label_map": road},
        "train_transforms": [crop],
    }  # fmt: skip
    model = {"config": "Misc/semantic_R_50_FPN_1x.yaml", "weights": "", "overrides": TINY_OVERRIDES}
    trainer = {"max_steps": 2, "limit_val_batches": 1, "accelerator": "cpu", "devices": 1, "num_sanity_val_steps": 0}
    Path("both.yaml").write_text(yaml.safe_dump({"model": model, "data": data, "trainer": trainer}))
    main(["fit", "--config", "both.yaml"])
    assert Path("runs/both/version_0/checkpoints/last.ckpt").exists()
    status, content, _ = run("both.yaml", "--data.val", "null")
    assert (status, content["defects"]) == (0, [])
    split = content["splits"]["train"]
    assert split["images"] == 101 + 18
    assert all(split["class_pixels"].values())


def test_folds_by_the_command(experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    """``--data.fold`` alone chooses train and val, also among several readers; ``plot`` sums the runs up."""

    def folds(part: str) -> list[dict[str, Any]]:
        return [
            {
                "class_path": "lightning_seg.data.Split",
                "init_args": {"of": described(name), "part": part, "folds": 2},
            }
            for name in ("train", "val")
        ]

    config = str(experiment(train=folds("train"), val=folds("val"), test=None, batch_size=1))
    seen = []
    for fold in range(2):
        main(["fit", "--config", config, "--trainer.max_steps", "1", "--data.fold", str(fold), "--name", "folds"])
        names = Path(f"runs/folds/version_{fold}/config.yaml").read_text()
        assert yaml.safe_load(names)["data"]["fold"] == fold
        seen.append(json.loads(Path(f"runs/folds/version_{fold}/metrics.json").read_text()))
    assert [figures["num_images"] for figures in seen] == [4, 5]  # of 6 + 3 scenes
    capsys.readouterr()
    plot([f"runs/folds/version_{fold}" for fold in range(2)])
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("val over folds 0, 1 of 2")
    values = [figures["mIoU"] for figures in seen]
    mean, spread = f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}", f"{min(values):.4f} to {max(values):.4f}"
    assert lines[start + 2] == f"mIoU    {mean}  {spread}"
    assert [line.split()[0] for line in lines[start + 3 :]] == CLASSES


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--data.fold", "3"], "Split(folds=3) has no fold 3: choose 0 to 2"),
        ([], "Split(folds=3) has no fold: give data.fold, 0 to 2"),
        (
            ["--data.val", "null", "--data.train", json.dumps(described("train")), "--data.fold", "1"],
            "but no reader is a Split",
        ),
    ],
)
def test_folds_that_the_command_refuses(
    experiment: Experiment, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = {"class_path": "lightning_seg.data.Split", "init_args": {"of": described("train"), "folds": 3}}
    parts = {part: {**reader, "init_args": {**reader["init_args"], "part": part}} for part in ("train", "val")}  # type: ignore[dict-item]
    with pytest.raises(SystemExit) as caught:
        main(["fit", "--config", str(experiment(**parts)), *more])
    assert caught.value.code == 1
    assert message in capsys.readouterr().err
