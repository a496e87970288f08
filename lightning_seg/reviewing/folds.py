"""Trains the networks that judge a split out of sample: one for each fold, on all others."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lightning_seg.checkpoints.runs import choose_checkpoint
from lightning_seg.config_paths import SETTLED
from lightning_seg.data.readers import Reader, Split
from lightning_seg.data.readers.reader import OrphanError
from lightning_seg.errors import ConfigError
from lightning_seg.files import replacing
from lightning_seg.structures import Sample

Train = Callable[[Path, Mapping[str, Any]], Path]
"""Trains by a configuration and options, and gives the folder of the run."""


@dataclass(frozen=True)
class Folds:
    """The folds of a split.

    Attributes:
        config: ``config.yaml`` of the run whose training is repeated for each fold.
        split: that is reviewed.
        count: how many folds, at least 2.
        group_by: samples that stay together, as for :class:`Split`; None: every sample alone.
        data: settings of the data, as a configuration has them.
        folder: where the networks are trained.
    """

    config: Path
    split: str
    count: int
    group_by: str | None
    data: Mapping[str, Any]
    folder: Path

    def made_with(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """What decides which network judges which sample: other samples would be in other folds."""
        names = json.dumps([sample.name for sample in samples])
        return {
            "folds": self.count,
            "group_by": self.group_by,
            "config": hashlib.sha256(self.config.read_bytes()).hexdigest(),
            "samples": hashlib.sha256(names.encode()).hexdigest(),
        }

    def positions(self, samples: Sequence[Sample], readers: Sequence[Reader], root: Path | None) -> list[list[int]]:
        """The places of each fold's samples in the split; each sample is in one fold of its reader.

        Raises:
            ConfigError: if ``group_by`` is no regular expression.
            DataError: if there are fewer groups than folds.
        """
        places = {(sample.source, str(sample.image)): position for position, sample in enumerate(samples)}
        found: list[list[int]] = [[] for _ in range(self.count)]
        for source, reader in enumerate(readers):
            for fold, positions in enumerate(found):
                part = Split(reader, "val", group_by=self.group_by, folds=self.count, fold=fold)
                try:
                    inside = part.samples(root)
                except OrphanError as error:
                    inside = error.samples
                positions += [places[source, str(one.image)] for one in inside if (source, str(one.image)) in places]
        return [sorted(positions) for positions in found]

    def checkpoint(self, fold: int, train: Train) -> Path:
        """The last checkpoint of a fold, which is trained unless that is done; a killed training goes on.

        The best one would be chosen by the labels that it has to judge.

        Raises:
            ConfigError: if the training ends without a checkpoint.
        """
        note = self.folder / f"fold_{fold}.json"
        if (done := self._noted(note)) is not None:
            return done
        config = self.folder / f"fold_{fold}.yaml"
        with replacing(config, "w") as file:
            file.write(f"# {SETTLED}\n{yaml.safe_dump(self._settings(fold), sort_keys=False)}")
        run = train(config, {"ckpt_path": "last"})
        path = choose_checkpoint(run / "checkpoints", "last")
        if path is None:
            raise ConfigError(f"the training of fold {fold} left no checkpoint in {run}: {self.config} must write one")
        with replacing(note, "w") as file:
            json.dump({"checkpoint": str(path.relative_to(self.folder))}, file)
        return path

    def _noted(self, note: Path) -> Path | None:
        """The checkpoint that a note names; None if there is none, or either is damaged or gone."""
        try:
            path = Path(self.folder, json.loads(note.read_bytes())["checkpoint"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return path if path.is_file() else None

    def _settings(self, fold: int) -> dict[str, Any]:
        """The configuration of a fold's training: that of the run, with other data, on one device."""
        settings = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        readers = {part: self._readers(part, fold) for part in ("train", "val")}
        data = {**self.data, **readers, "test": None, "predict": None}
        data.pop("seed", None)  # follows seed_everything
        one = {"devices": 1, "num_nodes": 1, "strategy": "auto", "default_root_dir": str(self.folder)}
        return {
            **settings, "data": data, "trainer": {**(settings.get("trainer") or {}), **one}, "name": f"fold_{fold}"
        }  # fmt: skip

    def _readers(self, part: str, fold: int) -> Any:
        given = self.data[self.split]
        several = isinstance(given, list)
        folded = [
            {
                "class_path": "lightning_seg.data.Split",
                "init_args": {
                    "of": reader, "part": part, "group_by": self.group_by, "folds": self.count, "fold": fold,
                },
            }
            for reader in (given if several else [given])
        ]  # fmt: skip
        return folded if several else folded[0]
