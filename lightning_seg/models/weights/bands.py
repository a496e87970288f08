"""Adapts the first convolution of RGB weights to images of other bands, by timm's rule."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from lightning_seg.errors import CheckpointError
from lightning_seg.models.image_layers import image_layers
from lightning_seg.models.weights.keys import ConfigKeys

_RGB = 3


@dataclass(frozen=True)
class Adapted:
    """A tensor that sees the image, and was made of one that sees RGB.

    Attributes:
        name: of the network's tensor.
        channels: of the images here.
        was_bgr: whether the file's tensor sees BGR.
    """

    name: str
    channels: int
    was_bgr: bool

    def __str__(self) -> str:
        how = "their sum" if self.channels == 1 else f"in turn, times 3/{self.channels}"
        turned = ", which were blue, green, red in the file" if self.was_bgr else ""
        return (
            f"{self.name}: from 3 channels to {self.channels}: the weights of red, green and blue{turned}, {how}, so "
            "the first band gets those of red"
        )


def of_other_bands(weight: Tensor, channels: int) -> Tensor:
    """Weights (O, C, h, w) for images of C channels, of weights (O, 3, h, w) for RGB; the same type.

    One channel gets their sum; others get them in turn, times 3 / C, so that features keep about their size. This is
    what ``timm.models.adapt_input_conv`` does.
    """
    of_rgb = weight.float()
    if channels == 1:
        return of_rgb.sum(1, keepdim=True).to(weight.dtype)
    return (of_rgb.repeat(1, -(-channels // _RGB), 1, 1)[:, :channels] * (_RGB / channels)).to(weight.dtype)


def adapt_input(
    network: nn.Module, pairs: Mapping[str, Tensor], source: str, *, own: bool, bgr: bool, keys: ConfigKeys
) -> tuple[dict[str, Tensor], list[Adapted]]:
    """Adapt those tensors of a file that see the image, if the network's images have other bands than RGB.

    Args:
        network: what Detectron2 built, with its backbone at ``backbone``.
        pairs: the file's tensors by the network's names.
        source: what the user gave, for errors.
        own: whether the file is a checkpoint of this project, whose bands are those of its data.
        bgr: whether the file's tensors see BGR.
        keys: of the config that the network was built from.

    Returns:
        The adapted tensors by name, and what was done.

    Raises:
        CheckpointError: if the file is for images of another number of channels, and not for RGB.
    """
    here, mean = network.state_dict(), getattr(network, "pixel_mean", None)
    if mean is None:
        return {}, []
    channels = len(mean)
    other = {name: stored for name, stored in pairs.items() if _sees_other_channels(here[name], stored, channels)}
    seeing = [f"{name}.weight" for name in image_layers(network, channels)] if other else []
    adapted, told = {}, []
    for name in filter(other.__contains__, seeing):
        stored = other[name]
        if own or stored.shape[1] != _RGB:
            raise CheckpointError(
                f"{source} is for images of {stored.shape[1]} channels, but {keys.pixel_mean} has {channels} values: "
                "give the data.bands, pixel mean and standard deviation that it was trained with; weights for RGB "
                "alone are adapted, and no checkpoint of this program"
            )
        adapted[name] = of_other_bands(stored.flip(1) if bgr else stored, channels)
        told.append(Adapted(name, channels, bgr))
    return adapted, told


def _sees_other_channels(here: Tensor, stored: Tensor, channels: int) -> bool:
    """Whether a tensor may be the first of a network for other images; its shape is that but for the channels."""
    return (
        here.ndim == stored.ndim == 4
        and here.shape[1] == channels != stored.shape[1]
        and (here.shape[0], *here.shape[2:]) == (stored.shape[0], *stored.shape[2:])
    )
