"""From an image file to its label map, against Detectron2's ``DefaultPredictor`` with the same weights.

Run: python benchmarks/inference.py [--sizes 360x480 1024x2048] [--images 6] [--rounds 7] [--threads 2]
``lightning_seg.load`` takes the checkpoint or an ``.onnx`` file, ``DefaultPredictor`` a ``.pth`` file. All three come
from one run: the quickstart's, ended after one step, with Detectron2's own width of pyramid and head. Sides take turns,
round by round; the ratio of times is the median over rounds. Latency is that of one image. Memory is what a process
that has one side alone grows by, from its first image to its peak (Linux only).
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sections.figures import add_output, write_figures
from sections.images import write_scenes
from sections.memory import resident

import lightning_seg
from lightning_seg import export

Labels = NDArray[np.integer]
Side = Callable[[Path], Labels]

PEER = "DefaultPredictor"
SIDES = {
    "checkpoint": "model.ckpt",
    "the same, channels_last": "channels_last.ckpt",
    "ONNX Runtime": "model.onnx",
    PEER: "model.yaml",
}

RUN = {
    "model.overrides.MODEL.FPN.OUT_CHANNELS": 256,
    "model.overrides.MODEL.SEM_SEG_HEAD.CONVS_DIM": 128,
    "trainer.max_steps": 1,
    "trainer.limit_val_batches": 1,
    "trainer.logger": False,
    "trainer.enable_progress_bar": False,
    "data.num_workers": 0,
}


def write_models(folder: Path, suffixes: tuple[str, ...] = ("onnx", "pth")) -> None:
    """The same weights for all sides."""
    run = lightning_seg.fit("configs/quickstart.yaml", {**RUN, "trainer.default_root_dir": str(folder)})
    assert run.checkpoint is not None
    checkpoint = torch.load(run.checkpoint, weights_only=True)
    for name in ("checkpoint", "the same, channels_last"):
        checkpoint["hyper_parameters"]["channels_last"] = name != "checkpoint"
        torch.save(checkpoint, folder / SIDES[name])
    for suffix in suffixes:
        output = str(folder / f"model.{suffix}")
        if export.main(["--ckpt_path", str(run.checkpoint), "--output", output, "--num_images", "2"]) != 0:
            sys.exit(f"{output} could not be written")


def load_side(name: str, folder: Path, device: str = "cpu") -> Side:
    """What turns the path of an image into its label map."""
    if name == PEER:
        from detectron2.config import get_cfg
        from detectron2.engine import DefaultPredictor

        cfg = get_cfg()
        cfg.merge_from_file(str(folder / SIDES[PEER]))
        cfg.MODEL.DEVICE = device
        peer = DefaultPredictor(cfg)
        return lambda path: np.asarray(peer(cv2.imread(str(path)))["sem_seg"].argmax(0).cpu().numpy())
    predictor = lightning_seg.load(folder / SIDES.get(name, name), device=device)
    return lambda path: predictor(path).mask


def grown_by(side: Side, images: list[Path]) -> int:
    """Bytes that this process holds at its peak beyond what it holds now."""
    before = resident()
    for path in images:
        side(path)
    return resident("VmHWM") - before


def memory_of(name: str, folder: Path, size: str, threads: int) -> int:
    """The same of a process of its own."""
    command = [sys.executable, __file__, "--memory_of", name, str(folder), "--sizes", size, "--threads", str(threads)]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(found.stdout.split()[-1])


def compare(folder: Path, size: str, rounds: int, threads: int) -> dict[str, float]:
    """Print a line for each side; returns how many times as fast as the peer each is."""
    images = images_of(folder, size)
    sides = {name: load_side(name, folder) for name in SIDES}
    found = {name: [side(path) for path in images] for name, side in sides.items()}  # warm, and looked at
    times: dict[str, list[float]] = {name: [] for name in SIDES}
    for number in range(rounds):
        for name in list(SIDES)[:: 1 if number % 2 == 0 else -1]:
            start = time.perf_counter()
            for path in images:
                sides[name](path)
            times[name].append((time.perf_counter() - start) / len(images))
    figures = {}
    for name in SIDES:
        ratios = [theirs / own for own, theirs in zip(times[name], times[PEER], strict=True)]
        figures[f"{size} {name}"] = statistics.median(ratios)
        differing = max(float(np.mean(a != b)) for a, b in zip(found[name], found[PEER], strict=True))
        latency = statistics.median(times[name])
        print(
            f"{size:10s} {name:23s} {1 / latency:6.2f} images/s, {1000 * latency:6.0f} ms; "
            f"{figures[f'{size} {name}']:.2f} times {PEER} ({min(ratios):.2f} to {max(ratios):.2f}); memory "
            f"{memory_of(name, folder, size, threads) / 2**20:.0f} MiB; {differing:.1e} of the pixels differ",
            flush=True,
        )
    return figures


def images_of(folder: Path, size: str) -> list[Path]:
    return sorted((folder / size / "images").iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["360x480", "1024x2048"], help="heightxwidth")
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory_of", nargs=2, metavar=("SIDE", "FOLDER"), help=argparse.SUPPRESS)
    add_output(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of is not None:
        name, folder = arguments.memory_of[0], Path(arguments.memory_of[1])
        print(grown_by(load_side(name, folder), images_of(folder, arguments.sizes[0])))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_models(folder)
        figures: dict[str, float] = {}
        for size in arguments.sizes:
            height, width = map(int, size.split("x"))
            write_scenes(folder / size, arguments.images, size=(height, width))
            figures |= compare(folder, size, arguments.rounds, arguments.threads)
        write_figures(arguments.output, figures)


if __name__ == "__main__":
    main()
