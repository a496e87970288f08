"""Counts the values of images that no run takes as they are, so that the audit can say which settings let them pass."""

from dataclasses import replace

from lightning_seg.data.auditing.values import PixelValues, count_values
from lightning_seg.data.reading import USUAL, ReadingRules, read_header
from lightning_seg.data.reading.bands import BandsFile
from lightning_seg.sources import AnyFile


def values_of_refused(image: AnyFile, rules: ReadingRules = USUAL) -> PixelValues | None:
    """Count the values of an image refused for its bits, bands or pages; None if refused for anything else."""
    try:
        header = read_header(image, "image", rules)
        count = header.bands if header.pages == 1 else header.samples
        taken = header.pages == 1 and header.bands in (1, 3) and not header.is_deep and header.format != "NPY"
        if rules.bands is not None or taken or count is None:
            return None
        file = BandsFile(image, replace(rules, bands=tuple(range(1, count + 1)), ranges=None))
        return count_values(*file.read())
    except Exception:  # it is refused already
        return None
