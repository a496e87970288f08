"""Images as evaluation shows them to a network, without a data set: how, and what a checkpoint says of it."""

import importlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import albumentations as A
from numpy.typing import NDArray

from lightning_seg.colours import default_palette
from lightning_seg.data.dataset import transformed
from lightning_seg.data.labels.classes import dataset_info, parse_palette
from lightning_seg.data.reading import MAX_PIXELS, USUAL, ReadingRules
from lightning_seg.data.transforms import Transform, reseed
from lightning_seg.data.transforms.pipeline import leaves
from lightning_seg.data.transforms.splits import transforms_of
from lightning_seg.errors import CheckpointError, ConfigError
from lightning_seg.imports import import_user_code
from lightning_seg.structures import DatasetInfo, Item


class EvaluationImages:
    """Reads and transforms images as ``predict`` does.

    Args:
        info: of the data.
        transforms: those of evaluation.
        rules: what may be read.
        seed: of what transforms may draw.
    """

    def __init__(
        self, info: DatasetInfo, transforms: Sequence[Transform] = (), rules: ReadingRules = USUAL, seed: int = 0
    ) -> None:
        self.info = info
        self.rules = rules
        self.seed = seed
        self.transforms = transforms
        self._transforms = transforms_of("predict", (), transforms, info.ignore_index)

    def item(self, image: NDArray[Any], source: Path, position: int) -> Item:
        """What the network gets of an image.

        Args:
            image: (H, W, C), RGB or bands, as :func:`~lightning_seg.data.reading.read_image` gives it.
            source: for errors.
            position: among the images, by which transforms draw.

        Raises:
            DataError: if a transform fails, or does what no label map finds back from.
        """
        pipeline = self._transforms.pipeline
        reseed(pipeline, self.seed, 0, position)
        return transformed(image, None, (image.shape[0], image.shape[1]), source, pipeline, self._transforms.placements)


def describe_evaluation(
    info: DatasetInfo, transforms: Sequence[Transform], rules: ReadingRules, seed: int, imports: Sequence[str]
) -> dict[str, Any]:
    """All that :class:`EvaluationImages` needs, but for the classes' names, in plain values.

    Args:
        info: of the data.
        transforms: those of evaluation.
        rules: what may be read.
        seed: of what transforms may draw.
        imports: the user's files, in which transforms may be.
    """
    named = [f"{type(leaf).__module__}.{type(leaf).__qualname__}" for leaf in leaves(transforms)]
    return {
        "palette": [list(colour) for colour in info.palette],
        "rules": asdict(rules),
        "seed": seed,
        "imports": list(imports),
        "transforms": _described(transforms),
        "transform_classes": named,
    }


def restore_evaluation(record: Mapping[str, Any], class_names: Sequence[str], ignore_index: int) -> EvaluationImages:
    """What was described, for a checkpoint's classes.

    Raises:
        ConfigError: if a file of the user's is missing.
        CheckpointError: if a transform cannot be built again.
    """
    import_user_code(record["imports"], "data.imports")
    for name in record["transform_classes"]:
        _import_class(name)
    palette = tuple((red, green, blue) for red, green, blue in record["palette"])
    rules = rules_of(record)
    info = DatasetInfo(tuple(class_names), ignore_index, palette, rules.channels, rules.dtype or "uint8")
    return EvaluationImages(info, _restored(record["transforms"], record["transform_classes"]), rules, record["seed"])


def rules_of(record: Mapping[str, Any]) -> ReadingRules:
    """What may be read, of what :func:`describe_evaluation` described."""
    return ReadingRules(**{name: _in_tuples(value) for name, value in record["rules"].items()})


def evaluation_of_settings(
    settings: Mapping[str, Any], class_names: Sequence[str], ignore_index: int
) -> EvaluationImages:
    """The same from the settings of a command by dotted names: of a checkpoint that was not described.

    Colours that its source gave are not in them.

    Raises:
        ConfigError: if the settings cannot be used here.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    import_user_code(settings.get("data.imports") or [], "data.imports")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--eval_transforms", type=list[Transform])
    try:
        parsed = parser.parse_object({"eval_transforms": settings.get("data.eval_transforms") or []})
        transforms = parser.instantiate(parsed).eval_transforms
    except ArgumentError as error:
        raise ConfigError(f"data.eval_transforms cannot be built: {' '.join(str(error).split())}") from error
    prefix = "data.palette."
    colours = parse_palette(
        {key.removeprefix(prefix): value for key, value in settings.items() if key.startswith(prefix)}
    )
    named = {name: colour for name, colour in colours.items() if name in class_names}
    rules = ReadingRules.of_settings(
        settings.get("data.value_range"),
        settings.get("data.max_pixels", MAX_PIXELS),
        settings.get("data.bands"),
        settings.get("data.display_bands"),
    )
    info = dataset_info(class_names, ignore_index, named, set(), rules.channels)
    return EvaluationImages(info, transforms, rules, settings.get("data.seed", 0))


def plain_evaluation(class_names: Sequence[str], ignore_index: int) -> EvaluationImages:
    """Images as they are, in colours chosen for the classes: where a checkpoint says nothing of its data."""
    return EvaluationImages(DatasetInfo(tuple(class_names), ignore_index, default_palette(len(class_names))))


def _described(transforms: Sequence[Transform]) -> Any:
    """As albumentations describes them; None where it cannot, or where what it says gives others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of arguments that a transform has and does not take
        try:
            described = A.to_dict(A.Compose(list(transforms)))["transform"]
            again = A.to_dict(A.from_dict({"__version__": A.__version__, "transform": described}))["transform"]
        except Exception:  # of a user's transform, anything
            return None
    return described if again == described else None


def _restored(described: Any, names: Sequence[str]) -> list[Transform]:
    if described is None:
        raise CheckpointError(
            f"the checkpoint does not hold its data.eval_transforms ({', '.join(names)}), because albumentations could "
            "not describe one of them: predict with the run's configuration (train.py predict)"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pipeline = A.from_dict({"__version__": A.__version__, "transform": described})
        except Exception as error:
            reason = (str(error).splitlines() or [""])[0]
            raise CheckpointError(
                f"the checkpoint's data.eval_transforms ({', '.join(names)}) cannot be built by albumentations "
                f"{A.__version__}: {type(error).__name__}: {reason}"
            ) from error
    return list(pipeline.transforms)


def _in_tuples(value: Any) -> Any:
    """Lists as the tuples that they were, before JSON for one."""
    return tuple(map(_in_tuples, value)) if isinstance(value, list | tuple) else value


def _import_class(name: str) -> None:
    """Have albumentations know a class, which it does once the module is there."""
    module = name.rpartition(".")[0]
    if module.startswith("albumentations."):
        return
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"data.eval_transforms needs {name}, and its module is not there ({error}): put it on Python's path"
        ) from error
