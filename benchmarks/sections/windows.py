"""A large image by windows, against a plain loop of windows with the same network, and against the image as a whole."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_seg.inference import WHOLE, SlidingWindow
from lightning_seg.inference.sliding import strips
from lightning_seg.models.segmentor import Segmentor
from sections.steps import FPN
from sections.table import Row, Settings, peak_gib, seconds


def run(settings: Settings) -> Iterator[Row]:
    """For few and for many classes; the whole image is another result, so that it is only timed."""
    torch.set_float32_matmul_precision("high")
    side, window = (160, 64) if settings.tiny else (4096, 512)
    way = SlidingWindow((window, window))
    image = torch.randint(0, 256, (3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    sample = {"image": image.to(settings.device), "height": side, "width": side}
    for classes in (19, 150):
        what = f"{FPN.name}, {classes} classes, {side}×{side}, windows of {window}"
        if settings.left < 8:
            yield Row(what, no_time=True)
            continue
        segmentor = replace(FPN, classes=classes).build(channels_last=True).to(settings.device).eval().segmentor
        ways: dict[str, Callable[[], Tensor]] = {
            "by windows": partial(_labels, way, segmentor, sample),
            "a plain loop": partial(_plain, segmentor, sample, way, classes),
            "the whole image": partial(_labels, WHOLE, segmentor, sample),
        }
        found: dict[str, _Measured] = {}
        for name, side_of_it in ways.items():
            try:
                found[name] = _Measured(side_of_it, settings)
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
                yield Row(f"{what}: {name}", failed=name == "by windows", note="more memory than there is")
        yield from _rows(what, found)


class _Measured:
    """Labels, milliseconds and the peak of a GPU's memory of one way."""

    def __init__(self, way: Callable[[], Tensor], settings: Settings) -> None:
        with torch.no_grad():
            self.labels = way()  # warm, and looked at
            self.peak = peak_gib(way, settings.device)
            self.milliseconds = 1000 * seconds(way, settings.device, 1 if settings.tiny else 2)


def _rows(what: str, found: dict[str, _Measured]) -> Iterator[Row]:
    own = found.get("by windows")
    for name in ("a plain loop", "the whole image"):
        peer = found.get(name)
        if own is None or peer is None:
            continue
        differing = float((own.labels != peer.labels).float().mean())
        note = f"{differing:.1e} of the pixels differ"
        if own.peak is not None and peer.peak is not None:
            note += f"; peak memory {own.peak:.2f} against {peer.peak:.2f} GiB"
        yield Row(
            f"{what}: {name}", own.milliseconds, peer.milliseconds, peer.milliseconds / own.milliseconds, unit="ms",
            failed=name == "a plain loop" and differing > 1e-3, note=note,
        )  # fmt: skip


def _labels(way: Any, segmentor: Segmentor, sample: dict[str, Any]) -> Tensor:
    labels: Tensor = way.evaluate(segmentor.evaluate, [sample])[0][0]
    return labels


def _plain(segmentor: Segmentor, sample: dict[str, Any], way: SlidingWindow, classes: int) -> Tensor:
    """Blend probabilities of all windows in a buffer as large as the image, with the same places and weights."""
    image = sample["image"]
    _, height, width = image.shape
    sums = torch.zeros(classes, height, width, device=image.device)
    below, across = (
        strips(size, length, way.overlap, way.blend) for size, length in zip((height, width), way.window, strict=True)
    )
    places = [(rows, columns) for rows in below for columns in across]
    for start in range(0, len(places), way.batch_size):
        part = places[start : start + way.batch_size]
        inputs = segmentor.inputs([{"image": image[:, rows.pixels, columns.pixels]} for rows, columns in part])
        logits = segmentor.network.sem_seg_head.layers(segmentor.network.backbone(inputs))
        full = F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False).softmax(1)
        for (rows, columns), scores in zip(part, full, strict=True):
            weights = (rows.weights[:, None] * columns.weights).to(image.device)
            sums[:, rows.pixels, columns.pixels] += weights * scores
    return sums.argmax(0).to(torch.uint8)
