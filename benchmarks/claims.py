"""Measures what README.md and benchmarks/README.md claim, and fails if a claim does not hold: ``make bench``.

Run: python benchmarks/claims.py [--only data.py loss.py] [--minutes 30] [--output runs/claims.json]
On two CPU cores with nothing else to do. Each line of ``MEASUREMENTS`` is a command of this folder and the claims that
its figures must bear out, by a bound that follows from the claimed figure alone: a speed may be a fifth worse, since
machines and neighbours differ, all else a tenth, and what must be exact not at all. Absolute times are no claims: they
are a machine's. A command that fails, or for which no time is left, bears nothing out; one that cannot run here is
skipped, with the reason. Exit status 1 where a claim does not hold.

What a GPU reaches is measured by benchmarks/gpu.py; that integers and weights are equal is shown by the tests.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LEEWAY = {"speed": 0.2, "size": 0.1, "exact": 0.0}
"""By how much of it a figure may be worse than what is claimed."""


@dataclass(frozen=True)
class Claim:
    """A figure that a document says.

    Attributes:
        words: what is claimed.
        figure: its name in what the command writes by ``--output``.
        said: the figure, as the document writes it.
        kind: of ``LEEWAY``.
        at_most: whether less is better.
        unless: says why this machine cannot bear it out, or nothing.
    """

    words: str
    figure: str
    said: str
    kind: str = "speed"
    at_most: bool = False
    unless: Callable[[], str] = lambda: ""

    @property
    def bound(self) -> float:
        """What the figure must reach, or must not exceed."""
        leeway = LEEWAY[self.kind]
        return float(self.said) * (1 + leeway if self.at_most else 1 - leeway)

    def holds(self, found: float) -> bool:
        return found <= self.bound if self.at_most else found >= self.bound


@dataclass(frozen=True)
class Measurement:
    """A command of this folder, and what its figures bear out.

    Attributes:
        command: file and arguments.
        claims: about its figures.
        unless: says why it cannot run here, or nothing.
    """

    command: tuple[str, ...]
    claims: tuple[Claim, ...]
    unless: Callable[[], str] = lambda: ""


@dataclass(frozen=True)
class Result:
    """What became of a claim: ``verdict`` is ``holds``, ``FAILS`` or ``skipped``; ``why`` says more than the figure."""

    claim: str
    said: str
    bound: str
    found: float | None
    verdict: str
    why: str
    command: str


def lacks(extra: str, *modules: str) -> Callable[[], str]:
    """The reason where a module is not installed."""

    def reason() -> str:
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        return f"{missing[0]} is missing: pip install 'lightning_seg[{extra}]'" if missing else ""

    return reason


def fewer_cpus() -> str:
    """The reason where two processes share one CPU."""
    count = len(os.sched_getaffinity(0))
    return "" if count > 1 else "this machine has one CPU"


def no_bf16() -> str:
    """The reason where a CPU computes bfloat16 by way of float32."""
    return "" if "avx512_bf16" in Path("/proc/cpuinfo").read_text() else "this CPU has no avx512_bf16"


LARGE, SMALL = "1024x2048", "360x480"
EQUAL = "19 classes, original of the input's size"
MEASUREMENTS = [
    Measurement(("data.py",), (
        Claim("a training sample, times as fast as Detectron2's DatasetMapper", "Detectron2's DatasetMapper", "3.75"),
        Claim("a training sample, against decoding its files alone", "decoding alone", "0.93"),
    )),
    Measurement(("evaluation.py", "--classes", "19"), (
        Claim("from logits to counts, times as fast as Detectron2's evaluator", EQUAL, "10.2"),
        Claim("from logits to counts, how many times less memory", f"{EQUAL}: memory", "8.9", "size"),
    )),
    Measurement(("inference.py", "--images", "2", "--rounds", "5"), (
        Claim(f"file to label map, .onnx, {SMALL}, against DefaultPredictor", f"{SMALL} ONNX Runtime", "1.42"),
        Claim(f"file to label map, .onnx, {LARGE}, against DefaultPredictor", f"{LARGE} ONNX Runtime", "2.00"),
        Claim(f"file to label map, its checkpoint, {SMALL}, against the same", f"{SMALL} checkpoint", "1.27"),
        Claim(f"file to label map, its checkpoint, {LARGE}, against the same", f"{LARGE} checkpoint", "1.39"),
    ), lacks("export", "onnx", "onnxscript", "onnxruntime")),
    Measurement(("train_step.py", "--pairs", "3"), (
        Claim("a training step, times as fast as SimpleTrainer", "fp32", "1.02"),
        Claim("the step in bf16 with channels_last", "bf16-mixed, channels_last", "2.48", unless=no_bf16),
    )),
    Measurement(("large.py",), (
        Claim("memory of predicting 20 000 rows by windows, against 4 000", "memory by height", "1.00", "size", True),
        Claim("peak memory of predicting 20 000 rows by windows, GiB", "peak GiB", "1.32", "size", True),
        Claim("the same bytes after predicting was killed (1: yes)", "the same bytes", "1", "exact"),
    ), lacks("geo", "rasterio")),
    Measurement(("mask_scores.py",), (
        Claim("label maps of masks by bands, times as fast as all at once", "bands, compiled", "3.42"),
        Claim("label maps of masks by bands, how many times less memory", "memory", "41", "size"),
    )),
    Measurement(("loss.py", "--rounds", "3"), (
        Claim("time of low-memory cross-entropy, against the plain", "cross-entropy 2×512×1024", "0.31", at_most=True),
        Claim("memory of low-memory cross-entropy", "cross-entropy 2×512×1024: memory", "0.11", "size", True),
        Claim("memory of low-memory OHEM", "OHEM 2×512×1024: memory", "0.12", "size", True),
        Claim("memory of low-memory hard pixel mining", "hard pixel mining 2×512×1024: memory", "0.12", "size", True),
    )),
    Measurement(("bands.py",), (
        Claim("a crop of a large GeoTIFF, against decoding it whole", "the whole files", "21"),
        Claim("a crop of a GeoTIFF, against rasterio's window", "the window of image and mask by rasterio", "0.80"),
    ), lacks("geo", "rasterio")),
    Measurement(("random_scale_crop.py", "--draws", "100"), (
        Claim("RandomScaleCrop, times as fast as albumentations' three", "RandomScaleCrop", "4.3"),
        Claim("RandomScaleCrop with max_fraction, against the same", "with max_fraction 0.75", "2.6"),
    )),
    Measurement(("archives.py",), (
        Claim("members of a ZIP, times the speed of loose files", "ZIP", "1.24"),
        Claim("members of a TAR, times the speed of loose files", "TAR", "1.28"),
        Claim("memory with 4 workers against one, ZIP", "set.zip: memory", "1.05", "size", True),
        Claim("memory with 4 workers against one, TAR", "set.tar: memory", "1.05", "size", True),
    )),
    Measurement(("records.py",), (
        Claim("memory of a loader over 100 000 samples, 4 workers against one", "Records", "1.08", "size", True),
    )),
    Measurement(("fuzz_reading.py", "--files", "10000", "--seed", "1"), (
        Claim("damaged files that end the process", "ended the process", "0", "exact", True),
        Claim("damaged files whose error does not name them", "other errors", "0", "exact", True),
    )),
    Measurement(("logging_overhead.py", "--pairs", "1"), (
        Claim("val mIoU of the quickstart", "val mIoU", "0.857", "size"),
        Claim("time of the quickstart's fit with W&B, against none", "with W&B", "1.01", at_most=True),
    )),
    Measurement(("scaling.py", "--rounds", "1"), (
        Claim("images/s of two processes against one", "together / one", "1.87"),
    ), fewer_cpus),
]  # fmt: skip
"""In order of value: what comes last is left without time first."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    files = [measurement.command[0] for measurement in MEASUREMENTS]
    parser.add_argument("--only", nargs="+", choices=files, default=files, metavar="FILE.py")
    parser.add_argument("--minutes", type=float, default=30.0, help="for all")
    parser.add_argument("--output", type=Path, default=HERE.parent / "runs/claims.json", metavar="FILE.json")
    given = parser.parse_args()
    chosen = [measurement for measurement in MEASUREMENTS if measurement.command[0] in given.only]
    return bear_out(chosen, 60 * given.minutes, given.output)


def bear_out(measurements: list[Measurement], seconds: float, output: Path) -> int:
    """Measure, print a table, write it; returns 1 where a claim does not hold."""
    end = time.monotonic() + seconds
    results: list[Result] = []
    output.parent.mkdir(parents=True, exist_ok=True)
    for measurement in measurements:
        print(f"python benchmarks/{' '.join(measurement.command)}", flush=True)
        began = time.monotonic()
        results += judge(measurement, end - began)
        print(f"    {time.monotonic() - began:.0f} s", flush=True)
        written = {"date": time.strftime("%Y-%m-%d"), "claims": [asdict(result) for result in results]}
        output.write_text(json.dumps(written, indent=1) + "\n")  # what is found stays, whatever comes
    print(f"\n{'claim':68s} {'said':>6s} {'bound':>8s} {'found':>8s}")
    for result in results:
        found = "" if result.found is None else f"{result.found:.4g}"
        print(f"{result.claim[:68]:68s} {result.said:>6s} {result.bound:>8s} {found:>8s} {result.verdict}")
        if result.why:
            print(f"    {result.why}")
    failed = [result for result in results if result.verdict == "FAILS"]
    for result in failed:
        print(f"{'Not shown' if result.why else 'Does not hold'}: {result.claim} (python benchmarks/{result.command})")
    held = sum(result.verdict == "holds" for result in results)
    print(f"{held} of {len(results)} claims hold, {len(results) - held - len(failed)} are skipped; {output}")
    return bool(failed)


def judge(measurement: Measurement, seconds: float) -> list[Result]:
    """Run a command, and compare its figures with what is claimed of them."""
    skipped = measurement.unless()
    figures, wrong = ({}, "") if skipped else measure(measurement.command, seconds)
    results = []
    for claim in measurement.claims:
        found = figures.get(claim.figure)
        if why := skipped or claim.unless():
            verdict = "skipped"
        elif why := wrong or ("" if found is not None else f"there is no figure {claim.figure!r} in what it wrote"):
            verdict = "FAILS"
        else:
            assert found is not None
            verdict = "holds" if claim.holds(found) else "FAILS"
        bound = f"{'≤' if claim.at_most else '≥'} {claim.bound:.3g}"
        results.append(Result(claim.words, claim.said, bound, found, verdict, why, " ".join(measurement.command)))
    return results


def measure(command: tuple[str, ...], seconds: float) -> tuple[dict[str, float], str]:
    """The figures of a command that may take some seconds, and what went wrong, if anything did."""
    if seconds <= 0:
        return {}, "no time was left for it: give more --minutes"
    path = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    with tempfile.TemporaryDirectory() as folder:
        output, log = Path(folder, "figures.json"), Path(folder, "log.txt")
        arguments = [sys.executable, str(HERE / command[0]), *command[1:], "--output", str(output)]
        with log.open("wb") as stream:
            process = subprocess.Popen(
                arguments, cwd=HERE.parent, env={**os.environ, "PYTHONPATH": path}, stdout=stream, stderr=stream,
                start_new_session=True,
            )  # fmt: skip
            try:
                status = process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                return {}, f"it was stopped after {seconds:.0f} s, when all time was over"
            finally:
                with contextlib.suppress(ProcessLookupError):  # it leaves nobody behind
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        figures: dict[str, Any] = json.loads(output.read_text()) if output.is_file() else {}
        if status != 0:
            lines = log.read_text(errors="replace").strip().splitlines()
            return figures, f"it ended with status {status}: {' | '.join(lines[-3:])[-400:]}"
        return figures, ""


if __name__ == "__main__":
    sys.exit(main())
