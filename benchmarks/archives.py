"""Small members of a ZIP or TAR against loose files: speed with loading processes, start-up, memory. Linux only.

Run: python benchmarks/archives.py [--speed 20000] [--many 100000] [--workers 4] [--rounds 3]. Speed: all images of
64×64 pixels and their masks, shuffled and decoded by a loader; loose files, ZIP and TAR take turns, and each ratio is
the median of the rounds'. Start-up: what a reader takes to list a split, after it has been listed once. Memory: the
proportional set size of the process and its workers, which look at each sample and open one file in 100.
"""

import argparse
import io
import multiprocessing
import statistics
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Sequence
from multiprocessing.queues import Queue
from pathlib import Path

import numpy as np
from PIL import Image
from records import megabytes
from sections.figures import add_output, write_figures
from torch.utils.data import DataLoader, Dataset

from lightning_seg.data import Folder
from lightning_seg.data.archives.index import forget
from lightning_seg.data.loading.loader import prepare_worker
from lightning_seg.data.loading.records import Records
from lightning_seg.data.reading import read_image, read_mask
from lightning_seg.data.reading.storage import read_bytes
from lightning_seg.sources import ByteSource
from lightning_seg.structures import Sample


class Decoded(Dataset[int]):
    """Decodes image and mask of each sample."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = Records(samples)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> int:
        sample = self.samples[index]
        assert isinstance(sample.mask, Path | ByteSource)
        return int(read_image(sample.image)[0, 0, 0]) + read_mask(sample.mask).size[0]


class Seen(Decoded):
    """Looks at each sample, and opens one in 100."""

    def __getitem__(self, index: int) -> int:
        image = self.samples[index].image
        return 0 if index % 100 else len(read_bytes(image))


def write(folder: Path, pairs: int, *, loose: bool) -> None:
    """The same images and masks as files, and in ``set.zip`` and ``set.tar``."""
    rng = np.random.default_rng(0)
    kinds: list[tuple[bytes, bytes]] = []
    for _ in range(64):
        files = io.BytesIO(), io.BytesIO()
        scene = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize((64, 64), Image.Resampling.BICUBIC)
        scene.save(files[0], "JPEG")
        Image.fromarray(np.kron(rng.integers(0, 19, (8, 8), np.uint8), np.ones((8, 8), np.uint8))).save(files[1], "PNG")
        kinds.append((files[0].getvalue(), files[1].getvalue()))
    with zipfile.ZipFile(folder / "set.zip", "w") as zipped, tarfile.open(folder / "set.tar", "w") as tar:
        for number in range(pairs):
            place = f"{number // 1000:03d}/{number:06d}"
            both = zip((f"images/{place}.jpg", f"masks/{place}.png"), kinds[number % len(kinds)], strict=True)
            for name, data in both:
                zipped.writestr(name, data)
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
                if loose:
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    (folder / name).write_bytes(data)


def samples_of(root: Path) -> list[Sample]:
    return Folder("images", "masks").samples(root)


def loader_of(dataset: Dataset[int], workers: int) -> "DataLoader[int]":
    return DataLoader(
        dataset, batch_size=64, shuffle=True, num_workers=workers, persistent_workers=True,
        multiprocessing_context="fork", worker_init_fn=prepare_worker,
    )  # fmt: skip


def speeds(folder: Path, workers: int, rounds: int) -> dict[str, float]:
    sides = {"loose files": folder, "ZIP": folder / "set.zip", "TAR": folder / "set.tar"}
    loaders = {side: loader_of(Decoded(samples_of(root)), workers) for side, root in sides.items()}
    forget()
    times: list[dict[str, float]] = []
    for _ in range(rounds + 1):
        times.append({})
        for side, loader in loaders.items():
            start = time.perf_counter()
            sum(1 for _ in loader)
            times[-1][side] = time.perf_counter() - start
    figures = {}
    for side in ("ZIP", "TAR"):
        ratios = [each["loose files"] / each[side] for each in times[1:]]
        figures[side] = statistics.median(ratios)
        print(
            f"{side}: {figures[side]:.2f} times the speed of loose files "
            f"({min(ratios):.2f} to {max(ratios):.2f}), {workers} workers"
        )
    return figures


def memory(root: Path, workers: int, answer: "Queue[float]") -> None:
    dataset = Seen(samples_of(root))
    forget()
    batches = iter(loader_of(dataset, workers))
    sum(1 for _ in batches)
    processes = [process.pid for process in multiprocessing.active_children() if process.pid]
    answer.put(megabytes(multiprocessing.current_process().pid or 0) + sum(map(megabytes, processes)))


def many(root: Path, members: int, workers: int) -> dict[str, float]:
    taken = []
    for _ in range(2):
        forget()
        start, begun = time.perf_counter(), time.process_time()
        samples_of(root)
        taken.append((time.perf_counter() - start, time.process_time() - begun))
    print(f"{root.name} of {members} members: listed in {taken[-1][0]:.1f} s ({taken[-1][1]:.1f} s of CPU)")
    context = multiprocessing.get_context("spawn")
    found = []
    for count in (1, workers):
        answer: Queue[float] = context.Queue()
        process = context.Process(target=memory, args=(root, count, answer))
        process.start()
        found.append(answer.get())
        process.join()
    print(
        f"{root.name}: {found[1] / found[0]:.2f} times the memory with {workers} workers ({found[0]:.0f} MB with one)"
    )
    return {f"{root.name}: memory": found[1] / found[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed", type=int, default=20_000, help="members whose speed is measured")
    parser.add_argument("--many", type=int, default=100_000, help="members whose start-up and memory are measured")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    add_output(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), arguments.speed // 2, loose=True)
        figures = speeds(Path(name), arguments.workers, arguments.rounds)
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), arguments.many // 2, loose=False)
        for kind in ("set.zip", "set.tar"):
            figures |= many(Path(name) / kind, arguments.many, arguments.workers)
    write_figures(arguments.output, figures)


if __name__ == "__main__":
    main()
