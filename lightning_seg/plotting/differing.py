"""Shows images on which two runs differ: what both predicted, or else image and labels of the data."""

from collections.abc import Sequence
from html import escape
from typing import Any

import yaml

from lightning_seg.plotting.embedding import thumbnail
from lightning_seg.plotting.runs import Run


def pictures_of(names: Sequence[str], one: Run, other: Run) -> tuple[dict[str, str], str]:
    """Pictures as HTML by the name of the image, and why others are left out; empty if none is.

    Args:
        names: of images that both runs evaluated.
        one: whose overlays are on the left, and whose data are read where a run has no overlays.
        other: whose overlays are on the right.
    """
    overlays = [run.overlays for run in (one, other)]
    found = {
        name: " ".join(
            _captioned(thumbnail(f"{name}, {run.name}", files[name]), run.name)
            for run, files in zip((one, other), overlays, strict=True)
        )
        for name in names
        if all(name in files for files in overlays)
    }
    if len(found) == len(names):
        return found, ""
    try:
        drawn = _of_data(one, [name for name in names if name not in found])
    except Exception as error:  # of the user's readers and files, which are not needed for the page
        return (
            found,
            f"no overlays of both runs, and the data of {one.name} cannot be read: {str(error).splitlines()[0]}",
        )
    found |= {
        name: _captioned(f'<img alt="{escape(name)}" src="{address}">', "image and labels")
        for name, address in drawn.items()
    }
    lacking = len(names) - len(found)
    return found, f"{lacking} images cannot be read in the data of {one.name}" if lacking else ""


def _captioned(picture: str, text: str) -> str:
    return f"<figure>{picture}<figcaption>{escape(text)}</figcaption></figure>"


def _of_data(run: Run, names: Sequence[str]) -> dict[str, str]:
    """Image and labels, side by side, as ``data:`` addresses; those that cannot be read are missing."""
    from jsonargparse import ArgumentParser, Namespace

    from lightning_seg.data import SegmentationDataModule
    from lightning_seg.data.auditing.pictures import picture
    from lightning_seg.data.listing.splits import list_split
    from lightning_seg.imports import import_user_code

    settings: dict[str, Any] = yaml.safe_load((run.folder / "config.yaml").read_bytes())["data"]
    import_user_code(settings.get("imports") or [], "data.imports")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(SegmentationDataModule, "data", sub_configs=True)
    given = {**settings, "predict": None, "train_transforms": None, "eval_transforms": None}
    data = parser.instantiate(parser.parse_object(Namespace(data=given))).data  # type: ignore[no-untyped-call]
    split = run.metrics["split"]
    listing = list_split(split, data.readers[split], data.root, data.labelling, data.rules)
    found = {
        sample.name: picture(sample, listing.table_of(sample), data.rules)
        for sample in listing.samples
        if sample.name in names
    }
    return {name: address for name, address in found.items() if address is not None}
