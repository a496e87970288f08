"""What a user asks an export for, and what of it cannot be written."""

import os
from dataclasses import dataclass
from pathlib import Path

from lightning_seg.checkpoints.evaluated import EXPORTED
from lightning_seg.errors import ConfigError
from lightning_seg.exporting.running import ONNX_LIBRARIES, require_export_extra


@dataclass(frozen=True)
class Wish:
    """What is to be exported.

    Attributes:
        output: the file, whose suffix says of which kind.
        images: an image, folder or pattern that the certificate is about; None: the run's validation images.
        most: images at most.
        probabilities: whether the file gives these as well.
        half: whether it computes in float16.
        int8: whether it computes in 8 bits.
        max_drop: points of mIoU that 8 bits may cost.
    """

    output: Path
    images: str | None = None
    most: int = 100
    probabilities: bool = False
    half: bool = False
    int8: bool = False
    max_drop: float = 1.0

    @property
    def precision(self) -> str:
        """What the network computes in."""
        return "int8" if self.int8 else "float16" if self.half else "float32"

    def refuse_impossible(self) -> None:
        """Raise a ConfigError for what cannot be written, before anything slow begins."""
        output, suffix, folder = self.output, self.output.suffix, self.output.absolute().parent
        if suffix not in (*EXPORTED, ".pth"):
            raise ConfigError(f"--output {output} ends in {suffix or 'nothing'}, but .onnx, .pt2 or .pth is needed")
        if self.half and self.int8:
            raise ConfigError("--half and --int8 exclude each other: give one")
        if self.int8 and suffix != ".onnx":
            raise ConfigError(
                f"--int8 is for ONNX Runtime, but --output {output} ends in {suffix}: let it end in .onnx"
            )
        if suffix == ".pth" and (self.half or self.probabilities):
            raise ConfigError(
                f"Detectron2, which reads {output}, knows neither --half nor --probabilities: leave them out"
            )
        if self.most < 1:
            raise ConfigError(f"--num_images is {self.most}, but must be at least 1")
        if self.max_drop < 0:
            raise ConfigError(f"--max_drop is {self.max_drop}, but points of mIoU from 0 on are needed")
        if not folder.is_dir():
            raise ConfigError(f"--output {output}: its folder {folder} does not exist: make it first")
        files = [output, *([output.with_suffix(".yaml")] if suffix == ".pth" else [])]
        if found := [file for file in files if file.exists()]:
            raise ConfigError(f"{found[0]} exists: remove it, or give another --output")
        if not os.access(folder, os.W_OK):
            raise ConfigError(f"--output {output}: its folder {folder} cannot be written to")
        if suffix == ".onnx":
            for name in ONNX_LIBRARIES:
                require_export_extra(name)
