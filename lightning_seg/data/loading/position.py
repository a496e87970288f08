"""Counts how far a run is in the order of an epoch: in samples, since the size of Lightning's batches may change."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from lightning_seg.structures import Sample


class EpochPosition:
    """Translates batches of the run that wrote a checkpoint into samples, and samples into batches of this run.

    A checkpoint holds the size of its batches, and the settings that the order of its epochs depended on.
    """

    def __init__(self) -> None:
        self._stored: dict[str, Any] = {}
        self._ahead = (0, 0)
        """An epoch, and how many more samples of its order are done than its number of batches here says."""

    def state(self, global_batch: int, order: Mapping[str, Any]) -> dict[str, Any]:
        """What a checkpoint keeps.

        Args:
            global_batch: samples of a batch over all processes.
            order: settings that an epoch's order depends on, by name.
        """
        epoch, ahead = self._ahead
        return {"global_batch": global_batch, "ahead_in": epoch, "ahead": ahead, "order": dict(order)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what a checkpoint keeps."""
        self._stored = dict(state)

    def samples(self, epoch: int, batches: int, global_batch: int) -> int:
        """How many samples of an epoch are done after a number of batches of this run."""
        return batches * global_batch + (self._ahead[1] if self._ahead[0] == epoch else 0)

    def batches_begun(self, epoch: int, batches: int, *, limit: int, global_batch: int, length: int) -> int:
        """How many batches of an epoch count as done in a run that goes on inside it.

        The batches that are left hold the samples that are left. Samples that fill no batch are left out, as at the end
        of each epoch.

        Args:
            epoch: number of the epoch.
            batches: how many of its batches the checkpoint's run had done.
            limit: how many batches an epoch has here.
            global_batch: samples of a batch over all processes.
            length: of the training data.
        """
        end = length if limit == length // global_batch else limit * global_batch
        return limit - max(0, end - self._samples_before(epoch, batches, global_batch)) // global_batch

    def start_at(self, epoch: int, batches: int, *, limit: int, global_batch: int, length: int) -> int:
        """Go on in the order where the checkpoint's run stopped; returns :meth:`batches_begun`."""
        begun = self.batches_begun(epoch, batches, limit=limit, global_batch=global_batch, length=length)
        self._ahead = (epoch, self._samples_before(epoch, batches, global_batch) - begun * global_batch)
        return begun

    def changes(self, order: Mapping[str, Any]) -> list[str]:
        """Settings that an epoch's order depends on and that differ from the checkpoint's."""
        before = self._stored.get("order", {})
        if before:  # earlier checkpoints know of no locality
            before = {"data.locality": 1, **before}
        return [name for name, value in order.items() if before.get(name, value) != value]

    def problems(self, order: Mapping[str, Any], *, inside: bool) -> list[str]:
        """Why a run with this order of its epochs cannot go on from the checkpoint.

        Args:
            order: as of :meth:`state`.
            inside: whether the checkpoint was written inside an epoch.
        """
        changed, problems = self.changes(order), []
        if "seed" in changed:
            problems.append(
                f"the checkpoint's run has the seed {self._stored['order']['seed']}, here it is {order['seed']}, so "
                "that samples would come twice or not at all: give the same seed_everything, or start anew with "
                "model.weights in place of ckpt_path"
            )
        if inside and (others := [name for name in changed if name != "seed"]):
            problems.append(
                f"the checkpoint was written inside an epoch, whose order depends on {' and '.join(others)}, but that "
                "differs here: give the same, go on from the end of an epoch, or start anew with model.weights in "
                "place of ckpt_path"
            )
        return problems

    def _samples_before(self, epoch: int, batches: int, global_batch: int) -> int:
        """How many samples of an epoch the checkpoint's run had used in a number of batches."""
        ahead = self._stored["ahead"] if self._stored.get("ahead_in") == epoch else 0
        return int(batches * self._stored.get("global_batch", global_batch) + ahead)


def digest_of_names(samples: Iterable[Sample]) -> str:
    """A digest of the samples' names in their order."""
    return hashlib.sha256("\n".join(sample.name for sample in samples).encode()).hexdigest()
