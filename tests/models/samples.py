"""Batches as the data module makes them, and Detectron2's own model beside ours."""

from typing import Any

import torch

from lightning_seg.models.config import load_config
from lightning_seg.models.segmentor import Segmentor
from lightning_seg.models.yaml_recipe import YamlRecipe

ZOO = "Misc/semantic_R_50_FPN_1x.yaml"

IGNORE = 255


def make_batch(sizes: list[tuple[int, int]], num_classes: int = 5, seed: int = 0) -> list[dict[str, Any]]:
    """RGB samples of the given sizes with some ignored pixels."""
    generator = torch.Generator().manual_seed(seed)
    batch = []
    for height, width in sizes:
        mask = torch.randint(0, num_classes + 1, (height, width), generator=generator)
        mask[mask == num_classes] = IGNORE
        image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
        batch.append({"image": image, "sem_seg": mask.to(torch.uint8), "height": height, "width": width})
    return batch


def full_batch(size: tuple[int, int], seed: int = 0) -> list[dict[str, Any]]:
    """Two samples without ignored pixels, which transformers takes for background."""
    batch = make_batch([size, size], seed=seed)
    for sample in batch:
        sample["sem_seg"][sample["sem_seg"] == IGNORE] = 3
    batch[1]["sem_seg"][:] = batch[1]["sem_seg"].clamp(max=2)  # another number of masks
    return batch


def transformers_labels(batch: list[dict[str, Any]]) -> dict[str, Any]:
    """The classes of each sample and their masks, as models of transformers that classify masks take them."""
    classes = [sample["sem_seg"].long().unique() for sample in batch]
    masks = [(sample["sem_seg"] == ids[:, None, None]).float() for sample, ids in zip(batch, classes, strict=True)]
    return {"mask_labels": masks, "class_labels": classes}


def as_detectron2(batch: list[dict[str, Any]], image_format: str) -> list[dict[str, Any]]:
    flip = image_format == "BGR"
    return [
        {**sample, "image": sample["image"].flip(0) if flip else sample["image"], "sem_seg": sample["sem_seg"].long()}
        for sample in batch
    ]


def pair(overrides: dict[str, Any], num_classes: int = 5) -> tuple[Segmentor, Any, Any]:
    """Our segmentor and Detectron2's model with the same weights, and Detectron2's config."""
    from detectron2.modeling import build_model

    cfg = load_config(ZOO, overrides)
    torch.manual_seed(0)
    ours = Segmentor(YamlRecipe(cfg), num_classes=num_classes, ignore_index=IGNORE)
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = cfg.MODEL.POINT_HEAD.NUM_CLASSES = num_classes
    cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = IGNORE
    cfg.MODEL.DEVICE = "cpu"
    theirs = build_model(cfg)
    theirs.load_state_dict(ours.network.state_dict())
    return ours, theirs, cfg
