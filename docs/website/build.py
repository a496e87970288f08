"""Builds the documentation as a site: ``python -m docs.website.build`` writes it into ``site/``.

Warnings are errors.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from docs.website.pages import REPOSITORY, PageError, documents, stage
from docs.website.reference import reference_page
from docs.website.settings import settings_page

CONFIG = REPOSITORY / "docs/website/mkdocs.yml"


def main(args: Sequence[str] | None = None) -> int:
    """Build the site.

    Returns:
        The exit status: 1 if a page, a link or the navigation is wrong, else 0.
    """
    parser = argparse.ArgumentParser(
        prog="python -m docs.website.build", description="Build the documentation as a site."
    )
    parser.add_argument("--output", type=Path, default=REPOSITORY / "site", help="folder that is replaced; site/")
    output: Path = parser.parse_args(args).output
    try:
        if output.exists() and not (output / "sitemap.xml").exists():
            raise PageError(f"{output} is there and is no site: name another folder with --output")
        build(output)
    except PageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"Open {output / 'index.html'}")
    return 0


def build(output: Path) -> None:
    """Replace ``output`` by the site.

    Raises:
        PageError: if the navigation lacks a page or names one that does not exist, or Zensical warns.
    """
    pages = {"docs/settings.md": settings_page(), "docs/reference.md": reference_page()}
    refuse_lost(navigation(), {*documents(), *pages})
    with TemporaryDirectory() as folder:
        config = Path(folder, CONFIG.name)
        shutil.copyfile(CONFIG, config)
        stage(Path(folder, "docs"), pages)
        for name in ("extra.css", "iframe-worker.js"):
            shutil.copyfile(CONFIG.with_name(name), Path(folder, "docs", name))
        command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", str(config)]
        done = subprocess.run(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if done.returncode:
            said, _, trace = done.stdout.partition("Traceback")
            raise PageError(f"Zensical refuses the pages: {trace.rpartition('Error: ')[2].strip()}\n{said}")
        shutil.rmtree(output, ignore_errors=True)
        shutil.move(Path(folder, "site"), output)


class _Loader(yaml.SafeLoader):
    """Reads Zensical's configuration without the objects that it makes of tags."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)


def navigation() -> list[str]:
    """Paths of the pages that the navigation names, in order."""
    return _paths(yaml.load(CONFIG.read_text(), _Loader)["nav"])


def _paths(entry: object) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    entries = entry.values() if isinstance(entry, dict) else entry
    return [path for each in entries for path in _paths(each)]  # type: ignore[attr-defined]


def refuse_lost(named: list[str], pages: set[str]) -> None:
    """Refuse a page that the navigation lacks, and an entry of it without a page."""
    if lost := sorted(pages - set(named)):
        raise PageError(f"{CONFIG.name} has no line below nav for {', '.join(lost)}: add it")
    if lost := sorted(name for name in {*named} - pages if not (REPOSITORY / name).exists()):
        raise PageError(f"{CONFIG.name} names {', '.join(lost)}, which does not exist: take the line away")


if __name__ == "__main__":
    sys.exit(main())
