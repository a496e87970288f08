"""A trained model in two lines: ``load`` it, and call it with an image."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_seg.checkpoints.evaluated import EXPORTED, checkpoint_in
from lightning_seg.checkpoints.runs import DEFAULT_ROOT
from lightning_seg.colours import Colour
from lightning_seg.config_paths import expanded
from lightning_seg.data.readers.names import common_folder, unique_names
from lightning_seg.data.reading.given import path_of, read_given, refuse_given
from lightning_seg.data.reading.rules import ReadingRules
from lightning_seg.errors import ConfigError, DataError
from lightning_seg.files import absolute
from lightning_seg.loggers import downloaded
from lightning_seg.predictions.rasters import RasterRules
from lightning_seg.trained.module_network import Network, find_device, load_checkpoint
from lightning_seg.trained.result import Result

if TYPE_CHECKING:
    from lightning_seg.data.reading.given import Given
    from lightning_seg.geo.windows import WindowedImage


def load(source: str | os.PathLike[str], device: str = "auto", batch_size: int | None = None) -> "Predictor":
    """Load a trained model; its own evaluation transforms, reading rules, class names and colours come with it.

    Args:
        source: a run folder (its best checkpoint, else its last), a checkpoint, one that lies in W&B,
            ``wandb://ENTITY/PROJECT/model-ID:best``, or an exported ``.onnx`` or ``.pt2`` file. **A .pt2 file is a
            program**, and files of ``model.imports`` are run: only give what you trust.
        device: ``auto``: a GPU where there is one, else the CPU; or ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        batch_size: images that go through the network at once, where they are of one size, which changes nothing but
            rounding; None: 1 on a CPU, 8 on a GPU.

    Raises:
        CheckpointError: if there is no checkpoint, or it needs what is not there, such as a file of ``model.imports``.
        ConfigError: if there is no such device.
        DependencyError: if ONNX Runtime is missing.
    """
    if batch_size is not None and batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}, but must be at least 1")
    where = find_device(device)
    path = Path(expanded(downloaded(os.fspath(source), Path(DEFAULT_ROOT))))
    if path.suffix in EXPORTED:
        from lightning_seg.trained.file_network import FileNetwork, without_gpu

        where = torch.device("cpu") if device == "auto" and without_gpu(path) else where
        return Predictor(FileNetwork(path, where), batch_size)
    return Predictor(load_checkpoint(checkpoint_in(path) if path.is_dir() else path, where), batch_size)


class Predictor:
    """Predicts images: ``predictor("street.jpg")``. Made by :func:`load`.

    Label maps are those of ``predict``. Several threads may call one predictor: they read at once, and compute in turn.

    Args:
        network: what computes.
        batch_size: as of :func:`load`.
    """

    def __init__(self, network: Network, batch_size: int | None = None) -> None:
        self._network = network
        self._batch_size = batch_size or network.batch_size
        self._lock = threading.Lock()

    @property
    def batch_size(self) -> int:
        """Images at most that go through the network at once."""
        return self._batch_size

    @property
    def device(self) -> torch.device:
        """What it computes on."""
        return self._network.device

    @property
    def rules(self) -> ReadingRules:
        """What may be read, and how: ``data.bands``, ``max_pixels`` and ``value_range`` of the training."""
        return self._network.images.rules

    @property
    def class_names(self) -> tuple[str, ...]:
        """K names in id order."""
        return self._network.images.info.names

    @property
    def palette(self) -> tuple[Colour, ...]:
        """A colour (red, green, blue) of 0 to 255 for each class, in id order."""
        return self._network.images.info.palette

    def __repr__(self) -> str:
        return f"Predictor({len(self.class_names)} classes, {self.device})"

    @overload
    def __call__(self, image: "Given") -> Result: ...

    @overload
    def __call__(self, image: "list[Given] | tuple[Given, ...]") -> list[Result]: ...

    def __call__(self, image: Any) -> Result | list[Result]:
        """Predict an image or a list of images.

        Args:
            image: a path, a PIL image, an (H, W, 3) uint8 RGB array, a (3, H, W) uint8 RGB tensor, or a list of these,
                of any sizes. For a model of ``data.bands``: a path, an (H, W, C) array or a (C, H, W) tensor of these
                bands, in their order and with values as files store them.

        Returns:
            A result; of a list, one for each, in its order.

        Raises:
            DataError: naming the input that cannot be used. Types, shapes, and headers of files are looked at before
                anything is computed.
        """
        if not isinstance(image, list | tuple):
            return self._predict([image], _refusal)[0]
        return self._predict(image, lambda index: _refusal(index, len(image)))

    def _predict(self, given: Sequence[Any], naming: Any) -> list[Result]:
        images = self._network.images
        for index, one in enumerate(given):
            with naming(index):
                refuse_given(one, images.rules)
        names = _names(given)
        results: list[Result] = []
        for start in range(0, len(given), self._batch_size):
            batch, pictures = [], []
            for index in range(start, min(start + self._batch_size, len(given))):
                with naming(index):
                    pictures.append(read_given(given[index], images.rules))
            with self._lock:
                for index, picture in enumerate(pictures, start):
                    with naming(index):
                        batch.append(images.item(picture, _source(given[index]), index))
                masks = self._network.label_maps(batch)
            for index, (picture, mask) in enumerate(zip(pictures, masks, strict=True), start):
                compute = self._probabilities(picture, _source(given[index]), index)
                place = partial(self._place, path_of(given[index]))
                results.append(Result(names[index], picture, mask.numpy(), images.info, compute, place, images.rules))
        return results

    def _place(self, file: Path | None) -> "WindowedImage | None":
        return None if file is None else RasterRules(self._network.images.rules).place(file)

    def _probabilities(self, picture: NDArray[Any], source: Path, position: int) -> Any:
        def compute() -> NDArray[np.float32]:
            with self._lock:
                item = self._network.images.item(picture, source, position)
                return np.asarray(self._network.probabilities([item])[0].numpy())

        return compute


def _source(given: Any) -> Path:
    return path_of(given) or Path("(in memory)")


def _names(given: Sequence[Any]) -> list[str]:
    """Of files their paths from the folder that holds all, as ``predict`` names them; of others ``image``."""
    found = [path_of(one) for one in given]
    paths = [path and absolute(path) for path in found]
    folder = common_folder([path for path in paths if path is not None])
    digits = len(str(len(given)))
    numbered = [f"image_{index:0{digits}d}" if len(given) > 1 else "image" for index in range(1, len(given) + 1)]
    return unique_names(
        [other if path is None else path.relative_to(folder) for path, other in zip(paths, numbered, strict=True)]
    )


@contextmanager
def _refusal(index: int, count: int | None = None) -> Iterator[None]:
    """Name the input of a list in an error."""
    try:
        yield
    except DataError as error:
        where = "the input" if count is None else f"input {index + 1} of {count}"
        if str(error).startswith("it is "):
            raise type(error)(where + str(error).removeprefix("it")) from error
        if count is None:
            raise
        raise type(error)(f"{where}: {error}") from error
