"""Looks up timm's catalogue: whether timm is installed, which names it knows, which pixels their weights expect."""

import importlib.util

from lightning_seg.errors import ConfigError, DependencyError
from lightning_seg.hints import did_you_mean
from lightning_seg.structures import summarise


def require_timm(what: str) -> None:
    """Raise a DependencyError if timm is missing.

    Args:
        what: the setting that needs it, such as ``MODEL.BACKBONE.NAME build_timm_backbone``; the error begins with it.
    """
    try:
        found = importlib.util.find_spec("timm") is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        raise DependencyError(
            f"{what} needs timm, which is not installed in this environment: pip install 'lightning_seg[timm]'"
        )


def require_known(name: str) -> None:
    """Refuse a name that is no model of timm, or no weights of that model.

    Args:
        name: of a model, with or without a tag of its weights: ``resnet18`` or ``resnet18.a1_in1k``.

    Raises:
        DependencyError: if timm is not installed.
        ConfigError: names close ones.
    """
    require_timm("MODEL.TIMM.NAME")
    import timm

    if not name:
        raise ConfigError("MODEL.TIMM.NAME is empty: give a timm model, such as convnext_tiny.fb_in1k")
    model, _, tag = name.partition(".")
    if not timm.is_model(model):
        hint = did_you_mean(model, timm.list_models()) or "; timm.list_models() names them"
        raise ConfigError(f"MODEL.TIMM.NAME {name} is no model of timm {timm.__version__}{hint}")
    tagged = timm.list_models(f"{model}.*", include_tags=True)
    if tag and name not in tagged:
        there_are = f"it has {summarise(tagged)}" if tagged else f"write {model}"
        raise ConfigError(
            f"MODEL.TIMM.NAME {name}: timm {timm.__version__} has no weights {tag!r} of {model}: {there_are}"
        )


def timm_pixels(name: str) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the pixels that timm's weights of this name expect.

    They come from ``timm.data.resolve_data_config`` and the model's registered configuration; no network is created.

    Args:
        name: as :func:`require_known` takes it; without a tag, timm's default weights.

    Returns:
        Mean and standard deviation, one number for each channel, RGB, in units of 0–255.

    Raises:
        DependencyError: if timm is not installed.
        ConfigError: if timm does not know the name.
    """
    require_known(name)
    from timm.data import resolve_data_config
    from timm.models import PretrainedCfg, get_pretrained_cfg

    trained = get_pretrained_cfg(name) or PretrainedCfg()
    pixels = resolve_data_config(pretrained_cfg=trained.to_dict())
    return [255 * value for value in pixels["mean"]], [255 * value for value in pixels["std"]]
