"""A random split: parts that share nothing, groups that stay together, the same on every machine."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_seg.data import Folder, Reader, Split
from lightning_seg.data.readers.reader import OrphanError
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
    assert names("val") == names("val")
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
