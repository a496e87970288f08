"""A random split: parts that share nothing, groups that stay together, the same on every machine."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_seg.data import Folder, Labelled, Reader, Split
from lightning_seg.data.readers.reader import OrphanError
from lightning_seg.data.readers.several import readers_of
from lightning_seg.errors import ConfigError, DataError
from lightning_seg.structures import Sample


class Tiles(Reader):
    """Sixteen tiles in each of ``scenes`` scenes."""

    def __init__(self, scenes: int) -> None:
        self.scenes = scenes

    def samples(self, root: Path | None) -> list[Sample]:
        names = [f"scene_{scene}/tile_{tile}" for scene in range(self.scenes) for tile in range(16)]
        return [Sample(name, Path(f"/data/{name}.png")) for name in names]


def names(part: str, scenes: int = 20, **how: object) -> list[str]:
    return [sample.name for sample in Split(of=Tiles(scenes), part=part, **how).samples(None)]  # type: ignore[arg-type]


@given(seed=st.integers(0, 2**31), train=st.floats(0.2, 0.7))
def test_parts_share_nothing_and_make_up_the_whole(seed: int, train: float) -> None:
    how = {"seed": seed, "fractions": {"train": train, "val": 0.9 - train, "test": 0.1}}
    parts = [names(part, **how) for part in ("train", "val", "test")]
    assert sorted(itertools.chain(*parts)) == sorted(sample.name for sample in Tiles(20).samples(None))
    assert abs(len(parts[0]) - train * 320) <= 1


def test_groups_stay_together() -> None:
    parts = [{name.split("/")[0] for name in names(part, group_by="scene_[0-9]+")} for part in ("train", "val", "test")]
    assert [len(part) for part in parts] == [16, 2, 2]
    assert len(set.union(*parts)) == 20
    by_digit = [{name[6] for name in names(part, group_by="scene_([0-9])")} for part in ("train", "val", "test")]
    assert len(set.union(*by_digit)) == sum(map(len, by_digit)) == 10


def test_groups_are_those_below_the_root(tmp_path: Path) -> None:
    """``scene_9`` above the data is no group, and is no part of an error either."""
    root = tmp_path / "scene_9"
    for number in range(8):
        for name in (f"i/scene_{number}.jpg", f"m/scene_{number}.png"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
    how = {"of": Folder(images="i", masks="m"), "fractions": [0.5, 0.5]}
    parts = [Split(part=part, group_by="scene_[0-9]+", **how).samples(root) for part in ("train", "val")]  # type: ignore[arg-type]
    assert [len(part) for part in parts] == [4, 4]
    with pytest.raises(DataError, match=r"matches nothing in i/scene_0\.jpg"):
        Split(part="val", group_by="scene_9", **how).samples(root)  # type: ignore[arg-type]


def test_the_seed_decides() -> None:
    assert names("val") != names("val", seed=1)
    assert names("val", scenes=1, fractions=[0.5, 0.5]) == [f"scene_0/tile_{t}" for t in (1, 11, 14, 15, 2, 4, 6, 8)]


@pytest.mark.parametrize("fractions", [[0.5, 0.6], [0.5, 0.4, 0.05, 0.05], {"train": 0.5, "dev": 0.5}, [1.5, -0.5]])
def test_refuses_fractions(fractions: object) -> None:
    with pytest.raises(ConfigError, match="must be numbers for train, val and test that add up to 1"):
        names("train", fractions=fractions)


def test_refuses_what_leaves_a_part_empty() -> None:
    with pytest.raises(DataError, match=r"no sample falls into test \(320 samples in 20 groups"):
        names("test", fractions=[0.5, 0.5], group_by="scene_[0-9]+")
    with pytest.raises(DataError, match=r"matches nothing in /data/scene_0/tile_0\.png"):
        names("test", group_by="city_[a-z]+")
    with pytest.raises(ConfigError, match="is no regular expression"):
        names("test", group_by="(")


@pytest.mark.parametrize("pairs", [0, 1])
def test_orphans_are_told_where_too_few_pairs_are_left_for_a_part(pairs: int, tmp_path: Path) -> None:
    for name in ("i/0.jpg", "i/lone.jpg", "m/other.png", *["m/0.png"][:pairs]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for part in ("train", "val"):
        with pytest.raises(OrphanError, match=r"have no mask named .* lone.*1 masks in .* other\.png") as caught:
            Split(of=Folder(images="i", masks="m"), part=part, fractions=[0.5, 0.5]).samples(tmp_path)  # type: ignore[arg-type]
        assert {orphan.path.name for orphan in caught.value.orphans} >= {"lone.jpg", "other.png"}


def fold_names(part: str, fold: int, folds: int, scenes: int = 20, **how: object) -> list[str]:
    return names(part, scenes, fold=fold, folds=folds, **how)


@given(
    seed=st.integers(0, 2**31),
    scenes=st.integers(1, 9),
    folds=st.integers(2, 9),
    group_by=st.sampled_from([None, "tile_[0-9]+"]),
)
def test_every_sample_is_in_exactly_one_fold(seed: int, scenes: int, folds: int, group_by: str | None) -> None:
    everything = sorted(sample.name for sample in Tiles(scenes).samples(None))
    how = {"folds": folds, "scenes": scenes, "seed": seed, "group_by": group_by}
    vals = [fold_names("val", fold, **how) for fold in range(folds)]  # type: ignore[arg-type]
    assert sorted(itertools.chain(*vals)) == everything
    sizes = [len(val) for val in vals]
    assert max(sizes) - min(sizes) <= (1 if group_by is None else scenes)
    for fold, val in enumerate(vals):
        assert sorted([*fold_names("train", fold, **how), *val]) == everything  # type: ignore[arg-type]
    if group_by is not None:
        tiles = [{name.split("/")[1] for name in val} for val in vals]
        assert sum(map(len, tiles)) == 16


def test_folds_depend_on_the_seed_alone_and_hardly_on_new_samples() -> None:
    assert fold_names("val", 1, 5, scenes=1) == [f"scene_0/tile_{tile}" for tile in (10, 3, 7)]
    assert fold_names("val", 1, 5) != fold_names("val", 1, 5, seed=1)
    before, after = (
        {name: fold for fold in range(5) for name in fold_names("val", fold, 5, scenes=scenes)} for scenes in (20, 21)
    )
    assert sum(before[name] != after[name] for name in before) < 20  # of 320


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"folds": 5, "fold": 5}, r"Split\(folds=5\) has no fold 5: choose 0 to 4"),
        ({"folds": 5, "fold": -1}, r"Split\(folds=5\) has no fold -1: choose 0 to 4"),
        ({"folds": 1, "fold": 0}, r"Split\(folds=1\) must be at least 2"),
        ({"fold": 0}, r"Split\(fold=0\) needs folds: how many there are"),
        ({"folds": 5}, r"Split\(folds=5\) has no fold: give data\.fold, 0 to 4"),
        ({"folds": 5, "fold": 0, "part": "test"}, r"folds have the parts train and val; split the samples of the test"),
        ({"folds": 17, "fold": 3, "scenes": 1}, r"Split\(folds=17\) is more than the 16 samples in 16 groups"),
        (
            {"folds": 5, "fold": 3, "scenes": 3, "group_by": "scene_[0-9]+"},
            r"Split\(folds=5\) is more than the 48 samples in 3 groups",
        ),
    ],
)
def test_folds_that_are_refused(how: dict[str, object], message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        names(**{"part": "val", **how})  # type: ignore[arg-type]


def test_a_fold_that_large_groups_leave_empty_is_named() -> None:
    class Uneven(Reader):
        def samples(self, root: Path | None) -> list[Sample]:
            groups = ["a"] * 30 + ["b", "c", "d"]
            return [Sample(f"{g}/{i:02d}", Path(f"/data/{g}/{i:02d}.png")) for i, g in enumerate(groups)]

    def val(fold: int) -> list[Sample]:
        return Split(Uneven(), "val", folds=3, fold=fold, group_by="/([a-d])/", seed=2).samples(None)

    assert [len(val(fold)) for fold in (1, 2)] == [30, 3]
    message = r"no sample falls into val of fold 0 of 3 \(33 samples in 4 groups\): choose fewer folds, smaller groups"
    with pytest.raises(DataError, match=message):
        val(0)


def test_one_setting_chooses_the_fold_of_all() -> None:
    def split(part: str, fold: int | None = None, folds: int | None = 4) -> Split:
        return Split(Tiles(2), part, folds=folds, fold=fold)  # type: ignore[arg-type]

    given = {
        "train": [Labelled(split("train"), {0: "a"}), Tiles(1), split("train", 0)],
        "val": Split(split("train", 3), "val", [0.5, 0.5]),
        "test": Tiles(3),
    }
    found = readers_of(given, 2)  # type: ignore[arg-type]
    inner = [found["train"][0].of, found["train"][2], found["val"][0].of]  # type: ignore[attr-defined]
    assert [reader.fold for reader in inner] == [2, 2, 2]
    assert found["train"][0].own_label_map == {0: "a"}
    assert found["train"][1] is given["train"][1]  # type: ignore[index]
    assert [given["train"][0].of.fold, given["train"][2].fold, given["val"].of.fold] == [None, 0, 3]  # type: ignore[attr-defined,index,union-attr]
    assert found["train"][2].samples(None) == split("train", 2).samples(None)
    with pytest.raises(ConfigError, match=r"Split\(folds=4\) has no fold 4: choose 0 to 3"):
        readers_of(given, 4)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"data\.fold is 2, but no reader is a Split with folds: give one, or leave"):
        readers_of({"train": Split(Tiles(2), "train"), "val": None}, 2)
