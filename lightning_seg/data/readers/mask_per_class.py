"""Reads data sets that have one mask file for each class of an image."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from lightning_seg.data.archives.places import located
from lightning_seg.data.readers.class_files import CLASS, ClassFiles, class_files, lacking_classes
from lightning_seg.data.readers.finding import files_of, resolve, tell_once
from lightning_seg.data.readers.folder import IMAGE_SUFFIXES, LOSSY, LOSSY_SUFFIXES
from lightning_seg.data.readers.mismatches import Mismatches
from lightning_seg.data.readers.patterns import NamePair
from lightning_seg.data.readers.reader import Orphan, Reader
from lightning_seg.data.reading.class_masks import ClassMasks
from lightning_seg.errors import ConfigError
from lightning_seg.hints import did_you_mean
from lightning_seg.structures import Sample, SourceLabels, summarise


class MaskPerClass(Reader):
    """Images, each with one mask file for each class: everything in it but 0 is that class.

    The classes are the names that ``{class}`` stands for, in alphabetical order after ``rest``.

    Args:
        images: folder of the images, or several, as in :class:`Folder`.
        masks: folder of the masks, or several; may be the same folder.
        mask_name: pattern of a mask's name, such as ``"{class}/{stem}.png"`` or ``"{stem}_{class}.png"``. Without a
            ``/`` in it and in ``image_name``, a mask lies in the same sub-folder as its image. Otherwise, both are
            whole paths below their folders.
        image_name: pattern of an image's name, as in :class:`Folder`.
        rest: class of pixels that no mask covers; null: those pixels are ignored.
        overlap: ``refuse`` pixels that two masks cover, or a list of all classes: the first lies above all others.
        missing: an image without a mask of a class is an error (``refuse``), or shows none of that class (``absent``).
        classes: all that ``{class}`` may stand for, where the names do not tell, such as those with ``_`` in
            ``"{stem}_{class}.png"``; files of other classes are no masks. null: what is found.
        threshold: the least stored value that is the class. null: all but 0 are; a mask that was smoothed is refused.
        image_suffixes: what counts as an image, in any case.
        skip: names of files that are neither image nor mask, as patterns such as ``*_color.png``.
    """

    def __init__(
        self,
        images: str,
        masks: str,
        mask_name: str = "{class}/{stem}.png",
        image_name: str = "{stem}",
        rest: str | None = "background",
        overlap: Literal["refuse"] | Sequence[str] = "refuse",
        missing: Literal["refuse", "absent"] = "refuse",
        classes: Sequence[str] | None = None,
        threshold: int | None = None,
        image_suffixes: Sequence[str] = IMAGE_SUFFIXES,
        skip: Sequence[str] = (),
    ) -> None:
        suffixes = tuple(suffix.lower() for suffix in image_suffixes)
        choices = {CLASS: classes} if classes else {}
        self.names = NamePair(type(self).__name__, image_name, mask_name, suffixes, [CLASS], choices)
        if CLASS not in self.names.mask.parts or CLASS in self.names.image.parts:
            raise ConfigError(
                f"MaskPerClass(mask_name={mask_name!r}) must hold {{class}}, such as '{{class}}/{{stem}}.png', and "
                f"image_name {image_name!r} must not"
            )
        if isinstance(overlap, str) and overlap != "refuse":
            raise ConfigError(f"MaskPerClass(overlap={overlap!r}) must be refuse, or a list of all classes")
        self.images = images
        self.masks = masks
        self.rest = rest
        self.above = () if isinstance(overlap, str) else tuple(overlap)
        self.missing = missing
        self.classes = classes
        self.threshold = threshold
        self.skip = tuple(skip)
        self._found: tuple[Path | None, ClassFiles] | None = None

    def labels(self, root: Path | None) -> SourceLabels:
        classes = self._classes(self._files(root))
        names = [*([] if self.rest is None else [self.rest]), *classes]
        return SourceLabels(tuple(dict.fromkeys(names)), {0: self.rest, **dict(enumerate(classes, start=1))}, {})

    def samples(self, root: Path | None) -> list[Sample]:
        found = self._files(root)
        lacking = lacking_classes(found, self._classes(found))
        refused = lacking if self.missing == "refuse" else {}
        masks = resolve(self.masks, root)
        samples = [self._sample(name, found, masks) for name in sorted(found.images.keys() - refused.keys())]
        if self.missing == "absent" and (bare := [name for name in lacking if not found.masks.get(name)]):
            what = "are ignored" if self.rest is None else f"are {self.rest}"
            tell_once(
                f"{len(bare)} of {len(found.images)} images in {resolve(self.images, root)} have no mask at all, so "
                f"that all their pixels {what} (missing: absent): {summarise(bare)}"
            )
        self._refuse_orphans(samples, refused, found, resolve(self.images, root), masks)
        if self.names.whole:
            known = {*found.images.values(), *(file for of in found.masks.values() for file in of.values())}
            self.names.tell_others(resolve(self.images, root), found.image_files.keys() - known)
        return samples

    def release(self) -> None:
        self._found = None

    def _files(self, root: Path | None) -> ClassFiles:
        """All files, listed once for labels and samples."""
        if self._found is None or self._found[0] != root:
            images, masks = resolve(self.images, root), resolve(self.masks, root)
            image_files = files_of("images", self.images, root, self.skip)
            mask_files = image_files if masks == images else files_of("masks", self.masks, root, self.skip)
            found = class_files(self.names, image_files, mask_files, images, masks)
            if self.above and (beside := [each for each in found.labels if each not in self.above]):
                raise ConfigError(
                    f"MaskPerClass(overlap={list(self.above)}) lacks {summarise(beside)}, of which there are masks: "
                    f"list every class, the one that lies above all others first{did_you_mean(beside[0], self.above)}"
                )
            self._found = root, found
        return self._found[1]

    def _classes(self, found: ClassFiles) -> list[str]:
        """In the order of their values, from 1."""
        return found.labels if self.classes is None else list(self.classes)

    def _sample(self, name: str, found: ClassFiles, masks: Path) -> Sample:
        image, mine = located(found.image_of(name)), found.masks.get(name, {})
        classes = self._classes(found)
        lowest_first = sorted(mine, key=lambda each: -self.above.index(each) if self.above else classes.index(each))
        files = tuple((classes.index(each) + 1, located(found.mask_files[mine[each]])) for each in lowest_first)
        united = os.path.join(masks, self.names.mask_for(found.images[name]) or name)
        return Sample(name, image, ClassMasks(united, image, files, not self.above, self.threshold))

    def _refuse_orphans(
        self,
        samples: Sequence[Sample],
        lacking: Mapping[str, Sequence[str]],
        found: ClassFiles,
        images: Path,
        masks: Path,
    ) -> None:
        mismatches = Mismatches(images, masks)
        named = [f"{name} ({', '.join(classes)})" for name, classes in lacking.items()]
        mismatches.add(
            f"{len(lacking)} of {len(found.images)} images in {images} have no mask of some class in {masks}: "
            f"{summarise(named)}; add the masks, or write missing: absent if such images show none of the class",
            [
                Orphan("orphan_image", found.image_of(name), f"has no mask of {', '.join(classes)} in {masks}")
                for name, classes in lacking.items()
            ],
        )
        mismatches.add_masks_alone(found.alone, [found.mask_files[file] for file in found.alone])
        end = self.names.mask_suffix
        mismatches.add(
            f"{len(found.others)} files in {masks} are named as masks but for their suffix, which is not {end!r}: "
            f"{summarise(found.others)}; save them so, mend mask_name, or name them in skip",
            [
                Orphan("lossy_mask", found.mask_files[file], f"{LOSSY}: save it as {end}")
                if file.lower().endswith(LOSSY_SUFFIXES)
                else Orphan("orphan_mask", found.mask_files[file], f"is named as a mask, but is no {end}")
                for file in found.others
            ],
        )
        lost = {file for sample in samples for file in _files_of(sample) if not os.path.isfile(file)}
        mismatches.add_lost(sorted(lost))
        mismatches.refuse([sample for sample in samples if not lost.intersection(_files_of(sample))])


def _files_of(sample: Sample) -> list[Path]:
    """Image and masks of a sample, if they are files of their own."""
    files = [sample.image, *(file for _, file in sample.mask.files)] if isinstance(sample.mask, ClassMasks) else []
    return [file for file in files if isinstance(file, Path)]
