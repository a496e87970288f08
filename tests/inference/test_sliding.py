"""Sliding windows against a blend of whole arrays in NumPy, and against the whole image."""

import math
import random
import re
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lightning_seg.errors import ConfigError
from lightning_seg.inference import WHOLE, SlidingWindow
from lightning_seg.structures import Placement
from tests.inference.networks import Network, Windowed, picture
from tests.inference.test_whole import assert_best


def blended(network: Network, image: Tensor, way: SlidingWindow) -> NDArray[np.float64]:
    """Sums of weights times probabilities, and of weights, over the whole image."""
    _, height, width = image.shape
    sums, total = np.zeros((5, height, width)), np.zeros((height, width))
    axes = []
    for size, side in zip((height, width), way.window, strict=True):
        length = min(side, size)
        step = max(1, round(length * (1 - way.overlap)))
        starts = [0]
        while starts[-1] + length < size:
            starts.append(min(starts[-1] + step, size - length))
        axes.append((size, length, (length - step) // 4, starts))
    (height, rows, above, tops), (width, columns, beside, lefts) = axes
    for top in tops:
        for left in lefts:
            weights = np.zeros((rows, columns))
            first_row, last_row = (above if top else 0), rows - (above if top + rows < height else 0)
            first_column, last_column = (beside if left else 0), columns - (beside if left + columns < width else 0)
            for row in range(first_row, last_row):
                for column in range(first_column, last_column):
                    weights[row, column] = (
                        1.0
                        if way.blend == "uniform"
                        else math.sin(math.pi * (row - first_row + 0.5) / (last_row - first_row)) ** 2
                        * math.sin(math.pi * (column - first_column + 0.5) / (last_column - first_column)) ** 2
                    )
            of_rows, of_columns = slice(top, top + rows), slice(left, left + columns)
            sums[:, of_rows, of_columns] += weights * network.probabilities(image[:, of_rows, of_columns]).numpy()
            total[of_rows, of_columns] += weights
    return sums / total


@pytest.mark.parametrize("blend", ["uniform", "hann"])
def test_equals_a_blend_of_whole_arrays(monkeypatch: pytest.MonkeyPatch, blend: Any) -> None:
    draw = random.Random(0)
    for _ in range(12):
        monkeypatch.setattr("lightning_seg.inference.whole._PROBABILITY_BYTES", (draw.choice([1, 2**20]), 1))
        network, image = Network(draw.choice([1, 4])), picture(draw.randint(1, 40), draw.randint(1, 40))
        window, overlap = (draw.randint(1, 30), draw.randint(1, 30)), draw.choice([0, 0.1, 0.25, 0.5, 0.7])
        way = SlidingWindow(window, overlap, blend, batch_size=draw.randint(1, 5))
        bands = list(way.probability_bands(network, {"image": image}))
        assert max(network.batches) <= way.batch_size
        found = torch.cat([band for _, band in bands], 1)
        assert found.dtype == torch.float32
        assert np.allclose(found.numpy(), blended(network, image, way), rtol=0, atol=2e-6)
        assert np.allclose(found.sum(0), 1, rtol=0, atol=1e-5)
        starts = [0, *np.cumsum([band.shape[1] for _, band in bands]).tolist()]
        assert [top for top, _ in bands] == starts[:-1]
        assert starts[-1] == image.shape[1]
        labels = torch.cat([band for _, band in way.label_bands(network, {"image": image})])
        assert labels.dtype == torch.uint8
        assert torch.equal(labels.long(), found.argmax(0))


@pytest.mark.parametrize("blend", ["uniform", "hann"])
@pytest.mark.parametrize(
    ("stride", "window", "overlap"),
    [(1, (32, 40), 0.5), (4, (128, 160), 0.5), (4, (192, 128), 0.5)],  # it sees 7 pixels, or 23
)
def test_a_network_that_sees_half_the_overlap_gives_the_whole_image(
    stride: int, window: tuple[int, int], overlap: float, blend: Any
) -> None:
    network, image = Network(stride), picture(260, 324)
    way = SlidingWindow(window, overlap, blend)
    (found,), (expected,) = (one.probabilities(network, [{"image": image}]) for one in (way, WHOLE))
    assert len(network.batches) > 3
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    (labels,), _ = way.evaluate(network, [{"image": image}])
    assert torch.equal(labels, WHOLE.evaluate(network, [{"image": image}])[0][0])


@pytest.mark.parametrize("overlap", [0.0, 0.25])
def test_one_that_sees_more_does_not(overlap: float) -> None:
    """So that the test above can fail."""
    network, image = Network(4), picture(260, 324)
    found, expected = (
        one.probabilities(network, [{"image": image}])[0] for one in (SlidingWindow((64, 64), overlap), WHOLE)
    )
    assert float((found - expected).abs().max()) > 1e-3


@pytest.mark.parametrize("size", [(20, 24), (7, 24), (20, 3)])
def test_one_window_that_covers_the_image_is_the_whole_image_to_the_bit(size: tuple[int, int]) -> None:
    network, way = Network(4), SlidingWindow((20, 24))
    batch: Any = [{"image": picture(*size), "sem_seg": torch.ones(size), "height": 30, "width": 31} for _ in range(2)]
    found, expected = (one.evaluate(network, batch) for one in (way, WHOLE))
    assert network.batches == [2, 2]
    assert all(torch.equal(one, other) for one, other in zip(found[0], expected[0], strict=True))
    assert found[1] == expected[1]
    for name in ("probabilities", "label_bands", "probability_bands"):
        given: Any = batch if name == "probabilities" else batch[0]
        for one, other in zip(getattr(way, name)(network, given), getattr(WHOLE, name)(network, given), strict=True):
            assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(one, other, strict=True))


def test_windows_lie_inside_and_are_moved_not_padded() -> None:
    image = Windowed(picture(50, 33))
    network = Network()
    shapes: list[tuple[int, ...]] = []

    def ask(batch: Any) -> Any:
        shapes.extend(tuple(sample["image"].shape) for sample in batch)
        return network(batch)

    way = SlidingWindow((20, 40), overlap=0.5)
    bands = list(way.label_bands(ask, {"image": image}))  # type: ignore[typeddict-item]
    assert set(shapes) == {(3, 20, 33)}
    assert len(shapes) == 4  # at 0, 10, 20, 30
    assert sum(len(band) for _, band in bands) == 50
    assert image.largest == 20 * 33


def test_placed_and_resized_while_the_rows_come_in(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(0)
    for _ in range(40):
        monkeypatch.setattr("lightning_seg.inference.whole._PROBABILITY_BYTES", (draw.choice([1, 2**20]), 1))
        network = Network()
        height, width = draw.randint(10, 40), draw.randint(10, 40)
        top, left = draw.randrange(height), draw.randrange(width)
        rows, columns = draw.randint(1, height - top), draw.randint(1, width - left)
        place = Placement(top, left, rows, columns, draw.random() < 0.3, draw.random() < 0.5)
        if draw.random() < 0.3:
            place = Placement(0, 0, height, width)
        stored = draw.choice([place[2:4], (draw.randint(1, 90), draw.randint(1, 90)), (place.height, 50)])
        way, image = SlidingWindow((9, 9), 0.5, "hann"), picture(height, width)
        sample: Any = {"image": image, "height": stored[0], "width": stored[1], "placement": place}
        (found,) = way.probabilities(network, [sample])

        full = torch.from_numpy(blended(network, image, way)).float()
        shown = full[:, place.top : place.top + place.height, place.left : place.left + place.width]
        shown = F.interpolate(shown[None], size=stored, mode="bilinear", align_corners=False)[0]
        turned = [axis + 1 for axis, turns in enumerate(place[4:]) if turns]
        torch.testing.assert_close(found, shown.flip(turned), rtol=0, atol=1e-5)
        assert_best(way.evaluate(network, [sample])[0][0], found)


def test_the_loss_is_the_mean_of_the_windows_with_their_own_targets() -> None:
    network, image = Network(), picture(50, 33)
    target = torch.randint(0, 5, (50, 33), generator=torch.Generator().manual_seed(1))
    way = SlidingWindow((20, 33), overlap=0.5)
    _, (losses,) = way.evaluate(network, [{"image": image, "sem_seg": target}])
    parts = [
        (image[:, top : top + 20].float().mean() + target[top : top + 20].float().mean()) for top in (0, 10, 20, 30)
    ]
    assert float(losses["loss"]) == pytest.approx(float(torch.stack(parts).mean()), rel=1e-6)
    assert way.evaluate(network, [{"image": image}])[1] == [{}]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": [512]}, "window is [512], but must be two whole numbers, height and width, of at least 1"),
        ({"window": [512, 0]}, "window is [512, 0], but must be two whole numbers"),
        ({"window": [512, 1.5]}, "window is [512, 1.5], but must be two whole numbers"),
        ({"window": 512}, "window is 512, but must be two whole numbers"),
        ({"overlap": 1.0}, "overlap is 1.0, but must be a number in [0, 1)"),
        ({"overlap": -0.1}, "overlap is -0.1, but must be"),
        ({"overlap": math.nan}, "overlap is nan, but must be"),
        ({"blend": "cosine"}, "blend is 'cosine', but must be uniform or hann"),
        ({"batch_size": 0}, "batch_size is 0, but must be a whole number of at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"model.inference.init_args.{message}")):
        SlidingWindow(**settings)
