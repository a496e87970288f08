"""What `model.error_budget` and `model.calibration` cost: CPU time of `validate` with each against neither.

Run: python benchmarks/evaluation_extras.py RUN CAMVID [--rounds 5]. RUN is a trained run of a CamVid recipe, as the
folder that --ckpt_path takes; CAMVID is the data set's folder. Start it where the run's config.yaml finds its files.
Each validation has a process of its own, one thread and no workers, and has validated one batch before. Sides
alternate, and each round begins with another one. What counts is the median over the rounds of a side's user and system
time by that of neither.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
SIDES = {
    "neither": {"error_budget": "false", "calibration": "false"},
    "error_budget": {"error_budget": "true", "calibration": "false"},
    "calibration": {"error_budget": "false", "calibration": "true"},
}


def measure(run: Path, camvid: Path, folder: Path, side: str, batches: int | None) -> float:
    """Seconds of CPU of one validation in this process."""
    import torch

    from lightning_seg.cli import main as command

    torch.set_num_threads(1)
    given = ["validate", "--ckpt_path", str(run), "--data.root", str(camvid), "--data.num_workers", "0"]
    given += ["--trainer.accelerator", "cpu", "--trainer.logger", "false", "--trainer.enable_progress_bar", "false"]
    given += ["--trainer.default_root_dir", str(folder)]
    for name, value in SIDES[side].items():
        given += [f"--model.{name}", value]
    with contextlib.redirect_stdout(sys.stderr):
        command([*given, "--trainer.limit_val_batches", "1"])
        before = time.process_time()
        command(given if batches is None else [*given, "--trainer.limit_val_batches", str(batches)])
        return time.process_time() - before


def measured(options: argparse.Namespace, folder: str, side: str) -> float:
    """:func:`measure` in a process of its own."""
    command = [sys.executable, __file__, str(options.run), str(options.camvid), "--folder", folder, "--measure", side]
    if options.batches is not None:
        command += ["--batches", str(options.batches)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("camvid", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, help="of each validation; default: all")
    parser.add_argument("--measure", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.run, options.camvid = options.run.resolve(), options.camvid.resolve()
    if options.measure:
        print(measure(options.run, options.camvid, options.folder, options.measure, options.batches))
        return
    names = list(SIDES)
    ratios: dict[str, list[float]] = {name: [] for name in names[1:]}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            first = number % len(names)
            took = {side: measured(options, folder, side) for side in names[first:] + names[:first]}
            for side, found in ratios.items():
                found.append(took[side] / took["neither"])
            print(", ".join(f"{side} {took[side]:.1f} s" for side in names), flush=True)
    for side, found in ratios.items():
        print(f"{side}: {statistics.median(found):.3f} times neither ({min(found):.3f} to {max(found):.3f})")


if __name__ == "__main__":
    main()
