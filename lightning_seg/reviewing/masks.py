"""Writes masks in which accepted regions are ignored, in the encoding of their source, never over the originals."""

import io
import json
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_seg.colours import Colour
from lightning_seg.data.labels.table import LabelTable
from lightning_seg.data.listing.splits import Listing
from lightning_seg.data.reading.class_masks import ClassMasks
from lightning_seg.data.reading.header import Header
from lightning_seg.data.reading.headers import header_of
from lightning_seg.data.reading.masks import StoredMask, read_mask
from lightning_seg.data.reading.storage import InMemory, named, read_bytes
from lightning_seg.errors import ConfigError, DataError, DependencyError
from lightning_seg.files import absolute, inside, replacing
from lightning_seg.reviewing.regions import decode
from lightning_seg.sources import AnyFile, name_below
from lightning_seg.structures import Annotations, Sample, summarise


@dataclass(frozen=True)
class Decisions:
    """What the page gave.

    Attributes:
        split: whose labels they are about.
        data: the settings of its data, as a configuration has them.
        accepted: run-length encodings of the accepted regions, by sample.
    """

    split: str
    data: dict[str, Any]
    accepted: dict[str, list[str]]


def read_decisions(path: Path) -> Decisions:
    """Read a file of decisions.

    Raises:
        ConfigError: if it is none, or accepts nothing.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        split, data, accepted = content["split"], content["data"], defaultdict(list)
        for one in content["decisions"]:
            if one["decision"] == "accept":
                accepted[str(one["image"])].append(str(one["counts"]))
    except OSError as error:
        raise ConfigError(f"--apply {path} cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(
            f"--apply {path} holds no decisions: give the decisions.json that review.html downloads"
        ) from None
    if not accepted:
        raise ConfigError(f"{path} accepts no suspect: nothing is to be ignored")
    return Decisions(split, data, dict(accepted))


def write_ignored(decisions: Decisions, listing: Listing, folder: Path, root: Path | None) -> tuple[int, int]:
    """Write all masks of a split, those without accepted regions as they are: the folder can stand in for theirs.

    Args:
        decisions: what is accepted.
        listing: of the split.
        folder: that they are written to, under their paths below ``root``.
        root: ``data.root``.

    Returns:
        How many masks are written, and how many of them have changed.

    Raises:
        ConfigError: if an original would be written over, or nothing stands for ignored pixels in a source.
        DataError: if a sample is gone, or its mask cannot be written in its encoding; names it.
    """
    known = {sample.name for sample in listing.samples}
    if gone := sorted(decisions.accepted.keys() - known):
        raise DataError(f"the split has no sample {summarise(gone)}: give the data that was reviewed")
    targets = _targets(listing.samples, folder, root)
    for sample in listing.samples:  # before anything is written
        if sample.name in decisions.accepted:
            _refuse_kind(sample)
    for sample, target in zip(listing.samples, targets, strict=True):
        mask = sample.mask_file
        assert mask is not None
        if sample.name in decisions.accepted:
            data = _changed(sample, mask, listing.table_of(sample), decisions.accepted[sample.name], listing)
            with replacing(target) as file:
                file.write(data)
        elif isinstance(mask, Path):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(mask, target)
        else:
            with replacing(target) as file:
                file.write(read_bytes(mask))
    return len(listing.samples), len(decisions.accepted)


def _refuse_kind(sample: Sample) -> None:
    if isinstance(sample.mask, Annotations | ClassMasks):
        kind = "regions" if isinstance(sample.mask, Annotations) else "one file for each class"
        raise DataError(
            f"{sample.name}: its labels are {kind} in {sample.mask}, where no pixels can be ignored: mend them in the "
            "tool that wrote them"
        )


def _targets(samples: Sequence[Sample], folder: Path, root: Path | None) -> list[Path]:
    originals, targets = set(), []
    for sample in samples:
        mask = sample.mask_file
        if mask is None or isinstance(mask, ClassMasks):
            _refuse_kind(sample)
        assert mask is not None
        name = Path(name_below(mask if isinstance(mask, Path) else Path(str(mask)), root))
        targets.append(inside(folder, str(name) if not name.is_absolute() else sample.name + name.suffix))
        originals |= {absolute(str(mask)).resolve(), absolute(str(sample.image)).resolve()}
    if hit := [target for target in targets if target.resolve() in originals]:
        raise ConfigError(f"--write_ignored {folder} would write over {hit[0]}: give a new folder")
    return targets


def _changed(sample: Sample, mask: AnyFile, table: LabelTable, counts: Sequence[str], listing: Listing) -> bytes:
    stored = read_mask(mask, listing.rules)
    before = table.decode(stored, mask).copy()
    region = np.zeros(stored.size, bool)
    for runs in counts:
        try:
            region |= decode(runs, stored.size)
        except ValueError as error:
            raise DataError(f"mask {mask} is of another size than the one that was reviewed: {error}") from None
    with named(mask, "mask"):
        data = read_bytes(mask)
        header = header_of(BytesIO(data))
    if header.orientation != 1:
        raise DataError(f"mask {mask} is stored turned: nothing writes it so; save it upright")
    new = _written(mask, data, header, stored, table, region)
    before[region] = table.info.ignore_index
    try:
        after = table.decode(read_mask(InMemory(str(mask), new), listing.rules), mask)
    except DataError as error:
        raise DataError(f"mask {mask} cannot be written in its own encoding ({error})") from None
    if not np.array_equal(after, before):
        raise DataError(f"mask {mask} cannot be written in its own encoding: it would read otherwise than it should")
    return new


def _written(
    mask: AnyFile, data: bytes, header: Header, stored: StoredMask, table: LabelTable, region: NDArray[np.bool_]
) -> bytes:
    """The bytes of the mask with the region ignored."""
    ignored = _ignored(mask, stored, table)
    if header.format == "NPY":
        array = np.load(BytesIO(data))
        array[region] = ignored
        output = io.BytesIO()
        np.save(output, array)
        return output.getvalue()
    if header.format == "TIFF":
        return _tiff(mask, data, region, ignored)
    if header.format == "PNG" and header.bits == 16:
        pixels = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))
        pixels[region] = ignored if isinstance(ignored, int) else _bgr16(ignored, pixels.shape[2])
        return bytes(cv2.imencode(".png", pixels)[1])
    return _by_pillow(mask, data, region, ignored)


def _ignored(mask: AnyFile, stored: StoredMask, table: LabelTable) -> int | Colour:
    """The stored value, or the colour, of ignored pixels."""
    ignore = table.info.ignore_index
    by_colour = stored.values is None
    if stored.palette is not None and table.colours:  # the palette may decide
        used = {tuple(map(int, colour)) for colour in stored.palette}
        by_colour = bool(used & set(table.colours))
    if by_colour:
        colours = [colour for colour, index in table.colours.items() if index == ignore]
        if colours:
            return colours[0]
        raise ConfigError(f"{mask} stores colours, and none is ignored: name one, data.palette: {{ignore: '#000000'}}")
    values = [value for value, index in table.values.items() if index == ignore]
    if values:
        return ignore if ignore in values else values[0]
    raise ConfigError(f"no stored value of {mask} is ignored: name one with {table.setting}, {{255: ignore}}")


def _bgr16(colour: Colour, channels: int) -> list[int]:
    return [*(value * 257 for value in colour[::-1]), 65535][:channels]


def _by_pillow(mask: AnyFile, data: bytes, region: NDArray[np.bool_], ignored: int | Colour) -> bytes:
    image = Image.open(BytesIO(data))
    kind, mode = image.format, image.mode
    if kind not in ("PNG", "BMP", "PPM", "TGA") or mode not in ("L", "P", "RGB", "RGBA"):
        raise DataError(f"mask {mask} is {kind} of mode {mode}, which is not written: save masks as PNG")
    pixels = np.array(image)
    palette = image.getpalette("RGB") if mode == "P" else None
    if palette is not None:
        pixels, palette = _in_palette(mask, pixels, palette, region, ignored)
    elif isinstance(ignored, int):
        pixels[region] = ignored
    else:
        pixels[region, :3] = ignored
    new = Image.fromarray(pixels)
    if palette is not None:
        new.putpalette(palette)
    output = io.BytesIO()
    extra = {"transparency": image.info["transparency"]} if "transparency" in image.info else {}
    new.save(output, kind, **extra)
    return output.getvalue()


def _in_palette(
    mask: AnyFile, pixels: NDArray[Any], palette: list[int], region: NDArray[np.bool_], ignored: int | Colour
) -> tuple[NDArray[Any], list[int]]:
    """Indices with the region ignored, and the palette that then names them."""
    if isinstance(ignored, int):
        pixels[region] = ignored
        return pixels, palette + [0] * max(0, 3 * (ignored + 1) - len(palette))
    colours = [tuple(palette[start : start + 3]) for start in range(0, len(palette), 3)]
    if ignored not in colours:
        if len(colours) == 256:
            raise DataError(f"mask {mask} has a full palette without the colour of ignored pixels")
        colours.append(ignored)
        palette = [*palette, *ignored]
    pixels[region] = colours.index(ignored)
    return pixels, palette


def _tiff(mask: AnyFile, data: bytes, region: NDArray[np.bool_], ignored: int | Colour) -> bytes:
    """By GDAL, which keeps where it lies, its tags and its colours."""
    try:
        from rasterio.io import MemoryFile
    except ImportError:
        raise DependencyError(f"mask {mask} is a TIFF: pip install 'lightning_seg[geo]' to write it") from None
    with MemoryFile(data) as memory, memory.open() as source:
        bands, profile, tags = source.read(), source.profile, source.tags()
        colours = None
        if source.count == 1 and "palette" in str(source.colorinterp[0]):
            colours = source.colormap(1)
        values = [ignored] if isinstance(ignored, int) else list(ignored)
        for band, value in zip(bands, values, strict=False):
            band[region] = value
        with MemoryFile() as output:
            with output.open(**profile) as target:
                target.write(bands)
                target.update_tags(**tags)
                if colours is not None:
                    target.write_colormap(1, colours)
            return bytes(output.read())
