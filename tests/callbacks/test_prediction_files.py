"""Predictions lie in the run's folder, whatever a reader calls its samples."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_seg.callbacks.prediction_files import PredictionFiles
from lightning_seg.colours import default_palette
from lightning_seg.errors import DataError
from lightning_seg.structures import DatasetInfo


def write(folder: Path, name: str) -> None:
    files = PredictionFiles(folder, DatasetInfo(("a", "b"), 255, default_palette(2)))
    batch: list[dict[str, Any]] = [{"name": name, "image": torch.zeros(3, 4, 6, dtype=torch.uint8)}]
    files.on_predict_batch_end(None, None, [torch.ones(4, 6, dtype=torch.uint8)], batch, 0)  # type: ignore[arg-type]


def test_a_name_may_have_folders(tmp_path: Path) -> None:
    write(tmp_path / "run", "city/a.b")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "run/predictions/masks/city/a.b.png")), np.ones((4, 6)))
    assert (tmp_path / "run/predictions/overlays/city/a.b.jpg").is_file()


def test_a_name_that_leads_out_is_refused(tmp_path: Path) -> None:
    kept = tmp_path / "masks.png"
    kept.write_bytes(b"mine")
    with pytest.raises(DataError, match=r"a sample is named '\.\./\.\./\.\./masks\.png', which leads out of .*run"):
        write(tmp_path / "run", "../../../masks")
    assert kept.read_bytes() == b"mine"
    assert {path.name for path in tmp_path.iterdir()} == {"masks.png"}
