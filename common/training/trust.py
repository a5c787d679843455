"""Trust: which classes a checkpoint may name, checked before anything is imported."""

import importlib
import importlib.util
import json
import re
import sys
from inspect import signature
from typing import Any

import torch
import yaml
from torch import nn

from common.errors import InputError
from common.files import shown

# What models are made of.
TRUSTED = (
    "common.flows",
    "common.nn",
    "common.ode",
    "common.training.schedules",
    "mimic",
    "msflow",
    "torch.nn",
    "torch.optim",
    "video_ode",
)
INSTANTIATOR = "pytorch_lightning.cli.instantiate_module"  # Lightning itself allows this name
DEEPEST, LONGEST = 40, 4096


def plain_record(record: Any, source: str, trusted: tuple[str, ...] = (), depth: int = 0) -> Any:
    """Copy of a record of arguments, which is plain data and names only classes that are trusted.

    Args:
        record: Nested dictionaries and lists; a dictionary with `class_path` names a class.
        source: Name of the file, for the message.
        trusted: Packages, beside those of this project, whose classes may be named.
        depth: Number of levels above this part of the record.

    Raises:
        InputError: It names anything else, or holds other objects. Nothing of it was imported.
    """
    if depth > DEEPEST:
        raise InputError(
            f"the record of {source} is nested more than {DEEPEST} levels deep; take another"
        )
    if record is None or isinstance(record, bool | int | float):
        return record
    if isinstance(record, str):
        _check_text(record, source, trusted)
        return record
    if isinstance(record, list | tuple):
        return [plain_record(inner, source, trusted, depth + 1) for inner in record]
    if not isinstance(record, dict):
        kind = type(record).__name__
        raise InputError(
            f"the record of {source} holds a {kind}, which is no plain data; take another"
        )
    copy = {}
    for key, inner in dict.items(record):  # not record.items(), which an OrderedDict may replace
        if key in ("class_path", "_class_path"):
            trusted_class(inner, source, trusted)
            copy[key] = inner
        elif key == "_instantiator" and inner == INSTANTIATOR:
            copy[key] = inner
        else:
            name = plain_record(key, source, trusted, depth + 1)
            copy[name] = plain_record(inner, source, trusted, depth + 1)
    return copy


def trusted_class(path: Any, source: str, trusted: tuple[str, ...] = ()) -> type:
    """Class of a dotted path, imported only if its package is trusted.

    The path must lead through packages and modules, not through names that a module imported, and
    the class must be defined in a trusted package. After it, the path may name a class method
    without arguments, such as `YOLO.pretrained`.

    Raises:
        InputError: The path names anything else.
    """
    module, _, name = path.rpartition(".") if isinstance(path, str) else ("", "", "")
    if found := _class_at(module, name, trusted):
        return found
    outer, _, owner = module.rpartition(".")
    if found := _class_at(outer, owner, trusted):
        method = vars(found).get(name)
        # One with arguments might read files, as `load_from_checkpoint` does.
        if isinstance(method, classmethod) and len(signature(method.__func__).parameters) == 1:
            return found
    name = repr(path)[:80]
    root = module.split(".")[0]
    advice = f"; if you trust it, pass trusted=({root!r},)" if root.isidentifier() else ""
    raise InputError(
        f"{source} names {name}, which loading would import and run, but it is no class of this "
        f"project{advice}"
    )


def _class_at(module: str, name: str, trusted: tuple[str, ...]) -> type | None:
    """Class of this name in a module. None: there is none, or it isn't trusted."""
    if not _in(module, TRUSTED + trusted) or module.endswith("__main__"):
        return None
    try:
        # Not of `vars`: the packages export names that load when they are used.
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None
    # `torch.nn.ReLU` is defined in `torch.nn.modules.activation`, so only the name is equal.
    defined_here = isinstance(found, type) and found.__qualname__ == name
    return found if defined_here and _in(found.__module__, TRUSTED + trusted) else None


def named_classes(record: Any, depth: int = 0) -> list[str]:
    """Class paths that a record names, as they are written, sorted; nothing is imported."""
    if depth > DEEPEST:
        return ["…"]
    paths: set[str] = set()
    if isinstance(record, dict):
        items = dict.items(record)
        paths = {shown(str(v)) for k, v in items if k in ("class_path", "_class_path")}
        record = [inner for _, inner in items]
    if isinstance(record, list | tuple):
        paths.update(path for inner in record for path in named_classes(inner, depth + 1))
    return sorted(paths)


def _check_text(text: str, source: str, trusted: tuple[str, ...]) -> None:
    """Refuses a text in which the parser of the arguments would find more than a text."""
    meanings = [text.strip(), *_parsed(text)]
    nested = any(not isinstance(meaning, str) for meaning in meanings)
    if nested or len(text) > LONGEST or text.strip().endswith((".yaml", ".yml", ".json")):
        raise InputError(
            f"the record of {source} holds the text {text[:40]!r}…, which may stand for more "
            "arguments; take another file"
        )
    for meaning in meanings:
        if _is_class(meaning):
            raise InputError(
                f"{source} gives the class {meaning} without class_path; take another file"
            )
        if re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", meaning) and _importable(meaning):
            trusted_class(meaning, source, trusted)


def _parsed(text: str) -> list[Any]:
    """Strings, mappings and lists that YAML and JSON read in a text; other values are left out."""
    found = []
    for parse, errors in ((yaml.safe_load, yaml.YAMLError), (json.loads, ValueError)):
        try:
            found.append(parse(text[:LONGEST]))
        except (errors, ValueError, RecursionError):
            if text.strip().startswith(("{", "[")):
                found.append([])
    return [value for value in found if isinstance(value, str | dict | list | set | tuple)]


def _is_class(name: str) -> bool:
    """True for the name of a loaded module or optimiser class, which the parser would build."""
    found: list[type] = [nn.Module, torch.optim.Optimizer]
    for kind in found:
        found += kind.__subclasses__()
    return any(kind.__name__ == name for kind in found)


def _importable(path: str) -> bool:
    root = path.split(".")[0]
    try:
        return root in sys.modules or importlib.util.find_spec(root) is not None
    except (ImportError, ValueError):
        return False


def _in(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)
