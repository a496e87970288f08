"""Finds the files and folders that names in configurations, lists and tables mean."""

import os
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import cache
from glob import has_magic
from pathlib import Path, PurePath

from pytorch_lightning.utilities import rank_zero_info

from lightning_seg.config_paths import expanded
from lightning_seg.data.archives.places import exists, is_file, is_folder, names_in, within
from lightning_seg.data.readers.walking import entries_below
from lightning_seg.errors import ConfigError, DataError
from lightning_seg.structures import summarise


def resolve(path: str | Path, root: Path | None) -> Path:
    """The file or folder that a path of the configuration means.

    ``~`` and ``$VARS`` are expanded; a relative path is below ``root``. A file that really has such a sign in its name
    is found, too, and so is one that stores ä as two characters.
    """
    given = os.fspath(path)
    places = [name if root is None else os.path.join(root, name) for name in (expanded(given), given)]
    finder = Finder()
    for place in places:
        if (found := finder.existing(place)) is not None:
            return Path(found)
    return Path(places[0])


def spellings(name: str) -> Iterator[str]:
    """The paths that a name in a list or table may mean: as it is, then as Windows or a shell reads it."""
    yield name
    if "\\" in name:
        yield name.replace("\\", "/")
    if name != name.strip():
        yield name.strip()
    if (other := expanded(name)) != name:
        yield other


class Finder:
    """Finds the files that names mean; each folder that must be searched is listed once."""

    def __init__(self) -> None:
        self._folders: dict[str, str | None] = {}
        self._listed: dict[str, dict[str, list[str]]] = {}

    def find(
        self, name: str, folders: Sequence[Path], suffixes: Sequence[str] = ("",), *, any_case: bool = False
    ) -> list[Path]:
        """The files that a name may mean, in the first of the folders that has any; more than one: it is ambiguous.

        Args:
            name: relative to one of the folders, or absolute.
            folders: where to look.
            suffixes: what may follow the name.
            any_case: the name is made from a pattern, so that it also means every file whose suffix differs in case.
                Otherwise it means such a file only where no file has the very name.

        Raises:
            DataError: if a folder cannot be listed.
        """
        for spelling in spellings(name):
            for folder in folders:
                place = os.path.join(folder, spelling)
                found = [file for suffix in suffixes for file in self._files(place + suffix, any_case)]
                if found:
                    return [Path(file) for file in dict.fromkeys(found)]
        return []

    def existing(self, path: str) -> str | None:
        """The path, or one that differs only in how it stores an ä; None where neither exists."""
        if exists(path):
            return path
        above, name = os.path.split(path.rstrip("/"))
        if path.isascii() or not name or (folder := self.existing(above or os.curdir)) is None:
            return None
        alike = self._entries(folder).get(_key(name), []) if is_folder(folder) else []
        return next((os.path.join(folder, entry) for entry in alike if _composed(entry) == _composed(name)), None)

    def _files(self, path: str, any_case: bool) -> list[str]:
        if not any_case and is_file(path):
            return [path]
        above, name = os.path.split(path)
        if above not in self._folders:
            folder = self.existing(above or os.curdir)
            self._folders[above] = folder if folder is not None and is_folder(folder) else None
        if (folder := self._folders[above]) is None:
            return []
        entries = self._entries(folder).get(_key(name), ())
        return [file for entry in entries if is_file(file := os.path.join(folder, entry))]

    def _entries(self, folder: str) -> dict[str, list[str]]:
        """Names in a folder, by what they have in common with those that are written otherwise."""
        if folder not in self._listed:
            entries: dict[str, list[str]] = {}
            for name in names_in(folder):
                entries.setdefault(_key(name), []).append(name)
            self._listed[folder] = entries
        return self._listed[folder]


def _key(name: str) -> str:
    stem, suffix = os.path.splitext(_composed(name))
    return stem + suffix.lower()


def _composed(name: str) -> str:
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def why_missing(path: str | Path, settings: str = "data.root") -> str:
    """Say why a path was not found, and what to do: ``… does not exist: check data.root``."""
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(path):
            return (
                f"{path} is a link that leads nowhere: fetch what it links to (git annex get, dvc pull), or remove it"
            )
    except OSError as error:
        return f"{path} cannot be opened ({error.strerror}): check {settings}"
    except ValueError:  # it holds what no file name can
        pass
    else:
        return f"{path} is no file: check {settings}"
    if (inside := within(path)) is not None:
        there = summarise(sorted(inside[0].folders[""])) or "nothing"
        return f"{path} does not exist (its archive holds {there}): check {settings}"
    return f"{path} does not exist: check {settings}"


def matching_folders(setting: str, given: str, root: Path | None) -> dict[str, Path]:
    """The folder that a setting names, under an empty name; with wildcards, all that match.

    Args:
        setting: its name, for messages.
        given: a path, or one with ``*``, ``?`` or ``[…]`` in some of its parts, such as ``*/images``.
        root: what it is relative to.

    Returns:
        Folders by what their wildcards stand for, joined by ``/``.

    Raises:
        ConfigError: if a part is ``**``.
        DataError: if there is none.
    """
    folder = resolve(given, root)
    if is_folder(folder):
        return {"": folder}
    parts = PurePath(expanded(given)).parts
    first = next((place for place, part in enumerate(parts) if has_magic(part)), None)
    if first is None:
        raise DataError(f"folder of {setting} " + why_missing(folder, f"data.root and the reader's {setting}"))
    if "**" in parts:
        raise ConfigError(
            f"{setting}: {given!r} holds **: write one * for each folder; what lies deeper is found so too"
        )
    found: dict[tuple[str, ...], Path] = {(): resolve(os.path.join("", *parts[:first]), root)}
    if not is_folder(top := found[()]):
        raise DataError(f"folder of {setting} " + why_missing(top, f"data.root and the reader's {setting}"))
    for part in parts[first:]:
        wild = has_magic(part)
        found = {
            (*names, inner) if wild else names: folder / inner
            for names, folder in found.items()
            for inner in (_folders_like(folder, part) if wild else [part])
            if is_folder(folder / inner)
        }
    if not found:
        raise DataError(f"no folder matches the reader's {setting} {folder}: check data.root and {setting}")
    return {"/".join(names): folder for names, folder in found.items()}


def files_of(setting: str, given: str, root: Path | None, skip: Sequence[str]) -> dict[str, Path]:
    """Files below a folder, or below all folders that match, by scene, sub-folders and file name.

    Args:
        setting: its name, for messages.
        given: as :func:`matching_folders` takes it.
        root: what it is relative to.
        skip: patterns of file names that are left out.
    """
    return {
        "/".join([*([scene] if scene else []), *path.parts[len(folder.parts) :]]): path  # relative_to takes longer
        for scene, folder in matching_folders(setting, given, root).items()
        for path in entries_below(folder)
        if not any(fnmatchcase(path.name, skipped) for skipped in skip)
    }


def examples(files: Collection[str]) -> str:
    """What is there instead, in brackets."""
    return f" (there is {summarise(sorted(files), limit=3)})" if files else " (it is empty)"


@cache
def tell_once(message: str) -> None:
    """Say something of a data set, though several readers list the same files, as parts of a split do."""
    rank_zero_info(message)


def _folders_like(folder: Path, pattern: str) -> list[str]:
    return sorted(name for name in names_in(folder) if not name.startswith(".") and fnmatchcase(name, pattern))
