"""Says what an image is padded to at its right and lower border: by the segmentor, and in an exported graph."""

import math
from functools import cache
from typing import Any


class Padding:
    """The size to which Detectron2 pads images, in arithmetic that holds for sizes that are not known yet.

    Args:
        backbone: says what its input must be a multiple of.
        stride: input pixels per logit.
        whole_levels: whether a side that lacks a logit or more to the backbone's coarsest stride is padded to it.
    """

    def __init__(self, backbone: Any, stride: int, *, whole_levels: bool = False) -> None:
        self.square = max(0, backbone.padding_constraints.get("square_size", 0))
        self.multiple = divisibility_of(backbone)
        self.stride = stride
        self.coarsest = 0
        if whole_levels:
            self.coarsest = max(shape.stride for shape in backbone.output_shape().values())

    def __call__(self, height: Any, width: Any) -> tuple[Any, Any]:
        """Height and width of the padded image, of numbers or of symbols for them."""
        needs_whole = 0
        if self.coarsest:  # 1 where a side lacks a logit or more to a multiple of the coarsest stride, else 0
            lacking = (-height % self.coarsest) // self.stride + (-width % self.coarsest) // self.stride
            needs_whole = 1 - 1 // (1 + lacking)
        sides = (self.square, self.square) if self.square else (height, width)
        smaller = [_rounded_up(side, self.multiple) for side in sides]
        if not self.coarsest:
            return smaller[0], smaller[1]
        larger = [_rounded_up(side, math.lcm(self.multiple, self.coarsest)) for side in sides]
        both = [small + needs_whole * (large - small) for small, large in zip(smaller, larger, strict=True)]
        return both[0], both[1]


def divisibility_of(backbone: Any) -> int:
    """What both sides of a backbone's input must be a multiple of, in pixels."""
    return max(1, int(backbone.padding_constraints.get("size_divisibility", backbone.size_divisibility)))


def pad_to(backbone: Any, multiple: int) -> None:
    """Let a backbone ask for sides that are also a multiple of this, in place; below 2, nothing changes.

    Detectron2's own forward pads so, too.
    """
    if multiple > 1 and (own := divisibility_of(backbone)) % multiple:
        backbone.__class__ = _padded(type(backbone), math.lcm(multiple, own))


@cache
def _padded(kind: Any, multiple: int) -> Any:
    """A class that differs from another only in what it asks for; its name stays, and it can be pickled."""

    def constraints(self: Any) -> dict[str, int]:
        return {**super(padded, self).padding_constraints, "size_divisibility": multiple}

    def reduced(self: Any, protocol: Any) -> Any:
        return _empty, (kind, multiple), *super(padded, self).__reduce_ex__(2)[2:]

    own = {"padding_constraints": property(constraints), "__reduce_ex__": reduced, "__module__": kind.__module__}
    padded: Any = type(kind.__name__, (kind,), own)
    return padded


def _empty(kind: Any, multiple: int) -> Any:
    padded = _padded(kind, multiple)
    return padded.__new__(padded)


def _rounded_up(side: Any, multiple: int) -> Any:
    return side if multiple == 1 else (side + multiple - 1) // multiple * multiple
