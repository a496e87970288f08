"""Images per second of two training processes against one, of one thread each and with the same batch per process.

Run: python benchmarks/scaling.py [--rounds 5] [--steps 7] [--size 256 352] [--depth 50]
Whole commands, ``train.py fit`` of a ResNet-FPN on made-up scenes, 8 images a process, take turns; what counts is the
median step's ``perf/images_per_s`` after the first ones, and the median of the ratios within a round. Two processes
that know nothing of each other show what the machine has: its cores may share caches, memory and clock. The machine
must have two CPUs with nothing else to do.
"""

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sections.figures import add_output, write_figures

REPOSITORY = Path(__file__).parent.parent
WARM_UP = 2


def images_per_second(devices: int, steps: int, size: list[int], depth: int, folder: Path, name: str) -> float:
    command = [
        sys.executable, "train.py", "fit", "--config", "configs/quickstart.yaml", "--name", name,
        f"--model.overrides.MODEL.RESNETS.DEPTH={depth}",
        f"--model.overrides.MODEL.RESNETS.RES2_OUT_CHANNELS={64 if depth < 50 else 256}",
        "--data.root", str(folder), "--data.val", "null", "--data.num_workers", "0",
        "--data.train.init_args.root", "train", "--data.train.init_args.size", str(size),
        "--trainer.accelerator", "cpu", "--trainer.devices", str(devices), "--trainer.max_epochs", "-1",
        "--trainer.max_steps", str(steps), "--trainer.log_every_n_steps", "1", "--trainer.logger", "true",
        "--trainer.default_root_dir", str(folder / "runs"), "--trainer.enable_progress_bar", "false",
        "--trainer.enable_checkpointing", "false",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, capture_output=True)
    table = folder / "runs" / name / "version_0" / "metrics.csv"
    with table.open(newline="") as file:
        rates = [float(row["perf/images_per_s"]) for row in csv.DictReader(file) if row.get("perf/images_per_s")]
    return statistics.median(rates[WARM_UP:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--size", type=int, nargs=2, default=[256, 352])
    parser.add_argument("--depth", type=int, default=50)
    add_output(parser)
    arguments = parser.parse_args()
    found: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as temporary:

        def speed(devices: int, name: str) -> float:
            return images_per_second(devices, arguments.steps, arguments.size, arguments.depth, Path(temporary), name)

        def apart(number: int) -> float:
            with ThreadPoolExecutor() as both:
                return sum(both.map(speed, (1, 1), (f"{number}_left", f"{number}_right")))

        for number in range(arguments.rounds):
            sides = {
                "one": lambda number=number: speed(1, f"{number}_one"),
                "together": lambda number=number: speed(2, f"{number}_two"),
                "apart": lambda number=number: apart(number),
            }
            order = list(sides) if number % 2 else list(sides)[::-1]
            found.append({side: sides[side]() for side in order})
            print(", ".join(f"{side} {found[-1][side]:.2f}" for side in sides), "images/s", flush=True)
    figures = {}
    for side, other, goal in (("together", "one", "goal 1.8"), ("apart", "one", ""), ("together", "apart", "")):
        ratios = [speeds[side] / speeds[other] for speeds in found]
        figures[f"{side} / {other}"] = statistics.median(ratios)
        print(f"{side} / {other}: {figures[f'{side} / {other}']:.2f} ({min(ratios):.2f} to {max(ratios):.2f}) {goal}")
    write_figures(arguments.output, figures)


if __name__ == "__main__":
    main()
