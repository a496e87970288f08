"""Training on four bands of uint16: the step with the real loader, of GeoTIFF and of ``.npy``, against it alone."""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from lightning_seg.data import Folder, RandomScaleCrop, SegmentationDataModule
from lightning_seg.data.loading.sampler import Draw
from sections.loading import cpu_seconds
from sections.loop import WARM_UP, Batch
from sections.steps import FPN, SHIPPED
from sections.table import Row, Settings
from sections.training import ours

CLASSES, BANDS, LARGEST = 5, 4, 4000
NETWORK = replace(
    FPN, classes=CLASSES,
    overrides={**FPN.overrides, "MODEL.PIXEL_MEAN": [LARGEST / 2] * BANDS, "MODEL.PIXEL_STD": [LARGEST / 4] * BANDS},
)  # fmt: skip


def run(settings: Settings) -> Iterator[Row]:
    """The step alone first; a sample is the same of both kinds of files."""
    tiny, device = settings.tiny, settings.device
    batch, steps, files = (2, 2, 4) if tiny else (NETWORK.batch, 20, 16)
    crop = (32, 64) if tiny else NETWORK.size
    names = files if tiny else batch * (steps + 8)
    kinds = ["npy"]
    if find_spec("rasterio") is None:
        yield Row(
            f"{BANDS} bands, GeoTIFF", note="left out: rasterio is not installed: pip install 'lightning_seg[geo]'"
        )
    else:
        kinds.insert(0, "tif")
    for kind in kinds:
        write_scenes(settings.folder / "bands" / kind, files, names, 128 if tiny else 2048)

    def data(kind: str, **options: Any) -> SegmentationDataModule:
        folder = settings.folder / "bands" / kind
        return SegmentationDataModule(
            classes=[f"class{index}" for index in range(CLASSES)],
            bands=list(range(1, BANDS + 1)),
            train=Folder(
                images=str(folder / "images"), masks=str(folder / "masks"), mask_name=f"{{stem}}.{kind}",
                image_suffixes=[f".{kind}"],
            ),
            train_transforms=[RandomScaleCrop(*crop), A.HorizontalFlip()],
            batch_size=batch,
            **options,
        )  # fmt: skip

    samples = [_first_sample(data(kind, num_workers=0)) for kind in kinds]
    wrong = _disagreement(samples, device)
    alone = ours(
        NETWORK.build(channels_last=True), _noise(batch, *crop), steps, device, batch_size=batch, **SHIPPED
    ).images_per_s
    for kind in kinds:
        what = f"{BANDS} bands, {'GeoTIFF' if kind == 'tif' else '.npy'}"
        if settings.left < 8:
            yield Row(what, no_time=True)
            continue
        per_sample = cpu_seconds(data(kind, num_workers=0), tiny)
        module = data(kind)
        found = ours(
            NETWORK.build(channels_last=True), module, steps, device, batch_size=batch, warm_up=2 * WARM_UP, **SHIPPED
        ).images_per_s
        note = f"a sample takes {1000 * per_sample:.1f} ms of a CPU: the step needs {alone * per_sample:.1f} CPUs a GPU"
        yield Row(
            f"{what}, batch {batch}, {module._workers()} processes", found, alone, found / alone, 0.95,
            unit="images/s", failed=bool(wrong), note="\n".join(filter(None, (wrong, note))),
        )  # fmt: skip


def write_scenes(folder: Path, files: int, names: int, side: int) -> None:
    """Images and masks of one kind, ``tif`` or ``npy`` as the folder is called; names beyond the files are links."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    with ProcessPoolExecutor() as pool:
        list(pool.map(_write_scene, [folder] * files, range(files), [side] * files))
    for number in range(files, names):
        for part in ("images", "masks"):
            os.link(folder / part / f"{number % files}.{folder.name}", folder / part / f"{number}.{folder.name}")


def _write_scene(folder: Path, number: int, side: int) -> None:
    """Smooth values with noise in their lowest bits, as sensors give them."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, LARGEST, (side // 32, side // 32, BANDS)).astype(np.uint16)
    image = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR)
    image = image + rng.integers(0, 16, image.shape, np.uint16)
    mask = (image[..., 0] // (LARGEST // CLASSES + 4)).astype(np.uint8)
    for part, values in (("images", image), ("masks", mask)):
        path = folder / part / f"{number}.{folder.name}"
        if folder.name == "npy":
            np.save(path, values)
        else:
            _write_geotiff(path, values)


def _write_geotiff(path: Path, values: NDArray[Any]) -> None:
    import rasterio
    from rasterio.transform import from_origin

    planes = np.atleast_3d(values).transpose(2, 0, 1)
    with rasterio.open(
        path, "w", driver="GTiff", count=len(planes), height=planes.shape[1], width=planes.shape[2], dtype=values.dtype,
        crs="EPSG:32632", transform=from_origin(500_000, 5_000_000, 0.5, 0.5), tiled=True, blockxsize=256,
        blockysize=256, compress="deflate", predictor=2,
    ) as file:  # fmt: skip
        file.write(planes)


def _first_sample(data: SegmentationDataModule) -> dict[str, Any]:
    data.setup("fit")
    data.train_dataloader()  # prepares the process
    return dict(data.datasets["train"][Draw(0, 0, 0)])


def _disagreement(samples: list[dict[str, Any]], device: str) -> str:
    """Says what of a sample differs between kinds of files, or of its input between types of pixels; or nothing."""
    first = samples[0]
    for other in samples[1:]:
        for name in ("image", "sem_seg"):
            if first[name].dtype != other[name].dtype or not np.array_equal(first[name].numpy(), other[name].numpy()):
                return f"{name} of a sample differs between GeoTIFF and .npy"
    if first["image"].dtype != torch.uint16:
        return f"a sample is {first['image'].dtype}, not uint16"
    segmentor = NETWORK.build().to(device).segmentor
    given, network = first["image"].to(device), segmentor.network
    found = segmentor.inputs([{"image": given}])[0, :, : given.shape[1], : given.shape[2]]
    expected = (given.int().float() - network.pixel_mean) / network.pixel_std
    same = torch.allclose(found, expected, rtol=1e-6, atol=1e-6)
    return "" if same else "the network's input is not (x - mean) / std"


def _noise(size: int, height: int, width: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "image": torch.randint(0, LARGEST, (BANDS, height, width), generator=generator).to(torch.uint16),
            "sem_seg": torch.randint(0, CLASSES, (height, width), generator=generator).to(torch.uint8),
            "name": str(index), "height": height, "width": width,
        }
        for index in range(size)
    ]  # fmt: skip
