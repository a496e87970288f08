"""Reads Detectron2 configs: finds the file, applies overrides, refuses keys that do not exist."""

import importlib.resources
import importlib.util
from collections.abc import Collection, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lightning_seg.config_paths import expanded
from lightning_seg.errors import ConfigError, DependencyError
from lightning_seg.hints import did_you_mean
from lightning_seg.models.architectures import EOMT, add_architectures_config
from lightning_seg.models.backbones import NEVER_FROZEN, TIMM_BUILDERS, add_backbones_config
from lightning_seg.models.backbones.timm_names import timm_pixels
from lightning_seg.models.heads import add_heads_config
from lightning_seg.models.own_keys import add_own_config
from lightning_seg.structures import summarise

if TYPE_CHECKING:
    from detectron2.config import CfgNode

DATA_KEYS = {
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": "data.classes",
    "MODEL.SEM_SEG_HEAD.IGNORE_VALUE": "data.ignore_index",
}
"""Detectron2 keys that settings of the data decide, and these settings."""


def load_config(config: str, overrides: Mapping[str, Any]) -> "CfgNode":
    """Read a Detectron2 YAML file and apply dotted overrides.

    With a timm backbone, ``INPUT.FORMAT``, ``MODEL.PIXEL_MEAN`` and ``MODEL.PIXEL_STD`` become what its weights
    expect. A key stays if an override names it, or if its value in the file is not Detectron2's default.

    Args:
        config: a path, or the name of a config in Detectron2's model zoo, such as
            ``Misc/semantic_R_50_FPN_1x.yaml``.
        overrides: ``{"MODEL.RESNETS.DEPTH": 18}``; values are converted as Detectron2 does, and whole numbers
            are accepted for floats.

    Returns:
        The full config, not frozen.

    Raises:
        DependencyError: if Detectron2, or timm for a timm backbone, is not installed.
        ConfigError: if the file does not exist or cannot be read, an override names no key or has a wrong type, timm
            does not know the backbone, or ``MODEL.BACKBONE.FREEZE_AT`` is set but has no effect on the backbone.
    """
    return with_overrides(read_config(config), overrides)


def read_config(config: str) -> "CfgNode":
    """Read a Detectron2 YAML file with all that it is based on; errors as of :func:`load_config`."""
    require_detectron2()
    cfg = default_config()
    path = find_config(config)
    try:
        # Detectron2's own files may hold code, which is as trustworthy as the library; RetinaNet's holds an expression.
        cfg.merge_from_file(str(path), allow_unsafe=_zoo().resolve() in path.resolve().parents)
    except Exception as error:  # yacs and PyYAML raise many kinds
        raise ConfigError(f"model.config {path} is no Detectron2 config: {error}") from None
    return cfg


def config_of_values(config: str, values: Mapping[str, Any]) -> "CfgNode":
    """What :func:`read_config` read, from a checkpoint's record of its :func:`leaves`.

    Args:
        config: the file that it was, for messages.
        values: by dotted keys.

    Raises:
        DependencyError: if Detectron2 is not installed.
        ConfigError: if there is no such key any more.
    """
    require_detectron2()
    cfg = default_config()
    known = dict(leaves(cfg))
    if unknown := [key for key in values if key not in known]:
        raise ConfigError(
            f"the checkpoint's record of model.config {config} has {summarise(unknown, 3)}, which this version does "
            "not know: use the version that wrote it, or import the file that declares it"
        )
    for key, value in values.items():
        *groups, name = key.split(".")
        node = cfg
        for group in groups:
            node = node[group]
        node[name] = deepcopy(value)
    return cfg


def with_overrides(cfg: "CfgNode", overrides: Mapping[str, Any]) -> "CfgNode":
    """Change a config that was read, as :func:`load_config` says; in place."""
    defaults = dict(leaves(default_config()))
    for key, value in overrides.items():
        _override(cfg, key, value)
    explicit = {key for key, value in leaves(cfg) if key in overrides or value != defaults[key]}
    builder, freeze_at = cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.FREEZE_AT
    if cfg.MODEL.META_ARCHITECTURE == EOMT:
        builder = EOMT
    if builder in (*NEVER_FROZEN, EOMT) and freeze_at > 0 and "MODEL.BACKBONE.FREEZE_AT" in explicit:
        raise ConfigError(
            f"MODEL.BACKBONE.FREEZE_AT is {freeze_at}, but {builder} trains every stage: leave the key out "
            "or set it to 0"
        )
    if builder in TIMM_BUILDERS:
        _take_timm_pixels(cfg, explicit)
    return cfg


def recorded_values(cfg: "CfgNode") -> dict[str, Any]:
    """The :func:`leaves` of a config that was read, for a checkpoint; of the user's own keys those that were changed.

    So a network that has nothing to do with a user's file is restored without it, wherever it was trained.
    """
    of_all = _known_config()
    known = {key for key, _ in leaves(of_all)}
    add_own_config(of_all)
    defaults = dict(leaves(of_all))
    return {key: deepcopy(value) for key, value in leaves(cfg) if key in known or value != defaults[key]}


def default_config() -> "CfgNode":
    """Detectron2's config before any file, with the keys of its projects, of this one, and of the user's files."""
    cfg = _known_config()
    add_own_config(cfg)
    return cfg


def _known_config() -> "CfgNode":
    from detectron2.config import get_cfg

    cfg = get_cfg()
    for project, function in (("deeplab", "add_deeplab_config"), ("point_rend", "add_pointrend_config")):
        getattr(_project_config(project), function)(cfg)
    add_heads_config(cfg)
    add_backbones_config(cfg)
    add_architectures_config(cfg)
    return cfg


def require_detectron2() -> None:
    """Raise a DependencyError that says how to install Detectron2, if it is missing."""
    try:
        importlib.import_module("detectron2")
    except ImportError as error:
        raise DependencyError(
            f"Detectron2 is not installed in this environment ({error}). Run `make install` in the repository, or, "
            "in an environment of your own:\n"
            "  pip install --no-deps --only-binary=:all: --python-version 3.10 --implementation cp --abi none "
            '--platform any --target "$(python -c \'import sysconfig; print(sysconfig.get_path("purelib"))\')" '
            "--require-hashes -r requirements-detectron2.txt"
        ) from None


def find_config(config: str) -> Path:
    """Find the file at a path, or with this name in Detectron2's model zoo.

    Raises:
        ConfigError: if there is none.
    """
    path = Path(expanded(config))
    if path.is_file():
        return path
    zoo = _zoo()
    if ".." not in Path(config).parts and (zoo / config).is_file():
        return zoo / config
    suffix = path.suffix if path.suffix == ".py" else ".yaml"
    known = [found.relative_to(zoo).as_posix() for found in sorted(zoo.rglob(f"*{suffix}"))]
    raise ConfigError(
        f"model.config {config!r} is neither a file nor a config of Detectron2's model zoo{did_you_mean(config, known)}"
    )


def refuse_key(key: str, leaves: Collection[str]) -> None:
    """Raise the ConfigError for an override that names no single key of the config, with the nearest ones."""
    if key in leaves:
        return
    option = f"model.overrides.{key}"
    inside = [leaf for leaf in leaves if leaf.startswith(key + ".")]
    if inside:
        raise ConfigError(f"{option} is a group of keys: name one of them, such as {inside[0]}")
    raise ConfigError(f"{option} is no key of this Detectron2 config{did_you_mean(key, leaves)}")


def _project_config(project: str) -> ModuleType:
    """Import a project's ``config.py`` alone: the whole project takes seconds, too long for a mistyped key."""
    package = importlib.util.find_spec(f"detectron2.projects.{project}")
    path = Path(package.origin).with_name("config.py") if package is not None and package.origin else Path()
    spec = importlib.util.spec_from_file_location(f"detectron2_{project}_config", path)
    if spec is None or spec.loader is None:
        raise DependencyError(f"this Detectron2 has no detectron2.projects.{project}: install it with `make install`")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _zoo() -> Path:
    return Path(str(importlib.resources.files("detectron2"))) / "model_zoo" / "configs"


def _override(cfg: "CfgNode", key: str, value: Any) -> None:
    option = f"model.overrides.{key}"
    known = dict(leaves(cfg))
    if key in DATA_KEYS:
        raise ConfigError(f"{option} follows from {DATA_KEYS[key]}: set that instead")
    refuse_key(key, known)
    if isinstance(known[key], float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    try:
        cfg.merge_from_list([key, value])
    except (ValueError, AssertionError, KeyError):
        raise ConfigError(
            f"{option} is {value!r} ({type(value).__name__}), but a {type(known[key]).__name__} such as "
            f"{known[key]!r} is expected"
        ) from None


def _take_timm_pixels(cfg: "CfgNode", explicit: set[str]) -> None:
    """Set the pixel keys that are not explicit to what timm's weights expect, in the network's order of channels."""
    mean, std = timm_pixels(cfg.MODEL.TIMM.NAME)
    if "INPUT.FORMAT" not in explicit:
        cfg.INPUT.FORMAT = "RGB"
    if cfg.INPUT.FORMAT == "BGR":
        mean, std = mean[::-1], std[::-1]
    if "MODEL.PIXEL_MEAN" not in explicit:
        cfg.MODEL.PIXEL_MEAN = mean
    if "MODEL.PIXEL_STD" not in explicit:
        cfg.MODEL.PIXEL_STD = std


def leaves(cfg: "CfgNode", prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values."""
    for key, value in cfg.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
