"""What stands for parts of Detectron2's ViT and MViT while they are traced gives what they give, to the bit."""

import pytest
import torch
from detectron2.modeling.backbone import mvit, utils, vit

from lightning_seg.exporting.attention import join_windows, relative_positions, replacements, split_windows
from lightning_seg.exporting.graph import Graph
from lightning_seg.exporting.tracing import free_copy, trace
from tests.exporting.files import shaken
from tests.models.networks import segmentor_of


@pytest.mark.parametrize("size", [(2, 8, 12), (1, 7, 13), (3, 1, 1), (1, 4, 5)])
def test_windows_are_split_and_joined(size: tuple[int, int, int]) -> None:
    x = torch.randn(*size, 6, generator=torch.Generator().manual_seed(0))
    windows, padded = split_windows(x, 4)
    expected, expected_padded = utils.window_partition(x, 4)
    assert torch.equal(windows, expected)
    assert padded == expected_padded
    assert torch.equal(join_windows(windows, 4, padded, size[1:]), x)


@pytest.mark.parametrize("given", [13, 40])
def test_relative_positions_are_detectron2s(given: int) -> None:
    """Queries or keys may be pooled, by a factor that need not be whole."""
    table = torch.randn(given, 5, generator=torch.Generator().manual_seed(0))
    sizes = [(7, 7), (1, 1), (20, 20), (12, 7), (7, 12), (9, 3), (3, 10), (35, 18), (1, 6)]
    for queries, keys in sizes:
        expected = utils.get_rel_pos(queries, keys, table)
        assert torch.equal(relative_positions(queries, keys, table), expected), (queries, keys)


def test_detectron2_has_its_own_again_after_a_trace() -> None:
    before = {(owner, name): getattr(owner, name) for owner, name, _ in replacements()}
    assert {owner for owner, _ in before} == {vit, mvit, utils}
    graph = Graph(free_copy(shaken(segmentor_of("vit pyramid", "SemSegFPNHead"))))
    traced = trace(graph).module()
    assert {(owner, name): getattr(owner, name) for owner, name in before} == before
    for size in ((1, 1, 1), (3, 33, 70)):
        image = torch.randint(0, 256, (size[0], 3, *size[1:]), dtype=torch.uint8)
        assert (traced(image)[0] != graph(image)[0]).float().mean() < 0.001
