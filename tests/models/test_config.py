"""Detectron2 configs: found, overridden, refused."""

import importlib.resources
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from lightning_seg.errors import ConfigError, DependencyError
from lightning_seg.models.config import load_config

ZOO = "Misc/semantic_R_50_FPN_1x.yaml"


def test_zoo_name_path_and_base(tmp_path: Path) -> None:
    assert load_config(ZOO, {}).MODEL.META_ARCHITECTURE == "SemanticSegmentor"
    (tmp_path / "base.yaml").write_text("MODEL: {META_ARCHITECTURE: SemanticSegmentor}\nVERSION: 2\n")
    (tmp_path / "mine.yaml").write_text('_BASE_: "base.yaml"\nSOLVER: {MAX_ITER: 7}\n')
    cfg = load_config(str(tmp_path / "mine.yaml"), {})
    assert (cfg.MODEL.META_ARCHITECTURE, cfg.SOLVER.MAX_ITER) == ("SemanticSegmentor", 7)


def test_no_name_leads_out_of_the_zoo(tmp_path: Path) -> None:
    zoo = Path(str(importlib.resources.files("detectron2"))) / "model_zoo/configs"
    (tmp_path / "tag.yaml").write_text("VERSION: 2\nSEED: !!python/object/apply:eval ['1 + 1']\n")
    outside = os.path.relpath(tmp_path / "tag.yaml", zoo)
    with pytest.raises(ConfigError, match="is neither a file nor a config of Detectron2's model zoo"):
        load_config("Misc/../Base-RCNN-FPN.yaml", {})
    with pytest.raises(ConfigError, match="could not determine a constructor for the tag"):
        load_config(str(zoo / outside), {})


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("MODEL.RESNETS.DEPTH", 34, 34),
        ("SOLVER.BASE_LR", 1, 1.0),
        ("SOLVER.BASE_LR", "1e-3", 0.001),
        ("SOLVER.STEPS", [3, 4], (3, 4)),
        ("MODEL.WEIGHTS", "", ""),
        ("SOLVER.CLIP_GRADIENTS.ENABLED", True, True),
    ],
)
def test_overrides_take_yaml_types(key: str, value: Any, expected: Any) -> None:
    node = load_config(ZOO, {key: value})
    for part in key.split("."):
        node = node[part]
    assert node == expected
    assert type(node) is type(expected)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"MODEL.RESNET.DEPTH": 18}, r"model\.overrides\.MODEL\.RESNET\.DEPTH is no key .* MODEL\.RESNETS\.DEPTH"),
        ({"MODEL.RESNETS": 18}, r"is a group of keys: name one of them, such as MODEL\.RESNETS\."),
        ({"MODEL.RESNETS.DEPTH": "deep"}, r"MODEL\.RESNETS\.DEPTH is 'deep' \(str\), but a int such as 50"),
        ({"MODEL.RESNETS.DEPTH": 18.5}, r"is 18\.5 \(float\)"),
        ({"MODEL.SEM_SEG_HEAD.NUM_CLASSES": 3}, r"follows from data\.classes"),
        ({"MODEL.SEM_SEG_HEAD.IGNORE_VALUE": 3}, r"follows from data\.ignore_index"),
    ],
)
def test_refuses_overrides(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(ZOO, overrides)


def test_refuses_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"did you mean .*Misc/semantic_R_50_FPN_1x\.yaml"):
        load_config("Misc/semantic_R50_FPN_1x.yaml", {})
    (tmp_path / "code.yaml").write_text("MODEL: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ConfigError, match="is no Detectron2 config"):
        load_config(str(tmp_path / "code.yaml"), {})


@pytest.mark.parametrize("hidden", [None, "path"])
def test_missing_detectron2_prints_the_command(monkeypatch: pytest.MonkeyPatch, hidden: str | None) -> None:
    if hidden is None:
        monkeypatch.setitem(sys.modules, "detectron2", None)
    else:
        monkeypatch.delitem(sys.modules, "detectron2", raising=False)
        monkeypatch.setattr(sys, "path", [])
        monkeypatch.setattr(sys, "meta_path", [])
    with pytest.raises(DependencyError, match=r"(?s)make install.*pip install --no-deps.*requirements-detectron2\.txt"):
        load_config(ZOO, {})
