"""Ends training runs in every way, goes on with them, and compares them with one that was left alone.

Run: python benchmarks/kill.py [--runs 20] [--ranks 1] [--seed 0] [--kinds epochs steps batches]. A run is ended one to
three times and goes on with another number of loading processes: by SIGKILL at a random moment or while it writes a
checkpoint, by SIGTERM, SIGUSR1 or SIGINT to one or all of its processes, after which its status must be 143, 75 or 130
(unless training has not begun or is over), or by trainer.max_time. Kinds of runs, in turn:

* epochs, steps: a small PointRend on made-up scenes (its points are random numbers of the training step), with
  BatchNorm, validations, accumulated gradients, averaged weights and a checkpoint every other step, as long as
  trainer.max_epochs or trainer.max_steps says;
* batches: a network without BatchNorm or random numbers, also ended by trainer.max_steps. Each part has another
  batch size, accumulation and number of processes (1 and 2), of one global batch. Weights are compared to tolerance.

Each row says whether final weights, optimiser and schedule, the best checkpoint, metrics.csv and the samples of each
step are the same. max_time and max_steps bring a validation of their own: then only the steps of metrics.csv are
compared, and no best checkpoint. Exit status 1 where one is not the same, or where a run hangs. A run that had ended
before anything could interrupt it is compared, and does not count.
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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml

REPOSITORY = Path(__file__).parent.parent
PATIENCE = 180.0
"""Seconds after which a run counts as hung."""

STATUS = {signal.SIGTERM: 143, signal.SIGUSR1: 75, signal.SIGINT: 130}
"""What a run that is told to stop ends with."""

LENGTHS = [{"max_epochs": 3}, {"max_epochs": -1, "max_steps": 12}]
"""The same number of optimiser steps, said to the trainer in two ways."""

KINDS = ["epochs", "steps", "batches"]

LAYOUTS = [(2, 2, 1), (4, 1, 1), (1, 4, 1), (2, 1, 2), (1, 2, 2)]
"""Batch size, accumulation and processes of the same global batch; a run that is left alone has the first."""

TOLERANCE = 1e-9
"""Of the largest value of a tensor, or of 1, after 21 steps of float64 in other batches, whose sums are rounded
otherwise. In float32 a ReLU that opens by rounding changes a gradient, and the weights by 1e-3 in the end."""

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


def write_even_config(folder: Path, data: Path) -> Path:
    """A run of 21 optimiser steps in 3 epochs of 28 samples, whose batches of 1, 2 and 4 give the same gradients.

    In float64, so that rounding opens no ReLU.
    """
    path = write_config(folder, data, {"max_epochs": 3})
    config = yaml.safe_load(path.read_text())
    head = {
        "MODEL.SEM_SEG_HEAD.NAME": "SemSegFPNHead",
        "MODEL.SEM_SEG_HEAD.NORM": "GN",
        "MODEL.RESNETS.NORM": "FrozenBN",
    }
    without = ("MODEL.POINT_HEAD", "SOLVER.")
    kept = {name: value for name, value in OVERRIDES.items() if not name.startswith(without)}
    config["model"] |= {
        "overrides": kept | head | {"MODEL.SEM_SEG_HEAD.CONVS_DIM": 32},  # GN has 32 groups
        "criterion": {"class_path": "lightning_seg.losses.CrossEntropy"},
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.001, "momentum": 0.9}},
        "lr_scheduler": {"class_path": "torch.optim.lr_scheduler.ExponentialLR", "init_args": {"gamma": 0.9}},
    }
    config["trainer"]["precision"] = "64-true"
    names = config["data"]["classes"]
    config["data"]["label_map"] = {
        **dict(enumerate(names)),
        255: names[0],
    }  # so that a mean over pixels is one of images
    config["data"]["train"]["init_args"] |= {"root": "even", "count": 28}
    del config["trainer"]["limit_train_batches"], config["trainer"]["val_check_interval"]
    path.write_text(yaml.safe_dump(config))
    return path


class Seen(pl.Callback):
    """Writes the names of each batch and the step that it belongs to into ``seen.txt`` of the working directory."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        with Path("seen.txt").open("a") as file:
            for sample in batch:
                file.write(f"{self.started} {trainer.global_step} {trainer.current_epoch} {sample['name']}\n")

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.started = int(trainer.strategy.broadcast(time.monotonic_ns()))


def seen(folder: Path) -> dict[int, list[str]]:
    """Epoch and name of the samples of each step, of those that count: of the last process that made the step."""
    steps: dict[int, dict[int, list[str]]] = {}
    for line in (folder / "seen.txt").read_text().splitlines():
        started, step, epoch, name = line.split()
        steps.setdefault(int(step), {}).setdefault(int(started), []).append(f"{epoch} {name}")
    return {step: sorted(starts[max(starts)]) for step, starts in sorted(steps.items())}


class Process:
    """One attempt at a run, in a process group of its own, so that a kill leaves nothing behind."""

    def __init__(self, config: Path, workers: int, layout: Sequence[str], ranks: int, *more: str) -> None:
        self.folder, self.ranks = config.parent, ranks
        devices = ["--trainer.devices", str(ranks), "--trainer.strategy", "auto" if ranks == 1 else "ddp"]
        arguments = ["fit", "--config", str(config), "--ckpt_path", "last", "--data.num_workers", str(workers)]
        arguments += [*devices, *layout, "--trainer.callbacks+=kill.Seen", *more]
        log = (self.folder / "log.txt").open("a")
        self.pid = _fork(arguments, self.folder, log) if ranks == 1 else 0
        if not self.pid:
            command = [sys.executable, str(REPOSITORY / "train.py"), *arguments]
            paths = os.pathsep.join([str(Path(__file__).parent), str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
            self.pid = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "PYTHONPATH": paths},
            ).pid  # fmt: skip
        self.started = time.monotonic()
        self.status: int | None = None

    def wait(self, until: Callable[[], bool] = lambda: False) -> bool:
        """Wait for the end, or for ``until``; says whether the process has ended."""
        while self.status is None and not until():
            if time.monotonic() - self.started > PATIENCE:
                os.killpg(self.pid, signal.SIGKILL)
                raise SystemExit(f"a run hangs:\n{self.log()}")
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

    def log(self) -> str:
        """The end of what the run's processes have said."""
        return (self.folder / "log.txt").read_text()[-6000:]

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


def same(one: Any, other: Any, tolerance: float = 0.0) -> bool:
    """Equality of nested tensors and values, of tensors to a tolerance, by default to the bit."""
    if isinstance(one, torch.Tensor):
        if tolerance and isinstance(other, torch.Tensor) and one.is_floating_point():
            return bool((one - other).abs().max() <= tolerance * max(1.0, float(one.abs().max())))
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key], tolerance) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(part, its, tolerance) for part, its in zip(one, other, strict=True))
    return bool(one == other)


def training_steps(rows: Sequence[dict[str, str]]) -> list[str]:
    """Steps of the rows that training logs."""
    return [row["step"] for row in rows if "train/loss" in row]


def compare(
    expected: dict[str, Any], found: dict[str, Any], done: Sequence[str], *, tolerance: float
) -> dict[str, str]:
    """Whether each part of a result is the same; a dash where the way that a run was ended changes it."""
    validated_more = any("max_" in what for what in done)
    words: dict[str, str] = {}
    for part, (value, its) in {part: (expected[part], found[part]) for part in found}.items():
        left_out = part == "best" and (validated_more or tolerance > 0)
        if part == "metrics" and (validated_more or tolerance):
            equal = training_steps(value) == training_steps(its)
        else:
            equal = same(value, its, tolerance)
        words[part] = "-" if left_out else "same" if equal else "OTHER"
    return words


def say_rows(expected: Sequence[dict[str, str]], found: Sequence[dict[str, str]]) -> None:
    """Print the first row of metrics.csv that differs, and how many rows there are."""
    pairs = enumerate(zip(expected, found, strict=False))
    at, (one, other) = next((pair for pair in pairs if pair[1][0] != pair[1][1]), (-1, ({}, {})))
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    differing = {name: (one.get(name), other.get(name)) for name in names}
    print(f"     {len(expected)} rows and {len(found)}; row {at}, step {one.get('step')}: {differing}")


def interrupt(process: Process, seconds: float, chance: random.Random, way: str) -> str:
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
    ended = process.wait((lambda: time.monotonic() > moment) if way == "moment" else writing)
    if way == "signal" and not ended:
        time.sleep(chance.uniform(0, 0.3))
        number = chance.choice(list(STATUS))
        process.send(number, chance)
        process.wait()
        if process.status not in (0, STATUS[number], -number):  # the last: before or after training
            raise SystemExit(f"status {process.status} after {number.name}:\n{process.log()}")
        return f"{number.name} {process.status}"
    if ended:
        if process.status:
            raise SystemExit(f"a run failed with status {process.status}:\n{process.log()}")
        return "ended"
    process.kill()
    torn = any(runs.glob("*/checkpoints/*.part"))
    return f"killed at {time.monotonic() - process.started:.1f} s{' in a write' if torn else ''}"


def start(config: Path, kind: str, ranks: int, chance: random.Random, *more: str) -> tuple[Process, str]:
    """Go on with a run in another way; returns in which."""
    workers = chance.choice([0, 1, 2])
    if kind != "batches":
        return Process(config, workers, [], ranks, *more), str(workers)
    batch, accumulate, processes = chance.choice(LAYOUTS)
    layout = [f"--data.batch_size={batch}", f"--trainer.accumulate_grad_batches={accumulate}"]
    process = Process(config, workers, layout, processes, *more)
    return process, f"{workers} {batch}×{accumulate}×{processes}"


def kill_and_resume(config: Path, kind: str, seconds: float, ranks: int, chance: random.Random) -> list[str]:
    """Run ``config`` to its end through up to three interruptions; returns what became of each process."""
    history: list[str] = []
    ways = [
        "moment",
        "write",
        "write",
        "signal",
        "signal",
        "max_time",
        *(["max_steps"] * 2 if kind == "batches" else []),
    ]
    steps = 0
    for _ in range(chance.randint(1, 3)):
        way = chance.choice(ways)
        if way == "max_time":
            limit = round(1000 * chance.uniform(0.05, 0.5) * seconds)
            more = ["--trainer.max_time", f'{{"milliseconds": {limit}}}']
        elif way == "max_steps":
            steps = min(steps + chance.randint(1, 8), 20)
            more = [f"--trainer.max_steps={max(steps, reached(config.parent))}"]
        process, how = start(config, kind, ranks, chance, *(more if way.startswith("max_") else []))
        if not way.startswith("max_"):
            history.append(f"{how} {interrupt(process, seconds, chance, way)}")
            continue
        process.wait()
        if process.status:
            raise SystemExit(f"status {process.status} after {way}:\n{process.log()}")
        history.append(f"{how} {way} at {reached(config.parent)}")
    process, how = start(config, kind, ranks, chance)
    process.wait()
    if process.status:
        raise SystemExit(f"a resumed run failed with status {process.status}, {history}:\n{process.log()}")
    return [*history, f"{how} ended"]


def reached(folder: Path) -> int:
    """The step of the newest checkpoint, 0 without one."""
    steps = [int(torch.load(path, weights_only=True)["global_step"]) for path in folder.rglob("last.ckpt")]
    return max(steps, default=0)


def run_alone(config: Path, ranks: int) -> tuple[dict[str, Any], float]:
    """The result of a run that nothing interrupts, and the seconds that it takes."""
    process = Process(config, 0, [], ranks)
    process.wait()
    seconds = time.monotonic() - process.started
    if process.status:
        sys.exit((config.parent / "log.txt").read_text())
    expected = result(config.parent) | {"samples": seen(config.parent)}
    print(f"uninterrupted: {expected['optimiser'][2]} steps, {len(expected['metrics'])} rows, {seconds:.1f} s")
    return expected, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
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

        def write(folder: str, kind: str) -> Path:
            if kind == "batches":
                return write_even_config(root / folder, root)
            return write_config(root / folder, root, LENGTHS[KINDS.index(kind)])

        ranks = {kind: 1 if kind == "batches" else settings.ranks for kind in KINDS}
        alone = {kind: run_alone(write(f"alone_{kind}", kind), ranks[kind]) for kind in settings.kinds}
        print(
            f"{'run':>4} {'weights':>8} {'optimiser':>10} {'best':>6} {'metrics':>8} {'samples':>8}  loading "
            "processes, batch × accumulation × processes, and how each part ended"
        )
        number = interrupted = different = 0
        while interrupted < settings.runs:
            kind = settings.kinds[number % len(settings.kinds)]
            config = write(f"killed_{number}", kind)
            expected, seconds = alone[kind]
            done = kill_and_resume(config, kind, seconds, settings.ranks, chance)
            tolerance = TOLERANCE if kind == "batches" else 0.0
            found = result(config.parent) | {"samples": seen(config.parent)}
            equal = compare(expected, found, done, tolerance=tolerance)
            if equal["metrics"] == "OTHER":
                say_rows(expected["metrics"], found["metrics"])
            different += "OTHER" in equal.values()
            interrupted += not all(what.endswith("ended") for what in done)
            print(
                f"{number:4d} {equal['weights']:>8} {equal['optimiser']:>10} {equal['best']:>6} "
                f"{equal['metrics']:>8} {equal['samples']:>8}  {', '.join(done)}",
                flush=True,
            )
            number += 1
        print(f"{number} runs, of which {interrupted} were interrupted: {different} differ in a bit")
    sys.exit(different > 0)


if __name__ == "__main__":
    main()
