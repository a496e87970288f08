"""The part of the LightningModule that predicts: label maps and probabilities of images, by ``model.inference``."""

from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_seg.inference import Answer, Bands, Inference, Losses
from lightning_seg.models.segmentor import Segmentor
from lightning_seg.structures import Batch, Item


class PredictingModule(pl.LightningModule):
    """Predicts; a subclass sets what with.

    Attributes:
        segmentor: the network.
        inference: how it is asked of an image.
    """

    segmentor: Segmentor
    inference: Inference

    def forward(self, images: Tensor) -> Tensor:
        """Label maps of images as they are: the network's own normalisation and order of channels are applied here.

        Args:
            images: (N, 3, H, W) uint8 RGB.

        Returns:
            (N, H, W) class ids, of the smallest integer type that holds them.

        Raises:
            ValueError: if the images are of another shape or type.
        """
        if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.uint8:
            raise ValueError(
                f"images are {images.dtype} of shape {tuple(images.shape)}, but uint8 RGB (N, 3, H, W) is needed"
            )
        return torch.stack(self._predict([{"image": image} for image in images])[0])

    def predict_step(self, batch: Batch, batch_idx: int) -> list[Any]:
        """Label maps (height, width) at the stored size of each image, of the smallest type that holds the ids.

        A sample needs ``image``, (3, H, W) uint8 RGB; ``height`` and ``width`` are its own without. Of an image that is
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
        return self.inference.probabilities(self._ask, batch)

    def label_bands(self, sample: Item, first: int = 0) -> Bands:
        """First row and class ids (rows, W) of bands of one label map, from a row to the last.

        Args:
            sample: as of :meth:`predict_step`; or ``image`` is a :class:`lightning_seg.inference.WindowedImage`.
            first: row to begin with; what follows does not depend on it.
        """
        return self.inference.label_bands(self._ask, sample, first)

    def probability_bands(self, sample: Item, first: int = 0) -> Bands:
        """First row and probabilities (K, rows, W) float32 of bands of one image; as :meth:`label_bands`."""
        return self.inference.probability_bands(self._ask, sample, first)

    def _predict(self, batch: Batch) -> tuple[list[Tensor], list[Losses]]:
        """Label maps and losses of each image."""
        return self.inference.evaluate(self._ask, batch)

    def _ask(self, batch: Batch) -> Answer:
        """What the network says of images, which may come from elsewhere than the device."""
        return self.segmentor.evaluate([{**sample, "image": sample["image"].to(self.device)} for sample in batch])
