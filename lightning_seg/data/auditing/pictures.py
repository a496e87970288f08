"""Draws small pictures of samples, for a page that holds everything itself."""

import base64

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_seg.colours import Colour, free_colour
from lightning_seg.data.auditing.lossy import foreign_pixels
from lightning_seg.data.labels.colours import colourise
from lightning_seg.data.labels.rasterise import rasterise
from lightning_seg.data.labels.table import LabelTable
from lightning_seg.data.reading import USUAL, ReadingRules, as_shown, read_image, read_mask
from lightning_seg.sources import AnyFile
from lightning_seg.structures import Annotations, DatasetInfo, Sample

HEIGHT = 120
QUALITY = 80
FOREIGN_COLOURS: tuple[Colour, ...] = ((255, 0, 255), (0, 255, 0), (255, 128, 0), (255, 255, 255))
"""Colours of labels without a meaning: the first, or another where a class or ignored pixels look like it."""

RGB = NDArray[np.uint8]


def picture(sample: Sample, table: LabelTable, rules: ReadingRules = USUAL) -> str | None:
    """Draw image and labels side by side, as a ``data:`` address; None where neither can be read.

    Labels are laid over the image if they fit it. Ignored pixels and labels without a meaning have their own colours.
    """
    image = _image(sample.image, rules)
    panels = [] if image is None else [image]
    try:
        panels.append(_labels(sample, image, table, rules))
    except Exception:  # the page also shows what cannot be read
        raw = None if sample.mask_file is None else _image(sample.mask_file, USUAL if rules.bands else rules)
        if raw is not None:
            panels.append(raw * np.uint8(255 // max(1, int(raw.max()))))  # ids alone are nearly black
    return _encode(panels) if panels else None


def foreign_colour(info: DatasetInfo) -> Colour:
    """The colour of labels without a meaning."""
    return free_colour(FOREIGN_COLOURS, [*info.palette, info.ignore_colour])


def _image(file: AnyFile, rules: ReadingRules) -> RGB | None:
    try:
        return as_shown(read_image(file, rules), rules)
    except Exception:  # as above
        return None


def _labels(sample: Sample, image: RGB | None, table: LabelTable, rules: ReadingRules) -> RGB:
    if isinstance(sample.mask, Annotations):
        assert image is not None
        ids = rasterise(sample.mask, (image.shape[0], image.shape[1]), table)
        return _blend(colourise(ids, table.info), image)
    assert sample.mask is not None
    stored = read_mask(sample.mask, rules)
    ids, foreign = table.look_up(stored, sample.mask)
    coloured = colourise(ids, table.info)
    if foreign:
        coloured[foreign_pixels(stored, foreign)] = foreign_colour(table.info)
    return _blend(coloured, image) if image is not None and image.shape == coloured.shape else coloured


def _blend(coloured: RGB, image: RGB) -> RGB:
    return np.asarray(cv2.addWeighted(coloured, 0.6, np.ascontiguousarray(image), 0.4, 0))


def _encode(panels: list[RGB]) -> str:
    scaled = [
        cv2.resize(
            panel,
            (max(1, min(3 * HEIGHT, panel.shape[1] * HEIGHT // panel.shape[0])), HEIGHT),
            interpolation=cv2.INTER_AREA,
        )
        for panel in panels
    ]
    _, data = cv2.imencode(".jpg", np.hstack(scaled)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
