"""An ONNX file runs on the GPU that is asked for, or not at all. ONNX Runtime is a stand-in: no GPU is needed."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lightning_seg.errors import CheckpointError, DependencyError
from lightning_seg.exporting.running import ExportedNetwork

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def runtime(monkeypatch: pytest.MonkeyPatch, available: list[str], used: list[str]) -> list[Any]:
    """Puts a stand-in in its place, whose sessions end up with some providers; returns those that are asked for."""
    asked: list[Any] = []

    def session(path: Path, options: Any, providers: list[Any]) -> Any:
        asked.extend(providers)
        return SimpleNamespace(
            get_providers=lambda: used, get_modelmeta=lambda: SimpleNamespace(custom_metadata_map={})
        )

    library = SimpleNamespace(
        SessionOptions=SimpleNamespace, InferenceSession=session, get_available_providers=lambda: available
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", library)
    return asked


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "street.onnx"
    path.write_bytes(b"graph")
    return path


def test_a_runtime_without_cuda_is_refused(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    runtime(monkeypatch, [CPU], [CPU])
    with pytest.raises(DependencyError, match="runs on the CPU alone: pip install onnxruntime-gpu, or use the CPU"):
        ExportedNetwork(file, device="cuda")


def test_a_runtime_that_falls_back_to_the_cpu_is_refused(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    runtime(monkeypatch, [CUDA, CPU], [CPU])
    with pytest.raises(DependencyError, match=r"does not find the CUDA .* and would compute on the CPU: pip install"):
        ExportedNetwork(file, device="cuda")


@pytest.mark.parametrize(
    ("device", "expected"),
    [("cpu", [CPU]), ("cuda", [(CUDA, {"device_id": 0}), CPU]), ("cuda:1", [(CUDA, {"device_id": 1}), CPU])],
)
def test_it_gets_the_device_that_was_named(
    monkeypatch: pytest.MonkeyPatch, file: Path, device: str, expected: list[Any]
) -> None:
    asked = runtime(monkeypatch, [CUDA, CPU], [CUDA, CPU])
    with pytest.raises(CheckpointError, match="was not exported by lightning_seg"):  # the stand-in says nothing
        ExportedNetwork(file, device=device)
    assert asked == expected
