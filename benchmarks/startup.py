"""How long ``train.py --help`` and a configuration error take, against importing torch and Lightning alone.

Run: python benchmarks/startup.py [--pairs 7]. Sides alternate; the median of the ratios of neighbours is what counts.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
BASE = [sys.executable, "-c", "import torch, pytorch_lightning"]
COMMANDS = {
    "--help": ["--help"],
    "fit --help": ["fit", "--help"],
    "unknown flag": ["fit", "--config", "configs/quickstart.yaml", "--trainer.max_epoch", "3"],
    "unknown Detectron2 key": [
        "fit",
        "--config",
        "configs/quickstart.yaml",
        "--model.overrides.MODEL.RESNET.DEPTH",
        "3",
    ],
}


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=False)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7)
    pairs = parser.parse_args().pairs
    seconds(BASE)  # fills the file cache
    for name, arguments in COMMANDS.items():
        command = [sys.executable, "train.py", *arguments]
        seconds(command)
        ratios = [seconds(command) / seconds(BASE) for _ in range(pairs)]
        print(
            f"{name:24s} {statistics.median(ratios):.2f} times the bare import ({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
