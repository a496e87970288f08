"""The documentation as a site: what its pages hold, what is refused, and that a browser needs no network for it."""

import json
import re
from pathlib import Path
from typing import Literal

import pytest

from docs.website import build, pages
from docs.website.detectron2_keys import detectron2_keys, replaced_keys
from docs.website.docstrings import described, introduction, line, markdown
from docs.website.keys import config_keys, plain
from docs.website.pages import PageError, refuse_glued_lists, stage
from docs.website.reference import MODULES, reference_page
from docs.website.settings import settings_page, shown
from lightning_seg import SegmentationDataModule, SegmentationModule
from lightning_seg.models.config import default_config, leaves, load_config
from tests.browsers import CHROMIUM, Browser


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small one: a page, a script that it links, and a picture."""
    for module in (pages, build):
        monkeypatch.setattr(module, "REPOSITORY", tmp_path / "repository")
    monkeypatch.setattr(pages, "FIRST", ("README.md",))
    folder = tmp_path / "repository"
    (folder / "docs").mkdir(parents=True)
    (folder / "tools").mkdir()
    (folder / "README.md").write_text("# Start\n\n[page](docs/a.md#how)\n")
    (folder / "tools/run.py").write_text("print(1)\n")
    (folder / "docs/a.png").write_bytes(b"picture")
    return folder


def staged(folder: Path, text: str) -> Path:
    (folder / "docs/a.md").write_text(text)
    target = folder.parent / "staged"
    stage(target, {"docs/made.md": "# Made\n"})
    return target


def test_links_lead_to_pages_and_code_stays(repository: Path) -> None:
    written = "[run](../tools/run.py) ![](a.png) [all](../tools) [web](https://a.b/c) [here](#how) `[x](lost.py)`"
    code = "```python\n[y](lost.py)\n```"
    site = staged(repository, f"{written}\n\n{code}\n")
    expected = written.replace("run.py)", "run.py.md)").replace("../tools)", "../tools/README.md)")
    assert (site / "docs/a.md").read_text() == f"{expected}\n\n{code}\n"
    assert (site / "README.md").read_text() == "# Start\n\n[page](docs/a.md#how)\n"
    assert (site / "docs/made.md").read_text() == "# Made\n"
    assert (site / "docs/a.png").read_bytes() == b"picture"
    assert (site / "tools/run.py.md").read_text() == "# tools/run.py\n\n````python\nprint(1)\n````\n"
    assert (site / "tools/README.md").read_text() == "# tools\n\n* [run.py](run.py.md)\n"


def test_a_notebook_is_its_texts_and_code(repository: Path) -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# A *book*\n", "of two lines"]},
        {"cell_type": "code", "source": ["print(1)"]},
    ]
    (repository / "tools/book.ipynb").write_text(json.dumps({"cells": cells}))
    site = staged(repository, "[book](../tools/book.ipynb)\n")
    expected = "# A *book*\nof two lines\n\n```python\nprint(1)\n```\n"
    assert (site / "tools/book.ipynb.md").read_text() == expected


def test_a_folder_with_a_page_of_its_own_is_that_page(repository: Path) -> None:
    (repository / "tools/README.md").write_text("# Tools\n\n[run](run.py)\n")
    site = staged(repository, "[all](../tools/)\n")
    assert (site / "docs/a.md").read_text() == "[all](../tools/README.md)\n"
    assert (site / "tools/README.md").read_text() == "# Tools\n\n[run](run.py.md)\n"


@pytest.mark.parametrize("link", ["lost.md", "../tools/lost.py", "../../outside.md"])
def test_a_link_that_leads_nowhere_is_refused(repository: Path, link: str) -> None:
    (repository.parent / "outside.md").write_text("")
    with pytest.raises(PageError, match=rf"docs/a.md links {re.escape(link)}, which is not in the repository: mend"):
        staged(repository, f"[a]({link})\n")


@pytest.mark.parametrize("glued", ["* one", "1. one", "```bash", "| a | b |"])
def test_what_would_run_into_the_paragraph_above_is_refused(glued: str) -> None:
    with pytest.raises(PageError, match=re.escape("docs/a.md, line 2, needs an empty line before it")):
        refuse_glued_lists("docs/a.md", f"Some text:\n{glued}\n")
    refuse_glued_lists("docs/a.md", f"Some text:\n\n{glued}\n")


def test_what_is_no_list_passes() -> None:
    refuse_glued_lists("a.md", "* one\n  goes on\n* two\n\nText\n\n| a |\n|---|\n| b |\n\n```\ntext\n* no list\n```\n")


def test_the_navigation_and_the_pages_are_the_same() -> None:
    with pytest.raises(PageError, match=r"has no line below nav for docs/new\.md: add it"):
        build.refuse_lost(["README.md"], {"docs/new.md"})
    with pytest.raises(PageError, match=r"names docs/gone\.md, which does not exist: take the line away"):
        build.refuse_lost(["docs/gone.md"], set())
    build.refuse_lost(build.navigation(), {*pages.documents(), "docs/settings.md", "docs/reference.md"})


def test_a_folder_that_is_no_site_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").touch()
    assert build.main(["--output", str(tmp_path)]) == 1
    assert f"{tmp_path} is there and is no site: name another folder with --output" in capsys.readouterr().err
    assert (tmp_path / "mine.txt").exists()


def test_docstrings_become_markdown() -> None:
    assert markdown("See :class:`a.b.C` and ``x <y>``, <n>.") == "See `a.b.C` and `x <y>`, &lt;n>."
    assert markdown("As:\n\n>>> 1\n1\n\nEnd") == "As:\n\n```pycon\n>>> 1\n1\n```\n\nEnd"
    assert line("a\n   b.\nDefault: ``None``.") == "a b."

    def documented(size: int) -> int:
        """First.

        Second.

        Args:
            size: in pixels,
                at least 1.

        Returns:
            the same.

        Raises:
            ValueError: if it is 0.
        """
        return size

    assert introduction(documented) == "First.\n\nSecond."
    assert described(documented).split("\n\n")[2:] == [
        "**Arguments**", "* `size`: in pixels, at least 1.", "**Returns** the same.",
        "**Raises**", "* `ValueError`: if it is 0.",
    ]  # fmt: skip


def test_every_setting_has_its_default_and_meaning() -> None:
    page = settings_page()
    rows = dict(re.findall(r"^\| `([^`]+)` \| (.*) \|$", page, re.MULTILINE))
    assert rows["data.batch_size"] == "int; `8` | training samples per process and step."
    assert rows["model.scale_lr"].startswith(
        "bool; `false` | multiplies the config's learning rate by the global batch"
    )
    assert rows["model.criterion"].startswith("[Criterion](#losses); `null` | ")
    assert rows["model.config"].startswith("str; required | ")
    assert rows["data.unknown"].startswith("`refuse`, `ignore`; `refuse` | ")
    assert "| `--overwrite` | bool; `false` | Predict anew what is done already. |" in page
    assert rows["--host"].startswith("str; `127.0.0.1` | ")
    assert rows["--max_requests"].startswith("int; `128` | ")
    assert rows["RUN"].startswith("Path; required | run folder, runs/&lt;name>")
    assert rows["MODEL.TIMM.OUTPUT_STRIDE"] == "`32` | 8 and 16 dilate instead, in most CNNs"
    assert "| `--ckpt_path` | str or Path; `null` | A checkpoint, a run folder, " in page
    assert rows["height"] == "int; required | of the crop."
    assert rows["update_every_n_steps"].startswith("int; `1` | optimiser steps from one update to the next")
    assert rows["MODEL.FPN.FUSE_TYPE"] == "`sum` | how a level and the coarser one are joined: `sum` or `avg`"
    assert rows["SOLVER.AMP"] == "trainer.precision"
    assert not re.findall(r"^\| .* \|\s+\|$", page, re.MULTILINE)
    for group, kind in (("model", SegmentationModule), ("data", SegmentationDataModule)):
        linked = {"class_names", "ignore_index", "seed"}
        expected = {f"{group}.{name}" for name in kind.__init__.__annotations__ if name not in linked | {"return"}}
        assert expected <= set(rows) | {"data.ignore_index"}
    for name in ("Folder", "Coco", "RandomScaleCrop", "OHEM", "SlidingWindow", "EMA"):
        assert f"\n### {name}\n" in page
    assert not [
        heading
        for heading in re.findall(r"\(#([\w-]+)\)", page)
        if f"## {heading}" not in page.lower().replace(" ", "-").replace("##-", "## ")
    ]


def test_types_and_values_are_shown_as_a_yaml_has_them() -> None:
    assert shown(dict[str, int] | None) == "mapping"
    assert shown(Literal["a", 1] | Literal["1", "b"] | float | None) == "float or `a`, `1`, `b`"
    assert shown(list[list[float]] | float) == "list of list of float or float"
    assert [plain(value) for value in (True, "", ("a", None))] == ["true", '""', "[a, null]"]


def test_keys_of_the_config_have_the_values_that_it_has() -> None:
    config = load_config("Misc/semantic_R_50_FPN_1x.yaml", {})
    rows = config_keys()
    assert len(rows) > 60
    for key, default, _ in rows:
        value = config
        for part in key.strip("`").split("."):
            value = value[part]
        assert default == f"`{plain(value)}`", key
    assert not [key for key, _, meaning in rows if not meaning]
    comments = {key.strip("`"): meaning for key, _, meaning in rows}
    assert comments["MODEL.MASK_FORMER.DROPOUT"] == "Of the pixel decoder; the transformer decoder has none."


def test_every_key_of_detectron2_that_segmentation_reads_is_explained() -> None:
    groups = (
        "MODEL.SEM_SEG_HEAD",
        "MODEL.FPN",
        "MODEL.RESNETS",
        "MODEL.BACKBONE",
        "MODEL.POINT_HEAD",
        "SOLVER",
        "INPUT",
    )
    told = {row[0].strip("`") for rows in (config_keys(), detectron2_keys()) for row in rows}
    replaced = {row[0].strip("`") for row in replaced_keys()}
    read = [key for key, _ in leaves(default_config()) if key.startswith(groups)]
    assert len(read) > 90
    assert not [key for key in read if key not in told and not key.startswith(tuple(replaced))]
    rows = {key.strip("`"): default for key, default, _ in detectron2_keys()}
    assert (rows["SOLVER.WEIGHT_DECAY_BIAS"], rows["MODEL.FPN.OUT_CHANNELS"]) == ("`null`", "`256`")


def test_every_public_name_is_described() -> None:
    page = reference_page()
    assert all(f"\n## {name}\n" in page for name in MODULES)
    assert "    source: str | PathLike[str],\n    device: str = 'auto',\n" in page
    assert "* `mask`: (H, W) class ids at that size" in page
    entries = re.split(r"^### ", page, flags=re.MULTILINE)[1:]
    assert len(entries) > 60
    assert not [entry.splitlines()[0] for entry in entries if len(entry.strip().splitlines()) < 3]
    assert not re.findall(r"<function|<class '|0x[0-9a-f]{6}|:\w+:`", page)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("zensical", reason="the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site") / "site"
    assert build.main(["--output", str(folder)]) == 0
    return folder


@pytest.mark.runs
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_the_pages_and_their_search_need_no_network(site: Path, tmp_path: Path) -> None:
    browser = Browser(tmp_path / "profile")
    try:
        for width in (1400, 390):
            browser.call(
                "Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=width < 400
            )
            for page in ("index", "docs/settings", "docs/commands", "benchmarks/index"):
                browser.call("Page.navigate", url=f"file://{site}/{page}.html")
                browser.wait(f"document.readyState == 'complete' && location.pathname.endsWith('{page}.html')")
                assert browser.script("document.documentElement.scrollWidth") <= width, page
        browser.script("document.querySelector('.md-search__button').click()")
        browser.wait("document.activeElement.shadowRoot != null")
        browser.call("Input.insertText", text="temperature")
        browser.wait(
            "[...document.querySelectorAll('body > div')].some("
            "each => each.shadowRoot?.textContent.includes('Make it believable'))"
        )
    finally:
        browser.close()
    asked = {
        event["params"]["request"]["url"] for event in browser.events if event["method"] == "Network.requestWillBeSent"
    }
    assert len(asked) > 5
    assert not [url for url in asked if not url.startswith(("file:", "data:"))]


@pytest.mark.runs
def test_warnings_are_errors(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build, "settings_page", lambda: "# Settings\n\n[lost](python.md#nowhere)\n")
    monkeypatch.setattr(build, "reference_page", lambda: "# Names\n")
    assert build.main(["--output", str(tmp_path / "site")]) == 1
    said = capsys.readouterr().err
    assert "error: Zensical refuses the pages" in said
    assert "docs/settings.md:3" in said
    assert "Traceback" not in said
    assert not (tmp_path / "site").exists()
