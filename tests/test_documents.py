"""What the documents name exists, and the code that they build up step by step runs."""

import json
import re
import shlex
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import yaml

from docs.website import build
from docs.website.settings import COMMANDS
from lightning_seg import callbacks
from lightning_seg.audit import main as audit
from lightning_seg.audit import parse
from lightning_seg.cli import main
from lightning_seg.data import Synthetic
from lightning_seg.errors import DependencyError
from lightning_seg.models.config import DATA_KEYS, load_config, require_detectron2
from lightning_seg.models.unused import YAML_REPLACED
from lightning_seg.module import SegmentationModule
from tests.conftest import REPOSITORY, TINY_OVERRIDES
from tests.documents import TEXTS, blocks, lines

pytestmark = pytest.mark.usefixtures("one_thread")

ZOO = "Misc/semantic_R_50_FPN_1x.yaml"


@pytest.fixture
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that holds what the README asks for: photos, and the YAML that it shows."""
    for part in ("train", "val"):
        Synthetic(root=f"photos/{part}", count=8, seed=len(part), size=(64, 64)).prepare(tmp_path)
    (tmp_path / "photos/new").symlink_to(tmp_path / "photos/val/images")
    (tmp_path / "small.yaml").write_text(load_config(ZOO, TINY_OVERRIDES).dump())
    (tmp_path / "street.yaml").write_text(small(blocks("yaml", "README.md")[0]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def small(text: str) -> str:
    """A document's code or configuration, for six classes, a small network, images of 64×64 and one epoch."""
    for large, little in (
        (ZOO, "small.yaml"),
        ("512, 512", "64, 64"),
        ("height: 512, width: 512", "height: 64, width: 64"),
        ("max_epochs: 50", "max_epochs: 1"),
        ("max_epochs=50", "max_epochs=1"),
        ("[background, road, car]", str([*"abcdef"])),
        ('["background", "road", "car"]', str(["road", *"abcde"])),
    ):
        text = text.replace(large, little)
    return text


def test_make_targets_exist() -> None:
    targets = [parameters.values[0].split()[1] for parameters in lines("make ")]
    assert {"train", "test"} <= set(targets)
    subprocess.run(["make", "--dry-run", *targets, "install"], cwd=REPOSITORY, check=True, capture_output=True)


def test_pip_installs_what_make_installs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Makefile, the README and the error for a missing Detectron2 ask pip for the same."""
    recipe = (
        (REPOSITORY / "Makefile").read_text().replace("\\\n", " ").replace("$$", "$").replace("$(BIN)/python", "python")
    )
    (of_make,) = re.findall(r"\$\(INSTALL\) (--no-deps --only-binary.*)", recipe)
    (of_readme,) = [parameters.values[0] for parameters in lines("pip install --no-deps")]
    with monkeypatch.context() as patch:
        patch.setattr("importlib.import_module", _missing)
        with pytest.raises(DependencyError, match="pip install") as caught:
            require_detectron2()
    expected = sorted(shlex.split(of_make))
    assert sorted(shlex.split(of_readme)[2:]) == expected
    assert sorted(shlex.split(str(caught.value).splitlines()[-1])[2:]) == expected


def _missing(name: str) -> None:
    raise ImportError(name)


@pytest.mark.parametrize("document", TEXTS)
def test_links_lead_somewhere(document: str) -> None:
    """Files and, within documents, headings."""
    folder = (REPOSITORY / document).parent
    lost = []
    for link in re.findall(r"\]\(([^)\s]+)\)", TEXTS[document]):
        name, _, heading = link.partition("#")
        if "://" in name:
            continue
        target = folder / name if name else REPOSITORY / document
        if not target.exists() or (heading and heading not in headings(target)):
            lost.append(link)
    assert not lost


def headings(document: Path) -> set[str]:
    """Anchors as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", document.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", TEXTS)
def test_named_files_exist(document: str) -> None:
    named = re.findall(
        r"((?:configs|tests|lightning_seg|cluster|examples|benchmarks|docs)/[\w./]+\.\w+)", TEXTS[document]
    )
    assert not [name for name in named if not (REPOSITORY / name).exists()]


def test_a_page_begins_with_the_question_that_it_answers() -> None:
    firsts = {name: text.splitlines()[0] for name, text in TEXTS.items() if name.startswith("docs/")}
    assert len(firsts) > 30
    assert not [name for name, first in firsts.items() if not re.fullmatch(r"# .*\?", first)]


def test_the_navigation_of_the_site_has_every_document() -> None:
    named = build.navigation()
    assert set(TEXTS) <= set(named)
    assert len(named) == len(set(named))


def test_own_images_as_the_readme_says(own_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All its commands on a small copy, without downloading weights, and the predictions of the file, too."""
    mains = {f"lightning_seg.{name}": command for name, command in COMMANDS}
    quick = ["--trainer.accelerator", "cpu", "--data.num_workers", "0"]
    more = {"fit": ["--model.weights", "", "--data.batch_size", "4", *quick], "predict": quick}
    (block,) = [block for block in blocks("bash", "README.md") if "street.yaml" in block]
    for line in block.splitlines():
        match shlex.split(line, comments=True):
            case ["python", "-m", name, *arguments]:
                assert not mains[name](arguments), line
            case ["python", "train.py", command, *arguments]:
                main([command, *arguments, *more[command]])
    assert "Its report: python -m lightning_seg.plot runs/street/version_1\n" in capsys.readouterr().out
    assert (own_data / "runs/street/version_1/plots/report.html").exists()
    by_checkpoint, by_file = own_data / "runs/street/version_2/predictions/masks", own_data / "of_file/masks"
    main(["predict", "--ckpt_path", "street.onnx", "--data.predict", "photos/new", "--output", "of_file"])
    names = sorted(path.name for path in by_checkpoint.iterdir())
    assert len(names) == 8
    assert names == sorted(path.name for path in by_file.iterdir())


@pytest.fixture
def small_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one batch on the CPU, from random weights."""
    quiet: dict[str, Any] = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
    trainer = partial(pl.Trainer, **quiet, limit_train_batches=1)
    monkeypatch.setattr(pl, "Trainer", lambda **settings: trainer(**{**settings, **quiet}))
    monkeypatch.setattr("lightning_seg.data.loading.resumable.usable_cpus", lambda processes: 0)  # no loading processes
    monkeypatch.setattr(SegmentationModule, "load_pretrained", lambda module: setattr(module, "_has_weights", True))


def test_python_as_the_documents_show_it(
    own_data: Path, small_trainings: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """The README's block and those of docs/python.md go on from one another."""
    names: dict[str, Any] = {}
    for block in blocks("python", "README.md") + blocks("python", "docs/python.md"):
        exec(small(block), names)
    assert Path("street.ckpt").exists()
    assert capsys.readouterr().out.count("torch.Size([64, 64])") == 8


def test_a_head_of_ones_own(own_data: Path, small_trainings: None) -> None:
    """The first two blocks of docs/examples.md as a file, in the README's configuration."""
    Path("head.py").write_text("\n".join(blocks("python", "docs/examples.md")[:2]))
    main(
        [
            "fit", "--config", "street.yaml", "--model.imports", "[head.py]", "--data.num_workers", "0",
            "--model.overrides.MODEL.SEM_SEG_HEAD.NAME", "OneConvolution",
            "--model.overrides.MODEL.ONE_CONVOLUTION.KERNEL", "3",
        ]
    )  # fmt: skip
    assert Path("runs/street/version_0/checkpoints/best.ckpt").exists()


def test_a_data_module_of_ones_own(own_data: Path, small_trainings: None, capsys: pytest.CaptureFixture[str]) -> None:
    exec(blocks("python", "docs/examples.md")[2], {})
    assert 0 <= float(capsys.readouterr().out.split()[-1]) <= 1


def test_a_reader_of_ones_own(own_data: Path) -> None:
    """The fourth block of docs/examples.md as a file, chosen as it says, in the README's configuration."""
    Path("pairs.py").write_text(blocks("python", "docs/examples.md")[3])
    for part in ("train", "val"):
        names = sorted(path.stem for path in Path("photos", part, "images").iterdir())
        pairs = {f"scene {name}": [f"{part}/images/{name}.jpg", f"{part}/masks/{name}.png"] for name in names}
        Path("photos", f"{part}.json").write_text(json.dumps(pairs))
    choices = re.findall(r"`train: (\{class_path: pairs\.Pairs.*\})`", TEXTS["docs/examples.md"])
    train = yaml.safe_load(choices[0])
    val = {**train, "init_args": {"file": "val.json"}}
    Path("own.yaml").write_text(yaml.safe_dump({"data": {"imports": ["pairs.py"], "train": train, "val": val}}))
    options = ["--config", "street.yaml", "--config", "own.yaml"]
    assert audit(options) == 0
    quick = ["--trainer.accelerator", "cpu", "--trainer.limit_train_batches", "1", "--data.num_workers", "0"]
    main(["fit", *options, *quick, "--model.weights", ""])
    (folder,) = (path for path in Path("runs").glob("*/version_1"))
    assert (folder / "checkpoints/best.ckpt").exists()
    assert json.loads((folder.parent / "version_0/audit.json").read_text())["splits"]["val"]["images"] == 8
    Path("photos/val.json").write_text(json.dumps({"lost": ["val/images/none.jpg", "val/masks/0000.png"]}))
    assert audit(options) == 1


def test_keys_of_detectron2_are_those_that_the_code_replaces() -> None:
    """docs/from-detectron2.md, key by key."""
    table = dict(
        re.findall(r"^\| (?:the rest of )?`([A-Z_.]+)` \| (.*) \|$", TEXTS["docs/from-detectron2.md"], re.MULTILINE)
    )
    for key, setting in {**YAML_REPLACED, **DATA_KEYS}.items():
        assert key in table, key
        if setting:
            named = re.findall(r"[a-z_]+(?:\.[A-Za-z_]+)+", setting)
            assert all(f"`{name}`" in table[key] for name in named), key


def test_augmentations_of_detectron2_as_the_table_shows_them(tmp_path: Path) -> None:
    shown = re.findall(r"`(\{class_path: .*?\})`", TEXTS["docs/from-detectron2.md"])
    assert len(shown) > 5
    (tmp_path / "shown.yaml").write_text(f"data: {{train_transforms: [{', '.join(shown)}]}}")
    transforms = parse(["--config", str(tmp_path / "shown.yaml"), "--model.config", ZOO]).data.train_transforms
    assert [transform.class_path.split(".")[-1] for transform in transforms][:2] == ["SmallestMaxSize", "RandomCrop"]


def test_callbacks_of_the_documents_exist() -> None:
    rows = re.findall(r"^\| (`[A-Z].*?`) \|", TEXTS["docs/python.md"], re.MULTILINE)
    named = {re.match(r"\w+", name)[0] for row in rows for name in re.findall(r"`([^`]+)`", row)}  # type: ignore[index]
    assert named <= set(callbacks.__all__)
    assert len(named) > 8


def test_the_map_of_contributing_is_true_and_complete() -> None:
    """Every name on it exists, and every module and folder of the package's two upper levels is on it."""
    tree = TEXTS["CONTRIBUTING.md"].split("## Where things are\n\n```\n")[1].split("```")[0]
    named: list[Path] = []
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        above = [path for path in named if len(path.parts) == depth]
        named.append((above[-1] if depth else Path()) / line.split()[0])
    assert not [str(path) for path in named if not (REPOSITORY / path).exists()]
    package = REPOSITORY / "lightning_seg"
    there = {path for path in package.glob("*.py") if path.stem != "__init__"}
    there |= {init.parent for pattern in ("*/__init__.py", "*/*/__init__.py") for init in package.glob(pattern)}
    assert not sorted(str(path) for path in there - {REPOSITORY / path for path in named})


def test_contributing_names_what_is_there() -> None:
    named = re.findall(r"`(\w+)`\s(?:of|in)\s`([\w/]+\.py)`", TEXTS["CONTRIBUTING.md"])
    assert len(named) > 8
    paths = {path.name: path for path in (REPOSITORY / "lightning_seg").rglob("*.py")}  # for `errors.py` alone
    texts = {file: (REPOSITORY / file if "/" in file else paths[file]).read_text() for _, file in named}
    defined = r"^\s*(?:def |class )?{}\b\s*[=:(]"
    assert not [name for name, file in named if not re.search(defined.format(name), texts[file], re.MULTILINE)]
