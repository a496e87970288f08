"""What every source format offers: a list of samples."""

import os
from abc import ABC, abstractmethod
from pathlib import Path

from lightning_seg.structures import Sample


class Reader(ABC):
    """Turns one source format into a list of :class:`~lightning_seg.structures.Sample`.

    A reader only finds files; decoding and checking their content is the data set's work. Relative paths
    in its arguments are relative to the ``root`` that the data module passes (``data.root``).
    """

    def prepare(self, root: Path | None) -> None:
        """Write to disk whatever must exist before reading; called once a machine, before :meth:`samples`."""
        return

    @abstractmethod
    def samples(self, root: Path | None) -> list[Sample]:
        """Find the samples, sorted by name.

        Raises:
            DataError: if there are none, or if images and masks do not match one to one.
        """


def resolve(path: str | Path, root: Path | None) -> Path:
    """Expand ``~`` and ``$VARS`` and put a relative path below ``root``."""
    expanded = Path(os.path.expandvars(path)).expanduser()
    return expanded if root is None else root / expanded
