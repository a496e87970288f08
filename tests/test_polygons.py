"""The command that traces a label map."""

import json
import re
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
from PIL import Image, TiffImagePlugin, TiffTags

from lightning_seg.polygons import main
from tests.geo.rasters import UTM, regions, write

_GDAL_NODATA = 42113
"""The tag of a TIFF that GDAL writes its nodata value to, as text."""


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return write(tmp_path / "labels.tif", regions(90, 70)[None], **UTM)


@pytest.mark.parametrize("name", ["a.gpkg", "a.geojson"])
def test_a_label_map_of_any_program_is_traced(
    name: str, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(labels), str(tmp_path / name)])
    about, _, _, columns = pyogrio.raw.read(tmp_path / name)
    table = dict(zip(about["fields"], columns, strict=True))
    assert capsys.readouterr().out == f"{tmp_path / name}: {len(table['pixels'])} polygons\n"
    assert table["pixels"].sum() == 90 * 70  # no value is nodata
    assert {*table["class"]} == {"0", "1", "2"}


def test_outlines_move_as_far_as_is_asked_for(tmp_path: Path) -> None:
    stairs = write(tmp_path / "labels.tif", np.tri(60, 60, dtype=np.uint8)[None], nodata=0)
    sizes = []
    for pixels in ("0", "1.5"):
        main([str(stairs), str(tmp_path / "a.geojson"), "--simplify", pixels])
        sizes.append((tmp_path / "a.geojson").stat().st_size)
    assert sizes[1] < sizes[0] / 3


@pytest.mark.parametrize(("values", "nodata"), [(np.int32([[-1, -5, 3]]), ""), (np.uint8([[0, 1, 0]]), "0.5")])
def test_a_label_is_lost_by_no_nodata_that_it_is_not(values: np.ndarray, nodata: str, tmp_path: Path) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    if nodata:  # of a value that rasterio would not write
        tags.tagtype[_GDAL_NODATA] = TiffTags.ASCII
        tags[_GDAL_NODATA] = nodata
    Image.fromarray(values).save(tmp_path / "labels.tif", tiffinfo=tags)
    main([str(tmp_path / "labels.tif"), str(tmp_path / "a.geojson")])
    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    assert sorted(feature["properties"]["class_id"] for feature in features) == sorted(values.ravel().tolist())


@pytest.mark.parametrize("tag", ["water,land", "5", '{"0": "water"}'])
def test_a_tag_of_another_program_names_no_class(tag: str, labels: Path, tmp_path: Path) -> None:
    with rasterio.open(labels, "r+") as file:
        file.update_tags(CLASS_NAMES=tag)
    main([str(labels), str(tmp_path / "a.gpkg")])
    assert {*pyogrio.raw.read(tmp_path / "a.gpkg", columns=["class"])[3][0]} == {"0", "1", "2"}


@pytest.mark.parametrize(
    ("labels", "output", "message"),
    [
        ("missing.tif", "a.gpkg", r"^error: label map .*missing\.tif cannot be read \(.*No such file"),
        (
            "rgb.tif",
            "a.gpkg",
            r"^error: \S*rgb\.tif has 3 bands of uint8, and a label map has one of uint8, uint16, int16, int32",
        ),
        ("float.tif", "a.gpkg", r"^error: \S*float\.tif has 1 band of float32"),
        ("text.tif", "a.gpkg", r"^error: label map \S*text\.tif cannot be read"),
        (
            "good.tif",
            "a.shp",
            r"^error: polygons cannot be written to \S*a\.shp: give a name that ends in \.gpkg or \.geojson",
        ),
        *(
            (
                "good.tif",
                f"good.tif/a.{end}",
                rf"^error: polygons cannot be written to \S*a\.{end} \([^)]+\): give another",
            )
            for end in ("gpkg", "geojson")
        ),
    ],
)
def test_mistakes_are_one_line(
    labels: str, output: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "rgb.tif", np.zeros((3, 8, 8), np.uint8))
    write(tmp_path / "float.tif", np.zeros((1, 8, 8), np.float32))
    write(tmp_path / "good.tif", np.zeros((1, 8, 8), np.uint8))
    (tmp_path / "text.tif").write_text("nothing")
    with pytest.raises(SystemExit) as caught:
        main([str(tmp_path / labels), str(tmp_path / output)])
    assert caught.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert re.search(message, said)
