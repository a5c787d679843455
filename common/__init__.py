"""Parts that several packages of the project use."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def exported(
    package: str, modules: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Functions `__getattr__` and `__dir__` of a package whose names load when they are used.

    Args:
        package: Name of the package.
        modules: Names to export, by module. To load the modules takes seconds.
    """
    places = {name: module for module, names in modules.items() for name in names}

    def attribute(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(places[name]), name)

    return attribute, lambda: sorted(places)
