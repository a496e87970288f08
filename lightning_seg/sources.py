"""Says where the bytes of an image or mask are: in a file of their own, or elsewhere."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import BinaryIO, TypeAlias


class ByteSource(ABC):
    """Where the bytes of one image or mask are, if not in a file of their own: a member of an archive, for example.

    A reader puts it into a :class:`~lightning_seg.structures.Sample` in place of a path; ``data/reading`` alone opens
    it. It is pickled with its sample and unpickled at every use, so it holds a few short fields. An index that many
    sources share stays outside of it. Sources of one class and one name are equal.
    """

    @abstractmethod
    def open(self) -> BinaryIO:
        """Open the bytes, so that they can be read from any place.

        Several processes and threads may have the same bytes open at once.

        Raises:
            FileNotFoundError: if the bytes are not there. Any other error means that they cannot be read.
        """

    @abstractmethod
    def __str__(self) -> str:
        """The name in messages and lists, such as ``archive.zip/member.png``; no other source has it."""

    def exists(self) -> bool:
        """Whether the bytes are there. A source that knows it without opening them says so here."""
        try:
            self.open().close()
        except FileNotFoundError:
            return False
        except Exception:  # a source may raise what it likes; reading says what is wrong
            return True
        return True

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and str(other) == str(self)

    def __hash__(self) -> int:
        return hash(str(self))


AnyFile: TypeAlias = Path | ByteSource
"""A file of its own, or bytes that lie elsewhere; ``str`` gives the name of either."""


def name_below(file: AnyFile, root: Path | None) -> str:
    """The name of a file relative to a folder, where it lies below it; else the whole name.

    >>> name_below(Path("data/images/1.png"), Path("data"))
    'images/1.png'
    """
    path = file if isinstance(file, Path) else Path(str(file))
    if root is not None and path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    return path.as_posix() if isinstance(file, Path) else str(file)
