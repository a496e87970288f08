"""The graph around a network, beside the segmentor: padding at every size, pooling, types, channel order."""

from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.errors import DependencyError
from lightning_seg.exporting.exporter import EXACT
from lightning_seg.exporting.graph import Graph
from lightning_seg.exporting.parity import Images, certify
from lightning_seg.exporting.tracing import (
    _GridPool,
    _joined_windows,
    _same_padding,
    _uncertain_points,
    _WindowPool,
    free_copy,
    trace,
)
from lightning_seg.models.recipe import load_recipe
from lightning_seg.models.segmentor import Segmentor
from tests.exporting.files import shaken
from tests.models.networks import SMALLEST, ZOO, build_segmentor, overrides_of

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (3, 3), (4, 5), (13, 6), (35, 51)])
def test_pools_as_torch_does_at_sizes_that_do_not_divide(size: tuple[int, int]) -> None:
    features = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    for cells in (2, 3, 6, (2, None)):
        torch.testing.assert_close(_GridPool(cells)(features), nn.AdaptiveAvgPool2d(cells)(features))
    expected = F.avg_pool2d(features, (min(4, size[0]), min(5, size[1])), stride=1)
    torch.testing.assert_close(_WindowPool((4, 5))(features), expected)


class _Windows(nn.Module):
    """Cuts features into windows and joins these again, as Detectron2's Swin does."""

    def forward(self, features: Tensor) -> Tensor:
        from detectron2.modeling.backbone.swin import window_partition

        return _joined_windows(window_partition(features, 7), 7, features.shape[1], features.shape[2])


def test_windows_are_joined_for_any_number_of_images() -> None:
    dim = torch.export.Dim
    sizes = ({0: dim("batch", max=64), 1: 7 * dim("rows", min=2, max=64), 2: 7 * dim("columns", min=2, max=64)},)
    with torch.fx.experimental._config.patch(backed_size_oblivious=True):
        program = torch.export.export(
            _Windows(),
            (torch.zeros(2, 14, 21, 8),),
            dynamic_shapes=sizes,
            prefer_deferred_runtime_asserts_over_guards=True,
        )
    for number in (1, 2, 5):
        features = torch.randn(number, 28, 35, 8, generator=torch.Generator().manual_seed(number))
        assert torch.equal(program.module()(features), features)


def test_pads_as_tensorflow_does_for_any_size() -> None:
    theirs = pytest.importorskip("timm.layers.padding").get_same_padding
    for kernel, stride, dilation, size in product(range(1, 8), range(1, 5), (1, 2), range(1, 40)):
        assert _same_padding(size, kernel, stride, dilation) == theirs(size, kernel, stride, dilation)


def test_finds_the_points_that_pointrend_finds() -> None:
    from detectron2.projects.point_rend.point_features import get_uncertain_point_coords_on_grid

    uncertainty = torch.randn(2, 1, 13, 7, generator=torch.Generator().manual_seed(0))
    for number in (5, 1000):
        indices, points = _uncertain_points(uncertainty, number)
        expected_indices, expected_points = get_uncertain_point_coords_on_grid(uncertainty, number)
        assert torch.equal(indices, expected_indices)
        torch.testing.assert_close(points, expected_points)


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
def test_channels_are_those_of_the_file_whatever_the_network_wants(image_format: str) -> None:
    overrides = {**SMALLEST, "INPUT.FORMAT": image_format, "MODEL.PIXEL_MEAN": [103.5, 116.3, 123.7]}
    segmentor = shaken(build_segmentor(overrides))
    assert segmentor.bgr == (image_format == "BGR")
    graph = Graph(free_copy(segmentor))
    image = torch.randint(0, 256, (2, 3, 33, 40), dtype=torch.uint8)
    inputs = segmentor.inputs([{"image": one} for one in image])
    torch.testing.assert_close(inputs[..., :33, :40], graph.normalised(image), rtol=0, atol=0)


@pytest.mark.parametrize(("classes", "dtype"), [(256, torch.uint8), (257, torch.int32)])
def test_masks_are_of_the_smallest_type_that_holds_the_classes(classes: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    segmentor = shaken(Segmentor(load_recipe(ZOO, SMALLEST), num_classes=classes, ignore_index=300))
    graph = Graph(free_copy(segmentor), probabilities=True)
    image = torch.randint(0, 256, (2, 3, 33, 40), dtype=torch.uint8)
    mask, probabilities = graph(image)
    assert mask.dtype == dtype
    assert mask.shape == (2, 33, 40)
    assert probabilities.shape == (2, classes, 33, 40)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2, 33, 40))
    assert torch.equal(probabilities.argmax(1), mask.long())
    assert certify(segmentor, lambda image: graph(image)[0], [Images("a", image)], EXACT).problems() == []


def test_float16_keeps_variances_that_it_could_not_hold() -> None:
    """Of pixels from 0 to 255 that are divided by 1, as Detectron2's usual statistics have it."""
    segmentor = shaken(build_segmentor(overrides_of("regnet FPN", "SemSegFPNHead")))
    stem: Any = segmentor.network.backbone.bottom_up.stem
    norm = next(module for module in stem.modules() if isinstance(module, nn.BatchNorm2d))
    with torch.no_grad():
        norm.running_var.fill_(2e5)
        norm.weight.fill_(50)
    image = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    exact, half = Graph(free_copy(segmentor)), Graph(free_copy(segmentor), half=True)
    with torch.no_grad():
        expected, found = (graph.upsampled(graph.normalised(image)) for graph in (exact, half))
    assert found.dtype == torch.float32
    assert (found - expected).norm() < 0.01 * expected.norm()
    assert next(half.network.parameters()).dtype == torch.float16
    assert next(segmentor.network.parameters()).dtype == torch.float32


def test_what_training_adds_is_no_hindrance() -> None:
    """Weights in another order, features that are kept for an auxiliary head, activations that are computed again."""
    torch.manual_seed(0)
    recipe = load_recipe(ZOO, SMALLEST)
    training: dict[str, Any] = {"channels_last": True, "auxiliary_stage": "stage2", "activation_checkpointing": True}
    segmentor = shaken(Segmentor(recipe, num_classes=5, ignore_index=255, **training))
    traced = trace(Graph(free_copy(segmentor))).module()
    images = [torch.randint(0, 256, size, dtype=torch.uint8) for size in ((1, 3, 1, 1), (2, 3, 33, 40))]
    batches = [Images("a", image) for image in images]
    assert certify(segmentor, lambda image: traced(image)[0], batches, EXACT).problems() == []


def test_a_torch_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    graph: Any = SimpleNamespace(pixel_mean=torch.zeros(3))
    monkeypatch.setattr("importlib.import_module", lambda name: None)
    with pytest.raises(DependencyError, match=r"cannot export .*: install torch 2\.11, the oldest"):
        trace(graph)
