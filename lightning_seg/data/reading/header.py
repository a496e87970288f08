"""Defines what a file says of its pixels before they are decoded."""

from dataclasses import dataclass

from lightning_seg.data.reading.orientation import SIDEWAYS


@dataclass(frozen=True, slots=True)
class Header:
    """Size, orientation and format of an image file.

    Attributes:
        stored: height and width as the pixels are stored.
        orientation: EXIF's number, 1 where they are upright.
        format: Pillow's name of it, such as ``JPEG``.
        bands: number of bands without alpha; a palette image has 1.
        bits: number of bits of one value.
        type: NumPy's name of the type that holds one value, such as ``uint8`` or ``float32``.
        pages: number of pages of a TIFF, without reduced copies, or of frames of an animation.
        lossy: name of a compression that changes values; None where there is none.
        inverted: whether a TIFF stores white as 0.
        variant: the colour type of a PNG; 2 for a TIFF that stores its bands one after the other; else 0.
        layers: of a TIFF, a PNG or an array: the directory of each page, counted from 1, and its number of bands with
            alpha; empty where pages differ in size or type, and for other formats.
        indexed: whether the values of a TIFF are places in a palette.
    """

    stored: tuple[int, int]
    orientation: int
    format: str
    bands: int = 3
    bits: int = 8
    type: str = "uint8"
    pages: int = 1
    lossy: str | None = None
    inverted: bool = False
    variant: int = 0
    layers: tuple[tuple[int, int], ...] = ()
    indexed: bool = False

    @property
    def upright(self) -> tuple[int, int]:
        """Height and width after the image is turned upright."""
        height, width = self.stored
        return (width, height) if self.orientation in SIDEWAYS else (height, width)

    @property
    def samples(self) -> int | None:
        """How many bands there are through all pages, alpha too, as GDAL counts; None: decoding tells."""
        return sum(bands for _, bands in self.layers) if self.layers else None

    @property
    def is_deep(self) -> bool:
        """Whether a value need not fit into a byte."""
        return self.type != "uint8"

    @property
    def grey_step(self) -> int:
        """By what decoders multiply greys of 1, 2, 4 or 8 bits, so that white is 255."""
        return 255 // ((1 << self.bits) - 1)

    @property
    def described_pages(self) -> str:
        """Number of pages or frames, for messages."""
        return f"{self.pages} {'pages' if self.format == 'TIFF' else 'frames'}"

    @property
    def described(self) -> str:
        """Bands and type of the values, for messages."""
        bands = "1 band" if self.bands == 1 else f"{self.bands} bands"
        packed = f" ({self.bits} bits)" if self.type == "uint16" and self.bits < 16 else ""
        return f"has {bands} of {self.type}{packed}"

    def refuse_other_size(self, height: int, width: int) -> None:
        """Raise a ValueError if pixels have another size than is stated."""
        if (height, width) != self.stored:
            raise ValueError(f"it holds {width}×{height} pixels, and says otherwise")
