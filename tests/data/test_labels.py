"""Stored values and colours become class ids by what is said of them, and nothing is guessed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lightning_seg.colours import default_palette
from lightning_seg.data.labels.label_map import Labelling
from lightning_seg.data.labels.table import LabelTable
from lightning_seg.data.reading import StoredMask, read_mask
from lightning_seg.errors import ConfigError, DataError
from lightning_seg.structures import Annotations, DatasetInfo, SourceLabels

MASK = Path("masks/7.png")
SOURCE = SourceLabels(("road", "car", "truck"), {7: "road", 26: "car", 27: "truck", 0: None}, {})


def make_table(
    names: tuple[str, ...] = ("a", "b", "c"), *, source: SourceLabels | None = None, ignore_index: int = 255, **how: Any
) -> LabelTable:
    info = DatasetInfo(names, ignore_index, default_palette(len(names)))
    return Labelling(info, how.get("label_map", {}), how.get("palette", {}), how.get("unknown", "refuse")).table(
        source, "data.train"
    )


def values(*stored: int, dtype: type = np.uint8) -> StoredMask:
    return StoredMask(values=np.array([stored], dtype))


def decode(table: LabelTable, stored: StoredMask) -> list[int]:
    return table.decode(stored, MASK)[0].tolist()  # type: ignore[no-any-return]


def test_plain_masks_hold_the_ids_of_classes() -> None:
    assert decode(make_table(), values(0, 2, 1, 255)) == [0, 2, 1, 255]
    with pytest.raises(DataError, match=r"masks/7\.png has class id 3 in 2 pixels, 9 in 1 pixels, but .* 3 classes"):
        decode(make_table(), values(3, 0, 9, 3))


@pytest.mark.parametrize(("count", "ignore_index"), [(3, 255), (11, 11), (127, 255), (128, 255), (200, 255), (3, 200)])
def test_every_byte_is_known_or_named(count: int, ignore_index: int) -> None:
    table = make_table(tuple(f"class {index}" for index in range(count)), ignore_index=ignore_index)
    for value in range(256):
        ids, foreign = table.look_up(values(0, value, 1), MASK)
        known = value < count or value == ignore_index
        assert ids.tolist() == [[0, value if known else ignore_index, 1]]
        assert foreign == ({} if known else {value: 1})


def test_mapped_values_are_all_that_has_a_meaning() -> None:
    table = make_table(("a", "b"), label_map={0: "a", 7: "b", "128": "b", 9: "ignore"})
    assert decode(table, values(0, 7, 128, 9, 255)) == [0, 1, 1, 255, 255]
    with pytest.raises(DataError, match=r"class id 1 in 1 pixels, .* stored values 0, 7, 9, 128, 255 have a meaning"):
        decode(table, values(0, 1))
    assert decode(make_table(("a", "b"), label_map={0: "a", 255: "b"}), values(0, 255)) == [0, 1]


def test_the_source_names_its_values() -> None:
    table = make_table(("road", "vehicle"), source=SOURCE, label_map={"car": "vehicle", 27: "vehicle"})
    assert decode(table, values(7, 26, 27, 0)) == [0, 1, 1, 255]
    with pytest.raises(DataError, match="class id 255"):
        decode(table, values(255))
    with pytest.raises(
        ConfigError, match=r"data\.train stores truck as 27, but: 'truck' is not in data\.classes: add it"
    ):
        make_table(("road", "car"), source=SOURCE)
    with pytest.raises(ConfigError, match=r"data\.label_map, value 27: 'vehicel' is not in .*did you mean vehicle"):
        make_table(("road", "vehicle"), source=SOURCE, label_map={"car": "vehicle", 27: "vehicel"})


def test_what_the_source_names_but_is_not_trained_may_be_ignored() -> None:
    source = SourceLabels(("rest", *SOURCE.names), SOURCE.values, {}, rest="rest")
    table = make_table(("road", "car"), source=source, unknown="ignore")
    assert str(table) == "  road: 7\n  car: 26\n  ignored: 27, 0"
    assert table.rest == 255
    assert table.look_up(values(7, 27), MASK)[1] == {}
    with pytest.raises(ConfigError, match=r"data\.label_map, truck: 'cra' is not in data\.classes"):
        make_table(("road", "car"), source=source, unknown="ignore", label_map={"truck": "cra"})
    with pytest.raises(ConfigError, match=r"data\.label_map, value 99: 'cra' is not in data\.classes"):
        make_table(("road", "car"), source=source, unknown="ignore", label_map={99: "cra"})


def test_values_without_a_meaning_may_be_ignored_and_are_told_once() -> None:
    table = make_table(source=None, unknown="ignore")
    with pytest.warns(UserWarning, match=r"class id 27 in 1 pixels.*all such pixels are ignored") as told:
        assert [decode(table, values(0, value)) for value in (27, 28)] == [[0, 255], [0, 255]]
    assert len(told) == 1


def test_names_that_lead_nowhere_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.label_map maps lorry, but data\.train has no such value"):
        make_table(("road", "car", "truck"), source=SOURCE, label_map={"lorry": "car"})
    with pytest.raises(ConfigError, match=r"value 3: 'rode' is not in data\.classes.*did you mean road"):
        make_table(("road",), label_map={3: "rode"})
    with pytest.raises(ConfigError, match=r"gives #ff0000 to two classes"):
        make_table(("a", "b"), palette={"a": (255, 0, 0), "b": (255, 0, 0)})


def test_colours_by_palette() -> None:
    palette = {"a": (255, 0, 0), "b": (0, 0, 9), "void": (1, 2, 3), "ignore": (0, 0, 0)}
    table = make_table(("a", "b"), palette=palette, label_map={"void": "ignore"})
    colours = np.array([[[255, 0, 0], [0, 0, 9], [1, 2, 3], [0, 0, 0]]], np.uint8)
    assert decode(table, StoredMask(colours=colours)) == [0, 1, 255, 255]
    with pytest.raises(DataError, match=r"has the colour #010101 in 4 pixels, which data\.palette does not name: give"):
        decode(table, StoredMask(colours=np.ones((1, 4, 3), np.uint8)))
    grown = make_table(("a", "b"), palette={**palette, "tree": (1, 1, 1)}, label_map={"void": "ignore", "tree": "a"})
    assert decode(grown, StoredMask(colours=np.ones((1, 4, 3), np.uint8))) == [0] * 4
    with pytest.raises(DataError, match=r"masks/7\.png stores colours: say which class"):
        decode(make_table(), StoredMask(colours=colours))


def test_palette_images_by_index_or_by_colour() -> None:
    colours = np.array([[0, 0, 9], [255, 0, 0], [7, 7, 7]], np.uint8)  # the other way round than the classes
    stored = StoredMask(values=np.array([[0, 1, 1]], np.uint8), palette=colours)
    palette = {"a": (255, 0, 0), "b": (0, 0, 9)}
    assert decode(make_table(("a", "b")), stored) == [0, 1, 1]
    assert decode(make_table(("a", "b"), palette=palette), stored) == [1, 0, 0]
    assert decode(make_table(("a", "b"), palette={"a": (9, 9, 9), "b": (8, 8, 8)}), stored) == [0, 1, 1]
    with pytest.raises(DataError, match=r"#070707 in 1 pixels"):
        decode(
            make_table(("a", "b"), palette=palette), StoredMask(values=np.array([[0, 2]], np.uint8), palette=colours)
        )


def test_more_classes_than_a_byte_holds() -> None:
    names = tuple(f"class {index}" for index in range(400))
    table = make_table(names, ignore_index=65535)
    assert decode(table, values(0, 399, 65535, dtype=np.int32)) == [0, 399, 65535]
    assert decode(table, values(0, 255)) == [0, 255]
    assert decode(make_table(names, ignore_index=-1), values(-1, 3, dtype=np.int32)) == [-1, 3]
    with pytest.raises(DataError, match="class id 400 in 1 pixels"):
        decode(table, values(400, dtype=np.int32))
    with pytest.raises(DataError, match="class id 70000 in 1 pixels"):
        decode(table, values(70000, dtype=np.int32))


def test_as_many_classes_as_a_byte_holds() -> None:
    names = tuple(f"class {index}" for index in range(255))
    assert decode(make_table(names), values(254, 255)) == [254, 255]
    table = make_table((*names, "last"), ignore_index=-1)
    assert decode(table, values(254, 255)) == [254, 255]


def test_the_table_can_be_read() -> None:
    table = make_table(("a", "b"), label_map={0: "a", 7: "b", 9: "b", 3: "ignore"}, palette={"a": (1, 2, 3)})
    assert str(table) == "  a: 0, #010203\n  b: 7, 9\n  ignored: 255, 3"


@given(
    label_map=st.dictionaries(st.integers(0, 255), st.sampled_from(["a", "b", "c", "ignore"]), min_size=1),
    stored=st.lists(st.integers(0, 300), min_size=1, max_size=60),
    deep=st.booleans(),
)
def test_never_a_silently_wrong_label(label_map: dict[int, str], stored: list[int], deep: bool) -> None:
    if not deep:
        stored = [value % 256 for value in stored]
    table = make_table(label_map=label_map)
    meaning = {255: 255, **{value: {"a": 0, "b": 1, "c": 2, "ignore": 255}[name] for value, name in label_map.items()}}
    mask = values(*stored, dtype=np.int32 if deep else np.uint8)
    if all(value in meaning for value in stored):
        assert decode(table, mask) == [meaning[value] for value in stored]
    else:
        ids, foreign = table.look_up(mask, MASK)
        assert ids[0].tolist() == [meaning.get(value, 255) for value in stored]
        assert foreign == {value: stored.count(value) for value in stored if value not in meaning}
        with pytest.raises(DataError):
            table.decode(mask, MASK)


_COLOUR = st.tuples(st.integers(0, 255), st.integers(0, 2), st.integers(253, 255))


@given(
    palette=st.lists(_COLOUR, min_size=3, max_size=3, unique=True), stored=st.lists(_COLOUR, min_size=1, max_size=40)
)
def test_never_a_silently_wrong_colour(palette: list[tuple[int, int, int]], stored: list[tuple[int, int, int]]) -> None:
    table = make_table(palette=dict(zip("abc", palette, strict=True)))
    ids, foreign = table.look_up(StoredMask(colours=np.array([stored], np.uint8)), MASK)
    assert ids[0].tolist() == [palette.index(colour) if colour in palette else 255 for colour in stored]
    assert foreign == {colour: stored.count(colour) for colour in stored if colour not in palette}


def test_files_of_every_kind(tmp_path: Path) -> None:
    """One label map in every kind of file that can hold it gives the same ids."""
    ids = np.random.default_rng(0).integers(0, 3, (5, 7)).astype(np.uint8)
    palette = {"a": (250, 0, 0), "b": (0, 250, 0), "c": (0, 0, 250)}
    colours = np.array(list(palette.values()), np.uint8)
    indexed = Image.fromarray(ids, mode="P")
    indexed.putpalette(colours.tobytes())
    files = {
        "grey.png": Image.fromarray(ids), "indexed.png": indexed, "deep.png": Image.fromarray(ids.astype(np.uint16)),
        "deep.tif": Image.fromarray(ids.astype(np.uint16)), "colour.png": Image.fromarray(colours[ids]),
        "colour.bmp": Image.fromarray(colours[ids]), "colour.gif": Image.fromarray(colours[ids]),
    }  # fmt: skip
    table = make_table(palette=palette)
    for name, image in files.items():
        image.save(tmp_path / name)
        assert np.array_equal(table.decode(read_mask(tmp_path / name), tmp_path / name), ids), name


def test_a_range_maps_each_of_its_values() -> None:
    table = make_table(("background", "person"), label_map={"0": "background", "1-8": "person", "300-301": "ignore"})
    assert decode(table, values(0, 1, 5, 8)) == [0, 1, 1, 1]
    assert decode(table, values(0, 8, 300, 301, dtype=np.int32)) == [0, 1, 255, 255]
    with pytest.raises(DataError, match=r"class id 9 in 1 pixels, .* stored values 0-8, 255, 300-301 have a meaning"):
        decode(table, values(9))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_the_rest_takes_every_other_value(dtype: type) -> None:
    table = make_table(("background", "person"), label_map={7: "person", "rest": "background"})
    assert decode(table, values(0, 7, 9, 254, 255, dtype=dtype)) == [0, 1, 0, 0, 255]
    assert str(table) == "  background: every other value\n  person: 7\n  ignored: 255"
    if dtype == np.int32:
        assert decode(table, values(-3, 7, 70_000, dtype=dtype)) == [0, 1, 0]
    ignoring = make_table(("a", "b"), label_map={"rest": "ignore"})
    assert decode(ignoring, values(0, 1, 2, 255, dtype=dtype)) == [0, 1, 255, 255]


def test_the_rest_takes_what_the_source_names_and_nobody_trains() -> None:
    source = SourceLabels(("sea", *SOURCE.names), SOURCE.values, {}, rest="sea")
    table = make_table(("other", "car"), source=source, label_map={"rest": "other"})
    assert decode(table, values(7, 26, 27, 0, 99)) == [0, 1, 0, 255, 0]
    assert (table.rest, table.id_of(99, None), table.refuses(99)) == (0, 0, False)  # type: ignore[arg-type]


def test_a_category_without_a_name_is_refused_with_the_remedy() -> None:
    table = make_table(("road", "car", "truck"), source=SOURCE)
    with pytest.raises(DataError, match=r"category 9, .* do not list: add it there, or map it .*label_map, 9: ignore"):
        table.id_of(9, Annotations("a.json", ()))


def test_a_number_in_quotes_is_a_name_where_one_is_called_so() -> None:
    source = SourceLabels(("7", "rest"), {1: "7", 7: "rest"}, {})
    assert decode(make_table(("a", "b"), source=source, label_map={"7": "a", "rest": "b"}), values(1, 7)) == [0, 1]
    table = make_table(("a", "b", "rest"), source=source, label_map={"7": "a", 7: "b"})
    assert decode(table, values(1, 7)) == [0, 1]


@pytest.mark.parametrize(
    ("label_map", "message"),
    [
        ({"8-1": "a"}, r"range '8-1': write the lower value first"),
        ({"0-4294967295": "a"}, r"at most 65536 values; 'rest' stands for all others"),
        ({"1-3": "a", 2: "b"}, r"maps value 2 to a and to b: mend the ranges"),
        ({"1-": "a"}, r"maps 1-, but data\.train has no such value"),
        ({"--5": "a"}, r"maps --5, but data\.train has no such value"),
        ({"rest": "c"}, r"data\.label_map, rest: 'c' is not in data\.classes"),
    ],
)
def test_refuses_ranges(label_map: dict[int | str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_table(("a", "b"), label_map=label_map)


def test_labels_in_a_mask_are_counted_as_they_are_stored() -> None:
    mapped = make_table(("a", "b"), label_map={0: "a", 7: "b"})
    assert mapped.labels_in(values(7, 0, 7, 9), MASK) == {0: 1, 7: 2, 9: 1}
    assert mapped.labels_in(values(70000, -3, 70000, dtype=np.int32), MASK) == {-3: 1, 70000: 2}
    coloured = make_table(("a", "b"), palette={"a": (1, 2, 3), "b": (255, 0, 9)})
    colours = np.array([[[1, 2, 3], [255, 0, 9], [1, 2, 3], [0, 0, 1]]], np.uint8)
    assert coloured.labels_in(StoredMask(colours=colours), MASK) == {(1, 2, 3): 2, (255, 0, 9): 1, (0, 0, 1): 1}
    palette = np.array([[1, 2, 3], [255, 0, 9]], np.uint8)
    by_colour = StoredMask(values=np.array([[1, 0, 1]], np.uint8), palette=palette)
    assert coloured.labels_in(by_colour, MASK) == {(1, 2, 3): 1, (255, 0, 9): 2}
    assert mapped.labels_in(by_colour, MASK) == {0: 1, 1: 2}


def test_of_very_many_labels_the_commonest_are_counted() -> None:
    stored = np.concatenate([np.arange(5000), np.repeat([17, 4999], 3)]).astype(np.int32)[None]
    counted = make_table().labels_in(StoredMask(values=stored), MASK)
    assert len(counted) == 1024
    assert (counted[17], counted[4999]) == (4, 4)


@pytest.mark.parametrize(
    ("labelling", "source", "assumed"),
    [
        ({}, None, 255),
        ({"label_map": {0: "a", 1: "b"}}, None, 255),
        ({"label_map": {0: "a", 255: "b"}}, None, None),
        ({"label_map": {0: "a", 1: "b", "255": "ignore"}}, None, None),
        ({"ignore_assumed": False}, None, None),
        ({}, SourceLabels(("a", "b"), {0: "a", 1: "b", 255: None}, {}), None),  # the source says it
    ],
)
def test_what_is_ignored_without_a_word(labelling: Any, source: SourceLabels | None, assumed: int | None) -> None:
    how = {"label_map": {}, "palette": {}, "unknown": "refuse", "ignore_assumed": True, **labelling}
    info = DatasetInfo(("a", "b"), 255, default_palette(2))
    assert Labelling(info, **how).table(source, "data.train").assumed == assumed
