"""What a network computes on a GPU is what Detectron2 computes there, and what it is on a CPU."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.inference import Augmented, Inference, SlidingWindow
from lightning_seg.inference.whole import label_maps, sure_label_map
from lightning_seg.losses import OHEM, Criterion, CrossEntropy, HardPixelMining
from lightning_seg.metrics import Evaluation
from lightning_seg.metrics.boundary import boundary_iou
from lightning_seg.metrics.functional import confusion_matrix
from lightning_seg.structures import DenseScores
from lightning_seg.transfers import Later
from tests.conftest import MODELS
from tests.gpu.devices import Batch, on
from tests.inference.networks import Network, picture
from tests.models.networks import build_segmentor, overrides_of
from tests.models.samples import IGNORE, as_detectron2, make_batch, pair

SIZES = [(64, 96), (64, 96)]


def seeded(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Losses of a Detectron2 model, whose points and dropout are drawn from the same numbers as those of others."""
    torch.manual_seed(1)
    losses: dict[str, Tensor] = network.train()(batch)
    return losses


@pytest.mark.parametrize("name", MODELS)
def test_losses_and_gradients_are_detectron2s(device: torch.device, name: str) -> None:
    ours, theirs, cfg = pair(MODELS[name])
    ours, theirs = ours.to(device), theirs.to(device)
    batch = make_batch(SIZES)
    expected = seeded(theirs, as_detectron2(on(device, batch), cfg.INPUT.FORMAT))
    torch.manual_seed(1)
    found = ours.train().losses(on(device, batch))
    assert found.keys() == expected.keys()
    for loss in expected:
        torch.testing.assert_close(found[loss], expected[loss], rtol=1e-5, atol=1e-6)
    for losses in (expected, found):
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    trained = {key: value.grad for key, value in ours.network.named_parameters() if value.grad is not None}
    for key, value in theirs.named_parameters():
        if key in trained:
            assert value.grad is not None
            torch.testing.assert_close(trained[key], value.grad, rtol=1e-3, atol=1e-5, msg=key)


@pytest.mark.parametrize("name", ["SemSegFPN", "DeepLabV3Plus"])
def test_ten_steps_give_the_weights_of_simple_trainer(device: torch.device, name: str) -> None:
    """A GPU adds in any order: Detectron2 differs from itself too, and the difference grows from step to step."""
    ours, theirs, cfg = pair(MODELS[name])
    ours, theirs, again = ours.to(device), theirs.to(device), deepcopy(theirs).to(device)
    batches = [on(device, make_batch(SIZES, seed=step)) for step in range(10)]
    own = torch.optim.SGD(ours.parameters(), 0.01, momentum=0.9)
    torch.manual_seed(0)
    for batch in batches:
        own.zero_grad()
        torch.stack(list(ours.train().losses(batch).values())).sum().backward()  # type: ignore[no-untyped-call]
        own.step()
    for network in (theirs, again):
        train_with_detectron2(network, [as_detectron2(batch, cfg.INPUT.FORMAT) for batch in batches])
    expected, repeated = theirs.state_dict(), again.state_dict()
    for key, value in ours.network.state_dict().items():
        if value.is_floating_point():
            error, noise = (
                float((weights - expected[key]).norm() / expected[key].norm().clamp(min=1e-3))
                for weights in (value, repeated[key])
            )
            assert error < 1e-3 + 5 * noise, f"{key}: {error}, and Detectron2 from itself: {noise}"


def train_with_detectron2(network: nn.Module, batches: list[Batch]) -> None:
    from detectron2.engine import SimpleTrainer

    torch.manual_seed(0)
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9)
    SimpleTrainer(network.train(), batches, optimizer).train(0, len(batches))


@pytest.mark.parametrize("size", [(128, 192), (121, 190), (301, 77)])
@pytest.mark.parametrize("classes", [19, 150])
def test_label_maps_and_counts_are_those_of_the_cpu(device: torch.device, size: tuple[int, int], classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, classes, 32, 48, generator=generator)
    truth = torch.randint(0, classes, size, generator=generator).to(torch.uint8)
    truth[:5] = IGNORE
    for input_size in [(128, 192), (121, 190)]:
        expected = label_maps(DenseScores.of(logits, 4), [input_size], [size])[0]
        found = label_maps(DenseScores.of(logits.to(device), 4), [input_size], [size])[0]
        assert found.device.type == device.type
        differing = (found.cpu() != expected).nonzero()
        assert len(differing) <= 1e-4 * expected.numel()  # where the two best are equal to rounding
        scores = [DenseScores.of(given, 4)[0] for given in (logits, logits.to(device))]
        (_, sure), (labels, sure_here) = (sure_label_map(one, input_size, size, 1.5) for one in scores)
        torch.testing.assert_close(sure_here.cpu(), sure, rtol=0, atol=1e-4)
        assert torch.equal(labels, found)
        on_cpu = confusion_matrix(expected, truth, classes, IGNORE)
        assert torch.equal(confusion_matrix(expected.to(device), truth.to(device), classes, IGNORE).cpu(), on_cpu)


@pytest.mark.parametrize("way", [SlidingWindow((40, 56), 0.5), Augmented([1.0, 0.75], of=SlidingWindow((40, 56)))])
def test_blended_probabilities_are_those_of_the_cpu(device: torch.device, way: Inference) -> None:
    network, image = Network(4), picture(97, 131)
    found, expected = (
        way.probabilities(network, [{"image": image.to(where), "height": 60, "width": 150}])[0].cpu()
        for where in (device, torch.device("cpu"))
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)


def test_an_evaluation_reads_its_figures_late_and_whole(device: torch.device) -> None:
    evaluations = [
        Evaluation(["a", "b", "c"], IGNORE, "detectron2", [boundary_iou(3)]).to(at) for at in ("cpu", device)
    ]
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        prediction, truth = (torch.randint(0, 3, (31, 17), generator=generator).to(torch.uint8) for _ in range(2))
        for evaluation, at in zip(evaluations, ("cpu", device), strict=True):
            evaluation.update(prediction.to(at), truth.to(at), loss=torch.ones((), device=at))
    expected, found = (evaluation.report("val") for evaluation in evaluations)
    assert found.as_json() == expected.as_json()
    assert found.logged == expected.logged
    assert found.images.losses.tolist() == [1, 1, 1]
    assert (found.images.matrices() == expected.images.matrices()).all()
    assert Later(torch.arange(3, device=device)).read().tolist() == [0, 1, 2]


@pytest.mark.parametrize("criterion", [CrossEntropy, OHEM, HardPixelMining])
@pytest.mark.parametrize("size", [(64, 96), (61, 90)])
def test_low_memory_losses_are_the_plain_ones(
    device: torch.device, criterion: type[Criterion], size: tuple[int, int]
) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 19, 16, 24, generator=generator).to(device)
    targets = torch.randint(0, 19, (2, *size), generator=generator).to(device)
    targets[:, :7] = IGNORE
    found = []
    for low_memory in (False, True):
        leaf = logits.clone().requires_grad_()
        (loss,) = criterion(low_memory=low_memory).to(device)(leaf, targets, IGNORE).values()  # type: ignore[call-arg]
        loss.backward()
        found.append((loss.detach(), leaf.grad))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-5, atol=1e-6)
    assert found[0][1] is not None
    torch.testing.assert_close(found[1][1], found[0][1], rtol=1e-3, atol=1e-3 * float(found[0][1].abs().max()))


def test_upsampled_logits_of_the_head_need_no_second_interpolation(device: torch.device) -> None:
    """Detectron2's own two steps, at an odd size."""
    from detectron2.modeling.postprocessing import sem_seg_postprocess

    logits = torch.randn(1, 19, 32, 48, generator=torch.Generator().manual_seed(0)).to(device)
    for size, original in [((125, 187), (125, 187)), ((125, 187), (250, 300))]:
        full = F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)[0]
        expected = sem_seg_postprocess(full, torch.Size(size), *original).argmax(0)
        found = label_maps(DenseScores.of(logits, 4), [size], [original])[0].long()
        assert (found != expected).sum() <= 1e-4 * expected.numel()


@pytest.mark.parametrize("dtype", [torch.uint16, torch.int16, torch.float32])
def test_bands_of_other_types_have_the_scores_and_losses_of_the_cpu(device: torch.device, dtype: torch.dtype) -> None:
    pixels = {"MODEL.PIXEL_MEAN": [1500.0] * 4, "MODEL.PIXEL_STD": [800.0] * 4}
    ours = build_segmentor({**overrides_of("resnet18", "SemSegFPNHead"), **pixels}).eval()
    generator = torch.Generator().manual_seed(0)
    batch = make_batch(SIZES)
    for sample in batch:
        sample["image"] = torch.randint(0, 3000, (4, *SIZES[0]), generator=generator).to(dtype)
    with torch.no_grad():
        expected, found = ours.evaluate(batch), deepcopy(ours).to(device).evaluate(on(device, batch))
    for index in range(len(batch)):
        there, here = found.scores[index].logits, expected.scores[index].logits
        torch.testing.assert_close(there.cpu(), here, rtol=1e-3, atol=1e-4 * float(here.abs().max()))
        for name, loss in expected.losses[index].items():
            torch.testing.assert_close(found.losses[index][name].cpu(), loss, rtol=1e-3, atol=1e-5)
