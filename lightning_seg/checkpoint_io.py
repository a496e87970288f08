"""How checkpoints get to the disk and back: written whole or not at all, read without running code."""

from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO

from lightning_seg.files import replacing
from lightning_seg.models.weights import read_checkpoint


class DurableCheckpointIO(TorchCheckpointIO):
    """Lightning's plugin, but a file under a checkpoint's name is always complete.

    Lightning writes to the folder for temporary files and moves the result without syncing it: where that folder is on
    another file system, a kill in between leaves half a checkpoint.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        with replacing(Path(path)) as file:
            torch.save(checkpoint, file)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint into memory on the CPU; no argument can make it run code in the file.

        Raises:
            CheckpointError: if the file is damaged or holds more than tensors and plain values.
        """
        # Not mapped: optimisers keep the tensors, and the file may be replaced from another machine.
        return read_checkpoint(Path(path), f"checkpoint {path}", mmap=False)
