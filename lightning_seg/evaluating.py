"""The half of the LightningModule that evaluates: it predicts images, and logs the figures of a split."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from lightning_seg.errors import ConfigError
from lightning_seg.inference import Answer, Bands, Inference, Losses, Told, Watch
from lightning_seg.launching.channels import channels_problem, units_notice
from lightning_seg.launching.monitors import step_on_plateau
from lightning_seg.metrics import Evaluation, Report
from lightning_seg.metrics.temperature import TemperatureFit
from lightning_seg.models.recipe import Recipe
from lightning_seg.models.segmentor import Segmentor, total_loss
from lightning_seg.structures import Batch, DatasetInfo, Item


class EvaluatingModule(pl.LightningModule):
    """Predicts, validates and tests; a subclass sets what with, and trains.

    Attributes:
        segmentor: the network.
        recipe: that it was built from.
        inference: how it is asked of an image.
        evaluation: counts the images.
        report: the figures of the last evaluation that ended.
        image_type: NumPy's name of the type of the images' values: ``uint8``, or that of ``data.bands``.
        temperature: T > 0 of all probabilities that are given, as the checkpoint has it; 1 in training. Label maps are
            those of 1.
        temperature_fit: is shown the probabilities of an evaluation, which then logs and reports nothing; None: none.
    """

    segmentor: Segmentor
    recipe: Recipe
    inference: Inference
    evaluation: Evaluation

    def __init__(self) -> None:
        super().__init__()
        self.report: Report | None = None
        self.image_type = "uint8"
        self.temperature = 1.0
        self.temperature_fit: TemperatureFit | None = None
        self._type_of_data: str | None = None
        self._has_weights = False
        self._figures: dict[str, Tensor] = {}

    def forward(self, images: Tensor) -> Tensor:
        """Label maps of images as they are: the network's own normalisation and order of channels are applied here.

        Args:
            images: (N, 3, H, W) uint8 RGB; or (N, C, H, W) bands of the type of the data, for a network of C channels.

        Returns:
            (N, H, W) class ids, of the smallest integer type that holds them.

        Raises:
            ValueError: if the images are of another shape or type.
        """
        channels, given = self.segmentor.channels, str(images.dtype).removeprefix("torch.")
        if images.ndim != 4 or images.shape[1] != channels or given != self.image_type:
            raise ValueError(
                f"images are {images.dtype} of shape {tuple(images.shape)}, but {self.image_type} "
                f"(N, {channels}, H, W) is needed"
            )
        return torch.stack(self._predict([{"image": image} for image in images])[0])

    @property
    def image_mean(self) -> tuple[float, ...]:
        """The mean that the network subtracts, a value a channel, in the order and the unit of the images."""
        mean = self.segmentor.network.pixel_mean.flatten()
        return tuple((mean.flip(0) if self.segmentor.bgr else mean).tolist())

    def meet_data(self, data: object) -> None:
        """Take on the type of a data module's images.

        Args:
            data: what has ``info``; another one says nothing.

        Raises:
            ConfigError: if its images have other channels than the network takes.
        """
        if not isinstance(info := getattr(data, "info", None), DatasetInfo):
            return
        if problem := channels_problem(info, self.segmentor, self.recipe):
            raise ConfigError(problem)
        self.image_type = self._type_of_data = info.dtype
        if notice := units_notice(info, self.segmentor, self.recipe):
            rank_zero_warn(notice)

    def meet_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Take on the type of the images that a checkpoint was trained on; warn if those of the data have another."""
        if (record := checkpoint.get("evaluation")) is None:
            return
        trained = record["rules"].get("dtype") or "uint8"
        if self._type_of_data is None:
            self.image_type = trained
        elif self._type_of_data != trained:
            rank_zero_warn(
                f"the checkpoint was trained on images of {trained}, and those of the data hold {self._type_of_data}: "
                "its figures mean something only if the values are in the same units"
            )

    def predict_step(self, batch: Batch, batch_idx: int) -> list[Any]:
        """Label maps (height, width) at the stored size of each image, of the smallest type that holds the ids.

        A sample needs ``image``, (C, H, W) as stored; ``height`` and ``width`` are its own without. Of an image that is
        read by windows, :meth:`label_bands` from a row on stands in place of its label map.
        """
        maps = iter(self._predict([sample for sample in batch if isinstance(sample["image"], Tensor)])[0])
        return [
            next(maps) if isinstance(sample["image"], Tensor) else partial(self.label_bands, sample) for sample in batch
        ]

    def probabilities(self, batch: Batch) -> list[Tensor]:
        """Of each image, (K, H, W) float32 at its stored size, which sum to 1 over the K classes.

        The argmax is the label map of :meth:`predict_step`, except where rounding decides. Samples are as there, on the
        device of the module, which must be in evaluation mode.
        """
        return self.inference.probabilities(self._ask, batch, self.temperature)

    def label_bands(self, sample: Item, first: int = 0) -> Bands:
        """First row and class ids (rows, W) of bands of one label map, from a row to the last.

        Args:
            sample: as of :meth:`predict_step`; or ``image`` is a :class:`lightning_seg.inference.WindowedImage`.
            first: row to begin with; what follows does not depend on it.
        """
        return self.inference.label_bands(self._ask, sample, first)

    def probability_bands(self, sample: Item, first: int = 0) -> Bands:
        """First row and probabilities (K, rows, W) float32 of bands of one image; as :meth:`label_bands`."""
        return self.inference.probability_bands(self._ask, sample, first, self.temperature)

    def figures(self, split: str) -> list[str]:
        """Names of what an evaluation logs."""
        return [f"{split}/{name}" for name in self.evaluation.figure_names()]

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, list[Tensor]]:
        return self._evaluation_step(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, list[Tensor]]:
        return self._evaluation_step(batch)

    def on_validation_epoch_start(self) -> None:
        self._start_evaluation()

    def on_test_epoch_start(self) -> None:
        self._start_evaluation()

    def on_predict_epoch_start(self) -> None:
        self._start_evaluation()

    def on_validation_epoch_end(self) -> None:
        self._log_report("val")
        if self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking:
            step_on_plateau(self.trainer, self._figures)

    def on_test_epoch_end(self) -> None:
        self._log_report("test")

    def _evaluation_step(self, batch: Batch) -> dict[str, list[Tensor]]:
        """Count one batch; callbacks find the label maps under ``predictions``."""
        if not batch:  # this process has no sample, but joins the others
            return {"predictions": []}
        sure = _Sureness(batch)
        watch = None
        if self.evaluation.confidences is not None:
            shown = self.temperature_fit and sure.shown_to(self.temperature_fit, self.evaluation.ignore_index)
            watch = Watch(self.temperature, sure.keep, shown)
        predictions, losses = self._predict(batch, watch)
        for place, (sample, prediction, parts) in enumerate(zip(batch, predictions, losses, strict=True)):
            loss = total_loss(parts) if parts else None
            confidence = None if watch is None else torch.cat(sure.bands[place])
            self.evaluation.update(prediction, sample["truth"], sample.get("position"), loss, confidence)
        return {"predictions": predictions}

    def _start_evaluation(self) -> None:
        if not self._has_weights and self.trainer.state.fn != TrainerFn.FITTING:  # as BatchSizeFinder does first
            command = TrainerFn(self.trainer.state.fn).value
            raise ConfigError(f"{command} would use random weights: give --ckpt_path or --model.weights")
        self.evaluation.reset()

    def _log_report(self, split: str) -> None:
        """Log what all processes counted together; every process has the same figures after ``compute``."""
        if self.temperature_fit is not None:
            self.report = None
            self.temperature_fit.end(self.evaluation.report(split, self.temperature).calibration)
            return
        self.report = self.evaluation.report(split, self.temperature)
        # As float64, so that a log says the same as metrics.json to the last digit.
        self._figures = {
            f"{split}/{name}": torch.tensor(value, dtype=torch.float64) for name, value in self.report.logged.items()
        }
        for name, figure in self._figures.items():
            self.log(name, figure, prog_bar=name == f"{split}/mIoU")

    def _predict(self, batch: Batch, watch: Watch | None = None) -> tuple[list[Tensor], list[Losses]]:
        """Label maps and losses of each image."""
        return self.inference.evaluate(self._ask, batch, watch)

    def _ask(self, batch: Batch) -> Answer:
        """What the network says of images, which may come from elsewhere than the device."""
        return self.segmentor.evaluate([{**sample, "image": sample["image"].to(self.device)} for sample in batch])


class _Sureness:
    """How sure the network is of each pixel of a batch.

    Attributes:
        bands: of each image, what :meth:`torch.cat` makes (H, W) float32 of.
    """

    def __init__(self, batch: Batch) -> None:
        self.bands: list[list[Tensor]] = [[] for _ in batch]
        self._batch = batch

    def keep(self, place: int, top: int, band: Tensor) -> None:
        """Keep the confidences of a band of an image."""
        self.bands[place].append(band)

    def shown_to(self, fit: TemperatureFit, ignore_index: int) -> Told:
        """What shows a fit the pixels of a band that are drawn for it."""
        truths = [sample["truth"] for sample in self._batch]
        drawn = [fit.sample(one["truth"], one.get("position", 0), ignore_index) for one in self._batch]

        def show(place: int, top: int, band: Tensor) -> None:
            rows = slice(top, top + band.shape[1])
            some = drawn[place][rows]
            fit.update(band[:, some], truths[place][rows][some])

        return show
