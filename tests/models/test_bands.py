"""Networks for images of other bands than RGB, and of other types than bytes."""

from typing import Any

import pytest
import torch

from lightning_seg.errors import ConfigError, DataError
from lightning_seg.inference.whole import label_maps
from lightning_seg.losses import CrossEntropy
from lightning_seg.models.recipe import load_recipe
from lightning_seg.models.segmentor import Segmentor
from lightning_seg.structures import Batch
from tests.conftest import TINY_OVERRIDES
from tests.models.networks import BACKBONES, HEADS, NUM_CLASSES, ODD, build_segmentor, overrides_of, total_loss
from tests.models.samples import IGNORE, ZOO, make_batch, pair

pytestmark = pytest.mark.usefixtures("one_thread")

MEAN, STD = [400.0, 700.5, 900.0, 3000.0], [200.0, 150.0, 300.0, 800.0]
PIXELS = {"MODEL.PIXEL_MEAN": MEAN, "MODEL.PIXEL_STD": STD}


def banded(dtype: torch.dtype, sizes: list[tuple[int, int]] = ODD, channels: int = 4) -> Batch:
    """Samples with as many bands, whose values spread about :data:`MEAN`."""
    batch = make_batch(sizes, NUM_CLASSES)
    generator = torch.Generator().manual_seed(3)
    for sample in batch:
        values = torch.randn(channels, *sample["image"].shape[1:], generator=generator)
        mean, std = (torch.tensor((given * channels)[:channels])[:, None, None] for given in (MEAN, STD))
        sample["image"] = (values * std + mean).clamp(0, 32000).to(dtype)
    return batch


@pytest.mark.parametrize("head", HEADS)
def test_every_head_trains_and_evaluates_four_bands(head: str) -> None:
    segmentor = build_segmentor({**overrides_of("regnet FPN", head), **PIXELS})
    state = {name: tensor.clone() for name, tensor in segmentor.state_dict().items()}
    losses = []
    for dtype in (torch.uint16, torch.int16, torch.float32):
        segmentor.load_state_dict(state)
        segmentor.zero_grad()
        batch = banded(dtype)
        if dtype == torch.float32:
            for sample in batch:
                sample["image"] = sample["image"].round()
        loss = total_loss(segmentor, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(loss.item())
        trained = [parameter for parameter in segmentor.parameters() if parameter.requires_grad]
        assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in trained)
        torch.optim.SGD(trained, 0.01).step()
        with torch.no_grad():
            found = segmentor.eval().evaluate(batch)
        maps = label_maps(found.scores, found.input_sizes, ODD)
        assert [tuple(labels.shape) for labels in maps] == ODD
        assert all(labels.max() < NUM_CLASSES for labels in maps)
        assert all(part.isfinite() for parts in found.losses for part in parts.values())
    assert losses[0] == losses[1]
    assert losses[2] == pytest.approx(losses[0], rel=1e-2)  # rounded to the nearest, not down


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_takes_the_channels_of_the_pixel_mean(backbone: str) -> None:
    choose, _ = HEADS["DeepLabV3Head"]
    overrides = overrides_of(backbone, "DeepLabV3Head")
    assert choose(list(BACKBONES[backbone][1])) == overrides["MODEL.SEM_SEG_HEAD.IN_FEATURES"]
    segmentor = build_segmentor({**overrides, **PIXELS})
    assert (segmentor.channels, segmentor.bgr) == (4, False)
    batch = banded(torch.uint16)
    with torch.no_grad():
        before = segmentor.eval().scores(batch)
        for sample in batch:
            sample["image"][3] = 0  # the network sees the last band
        after = segmentor.scores(batch)
    assert all(scores.logits.isfinite().all() for scores in before)
    assert not any(torch.equal(a.logits, b.logits) for a, b in zip(before, after, strict=True))


def test_losses_of_four_bands_are_detectron2s() -> None:
    """No band is turned around, whatever ``INPUT.FORMAT`` says of RGB."""
    ours, theirs, _ = pair({**TINY_OVERRIDES, **PIXELS, "INPUT.FORMAT": "BGR"})
    batch = banded(torch.uint16, [(64, 96), (64, 96)])
    given = [{**sample, "image": sample["image"].float(), "sem_seg": sample["sem_seg"].long()} for sample in batch]
    assert torch.equal(ours.train().losses(batch)["loss_sem_seg"], theirs.train()(given)["loss_sem_seg"])


@pytest.mark.parametrize("dtype", [torch.uint16, torch.int16, torch.float32])
def test_the_type_of_the_pixels_does_not_change_what_the_network_sees(dtype: torch.dtype) -> None:
    segmentor, batch = build_segmentor(TINY_OVERRIDES), make_batch(ODD)
    other: Batch = [{**sample, "image": sample["image"].to(dtype)} for sample in batch]
    assert torch.equal(total_loss(segmentor, other), total_loss(segmentor, batch))


@pytest.mark.parametrize("precision", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
def test_the_network_computes_in_the_type_of_its_own_numbers(precision: torch.dtype, dtype: torch.dtype) -> None:
    segmentor = build_segmentor(TINY_OVERRIDES).to(precision)
    batch: Batch = [{"image": sample["image"].to(dtype)} for sample in make_batch(ODD[:1])]
    assert segmentor.inputs(batch).dtype == precision


def test_whole_numbers_are_a_mean_too() -> None:
    whole = {"MODEL.PIXEL_MEAN": [1, 2, 3, 4], "MODEL.PIXEL_STD": [2, 2, 2, 3]}
    segmentor = build_segmentor({**TINY_OVERRIDES, **whole})
    inputs = segmentor.inputs([{"image": torch.full((4, 32, 32), 8, dtype=torch.int16)}])
    torch.testing.assert_close(inputs[0, :, 0, 0], torch.tensor([3.5, 3.0, 2.5, 4 / 3]))


def test_losses_in_little_memory_take_bands() -> None:
    segmentor = Segmentor(
        load_recipe(ZOO, {**TINY_OVERRIDES, **PIXELS}),
        num_classes=NUM_CLASSES,
        ignore_index=IGNORE,
        criterion=CrossEntropy(low_memory=True),
        auxiliary_stage="res4",
        channels_last=True,
        activation_checkpointing=True,
    )
    loss = total_loss(segmentor, banded(torch.uint16, [(64, 64), (64, 64)]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.isfinite()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"MODEL.PIXEL_MEAN": MEAN}, r"MODEL\.PIXEL_MEAN has 4 values and MODEL\.PIXEL_STD 3, .*lightning_seg\.audit"),
        ({"MODEL.PIXEL_MEAN": [], "MODEL.PIXEL_STD": []}, "PIXEL_MEAN has 0 values"),
        ({"MODEL.PIXEL_STD": [1.0, 0.0, 1.0]}, "standard deviations above 0, are needed"),
        ({"MODEL.PIXEL_MEAN": [1.0, float("nan"), 1.0]}, "finite numbers"),
    ],
)
def test_refuses_pixels_without_a_mean_or_a_deviation(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_segmentor({**TINY_OVERRIDES, **overrides})


def test_refuses_other_channels_than_the_pixel_mean_has() -> None:
    segmentor = build_segmentor({**TINY_OVERRIDES, **PIXELS})
    batch = make_batch(ODD)
    batch[0]["file_name"] = "a.tif"
    with pytest.raises(DataError, match=r"image a\.tif is a tensor of shape \(3, 65, 97\), but \(4, height, width\)"):
        segmentor.train().losses(batch)


def test_a_lazy_config_takes_as_many_channels_as_its_pixel_mean_has() -> None:
    config = "common/models/panoptic_fpn.py"
    pixels = {"model.pixel_mean": MEAN, "model.pixel_std": STD}
    message = (
        r"model\.pixel_mean has 4 values, but backbone\.bottom_up\.stem\.conv1 was built for images of 3 channels.*"
        r"--model\.overrides\.model\.backbone\.bottom_up\.stem\.in_channels 4"
    )
    with pytest.raises(ConfigError, match=message):
        Segmentor(load_recipe(config, pixels), num_classes=NUM_CLASSES, ignore_index=IGNORE)
    recipe = load_recipe(config, {**pixels, "model.backbone.bottom_up.stem.in_channels": 4})
    segmentor = Segmentor(recipe, num_classes=NUM_CLASSES, ignore_index=IGNORE)
    assert (segmentor.channels, segmentor.bgr) == (4, False)
    with torch.no_grad():
        assert segmentor.eval().scores(banded(torch.uint16, [(64, 64)]))[0].logits.isfinite().all()
