"""Writes the page of the public names for Python, from their signatures and docstrings."""

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from docs.website.docstrings import described, line

MODULES = (
    "lightning_seg",
    "lightning_seg.data",
    "lightning_seg.losses",
    "lightning_seg.inference",
    "lightning_seg.metrics",
    "lightning_seg.callbacks",
    "lightning_seg.structures",
    "lightning_seg.errors",
)
"""Their public names are documented, each where it stands first."""

_WIDTH = 100
_LONGEST = 60
"""Of a default that is shown."""


def reference_page() -> str:
    """The page as Markdown."""
    parts = ["# What can I import, and what does it take and give?"]
    parts.append("Made of the docstrings. [Python](python.md) shows how the names are used together.")
    seen: set[int] = set()
    for name in MODULES:
        module = import_module(name)
        parts += [f"## {name}", described(module)]
        for public in public_names(module):
            thing = getattr(module, public)
            if id(thing) not in seen:
                seen.add(id(thing))
                parts += _entry(f"{name}.{public}", thing)
    return "\n\n".join(parts) + "\n"


def public_names(module: Any) -> list[str]:
    """Those of ``__all__``; without one, the documented classes and functions that the module itself defines."""
    if (listed := getattr(module, "__all__", None)) is not None:
        return [name for name in listed if inspect.isclass(thing := getattr(module, name)) or inspect.isfunction(thing)]
    return [
        name
        for name, thing in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(thing) or inspect.isfunction(thing))
        and thing.__module__ == module.__name__
    ]


def _entry(name: str, thing: Any) -> list[str]:
    parts = [f"### {name.rpartition('.')[2]}", _signature(name, thing), described(thing)]
    if inspect.isclass(thing):
        members = list(_members(thing))
        properties = [f"* `{each}`: {line(member.__doc__)}" for each, member in members if isinstance(member, property)]
        parts += ["**Properties**", "\n".join(properties)] if properties else []
        for method, member in members:
            if not isinstance(member, property):
                parts += [_signature(f"{thing.__name__}.{method}", member), described(member)]
    return [part for part in parts if part]


def _members(kind: type) -> Iterator[tuple[str, Any]]:
    """Documented public methods and properties that the class itself defines."""
    for name, member in vars(kind).items():
        thing = getattr(member, "__func__", member)  # of a class method
        if not name.startswith("_") and isinstance(thing, property) | inspect.isfunction(thing) and thing.__doc__:
            yield name, thing


def _signature(name: str, thing: Any) -> str:
    """A block of code; an exception, which takes messages, has none."""
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return ""
    try:
        signature = inspect.signature(thing)
    except ValueError:  # of a type that is written in C
        return ""
    arguments = [_short(str(each)) for name, each in signature.parameters.items() if name != "self"]
    empty = signature.return_annotation in (inspect.Signature.empty, None)
    given = "" if empty else f" -> {_short(inspect.formatannotation(signature.return_annotation))}"
    text = f"{name}({', '.join(arguments)}){given}"
    if len(text) > _WIDTH:
        text = f"{name}(\n" + "".join(f"    {each},\n" for each in arguments) + f"){given}"
    return f"```python\n{text}\n```"


def _short(text: str) -> str:
    """An argument without the modules of its types, and without a default that is no literal."""
    argument, equals, default = text.partition(" = ")
    argument = re.sub(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])", "", argument).replace("'", "")
    argument = re.sub(r"ndarray\[tuple\[Any, \.\.\.\], dtype\[(\w+)\]\]", r"NDArray[\1]", argument)
    if "<" in default or len(default) > _LONGEST:
        default = "…"
    return argument + equals + default
