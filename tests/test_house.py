"""The house stays small: short functions, short modules, few files of one kind in a folder."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("common", "msflow", "video_ode", "mimic")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LONGEST_FUNCTION, LONGEST_MODULE, MOST_FILES = 45, 320, 14


def lines_of(function):
    """Lines of a function without its docstring."""
    length = function.end_lineno - function.lineno + 1
    first = function.body[0]
    documented = ast.get_docstring(function, clean=False) is not None
    return length - (first.end_lineno - first.lineno + 1 if documented else 0)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_functions_are_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST_MODULE
    functions = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    long = {f.name: lines_of(f) for f in functions if lines_of(f) > LONGEST_FUNCTION}
    assert not long


def test_folders_hold_few_modules():
    for folder in {path.parent for path in MODULES}:
        names = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(names) <= MOST_FILES, folder
