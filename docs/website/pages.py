"""Gathers the pages of the site: the repository's Markdown, and the files that it links."""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
FIRST = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md")
"""The pages that do not lie in docs/."""

_FENCE = re.compile(r"^(```.*?^```)$", re.MULTILINE | re.DOTALL)
_CODE_OR_LINK = re.compile(r"`[^`]*`|(?<=\]\()(?P<link>[^)\s]+)(?=[)\s])")
_PICTURES = {".png", ".jpg", ".svg", ".gif"}
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".sh": "bash", ".sbatch": "bash"}


class PageError(Exception):
    """A page that cannot be shown as it is meant; the message names it and says what to do."""


def stage(folder: Path, generated: Mapping[str, str]) -> None:
    """Write all pages into a folder, each at its place in the repository, so that relative links hold.

    A linked file that is no page, such as a script, becomes a page that shows it; a linked folder becomes a list.

    Args:
        generated: Markdown of more pages, by path.

    Raises:
        PageError: if a link leads nowhere, or a list would be shown as a part of the paragraph before it.
    """
    texts = {name: (REPOSITORY / name).read_text() for name in (*FIRST, *documents())} | dict(generated)
    waiting = list(texts)
    while waiting:
        name = waiting.pop()
        refuse_glued_lists(name, texts[name])
        text, linked = _resolved(name, texts[name])
        for path in linked:
            if path.suffix in _PICTURES:
                _copy(path, folder)
            elif (page := _page_of(path)) not in texts:
                texts[page] = _shown(path)
                waiting.append(page)
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def documents() -> list[str]:
    """Paths of the pages of docs/."""
    return [f"docs/{path.name}" for path in sorted((REPOSITORY / "docs").glob("*.md"))]


def _resolved(name: str, text: str) -> tuple[str, list[Path]]:
    """The text with links to pages alone, and the files of the repository that it links."""
    linked: list[Path] = []

    def replace(match: re.Match[str]) -> str:
        link = match["link"]
        if link is None or "://" in link or link.startswith(("#", "mailto:")):
            return match[0]
        given, _, heading = link.partition("#")
        path = (REPOSITORY / name).parent.joinpath(given).resolve()
        if not (path.exists() and path.is_relative_to(REPOSITORY)):
            raise PageError(f"{name} links {link}, which is not in the repository: mend the link")
        linked.append(path)
        page = given if path.suffix in _PICTURES else given.rstrip("/") + _page_of(path).removeprefix(_name(path))
        return f"{page}#{heading}" if heading else page

    parts = _FENCE.split(text)  # every second one is a block of code
    parts[::2] = [_CODE_OR_LINK.sub(replace, part) for part in parts[::2]]
    return "".join(parts), linked


def _name(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def _page_of(path: Path) -> str:
    """The page that shows a file or folder of the repository."""
    if path.is_dir():
        return f"{_name(path)}/README.md"
    return _name(path) if path.suffix == ".md" else f"{_name(path)}.md"


def _shown(path: Path) -> str:
    if path.suffix == ".md":
        return path.read_text()
    if path.is_dir():
        if (readme := path / "README.md").exists():
            return readme.read_text()
        files = [each for each in sorted(path.iterdir()) if each.is_file() and each.suffix != ".pyc"]
        return "\n".join([f"# {_name(path)}", "", *(f"* [{each.name}]({each.name})" for each in files), ""])
    if path.suffix == ".ipynb":
        return f"{_notebook(path)}\n"
    return f"# {_name(path)}\n\n````{_LANGUAGES.get(path.suffix, 'text')}\n{path.read_text()}````\n"


def _notebook(path: Path) -> str:
    """Texts and code of a notebook, without what it printed."""
    cells = json.loads(path.read_text())["cells"]
    texts = [(cell["cell_type"], "".join(cell["source"]).strip()) for cell in cells]
    return "\n\n".join(f"```python\n{text}\n```" if kind == "code" else text for kind, text in texts)


def _copy(path: Path, folder: Path) -> None:
    target = folder / _name(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


def refuse_glued_lists(name: str, text: str) -> None:
    """Refuse what the repository's web view shows as a list or a block of code, and the site as running text."""
    for number, line in _glued(text):
        raise PageError(f"{name}, line {number}, needs an empty line before it to be shown as meant: {line[:60]}")


def _glued(text: str) -> Iterator[tuple[int, str]]:
    before, inside, listed = "", False, False
    for number, line in enumerate(text.splitlines(), start=1):
        fence = line.startswith("```")
        begins = bool(re.match(r"[*+-] |\d+\. ", line)) and not listed
        if not inside and before.strip() and (fence or begins or (line.startswith("|") and before[0] not in "|")):
            yield number, line
        inside ^= fence
        listed = line.startswith((" ", "*", "-", "+")) or bool(re.match(r"\d+\. ", line)) or (listed and bool(line))
        before = line
