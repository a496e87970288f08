"""What an exported file says of itself, as one JSON text."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field
from typing import Any

from lightning_seg.colours import Colour

KEY = "lightning_seg"
"""The name of the text: in ``metadata_props`` of an ONNX file, and with ``.json`` among a .pt2 file's extra files."""


@dataclass(frozen=True)
class Metadata:
    """What an exported file says of itself.

    Attributes:
        class_names: in id order.
        palette: a colour for each.
        ignore_index: mask value that counted neither in training nor in figures; the file never gives it.
        channels: what the image's channels hold, in order: red, green and blue, or the numbers of bands, ``band 4``.
        outputs: ``mask``, and ``probabilities`` where they were asked for.
        precision: what the network computes in: ``float32``, ``float16`` or ``int8``.
        config: the Detectron2 config that the network was built from.
        overrides: of its keys.
        checkpoint: the file that the weights come from.
        step: optimiser steps that it was saved after.
        inference: ``class_path`` and ``init_args`` of the ``model.inference`` that the checkpoint was evaluated with,
            such as a sliding window; None: images as a whole. It is not in the graph.
        eval_transforms: the run's ``data.eval_transforms``, each with ``class_path`` and ``init_args``; they are not in
            the graph either.
        evaluation: how images are read and transformed in evaluation, as the checkpoint holds it; None: it does not.
        made_with: versions of the libraries.
        dtype: NumPy's name of the image's type: ``uint8``; with bands also ``uint16``, ``int16`` or ``float32``.
        temperature: of the probabilities, which is in the graph.
    """

    class_names: tuple[str, ...]
    palette: tuple[Colour, ...]
    ignore_index: int
    channels: tuple[str, ...]
    outputs: tuple[str, ...]
    precision: str
    config: str
    overrides: Mapping[str, Any]
    checkpoint: str
    step: int
    inference: Mapping[str, Any] | None = None
    eval_transforms: tuple[Mapping[str, Any], ...] = ()
    evaluation: Mapping[str, Any] | None = None
    made_with: Mapping[str, str] = field(default_factory=dict)
    dtype: str = "uint8"
    temperature: float = 1.0

    def to_json(self) -> str:
        """As one text, which :meth:`from_json` reads."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> "Metadata":
        """Read it; what a later version has added is passed over.

        Raises:
            ValueError: if it is no such text.
        """
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError(f"{text[:40]!r} is no JSON object")
        fields = Metadata.__dataclass_fields__
        known = {name: content[name] for name in fields if name in content}
        needed = [name for name, one in fields.items() if one.default is MISSING and one.default_factory is MISSING]
        if missing := [name for name in needed if name not in known]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        for name in ("class_names", "channels", "outputs", "eval_transforms"):
            known[name] = tuple(known.get(name, ()))
        known["palette"] = tuple(tuple(colour) for colour in known["palette"])
        return Metadata(**known)
