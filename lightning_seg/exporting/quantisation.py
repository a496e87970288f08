"""Quantises an ONNX file to 8 bits, with the ranges that validation images show."""

import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lightning_seg.data.dataset import SegmentationDataset
from lightning_seg.errors import ConfigError
from lightning_seg.exporting.parity import Images, Run
from lightning_seg.exporting.running import require_export_extra
from lightning_seg.exporting.writing import quiet
from lightning_seg.metrics import Evaluation

QUANTISED = ("Conv", "Gemm", "MatMul")
"""Operations that are computed in 8 bits; all others stay as they are."""


def quantise(source: Path, target: Path, batches: Iterable[Images]) -> None:
    """Write a file whose convolutions and products of matrices are computed in 8 bits.

    Weights have a scale for each output channel and 7 bits, so that sums overflow on no CPU, with or without VNNI.

    Args:
        source: an ONNX file in float32.
        target: that is written.
        batches: images that ranges are taken from.

    Raises:
        DependencyError: if ONNX Runtime is missing.
    """
    require_export_extra("onnxruntime")
    require_export_extra("onnx")
    with quiet():
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        class Reader(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
            """Gives one batch after another."""

            def __init__(self) -> None:
                self.batches: Iterator[Images] = iter(batches)

            def get_next(self) -> dict[str, Any] | None:
                batch = next(self.batches, None)
                return None if batch is None else {"image": batch.pixels.numpy()}

        with tempfile.TemporaryDirectory() as folder:
            prepared = Path(folder, "prepared.onnx")
            quant_pre_process(source, prepared, skip_symbolic_shape=True, skip_optimization=True)
            quantize_static(
                prepared,
                target,
                Reader(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(QUANTISED),
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )


def mean_iou(run: Run, dataset: SegmentationDataset, indices: Sequence[int], classes: Sequence[str]) -> float:
    """The mIoU in percent of a file on labelled images, at the size that the network sees them at.

    Raises:
        ConfigError: if no pixel of them has a label.
    """
    evaluation = Evaluation(list(classes), dataset.info.ignore_index, "detectron2")
    for index in indices:
        item = dataset[index]
        evaluation.update(run(item["image"][None])[0], item["sem_seg"], index, None)
    figure = evaluation.report("val").logged["mIoU"]
    if math.isnan(figure):
        raise ConfigError("the validation images show no class, so that mIoU cannot be measured")
    return 100 * figure
