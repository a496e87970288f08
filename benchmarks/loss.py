"""What losses with ``low_memory`` cost, against the same losses of all upsampled logits.

Run: python benchmarks/loss.py [--rounds 7] [--threads 2]. Value and gradient of 150 classes from logits at stride 4, a
tenth of the pixels ignored. The peer of cross-entropy is F.interpolate and F.cross_entropy; that of OHEM and of hard
pixel mining is the same criterion without ``low_memory``. Times are medians of the ratios of runs in turn; memory is
the most that all tensors hold at once beyond logits and targets, as torch's profiler counts allocations and releases.
The gradients differ by the given part of the largest element, except around pixels that rounding keeps on one side
only; the logits there are counted.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import accumulate

import torch
import torch.nn.functional as F
from sections.figures import add_output, write_figures
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from lightning_seg.losses import OHEM, Criterion, CrossEntropy, HardPixelMining

Loss = Callable[[Tensor, Tensor], Tensor]

CLASSES, STRIDE, IGNORE = 150, 4, 255
SIZES = [(4, 256, 256), (2, 512, 1024)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    add_output(parser)
    arguments = parser.parse_args()
    figures = {}
    torch.set_num_threads(arguments.threads)
    print(f"{'':36s} time  memory            value     gradient")
    for size in SIZES:
        logits, targets = batch(size)
        for name, (ours, theirs) in pairs().items():
            value, gradient = run(ours, logits, targets)
            expected, slopes = run(theirs, logits, targets)
            apart = (gradient - slopes).abs().amax(1) > 1e-5 * slopes.abs().max()
            difference = ((gradient - slopes) * ~apart.unsqueeze(1)).abs().max() / slopes.abs().max()
            peaks = [peak(loss, logits, targets) for loss in (ours, theirs)]
            ratios = [
                seconds(ours, logits, targets) / seconds(theirs, logits, targets) for _ in range(arguments.rounds)
            ]
            what = f"{name} {'×'.join(map(str, size))}"
            figures[what], figures[f"{what}: memory"] = statistics.median(ratios), peaks[0] / peaks[1]
            print(
                f"{what:35s} {figures[what]:5.2f}  {peaks[0] / peaks[1]:.3f} ({peaks[1] / 1e6:5.0f} MB)  "
                f"{abs(value / expected - 1):.0e}     "
                f"{difference:.0e}, beside {int(apart.sum())} logits of {apart.numel()}",
                flush=True,
            )
    write_figures(arguments.output, figures)


def pairs() -> dict[str, tuple[Loss, Loss]]:
    """Each loss without upsampled logits, and its peer."""
    return {
        "cross-entropy": (of(CrossEntropy(low_memory=True)), plain),
        "OHEM": (of(OHEM(low_memory=True)), of(OHEM())),
        "hard pixel mining": (of(HardPixelMining(low_memory=True)), of(HardPixelMining())),
    }


def plain(logits: Tensor, targets: Tensor) -> Tensor:
    upsampled = F.interpolate(logits, scale_factor=STRIDE, mode="bilinear", align_corners=False)
    return F.cross_entropy(upsampled, targets, ignore_index=IGNORE)


def of(criterion: Criterion) -> Loss:
    return lambda logits, targets: next(iter(criterion(logits, targets, IGNORE).values()))


def batch(size: tuple[int, int, int], classes: int = CLASSES, device: str = "cpu") -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images, height, width = size
    logits = 2 * torch.randn(images, classes, height // STRIDE, width // STRIDE, generator=generator)
    targets = torch.randint(0, classes, size, generator=generator)
    targets[torch.rand(size, generator=generator) < 0.1] = IGNORE
    return logits.to(device).requires_grad_(), targets.to(device)


def run(loss: Loss, logits: Tensor, targets: Tensor) -> tuple[float, Tensor]:
    value = loss(logits, targets)
    return value.item(), torch.autograd.grad(value, logits)[0]


def seconds(loss: Loss, logits: Tensor, targets: Tensor) -> float:
    start = time.perf_counter()
    run(loss, logits, targets)
    return time.perf_counter() - start


def peak(loss: Loss, logits: Tensor, targets: Tensor) -> int:
    """Bytes that all tensors made on the way hold at most at one time, the gradient included."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run(loss, logits, targets)
    results = profiler.profiler.kineto_results
    changes = [event for event in results.events() if event.name() == "[memory]"]
    changes.sort(key=lambda event: event.start_ns())
    return max(accumulate(event.nbytes() for event in changes))


if __name__ == "__main__":
    main()
