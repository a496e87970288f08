"""Finds the patterns that fit the images and masks of a folder, for advice."""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable

from lightning_seg.data.readers.names import common_start
from lightning_seg.data.readers.patterns import FOLDER, NamePattern, escaped

_TRIED = 64
"""Images without a mask that a pattern is derived from."""


def fitting_templates(images: Collection[str], masks: Collection[str], *, in_one: bool) -> tuple[str, str] | None:
    """The ``image_name`` and ``mask_name`` that would pair the most, if those are at least half of the images.

    >>> fitting_templates(["a.jpg", "b.jpg"], ["a_mask.png", "b_mask.png"], in_one=False)
    ('{stem}', '{stem}_mask.png')
    >>> fitting_templates(["c/1_left.png", "d/2_left.png"], ["c/1_ids.png", "d/2_ids.png"], in_one=False)
    ('{stem}_left', '{stem}_ids.png')

    Args:
        images: relative paths of the images.
        masks: relative paths of all that may be masks.
        in_one: whether both lie in one folder, so that an image is no mask of its own.
    """
    stems = [os.path.splitext(image)[0] for image in images]
    candidates = _candidates(images, masks, in_one)
    pairs = {each: len(_stems(each[0], stems) & _stems(each[1], masks)) for each in candidates}
    best = max(pairs, key=lambda each: pairs[each], default=None)
    return best if best is not None and pairs[best] > 0 and 2 * pairs[best] >= len(images) else None


def _candidates(images: Collection[str], masks: Collection[str], in_one: bool) -> list[tuple[str, str]]:
    names_in: dict[str, list[str]] = {}
    for mask in masks:
        folder, name = os.path.split(mask)
        names_in.setdefault(folder, []).append(name)
    around: Counter[str] = Counter()
    for image in sorted(images)[:_TRIED]:
        folder, own = os.path.split(image)
        stem = os.path.splitext(own)[0]
        others = (name for name in names_in.get(folder, []) if stem in name and not (in_one and name == own))
        around.update({"{stem}".join(map(escaped, name.split(stem, 1))) for name in others})
    found = [("{stem}", template) for template, _ in around.most_common(8)]
    if not in_one:
        stems = [os.path.splitext(image)[0] for image in images]
        for suffix in {os.path.splitext(mask)[1] for mask in masks}:
            alike = [mask.removesuffix(suffix) for mask in masks if mask.endswith(suffix)]
            found.append((_frame(stems), _frame(alike) + escaped(suffix)))
    return found


def _frame(names: Iterable[str]) -> str:
    """The pattern around ``{stem}``: what all names begin and end with; digits belong to the stem."""
    last = [os.path.basename(name) for name in names]
    if len(set(last)) < 2:
        return "{stem}"
    before = re.sub(r"[0-9]+\Z", "", common_start(last))
    after = re.sub(r"\A[0-9]+", "", common_start([name[::-1] for name in last])[::-1])
    return f"{escaped(before)}{{stem}}{escaped(after)}"


def _stems(template: str, names: Collection[str]) -> set[str]:
    named = NamePattern("image_name or mask_name", template, whole=False)
    found = (named.match(name) for name in names)
    return {parts[FOLDER] + parts["stem"] for parts in found if parts is not None}
