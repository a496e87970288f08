"""Judges the labels of a split by a trained network, an image at a time, on one or several processes."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from lightning_seg.checkpoints.lock import claim_folder
from lightning_seg.data.dataset import SegmentationDataset
from lightning_seg.data.listing.splits import Listing
from lightning_seg.data.loading.loader import build_loader
from lightning_seg.data.transforms.splits import transforms_of
from lightning_seg.errors import DataError, LightningSegError
from lightning_seg.files import inside, replacing
from lightning_seg.reviewing.record import PREDICTIONS, ReviewFolder
from lightning_seg.reviewing.regions import find_regions, opinion_of
from lightning_seg.structures import Sample
from lightning_seg.trained.module_network import ModuleNetwork, find_device

_PATIENCE = timedelta(days=7)
"""How long processes wait for the slowest."""


@dataclass(frozen=True)
class Processes:
    """How many processes share the work, and which one this is."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @classmethod
    def of_environment(cls) -> "Processes":
        """As ``torchrun`` says."""
        rank, count, local = (int(os.environ.get(name, "0")) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        return cls(rank, max(1, count), local)

    def device(self, name: str) -> torch.device:
        """The device of that name, as :func:`find_device`; several processes take the GPUs of a machine in turn."""
        device = find_device(name)
        if self.count > 1 and device == torch.device("cuda"):
            return torch.device("cuda", self.local_rank % torch.cuda.device_count())
        return device

    @contextmanager
    def joined(self) -> Iterator[None]:
        """A ``with`` block in which they can wait for each other."""
        if self.count == 1:
            yield
            return
        distributed.init_process_group("gloo", timeout=_PATIENCE)
        try:
            yield
        finally:
            distributed.destroy_process_group()

    def share(self, value: Any) -> list[Any]:
        """What each process gives, in the order of their ranks, once all have given it."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        distributed.all_gather_object(values, value)
        return values


@dataclass
class Judge:
    """Reads samples, asks a network, and notes what it finds.

    Attributes:
        network: that judges.
        listing: of the split.
        folder: where it writes.
        processes: that share the work.
        failures: what could not be read by this process, and why.
    """

    network: ModuleNetwork
    listing: Listing
    folder: ReviewFolder
    processes: Processes
    failures: list[str] = field(default_factory=list)

    def dataset(self) -> SegmentationDataset:
        """The split as the network's own evaluation reads it, with its labels at the stored size.

        Raises:
            DataError: if the split is empty.
        """
        if not self.listing.samples:
            raise DataError("the split has no samples: there is nothing to review")
        images = self.network.images
        transforms = transforms_of("val", (), images.transforms, images.info.ignore_index)
        return SegmentationDataset(
            self.listing.samples,
            self.listing.tables,
            transforms.pipeline,
            seed=images.seed,
            keep_truth=True,
            placements=transforms.placements,
            rules=images.rules,
        )

    def judge(self, positions: Sequence[int], workers: int) -> None:
        """Judge this process's share of some samples.

        Args:
            positions: of all samples that are left to do.
            workers: loading processes.
        """
        mine = positions[self.processes.rank :: self.processes.count]
        loader = build_loader(
            self.dataset(),
            mine,  # type: ignore[arg-type]  # torch takes any sequence of keys
            batch_size=1,
            num_workers=workers if len(mine) > 1 else 0,
            failures=self.failures,
        )
        progress = Progress(len(mine), self.processes)
        for batch in loader if mine else ():
            for item in batch:
                self._judge(item, self.listing.samples[item["position"]])
            progress.step()
        self.folder.close()

    @torch.inference_mode()
    def _judge(self, item: Any, sample: Sample) -> None:
        info = self.network.images.info
        labels = item["truth"].numpy()
        shown = {name: value for name, value in item.items() if name not in ("sem_seg", "truth")}
        bands = self.network.module.probability_bands(shown)  # type: ignore[arg-type]  # an Item
        opinion = opinion_of(labels, ((top, band.float().cpu().numpy()) for top, band in bands), info.ignore_index)
        regions = find_regions(labels, opinion, info.ignore_index)
        if regions:
            self._write_prediction(sample.name, opinion.predicted)
        self.folder.note(sample, regions, self.processes.rank)

    def _write_prediction(self, name: str, predicted: NDArray[Any]) -> None:
        kind = np.uint8 if self.network.images.info.num_classes <= 256 else np.uint16
        _, data = cv2.imencode(".png", predicted.astype(kind))
        with replacing(inside(self.folder.path / PREDICTIONS, f"{name}.png"), synced=False) as file:
            file.write(data.tobytes())


def begin_together(
    processes: Processes, folder: ReviewFolder, samples: Sequence[Sample], *, overwrite: bool
) -> set[str]:
    """Make the folder ready on the first process; if that refuses it, all end. The names of what is judged already.

    Raises:
        LightningSegError: if the folder holds something else, or another process uses it.
    """
    problem: LightningSegError | None = None
    if processes.rank == 0:
        try:
            folder.begin(overwrite=overwrite)
            claim_folder(folder.path, predicts=True)
            folder.join(samples)
        except LightningSegError as error:
            problem = error
    if (found := processes.share(problem)[0]) is not None:
        raise found if processes.rank == 0 else SystemExit(1)
    done = set(processes.share([name for name, _ in folder.judged()] if processes.rank == 0 else None)[0])
    if done and processes.rank == 0:
        print(f"{len(done)} of {len(samples)} images are judged in {folder.path} already", file=sys.stderr)
    return done


class Progress:
    """Says on the first process how far it is, ten times at most."""

    def __init__(self, count: int, processes: Processes) -> None:
        self.count = count
        self.done = 0
        self.told = 0
        self.shown = processes.rank == 0

    def step(self) -> None:
        """One image is done."""
        self.done += 1
        if self.shown and self.done * 10 // max(1, self.count) > self.told:
            self.told = self.done * 10 // self.count
            print(f"judged {self.done} of {self.count} images of this process", file=sys.stderr, flush=True)
