"""Finding layers by name, and catching what they put out."""

import copy
import difflib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from torch import Tensor, nn

from common.errors import InputError

Layer = str | nn.Module
Select = int | str


def find_layers(model: nn.Module, layers: Sequence[Layer]) -> dict[str, nn.Module]:
    """The named layers of a model, in the order asked for.

    Args:
        model: Where to look.
        layers: Names as in `named_modules`, such as `backbone.layer4`, globs such as
            `backbone.layer*`, whose star stops at a dot, or modules of the model themselves.

    Raises:
        InputError: One isn't there; close names are told.
    """
    # A part may have several names. What torch.compile puts in between is none of them.
    every = model.named_modules(remove_duplicate=False)
    names = {name.replace("._orig_mod", ""): module for name, module in every if name}
    found: dict[str, nn.Module] = {}
    for layer in layers:
        matches = _matching(names, layer)
        if not matches:
            raise InputError(_unknown(model, names, layer))
        found |= matches
    return found


def is_glob(layer: Layer) -> bool:
    """Whether it may stand for several layers."""
    return isinstance(layer, str) and any(sign in layer for sign in "*?[")


def _matching(names: dict[str, nn.Module], layer: Layer) -> dict[str, nn.Module]:
    if isinstance(layer, nn.Module):
        return {name: module for name, module in names.items() if module is layer}
    wanted = layer.split(".")
    return {
        name: module
        for name, module in names.items()
        if len(parts := name.split(".")) == len(wanted) and all(map(fnmatchcase, parts, wanted))
    }


def _unknown(model: nn.Module, names: dict[str, nn.Module], layer: Layer) -> str:
    of = type(model).__name__
    if isinstance(layer, nn.Module):
        return f"got a {type(layer).__name__} that is no part of the {of}; give one of its layers"
    close = difflib.get_close_matches(layer, names, n=4, cutoff=0.4) or list(names)[:6]
    return f"the {of} has no layer {layer!r}; there are, for instance, {', '.join(close)}"


class Catcher:
    """Hooks that keep what layers put out while it is asked for.

    Args:
        layers: By name.
        select: Which entry of an output that is a tuple or a dictionary.
    """

    def __init__(self, layers: dict[str, nn.Module], select: Select | None = None) -> None:
        self._features: dict[str, list[Tensor]] = {name: [] for name in layers}
        self.names, self._select, self._on = list(layers), select, False
        self._handles = [
            layer.register_forward_hook(_Hook(self, name)) for name, layer in layers.items()
        ]

    def start(self) -> None:
        """From now on keeps what every call of a layer puts out."""
        self.stop()
        self._on = True

    def stop(self) -> dict[str, list[Tensor]]:
        """Hands over what was kept, and keeps no more."""
        self._on = False
        kept = {name: list(features) for name, features in self._features.items()}
        for features in self._features.values():
            features.clear()
        return kept

    def keep(self, name: str, output: Any) -> Any:
        """Keeps an output while that is asked for; returns what is to go on in its place."""
        if not self._on:
            return output
        feature = selected(name, output, self._select)
        self._features[name].append(feature)
        # What follows may change it in place (a ReLU, a sum), and shall not change what is kept.
        if self._select is None:
            return feature.clone()
        return _with_entry(output, self._select, feature.clone())

    def remove(self) -> None:
        """Takes the hooks away."""
        for handle in self._handles:
            handle.remove()


class _Hook:
    """A forward hook that copies of the model don't have, nor what is saved of it."""

    def __init__(self, catcher: Catcher, name: str) -> None:
        self.catcher, self.name = catcher, name

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        return self.catcher.keep(self.name, output)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial, (_go_on,)


def _go_on(module: nn.Module, inputs: Any, output: Any) -> None:
    """A hook that does nothing."""


def selected(name: str, output: Any, select: Select | None) -> Tensor:
    """The tensor in a layer's output.

    Raises:
        InputError: It is none, or `select` doesn't say which.
    """
    if select is not None:
        output = entry(f"the output of layer {name}", output, select, "select")
    if not isinstance(output, Tensor):
        raise InputError(
            f"the output of layer {name} is a {type(output).__name__}, not a tensor; say by "
            "select= which entry of it to take"
        )
    return output


def _with_entry(holder: Any, key: Select, value: Tensor) -> Any:
    """A copy of a tuple, a dictionary or an object with another entry."""
    if names := getattr(holder, "_fields", None):
        return holder._replace(**{key if isinstance(key, str) else names[key]: value})
    if isinstance(holder, tuple) and isinstance(key, int):
        return tuple(value if i == key % len(holder) else x for i, x in enumerate(holder))
    twin = copy.copy(holder)
    if isinstance(key, str) and not isinstance(holder, Mapping):
        object.__setattr__(twin, key, value)  # frozen dataclasses too
    else:
        twin[key] = value
    return twin


def entry(what: str, holder: Any, key: Select, option: str) -> Any:
    """An entry of a tuple, a dictionary or an object.

    Raises:
        InputError: It has none; `what` says what was looked into, `option` what to change.
    """
    try:
        if isinstance(key, str) and not isinstance(holder, Mapping):
            return getattr(holder, key)
        return holder[key]
    except (AttributeError, KeyError, IndexError, TypeError) as error:
        raise InputError(
            f"{what} is a {type(holder).__name__} without {key!r}; change {option}"
        ) from error
