"""Turns docstrings of Google's style, with the roles that they hold, into Markdown."""

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any

from docstring_parser import DocstringStyle, parse

_ROLE = re.compile(r":(?:py:)?\w+:`~?\.?([^`<]*?)(?:\s*<[^>]*>)?`")
_LITERAL = re.compile(r"``(.+?)``", re.DOTALL)
_EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)
_DEFAULT = re.compile(r"\s*Defaults?(?: to)?:? ``[^`]*``\.?")


def markdown(text: str) -> str:
    """The text with roles and literals as code, and examples as blocks of code.

    >>> markdown("See :func:`load`; ``None``: all.")
    'See `load`; `None`: all.'
    """
    text = _LITERAL.sub(r"`\1`", _ROLE.sub(r"`\1`", text))
    parts = re.split(r"(`[^`]+`)", text)
    parts[::2] = [re.sub(r"<(?=\w)", "&lt;", part) for part in parts[::2]]  # else a tag of HTML
    text = "".join(parts)
    return _EXAMPLE.sub(r"```pycon\n\g<0>\n```", text)


def line(text: str | None) -> str:
    """A description as one line, without the default that libraries repeat in it, for a list or a cell of a table.

    >>> line("How often to log. Default: ``50``.")
    'How often to log.'
    """
    return " ".join(markdown(_DEFAULT.sub("", text or "")).split())


def described(thing: Any) -> str:
    """What a docstring says, with its arguments, results and errors as lists."""
    doc = parse(inspect.getdoc(thing) or "", DocstringStyle.GOOGLE)
    parts = list(filter(None, [introduction(thing)]))
    own = [each for each in doc.params if each.args[0] != "attribute"]
    held = [each for each in doc.params if each.args[0] == "attribute"]
    parts += _listed("Arguments", own, lambda each: each.arg_name)
    parts += _listed("Attributes", held, lambda each: each.arg_name)
    if doc.returns is not None and doc.returns.description:
        parts.append(f"**{'Yields' if doc.returns.is_generator else 'Returns'}** {line(doc.returns.description)}")
    parts += _listed("Raises", doc.raises, lambda each: each.type_name)
    return "\n\n".join(parts)


def meanings(kind: type) -> dict[str, str]:
    """What the docstrings of a class and of its bases say of each argument; the class's own word counts most."""
    docs = [parse(inspect.cleandoc(each.__doc__ or ""), DocstringStyle.GOOGLE) for each in reversed(kind.__mro__)]
    return {each.arg_name: each.description or "" for doc in docs for each in doc.params}


def introduction(thing: Any) -> str:
    """What a docstring says before its lists."""
    doc = parse(inspect.getdoc(thing) or "", DocstringStyle.GOOGLE)
    return "\n\n".join(markdown(text) for text in (doc.short_description, doc.long_description) if text)


def _listed(title: str, entries: Iterable[Any], name: Callable[[Any], str]) -> list[str]:
    lines = [f"* `{name(each)}`: {line(each.description)}" for each in entries]
    return [f"**{title}**", "\n".join(lines)] if lines else []
