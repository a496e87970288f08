"""Writes a traced graph as an ``.onnx`` or a ``.pt2`` file, with what it says of itself."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lightning_seg.exporting.metadata import KEY, Metadata
from lightning_seg.exporting.running import ONNX_LIBRARIES, require_export_extra

OPSET = 20
"""Of ONNX, of 2023: the first in which all that these networks do is there."""

_AXES = ("batch", None, "height", "width")
"""What the free sizes of ``image`` are called."""


def write_pt2(program: torch.export.ExportedProgram, path: Path, metadata: Metadata) -> None:
    """Write a graph as ``torch.export.load`` reads it."""
    with quiet():
        torch.export.save(program, path, extra_files={f"{KEY}.json": metadata.to_json()})


def write_onnx(program: torch.export.ExportedProgram, path: Path, metadata: Metadata) -> None:
    """Write a graph as ONNX, checked; weights beyond 2 GB lie beside it, in ``<name>.onnx.data``.

    Raises:
        DependencyError: if a library that this needs is missing.
        Exception: torch's own, of many kinds, where the network does what ONNX cannot say.
    """
    for name in ONNX_LIBRARIES:
        require_export_extra(name)
    with quiet():
        made: Any = torch.onnx.export(
            program,
            (),
            dynamo=True,
            opset_version=OPSET,
            input_names=["image"],
            output_names=list(metadata.outputs),
            verbose=False,
        )
    _name_sizes(made)
    for node in made.model.graph.all_nodes():
        node.metadata_props.clear()  # lines of code of the machine that exports
        if metadata.precision == "float16" and node.op_type in ("Conv", "ConvTranspose"):
            _halve_constants(node)
    made.model.metadata_props[KEY] = metadata.to_json()
    made.save(path)


def _halve_constants(node: Any) -> None:
    """Give a convolution float16 weights: where a float32 BN was folded into them, the exporter leaves float32."""
    from onnx_ir import DataType, tensor

    for value in node.inputs[1:]:
        if value is not None and value.const_value is not None and value.dtype == DataType.FLOAT:
            value.const_value = tensor(value.const_value.numpy().astype("float16"), name=value.name)
            value.dtype = DataType.FLOAT16


def _name_sizes(made: Any) -> None:
    """Call the free sizes what they are, in place of torch's symbols; those of outputs equal the input's."""
    from onnx_ir import Shape

    image, *_ = made.model.graph.inputs
    made.rename_axes({size.value: name for size, name in zip(image.shape, _AXES, strict=True) if name is not None})
    for output in made.model.graph.outputs:
        output.shape = Shape(["batch", *output.shape[1:-2], "height", "width"])


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what torch and ONNX say of their own inner workings from the user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
