"""Masks keep the values or colours that are stored, and files that changed them are refused by what changed them."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_seg.data.reading import StoredMask, read_header, read_mask
from lightning_seg.errors import DataError, LossyMaskError, UnreadableError
from tests.data.reading.files import chunk, deep_png, exif, png, saved, tiff

VALUES = np.array([[0, 1, 2], [2, 1, 255]], np.uint8)
LABELS = np.kron(np.array([[0, 3, 9], [9, 1, 12]], np.uint8), np.ones((16, 16), np.uint8))
COLOURS = np.array([[[255, 0, 0], [0, 0, 0]], [[0, 128, 64], [255, 0, 0]]], np.uint8)


def read(tmp_path: Path, data: bytes) -> StoredMask:
    (tmp_path / "m").write_bytes(data)
    return read_mask(tmp_path / "m")


def test_palette_mask_keeps_its_indices(tmp_path: Path) -> None:
    image = Image.fromarray(VALUES, mode="P")
    image.putpalette([value for index in range(256) for value in (255 - index, 38 * index % 256, 75)])
    stored = read(tmp_path, saved(image, "PNG"))
    assert np.array_equal(stored.values, VALUES)
    assert stored.palette is not None
    assert stored.palette[1].tolist() == [254, 38, 75]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_deep_masks_keep_their_values(tmp_path: Path, kind: str) -> None:
    values = np.array([[0, 300, 7], [40000, 65535, 1]], np.uint16)
    stored = read(tmp_path, saved(values, kind)).values
    assert stored is not None
    assert stored.dtype == np.int32
    assert np.array_equal(stored, values)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["int8", "int16", "uint16", "int32", "uint32"])
def test_tiffs_of_whole_numbers_keep_their_values(tmp_path: Path, kind: str, order: str) -> None:
    values = np.array([[0, 100, 7], [3, 127, 1]], kind)
    if kind.startswith("int"):
        values[0, 0] = -1
    assert np.array_equal(read(tmp_path, tiff(values, order=order)).values, values)


def test_values_that_no_class_can_have(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="has values of more than 31 bits: expected class ids"):
        read(tmp_path, tiff(np.array([[2**32 - 1, 0]], np.uint32)))
    with pytest.raises(UnreadableError, match=r"m has 1 band of float32: expected class ids"):
        read(tmp_path, saved(VALUES.astype(np.float32), "TIFF"))
    with pytest.raises(UnreadableError, match=r"m has 5 bands of uint8: expected class ids"):
        read(tmp_path, tiff(np.zeros((4, 4, 5), np.uint8)))
    with pytest.raises(UnreadableError, match=r"m has mode CMYK: expected class ids"):
        read(tmp_path, saved(Image.new("CMYK", (4, 4)), "TIFF"))


@pytest.mark.parametrize("depth", [8, 16])
def test_grey_with_alpha_holds_no_labels(tmp_path: Path, depth: int) -> None:
    row = bytes(4 * depth // 8)
    with pytest.raises(UnreadableError, match=rf"m has 1 band of uint{depth} and alpha: expected class ids"):
        read(tmp_path, png(depth, 4, [row], 2))


def test_1_bit_mask_is_zero_and_one(tmp_path: Path) -> None:
    values = np.array([[0, 1], [1, 0]], bool)
    for kind in ("PNG", "TIFF", "BMP"):
        assert np.array_equal(read(tmp_path, saved(values, kind)).values, values)


@pytest.mark.parametrize(
    ("depth", "row", "values"),
    [(1, b"\x60", [0, 1, 1, 0]), (2, b"\x1b", [0, 1, 2, 3]), (4, b"\x01\x2f", [0, 1, 2, 15])],
)
@pytest.mark.parametrize("kind", [0, 3])
def test_shallow_masks_keep_their_values(tmp_path: Path, depth: int, row: bytes, values: list[int], kind: int) -> None:
    between = [chunk(b"PLTE", bytes(range(48)))] if kind == 3 else []
    stored = read(tmp_path, png(depth, kind, [row], 4, *between)).values
    assert stored is not None
    assert stored.tolist() == [values]


@pytest.mark.parametrize("depth", [2, 4])
def test_shallow_tiffs(tmp_path: Path, depth: int) -> None:
    """Black is 0, or white: of the latter nobody knows what was meant."""
    packed = np.array([[0x1B], [0xE4]], np.uint8)
    values = {2: [[0, 1, 2, 3], [3, 2, 1, 0]], 4: [[1, 11], [14, 4]]}[depth]
    tags = {256: (4, [8 // depth]), 258: (3, [depth])}
    stored = read(tmp_path, tiff(packed, tags=tags)).values
    assert stored is not None
    assert stored.tolist() == values
    with pytest.raises(LossyMaskError, match=r"m is a TIFF that stores white as 0 \(WhiteIsZero\).*save masks as PNG"):
        read(tmp_path, tiff(packed, tags={**tags, 262: (3, [0])}))


@pytest.mark.parametrize(("maximum", "kind"), [(1, "B"), (12, "B"), (200, "B"), (255, "B"), (1000, "H"), (65535, "H")])
def test_pgm_keeps_its_values_whatever_is_white(tmp_path: Path, maximum: int, kind: str) -> None:
    values = [0, 1, maximum // 2, maximum]
    packed = struct.pack(f">4{kind}", *values)
    stored = read(tmp_path, b"P5 # by hand\n2 2\n%d\n" % maximum + packed).values
    assert stored is not None
    assert stored.ravel().tolist() == values
    ascii_values = " ".join(map(str, values)).encode()
    stored = read(tmp_path, b"P2\n2 2\n%d\n" % maximum + ascii_values).values
    assert stored is not None
    assert stored.ravel().tolist() == values


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "PPM"])
def test_colour_masks_keep_their_colours(tmp_path: Path, kind: str) -> None:
    stored = read(tmp_path, saved(COLOURS, kind))
    assert stored.values is None
    assert np.array_equal(stored.colours, COLOURS)


def test_alpha_is_kept_apart(tmp_path: Path) -> None:
    stored = read(tmp_path, saved(np.dstack([COLOURS, np.full((2, 2), 7, np.uint8)]), "PNG", exif=exif(3)))
    assert np.array_equal(stored.colours, COLOURS[::-1, ::-1])
    assert stored.alpha is not None
    assert (stored.alpha == 7).all()


def deep_tiff(values: np.ndarray) -> bytes:
    return tiff(values, tags={338: (3, [2])} if values.shape[2] == 4 else {})


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize(
    "write", [deep_png, lambda values: tiff(values, tags={338: (3, [2])} if values.shape[2] == 4 else {})]
)
def test_colours_of_16_bits_that_are_those_of_8(tmp_path: Path, write: object, alpha: bool) -> None:
    colours = np.dstack([COLOURS, np.full((2, 2), 200, np.uint8)]) if alpha else COLOURS
    wide = colours.astype(np.uint16) * 257
    stored = read(tmp_path, write(wide))  # type: ignore[operator]
    assert np.array_equal(stored.colours, COLOURS)
    assert (stored.alpha is not None) == alpha
    assert stored.alpha is None or (stored.alpha == 200).all()
    wide[0, 0, 0] -= 1
    with pytest.raises(UnreadableError, match=r"m has colours of 16 bits, which are not .* times 257, in 1 pixels"):
        read(tmp_path, write(wide))  # type: ignore[operator]


def jpeg_tiff() -> bytes:
    return saved(np.repeat(LABELS[..., None], 3, axis=2), "TIFF", compression="jpeg")


def webp(**options: object) -> bytes:
    return saved(np.repeat(LABELS[..., None], 3, axis=2), "WEBP", **options)


def translucent() -> np.ndarray:
    return np.dstack([np.repeat(LABELS[..., None], 3, axis=2), LABELS * 9])


LOSSY = {
    "a JPEG": lambda: saved(LABELS, "JPEG"),
    "a TIFF whose pixels are compressed as JPEG": jpeg_tiff,
    "a lossy WebP": webp,
    "a lossy WebP, with EXIF": lambda: webp(exif=exif(1)),
    "a lossy WebP, with alpha": lambda: saved(translucent(), "WEBP"),
    "a JPEG 2000 file": lambda: saved(LABELS, "JPEG2000"),
    "an AVIF file": lambda: saved(np.repeat(LABELS[..., None], 3, axis=2), "AVIF"),
}


@pytest.mark.parametrize("kind", LOSSY)
def test_compression_that_changes_values(tmp_path: Path, kind: str) -> None:
    with pytest.raises(LossyMaskError) as caught:
        read(tmp_path, LOSSY[kind]())
    assert str(caught.value) == (
        f"mask {tmp_path / 'm'} is {kind.split(', with', maxsplit=1)[0]}, which changes label values: save masks as PNG"
    )


def test_webp_in_a_tiff_is_what_it_says_itself(tmp_path: Path) -> None:
    """Tag 259 says WebP alone; the header comes before decoding, which not every Pillow can do."""
    for options, lossy in (({"lossless": True}, None), ({}, "a TIFF whose pixels are compressed as WebP")):
        inner = webp(**options)
        inner += bytes(-len(inner) % 8)
        page = np.frombuffer(inner, np.uint8)[None]
        tags = {256: (4, [48]), 257: (4, [32]), 258: (3, [8, 8, 8]), 259: (3, [50001]), 262: (3, [2]), 277: (3, [3])}
        (tmp_path / "m.tif").write_bytes(tiff(page, tags=tags))
        assert read_header(tmp_path / "m.tif", "mask").lossy == lossy


def test_compression_that_keeps_values(tmp_path: Path) -> None:
    for data in (
        webp(lossless=True),
        webp(lossless=True, exif=exif(1)),
        saved(translucent(), "WEBP", lossless=True, exact=True),
    ):
        stored = read(tmp_path, data)
        assert stored.colours is not None
        assert np.array_equal(stored.colours[..., 0], LABELS)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        assert np.array_equal(read(tmp_path, saved(LABELS, "TIFF", compression=compression)).values, LABELS)


def test_one_page_or_frame_is_expected(tmp_path: Path) -> None:
    frames = [Image.new("L", (4, 4), value) for value in (0, 200)]
    with pytest.raises(UnreadableError, match=r"m has 2 frames: expected a single image"):
        read(tmp_path, saved(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    with pytest.raises(UnreadableError, match=r"m has 2 frames: expected a single image"):
        read(tmp_path, saved(frames[0], "PNG", save_all=True, append_images=frames[1:]))
    with pytest.raises(UnreadableError, match=r"m has 2 pages: expected a single image"):
        read(tmp_path, tiff(VALUES, VALUES))
    assert np.array_equal(read(tmp_path, tiff(VALUES, VALUES, later={254: (4, [1])})).values, VALUES)


def test_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mask .*none\.png does not exist"):
        read_mask(tmp_path / "none.png")
    with pytest.raises(DataError, match=r"mask .*m cannot be read \(it is none of JPEG"):
        read(tmp_path, b"no image")
    whole = saved(LABELS, "TIFF")
    with pytest.raises(UnreadableError, match=r"mask .*m cannot be read \("):
        read(tmp_path, whole[: len(whole) // 2])
    file = io.BytesIO()
    Image.fromarray(LABELS).save(file, "JPEG")
    with pytest.raises(UnreadableError, match=r"mask .*m cannot be read \("):
        read(tmp_path, file.getvalue()[:-40])
