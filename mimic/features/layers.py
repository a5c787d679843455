"""Layers found by name, and hooks that catch their outputs."""

import copy
import difflib
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import InputError
from mimic.features.inputs import OddBatchError

Layer = str | nn.Module
Select = int | str


def find_layers(model: nn.Module, layers: Sequence[Layer]) -> dict[str, nn.Module]:
    """Layers of a model by name, in the order asked for.

    Args:
        model: Model to search.
        layers: Names as in `named_modules`, such as `backbone.layer4`; globs such as
            `backbone.layer*`, whose star stops at a dot; or modules of the model themselves.

    Raises:
        InputError: A layer is not there; the message names similar layers.
    """
    # A part may have several names. Those that torch.compile inserts are left out.
    every = model.named_modules(remove_duplicate=False)
    names = {name.replace("._orig_mod", ""): module for name, module in every if name}
    found: dict[str, nn.Module] = {}
    for layer in layers:
        matches = {name: x for name, x in names.items() if _is_meant(layer, name, x)}
        if not matches:
            of = type(model).__name__
            if isinstance(layer, nn.Module):
                kind = type(layer).__name__
                raise InputError(
                    f"got a {kind} that is no part of the {of}; give one of its layers"
                )
            close = difflib.get_close_matches(layer, names, 4, cutoff=0.4) or list(names)[:6]
            like = ", ".join(close)
            raise InputError(f"the {of} has no layer {layer!r}; there are, for instance, {like}")
        found |= matches
    return found


def _is_meant(layer: Layer, name: str, module: nn.Module) -> bool:
    if isinstance(layer, nn.Module):
        return module is layer
    parts, wanted = name.split("."), layer.split(".")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def is_glob(layer: Layer) -> bool:
    """True if a name may stand for several layers."""
    return isinstance(layer, str) and any(sign in layer for sign in "*?[")


class Catcher:
    """Hooks that keep the outputs of layers while it is switched on.

    Args:
        layers: Layers by name.
        select: Entry to take of an output that is a tuple or a dictionary. None: the output
            itself.
    """

    def __init__(self, layers: dict[str, nn.Module], select: Select | None = None) -> None:
        self._features: dict[str, list[Tensor]] = {name: [] for name in layers}
        self.names, self._select, self._on = list(layers), select, False
        self._handles = [
            layer.register_forward_hook(_Hook(self, name)) for name, layer in layers.items()
        ]

    def start(self) -> None:
        """Begins to keep the output of every call of a layer."""
        self.stop()
        self._on = True

    def stop(self) -> dict[str, list[Tensor]]:
        """Stops, and returns the outputs of each layer, one for each call."""
        self._on = False
        kept = {name: list(features) for name, features in self._features.items()}
        for features in self._features.values():
            features.clear()
        return kept

    def keep(self, name: str, output: Any) -> Any:
        """Keeps an output while switched on; returns the output that goes on in its place."""
        if not self._on:
            return output
        feature = output
        if self._select is not None:
            feature = entry(f"the output of layer {name}", output, self._select, "select")
        if not isinstance(feature, Tensor):
            raise InputError(
                f"the output of layer {name} is a {type(feature).__name__}, not a tensor; say by "
                "select= which entry of it to take"
            )
        self._features[name].append(feature)
        # The next layer may work in place (a ReLU, a sum), and must not change what is kept.
        again = feature.clone()
        return again if self._select is None else _with_entry(output, self._select, again)

    def remove(self) -> None:
        """Removes the hooks."""
        for handle in self._handles:
            handle.remove()


class _Hook:
    """Forward hook of a catcher; copied or saved with the model, it does nothing."""

    def __init__(self, catcher: Catcher | None = None, name: str = "") -> None:
        self.catcher, self.name = catcher, name

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        return None if self.catcher is None else self.catcher.keep(self.name, output)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Hook, ()


def one_feature(
    name: str, calls: list[Tensor], labels: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """All outputs of a layer in one step as one batch, with the labels of each sample.

    Args:
        name: Name of the layer.
        calls: Outputs of the layer, one for each call.
        labels: Labels of the batch, the same for every call.

    Raises:
        InputError: The layer was not called, or its outputs have different sizes.
    """
    if not calls:
        raise OddBatchError(
            f"layer {name} was not called in this step, so it has no output; name a layer that "
            "every step passes through (a layer that was compiled and called before the hooks "
            "came may be passed by)"
        )
    if len({feature.shape[1:] for feature in calls}) > 1:
        raise InputError(
            f"layer {name} was called with different sizes in one step: "
            f"{', '.join(str(list(feature.shape)) for feature in calls)}; name a layer whose "
            "output has one size"
        )
    if len(calls) == 1:
        return calls[0], labels
    return torch.cat(calls), repeated(labels, len(calls))


def repeated(of_batch: Tensor | None, calls: int) -> Tensor | None:
    """Labels or a mask of a batch for each call of a layer. None: there are none."""
    return None if of_batch is None else torch.cat([of_batch] * calls)


def _with_entry(holder: Any, key: Select, value: Tensor) -> Any:
    """Copy of a tuple, a dictionary or an object with another entry."""
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


def _index(key: str) -> Select:
    return int(key) if key.isdecimal() else key


def entry(what: str, holder: Any, key: Select, option: str) -> Any:
    """Entry of a tuple, a dictionary or an object, which may hold another one.

    Args:
        what: Name of the holder in messages.
        holder: Tuple, dictionary or object.
        key: Index, key or attribute name; several with dots between them, such as `1.classes`.
        option: Name of the option to change, in messages.

    Raises:
        InputError: There is no such entry.
    """
    if isinstance(holder, Iterator):
        raise InputError(
            f"training_step takes the loader's iterator, so its batches can't be looked at; let "
            f"it take a batch, or leave out {option}"
        )
    if isinstance(key, str) and "." in key and not (isinstance(holder, Mapping) and key in holder):
        first, _, rest = key.partition(".")
        return entry(what, entry(what, holder, _index(first), option), _index(rest), option)
    try:
        if isinstance(key, str) and not isinstance(holder, Mapping):
            return getattr(holder, key)
        return holder[key]
    except (AttributeError, KeyError, IndexError, TypeError) as error:
        raise InputError(
            f"{what} is a {type(holder).__name__} without {key!r}; change {option}"
        ) from error
