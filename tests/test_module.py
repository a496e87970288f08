"""The LightningModule: Detectron2's training to the bit, optimisers of the user's, checkpoints that do not match."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from lightning_seg.errors import CheckpointError, ConfigError
from lightning_seg.losses import CrossEntropy, Dice, WeightedSum
from lightning_seg.models.config import load_config
from lightning_seg.models.normalisation import with_sync
from lightning_seg.models.weights import load_weights
from lightning_seg.module import SegmentationModule
from tests.conftest import MODELS, TINY_OVERRIDES
from tests.models.samples import as_detectron2, make_batch
from tests.training import NAMES, ZOO, fit, make

CROP = {"INPUT.CROP.ENABLED": True, "INPUT.CROP.TYPE": "absolute", "INPUT.CROP.SIZE": [64, 96]}
"""What DeepLab's configs have: their pooling window covers a crop, and Detectron2 trains whole multiples of it."""

TRAININGS = {
    **MODELS,
    "SemSegFPN, every SOLVER setting": {
        **TINY_OVERRIDES,
        "SOLVER.LR_SCHEDULER_NAME": "WarmupCosineLR",
        "SOLVER.CLIP_GRADIENTS.ENABLED": True,
        "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "norm",
        "SOLVER.WEIGHT_DECAY_NORM": 0.0,
        "SOLVER.BIAS_LR_FACTOR": 2.0,
        "SOLVER.WEIGHT_DECAY_BIAS": 0.0,
    },
    "DeepLabV3": {**MODELS["DeepLabV3"], **CROP},
    "DeepLabV3Plus": {**MODELS["DeepLabV3Plus"], **CROP},
}


@pytest.mark.runs
@pytest.mark.parametrize("name", TRAININGS)
def test_ten_steps_give_the_weights_of_simple_trainer(tmp_path: Path, name: str) -> None:
    """Seeded once, before the first step: PointRend's points and DeepLab's dropout must stay the same to the tenth."""
    from detectron2.engine import SimpleTrainer, hooks
    from detectron2.modeling import build_model
    from detectron2.projects.deeplab import build_lr_scheduler
    from detectron2.solver import build_optimizer

    overrides = {**TRAININGS[name], "SOLVER.BASE_LR": 0.01}
    sizes = [(64, 96), (64, 96)] if name.startswith("DeepLab") else [(40, 64), (64, 48)]
    module = make(overrides)
    batches = [make_batch(sizes, seed=step) for step in range(10)]

    cfg = load_config(ZOO, overrides)
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = cfg.MODEL.POINT_HEAD.NUM_CLASSES = len(NAMES)
    cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = 255
    cfg.MODEL.DEVICE = "cpu"
    theirs = build_model(cfg).train()
    theirs.load_state_dict(module.segmentor.network.state_dict())
    optimizer = build_optimizer(cfg, theirs)
    loader = [as_detectron2(batch, cfg.INPUT.FORMAT) for batch in batches]
    trainer = SimpleTrainer(theirs, loader, optimizer)
    trainer.register_hooks([hooks.LRScheduler(optimizer, build_lr_scheduler(cfg, optimizer))])
    torch.manual_seed(7)
    trainer.train(0, 10)

    before = {name: value.clone() for name, value in module.segmentor.network.named_parameters()}
    fit(module, batches, tmp_path, callbacks=[_SeedBeforeTheFirstStep()])
    for key, expected in theirs.state_dict().items():
        assert torch.equal(module.segmentor.network.state_dict()[key], expected), key
    for key, expected in theirs.named_parameters():
        assert expected.ndim < 4 or not torch.equal(before[key], expected), f"{key} was not trained"


class _SeedBeforeTheFirstStep(pl.Callback):
    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, index: int) -> None:
        if index == 0:
            torch.manual_seed(7)


def test_own_optimizer_and_scheduler_step_by_step(tmp_path: Path) -> None:
    module = make(
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=0.1),
        lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5),
    )
    trainer = fit(module, [make_batch([(32, 32), (32, 32)], seed=step) for step in range(3)], tmp_path)
    assert isinstance(trainer.optimizers[0], torch.optim.AdamW)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**3)
    assert float(trainer.callback_metrics["lr/0"]) == pytest.approx(0.1 * 0.5**2)  # that of the last step taken


@pytest.mark.parametrize("config", [ZOO, "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.py"])
def test_an_auxiliary_head_is_trained_too(config: str) -> None:
    overrides = TINY_OVERRIDES if config == ZOO else {"model.backbone.bottom_up.freeze_at": 0}
    plain, module = (make(overrides, config=config, auxiliary_stage=stage) for stage in (None, "res4"))
    before, after = (
        [len(group["params"]) for group in one.optimisation.build_optimizer(one.segmentor).param_groups]
        for one in (plain, module)
    )
    assert sum(after) == sum(parameter.requires_grad for parameter in module.parameters())
    assert sum(after) - sum(before) == len(list(module.segmentor.auxiliary.parameters())) == 5


def test_rates_by_depth_are_logged_by_name(tmp_path: Path) -> None:
    module = make(
        backbone_lr_factor=0.1,
        layer_decay=0.5,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5),
    )
    trainer = fit(module, [make_batch([(32, 32), (32, 32)], seed=step) for step in range(2)], tmp_path)
    logged = {name: float(rate) for name, rate in trainer.callback_metrics.items() if name.startswith("lr/")}
    blocks = [f"bottom_up.res{stage}.{block}" for stage in (2, 3, 4, 5) for block in (0, 1)]
    assert list(logged) == [f"lr/{place}" for place in ("backbone_stem", *blocks, "backbone", "head")]
    expected = [0.1 * 0.5**power for power in range(9, -1, -1)]
    assert list(logged.values()) == pytest.approx([0.05 * rate for rate in expected] + [0.05])


def test_scale_lr_needs_rates_that_it_can_scale() -> None:
    with pytest.raises(ConfigError, match=r"model\.optimizer is given: set its lr"):
        make(scale_lr=True, optimizer=torch.optim.AdamW)
    with pytest.raises(ConfigError, match=r"needs SOLVER\.IMS_PER_BATCH in model\.config.*it is 0"):
        make({**TINY_OVERRIDES, "SOLVER.IMS_PER_BATCH": 0}, scale_lr=True)
    with pytest.raises(ConfigError, match=r"needs dataloader\.train\.total_batch_size.*it is None"):
        make({"model.sem_seg_head.norm": "BN"}, config="common/models/panoptic_fpn.py", scale_lr=True)


def test_scale_lr_of_a_lazy_config_and_a_loader_without_a_size(tmp_path: Path) -> None:
    config, overrides = "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.py", {"dataloader.train.total_batch_size": 32}
    module = make(overrides, config=config, scale_lr=True)
    optimisation, scales = module.optimisation, (1.0, module.optimisation.lr_scale(8))
    rate, scaled = (optimisation.build_optimizer(module.segmentor, scale).param_groups[0]["lr"] for scale in scales)
    assert (rate, scaled) == (0.02, 0.005)
    with pytest.raises(ConfigError, match="needs a data module that says its batch_size"):
        fit(module, [make_batch([(32, 32)])], tmp_path)


def test_a_batch_that_is_too_small_for_batchnorm(tmp_path: Path) -> None:
    """Of 8×8 pixels one feature is left at the last stage."""
    message = r"BatchNorm backbone\.bottom_up\.res5\S* has .* of a batch of 1 \(\? \(8×8\)\).*raise data\.batch_size"
    with pytest.raises(ConfigError, match=message):
        fit(make(), [make_batch([(8, 8)])], tmp_path)
    fit(make(), [make_batch([(8, 8), (8, 8)])], tmp_path)


def test_loss_is_logged_with_its_parts(tmp_path: Path) -> None:
    trainer = fit(make(), [make_batch([(32, 32), (32, 32)])], tmp_path)
    assert trainer.callback_metrics["train/loss"] == trainer.callback_metrics["train/loss_sem_seg"]


def test_checkpoint_of_another_model_is_refused_in_one_message() -> None:
    stored = make(class_names=["a", "b"]).state_dict()
    stored["head.extra"] = torch.zeros(1)
    del stored["segmentor.network.sem_seg_head.p2.0.weight"]
    with pytest.raises(CheckpointError) as caught:
        make().on_load_checkpoint({"state_dict": stored})
    message = str(caught.value)
    assert "predictor.weight: (2, 16, 1, 1) in the checkpoint, (5, 16, 1, 1) here" in message
    assert "1 tensors are not in it, such as segmentor.network.sem_seg_head.p2.0.weight" in message
    assert "1 tensors in it are not in this model, such as head.extra" in message


def stored_with(module: SegmentationModule, names: list[str]) -> dict[str, Any]:
    return {"state_dict": module.state_dict(), "hyper_parameters": {"class_names": names}}


def test_classes_in_another_order_are_refused(tmp_path: Path) -> None:
    module, order = make(), ["b", "a", "c", "d", "e"]
    message = (
        r"has the classes of data\.classes in another order, .*: set data\.classes to its order, \[b, a, c, d, e\]"
    )
    with pytest.raises(CheckpointError, match=f"the checkpoint {message}"):
        module.on_load_checkpoint(stored_with(module, order))
    torch.save(stored_with(module, order), tmp_path / "m.ckpt")
    with pytest.raises(CheckpointError, match=rf"model\.weights .*m\.ckpt {message}"):
        make(weights=str(tmp_path / "m.ckpt")).load_pretrained()


def test_renamed_classes_are_said(tmp_path: Path) -> None:
    module, names = make(), ["a", "bee", "c", "d", "sea"]
    message = r"calls 2 of its classes by other names \(1: bee → b, 4: sea → e\)\. If they do not mean the same"
    with pytest.warns(UserWarning, match=f"WARNING: the checkpoint {message}"):
        module.on_load_checkpoint(stored_with(module, names))
    torch.save(stored_with(module, names), tmp_path / "m.ckpt")
    with pytest.warns(UserWarning, match=rf"WARNING: model\.weights .*m\.ckpt {message}"):
        make(weights=str(tmp_path / "m.ckpt")).load_pretrained()


def test_a_training_says_that_a_frozen_backbone_stays_random(tmp_path: Path) -> None:
    module = make({**TINY_OVERRIDES, "MODEL.BACKBONE.FREEZE_AT": 2})
    with pytest.warns(UserWarning, match=r"starts from random weights, but MODEL\.BACKBONE\.FREEZE_AT 2 would keep"):
        fit(module, [make_batch([(48, 64)] * 2)], tmp_path)


@pytest.mark.filterwarnings("ignore:Total length of .*DataLoader.* is zero")
def test_weights_are_not_read_where_python_gives_a_checkpoint(tmp_path: Path) -> None:
    """``Trainer.ckpt_path`` tells of it only after ``setup``."""
    batches = [make_batch([(48, 64)] * 2)]
    fit(make(), batches, tmp_path, max_steps=1).save_checkpoint(path := tmp_path / "a.ckpt")
    (tmp_path / "empty.pth").touch()
    off = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False, "accelerator": "cpu"}
    for weights in (str(tmp_path / "empty.pth"), "https://nowhere.invalid/w.pth"):
        for command in ("fit", "validate", "test", "predict"):
            data: Any = DataLoader(batches if command == "fit" else [], batch_size=None)  # type: ignore[arg-type]
            getattr(pl.Trainer(**off, max_steps=1), command)(make(weights=weights), data, ckpt_path=path)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=r"empty\.pth is empty"):
        fit(make(weights=str(tmp_path / "empty.pth")), batches, tmp_path)


class Tempered(CrossEntropy):
    """A loss that is learnt: cross-entropy at a temperature."""

    def __init__(self, temperature: float, class_weights: list[float] | None = None) -> None:
        super().__init__(class_weights)
        self.temperature = torch.nn.Parameter(torch.tensor(temperature))

    def loss(self, logits: torch.Tensor, targets: torch.Tensor, ignore_index: int) -> torch.Tensor:
        return super().loss(logits / self.temperature, targets, ignore_index) + self.temperature.square()


@pytest.mark.parametrize("config", [ZOO, "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.py"])
@pytest.mark.parametrize("optimizer", [None, partial(torch.optim.SGD, lr=0.01)])
def test_a_criterion_is_trained_and_comes_back(tmp_path: Path, config: str, optimizer: Any) -> None:
    frozen = {"model.backbone.bottom_up.freeze_at": 0}
    rate = {} if optimizer else {"SOLVER.BASE_LR": 0.01}
    overrides = {**TINY_OVERRIDES, **rate} if config == ZOO else frozen
    criterion = WeightedSum([Tempered(2.0, class_weights=[1, 2, 3, 4, 5]), Dice(smooth=2.0)], weights=[1.0, 0.5])
    module = make(overrides, config=config, criterion=criterion, optimizer=optimizer)
    trainer = fit(module, [make_batch([(32, 32), (32, 32)], seed=step) for step in range(2)], tmp_path)
    temperature = criterion.criteria[0].temperature
    assert temperature.item() != 2.0
    assert temperature.isfinite()
    trainer.save_checkpoint(tmp_path / "m.ckpt")
    again = SegmentationModule.load_from_checkpoint(tmp_path / "m.ckpt", weights_only=True)
    assert torch.equal(again.segmentor.criterion.criteria[0].temperature, temperature)
    batch = make_batch([(64, 64)])
    with torch.no_grad():
        expected, found = (one.eval().segmentor.evaluate(batch).losses[0] for one in (module, again))
    assert found.keys() == expected.keys() == {"loss_cross_entropy", "loss_dice"}
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_criterion_that_cannot_come_back_is_asked_for(tmp_path: Path) -> None:
    def criterion(logits: torch.Tensor, targets: torch.Tensor, ignore_index: int) -> dict[str, torch.Tensor]:
        return {"loss_mine": logits.mean()}

    module = make(criterion=criterion)
    trainer = fit(module, [make_batch([(32, 32), (32, 32)])], tmp_path)
    trainer.save_checkpoint(tmp_path / "m.ckpt")
    with pytest.raises(
        CheckpointError, match=r"not made of plain values alone: give it: load_from_checkpoint\(path, crit"
    ):
        SegmentationModule.load_from_checkpoint(tmp_path / "m.ckpt", weights_only=True)
    again = SegmentationModule.load_from_checkpoint(tmp_path / "m.ckpt", weights_only=True, criterion=criterion)
    assert again.segmentor.criterion is criterion


@pytest.mark.parametrize(
    ("class_path", "message"),
    [
        ("os.system", r"os\.system is no lightning_seg\.losses\.Criterion"),
        ("lightning_seg.losses.Nothing", r"losses\.Nothing is not found .* load_from_checkpoint\(path, criterion=…\)"),
        ("nothing", "criterion nothing is not found"),
    ],
)
def test_a_checkpoint_builds_only_losses(class_path: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        make(criterion={"class_path": class_path, "init_args": {"command": "false"}})


def test_weights_of_a_checkpoint_bring_what_stands_beside_the_network(tmp_path: Path) -> None:
    """The auxiliary head and a criterion that is learnt; where the file has none, the report says so."""
    module = make(auxiliary_stage="res4", criterion=Tempered(3.0))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.25)
    torch.save({"state_dict": module.state_dict()}, tmp_path / "m.ckpt")
    torch.save({"state_dict": make().state_dict()}, tmp_path / "bare.ckpt")
    again = make(auxiliary_stage="res4", criterion=Tempered(3.0))
    parts = again.segmentor.parts_beside()
    report = load_weights(again.segmentor.network, str(tmp_path / "bare.ckpt"), beside=parts)
    assert "auxiliary: not in the file, or of another shape: stays as it is" in str(report)
    again.weights = str(tmp_path / "m.ckpt")
    again.load_pretrained()
    for name, value in module.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    report = load_weights(again.segmentor.network, again.weights, beside=parts)
    assert report.beside == ("auxiliary: 8 of 8 tensors loaded", "criterion: 1 of 1 tensors loaded")


def test_random_weights_are_never_evaluated_silently(tmp_path: Path) -> None:
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    with pytest.raises(ConfigError, match=r"validate would use random weights: give --ckpt_path or --model\.weights"):
        trainer.validate(make(), DataLoader([make_batch([(32, 32)])], batch_size=None))  # type: ignore[arg-type]


class _Convert(pl.Callback):
    """What a strategy of several processes does on a GPU between ``setup`` and the start of ``fit``."""

    def __init__(self, convert: Callable[[torch.nn.Module], Any]) -> None:
        self.convert = convert

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.convert(module)


def test_sync_batchnorm_that_drops_activations_is_refused(tmp_path: Path) -> None:
    timm = {"MODEL.BACKBONE.NAME": "build_timm_fpn_backbone", "MODEL.TIMM.NAME": "test_efficientnet"}
    overrides = {**TINY_OVERRIDES, **timm, "MODEL.FPN.IN_FEATURES": []}
    batches = [make_batch([(64, 64), (64, 64)])]
    with pytest.raises(ConfigError, match=r"plugins=\[lightning_seg\.models\.normalisation\.SyncBatchNorm"):
        fit(make(overrides), batches, tmp_path, callbacks=[_Convert(torch.nn.SyncBatchNorm.convert_sync_batchnorm)])
    module, reference = make(overrides), make(overrides)
    fit(module, batches, tmp_path, callbacks=[_Convert(with_sync)])
    fit(reference, batches, tmp_path)
    assert any(isinstance(layer, torch.nn.SyncBatchNorm) for layer in module.modules())
    for name, value in reference.state_dict().items():
        assert torch.equal(module.state_dict()[name], value), name


def test_hyper_parameters_rebuild_the_module(tmp_path: Path) -> None:
    module = make()
    trainer = fit(module, [make_batch([(32, 32), (32, 32)])], tmp_path)
    trainer.save_checkpoint(tmp_path / "m.ckpt")
    again = SegmentationModule.load_from_checkpoint(tmp_path / "m.ckpt", weights_only=True)
    assert again.class_names == NAMES
    for name, value in module.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_boundary_iou_of_too_many_classes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.boundary_iou counts at most 254 classes.*names 255: leave it false"):
        make(class_names=[str(index) for index in range(255)], boundary_iou=True)


def test_scaled_gradients_are_not_clipped() -> None:
    """A fused optimiser divides them itself, after the clipping."""
    module = make({**TINY_OVERRIDES, "SOLVER.CLIP_GRADIENTS.ENABLED": True})
    plugin = SimpleNamespace(scaler=object())
    module._trainer = SimpleNamespace(precision_plugin=plugin)  # type: ignore[assignment]
    fused: Any = SimpleNamespace(_step_supports_amp_scaling=True)
    with pytest.raises(ConfigError, match="would clip scaled gradients, since SimpleNamespace is fused"):
        module.configure_gradient_clipping(fused)
