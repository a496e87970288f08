"""LazyConfig files against Detectron2's own instantiation of them."""

import builtins
import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from lightning_seg.errors import ConfigError
from lightning_seg.models.recipe import Recipe, load_recipe
from lightning_seg.models.segmentor import Segmentor
from lightning_seg.module import SegmentationModule
from tests.models.lazy_configs import OPTIMIZER, TINY
from tests.models.samples import IGNORE, as_detectron2, make_batch

ZOO = "common/models/panoptic_fpn.py"
NAMES = ["a", "b", "c", "d", "e"]


def write(folder: Path, text: str) -> str:
    path = folder / "tiny.py"
    path.write_text(text)
    return str(path)


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    return write(tmp_path, TINY + OPTIMIZER)


def their_network(config: str) -> tuple[Any, Any]:
    """Detectron2's own ``SemanticSegmentor`` of the file for five classes, and the file's tree."""
    from detectron2.config import LazyConfig, instantiate
    from detectron2.modeling import SemanticSegmentor

    tree = LazyConfig.load(config)
    for part in ("proposal_generator", "roi_heads", "input_format"):
        del tree.model[part]
    tree.model._target_ = SemanticSegmentor
    tree.model.sem_seg_head.num_classes = 5
    return instantiate(tree.model), tree


@pytest.mark.parametrize("order", ["BGR", "RGB"])
def test_losses_and_initial_weights_are_detectron2s(tiny: str, order: str) -> None:
    torch.manual_seed(0)
    ours = Segmentor(load_recipe(tiny, {"model.input_format": order}), num_classes=5, ignore_index=IGNORE)
    torch.manual_seed(0)
    theirs = their_network(tiny)[0]
    for name, expected in theirs.state_dict().items():
        assert torch.equal(ours.network.state_dict()[name], expected), name
    batch = make_batch([(64, 96), (50, 71)])
    expected = theirs.train()(as_detectron2(batch, order))
    found = ours.train().losses(batch)
    assert found.keys() == expected.keys() == {"loss_sem_seg"}
    assert torch.equal(found["loss_sem_seg"], expected["loss_sem_seg"])
    assert "PanopticFPN: backbone and semantic head are used, proposal_generator, roi_heads dropped" in ours.notices


def test_ignore_index_is_the_datas(tiny: str) -> None:
    head = load_recipe(tiny, {}).build_network(5, 77).sem_seg_head
    assert (head.ignore_value, head.predictor.out_channels) == (77, 5)


class _Rates(pl.Callback):
    def __init__(self) -> None:
        self.seen: list[list[float]] = []

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self.seen.append([group["lr"] for group in trainer.optimizers[0].param_groups])


def test_training_is_detectron2s(tiny: str, tmp_path: Path) -> None:
    from detectron2.config import instantiate
    from detectron2.engine import SimpleTrainer, hooks
    from detectron2.solver import LRMultiplier

    torch.manual_seed(0)
    module = SegmentationModule(tiny, NAMES, overrides={"optimizer.lr": 0.01}, weights="")
    theirs, tree = their_network(tiny)
    theirs.load_state_dict(module.segmentor.network.state_dict())
    before = module.segmentor.network.sem_seg_head.predictor.weight.clone()
    tree.optimizer.params.model = theirs
    tree.optimizer.lr = 0.01
    optimizer = instantiate(tree.optimizer)
    batches = [as_detectron2(make_batch([(40, 64), (64, 48)], seed=step), "BGR") for step in range(4)]
    trainer = SimpleTrainer(theirs.train(), batches, optimizer)
    scheduler = LRMultiplier(optimizer, instantiate(tree.lr_multiplier), 4)
    trainer.register_hooks([hooks.LRScheduler(optimizer, scheduler)])
    expected_rates = []
    step = trainer.run_step

    def run_step() -> None:
        expected_rates.append([group["lr"] for group in optimizer.param_groups])
        step()

    trainer.run_step = run_step
    trainer.train(0, 4)

    rates = _Rates()
    lightning = pl.Trainer(
        accelerator="cpu", devices=1, max_epochs=1, logger=False, enable_checkpointing=False, callbacks=[rates],
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    own = [make_batch([(40, 64), (64, 48)], seed=step) for step in range(4)]
    lightning.fit(module, DataLoader(own, batch_size=None))  # type: ignore[arg-type]  # a list is a data set
    assert rates.seen == expected_rates
    assert len({groups[0] for groups in rates.seen}) == 4
    for name, expected in theirs.state_dict().items():
        assert torch.equal(module.segmentor.network.state_dict()[name], expected), name
    assert not torch.equal(before, module.segmentor.network.sem_seg_head.predictor.weight)

    lightning.save_checkpoint(tmp_path / "m.ckpt")
    stored = torch.load(tmp_path / "m.ckpt", weights_only=True)  # no object of OmegaConf's in it
    assert stored["optimizer_states"][0]["param_groups"][0]["betas"] == (0.9, 0.999)
    again = SegmentationModule.load_from_checkpoint(tmp_path / "m.ckpt", weights_only=True)
    assert again.recipe.weights == ""


def rates_of(recipe: Recipe, total_steps: float, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = recipe.build_lr_scheduler(optimizer, total_steps)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_schedules(tiny: str, tmp_path: Path) -> None:
    recipe = load_recipe(tiny, {})
    rates = rates_of(recipe, 12, 15)
    assert rates[11:] == [rates[11]] * 4
    assert rates_of(recipe, math.inf, 7) == rates_of(recipe, 7, 7)
    assert rates_of(load_recipe(ZOO, {}), math.inf, 3) == [1.0] * 3
    endless = load_recipe(write(tmp_path, TINY + OPTIMIZER + "\ndel train"), {})
    with pytest.raises(ConfigError, match=r"needs an end: set trainer\.max_steps"):
        rates_of(endless, math.inf, 1)


def test_optimizer_is_needed_when_training_starts(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, TINY), {})
    with pytest.raises(ConfigError, match=r"give model\.optimizer"):
        recipe.build_optimizer(nn.Linear(1, 1))
    wrong = load_recipe(write(tmp_path, TINY + OPTIMIZER), {"optimizer.lr": -1.0})
    with pytest.raises(ConfigError, match=r"optimizer of model\.config fails: ValueError: Invalid learning rate"):
        wrong.build_optimizer(nn.Linear(1, 1))


def test_names_of_the_zoo() -> None:
    recipe = load_recipe("COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.py", {})
    assert recipe.weights == "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
    assert recipe.bgr
    warning = recipe.warn_of_frozen_random()
    assert warning is not None
    for setting in ("bottom_up.freeze_at 2", "bottom_up.stages.norm FrozenBN", "bottom_up.stem.norm FrozenBN"):
        assert f"model.backbone.{setting}" in warning
    overrides = {"model.backbone.bottom_up.freeze_at": 0, "train.init_checkpoint": "mine.pth"}
    overrides |= {f"model.backbone.bottom_up.{part}.norm": "BN" for part in ("stem", "stages")}
    changed = load_recipe("COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.py", overrides)
    assert (changed.weights, changed.warn_of_frozen_random()) == ("mine.pth", None)
    with pytest.raises(ConfigError, match=r"did you mean .*common/models/panoptic_fpn\.py"):
        load_recipe("common/models/panoptic_fpm.py", {})


def test_a_list_replaces_a_list(tiny: str) -> None:
    network = load_recipe(tiny, {"model.pixel_std": [57.0, 58.0, 59.0]}).build_network(5, IGNORE)
    assert network.pixel_std.flatten().tolist() == [57, 58, 59]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"model.backbone.bottomup.stages.depth": 18},
            r"model\.overrides\.model\.backbone\.bottomup\.stages\.depth is no key .*"
            r"did you mean model\.backbone\.bottom_up\.stages\.depth",
        ),
        ({"model.backbone": 18}, r"is a group of keys: name one of them, such as model\.backbone\."),
        ({"model.sem_seg_head.num_classes": 3}, r"follows from data\.classes"),
        ({"model.sem_seg_head.ignore_value": 3}, r"follows from data\.ignore_index"),
        ({"model.input_format": "YUV"}, r"model\.input_format is 'YUV', but RGB or BGR is needed"),
    ],
)
def test_refuses_overrides(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe(ZOO, overrides)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model = 1\nmodel = (\n", r"tiny\.py.* Line 2: "),
        ("import json\n\nmodel = json.nothing\n", r"tiny\.py, line 3: AttributeError: .*nothing"),
        ("train = dict(max_iter=1)\n", "has no `model`"),
        (TINY + "del model.sem_seg_head\n", "is a PanopticFPN without sem_seg_head"),
        (TINY + "del model.pixel_std\n", "lacks pixel_std"),
        (TINY + "model.input_format = '${nothing}'\n", r"tiny\.py cannot be resolved: .*nothing"),
    ],
)
def test_refuses_files(tmp_path: Path, text: str, message: str) -> None:
    importer = builtins.__import__
    with pytest.raises(ConfigError, match=message):
        load_recipe(write(tmp_path, text), {})
    assert builtins.__import__ is importer


def test_refuses_a_detector() -> None:
    with pytest.raises(ConfigError, match=r"is a GeneralizedRCNN without sem_seg_head.*add model\.sem_seg_head"):
        load_recipe("common/models/mask_rcnn_fpn.py", {})


def test_says_that_a_models_own_class_is_not_used(tmp_path: Path) -> None:
    text = TINY + "for part in ('proposal_generator', 'roi_heads'):\n    del model[part]\n"
    assert "PanopticFPN" in load_recipe(write(tmp_path, text), {}).notices[0]
    text += "model._target_ = 'detectron2.modeling.SemanticSegmentor'\n"
    assert load_recipe(write(tmp_path, text), {}).notices == ()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model.sem_seg_head.common_stride": 8}, "this backbone and head do not fit"),
        ({"model.backbone.bottom_up.stages.depth": 51}, "Detectron2 refuses this model: KeyError: 51"),
    ],
)
def test_refuses_models_that_cannot_work(tiny: str, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Segmentor(load_recipe(tiny, overrides), num_classes=5, ignore_index=IGNORE)
