"""What is evaluated and what is trained of a head is what its own forward says, whoever wrote it."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from detectron2.projects.point_rend.semantic_seg import PointRendSemSegHead
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.inference.whole import label_maps, plain_scores
from lightning_seg.models.adapters import Adapter, Foreign, Plain
from lightning_seg.models.adapters.known import DeepLabV3, Layered, MaskClassification, PointRend
from lightning_seg.models.recipe import load_recipe
from lightning_seg.models.segmentor import Segmentor
from lightning_seg.structures import MaskScores
from tests.conftest import MODELS, TINY_OVERRIDES
from tests.models.networks import HEADS, ODD, ZOO, overrides_of, segmentor_of
from tests.models.samples import IGNORE, make_batch

pytestmark = pytest.mark.usefixtures("one_thread")

Features = dict[str, Tensor]


class _User(nn.Module):
    """Two convolutions as a user writes them; each head below differs in one way."""

    common_stride = 4
    ignore_value = IGNORE

    def __init__(self, cfg: Any, input_shape: Any) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(16, 16, 3, padding=1)
        self.predictor = nn.Conv2d(16, 5, 1)

    def logits(self, features: Features) -> Tensor:
        logits: Tensor = self.predictor(F.relu(self.hidden(features["p2"])))
        return logits

    def upsampled(self, logits: Tensor) -> Tensor:
        return F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)

    def forward(self, features: Features, targets: Tensor | None = None) -> Any:
        logits = self.logits(features)
        if self.training:
            return None, self.losses(logits, targets)
        return self.upsampled(logits), {}

    def losses(self, logits: Tensor, targets: Tensor | None) -> dict[str, Tensor]:
        assert targets is not None
        return {"loss_user": 2 * F.cross_entropy(self.upsampled(logits), targets, ignore_index=IGNORE)}


class _Dropout(_User):
    def logits(self, features: Features) -> Tensor:
        hidden = F.dropout(F.relu(self.hidden(features["p2"])), training=self.training)
        logits: Tensor = self.predictor(hidden)
        return logits


class _Refining(SemSegFPNHead):  # type: ignore[misc]  # Detectron2 has no types
    """Its refinement has no effect before it is trained."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.refinement = nn.Conv2d(5, 5, 3, padding=1)
        self.share = nn.Parameter(torch.zeros(1))

    def forward(self, features: Features, targets: Tensor | None = None) -> Any:
        logits = self.layers(features)
        logits = logits + self.share * self.refinement(logits)
        if self.training:
            return None, self.losses(logits, targets)
        return F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False), {}


class _TwoLosses(_User):
    def __init__(self, cfg: Any, input_shape: Any) -> None:
        super().__init__(cfg, input_shape)
        self.beside = nn.Conv2d(16, 5, 1)

    def forward(self, features: Features, targets: Tensor | None = None) -> Any:
        if self.training:
            beside = self.losses(self.beside(features["p2"]), targets)
            losses = self.losses(self.logits(features), targets)
            return None, {**losses, "loss_beside": sum(beside.values())}
        return super().forward(features, targets)


class _Prior(_User):
    def __init__(self, cfg: Any, input_shape: Any) -> None:
        super().__init__(cfg, input_shape)
        self.register_buffer("prior", torch.zeros(1, 5, 1, 1))

    def forward(self, features: Features, targets: Tensor | None = None) -> Any:
        if self.training:
            return super().forward(features, targets)
        return self.upsampled(self.logits(features)) + self.prior, {}


class _LayersModule(_User):
    def __init__(self, cfg: Any, input_shape: Any) -> None:
        super().__init__(cfg, input_shape)
        self.layers = nn.Sequential(self.hidden, nn.ReLU(), self.predictor)

    def logits(self, features: Features) -> Tensor:
        logits: Tensor = self.layers(features["p2"])
        return logits


class _TouchesTargets(_User):
    def forward(self, features: Features, targets: Tensor | None = None) -> Any:
        if self.training:
            assert targets is not None
            targets = targets.clone()
        return super().forward(features, targets)


class _Counts(_User):
    """It counts its steps, which an evaluation must not."""

    steps = 0

    def __init__(self, cfg: Any, input_shape: Any) -> None:
        super().__init__(cfg, input_shape)
        self.steps = 0

    def forward(self, features: Features, targets: Tensor | None = None) -> Any:
        self.steps += self.training
        return super().forward(features, targets)


class _OnlyForward(nn.Module):
    """Nothing but features to logits."""

    def __init__(self, cfg: Any, input_shape: Any) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Dropout(), nn.Conv2d(16, 5, 1))

    def forward(self, features: Features) -> Tensor:
        logits: Tensor = self.body(features["p3"])
        return logits


class _OwnLayers(SemSegFPNHead):  # type: ignore[misc]
    def layers(self, features: Features) -> Tensor:
        logits: Tensor = F.dropout(super().layers(features), 0.5, self.training) * 3
        return logits


class _OwnPoints(PointRendSemSegHead):  # type: ignore[misc]
    def forward(self, features: Features, targets: Tensor | None = None) -> Any:
        found, losses = super().forward(features, targets)
        return (found, losses) if self.training else (found.flip(1), losses)


USERS: dict[type[nn.Module], tuple[type[Adapter], bool]] = {
    _User: (Foreign, True),
    _Dropout: (Foreign, False),
    _Refining: (Foreign, True),
    _TwoLosses: (Foreign, False),
    _Prior: (Foreign, False),
    _LayersModule: (Foreign, True),
    _TouchesTargets: (Foreign, False),
    _Counts: (Foreign, False),
    _OnlyForward: (Plain, False),
    _OwnLayers: (Layered, False),
    _OwnPoints: (Foreign, False),
}
"""What adapts a user's head, and whether its logits may be read before its losses."""

each_user = pytest.mark.parametrize("head", USERS, ids=lambda head: head.__name__.strip("_"))


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A segmentor with a head of the user's, and with numbers that are not those of its start."""

    def build(head: type[nn.Module], **settings: Any) -> Segmentor:
        monkeypatch.setitem(SEM_SEG_HEADS_REGISTRY._obj_map, head.__name__, head)
        overrides = MODELS["PointRend"] if issubclass(head, PointRendSemSegHead) else TINY_OVERRIDES
        torch.manual_seed(0)
        recipe = load_recipe(ZOO, {**overrides, "MODEL.SEM_SEG_HEAD.NAME": head.__name__})
        segmentor = Segmentor(recipe, num_classes=5, ignore_index=IGNORE, **settings)
        with torch.no_grad():
            for tensor in [*segmentor.network.sem_seg_head.parameters(), *segmentor.network.sem_seg_head.buffers()]:
                if tensor.is_floating_point():
                    tensor.add_(torch.rand_like(tensor))
        return segmentor

    return build


def check_own_forward(segmentor: Segmentor, sizes: list[tuple[int, int]]) -> None:
    """Label maps, pixel by pixel, against the head's forward on the same features."""
    segmentor.eval()
    batch = make_batch(sizes)
    head = segmentor.network.sem_seg_head
    with torch.no_grad():
        output = segmentor.evaluate(batch)
        found = label_maps(output.scores, output.input_sizes, sizes)
        for sample, scores, prediction in zip(batch, output.scores, found, strict=True):
            inputs, (height, width) = segmentor.inputs([sample]), sample["image"].shape[-2:]
            features = segmentor.network.backbone(inputs)
            own = head(features) if isinstance(segmentor.head, Plain) else head(features, None)[0]
            if own.shape[-1] < width:  # loss and evaluation upsample it
                own = F.interpolate(own, scale_factor=scores.stride, mode="bilinear", align_corners=False)
            full = plain_scores(scores)[None]
            assert torch.equal(full, own) or (isinstance(scores, MaskScores) and torch.allclose(full, own, atol=1e-6))
            assert own.std() > 0
            assert torch.equal(prediction, own[0, :, :height, :width].argmax(0))


@each_user
def test_users_heads_are_evaluated_by_their_forward(head: type[nn.Module], build: Any) -> None:
    segmentor = build(head)
    kind, by_losses = USERS[head]
    assert type(segmentor.head) is kind
    assert getattr(segmentor.head, "by_losses", False) == by_losses
    own = any(f"{head.__name__} is evaluated by its own forward" in notice for notice in segmentor.notices)
    assert own == (kind is Foreign and not by_losses)
    twin = deepcopy(segmentor)
    assert twin.head.head is twin.network.sem_seg_head is not segmentor.head.head
    state = deepcopy(segmentor.state_dict())
    check_own_forward(segmentor, [(64, 96)])
    check_own_forward(segmentor, [(50, 71)])
    assert all(torch.equal(tensor, state[name]) for name, tensor in segmentor.state_dict().items())
    assert getattr(segmentor.network.sem_seg_head, "steps", 0) == 0


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("backbone", ["resnet18 FPN", "resnet18"])
def test_known_heads_are_evaluated_by_their_forward(backbone: str, head: str) -> None:
    segmentor = segmentor_of(backbone, head)
    kinds: dict[str, type[Adapter]] = {
        "DeepLabV3Head": DeepLabV3,
        "PointRendSemSegHead": PointRend,
        "TwoConvolutions": Foreign,
        "Mask2FormerHead": MaskClassification,
    }
    assert type(segmentor.head) is kinds.get(head, Layered)
    check_own_forward(segmentor, [(64, 96)])
    check_own_forward(segmentor, ODD[:1])
    assert overrides_of(backbone, head)["MODEL.SEM_SEG_HEAD.NAME"] == type(segmentor.network.sem_seg_head).__name__


@each_user
def test_users_heads_are_trained_by_their_losses(head: type[nn.Module], build: Any) -> None:
    """What their forward returns; of one without losses, the cross-entropy of its upsampled logits."""
    segmentor, batch = build(head), make_batch([(64, 96), (64, 96)])
    twin = deepcopy(segmentor).train().network
    inputs, targets = segmentor.inputs(batch), torch.stack([sample["sem_seg"].long() for sample in batch])
    torch.manual_seed(1)
    found = segmentor.train().losses(batch)
    torch.manual_seed(1)
    features = twin.backbone(inputs)
    if head is _OnlyForward:
        full = F.interpolate(twin.sem_seg_head(features), scale_factor=8, mode="bilinear", align_corners=False)
        expected = {"loss_sem_seg": F.cross_entropy(full, targets, ignore_index=IGNORE)}
    else:
        expected = twin.sem_seg_head(features, targets)[1]
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    torch.stack(list(found.values())).sum().backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in segmentor.network.sem_seg_head.parameters())


@each_user
def test_validation_loss_is_that_of_what_is_evaluated(head: type[nn.Module], build: Any) -> None:
    segmentor, batch = build(head).eval(), make_batch([(50, 71)])
    with torch.no_grad():
        (found,) = segmentor.evaluate(batch).losses[0].values()
        inputs = segmentor.inputs(batch)
        features, targets = segmentor.network.backbone(inputs), segmentor._targets(batch)
        if isinstance(segmentor.head, Layered) or USERS[head][1]:
            (own,) = segmentor.head.evaluate(features, inputs.shape[-2:])
            (expected,) = segmentor.network.sem_seg_head.losses(own.of_loss, targets).values()
        else:
            plain = head is _OnlyForward
            own = segmentor.network.sem_seg_head(*((features,) if plain else (features, None)))
            own = F.interpolate(own, scale_factor=8, mode="bilinear") if plain else own[0]
            expected = F.cross_entropy(own, targets, ignore_index=IGNORE)
    assert torch.equal(found, expected)


@each_user
def test_a_criterion_reaches_users_heads(head: type[nn.Module], build: Any) -> None:
    def criterion(logits: Tensor, targets: Tensor, ignore_index: int) -> dict[str, Tensor]:
        return {"loss_mine": logits.mean() * 0 + 2.5}

    segmentor, batch = build(head, criterion=criterion), make_batch([(64, 96), (64, 96)])
    assert segmentor.train().losses(batch)["loss_mine"].item() == 2.5
    with torch.no_grad():
        assert segmentor.eval().evaluate(batch).losses == [{"loss_mine": 2.5}] * 2
