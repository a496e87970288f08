"""A head of one's own: every command of examples/custom_head/run.sh, and its key, loss and file."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import lightning_seg
from lightning_seg.errors import ConfigError
from lightning_seg.imports import import_user_code
from lightning_seg.models.config import find_config, load_config
from lightning_seg.models.own_keys import declares_keys
from lightning_seg.models.recipe import load_recipe
from lightning_seg.module import SegmentationModule
from tests.conftest import REPOSITORY, TINY_OVERRIDES
from tests.examples.shell import commands, run

pytestmark = [pytest.mark.runs, pytest.mark.usefixtures("one_thread")]

ZOO = "Misc/semantic_R_50_FPN_1x.yaml"
HEAD = str(REPOSITORY / "examples/custom_head/head.py")
KEY = "MODEL.TWO_CONVOLUTIONS.LABEL_SMOOTHING"


def test_every_command(repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = commands((REPOSITORY / "examples/custom_head/run.sh").read_text())
    assert len(lines) == 5
    for line in lines:
        run(line, monkeypatch)
    trained = Path("runs/two_convolutions/version_0")
    state = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)
    assert state["state_dict"]["segmentor.network.sem_seg_head.hidden.weight"].shape == (64, 64, 3, 3)
    figures, again = (
        json.loads(Path(f"runs/two_convolutions/version_{number}/metrics.json").read_text()) for number in (0, 1)
    )
    assert again["confusion_matrix"] == figures["confusion_matrix"]
    mask = np.asarray(Image.open("predictions/masks/0000.png"))
    of_model = lightning_seg.load(trained)("data/quickstart/val/images/0000.jpg").mask
    assert np.mean(mask != of_model) < 1e-3


def test_its_key_reaches_its_loss() -> None:
    import_user_code([HEAD], "model.imports")
    named = {"MODEL.SEM_SEG_HEAD.NAME": "TwoConvolutions", "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["p2"]}
    module = SegmentationModule(
        ZOO, list("abc"), overrides={**TINY_OVERRIDES, **named, KEY: 0.3}, weights="", imports=[HEAD]
    )
    head = module.segmentor.network.sem_seg_head
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 3, 4, 5), torch.randint(3, (2, 16, 20))
    targets[0, :3] = 255
    found = head.losses(logits, targets)["loss_sem_seg"]
    log_p = F.interpolate(logits, scale_factor=4, mode="bilinear").log_softmax(1)
    counted = targets != 255
    right = log_p.gather(1, targets.where(counted, 0)[:, None])[:, 0][counted]
    assert found.item() == pytest.approx(-(0.7 * right + 0.3 * log_p.mean(1)[counted]).mean().item(), rel=1e-5)


def test_keys_are_known_once_their_file_was_imported() -> None:
    import_user_code([HEAD], "model.imports")
    assert load_config(ZOO, {}).MODEL.TWO_CONVOLUTIONS.LABEL_SMOOTHING == 0.0
    assert load_config(ZOO, {KEY: 1}).MODEL.TWO_CONVOLUTIONS.LABEL_SMOOTHING == 1.0
    with pytest.raises(ConfigError, match=r"TWO_CONVOLUTIONS.LABEL is no key .* did you mean .*LABEL_SMOOTHING"):
        load_config(ZOO, {"MODEL.TWO_CONVOLUTIONS.LABEL": 1})
    with pytest.raises(ConfigError, match=r"LABEL_SMOOTHING is 'much' \(str\), but a float such as 0.0 is expected"):
        load_config(ZOO, {KEY: "much"})


def test_a_network_without_the_keys_is_restored_without_their_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_user_code([HEAD], "model.imports")
    changed = tmp_path / "changed.yaml"
    changed.write_text(f"_BASE_: {find_config(ZOO)}\nMODEL: {{TWO_CONVOLUTIONS: {{LABEL_SMOOTHING: 0.3}}}}\n")
    other, own = (load_recipe(str(config), {}).values for config in (ZOO, changed))
    assert own is not None
    assert own[KEY] == 0.3
    monkeypatch.setattr("lightning_seg.models.own_keys._declared", {})
    assert load_recipe(ZOO, {}, other).values == other
    with pytest.raises(ConfigError, match=r"has MODEL.TWO_CONVOLUTIONS.LABEL_SMOOTHING, which this version does not"):
        load_recipe(str(changed), {}, own)


def test_a_declaration_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_seg.models.own_keys._declared", {})

    @declares_keys
    def add_wrong_config(cfg: object) -> None:
        cfg.MODEL.NOTHING.HIDDEN = 64  # type: ignore[attr-defined]

    with pytest.raises(ConfigError, match=r"add_wrong_config, which declares keys .*, failed: AttributeError: NOTHING"):
        load_config(ZOO, {})
