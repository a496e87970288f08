"""One image's prediction."""

from collections.abc import Callable
from functools import cached_property, partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_seg.callbacks.drawing import reduce
from lightning_seg.colours import Colour
from lightning_seg.data.reading import USUAL, ReadingRules, as_shown
from lightning_seg.predictions import FORMATS, USUAL_FORMATS, Prediction, overlay
from lightning_seg.predictions.rasters import save_whole
from lightning_seg.structures import DatasetInfo

if TYPE_CHECKING:  # of an extra
    from lightning_seg.geo.windows import WindowedImage

_LONGEST_SHOWN = 1024
"""Pixels of a side in a notebook."""

_NAMED = 3
"""Classes in a result's short text."""


class Result:
    """The label map of one image, and what can be made of it. A notebook shows its overlay.

    Attributes:
        name: of its files: that of the image without suffix, or ``image``.
        image: (H, W, C), upright, as it was read: uint8 RGB, or bands.
        mask: (H, W) class ids at that size, of the smallest integer type that holds them.
    """

    def __init__(
        self,
        name: str,
        image: NDArray[Any],
        mask: NDArray[Any],
        info: DatasetInfo,
        compute: Callable[[], NDArray[np.float32]],
        place: "Callable[[], WindowedImage | None]" = lambda: None,
        rules: ReadingRules = USUAL,
    ) -> None:
        self.name = name
        self.image = image
        self.mask = mask
        self._info = info
        self._compute = compute
        self._place = place
        self._rules = rules

    @property
    def class_names(self) -> tuple[str, ...]:
        """K names in id order."""
        return self._info.names

    @property
    def palette(self) -> tuple[Colour, ...]:
        """A colour (red, green, blue) of 0 to 255 for each class, in id order."""
        return self._info.palette

    @cached_property
    def probabilities(self) -> NDArray[np.float32]:
        """(K, H, W) float32 that sum to 1 at each pixel.

        They take 4·K bytes a pixel and a pass of the network when they are first asked for, and are kept from then on.
        """
        return self._compute()

    @property
    def confidence(self) -> NDArray[np.float32]:
        """(H, W) float32 from 1/K to 1: the probability of the most likely class of each pixel.

        It is made of :attr:`probabilities`.
        """
        return np.asarray(self.probabilities.max(0))

    def overlay(self, opacity: float = 0.55) -> Image.Image:
        """The image with the classes' colours over it, at the same size; ``opacity`` of the colours: 0 to 1.

        Of bands, those of ``data.display_bands`` are shown, stretched from their 2nd to their 98th percentile.
        """
        return Image.fromarray(overlay(as_shown(self.image, self._rules), self.mask, self._info, opacity))

    def save(self, folder: str | Path) -> None:
        """Write ``masks/<name>.png`` and ``overlays/<name>.jpg`` into a folder, as ``predict`` does.

        Of a GeoTIFF: ``masks/<name>.tif``, which lies where the image lies, if the extra ``geo`` is installed.

        Files of before are replaced, so that results of one name go to different folders.
        """
        save_whole(self._prediction, Path(folder), USUAL_FORMATS, self._place())

    def encoded(self, form: str) -> bytes:
        """The bytes of one file; ``form`` is ``masks``, ``overlays``, or another name of ``predictions.FORMATS``."""
        buffer = BytesIO()
        FORMATS[form].write(self._prediction, buffer)
        return buffer.getvalue()

    @property
    def _prediction(self) -> Prediction:
        shown = partial(as_shown, self.image, self._rules)
        return Prediction(self.name, self.mask, self._info, shown, lambda: self.probabilities)

    def __repr__(self) -> str:
        ids, counts = np.unique(self.mask, return_counts=True)
        most = np.argsort(-counts, kind="stable")[:_NAMED]
        shares = [f"{self.class_names[ids[place]]} {counts[place] / self.mask.size:.1%}" for place in most]
        height, width = self.mask.shape
        return f"Result({self.name}, {width}×{height}: {', '.join(shares)}{', …' if len(ids) > _NAMED else ''})"

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        buffer = BytesIO()
        Image.fromarray(reduce(np.asarray(self.overlay()), _LONGEST_SHOWN)).save(buffer, "PNG")
        return buffer.getvalue()
