"""Reads what a person decided on the page of a review."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_seg.errors import ConfigError


@dataclass(frozen=True)
class Decisions:
    """What the page gave.

    Attributes:
        split: whose labels they are about.
        data: the settings of its data, as a configuration has them.
        accepted: run-length encodings of the accepted regions, by sample.
    """

    split: str
    data: dict[str, Any]
    accepted: dict[str, list[str]]


def read_decisions(path: Path) -> Decisions:
    """Read a file of decisions.

    Raises:
        ConfigError: if it is none, or accepts nothing.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        split, data, accepted = str(content["split"]), dict(content["data"]), defaultdict(list)
        for one in content["decisions"]:
            if one["decision"] not in ("accept", "reject"):
                raise ValueError(one)
            if one["decision"] == "accept":
                accepted[str(one["image"])].append(str(one["counts"]))
    except OSError as error:
        raise ConfigError(f"--apply {path} cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ConfigError(
            f"--apply {path} holds no decisions: give the decisions.json that review.html downloads"
        ) from None
    if not accepted:
        raise ConfigError(f"{path} accepts no suspect: nothing is to be ignored")
    return Decisions(split, data, dict(accepted))
