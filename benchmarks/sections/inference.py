"""From an image file to its label map, against Detectron2's ``DefaultPredictor`` with the same weights."""

import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from inference import PEER, Labels, load_side, write_models

from lightning_seg import export
from lightning_seg.errors import DependencyError
from lightning_seg.exporting.running import ONNX_LIBRARIES
from sections.images import write_scenes
from sections.table import Row, Settings

NAMES = ("checkpoint", "the same, channels_last", "model.pt2")
ONNX = "model.onnx, ONNX Runtime"
EXPORT_SECONDS = 30
"""For writing an ONNX file and its certificate."""


def run(settings: Settings) -> Iterator[Row]:
    """A checkpoint, as it is and channels-last, the exported program, and an ONNX file where there is what runs it."""
    folder = settings.folder / "inference"
    folder.mkdir()
    write_models(folder, ("pt2", "pth"))
    size, files = ((96, 160), 2) if settings.tiny else ((1024, 2048), 6)
    write_scenes(folder / "scenes", files, size=size)
    images = sorted((folder / "scenes/images").iterdir())
    found, taken = _labels_and_seconds(PEER, folder, images, settings.device)

    def row(side: str, name: str) -> Row:
        own, here = _labels_and_seconds(side, folder, images, settings.device)
        differing = max(float(np.mean(a != b)) for a, b in zip(own, found, strict=True))
        return Row(
            f"{name}, {size[0]}×{size[1]}", 1000 * here, 1000 * taken, taken / here, unit="ms",
            failed=differing > 1e-2, note=f"{differing:.1e} of the pixels differ",
        )  # fmt: skip

    for name in NAMES:
        yield row(name, name)
    if reason := without_onnx(settings.device):
        yield Row(ONNX, note=f"left out: {reason}")
    elif settings.left < EXPORT_SECONDS:
        yield Row(ONNX, no_time=True)
    else:
        given = ["--ckpt_path", str(folder / "model.ckpt"), "--output", str(folder / "model.onnx")]
        if export.main([*given, "--images", *map(str, images[:1])]) != 0:
            raise RuntimeError("model.onnx could not be written")
        try:
            yield row("model.onnx", ONNX)
        except DependencyError as error:  # it is built for CUDA and does not find it
            yield Row(ONNX, note=f"left out: {error}")


def without_onnx(device: str) -> str:
    """Says why ONNX Runtime cannot run a file on the device, or nothing."""
    missing = [name for name in ONNX_LIBRARIES if find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} not installed: pip install 'lightning_seg[export]' onnxruntime-gpu"
    import onnxruntime

    if device == "cuda" and "CUDAExecutionProvider" not in (known := onnxruntime.get_available_providers()):
        return f"this onnxruntime has {', '.join(known)}, not CUDAExecutionProvider: pip install onnxruntime-gpu"
    return ""


def _labels_and_seconds(name: str, folder: Path, images: list[Path], device: str) -> tuple[list[Labels], float]:
    """Label maps of the first round, and mean seconds an image of the second."""
    side = load_side(name, folder, device)
    labels = [side(path) for path in images]
    start = time.perf_counter()
    for path in images:
        side(path)
    return labels, (time.perf_counter() - start) / len(images)
