"""Paints one made-up landscape and its label map."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

CLASSES = ("sky", "ground", "hill", "house", "tree", "ball")
SKY, GROUND, HILL, HOUSE, TREE, BALL = range(len(CLASSES))
IGNORE = 255

ImageArray = NDArray[np.uint8]
ImageFloat = NDArray[np.float32]
Painter = Callable[[np.random.Generator, "Canvas", int, int, int], None]


class Canvas:
    """An image under work: colours (H, W, 3) float 0 to 255, labels (H, W) and the number of the last object drawn."""

    def __init__(self, height: int, width: int) -> None:
        self.colours = np.zeros((height, width, 3), np.float32)
        self.labels = np.zeros((height, width), np.uint8)
        self.objects = np.zeros((height, width), np.int32)

    def fill(self, region: NDArray[np.bool_], label: int, colour: ImageFloat, *, new_object: bool) -> None:
        """Paint a region over whatever lies behind it; ``colour`` is (3,) or (H, W, 3)."""
        self.colours[region] = np.broadcast_to(colour, self.colours.shape)[region]
        self.labels[region] = label
        self.objects[region] = self.objects.max() + new_object

    def polygon(self, points: list[tuple[float, float]]) -> NDArray[np.bool_]:
        region = np.zeros(self.labels.shape, np.uint8)
        cv2.fillPoly(region, [np.round(points).astype(np.int32)], 1)
        return region.astype(bool)

    def disc(self, x: float, y: float, radius: float) -> NDArray[np.bool_]:
        rows, columns = np.ogrid[: self.labels.shape[0], : self.labels.shape[1]]
        return np.asarray((columns - x) ** 2 + (rows - y) ** 2 <= radius**2)


def paint_scene(rng: np.random.Generator, height: int, width: int) -> tuple[ImageArray, ImageArray]:
    """Paint one scene.

    Returns:
        image (H, W, 3) RGB and mask (H, W) with the ids of :data:`CLASSES`; the seam between two objects is 255.
    """
    canvas = Canvas(height, width)
    horizon = int(height * rng.uniform(0.35, 0.6))
    _paint_sky(rng, canvas)
    _paint_hills(rng, canvas, horizon)
    _paint_ground(rng, canvas, horizon)
    painters: list[Painter] = [_paint_house, _paint_tree, _paint_ball]
    for base in sorted(rng.integers(horizon + 2, height, size=rng.integers(4, 8))):  # far ones first
        nearness = (base - horizon) / (height - horizon)
        size = int(height * (0.14 + 0.22 * nearness) * rng.uniform(0.8, 1.2))
        painters[rng.integers(len(painters))](rng, canvas, int(rng.integers(0, width)), int(base), size)
    return _photograph(rng, canvas), _label(canvas)


def _paint_sky(rng: np.random.Generator, canvas: Canvas) -> None:
    height = canvas.labels.shape[0]
    top, bottom = _colour(rng, (70, 120, 190), 35), _colour(rng, (190, 200, 215), 30)
    blend = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    clouds = np.clip(_noise(rng, canvas, cell=24), 0, None) * 45
    canvas.fill(np.ones_like(canvas.labels, bool), SKY, top * (1 - blend) + bottom * blend + clouds, new_object=True)


def _paint_hills(rng: np.random.Generator, canvas: Canvas, horizon: int) -> None:
    height, width = canvas.labels.shape
    ridge = horizon - height * rng.uniform(0.05, 0.3, size=5)
    points = [(float(x), float(y)) for x, y in zip(np.linspace(0, width, 5), ridge, strict=True)]
    colour = _colour(rng, (95, 125, 110), 30) + _noise(rng, canvas, cell=6) * 14
    canvas.fill(canvas.polygon([(0, height), *points, (width, height)]), HILL, colour, new_object=True)


def _paint_ground(rng: np.random.Generator, canvas: Canvas, horizon: int) -> None:
    region = np.zeros_like(canvas.labels, bool)
    region[horizon:] = True
    base = [(120, 140, 70), (165, 140, 100), (150, 150, 145)][rng.integers(3)]
    colour = _colour(rng, base, 25) + _noise(rng, canvas, cell=3) * 18 + _noise(rng, canvas, cell=20) * 14
    canvas.fill(region, GROUND, colour, new_object=True)


def _paint_house(rng: np.random.Generator, canvas: Canvas, x: int, base: int, size: int) -> None:
    half, wall = size * rng.uniform(0.4, 0.7), size * rng.uniform(0.55, 0.8)
    rows = np.arange(canvas.labels.shape[0])[:, None, None]
    bricks = np.where(rows % 5 == 0, -30, 0).astype(np.float32) + _noise(rng, canvas, cell=2) * 8
    walls = canvas.polygon([(x - half, base), (x - half, base - wall), (x + half, base - wall), (x + half, base)])
    canvas.fill(walls, HOUSE, _colour(rng, (185, 140, 115), 45) + bricks, new_object=True)
    eaves, top = half * 1.15, base - wall - size * rng.uniform(0.3, 0.5)
    roof = canvas.polygon([(x - eaves, base - wall), (x, top), (x + eaves, base - wall)])
    canvas.fill(roof, HOUSE, _colour(rng, (140, 70, 60), 35) + bricks, new_object=False)
    for side in (-0.5, 0.5):  # windows belong to the house
        left, sill, pane = x + side * half - size * 0.08, base - wall * 0.4, size * 0.16
        window = canvas.polygon([(left, sill), (left, sill - pane), (left + pane, sill - pane), (left + pane, sill)])
        canvas.fill(window, HOUSE, _colour(rng, (60, 70, 90), 25), new_object=False)


def _paint_tree(rng: np.random.Generator, canvas: Canvas, x: int, base: int, size: int) -> None:
    trunk, half = size * rng.uniform(0.4, 0.7), max(1.0, size * 0.06)
    stem = canvas.polygon([(x - half, base), (x - half, base - trunk), (x + half, base - trunk), (x + half, base)])
    canvas.fill(stem, TREE, _colour(rng, (95, 70, 50), 20), new_object=True)
    leaves = _colour(rng, (60, 110, 50), 35) + _noise(rng, canvas, cell=2) * 26
    for _ in range(5):
        centre_x, centre_y = x + size * rng.uniform(-0.22, 0.22), base - trunk - size * rng.uniform(0, 0.35)
        canvas.fill(canvas.disc(centre_x, centre_y, size * rng.uniform(0.18, 0.3)), TREE, leaves, new_object=False)


def _paint_ball(rng: np.random.Generator, canvas: Canvas, x: int, base: int, size: int) -> None:
    radius = max(3.0, size * rng.uniform(0.2, 0.35))
    rows, columns = np.mgrid[: canvas.labels.shape[0], : canvas.labels.shape[1]].astype(np.float32)
    light: ImageFloat = np.hypot(columns - (x - radius / 3), rows - (base - radius * 1.3)) / radius
    stripes = (np.sin((columns * np.cos(size) + rows * np.sin(size)) * 5 / radius) > 0)[..., None]
    colour = np.where(stripes, _colour(rng, (200, 90, 60), 55), _colour(rng, (215, 205, 180), 40))
    shaded = np.asarray(colour - (np.clip(light, 0, 2) * 55)[..., None], np.float32)
    canvas.fill(canvas.disc(x, base - radius, radius), BALL, shaded, new_object=True)


def _photograph(rng: np.random.Generator, canvas: Canvas) -> ImageArray:
    """Exposure, white balance, a soft lens and sensor noise."""
    light = np.asarray(rng.uniform(0.75, 1.2) * rng.uniform(0.93, 1.07, size=3), np.float32)
    seen = cv2.GaussianBlur(canvas.colours * light, (3, 3), rng.uniform(0.3, 0.9))
    noise = np.asarray(rng.normal(0, rng.uniform(2, 7), size=seen.shape), np.float32)
    return np.asarray(np.clip(seen + noise, 0, 255), np.uint8)


def _label(canvas: Canvas) -> ImageArray:
    """The labels with a seam of about two pixels where two objects meet, as Pascal VOC has it."""
    objects = canvas.objects
    seam = np.zeros(objects.shape, bool)
    for axis in (0, 1):
        step = np.diff(objects, axis=axis) != 0
        before = [slice(None), slice(None)]
        after = [slice(None), slice(None)]
        before[axis], after[axis] = slice(None, -1), slice(1, None)
        seam[tuple(before)] |= step
        seam[tuple(after)] |= step
    return np.where(seam, np.uint8(IGNORE), canvas.labels)


def _colour(rng: np.random.Generator, centre: tuple[int, int, int], spread: int) -> ImageFloat:
    return (np.array(centre) + rng.uniform(-spread, spread, size=3)).astype(np.float32)


def _noise(rng: np.random.Generator, canvas: Canvas, cell: int) -> ImageFloat:
    """Smooth noise (H, W, 1) of about unit variance that varies over ``cell`` pixels."""
    height, width = canvas.labels.shape
    coarse = rng.normal(size=(height // cell + 2, width // cell + 2)).astype(np.float32)
    fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(fine, np.float32)[..., None]
