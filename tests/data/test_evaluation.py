"""What a checkpoint says of evaluation gives the same images again."""

import sys
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lightning_seg.data.evaluation import (
    EvaluationImages,
    describe_evaluation,
    evaluation_of_settings,
    restore_evaluation,
)
from lightning_seg.data.reading import ReadingRules
from lightning_seg.errors import CheckpointError, ConfigError
from lightning_seg.structures import DatasetInfo

INFO = DatasetInfo(("a", "b"), 255, ((1, 2, 3), (4, 5, 6)))
IMAGE: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)

INVERT = """
import albumentations as A

class {name}(A.ImageOnlyTransform):
    def __init__(self, ceiling: int = 255, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.ceiling = ceiling

    def apply(self, img, **params):
        return self.ceiling - img
"""


def again(folder: Path, transforms: list[Any], rules: ReadingRules | None = None, imports: Any = ()) -> Any:
    """Through a file, as a checkpoint is."""
    record = describe_evaluation(INFO, transforms, rules or ReadingRules(), 5, imports)
    torch.save(record, folder / "record.pt")
    return torch.load(folder / "record.pt", weights_only=True)


def assert_alike(one: EvaluationImages, other: EvaluationImages) -> None:
    for position in (0, 3):
        first, second = (images.item(IMAGE, Path("a.png"), position) for images in (one, other))
        assert first.keys() == second.keys()
        assert torch.equal(first["image"], second["image"])
        assert first.get("placement") == second.get("placement")
    assert (one.info, one.rules, one.seed) == (other.info, other.rules, other.seed)


@pytest.mark.parametrize(
    "transforms",
    [
        [],
        [A.LongestMaxSize(max_size=96), A.PadIfNeeded(96, 128, position="top_left")],
        [A.HorizontalFlip(p=1), A.OneOf([A.GaussianBlur(p=1), A.RandomBrightnessContrast(p=1)], p=1)],
    ],
)
def test_transforms_rules_and_colours_come_back(transforms: list[Any], tmp_path: Path) -> None:
    """Also what draws: by the seed and the position, as in ``predict``."""
    rules = ReadingRules.of_settings([[0, 4095], [0, 255], [1.5, 2]], 10_000)
    restored = restore_evaluation(again(tmp_path, transforms, rules), INFO.names, 255)
    assert_alike(EvaluationImages(INFO, transforms, rules, 5), restored)


def test_a_transform_of_the_users_own_comes_with_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "own_evaluation_transform.py"
    file.write_text(INVERT.format(name="InvertOwn"))
    monkeypatch.chdir(tmp_path)
    from lightning_seg.imports import import_user_code

    import_user_code([file.name], "data.imports")
    transform = sys.modules["own_evaluation_transform"].InvertOwn(ceiling=250)
    record = again(tmp_path, [transform], imports=[file.name])
    restored = restore_evaluation(record, INFO.names, 255)
    assert torch.equal(restored.item(IMAGE, Path("a"), 0)["image"], torch.from_numpy(250 - IMAGE).permute(2, 0, 1))
    record["imports"] = []
    record["transform_classes"] = ["gone_module.InvertOwn"]
    with pytest.raises(ConfigError, match=r"data.eval_transforms needs gone_module.InvertOwn, and its module is not"):
        restore_evaluation(record, INFO.names, 255)


def test_what_albumentations_cannot_describe_or_build_is_named(tmp_path: Path) -> None:
    record = again(tmp_path, [A.Lambda(image=lambda image, **_: image)])
    assert record["transforms"] is None
    with pytest.raises(CheckpointError, match=r"does not hold its data.eval_transforms \(albumentations.*Lambda\)"):
        restore_evaluation(record, INFO.names, 255)
    record = again(tmp_path, [A.HorizontalFlip(p=1)])
    record["transforms"]["transforms"][0]["__class_fullname__"] = "Gone"
    with pytest.raises(CheckpointError, match=r"cannot be built by albumentations .*Gone"):
        restore_evaluation(record, INFO.names, 255)


def test_settings_of_a_command_say_the_same() -> None:
    settings: dict[str, Any] = {
        "data.eval_transforms": [{"class_path": "albumentations.HorizontalFlip", "init_args": {"p": 1}}],
        "data.value_range": [0, 4095],
        "data.max_pixels": 5000,
        "data.palette.a": "#010203",
        "data.palette.b": [4, 5, 6],
        "data.palette.ignore": "#ffffff",
        "data.seed": 5,
    }
    rules = ReadingRules.of_settings([0, 4095], 5000)
    found = evaluation_of_settings(settings, INFO.names, 255)
    assert_alike(found, EvaluationImages(INFO, [A.HorizontalFlip(p=1)], rules, 5))
    settings["data.eval_transforms"] = [{"class_path": "albumentations.Gone"}]
    with pytest.raises(ConfigError, match=r"data.eval_transforms cannot be built: .*Gone"):
        evaluation_of_settings(settings, INFO.names, 255)
