"""Counts an evaluation: update with each image, report at the end, reset for the next one."""

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from lightning_seg.metrics.aside import Aside
from lightning_seg.metrics.calibration import BINS, Calibration, count_confidences
from lightning_seg.metrics.confusion import ConfusionMatrix, Counts, EachImage
from lightning_seg.metrics.error_kinds import COUNTED, count_kinds
from lightning_seg.metrics.functional import AbsentClasses, confusion_matrix, count_pairs, mean_iou
from lightning_seg.metrics.images import ImageFigures, encode_image
from lightning_seg.metrics.map_figure import MapFigure
from lightning_seg.metrics.report import Report
from lightning_seg.transfers import Later


class _Counted(NamedTuple):
    """An image whose counts and loss are on their way to the CPU, and its label maps.

    ``maps`` are they on the way, too, if their errors are told apart.
    """

    position: int
    counts: Later
    foreign: Later
    loss: Later | None
    prediction: Tensor
    truth: Tensor
    maps: tuple[Later, Later] | None


class Evaluation(nn.Module):
    """Counts the images of one process, and reports on those of all.

    The counts of an image are read one image later, so that nobody waits for a GPU.

    Args:
        class_names: K names in id order.
        ignore_index: true value of pixels that do not count.
        absent_classes: which classes averages are over.
        map_figures: are counted beside the confusion matrix.
        error_budget: whether to count what :attr:`Report.error_budget` says.
        calibration: whether confidences are counted, too.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        ignore_index: int,
        absent_classes: AbsentClasses,
        map_figures: Sequence[MapFigure] = (),
        error_budget: bool = False,
        calibration: bool = False,
    ) -> None:
        super().__init__()
        self.class_names = list(class_names)
        self.ignore_index = ignore_index
        self.absent_classes = absent_classes
        self.confusion = ConfusionMatrix(len(class_names))
        self.map_figures = tuple(map_figures)
        self.map_counts = nn.ModuleList(Counts(len(class_names), figure.columns) for figure in map_figures)
        self.error_kinds = Counts(len(COUNTED) * len(class_names), len(class_names)) if error_budget else None
        self.confidences = Counts(BINS, 3) if calibration else None
        self.each_image = EachImage()
        self._aside = Aside()
        self._kinds: Tensor | int = 0  # on the CPU: while images are counted, nothing is sent to a GPU
        self._on_the_way: list[_Counted] = []
        self._codes: list[Tensor] = []

    def reset(self) -> None:
        """Forget all images."""
        self._on_the_way.clear()
        self._codes.clear()
        self._aside.stop()
        self._kinds = 0
        for metric in (self.confusion, *self.map_counts, self.error_kinds, self.each_image, self.confidences):
            if metric is not None:
                metric.reset()

    def update(
        self,
        prediction: Tensor,
        truth: Tensor,
        position: int | None = None,
        loss: Tensor | None = None,
        confidence: Tensor | None = None,
    ) -> None:
        """Count one image.

        Args:
            prediction: (H, W) class ids, uint8 or a signed integer type.
            truth: (H, W) class ids or the ignore index.
            position: of the image in its data set; a report sorts the images by it. None: how many images this process
                has counted before.
            loss: of the image, a floating scalar, or None.
            confidence: (H, W) float32, the largest class probability of each pixel; needed where it is counted.

        Raises:
            ValueError: if a counted id of this image is no class; raised at the next image, or by :meth:`report`.
        """
        classes = len(self.class_names)
        counts, foreign = count_pairs(prediction, truth, classes, self.ignore_index)
        self.confusion.update(counts)
        place = len(self._codes) + len(self._on_the_way) if position is None else position
        arriving = None if loss is None else Later(loss)
        maps = None if self.error_kinds is None else (Later(prediction), Later(truth))
        self._on_the_way.append(_Counted(place, Later(counts), Later(foreign), arriving, prediction, truth, maps))
        self._arrive(all_but=1)
        self._kinds += sum(self._aside.surplus())
        for figure, sums in self._figures_of_maps():
            sums.update(figure.count(prediction, truth, classes, self.ignore_index))
        if self.confidences is not None and confidence is not None:
            self.confidences.update(count_confidences(confidence, prediction, truth, self.ignore_index))

    def running_mean_iou(self) -> float:
        """The mIoU of this process's images so far; this waits for the device."""
        return mean_iou(self.confusion.matrix.cpu(), self.absent_classes).item()

    def figure_names(self) -> list[str]:
        """Names of what :attr:`Report.logged` will hold."""
        none = torch.zeros(len(self.class_names), len(self.class_names), dtype=torch.int64)
        figures = {figure.name: none[0].double() for figure in self.map_figures}
        sure = None if self.confidences is None else Calibration(torch.zeros(BINS, 3, dtype=torch.int64))
        images = self._images(none[0, :0])
        return list(Report("", self.class_names, none, images, self.absent_classes, figures, calibration=sure).logged)

    def report(self, split: str, temperature: float = 1.0) -> Report:
        """The figures of the images of all processes; all of them must call this.

        Args:
            split: ``val`` or ``test``.
            temperature: of the confidences.
        """
        self._arrive(all_but=0)
        self.each_image.update(self._codes)
        self._codes.clear()
        self._kinds += sum(self._aside.rest())
        if self.error_kinds is not None and isinstance(self._kinds, Tensor):
            self.error_kinds.update(self._kinds.flatten(0, 1).to(self.error_kinds.matrix.device))
            self._kinds = 0
        return Report(
            split,
            self.class_names,
            self.confusion.total().cpu(),
            self._images(self.each_image.compute()),
            self.absent_classes,
            {figure.name: figure.per_class(sums.total().cpu()) for figure, sums in self._figures_of_maps()},
            error_kinds=None if self.error_kinds is None else self.error_kinds.total().cpu(),
            calibration=(
                None if self.confidences is None else Calibration(self.confidences.total().cpu(), temperature)
            ),
        )

    def _figures_of_maps(self) -> list[tuple[MapFigure, Counts]]:
        return [(figure, cast(Counts, sums)) for figure, sums in zip(self.map_figures, self.map_counts, strict=True)]

    def _images(self, codes: Tensor) -> ImageFigures:
        return ImageFigures.decode(codes, len(self.class_names), self.absent_classes)

    def _arrive(self, all_but: int) -> None:
        while len(self._on_the_way) > all_but:
            counted = self._on_the_way.pop(0)
            if counted.foreign.read():
                confusion_matrix(counted.prediction, counted.truth, len(self.class_names), self.ignore_index)  # raises
            loss = math.nan if counted.loss is None else counted.loss.read().item()
            if counted.maps is not None:
                predicted, true = (arrived.read() for arrived in counted.maps)
                self._aside.start(partial(count_kinds, predicted, true, len(self.class_names), self.ignore_index))
            self._codes.append(encode_image(counted.position, loss, counted.counts.read()))
