"""Traces a graph whose sizes stay free: what torch can only trace at one size gives way to what gives the same."""

import importlib
import math
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from lightning_seg.errors import DependencyError
from lightning_seg.exporting import attention
from lightning_seg.exporting.graph import Graph
from lightning_seg.exporting.sizes import FreeSizes
from lightning_seg.models.adapters.foreign import Foreign
from lightning_seg.models.pooling import ClampedAveragePool
from lightning_seg.models.segmentor import Segmentor

EXAMPLE = (2, 1100, 1630)
"""Images, height and width that a graph is traced with, without computing: no number in a network is like them."""

MOST = (4096, 65536)
"""Images of a batch, and pixels of a side, that a traced graph takes at the most."""

_ASSUMED = ("expression Ne(", "expression 1 < ", "expression 2 <= ", "expression 0 < (Mod(", "expression Eq(Mod(")
"""How assertions begin that sizes differ, from 1 too, or that something is left over, or nothing, when one is divided.

The last is torch 2.11's, of a pool that halves.
"""


def free_copy(segmentor: Segmentor) -> Segmentor:
    """A copy in evaluation mode, in float32 on the CPU, that gives the same and can be traced at free sizes."""
    twin = deepcopy(segmentor).float().cpu().eval().requires_grad_(False)
    twin.to(memory_format=torch.contiguous_format)  # the other order depends on whether a size is 1
    for module in list(twin.modules()):
        for name, child in module.named_children():
            if isinstance(child, ClampedAveragePool):
                setattr(module, name, _WindowPool(child.window))
            elif isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size not in (1, (1, 1)):
                setattr(module, name, _GridPool(child.output_size))
    if isinstance(twin.head, Foreign):
        twin.head.by_losses = False  # reading logits on their way to the losses leaves the forward, which no tracer can
    return twin


def trace(graph: Graph, dtype: torch.dtype = torch.uint8) -> torch.export.ExportedProgram:
    """Trace a graph with batch, height and width free, from 1 up to :data:`MOST`.

    Args:
        graph: in evaluation mode.
        dtype: of the image.

    Raises:
        DependencyError: if this torch cannot leave sizes of 1 free.
        Exception: torch's own, of many kinds, where the network asks for numbers that only one size has.
    """
    batch, side = MOST
    dim = torch.export.Dim
    shapes = {
        0: dim("batch", min=1, max=batch),
        2: dim("height", min=1, max=side),
        3: dim("width", min=1, max=side),
    }
    number, height, width = EXAMPLE
    example = torch.zeros(number, len(graph.pixel_mean), height, width, dtype=dtype)
    settings: Any = importlib.import_module("torch.fx.experimental._config")
    if not hasattr(settings, "backed_size_oblivious"):
        raise DependencyError(
            f"torch {torch.__version__} cannot export a network for images of any size: install torch 2.11, the oldest "
            "that exports have been tried with, or newer: pip install --upgrade torch torchvision"
        )
    # Sizes of 1 are sizes like any other: torch takes them for constants otherwise.
    with torch.no_grad(), settings.patch(backed_size_oblivious=True), _traceable_parts(), FreeSizes():
        program = torch.export.export(
            graph,
            (example,),
            dynamic_shapes=(shapes,),
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )
    _let_sizes_be_equal(program)
    _divide_whole(program)
    _forget_tracing(program)
    return program


def _let_sizes_be_equal(program: torch.export.ExportedProgram) -> None:
    """Take out assertions that sizes differ, or that there is something to pad and crop.

    Where code has a short cut for equal sizes, such as a size of 1, torch traces what is done for different ones,
    which gives the same for equal ones, and asserts that no others come. ONNX has no such assertions; the certificate
    finds out where they are needed.
    """
    for node in list(program.graph.nodes):
        if node.target is torch.ops.aten._assert_scalar.default and any(one in node.args[1] for one in _ASSUMED):
            program.graph.erase_node(node)
    program.graph.eliminate_dead_code()
    program.graph_module.recompile()


def _divide_whole(program: torch.export.ExportedProgram) -> None:
    """Write a quotient that is rounded up, as timm pads by, in whole numbers: others cannot be saved as .pt2."""
    for node in list(program.graph.nodes):
        if node.target is math.ceil and node.args[0].target is operator.truediv:
            dividend, divisor = node.args[0].args
            with program.graph.inserting_before(node):
                floor = _call(program, operator.floordiv, _call(program, operator.neg, dividend), divisor)
                node.replace_all_uses_with(_call(program, operator.neg, floor))
            program.graph.erase_node(node)
    program.graph.eliminate_dead_code()
    program.graph_module.recompile()


def _call(program: torch.export.ExportedProgram, function: Callable[..., Any], *given: Any) -> torch.fx.Node:
    """A node that applies a function to numbers and to nodes of numbers."""
    node: torch.fx.Node = program.graph.call_function(function, given)
    node.meta["val"] = function(*(one.meta["val"] if isinstance(one, torch.fx.Node) else one for one in given))
    return node


def _forget_tracing(program: torch.export.ExportedProgram) -> None:
    """Take out the example, which would be saved, and which lines of code on this machine a node comes from."""
    program.example_inputs = None
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)


class _GridPool(nn.Module):
    """``nn.AdaptiveAvgPool2d`` as two products with matrices, which say what each cell averages."""

    def __init__(self, cells: Any) -> None:
        super().__init__()
        self.cells = cells if isinstance(cells, tuple) else (cells, cells)

    def forward(self, features: Tensor) -> Tensor:
        matrices = []
        for axis, given in zip((-2, -1), self.cells, strict=True):
            size = features.shape[axis]
            cells = size if given is None else given
            edges = torch.arange(cells + 1, device=features.device) * size
            matrices.append(_averages(edges[:-1] // cells, (edges[1:] + cells - 1) // cells, size, features))
        return _averaged(features, *matrices)


class _WindowPool(nn.Module):
    """:class:`ClampedAveragePool` in the same way."""

    def __init__(self, window: tuple[int, int]) -> None:
        super().__init__()
        self.window = window

    def forward(self, features: Tensor) -> Tensor:
        matrices = []
        for axis, window in zip((-2, -1), self.window, strict=True):
            size = features.shape[axis]
            clamped = torch.sym_min(window, size)
            ends = torch.arange(clamped, size + 1, device=features.device)
            matrices.append(_averages(ends - clamped, ends, size, features))
        return _averaged(features, *matrices)


def _averaged(features: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return rows @ features @ columns.transpose(0, 1)


def _averages(starts: Tensor, ends: Tensor, size: int, like: Tensor) -> Tensor:
    """A matrix (cells, size) whose product with a vector is its mean from each start up to each end."""
    index = torch.arange(size, device=like.device)
    inside = (index >= starts[:, None]) & (index < ends[:, None])
    return inside.to(like.dtype) / (ends - starts)[:, None].to(like.dtype)


@contextmanager
def _traceable_parts() -> Iterator[None]:
    """Let functions of Detectron2 and timm that make numbers of sizes give way to those that do not."""
    from detectron2.modeling.backbone import swin
    from detectron2.projects.point_rend import semantic_seg

    replacements: list[tuple[Any, str, Any]] = [
        (semantic_seg, "get_uncertain_point_coords_on_grid", _uncertain_points),
        (swin.BasicLayer, "forward", _swin_stage),
        (swin, "window_reverse", _joined_windows),
        *attention.replacements(),
        *(_parts_of_timm() if find_spec("timm") else []),
    ]
    before = [getattr(owner, name, None) for owner, name, _ in replacements]
    for owner, name, function in replacements:
        setattr(owner, name, function)
    try:
        yield
    finally:
        for (owner, name, _), function in zip(replacements, before, strict=True):
            if function is None:
                delattr(owner, name)
            else:
                setattr(owner, name, function)


def _parts_of_timm() -> list[tuple[Any, str, Any]]:
    rotary, padding = (importlib.import_module(f"timm.layers.{name}") for name in ("pos_embed_sincos", "padding"))
    return [(rotary, "float", torch.sym_float), (padding, "get_same_padding", _same_padding)]


def _same_padding(size: Any, kernel: int, stride: int, dilation: int) -> Any:
    """Pixels that TensorFlow's padding adds to a side, in whole numbers alone.

    timm's own rounds a quotient up. Where sizes are free, five of these in a row take minutes to trace, not seconds.
    """
    return max((kernel - 1) * dilation - (size - 1) % stride, 0)


def _swin_stage(self: Any, x: Tensor, height: Any, width: Any) -> tuple[Any, ...]:
    """One stage of Detectron2's Swin: which of its shifted windows' cells were neighbours, by the regions they are of.

    Takes and gives what ``BasicLayer.forward`` does.
    """
    from detectron2.modeling.backbone.swin import window_partition

    window = self.window_size
    sides = [(side + window - 1) // window * window for side in (height, width)]
    rows, columns = (
        (index >= side - window).float() + (index >= side - self.shift_size).float()
        for side in sides
        for index in (torch.arange(side, device=x.device),)
    )
    regions = (3 * rows[:, None] + columns)[None, :, :, None]
    of_windows = window_partition(regions, window).flatten(1)
    apart = of_windows[:, None] != of_windows[:, :, None]
    mask = apart.to(x.dtype) * -100.0
    for block in self.blocks:
        block.H, block.W = height, width
        x = block(x, mask)
    if self.downsample is None:
        return x, height, width, x, height, width
    return x, height, width, self.downsample(x, height, width), (height + 1) // 2, (width + 1) // 2


def _joined_windows(windows: Tensor, window_size: int, height: Any, width: Any) -> Tensor:
    """Windows (N·h·w, window, window, C) as features (N, height, width, C); takes what ``window_reverse`` takes.

    Detectron2's own divides to find N. The tracer makes a number of that quotient: the batch of its example.
    """
    rows, columns = height // window_size, width // window_size
    cells = windows.view(-1, rows, columns, window_size, window_size, windows.shape[-1])
    return cells.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, height, width, windows.shape[-1])


def _uncertain_points(uncertainty: Tensor, num_points: int) -> tuple[Tensor, Tensor]:
    """Indices (N, P) of the most uncertain cells of (N, 1, H, W), and their centres (N, P, 2), x and y from 0 to 1."""
    height, width = uncertainty.shape[-2:]
    indices = torch.topk(uncertainty.flatten(1), k=torch.sym_min(height * width, num_points), dim=1)[1]
    rows, columns = ((torch.arange(side, device=uncertainty.device) + 0.5) / side for side in (height, width))
    x = columns[None, :].expand(height, width).flatten()[indices]
    y = rows[:, None].expand(height, width).flatten()[indices]
    return indices, torch.stack([x, y], dim=2)
