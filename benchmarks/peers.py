"""Training steps and inference of one network here and in other libraries: images/s and peak memory. Linux only.

Run: python benchmarks/peers.py [--only unet fpn deeplab segformer] [--rounds 3] [--steps 4] [--size 256] [--batch 4]
[--threads 2] [--output FILE.json]
The other sides are segmentation_models_pytorch's Unet and FPN and torchvision's DeepLabV3, each in a plain Lightning
loop, and transformers' SegFormer with its Trainer. A side that is not installed is named and passed over. Before a
time counts, both sides must compute the same: parameters and FLOPs (torch's counter) equal to 0.1 %, the parts aside
that are said to differ; logits and label maps of one size; a loss that is the mean cross-entropy of those logits.

Weights are random, data lies in memory, and all is float32 on the CPU with the settings that each side has by default;
SGD, batch, size and threads are the same. Each measurement is a process of its own; sides take turns, and the median of
the ratios of neighbours is what counts. Training takes the whole batch; inference takes one image at a time, from
pixels to class ids. Memory is what the process holds at its peak beyond what it held after its imports: the peak of all
of a training, or of inference once it has begun, so that a checkpoint is read by then. Exit status 1 where the sides do
not compute the same.
"""

import argparse
import contextlib
import gc
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sections.figures import add_output, write_figures
from sides.pairs import PAIRS, Pair

REPOSITORY = Path(__file__).parent.parent
SIDES = ("here", "peer")
UNITS = ("images/s", "MiB")
TASKS = {"train": "a training step", "infer": "from pixels to class ids"}
TOLERANCE = {"compared parameters": 1e-3, "compared flops": 1e-3, "loss": 1e-4}
"""Of relative differences: between the sides, and between a side's loss and the cross-entropy of its logits."""
SETTINGS = ("steps", "warm_up", "size", "batch", "threads")
"""Of each process."""
PACKAGES = ("torch", "pytorch-lightning", "segmentation-models-pytorch", "torchvision", "transformers", "timm")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(PAIRS), default=list(PAIRS), metavar="NETWORK")
    for name, value in (("rounds", 3), ("steps", 4), ("warm_up", 2), ("size", 256), ("batch", 4), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=value)
    add_output(parser)
    parser.add_argument("--measure", nargs=3, metavar=("NETWORK", "SIDE", "TASK"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure is not None:
        network, side, task = given.measure
        print(json.dumps(measure(PAIRS[network], side, task, given)))
        return 0
    print(f"batch {given.batch} of {given.size}×{given.size}, {given.threads} threads; {versions()}")
    figures: dict[str, float] = {}
    wrong = []
    for pair in map(PAIRS.__getitem__, given.only):
        print(f"\n{pair.name}, against {pair.peer}")
        if missing := pair.missing():
            print(f"    left out: pip install {' '.join(missing)}")
        elif different := check(pair, given):
            wrong += [f"{pair.name}: {what}" for what in different]
        else:
            figures |= compare(pair, given)
        write_figures(given.output, figures)  # what is found stays, whatever comes
    for what in wrong:
        print(f"Not the same: {what}")
    return bool(wrong)


def check(pair: Pair, given: argparse.Namespace) -> list[str]:
    """Say what both sides compute, and return what keeps them from being compared."""
    here, peer = (child(pair, side, "check", given) for side in SIDES)
    print(
        f"    what differs: {pair.differs}\n"
        f"    {here['parameters'] / 1e6:.2f} and {peer['parameters'] / 1e6:.2f} million parameters; "
        f"{here['flops'] / 1e9:.2f} and {peer['flops'] / 1e9:.2f} GFLOP a batch, "
        f"{here['flops'] / peer['flops']:.2f} times",
        flush=True,
    )  # fmt: skip
    return disagreements(here, peer)


def compare(pair: Pair, given: argparse.Namespace) -> dict[str, float]:
    """Time both sides in turn, and print a line for each task; returns its figures."""
    figures = {}
    for task, what in TASKS.items():
        rounds: list[dict[str, dict[str, float]]] = []
        for number in range(given.rounds):
            order = SIDES if number % 2 == 0 else SIDES[::-1]
            rounds.append({side: child(pair, side, task, given) for side in order})
        ratios = {unit: [one["here"][unit] / one["peer"][unit] for one in rounds] for unit in UNITS}
        speed, memory = (statistics.median(ratios[unit]) for unit in UNITS)
        own, other = ([statistics.median(one[side][unit] for one in rounds) for unit in UNITS] for side in SIDES)
        print(
            f"    {what}: {speed:.2f} times as fast ({min(ratios['images/s']):.2f} to {max(ratios['images/s']):.2f}; "
            f"{own[0]:.2f} and {other[0]:.2f} images/s), {memory:.2f} times the memory ({own[1]:.0f} and "
            f"{other[1]:.0f} MiB)",
            flush=True,
        )  # fmt: skip
        figures |= {f"{pair.key}, {task}": speed, f"{pair.key}, {task}: memory": memory}
    return figures


def disagreements(here: dict[str, Any], peer: dict[str, Any]) -> list[str]:
    """What keeps both sides from being compared, in words."""
    wrong = [
        f"{key} are {here[key]} here and {peer[key]} there"
        for key in ("compared parameters", "compared flops")
        if abs(here[key] / peer[key] - 1) > TOLERANCE[key]
    ]
    wrong += [
        f"{key} are of size {here[key]} here and {peer[key]} there"
        for key in ("logits", "labels")
        if here[key] != peer[key]
    ]
    wrong += [
        f"the loss {where} is {side['loss']:.5f}, but the cross-entropy of its logits {side['cross-entropy']:.5f}"
        for where, side in (("here", here), ("there", peer))
        if abs(side["loss"] / side["cross-entropy"] - 1) > TOLERANCE["loss"]
    ]
    return wrong


def child(pair: Pair, side: str, task: str, given: argparse.Namespace) -> dict[str, Any]:
    """What a process of its own measures."""
    command = [sys.executable, __file__, "--measure", pair.key, side, task]
    for name in SETTINGS:
        command += [f"--{name}", str(vars(given)[name])]
    path = os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(given.threads), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{pair.name}, {side}, {task}: ended with status {done.returncode}\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(pair: Pair, side: str, task: str, given: argparse.Namespace) -> dict[str, Any]:
    """In the child."""
    import torch
    from sections.loop import make_batch
    from sections.memory import forget_peak, resident

    torch.set_num_threads(given.threads)
    batch = make_batch(given.batch, given.size, given.size)
    module = importlib.import_module(f"sides.{side}")
    if task == "check":
        facts: dict[str, Any] = module.check(pair, batch)
        return facts
    module.build(pair)  # imports all that it needs
    gc.collect()
    forget_peak()
    before = resident()
    speed = getattr(module, task)(pair, batch, given.steps, given.warm_up)
    return {"images/s": speed, "MiB": (resident("VmHWM") - before) / 2**20}


def versions() -> str:
    """Of what is measured; with CPUs and date."""
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return f"{', '.join(found)}; {len(os.sched_getaffinity(0))} CPUs; {time.strftime('%Y-%m-%d')}"


if __name__ == "__main__":
    sys.exit(main())
