"""Every block of code in the documents is run, or read by what would read it; ``KINDS`` says how."""

import ast
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from docs.website.settings import COMMANDS, parser_of
from lightning_seg import SegmentationModule, cli
from lightning_seg.export import main as export_command
from tests.conftest import CLASSES, REPOSITORY, TINY_OVERRIDES
from tests.documents import TEXTS, blocks
from tests.predictors import trained_by_hand

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS = {
    "bash": "test_commands_are_read_by_their_own_parsers",
    "json": "test_json_is_what_a_file_holds",
    "nginx": "no nginx is here to read it",
    "py": "code of another project, for comparison: it is only compiled",
    "python": "RUN",
    "text": "what a command prints of one run",
    "": "what a command prints of one run, or a tree of folders",
    "yaml": "test_configurations_are_read_by_the_parser_of_fit",
}
"""How blocks of a language are checked, or why not."""

RUN = {
    "README.md": "tests/test_documents.py",
    "docs/python.md": "tests/test_documents.py",
    "docs/examples.md": "tests/test_documents.py",
    "docs/serve.md": "tests/serving/test_serve.py",
    "docs/export.md": "test_an_exported_file_as_shown",
    "docs/figures.md": "test_figures_of_each_image_as_shown",
    "docs/inference.md": "test_bands_of_rows_as_shown",
    "docs/from-segmentation-models.md": "tests/test_guides.py",
}
"""What runs the Python of a document: a test of this file, or another file of tests that reads it."""

PLACES = dict.fromkeys(["C", "D", "C.yaml", "unet.yaml"], "street.yaml")
"""What stands for a file of the user in a command that is shown."""

Parse = Callable[[list[str]], Any]


@pytest.fixture(scope="module")
def parsers() -> dict[str, Parse]:
    """What reads the arguments of a command; each parser is made once."""
    found: dict[str, Parse] = {"train.py": parser_of(lambda args: cli.main(["fit"])).parse_args}
    return found | {f"lightning_seg.{name}": parser_of(main).parse_args for name, main in COMMANDS}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory as a reader has it: the repository's folders, and the YAML that the README shows."""
    for name in ("configs", "cluster", "examples", "benchmarks", "tests", "lightning_seg"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    (tmp_path / "street.yaml").write_text(blocks("yaml", "README.md")[0])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands(document: str) -> list[str]:
    """Lines of blocks for a shell without their comments, and whole commands of Python inside a text.

    What the changelog names may be of earlier versions.
    """
    text = "\n".join(blocks("bash", document)).replace("\\\n", " ")
    found = [re.split(r"(?:^|\s)#", line)[0].strip() for line in text.splitlines()]
    inline = re.findall(r"`(python (?:-m lightning_seg\.\w+|train\.py \w+) --[^`…<]*)`", TEXTS[document])
    return [*filter(None, found), *(inline if document != "CHANGELOG.md" else [])]


def read(command: str, parsers: dict[str, Parse]) -> None:
    """Let the program that a command starts read its arguments; whoever finds a mistake raises or exits."""
    words = [PLACES.get(word, word) for word in shlex.split(command, comments=True)]
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        del words[0]
    if words[0] == "docker" and "python" in words:
        del words[: words.index("python")]  # the command that the container runs
    program, *rest = words
    if program.endswith("python") and rest[0] == "-m" and rest[1] in parsers:
        of_a_run = ["--config", "configs/quickstart.yaml"] if rest[1] == "lightning_seg.review" else []
        parsers[rest[1]]([*of_a_run, *rest[2:]])
    elif program.endswith("python") and rest[:2] == ["-m", "lightning_seg.installation"]:
        assert len(rest) == 2  # it takes no arguments
    elif program.endswith("python") and rest[0] == "train.py":
        parsers["train.py"](with_config(rest[1:]))
    elif program in ("cluster/torchrun.sh", "sbatch"):
        launcher = next(index for index, word in enumerate(words) if word.startswith("cluster/"))
        assert Path(words[launcher]).exists()
        parsers["train.py"](["fit", *words[launcher + 1 :]])
    elif program == "nox":
        assert f"\ndef {rest[1]}(session" in (REPOSITORY / "noxfile.py").read_text()
    elif program == "pip" and rest[1].startswith("lightning_seg["):
        extras = re.findall(r"^(\w+) = \[", (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)
        assert rest[1].removeprefix("lightning_seg[").removesuffix("]") in extras
    elif program.endswith("python") or program.startswith("benchmarks/"):
        files = [word for word in words if "/" in word and not word.startswith((".venv", "-"))]
        assert all(Path(file.partition("::")[0]).exists() for file in files), files
    else:
        assert program in ELSEWHERE, f"nothing reads {program}: add it to ELSEWHERE with what does, or with a reason"


ELSEWHERE = {
    "make": "tests/test_documents.py looks for the targets",
    "pip": "tests/test_documents.py compares what is installed with the Makefile",
    "source": "the shell's own",
    "docker": "no container can be built here",
    "conda": "no conda is here",
    "kubectl": "no cluster is here",
    "curl": "tests/serving/test_serve.py sends the requests",
}


def with_config(arguments: list[str]) -> list[str]:
    """A command on a run folder, which has its config there, on the quickstart's."""
    if "--config" in arguments or "--help" in arguments:
        return arguments
    place = arguments.index("--ckpt_path")
    return [arguments[0], "--config", "configs/quickstart.yaml", *arguments[1:place], *arguments[place + 2 :]]


@pytest.mark.parametrize(
    ("document", "command"),
    [pytest.param(name, each, id=f"{name}: {each[:60]}") for name in TEXTS for each in commands(name)],
)
def test_commands_are_read_by_their_own_parsers(
    document: str, command: str, place: Path, parsers: dict[str, Parse]
) -> None:
    if "--help" in command or "--print_config" in command:
        with pytest.raises(SystemExit) as ended:
            read(command, parsers)
        assert ended.value.code == 0
    else:
        read(command, parsers)


def test_a_command_with_a_mistake_is_found(place: Path, parsers: dict[str, Parse]) -> None:
    for wrong in (
        "python train.py fit --config street.yaml --data.batch 4",
        "python train.py validate --ckpt_path runs/a/version_0 --model.calibration maybe",
        "python -m lightning_seg.export --ckpt_path runs/a/version_0 --outputs a.onnx",
    ):
        with pytest.raises(SystemExit) as ended:
            read(wrong, parsers)
        assert ended.value.code == 2
    for wrong in ("git clone", "pip install 'lightning_seg[nothing]'", "python benchmarks/nothing.py"):
        with pytest.raises(AssertionError):
            read(wrong, parsers)


@pytest.mark.parametrize(
    "text", [pytest.param(block, id=f"{name}-{i}") for name in TEXTS for i, block in enumerate(blocks("yaml", name))]
)
def test_configurations_are_read_by_the_parser_of_fit(text: str, place: Path, parsers: dict[str, Parse]) -> None:
    """A part of one together with the quickstart's."""
    Path("shown.yaml").write_text(text)
    whole = "config" in yaml.safe_load(text).get("model", {})
    parsers["train.py"](["fit", *([] if whole else ["--config", "configs/quickstart.yaml"]), "--config", "shown.yaml"])


@pytest.mark.parametrize(
    "text", [pytest.param(block, id=f"{name}-{i}") for name in TEXTS for i, block in enumerate(blocks("json", name))]
)
def test_json_is_what_a_file_holds(text: str) -> None:
    """An ellipsis stands for more of the same."""
    json.loads(f"{{{text.replace(', …', '')}}}" if text.startswith('"') else text.replace(", …", ""))


@pytest.mark.parametrize("document", TEXTS)
def test_every_block_is_of_a_kind_that_is_checked(document: str) -> None:
    fences = re.findall(r"^```(.*)$", TEXTS[document], re.MULTILINE)
    assert not [language for language in fences[::2] if language not in KINDS]
    for language in ("py", "python"):
        for block in blocks(language, document):
            ast.parse(block)
    assert not blocks("python", document) or document in RUN, f"{document} has Python: say in RUN what runs it"


def test_what_runs_the_python_of_a_document_is_there() -> None:
    for document, runner in RUN.items():
        if document in TEXTS:
            assert runner in globals() or Path(document).name in (REPOSITORY / runner).read_text(), document


@pytest.mark.runs
def test_an_exported_file_as_shown(
    tmp_path: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    onnxruntime, inspected = blocks("python", "docs/export.md")
    checkpoint = trained_by_hand(tmp_path, scenes)
    monkeypatch.chdir(tmp_path)
    command = ["--ckpt_path", str(checkpoint), "--images", str(scenes / "val/images"), "--num_images", "1"]
    assert export_command([*command, "--output", "street.onnx", "--probabilities"]) == 0
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 48), dtype=np.uint8)
    names: dict[str, Any] = {"images": images}
    exec(onnxruntime, names)
    assert names["mask"].shape == (2, 64, 48)
    capsys.readouterr()
    shown: dict[str, Any] = {"images": torch.from_numpy(images)}
    exec(inspected, shown)
    assert shown["mask"].tolist() == names["mask"].tolist()
    assert re.findall(r"\w+", capsys.readouterr().out) == CLASSES


def test_figures_of_each_image_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = blocks("python", "docs/figures.md")
    folder = tmp_path / "runs/quickstart/version_1"
    folder.mkdir(parents=True)
    np.savez(folder / "images.npz", matrices=np.array([[[200, 0], [50, 250]], [[100, 50], [0, 0]]], np.uint8))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(block, names)
    assert names["iou"].tolist() == [300 / 400, 250 / 350]


def test_bands_of_rows_as_shown() -> None:
    (block,) = blocks("python", "docs/inference.md")
    overrides: dict[str, Any] = TINY_OVERRIDES
    module = SegmentationModule("Misc/semantic_R_50_FPN_1x.yaml", CLASSES, weights="", overrides=overrides).eval()
    image = torch.randint(0, 256, (3, 70, 50), dtype=torch.uint8)
    result = torch.full((70, 50), 255, dtype=torch.uint8)
    exec(block, {"module": module, "image": image, "result": result})
    assert torch.equal(result, module(image[None])[0])
