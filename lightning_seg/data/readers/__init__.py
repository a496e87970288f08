"""Source formats, one a file."""

from lightning_seg.data.readers.folder import Folder
from lightning_seg.data.readers.reader import Reader
from lightning_seg.data.readers.synthetic import Synthetic

__all__ = ["Folder", "Reader", "Synthetic"]
