"""Names samples: names are unique plain text, and never lead out of the folder that they are written to."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

_SURROGATE = re.compile("[\ud800-\udfff]")


def common_folder(paths: Iterable[str | Path]) -> Path:
    """The deepest folder that holds all of them; the working directory where there is none.

    >>> common_folder([Path("a/b/1.jpg"), Path("a/c/2.jpg")]).as_posix()
    'a'
    """
    start = common_start({os.path.join(os.path.dirname(path), "") for path in paths})
    return Path(start[: start.rfind("/") + 1])


def common_start(names: Collection[str]) -> str:
    """The longest text that all names begin with.

    >>> common_start(["img_12", "img_1"])
    'img_1'
    """
    first, last = min(names, default=""), max(names, default="")  # what these share, all between them do
    same = (place for place, (one, other) in enumerate(zip(first, last, strict=False)) if one != other)
    return first[: next(same, len(first))]


def sample_name(path: str) -> str:
    r"""Turn a relative path into the name of a sample.

    An ä is one character, though macOS stores it as two. Steps upward, backslashes and bytes that are no text are
    replaced.

    >>> sample_name("/../a/./b/../c\\d")
    'a/c/d'
    >>> sample_name("gr\udcfcn")
    'gr%FCn'
    """
    parts: list[str] = []
    for part in path.replace("\\", "/").split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    plain = _SURROGATE.sub(lambda match: f"%{ord(match[0]) & 255:02X}", "/".join(parts))
    return unicodedata.normalize("NFC", plain) or "_"


def unique_names(paths: Sequence[str | Path]) -> list[str]:
    """Names of samples: paths without their suffix.

    Where two would be named alike, they keep it; where they are alike even so, the later one gets a number.

    >>> unique_names(["a/1.jpg", "b.jpg", "b.png"])
    ['a/1', 'b.jpg', 'b.png']
    >>> unique_names(["b.jpg", "b.png", "b.jpg.png", "../b.jpg"])
    ['b.jpg', 'b.png', 'b.jpg.png', 'b.jpg~2']
    """
    whole = [sample_name(os.fspath(path)) for path in paths]
    names = [_without_suffix(name) for name in whole]
    while doubles := {name for name, count in Counter(names).items() if count > 1}:
        changed = False
        for index, name in enumerate(names):
            if name in doubles and name != whole[index]:
                names[index] = whole[index]
                changed = True
        if not changed:
            return _numbered(names)
    return names


def _without_suffix(name: str) -> str:
    folder, slash, last = name.rpartition("/")
    return folder + slash + os.path.splitext(last)[0]


def _numbered(names: Sequence[str]) -> list[str]:
    taken = set(names)
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        new = name
        while seen[name] > 1 and new in taken:
            new = f"{name}~{seen[name]}"
            seen[name] += new in taken
        taken.add(new)
        unique.append(new)
    return unique
