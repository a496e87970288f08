"""Patterns of file names with named parts, such as ``{scene}/rgb/{id}.tif``, and how images and masks go by them."""

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lightning_seg.data.readers.finding import tell_once
from lightning_seg.data.readers.names import sample_name
from lightning_seg.errors import ConfigError
from lightning_seg.hints import did_you_mean
from lightning_seg.structures import summarise

_TOKEN = re.compile(r"(\{\{|\}\}|\{[A-Za-z_][A-Za-z0-9_]*\})")
"""A doubled brace, which stands for itself, or a named part."""

FOLDER = ""
"""The part that stands for the sub-folder, where a pattern is of the file's name alone."""


class NamePattern:
    """A file name with named parts; each stands for one or more characters, but for no ``/``.

    Args:
        setting: what it is called, for messages, such as ``Folder(image_name=…)``.
        template: parts in braces; a part that comes again stands for the same. ``{{`` is a brace.
        whole: it is the whole path below a folder; else only the last name, in any sub-folder.
        choices: all that a part may stand for; anything, where it has none.

    Raises:
        ConfigError: if it has no part, a stray brace, or two parts with nothing between them.
    """

    def __init__(
        self, setting: str, template: str, *, whole: bool, choices: Mapping[str, Collection[str]] | None = None
    ) -> None:
        self.whole = whole
        self._pieces = [_piece(setting, token) for token in _TOKEN.split(template) if token]
        if any(one.part and two.part for one, two in zip(self._pieces, self._pieces[1:], strict=False)):
            raise ConfigError(f"{setting} has two parts with nothing between them: write what separates them")
        self.parts = tuple(dict.fromkeys(piece.part for piece in self._pieces if piece.part))
        if not self.parts:
            raise ConfigError(f"{setting} must hold a part that image and mask share, such as {{stem}}")
        known: set[str] = set()
        expression = ""
        for part, text in self._pieces:
            if part in known:
                expression += f"(?P={part})"
            elif part:
                of = sorted((choices or {}).get(part, ()), key=len, reverse=True)
                expression += f"(?P<{part}>{'|'.join(map(re.escape, of)) or '[^/]+'})"
                known.add(part)
            else:
                expression += re.escape(text)
        self._expression = re.compile(expression, re.DOTALL)

    def match(self, path: str) -> dict[str, str] | None:
        """What the parts stand for in a relative path without suffix; None where it is named otherwise."""
        folder, slash, name = ("", "", path) if self.whole else path.rpartition("/")
        found = self._expression.fullmatch(name)
        return None if found is None else {FOLDER: folder + slash, **found.groupdict()}

    def filled(self, parts: Mapping[str, str]) -> str:
        """The path in which the parts stand for this; a part that is not given stays as it is."""
        return parts.get(FOLDER, "") + "".join(
            text if not part else parts.get(part, f"{{{part}}}") for part, text in self._pieces
        )


def escaped(text: str) -> str:
    """A text as a pattern has it: braces twice."""
    return text.replace("{", "{{").replace("}", "}}")


class _Piece(NamedTuple):
    """A part by its name, or else a text."""

    part: str
    text: str


def _piece(setting: str, token: str) -> _Piece:
    if token in ("{{", "}}"):
        return _Piece("", token[0])
    if _TOKEN.fullmatch(token):
        return _Piece(token[1:-1], "")
    if "{" in token or "}" in token:
        raise ConfigError(
            f"{setting} has a brace that belongs to no part: write a part as {{name}}, of letters, digits and _, and a "
            "brace of a file's name twice"
        )
    return _Piece("", token)


class NamePair:
    """How the names of images and masks go together: by the parts that both have.

    Where neither pattern has a ``/``, an image and its mask also lie in the same sub-folder. Otherwise, both are whole
    paths below the folder of images and the folder of masks.

    Args:
        reader: the class of the reader, for messages.
        image_name: of images; without a suffix, it means all of ``image_suffixes``.
        mask_name: of masks, with suffix.
        image_suffixes: in lower case.
        own: parts that only ``mask_name`` has.
        choices: all that a part may stand for.

    Raises:
        ConfigError: if ``mask_name`` has other parts than ``image_name``.
    """

    def __init__(
        self,
        reader: str,
        image_name: str,
        mask_name: str,
        image_suffixes: Sequence[str],
        own: Collection[str] = (),
        choices: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        self.reader, self.image_name, self.mask_name = reader, image_name, mask_name
        self.known_suffixes = tuple(image_suffixes)
        self.whole = "/" in image_name or "/" in mask_name
        where = f"{reader}(image_name={image_name!r})"
        stem, suffix = os.path.splitext(image_name)
        self.image_suffixes = self.known_suffixes
        if suffix.lower() in image_suffixes:
            image_name, self.image_suffixes = stem, (suffix.lower(),)
        self.image = NamePattern(where, image_name, whole=self.whole)
        stem, self.mask_suffix = os.path.splitext(mask_name)
        where = f"{reader}(mask_name={mask_name!r})"
        self.mask = NamePattern(where, stem, whole=self.whole, choices=choices)
        if unknown := [part for part in self.mask.parts if part not in self.image.parts and part not in own]:
            there = ", ".join(f"{{{part}}}" for part in (*self.image.parts, *own))
            raise ConfigError(
                f"{where} has the part {{{unknown[0]}}}, which image_name {self.image_name!r} does not have; it may "
                f"have {there}{did_you_mean(unknown[0], self.image.parts)}"
            )
        self.shared = tuple(part for part in self.image.parts if part in self.mask.parts)
        if not self.shared:
            raise ConfigError(f"{where} has no part of image_name {self.image_name!r}: it says of no mask whose it is")

    def name_of(self, parts: Mapping[str, str]) -> str:
        """The name of the sample that a file with these parts belongs to."""
        return sample_name("/".join([parts[FOLDER], *(parts[part] for part in self.shared)]))

    def images(self, files: Iterable[str]) -> dict[str, list[str]]:
        """The files that are images, by the names of their samples.

        Args:
            files: relative paths.
        """
        return self._by_name(files, self.image, self.image_suffixes)

    def masks(self, files: Iterable[str], suffixes: Sequence[str] | None = None) -> dict[str, list[str]]:
        """The files that are masks, by the names of their samples; of other suffixes where those are given."""
        return self._by_name(files, self.mask, suffixes or [self.mask_suffix.lower()])

    def mask_for(self, image: str) -> str | None:
        """The path of an image's mask, with ``{…}`` for parts of its own; None where it is no image."""
        stem, _ = os.path.splitext(image)
        parts = self.image.match(stem)
        return None if parts is None else self.mask.filled(parts) + self.mask_suffix

    def tell_others(self, folder: Path, files: Iterable[str]) -> None:
        """Tell of images that are neither image nor mask of the data set: a whole scene may be spelt otherwise.

        Args:
            folder: of the images.
            files: relative paths of what was not taken.
        """
        others = sorted(file for file in files if os.path.splitext(file)[1].lower() in self.known_suffixes)
        if others:
            tell_once(
                f"{self.reader} leaves out {len(others)} files in {folder} that image_name {self.image_name!r} and "
                f"mask_name {self.mask_name!r} do not describe: {summarise(others)}; name them in skip if that is right"
            )

    def _by_name(self, files: Iterable[str], pattern: NamePattern, suffixes: Sequence[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for file in files:
            stem, suffix = os.path.splitext(file)
            if suffix.lower() in suffixes and (parts := pattern.match(stem)) is not None:
                found.setdefault(self.name_of(parts), []).append(file)
        return found
