"""Confidences that are counted beside label maps are the largest probabilities, and change no label map."""

import random

import pytest
import torch
from torch import Tensor

from lightning_seg.inference import kernel
from lightning_seg.inference.kernel import JustInTime
from lightning_seg.inference.temperature import (
    Confidences,
    confidence_of_probabilities,
    normalised,
    softmax_of,
    tempered,
)
from lightning_seg.inference.whole import label_maps, probability_bands, sure_label_map, upsampled_label_map
from lightning_seg.structures import DenseScores, MaskScores, Placement, Scores
from tests.inference.networks import assert_compiled
from tests.inference.test_masks import scores_of, whole
from tests.inference.test_whole import detectron2_logits

SIZES = ((64, 96, (256, 384)), (40, 77, (333, 500)), (50, 60, (111, 97)))


def logits_of(classes: int, h: int, w: int, stride: int, seed: int = 0) -> DenseScores:
    generator = torch.Generator().manual_seed(seed)
    return DenseScores(4 * torch.randn(classes, h, w, generator=generator), stride)


def largest(scores: Scores, size: tuple[int, int], output: tuple[int, int], temperature: float) -> Tensor:
    """By whole arrays."""
    if isinstance(scores, MaskScores):
        sums = whole(scores, Placement(0, 0, *size), output)
        return (sums / sums.sum(0)).log().div(temperature).softmax(0).amax(0)
    return detectron2_logits(scores.logits, scores.stride, size, output).div(temperature).softmax(0).amax(0)


@pytest.mark.parametrize("temperature", [1.0, 0.4, 2.5])
@pytest.mark.parametrize("of", [logits_of, scores_of])
def test_they_are_the_largest_probabilities(of: object, temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_seg.inference.whole._BAND_BYTES", (1, 1))  # the shallowest bands
    monkeypatch.setattr(kernel, "_PIECE", (1000, 1000))
    draw = random.Random(0)
    for seed in range(20):
        h, w, stride = draw.randint(1, 20), draw.randint(1, 20), draw.choice([1, 2, 4, 8])
        classes = draw.choice([1, 2, 19])
        given = h, w, stride, seed
        scores = scores_of(9, classes, *given) if of is scores_of else logits_of(classes, *given)
        size = (h * stride, w * stride)
        output = draw.choice([size, (draw.randint(1, 150), draw.randint(1, 150))])
        place = Placement(0, 0, *size, draw.random() < 0.5, draw.random() < 0.5)
        labels, found = sure_label_map(scores, size, output, temperature, place)
        assert torch.equal(labels, label_maps([scores], [size], [output], placements=[place])[0])
        assert found.dtype == torch.float32
        mirrors = [axis for axis, turned in enumerate((place.upside_down, place.mirrored)) if turned]
        torch.testing.assert_close(found.flip(mirrors), largest(scores, size, output, temperature), rtol=0, atol=1e-5)
        assert 0 < found.min() <= found.max() <= 1
        bands = torch.cat([band for _, band in probability_bands(scores, size, output, place)], 1)
        again = confidence_of_probabilities(bands, temperature)
        torch.testing.assert_close(again, tempered(bands, temperature).amax(0), rtol=0, atol=1e-6)
        torch.testing.assert_close(found, again, rtol=0, atol=1e-5)
        told = Confidences(temperature)
        upsampled_label_map(scores, size, told)  # of a GPU
        torch.testing.assert_close(torch.cat(told.pieces), largest(scores, size, size, temperature), rtol=0, atol=1e-5)


def test_a_pixel_that_no_mask_covers_is_sure_of_nothing() -> None:
    scores = MaskScores(torch.full((3, 4), 0.2), torch.full((3, 2, 2), -200.0), 4)
    for temperature in (1.0, 2.0):
        assert torch.equal(sure_label_map(scores, (8, 8), (8, 8), temperature)[1], torch.full((8, 8), 0.25))


@pytest.mark.runs
def test_compiled_or_not_and_on_any_number_of_threads_to_the_bit(caplog: pytest.LogCaptureFixture) -> None:
    """Processes may begin to use the compiled form at different images, and have different numbers of threads."""
    compiled, plain = JustInTime(threshold=0), JustInTime()
    before = torch.get_num_threads()
    for h, w, output in SIZES:
        for scores in (logits_of(19, h, w, 4), scores_of(30, 19, h, w, 4)):
            size = (4 * h, 4 * w)
            expected = sure_label_map(scores, size, output, 1.3, kernel=plain)
            found = [sure_label_map(scores, size, output, 1.3, kernel=compiled)]
            probabilities = [torch.cat([band for _, band in probability_bands(scores, size, output)], 1)]
            try:
                for threads in (2, 3):
                    torch.set_num_threads(threads)
                    found.append(sure_label_map(scores, size, output, 1.3, kernel=plain))
                    probabilities.append(torch.cat([band for _, band in probability_bands(scores, size, output)], 1))
            finally:
                torch.set_num_threads(before)
            for labels, confidence in found:
                assert torch.equal(labels, expected[0])
                assert torch.equal(confidence, expected[1])
            if isinstance(scores, DenseScores):
                assert torch.equal(probabilities[0], probabilities[1])
                assert torch.equal(probabilities[0], probabilities[2])
    assert_compiled(compiled)
    assert sum("Compiling the kernel" in message for message in caplog.messages) == 1


@pytest.mark.parametrize("band_bytes", [1, 2**23])
def test_a_compiler_that_fails_leaves_no_confidence_twice(monkeypatch: pytest.MonkeyPatch, band_bytes: int) -> None:
    monkeypatch.setattr("lightning_seg.inference.whole._BAND_BYTES", (band_bytes, band_bytes))
    form, calls = JustInTime(threshold=0), []

    def fails_later(*given: object) -> Tensor:
        calls.append(given)
        if len(calls) > 1:  # in the second piece of the only band, or in the second band
            raise RuntimeError("no working C++ compiler")
        return kernel.interpolate_rows(*given)  # type: ignore[arg-type]

    plain = {kernel.interpolate_rows: fails_later}
    monkeypatch.setattr(form, "_fast", lambda function: plain.get(function, function))
    scores = logits_of(19, 64, 128, 4)
    with pytest.warns(UserWarning, match="without a compiled kernel"):
        labels, found = sure_label_map(scores, (256, 512), (256, 512), kernel=form)
    assert found.shape == labels.shape == (256, 512)
    assert torch.equal(found, sure_label_map(scores, (256, 512), (256, 512))[1])


def test_scores_that_are_normalised_are_probabilities() -> None:
    scores = torch.tensor([[0.0, 0.0, 3.0], [0.0, 2.0, 1.0]])
    found = normalised(scores.clone())
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.0, 0.75], [0.5, 1.0, 0.25]]), rtol=0, atol=1e-7)
    assert bool((found >= 0).all())


def test_softmax_in_place_is_torchs() -> None:
    logits = 30 * torch.randn(6, 11, 13, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(softmax_of(logits.clone()), logits.softmax(0), rtol=1e-5, atol=1e-7)
