"""What the guides show beyond what ``test_documents.py`` runs: code of other projects' users, error messages."""

import ast
import re
import shlex
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import yaml

from lightning_seg.cli import main
from lightning_seg.data import Synthetic
from lightning_seg.module import SegmentationModule
from tests.conftest import REPOSITORY
from tests.documents import blocks

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.runs
def test_python_for_those_who_come_from_segmentation_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On six made-up classes, for one batch, without downloading weights."""
    for part in ("train", "val"):
        Synthetic(root=f"photos/{part}", count=8, seed=len(part), size=(64, 64)).prepare(tmp_path)
    (tmp_path / "configs").symlink_to(REPOSITORY / "configs")
    monkeypatch.chdir(tmp_path)
    quiet: dict[str, Any] = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
    monkeypatch.setattr(pl, "Trainer", partial(pl.Trainer, **quiet, logger=False, limit_train_batches=1))
    monkeypatch.setattr("lightning_seg.data.loading.resumable.usable_cpus", lambda processes: 0)
    monkeypatch.setattr(SegmentationModule, "load_pretrained", lambda module: setattr(module, "_has_weights", True))
    (code,) = blocks("python", "docs/from-segmentation-models.md")
    for shown, little in (
        ("512, 512", "64, 64"),
        ("max_epochs=50", "max_epochs=1"),
        ('["background", "road", "car"]', '["road", *"abcde"]'),
        ('"resnet34"}', '"resnet10t"}'),
    ):
        assert shown in code
        code = code.replace(shown, little)
    exec(code, {})
    figure, _, classes = capsys.readouterr().out.splitlines()[-1].partition(" ")
    assert 0 <= float(figure) <= 1
    assert "'road'" in classes


def test_messages_of_the_troubleshooting_page_exist() -> None:
    """Each message of this project that the page quotes is part of one in the source, in order, around its ``…``."""
    text = (REPOSITORY / "docs/troubleshooting.md").read_text().split("\n## Torch, Lightning, the system")[0]
    quoted = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    assert len(quoted) > 25
    shown = messages()
    assert not [message for message in quoted if not any(in_order(message.split("…"), each) for each in shown)]


def in_order(parts: list[str], text: str) -> bool:
    place = 0
    for part in parts:
        if (found := text.find(part, place)) < 0:
            return False
        place = found + len(part)
    return True


def messages() -> list[str]:
    """Every text of the package, with ``…`` where it has values."""
    found = []
    for file in (REPOSITORY / "lightning_seg").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                found.append(
                    "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_names_of_the_architecture_exist() -> None:
    """Folders and modules in the picture, below the package or below the frame that they stand in, and in the page."""
    package = REPOSITORY / "lightning_seg"
    places = [package, package / "data", package / "models"]
    texts = re.findall(r">([^<]+)</text>", (REPOSITORY / "docs/architecture.svg").read_text())
    shown = {name for text in texts for name in re.findall(r"[\w/]+(?:\.py|/)(?=$|[ :,])", text)} - {"train.py"}
    assert len(shown) > 25
    assert not [name for name in shown if not any((place / name).exists() for place in places)]
    page = (REPOSITORY / "docs/architecture.md").read_text()
    named = set(re.findall(r"`([a-z_/]+(?:\.py|/))`", page)) - {"lightning_seg/"}
    assert len(named) > 25
    assert not [name for name in named if not (package / name).exists()]


def test_the_job_of_kubernetes_starts_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pods, processes and the name of the first pod agree, and the command parses."""
    monkeypatch.chdir(REPOSITORY)
    service, job = yaml.safe_load_all((REPOSITORY / "cluster/kubernetes.yaml").read_text())
    name, spec = job["metadata"]["name"], job["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    values = {variable["name"]: variable["value"] for variable in container["env"]}
    assert service["spec"]["selector"] == {"job-name": name}
    assert pod["subdomain"] == service["metadata"]["name"]
    assert values["MASTER_ADDR"] == f"{name}-0.{pod['subdomain']}"
    assert spec["completions"] == spec["parallelism"] == int(values["NNODES"])
    assert container["resources"]["limits"]["nvidia.com/gpu"] == int(values["NPROC_PER_NODE"])
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    (script,) = container["args"]
    for variable, value in values.items():
        script = script.replace(f"${variable}", value)
    assert "$" not in script
    words = shlex.split(
        script.partition("/opt/lightning_seg/train.py")[2].replace("street.yaml", "configs/quickstart.yaml")
    )
    with pytest.raises(SystemExit) as caught:
        main([*words, "--print_config"])
    assert caught.value.code == 0
