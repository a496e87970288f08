"""Writes what a review has found: ``suspects.json`` and the page."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from lightning_seg.files import replacing
from lightning_seg.reviewing.judging import Judge
from lightning_seg.reviewing.page import write_page
from lightning_seg.reviewing.ranking import Suspect, rank


def write_results(judge: Judge, split: str, data: Mapping[str, Any], most: int, shown: int) -> int:
    """Rank the suspects of all images, and write :data:`~lightning_seg.reviewing.record.RESULTS`.

    It is called on one process, after all others have judged.

    Args:
        judge: knows the samples and where results go.
        split: that was judged.
        data: settings of the data, as a configuration has them.
        most: suspects that are listed.
        shown: of these, suspects on the page.

    Returns:
        How many suspects there are, listed or not.
    """
    folder, names = judge.folder, judge.network.images.info.names
    masks = {sample.name: str(sample.mask) for sample in judge.listing.samples}
    folder.join(judge.listing.samples)
    found, total = rank(folder.judged, most)
    suspects = [_as_json(suspect, masks[suspect.image], names) for suspect in found]
    source = {
        "id": _digest(json.dumps(folder.made_with, sort_keys=True)), "split": split, "classes": [*names], "data": data,
    }  # fmt: skip
    with replacing(folder.path / "suspects.json", "w") as file:
        json.dump({**source, "found": total, "suspects": suspects}, file, indent=1)
    write_page(folder.path, suspects[:shown], source, judge.dataset())
    return total


def _as_json(suspect: Suspect, mask: str, names: tuple[str, ...]) -> dict[str, Any]:
    region = suspect.region
    key = [suspect.image, *(region[name] for name in ("label", "predicted", "box", "counts"))]
    return {
        "id": _digest(json.dumps(key)),
        "image": suspect.image,
        "mask": mask,
        "score": suspect.score,
        "elsewhere": suspect.elsewhere,
        **region,
        "label": names[region["label"]],
        "predicted": names[region["predicted"]],
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
