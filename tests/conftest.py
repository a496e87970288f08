"""Small data, a small model and ways to call the command line, for all tests."""

import importlib.util
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from lightning_seg.data import Synthetic
from tests.helpers.python import python

REPOSITORY = Path(__file__).parent.parent

TINY_OVERRIDES = {
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "MODEL.RESNETS.NORM": "BN",
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.FPN.OUT_CHANNELS": 16,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 16,
    "MODEL.SEM_SEG_HEAD.NORM": "BN",
    "SOLVER.MAX_ITER": 10,
    "SOLVER.STEPS": [6, 8],
    "SOLVER.WARMUP_ITERS": 3,
}
_TINY_DEEPLAB = {
    "MODEL.BACKBONE.NAME": "build_resnet_deeplab_backbone",
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 16,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 32,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
    "MODEL.RESNETS.RES5_DILATION": 2,
    "MODEL.RESNETS.NORM": "BN",
    "MODEL.SEM_SEG_HEAD.ASPP_CHANNELS": 16,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 16,
    "MODEL.SEM_SEG_HEAD.NORM": "BN",
    "SOLVER.MAX_ITER": 10,
    "SOLVER.LR_SCHEDULER_NAME": "WarmupPolyLR",
    "SOLVER.WARMUP_ITERS": 3,
}
MODELS = {
    "SemSegFPN": TINY_OVERRIDES,
    "DeepLabV3": {
        **_TINY_DEEPLAB,
        "MODEL.RESNETS.OUT_FEATURES": ["res5"],
        "MODEL.SEM_SEG_HEAD.NAME": "DeepLabV3Head",
        "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["res5"],
        "MODEL.SEM_SEG_HEAD.COMMON_STRIDE": 16,
    },
    "DeepLabV3Plus": {
        **_TINY_DEEPLAB,
        "MODEL.RESNETS.OUT_FEATURES": ["res2", "res5"],
        "MODEL.SEM_SEG_HEAD.NAME": "DeepLabV3PlusHead",
        "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["res2", "res5"],
        "MODEL.SEM_SEG_HEAD.COMMON_STRIDE": 4,
        "MODEL.SEM_SEG_HEAD.LOSS_TYPE": "cross_entropy",
    },
    "PointRend": {
        **TINY_OVERRIDES,
        "MODEL.SEM_SEG_HEAD.NAME": "PointRendSemSegHead",
        "MODEL.POINT_HEAD.COARSE_SEM_SEG_HEAD_NAME": "SemSegFPNHead",
        "MODEL.POINT_HEAD.IN_FEATURES": ["p2"],
        "MODEL.POINT_HEAD.FC_DIM": 16,
        "MODEL.POINT_HEAD.TRAIN_NUM_POINTS": 64,
        "MODEL.POINT_HEAD.SUBDIVISION_STEPS": 2,
        "MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS": 256,
    },
}
"""Small networks with every head of Detectron2 and its projects."""

CLASSES = ["sky", "ground", "hill", "house", "tree", "ball"]

torch.set_num_threads(1)  # very small networks lose more to threads than they gain
os.environ.setdefault("OMP_NUM_THREADS", "1")  # in commands, too
os.environ["WANDB_MODE"] = "offline"  # whatever the machine is logged in to


@pytest.hookimpl(tryfirst=True)  # before those that are not asked for are left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "experiment" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.runs)


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c() -> None:
    """As on a terminal: what a script starts with ``&`` ignores it, and so would all that tests start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _same_environment() -> Iterator[None]:
    """DDP in the process of a test leaves ``LOCAL_RANK`` behind, with which a later command starts no others."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """As is usual here, where a test depends on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """For networks and images of a usual size, and for tests of what becomes of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``train`` (6 scenes) and ``val`` (3), each with ``images`` and ``masks``, 48×64 pixels."""
    root = tmp_path_factory.mktemp("scenes")
    for part, count in (("train", 6), ("val", 3)):
        Synthetic(root=part, count=count, seed=count, size=(48, 64)).prepare(root)
    return root


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 pairs without ignored pixels: the mean over processes of their means is then the mean over all pixels.

    And one for validation, which leaves other processes without any.
    """
    root = tmp_path_factory.mktemp("pairs")
    for index in range(17):
        blocks = np.random.default_rng(index).integers(0, 6, (6, 8), dtype=np.uint8)
        part = "train" if index < 16 else "val"
        write_pair(root / part, f"{index:02d}", np.kron(blocks, np.ones((8, 8), np.uint8)))
    return root


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data beside the repository; tests that need it are skipped elsewhere."""
    folder = Path(os.environ.get("LIGHTNING_SEG_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder} (set LIGHTNING_SEG_SHARED)")
    return folder


@pytest.fixture
def empty_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def experiment(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a complete small config to ``tiny.yaml`` in an empty working directory, with changes to its data."""
    monkeypatch.chdir(tmp_path)

    def write(**data: Any) -> Path:
        config = {
            "seed_everything": 3,
            "model": {
                "config": "Misc/semantic_R_50_FPN_1x.yaml",
                "weights": "",
                "overrides": dict(TINY_OVERRIDES),
            },
            "data": {
                "root": str(scenes),
                "classes": CLASSES,
                "train": folder("train"),
                "val": folder("val"),
                "test": folder("val"),
                "train_transforms": [{"class_path": "albumentations.HorizontalFlip"}],
                "batch_size": 2,
                "num_workers": 0,
                **data,
            },
            "trainer": {
                "accelerator": "cpu",
                "devices": 1,
                "max_epochs": 2,
                "log_every_n_steps": 1,
                "num_sanity_val_steps": 0,
            },
        }
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump(config))
        return path

    return write


def folder(part: str) -> dict[str, Any]:
    return {
        "class_path": "lightning_seg.data.Folder",
        "init_args": {"images": f"{part}/images", "masks": f"{part}/masks"},
    }


def benchmark(name: str) -> Any:
    """A module of ``benchmarks/``, which is no package."""
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / f"benchmarks/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def train_py(*arguments: str, timeout: int = 300) -> subprocess.CompletedProcess[str]:
    """Run ``python train.py`` as a user does, in a process of its own that need not import anything."""
    return subprocess.run(
        [python(), str(REPOSITORY / "train.py"), *arguments],
        capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


def write_pair(root: Path, name: str, mask: np.ndarray, image_size: tuple[int, int] | None = None) -> None:
    """Write ``images/name.jpg`` and ``masks/name.png``."""
    height, width = image_size or mask.shape
    for kind in ("images", "masks"):
        (root / kind / name).parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "images" / f"{name}.jpg")
    Image.fromarray(mask).save(root / "masks" / f"{name}.png")
