"""An exported file as what computes: ``.onnx`` or ``.pt2``, with the transforms and the inference that it names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from lightning_seg.data.evaluation import EvaluationImages, evaluation_of_settings, restore_evaluation
from lightning_seg.described import restore
from lightning_seg.errors import CheckpointError, ConfigError
from lightning_seg.exporting.metadata import Metadata
from lightning_seg.exporting.running import ExportedNetwork, Output, require_export_extra
from lightning_seg.inference import WHOLE, Inference, Losses
from lightning_seg.inference.temperature import LEAST
from lightning_seg.structures import Batch, DatasetInfo, DenseScores, Item, Placement


@dataclass(frozen=True)
class _Answer:
    """As :class:`lightning_seg.inference.Answer`."""

    scores: Sequence[DenseScores]
    input_sizes: Sequence[tuple[int, int]]
    losses: Sequence[Losses]


class FileNetwork:
    """Implements :class:`lightning_seg.trained.module_network.Network`.

    The graph takes an image as the network saw it and as a whole. Transforms of evaluation and a sliding window, which
    are not in it, are done here as for a module; all but flips and padding needs a file that gives probabilities.

    Args:
        path: of the file. **A .pt2 file is a program**: only give one that you trust.
        device: to compute on.

    Raises:
        CheckpointError: if it cannot be read, or lacks the probabilities that its ``model.inference`` needs.
        DependencyError: if ONNX Runtime is missing.
    """

    batch_size = 1

    def __init__(self, path: Path, device: torch.device) -> None:
        self.path = path
        self.device = device
        self.network = ExportedNetwork(path, device=str(device))
        metadata = self.network.metadata
        self._gives_probabilities = "probabilities" in metadata.outputs
        try:
            self.images = _images_of(metadata)
            self.inference: Inference = restore(metadata.inference, Inference, "inference") or WHOLE
        except (ConfigError, CheckpointError) as error:
            raise CheckpointError(f"exported file {path} cannot be used here: {error}") from error
        if self.inference is not WHOLE:
            self.require_probabilities("model.inference")
        self._has_warned = False

    def label_maps(self, batch: Batch) -> list[Tensor]:
        if self.inference is not WHOLE or (self._gives_probabilities and any("placement" in item for item in batch)):
            return self.inference.evaluate(self._ask, batch)[0]
        return [self._placed(self._run(item).mask[0], item) for item in batch]

    def probabilities(self, batch: Batch) -> list[Tensor]:
        self.require_probabilities("Result.probabilities")
        return self.inference.probabilities(self._ask, batch, self.network.metadata.temperature)

    def require_probabilities(self, what: str) -> None:
        """Refuse what needs probabilities where the file gives none.

        Raises:
            CheckpointError: names ``what``.
        """
        if not self._gives_probabilities:
            raise CheckpointError(
                f"{what} needs probabilities, but exported file {self.path} gives label maps alone: export it with "
                "--probabilities"
            )

    def _ask(self, batch: Batch) -> _Answer:
        """Logarithms of probabilities are logits, but for a constant of each pixel, which changes no class.

        That holds where logits differ by less than 87 times the file's temperature; beyond, probabilities are 0 in
        float32. The temperature is taken out here: windows and views are blended without it.
        """
        scores, temperature = [], self.network.metadata.temperature
        for item in batch:
            found = self._run(item).probabilities
            assert found is not None
            scores.append(DenseScores(found[0].float().clamp(min=LEAST).log() * temperature, 1))
        sizes = [(item["image"].shape[1], item["image"].shape[2]) for item in batch]
        return _Answer(scores, sizes, [{} for _ in batch])

    def _run(self, item: Item) -> Output:
        return self.network(item["image"][None])

    def _placed(self, mask: Tensor, item: Item) -> Tensor:
        """The label map at the stored size: cut out, turned back and, where that is needed, taken to the nearest."""
        size = (item.get("height", mask.shape[0]), item.get("width", mask.shape[1]))
        place = item.get("placement") or Placement(0, 0, mask.shape[0], mask.shape[1])
        shown = mask[place.top : place.top + place.height, place.left : place.left + place.width]
        shown = shown.flip([axis for axis, mirrored in enumerate((place.upside_down, place.mirrored)) if mirrored])
        if shown.shape == size:
            return shown.contiguous()
        if not self._has_warned:
            self._has_warned = True
            rank_zero_warn(
                f"exported file {self.path} gives label maps alone, which are resized to the stored size by their "
                "nearest pixels: export it with --probabilities for the label maps of predict"
            )
        rows, columns = (
            torch.from_numpy(((np.arange(length) + 0.5) * have / length).astype(np.int64))
            for length, have in zip(size, shown.shape, strict=True)
        )
        return shown[rows[:, None], columns]


def without_gpu(path: Path) -> bool:
    """Whether what runs a file has no use of a GPU, as the usual ONNX Runtime.

    Raises:
        DependencyError: if ONNX Runtime is missing.
    """
    if path.suffix != ".onnx":
        return False
    return "CUDAExecutionProvider" not in require_export_extra("onnxruntime").get_available_providers()


def _images_of(metadata: Metadata) -> EvaluationImages:
    if metadata.evaluation is not None:
        return restore_evaluation(metadata.evaluation, metadata.class_names, metadata.ignore_index)
    settings = {"data.eval_transforms": list(metadata.eval_transforms)}
    found = evaluation_of_settings(settings, metadata.class_names, metadata.ignore_index)
    found.info = DatasetInfo(metadata.class_names, metadata.ignore_index, metadata.palette)
    return found
