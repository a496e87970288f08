"""TIFFs of any size, read by windows."""

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_seg.data.reading.absent import absent_pixels, either, fill_absent
from lightning_seg.data.reading.bands import refuse_bands
from lightning_seg.data.reading.directories import read_directories
from lightning_seg.data.reading.display import as_shown
from lightning_seg.data.reading.gdal import CACHE_BYTES, ColorInterp, MaskFlags, Window, gdal
from lightning_seg.data.reading.geotiff import hidden_by_mask
from lightning_seg.data.reading.header import Header
from lightning_seg.data.reading.headers import header_of
from lightning_seg.data.reading.images import refuse_parts
from lightning_seg.data.reading.rules import USUAL, ReadingRules
from lightning_seg.data.reading.storage import named, open_file
from lightning_seg.data.reading.tiff import MAGICS
from lightning_seg.errors import UnfitImageError
from lightning_seg.geo.georeference import Georeference

_LARGEST_CACHE = 2**29
"""In bytes; a row of blocks that needs more is decoded again for each window."""
_LARGEST_BLOCK = 2**29
"""In bytes; GDAL decodes a block as a whole."""
_SAMPLE = 1024
"""Side of the part whose values are named where a file has more than 8 bits and nobody says which range counts."""
_PHOTOMETRIC = 262
_GREY, _PALETTE, _INKS = 1, 3, 5


class WindowedImage:
    """An image in a TIFF that need not fit into memory. Close it, or use it in a ``with`` block.

    The pixels are those of ``lightning_seg.data.reading.read_image``, up to the rounding of colours where a TIFF is
    compressed as JPEG. Memory holds the window, and rows of tiles or strips as far as they fit into 512 MiB.
    ``data.max_pixels`` says nothing here: it protects memory.

    Attributes:
        path: of the file.
        shape: 3, or the number of ``rules.bands``; height and width.
        georeference: where it lies on the earth, as far as the file says.

    Args:
        path: of a TIFF, BigTIFF or GeoTIFF, of one or three bands, with or without alpha, or with ``rules.bands``.
        rules: what may be read; ``ranges`` makes bytes of wider values.

    Raises:
        UnreadableError: if the file is missing or no TIFF.
        UnfitImageError: if values, bands or pages would have to be left out, or the file cannot be read by windows.
    """

    def __init__(self, path: Path, rules: ReadingRules = USUAL) -> None:
        self.path = path
        self._rules = rules
        with named(path, "image"):
            with open_file(path) as file:
                if file.read(4) not in MAGICS:
                    raise ValueError("it is no TIFF, and only TIFFs can be read by windows")
                file.seek(0)
                self._header = header_of(file)
                photometric = next(read_directories(file, (_PHOTOMETRIC,))).get(_PHOTOMETRIC)
            if rules.bands is None:
                refuse_parts(self._header, path)
            else:
                refuse_bands(self._header, path, rules)
            with gdal():
                self._file = rasterio.open(path, driver="GTiff")
        self.shape = (rules.channels, *self._header.stored)
        self._kind = _GREY if photometric is None else photometric.values[0]
        try:
            with named(path, "image"):
                self._refuse_what_has_no_windows()
                self._cache = self._cache_for_a_row()
                self._bands = list(rules.bands or _colour_bands(self._file, self._header))
                self._has_nodata = any(
                    MaskFlags.all_valid not in flags for flags in self._file.mask_flag_enums
                ) or self._header.type.startswith("float")
                with gdal():
                    self.georeference = Georeference.of(self._file)
                if self._header.is_deep and rules.bands is None and rules.ranges is None:
                    self._refuse_deep()
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self._header.stored

    def window(self, rows: slice, columns: slice) -> Tensor:
        """Pixels of some rows and columns, (3, rows, columns) uint8 RGB, or (C, rows, columns) bands.

        Args:
            rows: from the first to before the last, within the image; step 1.
            columns: likewise.

        Raises:
            UnreadableError: if the file is damaged there.
        """
        with named(self.path, "image"):
            values = self._read(rows, columns)
            if self._rules.bands is None:
                return torch.from_numpy(np.ascontiguousarray(self._as_rgb(values)))
            pixels = self._as_bands(values)
            fill_absent(pixels.transpose(1, 2, 0), self._absent(values, rows, columns), self._rules.fill)
            return torch.from_numpy(pixels)

    def preview(self, longest: int) -> NDArray[np.uint8]:
        """The image in small as pictures show it, (h, w, 3) RGB uint8, by the nearest pixel; memory holds no more.

        Bands are shown as :func:`~lightning_seg.data.reading.display.as_shown` says.

        Args:
            longest: of its sides, in pixels.

        Raises:
            UnreadableError: if the file is damaged.
        """
        scale = min(1.0, longest / max(self.size))
        small = [max(1, round(side * scale)) for side in self.size]
        with named(self.path, "image"):
            with gdal(self._cache):
                values = self._file.read(self._bands, out_shape=(len(self._bands), *small))
            if self._rules.bands is not None:
                pixels = self._as_bands(values).transpose(1, 2, 0)
                nodata = [self._file.nodatavals[band - 1] for band in self._bands]
                fill_absent(pixels, absent_pixels([*values], nodata), self._rules.fill)
                return as_shown(pixels, self._rules)
            return np.ascontiguousarray(self._as_rgb(values).transpose(1, 2, 0))

    def nodata(self, rows: slice, columns: slice) -> NDArray[np.bool_] | None:
        """Where some rows and columns hold nothing, (rows, columns); None: nowhere in the file.

        A pixel holds nothing where all its bands have the file's nodata value, where a band is no finite number, and
        where the file's own mask is 0, or its alpha band that is not asked for.

        Raises:
            UnreadableError: if the file is damaged there.
        """
        if not self._has_nodata:
            return None
        with named(self.path, "image"):
            return self._absent(self._read(rows, columns), rows, columns)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __reduce__(self) -> tuple[type["WindowedImage"], tuple[Path, ReadingRules]]:
        """Opened anew where it is unpickled, as by the process that asked a loading process for it."""
        return WindowedImage, (self.path, self._rules)

    def __enter__(self) -> "WindowedImage":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, rows: slice, columns: slice) -> NDArray[Any]:
        with gdal(self._cache):
            values: NDArray[Any] = self._file.read(self._bands, window=Window.from_slices(rows, columns))
        return values

    def _absent(self, values: NDArray[Any], rows: slice, columns: slice) -> NDArray[np.bool_] | None:
        """Where stored (bands, H, W) values are nothing."""
        with gdal(self._cache):
            hidden = hidden_by_mask(self._file, self._bands, Window.from_slices(rows, columns))
        return either(absent_pixels([*values], [self._file.nodatavals[band - 1] for band in self._bands]), hidden)

    def _as_bands(self, values: NDArray[Any]) -> NDArray[Any]:
        """(C, H, W) in the type of the data set of stored values."""
        header, rules = self._header, self._rules
        if rules.ranges is not None and header.is_deep:
            values = rules.as_bytes(values.transpose(1, 2, 0), self.path, header.described).transpose(2, 0, 1)
        with np.errstate(over="ignore"):  # infinite, and so absent
            return np.require(values, rules.type_of(header.type), ["C", "W"])

    def _as_rgb(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """(3, H, W) bytes of stored (bands, H, W) values."""
        header = self._header
        if header.is_deep:
            stacked = values[0] if len(values) == 1 else values.transpose(1, 2, 0)
            pixels = self._rules.as_bytes(stacked, self.path, header.described).transpose(2, 0, 1)
            return 255 - pixels if header.inverted else pixels
        if len(values) == 3:
            return values
        if self._kind == _PALETTE:
            table = np.zeros((256, 3), np.uint8)
            for index, colour in self._file.colormap(1).items():
                table[index] = colour[:3]
            return np.asarray(table[values[0]].transpose(2, 0, 1))
        grey: NDArray[np.uint8] = values[0] * np.uint8(header.grey_step)
        return np.broadcast_to(255 - grey if header.inverted else grey, (3, *grey.shape))

    def _refuse_what_has_no_windows(self) -> None:
        header = self._header
        kind = None
        if header.orientation != 1:
            kind = "is stored turned or mirrored"
        elif len(header.layers) != 1:
            kind = f"has {header.pages} pages"
        elif self._rules.bands is not None:
            return
        elif not header.is_deep and (header.bits not in (1, 2, 4, 8) or (header.bits < 8 and header.bands > 1)):
            kind = f"has values of {header.bits} bits"
        elif self._kind == _INKS:
            kind = "is stored in inks, not in colours"
        if kind is not None:
            raise UnfitImageError(
                f"image {self.path} {kind}, which cannot be read by windows: store it upright, as grey or RGB of 8 "
                "or 16 bits, or evaluate whole images (--model.inference null)"
            )

    def _cache_for_a_row(self) -> int:
        """Bytes for two rows of blocks, of which windows with an overlap read each several times."""
        height, width = self._file.block_shapes[0]
        of_pixel: int = self._file.count * np.dtype(self._header.type).itemsize
        if height * width * of_pixel > _LARGEST_BLOCK:
            raise UnfitImageError(
                f"image {self.path} is stored in blocks of {width}×{height} pixels, which have to be decoded as a "
                f"whole: store it in tiles, such as with gdal_translate -co TILED=YES -co BIGTIFF=IF_SAFER "
                f"{self.path.name} tiled.tif"
            )
        of_row: int = height * (self.shape[2] + 2 * width) * of_pixel
        return min(max(CACHE_BYTES, 2 * of_row), _LARGEST_CACHE)

    def _refuse_deep(self) -> None:
        height, width = self.size
        top, left = max(0, (height - _SAMPLE) // 2), max(0, (width - _SAMPLE) // 2)
        values = self._read(slice(top, min(height, top + _SAMPLE)), slice(left, min(width, left + _SAMPLE)))
        self._rules.as_bytes(values, self.path, f"{self._header.described}, in its middle")


def _colour_bands(file: Any, header: Header) -> list[int]:
    """Numbers of the bands that are no alpha, counted from 1."""
    bands = [band for band, kind in zip(file.indexes, file.colorinterp, strict=True) if kind != ColorInterp.alpha]
    if len(bands) != header.bands:
        raise ValueError(f"it says that it has {header.bands} bands, and GDAL finds {len(bands)}")
    return bands
