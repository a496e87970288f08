"""Predicts GeoTIFFs of 20 000 columns by windows: peak memory by their height, and the bytes after a kill.

Run: python benchmarks/large.py [--folder FOLDER] [--tiny]. A small network, trained for one step, predicts images of
4 000×20 000 and 20 000×20 000 pixels by the command, without loading processes. Then the larger one is killed by
SIGKILL in the middle and predicted again. Each run is a process of its own, whose peak of resident memory is what the
kernel says. Exit status 1 where the larger takes more than 1.3 times the memory of the smaller, or 3 GiB, where the
file after the kill is another, or where GDAL does not call it a Cloud-Optimised GeoTIFF. It takes 3 GB of disk.
``--tiny`` only shows that all of it runs: 400 and 2 000 rows of 2 000 columns.
"""

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import rasterio
import yaml
from rasterio.transform import from_origin
from rasterio.windows import Window
from sections.figures import add_output, write_figures

REPOSITORY = Path(__file__).parent.parent
MOST_RATIO, MOST_GIB = 1.3, 3.0
TILE = 512

EXPERIMENT = {
    "seed_everything": 1,
    "model": {
        "config": "Misc/semantic_R_50_FPN_1x.yaml",
        "weights": "",
        "overrides": {
            "MODEL.RESNETS.STEM_OUT_CHANNELS": 16,
            "MODEL.RESNETS.RES2_OUT_CHANNELS": 32,
            "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
            "MODEL.RESNETS.NORM": "BN",
            "MODEL.BACKBONE.FREEZE_AT": 0,
            "MODEL.FPN.OUT_CHANNELS": 16,
            "MODEL.SEM_SEG_HEAD.CONVS_DIM": 16,
            "MODEL.SEM_SEG_HEAD.NORM": "BN",
        },
        "inference": {"class_path": "lightning_seg.inference.SlidingWindow"},
    },
    "data": {
        "classes": ["sky", "ground", "hill", "house", "tree", "ball"],
        "train": {"class_path": "lightning_seg.data.Synthetic", "init_args": {"root": "scenes", "count": 8, "seed": 0}},
        "num_workers": 0,
    },
    "trainer": {"accelerator": "cpu", "devices": 1, "max_steps": 1, "logger": False, "enable_progress_bar": False},
}


def write_image(path: Path, height: int, width: int) -> None:
    """A GeoTIFF of smooth colours with a border of nodata on the left, in tiles."""
    random = np.random.default_rng(0)
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=3, dtype="uint8", nodata=0, crs="EPSG:32632",
        transform=from_origin(500_000, 5_000_000, 0.2, 0.2), photometric="RGB", tiled=True, blockxsize=TILE,
        blockysize=TILE, compress="DEFLATE", zlevel=1, bigtiff="IF_SAFER",
    ) as file:  # fmt: skip
        for row in range(0, height, TILE):
            rows = min(TILE, height - row)
            coarse = random.random((rows // 32 + 2, width // 32 + 2, 3)).astype(np.float32)
            pixels = (cv2.resize(coarse, (width, rows)) * 240 + 8).astype(np.uint8)
            pixels[:, : width // 100] = 0
            file.write(pixels.transpose(2, 0, 1), window=Window(0, row, width, rows))


def run(folder: Path, *arguments: str, kill_at: tuple[Path, int] | None = None) -> tuple[float, float]:
    """Seconds and peak GiB of ``train.py``; it is killed once a file has so many bytes."""
    began = time.monotonic()
    with (folder / "log.txt").open("ab") as log:
        command = [sys.executable, str(REPOSITORY / "train.py"), *arguments]
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        if kill_at is not None:
            file, size = kill_at
            while process.poll() is None and not (file.is_file() and file.stat().st_size >= size):
                time.sleep(0.05)
            process.kill()
        _, status, usage = os.wait4(process.pid, 0) if process.returncode is None else (0, 0, None)
    expected = 0 if kill_at is None else signal.SIGKILL
    if usage is None or status != expected:
        sys.exit(f"a run ended with {status}, see {folder / 'log.txt'}")
    return time.monotonic() - began, usage.ru_maxrss / 2**20


def main() -> None:
    """Predict, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where images and results go; by default a temporary folder")
    parser.add_argument("--tiny", action="store_true", help="small images: figures mean nothing")
    add_output(parser)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        sizes = (400, 2000, 2000) if given.tiny else (4000, 20_000, 20_000)
        figures = compare(folder, *sizes)
    write_figures(given.output, figures)
    bounded = given.tiny or (figures["memory by height"] <= MOST_RATIO and figures["peak GiB"] <= MOST_GIB)
    if not (bounded and figures["the same bytes"] and figures["COG"]):
        sys.exit(1)


def compare(folder: Path, low: int, high: int, width: int) -> dict[str, float]:
    """What is claimed, by name; 1 is true."""
    (folder / "large.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    run(folder, "fit", "--config", "large.yaml", "--name", "large")
    peaks = []
    for height in (low, high):
        write_image(folder / f"{height}.tif", height, width)
        seconds, peak = predict(folder, height, f"whole-{height}")
        peaks.append(peak)
        print(f"{height}×{width}: {seconds:.0f} s, {peak:.2f} GiB at the peak", flush=True)
    whole, resumed = (folder / f"{name}-{high}/masks/{high}.tif" for name in ("whole", "killed"))
    half = whole.stat().st_size // 3  # rows take about as much before they are tiled, and the result has overviews
    predict(folder, high, f"killed-{high}", kill_at=(resumed.with_name(resumed.name + ".rows"), half))
    seconds, peak = predict(folder, high, f"killed-{high}")
    peaks.append(peak)
    same = hashlib.sha256(whole.read_bytes()).digest() == hashlib.sha256(resumed.read_bytes()).digest()
    with rasterio.open(resumed) as file:
        layout, overviews = file.tags(ns="IMAGE_STRUCTURE").get("LAYOUT"), file.overviews(1)
    print(f"killed and again: {seconds:.0f} s more, {peak:.2f} GiB, {'the same' if same else 'OTHER'} bytes")
    print(f"layout {layout}, overviews {overviews}, {whole.stat().st_size / 2**20:.0f} MiB")
    ratio = max(peaks[1:]) / peaks[0]
    print(f"peak memory {ratio:.2f} times that of {low} rows (at most {MOST_RATIO}); at most {MOST_GIB} GiB")
    return {"memory by height": ratio, "peak GiB": max(peaks), "the same bytes": same, "COG": layout == "COG"}


def predict(folder: Path, height: int, output: str, kill_at: tuple[Path, int] | None = None) -> tuple[float, float]:
    """As :func:`run`, of an image."""
    given = ["--ckpt_path", "runs/large/version_0", "--data.predict", f"{height}.tif", "--save", "masks"]
    return run(folder, "predict", *given, "--output", output, kill_at=kill_at)


if __name__ == "__main__":
    main()
