"""Which images ``predict`` is asked for, and what beside them it leaves out."""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from pytorch_lightning.utilities import rank_zero_info

from lightning_seg.data.archives.places import is_file, is_folder, located, members_like, within
from lightning_seg.data.readers import Coco, Folder, Labelme, Reader
from lightning_seg.data.readers.finding import Finder, resolve
from lightning_seg.data.readers.folder import IMAGE_SUFFIXES
from lightning_seg.data.readers.names import common_folder, unique_names
from lightning_seg.data.readers.reader import OrphanError, Wrapper
from lightning_seg.data.readers.text import lines_of, read_text
from lightning_seg.data.readers.walking import files_below
from lightning_seg.data.reading import read_header
from lightning_seg.data.reading.class_masks import ClassMasks
from lightning_seg.data.reading.video import frames_of, is_video
from lightning_seg.errors import DataError, UnfitImageError, UnreadableError
from lightning_seg.files import absolute
from lightning_seg.sources import AnyFile
from lightning_seg.structures import Sample, summarise

_JPEG = (".jpg", ".jpeg", ".jpe", ".jfif")
_SUFFIXES = (
    *IMAGE_SUFFIXES, *_JPEG, ".gif", ".jp2", ".j2k", ".jpf", ".jpx", ".avif", ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip
"""What is taken for an image in a folder, in any case: all that is read, but for videos."""

_LIST_SUFFIX = ".txt"


def images_to_predict(given: Sequence[str] | str, root: Path | None, readers: Sequence[Reader]) -> list[Sample]:
    """The image itself, all images below a folder, what a glob pattern matches, what a list names, a video's frames.

    Masks that lie among the images are left out, and so are a folder's files of other kinds; both are told. What is
    named by itself and is not there is kept, for its reader to say so.

    Args:
        given: ``data.predict``, one or several: as typed in a shell; else below ``root``, as other paths of the data.
        root: ``data.root``.
        readers: of the experiment, which know masks.

    Returns:
        Each file once; frames have the name of their video and their number, such as ``clip/000012``.

    Raises:
        DataError: if there is no image.
    """
    if isinstance(given, str):
        files, folder = _named_by(given, root, readers)
    else:
        found = [_named_by(one, root, readers, alone=len(given) == 1) for one in given]
        files = [file for some, _ in found for file in some]
        folder = found[0][1] if len(found) == 1 else None
    if not files:
        raise DataError(f"data.predict {given!r} names no image: expected files, folders, globs, lists or videos")
    files = _each_once(files)
    if folder is None:
        whole = [absolute(file) for file in files]
        shared = common_folder(whole)
        return _samples(files, [file.relative_to(shared) for file in whole])
    return _samples(files, [file.relative_to(folder) for file in files])


def _each_once(files: Sequence[Path]) -> list[Path]:
    """Those that come first of the files that lie in one folder under one name."""
    folders = {folder: os.path.realpath(folder) for folder in {file.parent for file in files}}
    once: dict[tuple[str, str], Path] = {}
    for file in files:
        once.setdefault((folders[file.parent], file.name), file)
    return list(once.values())


def _samples(files: Sequence[Path], called: Sequence[Path]) -> list[Sample]:
    """Images and the frames of videos, named by what each file is called."""
    relative = dict(zip(files, called, strict=True))
    videos = [file for file in files if is_video(file)]
    names = dict(zip(videos, unique_names([relative[video] for video in videos]), strict=True))
    images: list[AnyFile] = []
    whole = []
    for file in files:
        if file in names and within(file) is not None:
            raise DataError(f"video {file} lies in an archive: unpack it; videos are read from files of their own")
        if file not in names:
            images.append(located(file))
            whole.append(os.fspath(relative[file]))
            continue
        for frame in frames_of(file):
            images.append(frame)
            whole.append(f"{names[file]}/{frame.number:06d}")
    return [Sample(name, image) for name, image in zip(unique_names(whole), images, strict=True)]


def _named_by(
    given: str, root: Path | None, readers: Sequence[Reader], *, alone: bool = True
) -> tuple[list[Path], Path | None]:
    """The files that one text means, and the folder that their names are relative to; None: the one that holds all.

    Raises:
        DataError: if there is no image; not where others are given too.
    """
    for base in [None] if root is None else [None, root]:
        source = resolve(given, base)
        if is_file(source) and not is_folder(source):
            if source.suffix.lower() == _LIST_SUFFIX:
                return _listed(source)
            return [source], source.parent
        if found := _files_at(source):
            return _images_among(given, source, found, root, readers)
    if alone:
        raise DataError(
            f"data.predict {given!r} matches no image: expected a file, a folder, a glob, a list (.txt) or a video"
        )
    return [source], None


def _listed(file: Path) -> tuple[list[Path], Path | None]:
    """The files that a list names, a line each, relative to it; also those that are not there."""
    finder = Finder()
    files = []
    for _, line in lines_of(read_text(file, "data.predict", raw_names=True)):
        found = finder.find(line, [file.parent])
        files.append(found[0] if found else file.parent / line.strip())
    if not files:
        raise DataError(f"data.predict {file} is empty: it should hold the path of one image or video a line")
    below = all(path.is_relative_to(file.parent) and ".." not in path.parts for path in files)
    return files, file.parent if below else None


def _images_among(
    given: str, source: Path, found: Sequence[Path], root: Path | None, readers: Sequence[Reader]
) -> tuple[list[Path], Path | None]:
    """The images among the files of a folder or of a glob."""
    others = [path for path in found if is_folder(source) and path.suffix.lower() not in _SUFFIXES]  # a glob says which
    paths = sorted(set(found) - set(others))
    masks = _masks_among(paths, root, readers)
    left = [path for path in paths if path not in masks]
    if others:
        count = Counter(path.suffix.lower() or "no suffix" for path in sorted(others))
        kinds = ", ".join(f"{suffix} ({number})" for suffix, number in count.most_common())
        rank_zero_info(f"data.predict leaves out files without the suffix of an image ({len(others)}): {kinds}")
    if masks:
        rank_zero_info(
            f"data.predict leaves out the masks among the images ({len(masks)}): "
            f"{summarise([str(path) for path in sorted(masks)])}; name one alone to predict it"
        )
    if not left:
        raise DataError(
            f"data.predict {given!r} holds no image ({', '.join(_SUFFIXES)}), but masks ({len(masks)}) and other files "
            f"({len(others)}): name a folder of images, or an image by its own path"
        )
    return left, source if is_folder(source) else None


def _files_at(source: Path) -> list[Path]:
    """All files below a folder or of a glob, but for hidden ones, each once and without ``..`` in its path."""
    if is_folder(source):
        return files_below(source)
    if within(source) is not None:
        return sorted(members_like(source))
    matches = {Path(os.path.normpath(match)) for match in glob.glob(str(source), recursive=True)}
    return sorted(path for path in matches if path.is_file() and not path.name.startswith("."))


def _masks_among(paths: Sequence[Path], root: Path | None, readers: Sequence[Reader]) -> set[Path]:
    """Those that a reader of the experiment has as masks, or would have if it read their folder."""
    suspects = {path for path in paths if path.suffix.lower() not in _JPEG}
    if not suspects:
        return set()
    masks: set[Path] = set()
    for reader in readers:
        innermost = reader
        while isinstance(innermost, Wrapper):
            innermost = innermost.of
        if isinstance(innermost, Folder):
            masks.update(_named_as_masks(paths, innermost))
        if not isinstance(innermost, Coco | Labelme):  # whose masks are no files
            masks.update(_listed_masks(reader, root))
    known = {mask.resolve() for mask in masks}
    return {path for path in suspects if path.resolve() in known}


def _named_as_masks(paths: Sequence[Path], reader: Folder) -> Iterator[Path]:
    """What is named as the mask of another image in the same folder, and has its size."""
    if reader.names.whole:  # they lie in other folders
        return
    there = set(paths)
    for path in paths:
        name = reader.names.mask_for(path.name)
        mask = path if name is None else path.with_name(name)
        if mask != path and mask in there and _size(mask) == _size(path) is not None:
            yield mask


def _size(path: Path) -> tuple[int, int] | None:
    try:
        return read_header(located(path), "image").upright
    except (UnreadableError, UnfitImageError):  # is told where it is read
        return None


def _listed_masks(reader: Reader, root: Path | None) -> Iterator[Path]:
    """All masks of a reader; none where its data are not there, which prediction does not need."""
    try:
        samples = reader.samples(root)
    except OrphanError as error:
        samples = error.samples
    except DataError:
        return
    finally:
        reader.release()
    for sample in samples:
        if isinstance(sample.mask, ClassMasks):
            yield from (Path(str(file)) for _, file in sample.mask.files)
        elif sample.mask_file is not None:
            yield Path(str(sample.mask_file))
