"""Label maps of mask classification by bands against all masks at once: time and peak memory.

    python benchmarks/mask_scores.py

100 queries, 150 classes and 1024×2048 pixels on two threads. Both ways take turns; ratios are of their medians. Peak
memory is what a fresh process grows by while it makes one label map.
"""

import argparse
import statistics
import subprocess
import sys
import time

import torch
from sections.figures import add_output, write_figures
from sections.memory import forget_peak, resident
from torch.nn import functional as F

from lightning_seg.inference.kernel import JustInTime
from lightning_seg.inference.whole import label_maps
from lightning_seg.structures import MaskScores

STRIDE = 4


def make(args: argparse.Namespace) -> MaskScores:
    torch.manual_seed(0)
    probabilities = torch.randn(args.queries, args.classes + 1).softmax(-1)[:, :-1].contiguous()
    masks = 4 * torch.randn(args.queries, args.height // STRIDE, args.width // STRIDE)
    return MaskScores(probabilities, masks, STRIDE)


def plain(scores: MaskScores) -> torch.Tensor:
    """As Mask2Former's own project does."""
    full = F.interpolate(scores.masks[None], scale_factor=STRIDE, mode="bilinear", align_corners=False)[0]
    return torch.einsum("qc,qhw->chw", scores.probabilities, full.sigmoid()).argmax(0)


def by_bands(scores: MaskScores, form: JustInTime) -> torch.Tensor:
    (size,) = {tuple(scores.reach)}
    return label_maps([scores], [size], [size], form)[0]


def peak(args: argparse.Namespace) -> None:
    scores = make(args)
    forget_peak()
    before = resident()
    plain(scores) if args.peak == "plain" else by_bands(scores, JustInTime())
    print((resident("VmHWM") - before) // 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("queries", 100), ("classes", 150), ("height", 1024), ("width", 2048), ("rounds", 7)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--peak", choices=("plain", "bands"), help="print the kilobytes of one way alone")
    add_output(parser)
    args = parser.parse_args()
    torch.set_num_threads(2)
    if args.peak:
        peak(args)
        return
    scores, compiled, eager = make(args), JustInTime(threshold=0), JustInTime()
    ways = {
        "plain": lambda: plain(scores),
        "bands": lambda: by_bands(scores, eager),
        "bands, compiled": lambda: by_bands(scores, compiled),
    }
    maps = {name: way().long() for name, way in ways.items()}
    differ = int((maps["plain"] != maps["bands"]).sum())
    print(f"compiled or not: {'equal' if torch.equal(*list(maps.values())[1:]) else 'DIFFER'}; plain: {differ} ties")
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    figures = {name: medians["plain"] / median for name, median in medians.items()}
    for name, median in medians.items():
        print(f"{name:16} {median:6.2f} s, least {min(times[name]):6.2f} s, {figures[name]:5.2f} times as fast")
    command = [sys.executable, __file__, *sys.argv[1:]]
    found = {
        way: int(subprocess.run([*command, "--peak", way], check=True, capture_output=True, text=True).stdout)
        for way in ("plain", "bands")
    }
    print(f"peak memory: plain {found['plain'] / 1024:.0f} MiB, bands {found['bands'] / 1024:.0f} MiB, "
          f"1/{found['plain'] / found['bands']:.1f}")  # fmt: skip
    write_figures(args.output, {**figures, "memory": found["plain"] / found["bands"]})


if __name__ == "__main__":
    main()
