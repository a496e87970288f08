"""Probabilities and label maps of a module, as a whole and by bands."""

import torch

from lightning_seg.inference.method import part_of
from lightning_seg.structures import Item, Placement
from tests.training import make


class Windowed:
    """An image that is only read by windows."""

    def __init__(self, image: torch.Tensor) -> None:
        self.image = image
        self.read: list[tuple[slice, slice]] = []

    @property
    def shape(self) -> tuple[int, int, int]:
        _, height, width = self.image.shape
        return 3, height, width

    def window(self, rows: slice, columns: slice) -> torch.Tensor:
        assert 0 <= rows.start < rows.stop <= self.image.shape[1]
        assert 0 <= columns.start < columns.stop <= self.image.shape[2]
        self.read.append((rows, columns))
        return self.image[:, rows, columns]


def picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def test_probabilities_of_a_module_have_its_label_maps_as_their_argmax() -> None:
    module = make().eval()
    batch: list[Item] = [
        {"image": picture(40, 64), "height": 55, "width": 33},
        {"image": picture(33, 47, seed=1)},
        {"image": picture(40, 64, seed=2), "height": 20, "width": 30, "placement": Placement(4, 8, 30, 50, True, True)},
    ]
    labels = module.predict_step(batch, 0)
    found = module.probabilities(batch)
    for sample, one, map_ in zip(batch, found, labels, strict=True):
        assert one.shape == (5, *map_.shape)
        torch.testing.assert_close(one.sum(0), torch.ones(map_.shape))
        assert torch.equal(one.argmax(0), map_.long())
        bands = list(module.probability_bands(sample))
        torch.testing.assert_close(torch.cat([band for _, band in bands], 1), one, rtol=0, atol=1e-6)
        assert torch.equal(torch.cat([band for _, band in module.label_bands(sample)]), map_)
    assert not found[0].requires_grad


def test_an_image_may_be_read_by_windows() -> None:
    module = make().eval()
    image = picture(40, 64)
    ((top, labels),) = module.label_bands({"image": Windowed(image)})  # type: ignore[typeddict-item]
    assert top == 0
    assert torch.equal(labels, module.predict_step([{"image": image}], 0)[0])
    assert torch.equal(part_of(Windowed(image), slice(3, 9), slice(0, 7)), image[:, 3:9, :7])
