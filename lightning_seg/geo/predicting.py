"""From an image of any size to its label map as a GeoTIFF, going on where a process was killed."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from torch import Tensor

from lightning_seg.errors import DataError
from lightning_seg.geo.cog import TILE, dtype_of, nodata_of, write_cog
from lightning_seg.geo.journal import Journal
from lightning_seg.geo.windows import WindowedImage
from lightning_seg.structures import DatasetInfo

LabelBands = Callable[[int], Iterator[tuple[int, Tensor]]]
"""Given a row, bands of class ids (rows, W) from it or from above it to the last row, each with its first row."""


def predict_label_map(
    image: WindowedImage,
    label_bands: LabelBands,
    path: Path,
    info: DatasetInfo,
    made_from: Mapping[str, object],
    overwrite: bool = False,
) -> None:
    """Write the label map of an image as a Cloud-Optimised GeoTIFF with the image's georeference.

    Rows that are done are kept in ``<path>.rows``. Another call with the same image and ``made_from`` goes on behind
    them, and ends with the same bytes if the bands do not depend on the row that they begin at. Memory holds a band.

    Args:
        image: where it holds nothing, the label map is nodata.
        label_bands: predicts.
        path: of the label map, see :func:`lightning_seg.geo.cog.write_cog`; what is there is replaced at the end.
        info: class names, palette and ignore index.
        made_from: what the labels follow from beside the image: checkpoint, settings of the inference.
        overwrite: forget rows that are done.

    Raises:
        UnreadableError: if the image is damaged.
        DiskFullError: if there is no room.
    """
    rows_file = _rows_of(path)
    if overwrite:
        rows_file.unlink(missing_ok=True)
    height, width = image.size
    state = image.path.stat()
    source = {"image": [str(image.path.absolute()), state.st_size, state.st_mtime_ns], "height": height}
    nodata = nodata_of(info)
    about = {**made_from, **source, "nodata": nodata}
    try:
        with Journal(rows_file, width, dtype_of(info), about) as journal:
            if journal.rows < height:
                _fill(journal, image, label_bands, nodata)
            write_cog(path, journal.bands(TILE), image.size, info, image.georeference)
    except DataError:  # once the image is mended, it is another
        rows_file.unlink()
        raise
    rows_file.unlink()


def _fill(journal: Journal, image: WindowedImage, label_bands: LabelBands, nodata: int) -> None:
    """Predict the rows that are not done."""
    for first, band in label_bands(journal.rows):
        labels = band[max(0, journal.rows - first) :].cpu().numpy().astype(journal.dtype)
        if not len(labels):
            continue
        absent = image.nodata(slice(journal.rows, journal.rows + len(labels)), slice(0, journal.width))
        if absent is not None:
            labels[absent] = nodata
        journal.append(labels)


def is_predicted(path: Path) -> bool:
    """Whether a label map is there, and was not about to be replaced when the process that wrote it ended."""
    return path.is_file() and not _rows_of(path).exists()


def _rows_of(path: Path) -> Path:
    return path.with_name(path.name + ".rows")
