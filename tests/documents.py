"""The documents of the repository, and the blocks of code in them."""

import re
from typing import Any

import pytest

from tests.conftest import REPOSITORY

PAGES = sorted((REPOSITORY / "docs").glob("*.md"))
DOCUMENTS = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")]
DOCUMENTS += PAGES
TEXTS = {document.relative_to(REPOSITORY).as_posix(): document.read_text() for document in DOCUMENTS}


def blocks(language: str, document: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXTS[document], flags=re.DOTALL | re.MULTILINE)


def lines(beginning: str) -> list[Any]:
    """Commands in blocks of any document, each with the document's name, for a test that is run with both."""
    found = {}
    for document in TEXTS:
        for block in blocks("bash", document):
            for line in block.replace("\\\n", " ").splitlines():
                command = re.split(r"\s#", line)[0].strip()
                if command.startswith(beginning):
                    found[command] = pytest.param(command, id=f"{document}: {command[:60]}")
    return list(found.values())
