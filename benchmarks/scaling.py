"""Images per second of two training processes against one, of one thread each and with the same batch per process.

Run: python benchmarks/scaling.py [--pairs 5] [--steps 12] [--size 256 352]
Whole commands, ``train.py fit`` on made-up scenes, take turns; what counts is ``perf/images_per_s`` after the first
steps, and the median of the ratios of neighbours. A machine must have two CPUs with nothing else to do. The processes
exchange 47 MB of gradients a step, however small the images are.
"""

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent


def images_per_second(devices: int, steps: int, size: list[int], folder: Path, name: str) -> float:
    command = [
        sys.executable, "train.py", "fit", "--config", "configs/quickstart.yaml", "--name", name,
        "--data.root", str(folder), "--data.val", "null", "--data.num_workers", "0",
        "--data.train.init_args.root", "train", "--data.train.init_args.size", str(size),
        "--trainer.accelerator", "cpu", "--trainer.devices", str(devices), "--trainer.max_epochs", "-1",
        "--trainer.max_steps", str(steps),
        "--trainer.log_every_n_steps", str(steps // 2), "--trainer.default_root_dir", str(folder / "runs"),
        "--trainer.enable_progress_bar", "false", "--trainer.enable_checkpointing", "false",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, capture_output=True)
    table = folder / "runs" / name / "version_0" / "metrics.csv"
    with table.open(newline="") as file:
        return [float(row["perf/images_per_s"]) for row in csv.DictReader(file) if row.get("perf/images_per_s")][-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--size", type=int, nargs=2, default=[256, 352])
    arguments = parser.parse_args()
    ratios = []
    with tempfile.TemporaryDirectory() as temporary:
        for pair in range(arguments.pairs):
            order = (1, 2) if pair % 2 == 0 else (2, 1)
            speed = {
                devices: images_per_second(
                    devices, arguments.steps, arguments.size, Path(temporary), f"{pair}_{devices}"
                )
                for devices in order
            }
            ratios.append(speed[2] / speed[1])
            print(f"pair {pair}: {speed[1]:.2f} and {speed[2]:.2f} images/s, {ratios[-1]:.2f}", flush=True)
    print(f"2 processes: {statistics.median(ratios):.2f} times 1 ({min(ratios):.2f} to {max(ratios):.2f}; goal 1.8)")


if __name__ == "__main__":
    main()
