"""The folder of a review: what is judged already, by any number of processes, outlives each of them."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import IO, Any

from lightning_seg.checkpoints.lock import LOCK_NAME
from lightning_seg.errors import ConfigError
from lightning_seg.files import remove_drafts, replacing
from lightning_seg.predictions.record import Input, differences, read_record, write_record
from lightning_seg.reviewing.ranking import Judged
from lightning_seg.reviewing.regions import Region
from lightning_seg.structures import Sample, summarise

REGIONS = "regions.jsonl"
"""One line for each image that is judged."""

PREDICTIONS = "predictions"
"""The folder of label maps, one PNG for each image."""

FOLDS = "folds"
"""The folder of the networks that are trained for the folds."""

RESULTS = ("suspects.json", "review.html")
"""What is written at the end."""

_TEXT: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape"}


class ReviewFolder:
    """Where judgements are written, and which of them are there.

    Each process appends to a file of its own. The first process joins them before and after.

    Args:
        path: of the folder.
        made_with: plain values that decide what is found.
    """

    def __init__(self, path: Path, made_with: Mapping[str, Any]) -> None:
        self.path = path
        self.made_with = dict(json.loads(json.dumps(made_with)))
        self._file: IO[str] | None = None

    def begin(self, *, overwrite: bool) -> None:
        """Make the folder ready, on one process and before any other writes.

        Raises:
            ConfigError: if it holds something else.
        """
        before = read_record(self.path)
        if before is None and self.path.exists() and self._holds_files():
            raise ConfigError(f"{self.path} holds files that no review wrote: give another --output")
        changed = [] if before is None else differences(before, self.made_with)
        if changed and not overwrite:
            raise ConfigError(
                f"{self.path} holds a review that was made otherwise ({summarise(changed, 3)}): give another --output, "
                "or --overwrite to put a new one in its place"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            remove_drafts(self.path)
            if overwrite:
                for path in [*self.path.glob("regions*.jsonl"), *(self.path / name for name in RESULTS)]:
                    path.unlink(missing_ok=True)
                if (self.path / FOLDS).is_dir():
                    shutil.rmtree(self.path / FOLDS)
            write_record(self.path, self.made_with)
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be written to ({error.strerror}): give another --output") from None

    def join(self, samples: Sequence[Sample]) -> None:
        """Join what all processes wrote, in the order of the samples, on one process while no other writes.

        Images that have changed since, and whose masks have, are judged again, and so are those whose prediction is
        gone.
        """
        order = {sample.name: position for position, sample in enumerate(samples)}
        places: dict[int, tuple[Path, int, int]] = {}
        for path in [self.path / REGIONS, *sorted(self.path.glob("regions-*.jsonl"))]:
            for content, start, length in _entries(path):
                position = order.get(content["name"])
                if position is None or content["files"] != files_of(samples[position]):
                    continue
                if not content["regions"] or self._has_prediction(content["name"]):
                    places[position] = path, start, length
        with replacing(self.path / REGIONS) as output:
            for _, (path, start, length) in sorted(places.items()):
                with path.open("rb") as file:
                    file.seek(start)
                    output.write(file.read(length))
        for path in self.path.glob("regions-*.jsonl"):
            path.unlink()

    def _holds_files(self) -> bool:
        """Whether it is no folder, or one with files of somebody else."""
        return not self.path.is_dir() or any(path.name != LOCK_NAME for path in self.path.iterdir())

    def _has_prediction(self, name: str) -> bool:
        """Whether an image's label map is there and not empty, as a power cut may leave it."""
        path = self.path / PREDICTIONS / f"{name}.png"
        return path.is_file() and path.stat().st_size > 0

    def judged(self) -> Iterator[Judged]:
        """Name and regions of each image that is judged."""
        with (self.path / REGIONS).open(**_TEXT) as file:
            for line in file:
                content = json.loads(line)
                yield content["name"], content["regions"]

    def note(self, sample: Sample, regions: Sequence[Region], rank: int) -> None:
        """Say that an image is judged, after its prediction is written."""
        if self._file is None:
            self._file = (self.path / f"regions-{rank}.jsonl").open("a", buffering=1, **_TEXT)
        content = {
            "name": sample.name, "files": files_of(sample), "regions": [region.as_json() for region in regions],
        }  # fmt: skip
        self._file.write(json.dumps(content, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Write no more from this process."""
        if self._file is not None:
            self._file.close()
            self._file = None


def files_of(sample: Sample) -> list[list[str] | None]:
    """Image and mask as they are now: path, bytes, and when they were modified."""
    files = (sample.image, sample.mask)
    found = [None if file is None else Input.of(Sample(sample.name, Path(str(file)))) for file in files]
    return [None if one is None else list(one[1:]) for one in found]


def _whole(line: bytes) -> dict[str, Any] | None:
    """What a line says; None if it is damaged, or of another version: that image is judged again."""
    try:
        content = json.loads(line.decode(**_TEXT))
        known = {field.name for field in fields(Region)}
        whole = isinstance(content["name"], str) and all(one.keys() == known for one in content["regions"])
        return dict(content) if whole and "files" in content else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _entries(path: Path) -> Iterator[tuple[dict[str, Any], int, int]]:
    """Content, place and length of each whole line; the last one of a process that was killed may be cut off."""
    if not path.is_file():
        return
    start = 0
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n") and (content := _whole(line)) is not None:
                yield content, start, len(line)
            start += len(line)
