"""A trained model in two lines, from any place, on any image: the same as ``predict``."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import lightning_seg
from lightning_seg import Predictor, SegmentationModule
from lightning_seg.cli import main
from lightning_seg.errors import CheckpointError, ConfigError, DataError, UnfitImageError, UnreadableError
from tests.conftest import CLASSES, TINY_OVERRIDES
from tests.geo.rasters import UTM, scene, write
from tests.helpers.python import python
from tests.models.lazy_configs import OPTIMIZER, TINY
from tests.predictors import noise, trained_by_hand

pytestmark = [pytest.mark.runs, pytest.mark.usefixtures("one_thread")]

RESIZED: list[dict[str, Any]] = [
    {"class_path": "albumentations.LongestMaxSize", "init_args": {"max_size": 96}},
    {"class_path": "albumentations.PadIfNeeded", "init_args": {"min_height": 96, "min_width": 96}},
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of several sizes, formats and modes, in folders; one is turned, one has a wide range."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "b").mkdir()
    Image.fromarray(noise(40, 56)).save(folder / "a.png")
    Image.fromarray(noise(33, 71)).save(folder / "b/a.jpg", quality=92)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(50, 30)).save(folder / "b/turned.jpg", exif=exif)
    Image.fromarray(noise(45, 45)[..., 0]).save(folder / "grey.png")
    Image.fromarray(np.dstack([noise(31, 64), noise(31, 64, 1)[..., 0]])).save(folder / "alpha.png")
    Image.fromarray(noise(31, 47)).quantize(8).save(folder / "palette.gif")
    Image.fromarray(noise(31, 47)[..., 0].astype(np.uint16) * 16).save(folder / "wide.png")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Path:
    """The folder of a run of one epoch, whose evaluation resizes and pads, reads wide values and has colours."""
    import yaml

    from tests.conftest import folder

    place = tmp_path_factory.mktemp("work")
    config = {
        "seed_everything": 3,
        "model": {"config": "recipe.yaml", "weights": ""},
        "data": {
            "root": str(scenes),
            "classes": CLASSES,
            "train": folder("train"),
            "val": folder("val"),
            "eval_transforms": RESIZED,
            "value_range": [0, 4095],
            "palette": {"sky": "#4682b4"},
            "batch_size": 2,
            "num_workers": 0,
        },
        "trainer": {"accelerator": "cpu", "devices": 1, "max_epochs": 1, "num_sanity_val_steps": 0},
    }
    (place / "tiny.yaml").write_text(yaml.safe_dump(config))
    (place / "base.yaml").write_text(yaml.safe_dump(_nested({"MODEL.RESNETS.DEPTH": 18})))
    recipe = _nested({**TINY_OVERRIDES, "MODEL.WEIGHTS": "detectron2://nowhere.pkl"})
    base = "Misc/semantic_R_50_FPN_1x.yaml"
    from lightning_seg.models.config import find_config

    (place / "recipe.yaml").write_text(yaml.safe_dump({"_BASE_": str(find_config(base)), **recipe}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        main(["fit", "--config", "tiny.yaml"])
    return place / "runs/tiny/version_0"


def _nested(values: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *groups, name = key.split(".")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[name] = value
    return tree


@pytest.fixture(scope="module")
def predicted(run: Path, photos: Path) -> dict[str, Path]:
    """What ``predict`` writes of the photos: the paths of masks by names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(run.parents[2])
        main(["predict", "--ckpt_path", str(run), "--data.predict", str(photos)])
    masks = run.parent / "version_1/predictions/masks"
    return {path.relative_to(masks).as_posix().removesuffix(".png"): path for path in masks.rglob("*.png")}


@pytest.fixture(scope="module")
def predictor(run: Path) -> Predictor:
    return lightning_seg.load(run, device="cpu")


def test_results_are_those_of_predict(
    predictor: Predictor, photos: Path, predicted: dict[str, Path], tmp_path: Path
) -> None:
    results = predictor(sorted(path for path in photos.rglob("*.*")))
    assert {result.name for result in results} == predicted.keys()
    assert len(results) == 7
    for result in results:
        written = np.asarray(Image.open(predicted[result.name]))
        assert np.array_equal(result.mask, written)
        assert result.mask.dtype == np.uint8
        assert result.mask.shape == result.image.shape[:2]
        result.save(tmp_path)
        for place in (f"masks/{result.name}.png", f"overlays/{result.name}.jpg"):
            assert (tmp_path / place).read_bytes() == (predicted["a"].parents[1] / place).read_bytes()
            assert (tmp_path / place).read_bytes() == result.encoded(place.partition("/")[0])
    assert {len(np.unique(result.mask)) for result in results} != {1}  # there is something to compare
    turned = next(result for result in results if result.name == "b/turned")
    assert turned.mask.shape == (30, 50)


def test_batches_change_nothing_but_rounding(run: Path, predictor: Predictor) -> None:
    images = [noise(40, 56, seed) for seed in range(3)] + [noise(33, 71)]
    together = lightning_seg.load(run, device="cpu", batch_size=3)(images)
    for one, other in zip(together, predictor(images), strict=True):
        assert (one.mask == other.mask).mean() > 0.999


def test_what_is_in_memory_is_read_as_files_are(predictor: Predictor, photos: Path) -> None:
    """PIL images of every mode, also turned ones, and arrays and tensors, give what the files give."""
    for path in sorted(photos.rglob("*.*")):
        expected = predictor(path)
        with Image.open(path) as opened:
            result = predictor(opened)
        assert np.array_equal(result.image, expected.image), path
        assert np.array_equal(result.mask, expected.mask), path
        assert np.array_equal(predictor(expected.image).mask, expected.mask)
        assert np.array_equal(predictor(torch.from_numpy(expected.image).permute(2, 0, 1)).mask, expected.mask)
    with Image.open(photos / "a.png") as opened:
        assert np.array_equal(predictor(opened.convert("RGBa")).image.shape, (40, 56, 3))
        assert np.array_equal(predictor(opened.convert("1")).image, np.asarray(opened.convert("1").convert("RGB")))


def test_an_array_may_change_after_the_call(predictor: Predictor) -> None:
    frame = noise(32, 40)
    before = frame.copy()
    result = predictor(frame)
    frame[:] = 0
    assert np.array_equal(result.image, before)
    assert np.array_equal(result.probabilities.argmax(0), result.mask)


def test_probabilities(predictor: Predictor) -> None:
    for result in predictor([noise(40, 56), noise(33, 71)]):
        probabilities = result.probabilities
        assert probabilities.dtype == np.float32
        assert probabilities.shape == (len(CLASSES), *result.mask.shape)
        assert np.allclose(probabilities.sum(0), 1, atol=1e-5)
        best = np.sort(probabilities, axis=0)
        differs = probabilities.argmax(0) != result.mask
        assert not differs[best[-1] - best[-2] > 1e-4].any()
        assert result.probabilities is probabilities


def test_names_and_colours(predictor: Predictor) -> None:
    result = predictor(noise(32, 40))
    assert result.class_names == predictor.class_names == tuple(CLASSES)
    assert result.palette == predictor.palette
    assert result.palette[CLASSES.index("sky")] == (0x46, 0x82, 0xB4)
    assert (predictor.device, predictor.batch_size) == (torch.device("cpu"), 1)
    assert predictor.rules.ranges == ((0, 4095),)
    assert result.name == "image"
    assert [one.name for one in predictor([noise(32, 40), noise(32, 40)])] == ["image_1", "image_2"]


def test_relative_and_absolute_paths_go_together(
    predictor: Predictor, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos / "b")
    results = predictor([photos / "a.png", "a.jpg", noise(8, 8), "../grey.png"])
    assert [result.name for result in results] == ["a", "b/a", "image_3", "grey"]
    assert repr(predictor) == f"Predictor({len(CLASSES)} classes, cpu)"


def test_an_overlay_is_a_picture_that_a_notebook_shows(predictor: Predictor) -> None:
    result = predictor(noise(32, 40))
    assert np.array_equal(np.asarray(result.overlay(0)), result.image)
    colours = np.array(result.palette, np.uint8)
    assert np.array_equal(np.asarray(result.overlay(1)), colours[result.mask])
    assert result._repr_png_().startswith(b"\x89PNG")
    shares = np.bincount(result.mask.ravel()) / result.mask.size
    assert repr(result).startswith(f"Result(image, 40×32: {CLASSES[shares.argmax()]} {shares.max():.1%}")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((48, 64), np.float32), r"an array of shape \(48, 64\) float32, but \(H, W, 3\) uint8 RGB is needed"),
        (np.zeros((48, 64, 3)), "float64, .* convert values to 0 to 255"),
        (np.zeros((48, 64, 4), np.uint8), "leave the fourth channel out"),
        (np.zeros((3, 48, 64), np.uint8), "move the channels to the end"),
        (np.zeros((2, 48, 64, 3), np.uint8), "give a list of images"),
        (np.zeros((0, 64, 3), np.uint8), r"shape \(0, 64, 3\) uint8, .* this one has no pixels"),
        (torch.zeros(48, 64, 3, dtype=torch.uint8), "a tensor of shape .* uint8, .* move the channels to the front"),
        (7, "of type int, but a path, a PIL image"),
        (None, "of type NoneType, but a path"),
        (b"\x89PNG", r"open them, PIL.Image.open\(io.BytesIO\(data\)\)"),
        ((path for path in ()), r"make it a list, list\(images\)"),
    ],
)
def test_what_is_no_image_is_named(predictor: Predictor, given: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"^the input is {message}|^the input is .*{message}"):
        predictor(given)
    with pytest.raises(DataError, match=f"^input 2 of 3 is .*{message}"):
        predictor([noise(32, 40), given, noise(32, 40)])


def test_files_that_are_no_images_are_named_before_anything_is_computed(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = lightning_seg.load(run, device="cpu")
    monkeypatch.setattr(predictor._network, "label_maps", lambda batch: pytest.fail("computed"))
    (tmp_path / "text.png").write_text("no image")
    for path, message in (
        (tmp_path / "gone.png", "image .*gone.png does not exist"),
        (tmp_path / "text.png", "image .*text.png cannot be read"),
        (tmp_path, "is a folder: give a list of its images"),
    ):
        with pytest.raises(UnreadableError, match=f"input 3 of 3: .*{message}"):
            predictor([photos / "a.png", noise(8, 8), str(path)])
        with pytest.raises(UnreadableError, match=f"^(?!input).*{message}"):
            predictor(path)
    frames = tmp_path / "frames.gif"
    first, second = (Image.fromarray(noise(20, 20, seed)).quantize(8) for seed in (1, 2))
    first.save(frames, save_all=True, append_images=[second])
    with Image.open(frames) as opened, pytest.raises(UnfitImageError, match=r"frames.gif has 2 pages or frames"):
        predictor(opened)


def test_wide_values_and_large_images_go_by_the_checkpoints_rules(tmp_path: Path, scenes: Path) -> None:
    predictor = lightning_seg.load(trained_by_hand(tmp_path, scenes, max_pixels=3072), device="cpu")
    assert predictor(noise(48, 64)).mask.shape == (48, 64)
    for given in (noise(48, 65), Image.fromarray(noise(48, 65)), torch.zeros(3, 48, 65, dtype=torch.uint8)):
        with pytest.raises(UnfitImageError, match=r"65×48 pixels, but data.max_pixels allows 3072"):
            predictor(given)
    with pytest.raises(UnfitImageError, match=r"\(in memory\) has 1 band of uint16 .* set data.value_range"):
        predictor(Image.fromarray(np.full((20, 20), 300, np.uint16)))


def test_one_checkpoint_alone_is_enough(run: Path, photos: Path, predictor: Predictor, tmp_path: Path) -> None:
    """Elsewhere, without the recipe, in a process of its own, and without asking for the pretrained weights."""
    moved = tmp_path / "elsewhere/model.ckpt"
    moved.parent.mkdir()
    moved.write_bytes((run / "checkpoints/best.ckpt").read_bytes())
    script = tmp_path / "elsewhere/two_lines.py"
    script.write_text(
        "import lightning_seg, numpy\n"
        "from lightning_seg import SegmentationModule\n"
        f"result = lightning_seg.load('model.ckpt', device='cpu')({str(photos / 'b/turned.jpg')!r})\n"
        "numpy.save('mask.npy', result.mask)\n"
        "module = SegmentationModule.load_from_checkpoint('model.ckpt', map_location='cpu')\n"
        "print(module.hparams['config'], module.recipe.weights)\n"
    )
    recipe = run.parents[2] / "recipe.yaml"
    hidden = recipe.rename(recipe.with_suffix(".hidden"))
    try:
        done = subprocess.run([python(), str(script)], cwd=moved.parent, capture_output=True, text=True, check=False)
    finally:
        hidden.rename(recipe)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "recipe.yaml detectron2://nowhere.pkl\n"
    assert "WARNING" not in done.stderr
    assert np.array_equal(np.load(moved.parent / "mask.npy"), predictor(photos / "b/turned.jpg").mask)


def _without_records(path: Path, folder: Path, *others: str) -> Path:
    """The checkpoint as versions wrote it that recorded neither recipe nor evaluation."""
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"]["config"] = checkpoint["hyper_parameters"]["config"]["file"]
    for name in ("evaluation", "optimizer_states", *others):
        checkpoint.pop(name)
    torch.save(checkpoint, folder / "old.ckpt")
    return folder / "old.ckpt"


def test_old_checkpoints_need_their_files(
    run: Path, photos: Path, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = _without_records(run / "checkpoints/best.ckpt", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        CheckpointError,
        match=r"old.ckpt needs its file: model.config 'recipe.yaml' is neither .*\. It does not hold the contents",
    ):
        lightning_seg.load(old, device="cpu")
    monkeypatch.chdir(run.parents[2])
    again = lightning_seg.load(old, device="cpu")
    assert again.palette == predictor.palette
    for name in ("wide.png", "b/a.jpg"):
        assert np.array_equal(again(photos / name).mask, predictor(photos / name).mask)
    bare = _without_records(run / "checkpoints/best.ckpt", tmp_path, "settings")
    with pytest.warns(UserWarning, match=r"old.ckpt says nothing of data.eval_transforms"):
        plain = lightning_seg.load(bare, device="cpu")
    assert plain(photos / "b/a.jpg").mask.shape == (33, 71)


def test_files_of_the_users_that_are_missing_are_named(tmp_path: Path, scenes: Path, run: Path) -> None:
    checkpoint = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    for part, name, message in (
        ("hyper_parameters", "head.py", "model.imports head.py does not exist"),
        ("evaluation", "transforms.py", "data.imports transforms.py does not exist"),
    ):
        changed = {**checkpoint, part: {**checkpoint[part], "imports": [name]}}
        torch.save(changed, tmp_path / "m.ckpt")
        with pytest.raises(CheckpointError, match=f"checkpoint .*m.ckpt cannot be used here: {message}"):
            lightning_seg.load(tmp_path / "m.ckpt", device="cpu")
    changed = {**checkpoint, "hyper_parameters": {**checkpoint["hyper_parameters"], "depth_maps": True}}
    torch.save(changed, tmp_path / "m.ckpt")
    with pytest.raises(CheckpointError, match=r"has model.depth_maps, which this version does not know"):
        lightning_seg.load(tmp_path / "m.ckpt", device="cpu")


def test_what_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.zeros(2)}}, tmp_path / "weights.pth")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.ckpt").write_text("hi")
    for name, message in (
        ("gone.ckpt", "checkpoint .*gone.ckpt does not exist"),
        ("weights.pth", "weights.pth holds no settings of a model"),
        ("empty", "empty is no run folder"),
        ("text.ckpt", r"text.ckpt cannot be read: it is damaged, or torch did not save it \(KeyError: 105\)"),
    ):
        with pytest.raises(CheckpointError, match=message):
            lightning_seg.load(tmp_path / name, device="cpu")


def test_devices_and_batches_that_are_not_there(tmp_path: Path) -> None:
    for device, message in (
        ("gpu", "device is 'gpu', but auto, cpu, cuda, cuda:1 or mps is needed"),
        ("cuda:99", "device is 'cuda:99', but this machine has cpu and"),
        ("meta", "device is 'meta', but this machine"),
    ):
        with pytest.raises(ConfigError, match=message):
            lightning_seg.load(tmp_path, device=device)
    with pytest.raises(ConfigError, match="batch_size is 0"):
        lightning_seg.load(tmp_path, batch_size=0)


def test_threads_may_share_a_predictor(predictor: Predictor) -> None:
    images = [noise(32 + seed % 3, 40, seed) for seed in range(12)]
    expected = [result.mask for result in predictor(images)]
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(predictor, images))
    assert all(np.array_equal(result.mask, mask) for result, mask in zip(results, expected, strict=True))
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda result: result.probabilities.argmax(0), results))
    assert all((one == mask).mean() > 0.99 for one, mask in zip(found, expected, strict=True))


def test_a_head_with_a_loss_of_its_own_needs_no_loss(tmp_path: Path, scenes: Path) -> None:
    """Neither the class of a criterion nor its tensors are asked for."""
    path = trained_by_hand(tmp_path, scenes)
    expected = lightning_seg.load(path, device="cpu")(noise(32, 40)).mask
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"]["criterion"] = {"class_path": "gone.Loss", "init_args": {}}
    checkpoint["state_dict"]["segmentor.criterion.weight"] = torch.ones(6)
    torch.save(checkpoint, path)
    assert np.array_equal(lightning_seg.load(path, device="cpu")(noise(32, 40)).mask, expected)


def test_a_lazy_config_comes_with_its_checkpoint(tmp_path: Path, scenes: Path) -> None:
    """But for one whose model only the file can name."""
    file, image = tmp_path / "tiny.py", noise(32, 40)
    file.write_text(TINY + OPTIMIZER)
    path = trained_by_hand(tmp_path, scenes, {"config": str(file), "overrides": {}})
    expected = SegmentationModule.load_from_checkpoint(path, config=str(file), map_location="cpu").eval()
    with torch.no_grad():
        mask = expected(torch.from_numpy(image).permute(2, 0, 1)[None])[0].numpy()
    file.write_text(
        TINY + OPTIMIZER + "\nmodel.sem_seg_head.norm = lambda channels: __import__('torch').nn.Identity()\n"
    )
    (tmp_path / "own").mkdir()
    own = trained_by_hand(tmp_path / "own", scenes, {"config": str(file), "overrides": {}})
    file.unlink()
    assert np.array_equal(lightning_seg.load(path, device="cpu")(image).mask, mask)
    with pytest.raises(CheckpointError, match=r"m.ckpt needs its file: model.config '.*tiny.py' is neither a file"):
        lightning_seg.load(own, device="cpu")


def test_a_checkpoint_of_wandb_is_fetched(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    best = run / "checkpoints/best.ckpt"
    monkeypatch.setattr(
        "lightning_seg.loggers.wandb_checkpoint.fetch_checkpoint", lambda *given: asked.append(given) or best
    )
    assert lightning_seg.load("wandb://a/b/model-c:best", device="cpu").class_names == tuple(CLASSES)
    assert asked == [("wandb://a/b/model-c:best", Path("runs"))]


def test_a_geotiff_is_saved_as_predict_writes_it(
    predictor: Predictor, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parents[2])
    path = write(tmp_path / "geo.tif", scene(60, 50), **UTM)
    main(["predict", "--ckpt_path", str(run), "--data.predict", str(path), "--output", str(tmp_path / "written")])
    predictor(path).save(tmp_path / "saved")
    for name in ("masks/geo.tif", "overlays/geo.jpg"):
        assert (tmp_path / "saved" / name).read_bytes() == (tmp_path / "written" / name).read_bytes()
    assert not (tmp_path / "saved/masks/geo.png").exists()
