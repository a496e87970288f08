"""From the head's logits to confusion counts on a CPU, against Detectron2's own steps: time and peak memory.

Run: python benchmarks/evaluation.py [--pairs 5] [--classes 19 150]. Each side starts from stride-4 logits of one image
and the true labels, and ends with its counts: Detectron2 upsamples, calls ``sem_seg_postprocess`` and
``SemSegEvaluator.process`` without boundary IoU and without its run-length file. Sides alternate; the ratio of times is
the median over pairs. Memory is what the process grows by at its peak (Linux only). Compiling comes before the clock.
"""

import argparse
import ctypes
import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sections.figures import add_output, write_figures
from sections.memory import forget_peak, resident
from torch.nn import functional as F

from lightning_seg.inference.kernel import JustInTime
from lightning_seg.inference.whole import label_maps
from lightning_seg.metrics.error_kinds import count_kinds
from lightning_seg.metrics.functional import confusion_matrix
from lightning_seg.structures import DenseScores

STRIDE, IGNORE = 4, 255
CASES = {
    "original of the input's size": ((1024, 2048), (1024, 2048)),
    "original of twice the input's size": ((512, 1024), (1024, 2048)),
    "original of half the input's size": ((1024, 2048), (512, 1024)),
}


def detectron2_evaluator(truth: np.ndarray, num_classes: int) -> Any:
    from detectron2.data import DatasetCatalog, MetadataCatalog
    from detectron2.evaluation import SemSegEvaluator

    name = f"benchmark_{time.perf_counter_ns()}"
    DatasetCatalog.register(name, lambda: [{"file_name": "image", "sem_seg_file_name": "truth"}])
    MetadataCatalog.get(name).set(stuff_classes=[str(index) for index in range(num_classes)], ignore_label=IGNORE)
    evaluator = SemSegEvaluator(name, distributed=False, sem_seg_loading_fn=lambda _, dtype: truth.astype(dtype))
    evaluator._compute_boundary_iou = False
    evaluator.encode_json_sem_seg = lambda *_: []
    return evaluator


def seconds(side: Callable[[], object]) -> float:
    start = time.perf_counter()
    side()
    return time.perf_counter() - start


def peak_bytes(side: Callable[[], object]) -> int:
    """How far the resident memory of the process rises while ``side`` runs."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before must count again
    forget_peak()
    before = resident()
    side()
    return resident("VmHWM") - before


def compare(name: str, num_classes: int, pairs: int) -> dict[str, float]:
    """Print a line; returns its figures."""
    from detectron2.modeling.postprocessing import sem_seg_postprocess

    input_size, original = CASES[name]
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, num_classes, *(side // STRIDE for side in input_size), generator=generator)
    truth = torch.randint(0, num_classes, original, generator=generator).to(torch.uint8)
    truth[:50] = IGNORE
    evaluator = detectron2_evaluator(truth.numpy(), num_classes)
    kernel = JustInTime(threshold=0)
    counts: list[torch.Tensor] = []

    def theirs() -> None:
        evaluator.reset()
        full = F.interpolate(logits, scale_factor=STRIDE, mode="bilinear", align_corners=False)
        output = {"sem_seg": sem_seg_postprocess(full[0], torch.Size(input_size), *original)}
        evaluator.process([{"file_name": "image"}], [output])

    def ours() -> None:
        prediction = label_maps(DenseScores.of(logits, STRIDE), [input_size], [original], kernel)[0]
        counts[:] = [confusion_matrix(prediction, truth, num_classes, IGNORE)]

    ours()
    theirs()
    differing = int(np.abs(counts[0].numpy() - evaluator._conf_matrix.T[:-1, :-1]).sum()) // 2
    form = "plain PyTorch, no compiler works" if kernel.failed else "compiled"
    times = [(seconds(ours), seconds(theirs)) for _ in range(pairs)]
    our_peak = statistics.median(peak_bytes(ours) for _ in range(3))
    their_peak = statistics.median(peak_bytes(theirs) for _ in range(3))
    ratios = [other / own for own, other in times]
    own, other = (1000 * statistics.median(side) for side in zip(*times, strict=True))
    print(
        f"{num_classes:4d} classes, {name}: {statistics.median(ratios):.1f} times faster ({min(ratios):.1f} to "
        f"{max(ratios):.1f}; {own:.0f} against {other:.0f} ms, {form}); peak memory 1/{their_peak / our_peak:.1f} "
        f"({our_peak / 2**20:.0f} against {their_peak / 2**20:.0f} MiB); {differing} pixels counted otherwise"
    )
    what = f"{num_classes} classes, {name}"
    return {what: statistics.median(ratios), f"{what}: memory": their_peak / our_peak}


def errors(pairs: int) -> dict[str, float]:
    """Milliseconds of CPU to tell the kinds of errors apart, of a truth of 400 rectangles and a shifted prediction."""
    figures = {}
    for height, width in ((360, 480), (1024, 2048), (3000, 4000)):
        generator = np.random.default_rng(0)
        truth = np.zeros((height, width), np.uint8)
        for index in range(400):
            top, left = generator.integers(0, (height, width))
            truth[top : top + height // 6, left : left + width // 12] = index % 19
        prediction = np.roll(truth, 3, axis=1)
        prediction[::37, ::41] = 18
        maps = [torch.from_numpy(labels) for labels in (prediction, truth)]
        times = []
        for _ in range(pairs):
            start = time.process_time()
            count_kinds(*maps, 19, IGNORE)
            times.append(time.process_time() - start)
        wrong = (prediction != truth).mean()
        figures[f"{height} x {width}"] = 1000 * statistics.median(times)
        print(f"{height} x {width}, {wrong:.0%} wrong: {figures[f'{height} x {width}']:.1f} ms of CPU time")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--classes", type=int, nargs="+", default=[19, 150])
    parser.add_argument("--errors", action="store_true", help="only the kinds of errors, without Detectron2")
    add_output(parser)
    arguments = parser.parse_args()
    if arguments.errors:
        write_figures(arguments.output, errors(arguments.pairs))
        return
    print(f"{torch.get_num_threads()} threads")
    figures: dict[str, float] = {}
    with torch.no_grad():
        for num_classes in arguments.classes:
            for name in CASES:
                figures |= compare(name, num_classes, arguments.pairs)
    write_figures(arguments.output, figures)


if __name__ == "__main__":
    main()
