"""Argument parser of all command lines: every mistake ends in one short message."""

import difflib
import math
import re
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import yaml
from jsonargparse import Namespace, get_loader, set_loader
from pytorch_lightning import Callback
from pytorch_lightning.cli import LightningArgumentParser
from pytorch_lightning.utilities.model_helpers import is_overridden

from common.errors import InputError

MOST_NODES, MOST_BYTES, DEEPEST = 100_000, 2**20, 100
MOST_LINES, MOST_SHOWN, LONGEST_LINE = 5, 12, 600
PACKAGES = ("common.", "msflow.", "video_ode.", "mimic.")
WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping",
    "NoneType": "null",
}
SCALARS = ("int", "float", "bool")

KEY = re.compile(r'Parser key "([^"]+)":\s*')
CALLABLE = re.compile(r"^Type .* expects a function or a callable class: ")
OBJECT = re.compile(r"\.? ?Got value: (Namespace|NestedArg)\(.*")
PLAIN = re.compile(
    r"^Expected an? (<class '(\w+)'>|typing\.Literal\[(.*?)\])(\. Got value: (.*))?$"
)
GIVEN = re.compile(r"^Given value: (?:NestedArg\(key='.*', val='?(.*?)'?\)|(.*))$")
NOISE = (
    "Does not validate",
    "Subtypes:",
    "Errors:",
    "Given value",
    "Expected a path but",
    "Subclass types expect",
    "a class path (str)",
    "a dict with",
    "Problem with given class_path",
    "Unable to load config '",
)
PLAINER = {
    r"^Not a valid subclass of (\w+).*": r"give the class_path of a \1, and its init_args",
    r'^Unable to load config "(.*)"': r"got \1; give a mapping of options",
    r"^Unexpected config: (.*)": r"got config \1; give a file of options",
    r"^Expected a tuple with (\d+) elements\. Got value: (.*)": r"got \2; give \1 entries",
    r"^unrecognized arguments: (.*)": r"got \1, which belongs to no option",
}
UNKNOWN_OPTION = re.compile(
    r"unrecognized arguments: --([^\s=]+).*|.*[Oo]ption '([^']+)'(?: is not accepted.*)?$"
)
UNKNOWN_CLASS = re.compile(r"Expected a dot import path string: (\S+)")
NOT_IN_MODULE = re.compile(r"module '([\w.]+)' has no attribute '(\w+)'(\. Got value: \S+)?")


class Parser(LightningArgumentParser):
    """Argument parser with short messages, full option names, and checks of configurations.

    An unknown option or class is answered with the names that are known. NaN is refused
    everywhere. Options can't be abbreviated.
    """

    def __init__(self, *args: Any, description: str | None = None, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, description=description, **kwargs)  # type: ignore[arg-type]

    def parse_args(self, *args: Any, **kwargs: Any) -> Namespace:  # type: ignore[override]
        config = super().parse_args(*args, **kwargs)
        if self.exit_on_error:
            for name in _nan_in(config):
                self.error(f"{name}: got nan; give a number")
        return config

    def parse_path(self, path: Any, *args: Any, **kwargs: Any) -> Namespace:
        if problem := _problem_of(Path(path)):
            self.error(f"config {path} {problem}")
        return super().parse_path(path, *args, **kwargs)

    def instantiate(self, *args: Any, **kwargs: Any) -> Namespace:
        made = super().instantiate(*args, **kwargs)
        subcommand = made.get("subcommand")
        callbacks = made.get(f"{subcommand}.trainer.callbacks" if subcommand else "", None) or []
        seen: set[str] = set()
        for callback in callbacks if isinstance(callbacks, list) else []:
            # Lightning keeps the state of a callback under this key.
            if callback.state_key in seen and is_overridden("state_dict", callback, Callback):
                raise InputError(
                    f"got two callbacks {callback.state_key}; leave one out, or give it a name "
                    "of its own"
                )
            seen.add(callback.state_key)
        return made

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        parser = getattr(ex, "subcommand_parser", None) or self
        message = parser._with_known_names(message)
        if not self.exit_on_error:  # parser of a class, whose error becomes part of another one
            super().error(message, ex)
        print(f"error: {condensed(message)}", file=sys.stderr)
        self.exit(2)

    def _with_known_names(self, message: str) -> str:
        """The message with the known options or classes where it calls one unknown."""
        key = KEY.match(message)
        if key is None and (match := UNKNOWN_OPTION.fullmatch(message)):
            name = match[1] or match[2]
            dashes = "--" if match[1] and self.exit_on_error else ""
            if group := re.match("Group '(.*)' does", message):
                name = f"{group[1]}.{name}"
            options = {dashes + a.dest for a in self._actions if not a.dest.endswith("help")}
            return f"option {dashes}{name} is unknown; {_known(dashes + name, sorted(options))}"
        action: Any = next((a for a in self._actions if key and a.dest == key[1]), None)
        if (match := UNKNOWN_CLASS.search(message)) and hasattr(action, "extra_help"):
            kind = action.dest.rpartition(".")[2]
            like = lambda path: (kind not in path.lower(), not path.startswith(PACKAGES))
            paths = sorted(action.extra_help().rpartition(": ")[2].split(", "), key=like)
            classes = list(dict.fromkeys(path.rpartition(".")[2] for path in paths))
            known = f"class {match[1]} is unknown; {_known(match[1], classes)}"
            message = message.replace(match[0], known)
        if match := NOT_IN_MODULE.search(message):
            inside = vars(sys.modules.get(match[1], sys)).items()
            names = [x for x, value in inside if isinstance(value, type | ModuleType)]
            known = f"{match[1]} has no {match[2]}; {_known(match[2], names)}"
            message = message.replace(match[0], known)
        return message


def versions() -> str:
    """Versions of this project, PyTorch and Lightning, for `--version`."""
    names = ("dynamical-vision", "torch", "pytorch-lightning")
    return ", ".join(f"{name} {metadata.version(name)}" for name in names)


def condensed(message: str) -> str:
    """The innermost useful reason in a message of jsonargparse, after the name of its option."""
    reasons: list[tuple[tuple[str, ...], str]] = []
    given: dict[int, str] = {}  # number of reasons before a given value: the value
    stack: list[tuple[int, str]] = []
    for line in message.splitlines():
        text = line.lstrip(" -")
        indent = len(line) - len(text)
        while stack and text and stack[-1][0] >= indent:
            stack.pop()
        text = OBJECT.sub("", CALLABLE.sub("", text))
        while match := KEY.match(text):
            stack.append((indent, match[1]))
            text = text[match.end() :]
        if match := GIVEN.match(text):
            given.setdefault(len(reasons), match[1] or match[2] or "")
        elif text and not text.startswith(NOISE):
            reasons.append((tuple(key for _, key in stack), text))
    if not reasons:
        return _shortened(message)
    depth = max(len(keys) for keys, _ in reasons)
    first = next(i for i, (keys, _) in enumerate(reasons) if len(keys) == depth)
    keys = reasons[first][0]
    texts = list(dict.fromkeys(text for other, text in reasons if other == keys))
    value = next((given[i] for i in sorted(given) if i > first), "")
    name = f"{'.'.join(dict.fromkeys(keys))}: " if keys else ""
    return _shortened(name + _reason(texts, value))


def _reason(texts: list[str], value: str) -> str:
    """One reason for all that is wrong with one option."""
    plain = [match for text in texts if (match := PLAIN.match(text))]
    other = [text for text in texts if not PLAIN.match(text)]
    if meant := [text for text in other if "did you mean" in text]:
        return meant[0]
    if other and not any(match[2] in SCALARS for match in plain):
        for pattern, plainer in PLAINER.items():
            other = [re.sub(pattern, plainer, text) for text in other]
        return other[0] if plain else "\n".join(other)
    words = [WORDS.get(x[2], x[2]) if x[2] else x[3].replace(", ", " or ") for x in plain]
    value = next((match[5] for match in plain if match[5]), value)
    return f"got {value}; give {' or '.join(words)}"


def _known(name: str, names: list[str]) -> str:
    """Names that are known, close ones first."""
    near = [known for known in names if len(name) > 2 and name.lower() in known.lower()]
    near += [x for x in difflib.get_close_matches(name, names, 3, 0.6) if x not in near]
    if near:
        return f"did you mean {' or '.join(near[:3])}?"
    if len(names) > MOST_SHOWN:
        names = list(dict.fromkeys(known.partition(".")[0] for known in names))
    more = ", …" if len(names) > MOST_SHOWN else ""
    return f"known are {', '.join(names[:MOST_SHOWN])}{more}"


def _shortened(message: str) -> str:
    lines = [line for line in message.splitlines() if line.strip()][:MOST_LINES]
    return "\n".join(f"{x[:LONGEST_LINE]} …" if len(x) > LONGEST_LINE else x for x in lines)


def _nan_in(value: Any, name: str = "") -> Iterator[str]:
    """Names of the entries of a configuration that are NaN."""
    if isinstance(value, float) and math.isnan(value):
        yield name
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Namespace | dict):
        items = value.items() if isinstance(value, dict) else vars(value).items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    for key, entry in items:
        yield from _nan_in(entry, f"{name}.{key}" if name and key != "init_args" else name or key)


def _problem_of(path: Path) -> str | None:
    """Error message about a configuration file. None: it is a readable mapping of options."""
    try:
        if path.stat().st_size > MOST_BYTES:
            return f"has more than {MOST_BYTES} bytes; give a YAML file of options"
        text = path.read_text()
    except UnicodeDecodeError:
        return "isn't a text; give a YAML file of options"
    except OSError as error:
        return f"can't be read: {error.strerror}"
    if not text.strip():
        return "is empty; give a YAML file of options"
    try:
        content = _load_yaml(text)
    except yaml.YAMLError as error:
        return f"isn't valid YAML: {' '.join(str(error).split())}"
    if not isinstance(content, dict):
        return f"holds a {type(content).__name__}; give a mapping of options, such as model: …"
    return None


def _check_size(text: str) -> None:
    """Refuses a YAML text that is huge once its aliases are written out."""
    sizes: dict[str | None, float] = {}
    begun: list[tuple[str | None, float]] = [(None, 0)]
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        anchor, size = getattr(event, "anchor", None), 0.0
        if isinstance(event, yaml.CollectionStartEvent):
            begun.append((anchor, 1))
        elif isinstance(event, yaml.AliasEvent):
            inside = any(anchor == name for name, _ in begun)
            size = math.inf if inside else sizes.get(anchor, 0)
        elif isinstance(event, yaml.ScalarEvent):
            size = sizes[anchor] = 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = begun.pop()
            sizes[anchor] = size
        begun[-1] = (begun[-1][0], begun[-1][1] + size)
        if len(begun) > DEEPEST or begun[-1][1] > MOST_NODES:
            raise yaml.YAMLError(
                f"it has more than {MOST_NODES} entries or {DEEPEST} levels, aliases written "
                "out; write it without nested aliases"
            )


_load = get_loader("yaml")


def _load_yaml(text: str) -> Any:
    if "*" in text or len(text) > MOST_NODES or text.count("[") + text.count("{") > DEEPEST:
        _check_size(text)
    return _load(text)


# For all YAML of this process: a value on the command line can be as large as a file.
set_loader("yaml", _load_yaml, (yaml.YAMLError,))
