"""Runs an exported file: stored pixels in, label maps out. Nothing that exports is imported."""

import importlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_seg.checkpoints.evaluated import EXPORTED
from lightning_seg.errors import CheckpointError, DependencyError
from lightning_seg.exporting.metadata import KEY, Metadata

ONNX_LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
"""What writing an ONNX file takes; running one takes the last alone."""


_CUDA = "CUDAExecutionProvider"


class Output(NamedTuple):
    """What an exported file says of a batch.

    Attributes:
        mask: (N, H, W) class ids: uint8, or int32 for more than 256 classes.
        probabilities: (N, K, H, W) float32, which sum to 1 over the classes; None where the file does not give them.
    """

    mask: Tensor
    probabilities: Tensor | None


class ExportedNetwork:
    """An ``.onnx`` file under ONNX Runtime, or a ``.pt2`` file under torch.

    **A .pt2 file is a program**: only give one that you trust.

    Args:
        path: of the file; what else belongs to an ONNX file, ``<name>.onnx.data``, lies beside it.
        device: ``cpu``, or ``cuda`` for a GPU.
        threads: CPUs that ONNX Runtime uses; None: all.

    Raises:
        CheckpointError: if the file is missing, cannot be read, or was not exported by this project.
        DependencyError: if ONNX Runtime is missing, or cannot use the device.

    Attributes:
        metadata: what the file says of itself.
    """

    def __init__(self, path: str | Path, *, device: str = "cpu", threads: int | None = None) -> None:
        self.path = Path(path)
        opener = _open_onnx if _suffix_of(self.path) == ".onnx" else _open_pt2
        text, self._run = _opened(self.path, lambda: opener(self.path, device, threads))
        self.metadata = _metadata(self.path, text)

    def __call__(self, image: Tensor) -> Output:
        """Label maps of images of one size.

        Args:
            image: (N, C, H, W), as stored: of the metadata's channels and type; N, H and W at least 1.

        Raises:
            ValueError: if it is of another shape or type.
        """
        channels, dtype = len(self.metadata.channels), self.metadata.dtype
        if image.ndim != 4 or image.shape[1] != channels or image.dtype != getattr(torch, dtype) or 0 in image.shape:
            raise ValueError(
                f"image is {image.dtype} of shape {tuple(image.shape)}, but {dtype} (N, {channels}, H, W) is needed"
            )
        found = self._run(image)
        return Output(found[0], found[1] if len(found) > 1 else None)


def read_metadata(path: str | Path) -> Metadata:
    """What an exported file says of itself, without running it.

    Args:
        path: of an ``.onnx`` or a ``.pt2`` file.

    Raises:
        CheckpointError: if the file is missing, cannot be read, or was not exported by this project.
        DependencyError: if ONNX Runtime is missing.
    """
    path = Path(path)
    return _metadata(path, _opened(path, lambda: _text_in(path)))


def require_export_extra(name: str) -> ModuleType:
    """Import a library of the extra ``export``.

    Raises:
        DependencyError: if it is not installed, with what installs it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DependencyError(
            f"{name} is missing or broken ({error}), which ONNX files need: pip install 'lightning_seg[export]'"
        ) from None


def _suffix_of(path: Path) -> str:
    if path.suffix not in EXPORTED:
        raise CheckpointError(f"{path} is no exported file: {' or '.join(EXPORTED)} is needed")
    if not path.is_file():
        raise CheckpointError(f"exported file {path} does not exist")
    return path.suffix


def _opened(path: Path, open_it: Callable[[], Any]) -> Any:
    """What a reader gives; of its many kinds of errors, one that names the file."""
    try:
        return open_it()
    except (CheckpointError, DependencyError):
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"exported file {path} cannot be read ({reason}): it is damaged, or of another version of its library"
        ) from error


def _text_in(path: Path) -> str | None:
    if _suffix_of(path) == ".onnx":
        model = require_export_extra("onnx").load(path, load_external_data=False)
        return next((entry.value for entry in model.metadata_props if entry.key == KEY), None)
    return _load_pt2(path)[0]


def _load_pt2(path: Path) -> tuple[str, torch.export.ExportedProgram]:
    if not zipfile.is_zipfile(path):  # of which torch prints a stack trace
        raise ValueError("it is no ZIP archive, or is cut off")
    texts = {f"{KEY}.json": ""}
    program = torch.export.load(path, extra_files=texts)
    return texts[f"{KEY}.json"], program


def _metadata(path: Path, text: str | None) -> Metadata:
    if not text:
        raise CheckpointError(f"{path} was not exported by lightning_seg: it does not say which classes it knows")
    try:
        return Metadata.from_json(text)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} says of itself what cannot be read: {error}") from None


def _open_onnx(path: Path, device: str, threads: int | None) -> tuple[str | None, Callable[[Tensor], list[Tensor]]]:
    runtime = require_export_extra("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors alone: it warns of what it optimises itself
    options.enable_mem_pattern = False  # it plans memory for each size anew, and holds twice as much, no faster
    if threads is not None:
        options.intra_op_num_threads = threads
    providers: list[Any] = ["CPUExecutionProvider"]
    where = torch.device(device)
    if where.type == "cuda":
        if _CUDA not in runtime.get_available_providers():
            raise DependencyError(
                "this ONNX Runtime runs on the CPU alone: pip install onnxruntime-gpu, or use the CPU"
            )
        providers.insert(0, (_CUDA, {"device_id": where.index or 0}))
    session = runtime.InferenceSession(path, options, providers=providers)
    if where.type == "cuda" and _CUDA not in session.get_providers():  # it goes on without, and only prints so
        raise DependencyError(
            "ONNX Runtime does not find the CUDA or cuDNN that it was built for, and would compute on the CPU: pip "
            "install 'onnxruntime-gpu[cuda,cudnn]', or use the CPU"
        )

    def run(image: Tensor) -> list[Tensor]:
        return [torch.from_numpy(found) for found in session.run(None, {"image": image.cpu().numpy()})]

    return session.get_modelmeta().custom_metadata_map.get(KEY), run


def _moved(program: torch.export.ExportedProgram, device: str) -> torch.export.ExportedProgram:
    """The program on a device: its weights, and what it checks and creates, which was traced on a CPU."""
    if torch.device(device).type == "cpu":
        return program
    from torch.export.passes import move_to_device_pass

    return move_to_device_pass(program, device)


def _open_pt2(path: Path, device: str, threads: int | None) -> tuple[str | None, Callable[[Tensor], list[Tensor]]]:
    text, program = _load_pt2(path)
    module: Any = _moved(program, device).module()

    @torch.no_grad()
    def run(image: Tensor) -> list[Tensor]:
        return [found.cpu() for found in module(image.to(device))]

    return text, run
