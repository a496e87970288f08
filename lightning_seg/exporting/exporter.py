"""Exports a trained module to a file that bears its name only once its certificate says that it gives the same."""

import importlib.metadata
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lightning_seg.colours import Colour, default_palette
from lightning_seg.data.dataset import SegmentationDataset
from lightning_seg.errors import ConfigError, LightningSegError, describe
from lightning_seg.exporting.detectron2_files import config_of, open_detectron2, write_detectron2
from lightning_seg.exporting.graph import Graph
from lightning_seg.exporting.images import Kind, images_of, odd_sizes, spread
from lightning_seg.exporting.loading import Trained, images_at, settings_of, validation_set
from lightning_seg.exporting.metadata import Metadata
from lightning_seg.exporting.parity import Certificate, Images, Run, certify
from lightning_seg.exporting.quantisation import mean_iou, quantise
from lightning_seg.exporting.running import ONNX_LIBRARIES, ExportedNetwork
from lightning_seg.exporting.tracing import free_copy, trace
from lightning_seg.exporting.wish import Wish
from lightning_seg.exporting.writing import write_onnx, write_pt2
from lightning_seg.files import DRAFT_SUFFIX, naming_full_disk

EXACT = 1e-4
"""Share of pixels that may be wrong in a file that computes in float32."""

HALF = 1e-2
"""The same in one that computes in float16."""

Say = Callable[[str], None]


def export(trained: Trained, wish: Wish, say: Say = print) -> Certificate:
    """Write a file, compare it with the network, and give it its name where it passes.

    ``<output>.parity.json`` is written either way.

    Args:
        trained: what is exported.
        wish: how.
        say: is told what happens, line by line.

    Raises:
        ConfigError: if the network or the wish cannot be exported, or the files cannot be written.
    """
    wish.refuse_impossible()
    if wish.output.suffix == ".pth":
        config_of(trained.module, wish.output)
    inference = trained.module.hparams.get("inference")
    if inference is not None:
        say(
            f"model.inference ({inference.get('class_path', inference)}) is not in the graph, which takes images as a "
            "whole: it is noted in the file for lightning_seg.load"
        )
    if wish.output.suffix == ".pth" and trained.module.temperature != 1:
        say(f"Detectron2 knows no temperature: {trained.module.temperature:.4g} of the checkpoint is not in the file")
    labelled = _labelled(trained, wish, say)
    shown = labelled if wish.images is None else images_at(wish.images, trained)
    metadata = _metadata(trained, wish, labelled)
    try:
        with tempfile.TemporaryDirectory(suffix=DRAFT_SUFFIX, dir=wish.output.absolute().parent) as folder:
            draft = Path(folder, wish.output.name)
            with naming_full_disk(wish.output):
                say(f"Writing {wish.output}: some minutes where the network is deep")
                run = _write(trained, wish, draft, metadata, labelled)
            say("Comparing it with the network")
            certificate = certify(
                trained.module.segmentor, run, _batches(shown, wish.most, _kind(trained)), _allowed(wish)
            )
            if wish.int8:
                _judge_int8(certificate, trained, wish, draft, run, labelled)
            certificate.write(wish.output.with_name(f"{wish.output.name}.parity.json"), draft, metadata)
            say(certificate.summary())
            if not certificate.problems():
                for file in sorted(Path(folder).iterdir(), key=lambda file: file == draft):  # the named one at the end
                    if file.is_file():
                        file.replace(wish.output.with_name(file.name))
    except OSError as error:
        raise ConfigError(f"{wish.output} cannot be written: {error}") from None
    return certificate


def _allowed(wish: Wish) -> float:
    """The share of wrong pixels; 8 bits are judged by mIoU instead."""
    return {"float32": EXACT, "float16": HALF, "int8": 1.0}[wish.precision]


def _labelled(trained: Trained, wish: Wish, say: Say) -> SegmentationDataset | None:
    """The validation samples of the run; where they cannot be had, why."""
    if trained.config is None:
        reason: object = f"{trained.checkpoint} lies in no run folder"
    else:
        try:
            return validation_set(trained.config)
        except LightningSegError as error:
            reason = str(error).splitlines()[0]
    if wish.int8:
        raise ConfigError(f"--int8 needs the run's validation images with their masks, but {reason}")
    if wish.images is None:
        say(f"Without validation images ({reason}), the file is tried on noise of odd sizes alone: give --images")
    return None


def _metadata(trained: Trained, wish: Wish, labelled: SegmentationDataset | None) -> Metadata:
    module, settings = trained.module, settings_of(trained.config)
    names = tuple(module.class_names)
    config, overrides = module.hparams["config"], module.hparams.get("overrides") or {}
    libraries = ["lightning_seg", "torch", *(ONNX_LIBRARIES if wish.output.suffix == ".onnx" else ())]
    return Metadata(
        class_names=names,
        palette=_palette(trained, labelled),
        ignore_index=int(module.hparams["ignore_index"]),
        channels=_channels(trained),
        outputs=("mask", "probabilities") if wish.probabilities else ("mask",),
        precision=wish.precision,
        config=str(config.get("file", "") if isinstance(config, dict) else config),
        overrides=dict(overrides),
        checkpoint=str(trained.checkpoint),
        step=module.loaded.get("global_step", 0),
        inference=module.hparams.get("inference"),
        eval_transforms=tuple(settings.get("eval_transforms") or ()),
        evaluation=trained.evaluation,
        made_with={name: _version(name) for name in libraries},
        dtype=module.image_type,
        temperature=module.temperature,
    )


def _channels(trained: Trained) -> tuple[str, ...]:
    """What the image's channels hold: bands by their numbers where the checkpoint says them, else by their places."""
    bands = None if trained.evaluation is None else trained.evaluation["rules"].get("bands")
    count = trained.module.segmentor.channels
    if bands is None and count == 3:
        return ("red", "green", "blue")
    return tuple(f"band {number}" for number in bands or range(1, count + 1))


def _kind(trained: Trained) -> Kind:
    network = trained.module.segmentor.network
    return Kind(getattr(torch, trained.module.image_type), network.pixel_mean, network.pixel_std)


def _palette(trained: Trained, labelled: SegmentationDataset | None) -> tuple[Colour, ...]:
    """The run's colours; colours chosen for the classes where neither checkpoint nor data say them."""
    if trained.evaluation is not None:
        return tuple((red, green, blue) for red, green, blue in trained.evaluation["palette"])
    return default_palette(len(trained.module.class_names)) if labelled is None else labelled.info.palette


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # a copy that is not installed
        return "unknown"


def _write(trained: Trained, wish: Wish, draft: Path, metadata: Metadata, labelled: SegmentationDataset | None) -> Run:
    """Write the file; returns what runs it."""
    if draft.suffix == ".pth":
        write_detectron2(trained.module, draft, wish.output)
        run: Run = open_detectron2(draft)
        return run
    program = None
    try:
        graph = Graph(
            free_copy(trained.module.segmentor),
            probabilities=wish.probabilities,
            temperature=trained.module.temperature,
            half=wish.half,
        )
        program = trace(graph, _kind(trained).dtype)
        if draft.suffix == ".pt2":
            write_pt2(program, draft, metadata)
        else:
            exact = _before_quantisation(draft) if wish.int8 else draft
            exact.parent.mkdir(exist_ok=True)
            write_onnx(program, exact, metadata)
    except (LightningSegError, OSError):
        raise
    except Exception as error:  # torch's own, of many kinds
        raise _refusal(trained, draft.suffix, error, traced=program is not None) from error
    if wish.int8:
        assert labelled is not None
        quantise(exact, draft, images_of(labelled, spread(labelled, min(wish.most, 32))))
    return _running(draft)


def _before_quantisation(draft: Path) -> Path:
    return draft.parent / "float32" / draft.name


def _running(file: Path) -> Run:
    network = ExportedNetwork(file)
    return lambda image: network(image).mask


def _refusal(trained: Trained, suffix: str, error: Exception, *, traced: bool) -> ConfigError:
    network = trained.module.segmentor.network
    parts = f"{type(network.sem_seg_head).__name__} on {type(network.backbone).__name__}"
    others = " and ".join(other for other in (".pt2", ".pth") if other != suffix and (traced or other == ".pth"))
    reason = next((line for line in describe(error).splitlines() if line.strip()), "")
    return ConfigError(
        f"{parts} cannot be exported to {suffix} with free sizes: {reason[:300]}. What may work is {others}; a .pth "
        "file works with every YAML config"
    )


def _batches(dataset: SegmentationDataset | None, most: int, kind: Kind) -> Iterator[Images]:
    """Images of a data set, then odd sizes cut out of them."""
    sources: list[Tensor] = []
    for batch in [] if dataset is None else images_of(dataset, spread(dataset, most)):
        if len(sources) < 4:
            sources.append(batch.pixels[0])
        yield batch
    yield from odd_sizes(sources, kind)


def _judge_int8(
    certificate: Certificate,
    trained: Trained,
    wish: Wish,
    draft: Path,
    run: Run,
    labelled: SegmentationDataset | None,
) -> None:
    """Measure what 8 bits cost; too much is a failure."""
    assert labelled is not None
    indices: Sequence[int] = spread(labelled, wish.most)
    names = trained.module.class_names
    before, after = (mean_iou(one, labelled, indices, names) for one in (_running(_before_quantisation(draft)), run))
    certificate.notes |= {"mIoU_float32": before, "mIoU_int8": after, "max_drop": wish.max_drop}
    if before - after > wish.max_drop:
        certificate.failures.append(
            f"8 bits cost {before - after:.2f} points of mIoU ({before:.2f} before, {after:.2f} after), but "
            f"--max_drop allows {wish.max_drop:g}"
        )
