"""Writes photos of made-up streets, with masks in colour, as a labelling tool would: stands in for data of your own.

``python examples/own_data/make_photos.py FOLDER`` fills ``FOLDER/images``, ``FOLDER/masks`` and ``FOLDER/new``. Sizes
differ, and every fifth photo is stored turned, as phones do.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

GROUND, ROAD, CAR = (60, 120, 40), (128, 64, 128), (0, 0, 142)  # colours of the masks


def paint_street(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A photo and its mask, both (H, W, 3) uint8 RGB: a road to the horizon, and cars of any colour on the ground."""
    height, width = generator.integers(150, 240, 2).tolist()
    image, mask = (np.full((height, width, 3), colour, np.uint8) for colour in ((96, 140, 80), GROUND))
    left, far = generator.integers(0, width // 2), generator.integers(width // 4, width // 2)
    road = np.array([[left, height], [left + width // 2, height], [far + width // 8, 0], [far, 0]], np.int32)
    cv2.fillPoly(image, [road], (120, 120, 125))
    cv2.fillPoly(mask, [road], ROAD)
    for _ in range(3):
        top, start = int(generator.integers(0, height - 30)), int(generator.integers(0, width - 45))
        body = generator.integers(0, 256, 3).tolist()
        for canvas, colour in ((image, body), (mask, CAR)):
            cv2.rectangle(canvas, (start, top), (start + 40, top + 22), colour, cv2.FILLED)
    noisy = image + generator.normal(0, 12, image.shape)
    return noisy.clip(0, 255).astype(np.uint8), mask


def save_photo(image: np.ndarray, file: Path, *, turned: bool) -> None:
    """Write a JPEG; if it is turned, EXIF data say how to turn it upright."""
    photo, exif = Image.fromarray(image), Image.Exif()
    if turned:
        photo = photo.transpose(Image.Transpose.ROTATE_90)
        exif[0x0112] = 6  # orientation: turn it clockwise
    photo.save(file, quality=92, exif=exif)


def main(folder: Path) -> None:
    for name in ("images", "masks", "new"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(60):
        image, mask = paint_street(np.random.default_rng(number))
        name = f"IMG_{number:04d}"
        save_photo(image, folder / ("images" if number < 56 else "new") / f"{name}.jpg", turned=number % 5 == 2)
        if number < 56:
            Image.fromarray(mask).save(folder / "masks" / f"{name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
