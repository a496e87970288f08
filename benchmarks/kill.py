"""Kills training runs at random moments, resumes them, and compares them with one that was left alone.

Run: python benchmarks/kill.py [--runs 20] [--ranks 1] [--seed 0]. A small PointRend on made-up scenes (its points are
random numbers of the training step), with validations, accumulated gradients, averaged weights and a checkpoint every
other step. A run is interrupted one to three times and goes on with another number of loading processes: by SIGKILL at
a random moment or while it writes a checkpoint, or by SIGTERM, SIGUSR1 or SIGINT to one or all of its processes, after
which its status must be 143, 75 or 130. Every other run is as long as trainer.max_epochs says, the others as
trainer.max_steps. Each row says whether final weights, optimiser and schedule, the best checkpoint and metrics.csv are
the same. Exit status 1 where one is not, or where a run hangs. A run that had ended before anything could interrupt it
is compared, and does not count.
"""

import argparse
import contextlib
import csv
import faulthandler
import importlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

REPOSITORY = Path(__file__).parent.parent
PATIENCE = 180.0
"""Seconds after which a run counts as hung."""

STATUS = {signal.SIGTERM: 143, signal.SIGUSR1: 75, signal.SIGINT: 130}
"""What a run that is told to stop ends with."""

LENGTHS = [{"max_epochs": 3}, {"max_epochs": -1, "max_steps": 12}]
"""The same number of optimiser steps, said to the trainer in two ways."""

OVERRIDES = {
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 16,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 32,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
    "MODEL.RESNETS.NORM": "BN",
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.FPN.OUT_CHANNELS": 16,
    "MODEL.SEM_SEG_HEAD.NAME": "PointRendSemSegHead",
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 16,
    "MODEL.SEM_SEG_HEAD.NORM": "BN",
    "MODEL.POINT_HEAD.COARSE_SEM_SEG_HEAD_NAME": "SemSegFPNHead",
    "MODEL.POINT_HEAD.IN_FEATURES": ["p2"],
    "MODEL.POINT_HEAD.FC_DIM": 16,
    "MODEL.POINT_HEAD.TRAIN_NUM_POINTS": 64,
    "MODEL.POINT_HEAD.SUBDIVISION_STEPS": 2,
    "MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS": 256,
    "SOLVER.BASE_LR": 0.01,
    "SOLVER.MAX_ITER": 12,
    "SOLVER.STEPS": [6, 9],
    "SOLVER.WARMUP_ITERS": 3,
}


def write_config(folder: Path, data: Path, length: dict[str, int]) -> Path:
    """A run of 12 optimiser steps in 3 epochs of 7 batches, validated after batches 4 and, in epoch 3, 7."""
    scenes = "lightning_seg.data.Synthetic"
    config = {
        "seed_everything": 5,
        "model": {"config": "Misc/semantic_R_50_FPN_1x.yaml", "weights": "", "overrides": OVERRIDES},
        "data": {
            "root": str(data),
            "classes": ["sky", "ground", "hill", "house", "tree", "ball"],
            "train": {"class_path": scenes, "init_args": {"root": "train", "count": 31, "seed": 0, "size": [48, 64]}},
            "val": {"class_path": scenes, "init_args": {"root": "val", "count": 3, "seed": 1, "size": [48, 64]}},
            "train_transforms": [
                {"class_path": "albumentations.HorizontalFlip"},
                {"class_path": "albumentations.RandomBrightnessContrast"},
            ],
            "batch_size": 2,
            "num_workers": 0,
        },
        "trainer": {
            "accelerator": "cpu",
            "devices": 1,
            **length,
            "limit_train_batches": 7,
            "val_check_interval": 4,
            "accumulate_grad_batches": 2,
            "log_every_n_steps": 1,
            "num_sanity_val_steps": 0,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": [
                {"class_path": "lightning_seg.callbacks.LastCheckpoint", "init_args": {"every_n_steps": 2}},
                {"class_path": "lightning_seg.callbacks.EMA", "init_args": {"decay": 0.9}},
            ],
        },
    }
    folder.mkdir()
    path = folder / "kill.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


class Process:
    """One attempt at a run, in a process group of its own, so that a kill leaves nothing behind."""

    def __init__(self, config: Path, workers: int, ranks: int) -> None:
        self.folder, self.ranks = config.parent, ranks
        devices = ["--trainer.devices", str(ranks), "--trainer.strategy", "auto" if ranks == 1 else "ddp"]
        arguments = ["fit", "--config", str(config), "--ckpt_path", "last", "--data.num_workers", str(workers)]
        log = (self.folder / "log.txt").open("a")
        self.pid = _fork([*arguments, *devices], self.folder, log) if ranks == 1 else 0
        if not self.pid:
            command = [sys.executable, str(REPOSITORY / "train.py"), *arguments, *devices]
            self.pid = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True).pid
        self.started = time.monotonic()
        self.status: int | None = None

    def wait(self, until: Callable[[], bool] = lambda: False) -> bool:
        """Wait for the end, or for ``until``; says whether the process has ended."""
        while self.status is None and not until():
            if time.monotonic() - self.started > PATIENCE:
                os.killpg(self.pid, signal.SIGKILL)
                raise SystemExit(f"a run hangs:\n{(self.folder / 'log.txt').read_text()[-6000:]}")
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self.status = os.waitstatus_to_exitcode(status)
            time.sleep(0.0005)
        return self.status is not None

    def send(self, number: signal.Signals, chance: random.Random) -> None:
        """Signal the first process, the other one (the first child, where there are several ranks), or the group."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        to = chance.choice(["first", "group", "other"] if self.ranks > 1 else ["first", "group"])
        if to == "group":
            os.killpg(self.pid, number)
        else:
            os.kill(self.pid if to == "first" else int(children[0]), number)

    def kill(self) -> None:
        os.killpg(self.pid, signal.SIGKILL)
        self.wait()


def _fork(arguments: list[str], folder: Path, log: Any) -> int:
    """Run the command in a copy of this process, which has imported everything already."""
    from lightning_seg.cli import main

    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.setsid()
        os.chdir(folder)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        faulthandler.dump_traceback_later(0.9 * PATIENCE)  # says where it hangs
        main(arguments)
        status = 0
    except SystemExit as stop:
        status = int(stop.code or 0)
    finally:
        os._exit(status)


def result(folder: Path) -> dict[str, Any]:
    """What must not depend on interruptions."""
    run = max((folder / "runs/kill").iterdir())  # a run that was killed before its first checkpoint started afresh
    last, best = (torch.load(run / "checkpoints" / name, weights_only=True) for name in ("last.ckpt", "best.ckpt"))
    with (run / "metrics.csv").open(newline="") as file:
        rows = [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]
    for row in rows:
        for name in [name for name in row if name.startswith("perf/")]:  # times differ
            del row[name]
    return {
        "weights": [last["state_dict"], last["current_model_state"]],  # averaged, and as they were trained
        "optimiser": [last["optimizer_states"], last["lr_schedulers"], last["global_step"]],
        "best": best["state_dict"],
        "metrics": rows,
    }


def same(one: Any, other: Any) -> bool:
    """Equality to the bit of nested tensors and values."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def interrupt(process: Process, seconds: float, chance: random.Random) -> str:
    """Kill a run at a random moment or in a random write, or tell it to stop; returns what was done."""
    runs = process.folder / "runs/kill"
    skipped = chance.randrange(6)
    seen: set[int] = set()

    def writing() -> bool:
        for draft in runs.glob("*/checkpoints/*.part"):
            with contextlib.suppress(FileNotFoundError):
                seen.add(draft.stat().st_ino)
        return len(seen) > skipped

    moment = time.monotonic() + chance.uniform(0.2, 1) * seconds
    way = chance.choice(["moment", "write", "write", "signal"])
    ended = process.wait((lambda: time.monotonic() > moment) if way == "moment" else writing)
    if way == "signal" and not ended:
        time.sleep(chance.uniform(0, 0.3))
        number = chance.choice(list(STATUS))
        process.send(number, chance)
        process.wait()
        if process.status not in (0, STATUS[number]):
            raise SystemExit(f"status {process.status} after {number.name}: {process.folder}/log.txt")
        return f"{number.name} {process.status}"
    if ended:
        if process.status:
            raise SystemExit(f"a run failed with status {process.status}: {process.folder}/log.txt")
        return "ended"
    process.kill()
    torn = any(runs.glob("*/checkpoints/*.part"))
    return f"killed at {time.monotonic() - process.started:.1f} s{' in a write' if torn else ''}"


def kill_and_resume(config: Path, seconds: float, ranks: int, chance: random.Random) -> list[str]:
    """Run ``config`` to its end through up to three interruptions; returns what became of each process."""
    history = []
    for _ in range(chance.randint(1, 3)):
        workers = chance.choice([0, 1, 2])
        history.append(f"{workers} {interrupt(Process(config, workers, ranks), seconds, chance)}")
    workers = chance.choice([0, 1, 2])
    process = Process(config, workers, ranks)
    process.wait()
    if process.status:
        raise SystemExit(f"a resumed run failed with status {process.status}: {config.parent}/log.txt")
    return [*history, f"{workers} ended"]


def run_alone(config: Path, ranks: int) -> tuple[dict[str, Any], float]:
    """The result of a run that nothing interrupts, and the seconds that it takes."""
    process = Process(config, 0, ranks)
    process.wait()
    seconds = time.monotonic() - process.started
    if process.status:
        sys.exit((config.parent / "log.txt").read_text())
    expected = result(config.parent)
    print(f"uninterrupted: {expected['optimiser'][2]} steps, {len(expected['metrics'])} rows, {seconds:.1f} s")
    return expected, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # the same number of threads, so the same sums, in every process
    torch.set_num_threads(1)
    sys.path.insert(0, str(REPOSITORY))
    if settings.ranks == 1:  # for the copies of this process
        for module in ("albumentations", "detectron2.projects.point_rend", "matplotlib.backends.backend_agg"):
            importlib.import_module(module)

    chance = random.Random(settings.seed)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        alone = [
            run_alone(write_config(root / f"alone_{kind}", root, length), settings.ranks)
            for kind, length in enumerate(LENGTHS)
        ]
        print(f"{'run':>4} {'weights':>8} {'optimiser':>10} {'best':>6} {'metrics':>8}  loading processes and kills")
        number = interrupted = different = 0
        while interrupted < settings.runs:
            kind = number % len(LENGTHS)
            config = write_config(root / f"killed_{number}", root, LENGTHS[kind])
            expected, seconds = alone[kind]
            done = kill_and_resume(config, seconds, settings.ranks, chance)
            found = result(config.parent)
            equal = {key: "same" if same(expected[key], found[key]) else "OTHER" for key in expected}
            different += "OTHER" in equal.values()
            interrupted += not all(what.endswith("ended") for what in done)
            print(
                f"{number:4d} {equal['weights']:>8} {equal['optimiser']:>10} {equal['best']:>6} "
                f"{equal['metrics']:>8}  {', '.join(done)}",
                flush=True,
            )
            number += 1
        print(f"{number} runs, of which {interrupted} were interrupted: {different} differ in a bit")
    sys.exit(different > 0)


if __name__ == "__main__":
    main()
