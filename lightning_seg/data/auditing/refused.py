"""Counts the values of images that no run takes as they are, so that the audit can say which settings let them pass."""

from dataclasses import replace

from lightning_seg.data.auditing.values import PixelValues, count_values
from lightning_seg.data.reading import USUAL, ReadingRules, read_header, read_image
from lightning_seg.sources import AnyFile


def values_of_refused(image: AnyFile, rules: ReadingRules = USUAL) -> PixelValues | None:
    """Count the values of an image that is refused for its bits or bands; None if it is refused for anything else."""
    try:
        header = read_header(image, "image", rules)
        if rules.bands is not None or header.pages > 1 or not (header.is_deep or header.bands not in (1, 3)):
            return None
        all_bands = tuple(range(1, header.bands + 1))
        return count_values(read_image(image, replace(rules, bands=all_bands, ranges=None)))
    except Exception:  # it is refused already
        return None
