"""What logging costs: `fit` of the quickstart with its W&B logger (offline) against `--trainer.logger false`.

Run: python benchmarks/logging_overhead.py [--pairs 5] [--epochs 8]. Sides alternate; the median of the ratios of
neighbours is what counts. Wall time of the whole command, starting and ending included.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sections.figures import add_output, write_figures

REPOSITORY = Path(__file__).parent.parent
SIDES = {"W&B": [], "none": ["--trainer.logger", "false"]}


def seconds(folder: Path, side: str, epochs: int) -> float:
    command = [sys.executable, "train.py", "fit", "--config", "configs/quickstart.yaml"]
    command += ["--data.root", str(folder), "--trainer.default_root_dir", str(folder / "runs")]
    command += ["--trainer.max_epochs", str(epochs), "--trainer.enable_progress_bar", "false", *SIDES[side]]
    start = time.perf_counter()
    subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=8)
    add_output(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds(folder, "none", 1)  # paints the scenes, and fills the file cache
        ratios, differences = [], []
        for pair in range(options.pairs):
            order = list(SIDES) if pair % 2 else list(SIDES)[::-1]
            took = {side: seconds(folder, side, options.epochs) for side in order}
            ratios.append(took["W&B"] / took["none"])
            differences.append(took["W&B"] - took["none"])
            print(f"W&B {took['W&B']:.1f} s, none {took['none']:.1f} s", flush=True)
        results = max(folder.glob("runs/**/metrics.json"), key=lambda path: path.stat().st_mtime)
        miou = json.loads(results.read_text())["mIoU"]
    figures = {"with W&B": statistics.median(ratios), "val mIoU": miou}
    write_figures(options.output, figures)
    print(
        f"with W&B {figures['with W&B']:.3f} times as long ({min(ratios):.3f} to {max(ratios):.3f}), "
        f"{statistics.median(differences):+.1f} s; val mIoU {miou:.3f}"
    )


if __name__ == "__main__":
    main()
