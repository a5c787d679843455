"""Finding layers by name, and catching what they put out."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
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
    names = {_plain(name): module for name, module in model.named_modules() if name}
    found: dict[str, nn.Module] = {}
    for layer in layers:
        matches = _matching(names, layer)
        if not matches:
            raise InputError(_unknown(model, names, layer))
        found |= matches
    return found


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


def _plain(name: str) -> str:
    """Without the name that `torch.compile` puts in between."""
    return name.replace("_orig_mod.", "")


class Catcher:
    """Hooks that keep what layers put out while it is asked for.

    Args:
        layers: By name.
        select: Which entry of an output that is a tuple or a dictionary.
    """

    def __init__(self, layers: dict[str, nn.Module], select: Select | None = None) -> None:
        self.features: dict[str, list[Tensor]] = {name: [] for name in layers}
        self._select, self._on = select, False
        self._handles = [
            # Closures, not methods: a copy of the model shares this very catcher.
            layer.register_forward_hook(self._hook(name))
            for name, layer in layers.items()
        ]

    def start(self) -> None:
        """From now on keeps what every call of a layer puts out."""
        for features in self.features.values():
            features.clear()
        self._on = True

    def stop(self) -> None:
        """Keeps no more."""
        self._on = False

    def remove(self) -> None:
        """Takes the hooks away."""
        for handle in self._handles:
            handle.remove()

    def _hook(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        kept = self.features[name]

        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if self._on:
                kept.append(selected(name, output, self._select))

        return hook


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
