"""What every way to evaluate an image has in common: bands of probabilities, and what follows from them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from lightning_seg.described import Described
from lightning_seg.errors import ConfigError
from lightning_seg.inference.kernel import first_best, label_dtype
from lightning_seg.inference.placing import Bands, joined
from lightning_seg.inference.temperature import confidence_of_probabilities, tempered
from lightning_seg.inference.whole import Size, label_maps, probability_bands, sure_label_map
from lightning_seg.structures import Batch, Item, Scores

Losses = Mapping[str, Tensor]


Told = Callable[[int, int, Tensor], None]
"""Takes the place of an image in its batch, the first row of a band, and the band."""


@dataclass(frozen=True)
class Watch:
    """What is told how sure the network is, while label maps are computed.

    Attributes:
        temperature: T > 0 of the confidences.
        confidence: takes (rows, W) float32 in [0, 1], the largest class probability of each pixel at this temperature.
        probabilities: takes (K, rows, W) float32 that sum to 1 over the classes, at T = 1; None: they are not needed,
            which saves time.
    """

    temperature: float
    confidence: Told
    probabilities: Told | None = None

    def of_part(self, places: Sequence[int]) -> "Watch":
        """The same for a part of the batch, which is given by its places in the whole one."""

        def elsewhere(told: Told) -> Told:
            return lambda place, top, band: told(places[place], top, band)

        probabilities = None if self.probabilities is None else elsewhere(self.probabilities)
        return Watch(self.temperature, elsewhere(self.confidence), probabilities)


class Answer(Protocol):
    """What a network says of each image of a batch.

    Attributes:
        scores: of each image.
        input_sizes: height and width of each image as given.
        losses: of each image, scalars by name; empty where the batch has no ``sem_seg``.
    """

    @property
    def scores(self) -> Sequence[Scores]: ...
    @property
    def input_sizes(self) -> Sequence[Size]: ...
    @property
    def losses(self) -> Sequence[Losses]: ...


Ask = Callable[[Batch], Answer]
"""A network in evaluation; it says of an image the same, but for rounding, whatever else is in the batch."""


class WindowedImage(Protocol):
    """An image that is read by windows, because it is larger than memory; stands for ``image`` of a sample.

    Attributes:
        shape: (C, H, W).
    """

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def window(self, rows: slice, columns: slice) -> Tensor:
        """(C, rows, columns) of the image's type; both slices have a start and a stop inside it, and no step."""
        ...


class Inference(Described, ABC):
    """How an image is evaluated: which inputs the network gets of it, and what becomes of what it says.

    A subclass writes :meth:`bands`. All methods take the network as a function, and samples as
    :class:`lightning_seg.structures.Item` describes them; ``image`` may be a :class:`WindowedImage`.
    """

    @abstractmethod
    def bands(self, ask: Ask, sample: Item, first: int) -> Bands:
        """Bands (K, rows, W) float32 that sum to 1 over the K classes, at the stored size of an image.

        They begin at row ``first``, or above it where that is no more work, and do not depend on where they begin.
        """

    @property
    def by_windows(self) -> bool:
        """Whether images need not fit into memory."""
        return False

    def for_image(self, sample: Item) -> "Inference":
        """What comes to the same for one image, with the least in between."""
        return self

    @torch.no_grad()
    def probability_bands(self, ask: Ask, sample: Item, first: int = 0, temperature: float = 1.0) -> Bands:
        """First row and probabilities (K, rows, W) float32 of bands of rows, from row ``first``, at the stored size.

        They sum to 1 over the K classes. A height of more bands takes no more memory.
        """
        for top, band in _from_row(first, self.for_image(sample).bands(ask, sample, first)):
            yield top, tempered(band, temperature)

    @torch.no_grad()
    def label_bands(self, ask: Ask, sample: Item, first: int = 0) -> Bands:
        """First row and class ids (rows, W) of bands from row ``first``, of the smallest type that holds them."""
        yield from _from_row(first, self.for_image(sample).bands_of_labels(ask, sample, first))

    def bands_of_labels(self, ask: Ask, sample: Item, first: int) -> Bands:
        """The best classes of :meth:`bands`."""
        return _best_classes(self.bands(ask, sample, first))

    @torch.no_grad()
    def evaluate(self, ask: Ask, batch: Batch, watch: Watch | None = None) -> tuple[list[Tensor], list[Losses]]:
        """Label map (H, W) at the stored size and losses of each image.

        The losses are means over all inputs that the network gets of an image, each with its own part of the target.

        Args:
            ask: the network.
            batch: samples.
            watch: is told how sure the network is of each pixel.
        """
        ways = [self.for_image(sample) for sample in batch]
        found: dict[int, tuple[Tensor, Losses]] = {}
        for way in {id(way): way for way in ways}.values():
            places = [place for place, other in enumerate(ways) if other is way]
            told = None if watch is None else watch.of_part(places)
            maps, losses = way.evaluate_each(ask, [batch[place] for place in places], told)
            found.update(zip(places, zip(maps, losses, strict=True), strict=True))
        return [found[place][0] for place in range(len(batch))], [found[place][1] for place in range(len(batch))]

    def evaluate_each(self, ask: Ask, batch: Batch, watch: Watch | None = None) -> tuple[list[Tensor], list[Losses]]:
        """As :meth:`evaluate`, of images that are evaluated so."""
        maps, losses = [], []
        for place, sample in enumerate(batch):
            recorder = _Recorder(ask)
            bands = self.bands(recorder, sample, 0)
            if watch is not None:
                bands = _watched(bands, place, watch)
            maps.append(joined(_best_classes(bands), stored_size(sample)[0]))
            losses.append(recorder.mean())
        return maps, losses

    @torch.no_grad()
    def probabilities(self, ask: Ask, batch: Batch, temperature: float = 1.0) -> list[Tensor]:
        """Of each image, (K, H, W) float32 at its stored size, which sum to 1 over the classes."""
        bare: Batch = [cast(Item, {k: v for k, v in sample.items() if k != "sem_seg"}) for sample in batch]
        return [joined(self.probability_bands(ask, one, 0, temperature), stored_size(one)[0]) for one in bare]


class Whole(Inference):
    """The image as it is, in one piece, and with its batch where that is of one size."""

    def bands(self, ask: Ask, sample: Item, first: int) -> Bands:
        answer = ask([in_memory(sample)])
        size, place = stored_size(sample), sample.get("placement")
        yield from probability_bands(answer.scores[0], answer.input_sizes[0], size, place)

    def bands_of_labels(self, ask: Ask, sample: Item, first: int) -> Bands:
        """The label map as one band."""
        yield 0, self.evaluate_each(ask, [sample])[0][0]

    def evaluate_each(self, ask: Ask, batch: Batch, watch: Watch | None = None) -> tuple[list[Tensor], list[Losses]]:
        answer = ask([in_memory(sample) for sample in batch])
        sizes, placements = [stored_size(sample) for sample in batch], [sample.get("placement") for sample in batch]
        if watch is None:
            return label_maps(answer.scores, answer.input_sizes, sizes, placements=placements), list(answer.losses)
        maps = []
        for place, of_image in enumerate(zip(answer.scores, answer.input_sizes, sizes, strict=True)):
            labels, confidence = sure_label_map(*of_image, watch.temperature, placements[place])
            maps.append(labels)
            watch.confidence(place, 0, confidence)
            for top, band in probability_bands(*of_image, placements[place]) if watch.probabilities else ():
                watch.probabilities(place, top, band)  # type: ignore[misc]  # not None
        return maps, list(answer.losses)


def _best_classes(bands: Bands) -> Bands:
    for top, band in bands:
        yield top, first_best(band, label_dtype(len(band)))


def _watched(bands: Bands, place: int, watch: Watch) -> Bands:
    """The same bands of probabilities of an image, of which ``watch`` is told."""
    for top, band in bands:
        watch.confidence(place, top, confidence_of_probabilities(band, watch.temperature))
        if watch.probabilities is not None:
            watch.probabilities(place, top, band)
        yield top, band


WHOLE = Whole()
"""What a module without another choice does."""


class _Recorder:
    """Asks, and keeps the losses of all answers."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.losses: list[Losses] = []

    def __call__(self, batch: Batch) -> Answer:
        answer = self.ask(batch)
        self.losses.extend(answer.losses)
        return answer

    def mean(self) -> Losses:
        names = self.losses[0]
        return {name: torch.stack([_at_least_float32(losses[name]) for losses in self.losses]).mean() for name in names}


def _at_least_float32(loss: Tensor) -> Tensor:
    return loss.to(torch.promote_types(loss.dtype, torch.float32))


def _from_row(first: int, bands: Bands) -> Bands:
    for top, band in bands:
        if (above := max(0, first - top)) < band.shape[-2]:
            yield top + above, band[..., above:, :]


def stored_size(sample: Item) -> Size:
    """Height and width of the image as it is stored."""
    _, height, width = sample["image"].shape
    return sample.get("height", height), sample.get("width", width)


def in_memory(sample: Item) -> Item:
    """The sample with its image as a tensor."""
    if isinstance(sample["image"], Tensor):
        return sample
    _, height, width = sample["image"].shape
    return cast(Item, {**sample, "image": part_of(sample["image"], slice(0, height), slice(0, width))})


def part_of(image: Any, rows: slice, columns: slice) -> Tensor:
    """(C, rows, columns) of a tensor or of a :class:`WindowedImage`."""
    part: Tensor = image[:, rows, columns] if isinstance(image, Tensor) else image.window(rows, columns)
    return part


def require(holds: bool, setting: str, value: object, expected: str) -> None:
    """Raise a ConfigError unless a setting of ``model.inference`` is as expected."""
    if not holds:
        raise ConfigError(f"model.inference.init_args.{setting} is {value!r}, but must be {expected}")
