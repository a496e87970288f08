"""One contract for all readers: every file is found by its name, whatever the name, and every mask read as it is meant.

A new reader joins by a function that writes its layout, in ``LAYOUTS``.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_seg.colours import default_palette
from lightning_seg.data import Reader
from lightning_seg.data.labels.label_map import Labelling
from lightning_seg.data.reading import read_image
from lightning_seg.data.stored import read_labels
from lightning_seg.errors import DataError
from lightning_seg.structures import DatasetInfo, Sample
from tests.data.layouts import LAYOUTS, SIZE, STEMS, truth

each_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)


def labels_of(reader: Reader, root: Path, sample: Sample) -> np.ndarray:
    source = reader.labels(root)
    names = ("a", "b", "c") if source is None else source.names
    info = DatasetInfo(names, 255, default_palette(len(names)))
    return read_labels(sample, SIZE, Labelling(info, {}, {}, "refuse").table(source, "data.train"))


@each_layout
def test_finds_every_sample_with_its_own_mask(layout: Callable[..., Reader], tmp_path: Path) -> None:
    reader = layout(tmp_path, STEMS)
    samples = reader.samples(tmp_path)
    assert len(samples) == len(STEMS)
    assert [sample.name for sample in samples] == sorted(sample.name for sample in samples)
    assert len({sample.name for sample in samples}) == len(STEMS)
    for sample in samples:
        (index,) = [index for index, stem in enumerate(STEMS) if sample.name.endswith(stem)]
        assert np.asarray(Image.open(sample.image))[0, 0, 0] == pytest.approx(20 * index, abs=2)
        assert np.array_equal(labels_of(reader, tmp_path, sample), truth(index)), sample.name


@each_layout
def test_a_second_look_finds_the_same(layout: Callable[..., Reader], tmp_path: Path) -> None:
    reader = layout(tmp_path, STEMS[:3])
    assert reader.samples(tmp_path) == reader.samples(tmp_path)


@each_layout
def test_a_missing_file_is_named(layout: Callable[..., Reader], tmp_path: Path) -> None:
    reader = layout(tmp_path, STEMS[:3])
    lost = reader.samples(tmp_path)[1].image
    lost.resolve().unlink()
    if lost.is_symlink():
        lost.unlink()
    name = reader.samples(tmp_path)[1].name if layout.__name__.startswith("catalog_of_a") else lost.stem
    with pytest.raises(DataError, match=name.split("_leftImg8bit")[0]):
        [read_image(sample.image) for sample in reader.samples(tmp_path)]


@each_layout
def test_a_missing_root_is_named(layout: Callable[..., Reader], tmp_path: Path) -> None:
    if layout.__name__.startswith("catalog"):
        pytest.skip("registered with paths of its own")
    reader = layout(tmp_path / "there", STEMS[:2])
    with pytest.raises(DataError, match=r"nowhere.* does not exist"):
        reader.samples(tmp_path / "nowhere")
