"""Test-time augmentation against the mean of views that are made and undone as a whole."""

import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_seg.errors import ConfigError
from lightning_seg.inference import WHOLE, Augmented, SlidingWindow
from lightning_seg.inference.augmented import View, view_of
from lightning_seg.inference.method import Watch
from lightning_seg.inference.temperature import tempered
from lightning_seg.structures import Placement
from tests.inference.networks import Network, Windowed, picture


def averaged(network: Network, image: Tensor, scales: list[float], flip: bool, size: tuple[int, int]) -> Tensor:
    views = []
    for scale in scales:
        seen = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[2] * scale)))
        resized = F.interpolate(image[None].float(), size=seen, mode="bilinear", align_corners=False)[0]
        for mirrored in (False, True)[: 1 + flip]:
            view = resized.round().to(torch.uint8).flip(-1) if mirrored else resized.round().to(torch.uint8)
            logits = F.interpolate(
                network.logits(view)[None], scale_factor=network.stride, mode="bilinear", align_corners=False
            )[:, :, : seen[0], : seen[1]]
            shown = F.interpolate(logits, size=image.shape[1:], mode="bilinear", align_corners=False)[0].softmax(0)
            views.append(shown.flip(-1) if mirrored else shown)
    mean = torch.stack(views).mean(0)
    return F.interpolate(mean[None], size=size, mode="bilinear", align_corners=False)[0]


@pytest.mark.parametrize("band_bytes", [1, 2**20])
@pytest.mark.parametrize("stored", [(33, 47), (50, 20)])
@pytest.mark.parametrize(("scales", "flip"), [([0.75, 1.0, 1.3], True), ([1.0], True), ([0.5], False)])
def test_equals_the_mean_of_whole_views(
    monkeypatch: pytest.MonkeyPatch, scales: list[float], flip: bool, stored: tuple[int, int], band_bytes: int
) -> None:
    monkeypatch.setattr("lightning_seg.inference.whole._PROBABILITY_BYTES", (band_bytes, 1))
    network, image = Network(4), picture(33, 47)
    sample: Any = {"image": image, "height": stored[0], "width": stored[1]}
    way = Augmented(scales, flip)
    (found,) = way.probabilities(network, [sample])
    assert len(network.batches) == len(scales) * (1 + flip)
    # Where a view's pixel lies between two whole numbers, rounding decides: by one level of 256.
    torch.testing.assert_close(found, averaged(network, image, scales, flip, stored), rtol=0, atol=2e-3)
    torch.testing.assert_close(found.sum(0), torch.ones(stored))
    labels = torch.cat([band for _, band in way.label_bands(network, sample)])
    assert torch.equal(labels.long(), found.argmax(0))


@pytest.mark.parametrize("of", [None, SlidingWindow((20, 24)), SlidingWindow((64, 64))])
def test_one_view_of_the_image_as_it_is_changes_nothing_to_the_bit(of: Any) -> None:
    network = Network(4)
    way, expected = Augmented([1.0], flip=False, of=of), of or WHOLE
    batch: Any = [{"image": picture(33, 47), "sem_seg": torch.ones(33, 47), "height": 50, "width": 41}] * 2
    found, wanted = (one.evaluate(network, batch) for one in (way, expected))
    assert all(torch.equal(one, other) for one, other in zip(found[0], wanted[0], strict=True))
    assert found[1] == wanted[1]
    assert torch.equal(way.probabilities(network, batch)[1], expected.probabilities(network, batch)[1])


def test_a_mirrored_image_and_a_mirrored_network_agree() -> None:
    """The mean over an image and its mirror image is that of the mirror image, mirrored."""
    network, way, image = Network(), Augmented([1.0], of=SlidingWindow((16, 16), 0.5)), picture(33, 48)
    found = way.probabilities(network, [{"image": image}])[0]
    mirrored = way.probabilities(network, [{"image": image.flip(-1)}])[0]
    torch.testing.assert_close(found, mirrored.flip(-1), rtol=0, atol=1e-5)
    assert found.argmax(0).unique().numel() > 2


@pytest.mark.parametrize(
    "way", [WHOLE, SlidingWindow((9, 12), 0.5), Augmented([1.0, 0.7]), Augmented([1.0, 1.2], of=SlidingWindow((9, 12)))]
)
def test_bands_from_a_row_are_those_of_the_whole_to_the_bit(way: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_seg.inference.whole._PROBABILITY_BYTES", (1, 1))  # the shallowest bands
    network, image = Network(4), picture(40, 36)
    samples: list[Any] = [
        {"image": image},
        {"image": image, "height": 97, "width": 20},
        {"image": image, "height": 15, "width": 25, "placement": Placement(3, 5, 30, 20, mirrored=True)},
        {"image": image, "height": 40, "width": 25, "placement": Placement(0, 5, 40, 20, upside_down=True)},
        {"image": image, "height": 28, "width": 20, "placement": Placement(3, 5, 28, 20)},  # a band begins below it
    ]
    for sample in samples:
        all_bands = list(way.probability_bands(network, sample))
        whole = torch.cat([band for _, band in all_bands], 1)
        for first in {1, 7, 14, *(top for top, _ in all_bands)}:
            bands = list(way.probability_bands(network, sample, first))
            assert bands[0][0] == first
            assert all(band.shape[1] > 0 for _, band in bands)
            assert torch.equal(torch.cat([band for _, band in bands], 1), whole[:, first:])
            labels = torch.cat([band for _, band in way.label_bands(network, sample, first)])
            assert torch.equal(labels.long(), whole[:, first:].argmax(0))


@pytest.mark.parametrize("way", [WHOLE, SlidingWindow((9, 12), 0.5), Augmented([1.0, 0.7])])
def test_a_watch_is_told_of_every_pixel(way: Any) -> None:
    network = Network(4)
    batch: Any = [{"image": picture(40, 36), "sem_seg": torch.ones(40, 36)}, {"image": picture(21, 13, seed=1)}]
    batch[1]["sem_seg"] = torch.zeros(21, 13)
    told: dict[str, list[list[Tensor]]] = {"sure": [[], []], "shown": [[], []]}

    def keep(name: str) -> Any:
        def of_band(place: int, top: int, band: Tensor) -> None:
            assert top == sum(part.shape[-2] for part in told[name][place])
            told[name][place].append(band)

        return of_band

    maps, losses = way.evaluate(network, batch, Watch(1.5, keep("sure"), keep("shown")))
    expected_maps, expected_losses = way.evaluate(network, batch)
    assert losses == expected_losses
    for place, expected in enumerate(way.probabilities(network, batch)):
        assert torch.equal(maps[place], expected_maps[place])
        torch.testing.assert_close(torch.cat(told["shown"][place], 1), expected, rtol=0, atol=1e-6)
        sure = tempered(expected, 1.5).amax(0)
        torch.testing.assert_close(torch.cat(told["sure"][place]), sure, rtol=0, atol=1e-6)


def test_probabilities_ask_for_no_loss() -> None:
    batch: Any = [{"image": picture(40, 36), "sem_seg": torch.ones(40, 36)}]

    def ask(given: Any) -> Any:
        assert all("sem_seg" not in sample for sample in given)
        return Network()(given)

    for way in (WHOLE, SlidingWindow((9, 12), 0.5), Augmented([1.0, 0.7])):
        assert way.probabilities(ask, batch)[0].shape == (5, 40, 36)


def test_nothing_is_asked_of_windows_above() -> None:
    network, image = Network(), picture(100, 20)
    list(SlidingWindow((20, 20), 0.5).label_bands(network, {"image": image}, first=55))
    assert len(network.batches) == 5  # from rows 40, 50, 60, 70, 80


def test_placements_are_undone() -> None:
    network, way, image = Network(), Augmented([1.0, 0.5]), picture(40, 36)
    place = Placement(3, 5, 30, 20, mirrored=True)
    (whole,) = way.probabilities(network, [{"image": image}])
    (found,) = way.probabilities(network, [{"image": image, "height": 15, "width": 25, "placement": place}])
    shown = F.interpolate(whole[None, :, 3:33, 5:25], size=(15, 25), mode="bilinear", align_corners=False)[0].flip(-1)
    torch.testing.assert_close(found, shown, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(33, 47), (50, 99), (17, 20)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_windows_of_a_view_are_those_of_the_whole_view(size: tuple[int, int], mirrored: bool) -> None:
    source = picture(33, 47)
    view = View(Windowed(source), size, mirrored)
    whole = view.window(slice(0, size[0]), slice(0, size[1]))
    assert whole.dtype == torch.uint8
    expected = F.interpolate(source[None].float(), size=size, mode="bilinear", align_corners=False)[0]
    expected = expected.flip(-1) if mirrored else expected
    assert float((whole - expected).abs().max()) <= 0.5 + 1e-3
    for rows, columns in ((slice(3, 9), slice(0, 20)), (slice(16, 17), slice(5, 6)), (slice(0, 17), slice(7, 20))):
        assert torch.equal(view.window(rows, columns), whole[:, rows, columns])


def test_a_view_reads_no_more_of_the_image_than_it_shows() -> None:
    image = Windowed(picture(100, 200))
    way = Augmented([0.5, 1.0], of=SlidingWindow((20, 20)))
    assert sum(len(band) for _, band in way.label_bands(Network(), {"image": image})) == 100  # type: ignore[typeddict-item]
    assert image.largest <= 42 * 42


def test_targets_go_with_their_views() -> None:
    target = torch.randint(0, 5, (33, 47), generator=torch.Generator().manual_seed(1))
    sample: Any = {"image": picture(33, 47), "sem_seg": target, "file_name": "a.jpg"}
    for scale, mirrored in ((1.0, False), (0.5, True), (1.7, False)):
        view = view_of(sample, scale, mirrored)
        expected = F.interpolate(target[None, None].float(), size=view["image"].shape[1:], mode="nearest")[0, 0].long()
        assert torch.equal(view["sem_seg"], expected.flip(-1) if mirrored else expected)
        assert view["file_name"] == "a.jpg"
    _, (losses,) = Augmented([1.0, 0.5]).evaluate(Network(), [sample])
    views = [view_of(sample, *view) for view in ((1.0, False), (1.0, True), (0.5, False), (0.5, True))]
    means = [
        view["image"].window(slice(0, view["image"].shape[1]), slice(0, view["image"].shape[2])).float().mean()  # type: ignore[attr-defined]
        + view["sem_seg"].float().mean()
        for view in views
    ]
    assert float(losses["loss"]) == pytest.approx(float(torch.stack(means).mean()), rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scales": []}, "scales is [], but must be one number above 0 or more"),
        ({"scales": [1.0, 0]}, "scales is [1.0, 0], but must be"),
        ({"scales": [-1.0]}, "scales is [-1.0], but must be"),
        ({"scales": [math.inf]}, "scales is [inf], but must be"),
        ({"scales": 1.5}, "scales is 1.5, but must be"),
        ({"flip": "yes"}, "flip is 'yes', but must be true or false"),
        ({"of": "whole"}, "of is 'whole', but must be a class of lightning_seg.inference, or null"),
    ],
)
def test_settings_out_of_range_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"model.inference.init_args.{message}")):
        Augmented(**settings)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.int16, torch.float32])
def test_views_keep_the_type_of_the_image(dtype: torch.dtype) -> None:
    """Values beyond 15 bits stay; integers are rounded, floats are not."""
    values = torch.linspace(0, 60000 if dtype == torch.uint16 else 30000, 2 * 9 * 11).reshape(2, 9, 11) + 0.3
    image = values.to(dtype)
    whole = slice(0, 9), slice(0, 11)
    assert torch.equal(View(image, (9, 11), True).window(*whole).float(), image.float().flip(-1))
    half = View(image, (5, 6), True)
    found = half.window(slice(0, 5), slice(0, 6))
    assert (half.shape, found.dtype) == ((2, 5, 6), dtype)
    expected = F.interpolate(image.float()[None], size=(5, 6), mode="bilinear", align_corners=False)[0].flip(-1)
    if dtype != torch.float32:
        expected = expected.round()
    torch.testing.assert_close(found.float(), expected, rtol=1e-6, atol=0 if dtype == torch.float32 else 1)
