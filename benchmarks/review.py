"""Plants wrong labels, and compares how review and cleanlab's segmentation filter find them, on the same probabilities.

``python benchmarks/review.py RUN --split val`` relabels 5 % of the regions of at least ``--least`` pixels, by seed, as
another class of the same image. cleanlab is optional (AGPL, so it is no dependency): install it elsewhere and give
``--cleanlab FOLDER`` (``pip install --target FOLDER cleanlab``); without it, review's figures stand alone.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lightning_seg.reviewing.ranking import rank
from lightning_seg.reviewing.regions import decode, find_regions, opinion_of

IGNORE = 255


def collect(run: str, split: str, folder: Path, data: list[str]) -> tuple[int, int]:
    """Write probabilities and labels of a split, whose images must be of one size; their number and K."""
    import torch

    from lightning_seg.checkpoints.evaluated import checkpoint_in
    from lightning_seg.review import parse, reviewed_data
    from lightning_seg.reviewing.judging import Judge, Processes
    from lightning_seg.reviewing.record import ReviewFolder
    from lightning_seg.trained.module_network import load_checkpoint

    settings = parse(["--ckpt_path", run, "--split", split, *data])
    path = Path(run)
    network = load_checkpoint(checkpoint_in(path) if path.is_dir() else path, torch.device("cpu"))
    listing = reviewed_data(settings.data, split).listings.complete(split)
    dataset = Judge(network, listing, ReviewFolder(folder / "review", {}), Processes()).dataset()
    for position in range(len(dataset)):
        item: Any = dataset[position]
        labels = item.pop("truth").numpy()
        item.pop("sem_seg")
        labels = np.where(labels == network.images.info.ignore_index, IGNORE, labels).astype(np.uint8)
        np.save(folder / f"l{position}.npy", labels)
        np.save(folder / f"p{position}.npy", network.probabilities([item])[0].numpy().astype(np.float32))
    return len(dataset), network.images.info.num_classes


def components(labels: np.ndarray) -> list[np.ndarray]:
    found = []
    for label in np.unique(labels[labels != IGNORE]):
        count, parts = cv2.connectedComponents((labels == label).astype(np.uint8), connectivity=4)
        found += [parts == number for number in range(1, count)]
    return found


def plant(folder: Path, count: int, share: float, least: int, seed: int) -> int:
    """Write wrong labels ``w`` and what was planted ``t``: the number of each planted region."""
    random = np.random.default_rng(seed)
    labels = [np.load(folder / f"l{image}.npy") for image in range(count)]
    regions = [(i, m) for i, one in enumerate(labels) for m in components(one) if np.count_nonzero(m) >= least]
    chosen = random.permutation(len(regions))[: max(1, round(share * len(regions)))]
    wrong, truth = [one.copy() for one in labels], [np.zeros(one.shape, np.int32) for one in labels]
    for number, place in enumerate(chosen, 1):
        image, mask = regions[place]
        here = int(labels[image][mask][0])
        others = [int(one) for one in np.unique(labels[image]) if one not in (here, IGNORE)]
        if others:
            wrong[image][mask], truth[image][mask] = random.choice(others), number
    for image in range(count):
        np.save(folder / f"w{image}.npy", wrong[image])
        np.save(folder / f"t{image}.npy", truth[image])
    return sum(len(np.unique(one)) - 1 for one in truth)


def by_review(folder: Path, count: int) -> list[tuple[int, np.ndarray, float]]:
    judged, sizes = [], {}
    for image in range(count):
        labels = np.load(folder / f"w{image}.npy")
        sizes[str(image)] = labels.shape
        opinion = opinion_of(labels, [(0, np.load(folder / f"p{image}.npy", mmap_mode="r"))], IGNORE)
        judged.append((str(image), [one.as_json() for one in find_regions(labels, opinion, IGNORE)]))
    suspects, _ = rank(lambda: iter(judged), 10**6)
    return [(int(one.image), decode(one.region["counts"], sizes[one.image]), one.score) for one in suspects]


def by_cleanlab(folder: Path, count: int) -> list[tuple[int, np.ndarray, float]]:
    """Connected parts of one label among the pixels that its filter names, by size and by how bad their labels are."""
    from cleanlab.segmentation.filter import find_label_issues
    from cleanlab.segmentation.rank import get_label_quality_scores

    labels = np.stack([np.load(folder / f"w{image}.npy") for image in range(count)]).astype(np.int64)
    first = np.load(folder / "p0.npy", mmap_mode="r")
    probabilities = np.empty((count, *first.shape), np.float32)
    for image in range(count):
        probabilities[image] = np.load(folder / f"p{image}.npy")
    missing = labels == IGNORE
    labels[missing] = probabilities.argmax(1)[missing]  # it knows no ignored pixels: these never dispute
    issues = find_label_issues(labels, probabilities, n_jobs=1, verbose=False, downsample=1)
    _, quality = get_label_quality_scores(labels, probabilities, verbose=False)
    found = []
    for image in range(count):
        parts = components(np.where(issues[image], labels[image], IGNORE))
        large = [mask for mask in parts if np.count_nonzero(mask) >= 16]
        found += [(image, mask, float((1 - quality[image][mask]).sum())) for mask in large]
    return sorted(found, key=lambda one: -one[2])


def judge(folder: Path, found: list[tuple[int, np.ndarray, float]], planted: int) -> dict[str, float]:
    """Precision at the number planted, and average precision; each planted region is found once."""
    hits: list[bool] = []
    seen: set[int] = set()
    for image, mask, _ in found:
        counts = np.bincount(np.load(folder / f"t{image}.npy", mmap_mode="r")[mask])
        best = int(counts.argmax())
        hit = best > 0 and counts[best] > 0.5 * counts.sum()
        if hit and best in seen:
            continue  # another part of one that is found: neither right nor wrong
        seen |= {best} if hit else set()
        hits.append(hit)
    right = np.array(hits, float)
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    at = precision[min(planted, len(right)) - 1] * min(planted, len(right)) / planted if len(right) else 0.0
    return {"precision": float(at), "average_precision": float((precision * right).sum() / planted)}


def measured(way: str, folder: Path, count: int, planted: int, place: str | None, output: Any) -> None:
    """Run one way in a process of its own, whose peak above its start is what it takes."""
    if place is not None:
        sys.path.insert(0, place)
    if way == "cleanlab":
        import cleanlab.segmentation.filter
        import cleanlab.segmentation.rank  # noqa: F401
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far, that of the start included
    before = memory("VmRSS")
    found = (by_review if way == "review" else by_cleanlab)(folder, count)
    peak = memory("VmHWM") - before
    output.put({**judge(folder, found, planted), "peak_MiB": peak / 1024})


def memory(field: str) -> int:
    """Of this process, in KiB, as Linux counts it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="+", help="run folders; with several, each judges its own split (folds)")
    parser.add_argument("--split", default="val")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--least", type=int, default=100)
    parser.add_argument("--cleanlab", default=None, metavar="FOLDER")
    given, data = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as name:
        folder, count = Path(name), 0
        for run in given.run:
            part = folder / "part"
            part.mkdir(exist_ok=True)
            more, _ = collect(run, given.split, part, data)
            for image in range(more):
                for kind in "lp":
                    (part / f"{kind}{image}.npy").rename(folder / f"{kind}{count + image}.npy")
            count += more
        for seed in given.seeds:
            planted = plant(folder, count, given.share, given.least, seed)
            for way in ("review", "cleanlab") if given.cleanlab else ("review",):
                context = multiprocessing.get_context("spawn")
                output = context.Queue()
                process = context.Process(target=measured, args=(way, folder, count, planted, given.cleanlab, output))
                process.start()
                result = output.get(timeout=1800)
                process.join()
                print(json.dumps({"seed": seed, "images": count, "planted": planted, "way": way, **result}), flush=True)
    if not given.cleanlab:
        print("cleanlab is missing: pip install --target FOLDER cleanlab, and give --cleanlab FOLDER", file=sys.stderr)


if __name__ == "__main__":
    main()
