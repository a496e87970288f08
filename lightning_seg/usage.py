"""Says in a user's words what jsonargparse refuses, and which name may have been meant."""

import argparse
import inspect
import pkgutil
import re
from collections.abc import Iterable

from lightning_seg.data.readers.labelled import CLASS_KEYS
from lightning_seg.data.transforms import describe_foreign
from lightning_seg.hints import did_you_mean, option_meant
from lightning_seg.lightning_internals import options_of

_UNKNOWN_KEY = (
    re.compile(r"unrecognized arguments: -*(?P<key>[^\s=]+)"),
    re.compile(r"Group '(?P<group>[^']+)' does not accept option '(?P<key>[^']+)'"),
    re.compile(r"Subcommand '[^']+' does not accept option '(?P<key>[^']+)'"),
)
_NO_MODEL = re.compile(r"required: (?:\w+\.)?model\.config\b")
_WRONG_CLASS = re.compile(r"class_path '(?P<path>[^']+)':\s+(?P<reason>(?!Parser key)\S[^\n]*)")
_FOREIGN_CLASS = re.compile(r"Import path (?P<path>\S+) does not correspond to a subclass of (?P<kind>\w+)")
_KEY = re.compile(r"Parser key \"([^\"]+)\"")
_GIVEN = re.compile(r"Given value: ([^\n]+)")
_SUBTYPES = re.compile(r"Subtypes: ([^\n]+)")
_NO_CLASS = re.compile(r"Expected a dot import path string: (\w+)")
_IN_LIST = re.compile(r"NestedArg\(key='\d+\.")
_STRAY_KEY = re.compile(r"'class_path': '[^']*', (?:'init_args': \{[^{}]*\}, )?'(?P<key>\w+)': ")
_UNKNOWN_OPTION = re.compile(r"Option '(?P<name>[^']+)' is not accepted")
_UNKNOWN_CLASS = re.compile(r"module '(?P<module>[^']+)' has no attribute '(?P<name>[^']+)'")


def explain(message: str, parser: argparse.ArgumentParser) -> str:
    """Shorten a message of jsonargparse to its cause, and add the nearest names to an unknown one."""
    if _IN_LIST.search(message) and (place := _KEY.search(message)):
        return (
            f"{place[1]} is a list: here, --{place[1]}.NAME changes its last entry, --{place[1]}+ adds one, and "
            f"--{place[1]} '[…]' replaces all; change others in the config"
        )
    if key := unknown_key(message):
        options = (option.lstrip("-") for action in options_of(parser) for option in action.option_strings)
        return message + option_meant(key, options)
    if (place := _KEY.search(message)) and (cause := _explain_class(message)):
        return f"{place[1]}: {cause}"
    return _explain_union(message) or _NO_MODEL.sub(r"\g<0>, which the file of --config names", message)


def unknown_key(message: str) -> str | None:
    """The dotted key that a message of jsonargparse says is unknown."""
    for pattern in _UNKNOWN_KEY:
        if match := pattern.search(message):
            return ".".join(part for part in (match.groupdict().get("group"), match["key"]) if part)
    return None


def _explain_class(message: str) -> str | None:
    """What is wrong with the innermost ``class_path`` of a message; None if the message is not about a class."""
    if wrong := [*_WRONG_CLASS.finditer(message)]:
        path, reason = wrong[-1]["path"], wrong[-1]["reason"].strip()
        if option := _UNKNOWN_OPTION.search(reason):
            known = inspect.signature(pkgutil.resolve_name(path)).parameters
            return f"{path} has no option {option['name']!r}{did_you_mean(option['name'], known)}"
        if unknown := _UNKNOWN_CLASS.search(reason):
            return f"{reason}{did_you_mean(unknown['name'], vars(pkgutil.resolve_name(unknown['module'])))}"
        if reason.startswith("No module named"):
            reason += f"; a file of your own is named in data.imports: [{path.partition('.')[0]}.py]"
        return f"{path}: {reason}"
    if foreign := [*_FOREIGN_CLASS.finditer(message)]:
        path, kind = foreign[-1].groups()
        of_transforms = kind in ("BasicTransform", "BaseCompose")
        return describe_foreign(path) if of_transforms else f"{path} is no {kind}, which is needed there"
    return None


def _explain_union(message: str) -> str | None:
    """Say what a value should be, if jsonargparse lists every type that it is not; None for other messages."""
    key, given, types = (pattern.search(message) for pattern in (_KEY, _GIVEN, _SUBTYPES))
    if not (key and given and types):
        return None
    if (stray := _STRAY_KEY.search(given[1])) and stray["key"] not in CLASS_KEYS:
        near = did_you_mean(stray["key"], CLASS_KEYS)
        return f"{key[1]}: {stray['key']} stands beside class_path, where init_args and a reader's label_map may{near}"
    if unknown := _UNKNOWN_CLASS.search(message):
        known = vars(pkgutil.resolve_name(unknown["module"]))
        return f"{key[1]}: {unknown[0]}{did_you_mean(unknown['name'], known)}"
    if name := _NO_CLASS.search(message):
        names = _classes(re.findall(r"[\w.]+\.\w+", types[1]))
        return f"{key[1]}: {name[1]} is no known class: give its class_path{did_you_mean(name[1], names)}"
    if literals := re.findall(r"Literal\[(.*?)\]", message.partition("Errors:")[0]):
        return f"{key[1]} is {given[1]}, but one of {', '.join(literals)} is expected"
    return None


def _classes(bases: Iterable[str]) -> set[str]:
    """Names of the classes that fit one of some types, and of other classes in the packages of these types."""
    names: set[str] = set()
    for path in bases:
        try:
            open_classes = [pkgutil.resolve_name(path)]
            beside = vars(pkgutil.resolve_name(path.rsplit(".", 2)[0]))
        except (AttributeError, ImportError, ValueError):
            continue
        names |= {name for name, value in beside.items() if isinstance(value, type)}
        while open_classes:
            kind = open_classes.pop()
            names.add(getattr(kind, "__name__", ""))
            open_classes += type.__subclasses__(kind) if isinstance(kind, type) else []
    return names
