"""Label maps against Detectron2's own post-processing."""

import random

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_seg.inference import kernel
from lightning_seg.inference.kernel import JustInTime, label_dtype
from lightning_seg.inference.taps import bilinear_taps
from lightning_seg.inference.whole import label_maps, probability_bands, upsampled_label_map
from lightning_seg.structures import DenseScores, Placement
from tests.inference.networks import assert_compiled

Size = tuple[int, int]


def detectron2_logits(logits: Tensor, stride: int, input_size: Size, output_size: Size) -> Tensor:
    from detectron2.modeling.postprocessing import sem_seg_postprocess

    full = F.interpolate(logits[None], scale_factor=stride, mode="bilinear", align_corners=False)[0]
    return sem_seg_postprocess(full, torch.Size(input_size), *output_size)


def assert_best(labels: Tensor, full: Tensor) -> None:
    """The best class of every pixel, except where the two best differ by less than 1e-5 of their size."""
    best, chosen = full.amax(0), full.gather(0, labels.long()[None])[0]
    assert bool((best - chosen <= 1e-5 * best.abs().maximum(chosen.abs())).all())


@pytest.mark.parametrize("original", [(37, 53), (64, 96), (91, 40), (1, 1)])
def test_equals_detectron2(original: Size) -> None:
    logits = torch.randn(2, 5, 16, 24, generator=torch.Generator().manual_seed(0))
    sizes = [(61, 90), (64, 96)]
    ours = label_maps(DenseScores.of(logits, 4), sizes, [original, original])
    for image_logits, size, labels in zip(logits, sizes, ours, strict=True):
        assert labels.shape == original
        assert labels.dtype == torch.uint8
        assert torch.equal(labels.long(), detectron2_logits(image_logits, 4, size, original).argmax(0))


def test_equals_detectron2_at_any_size_and_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_seg.inference.whole._BAND_BYTES", (1, 1))  # the shallowest bands
    monkeypatch.setattr(kernel, "_PIECE", (1000, 1000))
    draw = random.Random(0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        stride, classes = draw.choice([1, 2, 4, 8, 14, 16, 32]), draw.choice([1, 2, 3, 19])
        h, w = draw.randint(1, 30), draw.randint(1, 30)
        size = (draw.randint((h - 1) * stride + 1, h * stride), draw.randint((w - 1) * stride + 1, w * stride))
        original = draw.choice([size, (draw.randint(1, 300), draw.randint(1, 300))])
        logits = torch.randn(1, classes, h, w, generator=generator)
        labels = label_maps(DenseScores.of(logits, stride), [size], [original])[0]
        assert_best(labels, detectron2_logits(logits[0], stride, size, original))
        if original == size:
            at_once = upsampled_label_map(DenseScores(logits[0], stride), size)
            assert at_once.dtype == torch.uint8
            assert_best(at_once, detectron2_logits(logits[0], stride, size, size))


def test_a_placement_is_cut_out_before_it_is_resized(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_seg.inference.whole._BAND_BYTES", (1, 1))  # the shallowest bands
    draw = random.Random(0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        stride, (h, w) = draw.choice([1, 2, 4, 8, 14, 32]), (draw.randint(1, 20), draw.randint(1, 20))
        top, left = draw.randrange(h * stride), draw.randrange(w * stride)
        height, width = draw.randint(1, h * stride - top), draw.randint(1, w * stride - left)
        turned = draw.random() < 0.5, draw.random() < 0.5
        original = draw.choice([(height, width), (draw.randint(1, 200), draw.randint(1, 200))])
        logits = torch.randn(1, 7, h, w, generator=generator)
        place = Placement(top, left, height, width, *turned)
        (labels,) = label_maps(
            DenseScores.of(logits, stride), [(h * stride, w * stride)], [original], placements=[place]
        )

        full = F.interpolate(logits, scale_factor=stride, mode="bilinear", align_corners=False)
        shown = full[..., top : top + height, left : left + width]
        shown = F.interpolate(shown, size=original, mode="bilinear", align_corners=False)[0]
        assert_best(labels, shown.flip([axis + 1 for axis in range(2) if turned[axis]]))


@pytest.mark.parametrize("band_bytes", [1, 2**20])
def test_probabilities_are_the_softmax_of_what_labels_are_the_best_of(
    monkeypatch: pytest.MonkeyPatch, band_bytes: int
) -> None:
    monkeypatch.setattr("lightning_seg.inference.whole._PROBABILITY_BYTES", (band_bytes, band_bytes))
    draw = random.Random(0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        stride, (h, w) = draw.choice([1, 2, 4, 8, 14, 32]), (draw.randint(1, 20), draw.randint(1, 20))
        top, left = draw.randrange(h * stride), draw.randrange(w * stride)
        height, width = draw.randint(1, h * stride - top), draw.randint(1, w * stride - left)
        place = Placement(top, left, height, width, draw.random() < 0.5, draw.random() < 0.5)
        place = draw.choice([place, None])
        original = draw.choice([(height, width), (draw.randint(1, 200), draw.randint(1, 200))])
        scores = DenseScores(torch.randn(7, h, w, generator=generator), stride)
        size = (h * stride, w * stride)
        (labels,) = label_maps([scores], [size], [original], placements=[place])
        bands = list(probability_bands(scores, size, original, place))
        assert [top for top, _ in bands] == list(range(0, original[0], bands[0][1].shape[1]))
        found = torch.cat([band for _, band in bands], 1)
        assert found.dtype == torch.float32
        assert found.shape == (7, *original)
        assert torch.allclose(found.sum(0), torch.ones(original), atol=1e-5)
        assert_best(labels, found)
        if place is None:
            full = detectron2_logits(scores.logits, stride, size, original)
            torch.testing.assert_close(found, full.softmax(0), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("classes", "dtype"), [(256, torch.uint8), (257, torch.int16), (40_000, torch.int32)])
def test_ids_fit_the_smallest_type(classes: int, dtype: torch.dtype) -> None:
    logits = torch.zeros(1, classes, 2, 2)
    logits[:, -1] = 1
    labels = label_maps(DenseScores.of(logits.to(torch.bfloat16), 1), [(2, 2)], [(3, 3)])[0]
    assert labels.dtype == dtype == label_dtype(classes)
    assert labels.unique().tolist() == [classes - 1]


@pytest.mark.parametrize("sizes", [(7, 4, 25, 25), (7, 4, 28, 53), (9, 8, 65, 31), (5, 1, 5, 11)])
def test_taps_are_the_interpolations_own_weights(sizes: tuple[int, int, int, int]) -> None:
    logits, stride, size, original = sizes
    expected = detectron2_logits(torch.eye(logits)[:, None], stride, (stride, size), (1, original))[:, 0]
    found = torch.zeros(logits, original)
    for index, weight in zip(*bilinear_taps(*sizes, torch.device("cpu")), strict=True):
        found.scatter_add_(0, index[None], weight[None])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)


@pytest.mark.runs
def test_compiled_or_not_to_the_bit() -> None:
    """One graph for all sizes, so that evaluation may start to use it at any image."""
    compiled, plain = JustInTime(threshold=0), JustInTime()
    generator = torch.Generator().manual_seed(0)
    for (h, w), original in (((64, 96), (256, 384)), ((40, 77), (333, 500)), ((50, 60), (111, 97))):
        logits = torch.randn(1, 19, h, w, generator=generator)
        maps = [
            label_maps(DenseScores.of(logits, 4), [(4 * h, 4 * w)], [original], form)[0] for form in (compiled, plain)
        ]
        assert torch.equal(*maps)
    assert_compiled(compiled)


def test_without_a_compiler_it_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("no working C++ compiler")

    form = JustInTime(threshold=0)
    monkeypatch.setattr(form, "_fast", lambda function: refuse)
    logits = torch.randn(1, 19, 64, 96, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="without a compiled kernel.*no working C.. compiler") as caught:
        maps = [label_maps(DenseScores.of(logits, 4), [(256, 384)], [(256, 384)], form)[0] for _ in range(2)]
    assert len(caught) == 1
    assert torch.equal(maps[1], label_maps(DenseScores.of(logits, 4), [(256, 384)], [(256, 384)])[0])


def test_small_runs_never_compile() -> None:
    form = JustInTime()
    for _ in range(3):
        label_maps(DenseScores.of(torch.randn(1, 6, 24, 32), 4), [(96, 128)], [(96, 128)], form)
    assert form.work == 3 * 6 * 96 * 128
    assert not form._compiled
