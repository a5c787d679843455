"""The documentation holds: its code runs, its commands parse, its paths and names exist."""

import ast
import importlib
import inspect
import itertools
import logging
import os
import random
import re
import runpy
import shutil
import subprocess
import sys
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import jsonargparse
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import common.training.cli as command_line
from video_ode.evaluation.files.media import save_mp4

ROOT = Path(__file__).parents[1]
PACKAGES = ("common", "msflow", "video_ode", "mimic")
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "msflow/README.md",
    "video_ode/README.md",
    *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md")),
]
EXTENDING = "docs/extending.md"
TINY = {
    "trainer.accelerator": "cpu",
    "trainer.max_epochs": 1,
    "trainer.check_val_every_n_epoch": 1,
    "trainer.limit_train_batches": 2,
    "trainer.limit_val_batches": 1,
    "trainer.limit_test_batches": 1,
    "trainer.enable_progress_bar": "false",
    "trainer.enable_model_summary": "false",
    "trainer.log_every_n_steps": 1,
    "data.batch_size": 4,
}
SMALL_FLOW = {
    "model.flow.field.width": 4,
    "model.flow.field.blocks": 1,
    "model.flow.solver.step_size": 0.5,
    "model.statistics_images": 50,
}
IMAGES = {"msflow/configs/images.yaml"}
# Blocks that import these run only where they are installed.
OPTIONAL = {"segmentation_models_pytorch": "needs torchvision, which breaks a CPU-only PyTorch"}
NOT_OURS = ("pip", "pytest", "venv")  # modules of other projects in commands
# Commands whose configuration the user writes.
NEEDS_FILES = {"deeplab.yaml": "a configuration that mimic's results show as a block"}


def text(page):
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page_text, language):
    """Fenced code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page_text, re.M | re.S)


def prose(page):
    """The page without its fenced code blocks."""
    return re.sub(r"^```.*?^```", "", text(page), flags=re.M | re.S)


def code_spans(page_text):
    return re.findall(r"`([^`\n]+)`", page_text)


def sections(page):
    """Sections of the second level, by heading."""
    parts = re.split(r"^## (.+)\n", text(page), flags=re.M)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


# Commands -----------------------------------------------------------------------------------

RECORDER = r"""
PATH=/nonexistent
command_not_found_handle() { return 0; }
python() { printf '%s\037' "$@" >&3; printf '\036' >&3; }
exec 3>&1 1>&2
"""


def commands(script, folder):
    """Words of each `python` command that a shell script would call; nothing else is run."""
    (folder / ".venv" / "bin").mkdir(parents=True, exist_ok=True)
    (folder / ".venv" / "bin" / "activate").touch()
    bash = shutil.which("bash")
    done = subprocess.run(
        [bash, "-c", RECORDER + script], cwd=folder, capture_output=True, text=True, timeout=60
    )
    return [line.split("\x1f")[:-1] for line in done.stdout.split("\x1e")[:-1]]


class ParsedError(Exception):
    """Raised in place of the run, when all arguments are parsed."""


@pytest.fixture
def parse(monkeypatch, capsys):
    """Function that parses the words after `python -m` as the program does, and runs nothing."""

    def stop(*_):
        raise ParsedError

    def parse_only(functions, args=None, **_):
        jsonargparse.auto_parser(functions).parse_args(args)
        raise ParsedError

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(command_line.CommandLine, "before_instantiate_classes", stop)
    monkeypatch.setattr(command_line, "auto_cli", parse_only)

    def parsed(module, words):
        monkeypatch.setattr(sys, "argv", [module, *words])
        try:
            if module.endswith(".cli"):
                importlib.import_module(module).main(words)
            else:
                runpy.run_path(str(ROOT / f"{module.replace('.', '/')}.py"), run_name="__main__")
        except ParsedError:
            return True
        except SystemExit as end:  # of a help text the code is 0
            return not end.code
        raise AssertionError(f"{module} ended without parsing")

    return parsed


def every_command(tmp_path_factory):
    """All commands of all pages but those that another test runs, each once."""
    folder = tmp_path_factory.mktemp("commands")
    found = {}
    for page in [*PAGES, "mimic/README.md"]:
        if page != EXTENDING:
            for script in blocks(text(page), "bash"):
                for words in commands(script, folder):
                    found.setdefault(tuple(words), page)
    return found


def test_commands_parse(parse, tmp_path_factory, capsys):
    found = every_command(tmp_path_factory)
    assert len(found) > 20
    wrong = []
    for words, page in found.items():
        if any(word in NEEDS_FILES for word in words):
            continue
        if words[0] != "-m":
            assert (ROOT / words[0]).is_file(), f"{page}: {words[0]}"
        elif words[1] not in NOT_OURS and not parse(words[1], list(words[2:])):
            wrong.append(f"{page}: {' '.join(words)}: {capsys.readouterr().err[-300:]}")
    assert not wrong, "\n".join(wrong)


BASES = {
    "msflow": ["msflow/configs/digits.yaml"],
    "video_ode": [
        "video_ode/configs/srvp/srvp_digits.yaml",
        "video_ode/configs/latent_ode/latent_ode_digits.yaml",
        "video_ode/configs/gan/tgan_digits.yaml",
        "video_ode/configs/objects/feature_ode.yaml",
    ],
}


@pytest.mark.parametrize("package", BASES)
def test_options_in_tables_parse(package, parse, capsys):
    table = [line for line in prose(f"{package}/README.md").splitlines() if line.startswith("|")]
    wrong, count = [], 0
    for span in code_spans("\n".join(table)):
        words = span.split()
        if len(words) < 2:
            continue
        if words[0] in ("fit", "test"):
            given = [words]
        elif words[0].startswith("--"):
            given = [["fit", "--config", base, *words] for base in BASES[package]]
        else:
            continue
        count += 1
        if not any(parse(f"{package}.cli", attempt) for attempt in given):
            wrong.append(f"{span}: {capsys.readouterr().err[-300:]}")
    assert count > 5
    assert not wrong, "\n".join(wrong)


# Code ---------------------------------------------------------------------------------------


def tiny(words):
    """Words of a command that names configurations from anywhere and takes a few small steps."""
    small = SMALL_FLOW if {"msflow/configs/digits.yaml", *IMAGES} & set(words) else {}
    if IMAGES & set(words):
        small = {**small, "trainer.val_check_interval": 1, "trainer.max_steps": 2}
    options = [(f"--{name}", str(value)) for name, value in {**TINY, **small}.items()]
    named = [
        str(ROOT / word) if word.endswith(".yaml") and "/" in word else word for word in words
    ]
    return [*named, *(word for option in options for word in option)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder with a briefly trained checkpoint at each path that a page names."""
    folder = tmp_path_factory.mktemp("trained")
    for package, name in sorted({run for page in PAGES for run in named_runs(page)}):
        (config,) = ROOT.glob(f"{package}/configs/**/{name}.yaml")
        words = ["fit", "--config", str(config.relative_to(ROOT))]
        runs = ["--trainer.default_root_dir", str(folder / "lightning_logs")]
        importlib.import_module(f"{package}.cli").main(tiny([*words, *runs]))
    return folder


def named_runs(page):
    """Package and configuration of each checkpoint that the code of a page loads."""
    path = r"lightning_logs/\w+/(\w+)/version_0/checkpoints"
    run = rf"from (\w+)(?:\.module)? import (?:.*\n)*?.*{path}"
    return [found for block in blocks(text(page), "python") for found in re.findall(run, block)]


# The blocks of EXTENDING are files; another test runs them with their commands.
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page != EXTENDING and blocks(text(page), "python")]
)
def test_python_blocks_run(page, trained, monkeypatch):
    monkeypatch.chdir(trained)
    names = {"__name__": page}
    for block in blocks(text(page), "python"):
        for package, reason in OPTIONAL.items():
            if f"import {package}" in block:
                pytest.importorskip(package, reason=reason)
        exec(compile(block, page, "exec"), names)


ORDERS = {
    "as written": lambda lines: lines,
    "backward": lambda lines: lines[::-1],
    "shuffled": lambda lines: random.Random(0).sample(lines, len(lines)),
}


@pytest.mark.parametrize(
    "order",
    ["backward", *(pytest.param(n, marks=pytest.mark.slow) for n in ORDERS if n != "backward")],
)
def test_the_first_tour_works_in_every_order(order, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("pytorch_lightning"), "propagate", True)
    caplog.set_level(logging.INFO)
    first, _, _, tour = blocks(text("README.md"), "bash")[:4]
    trained = [words for words in commands(first, tmp_path) if words[1].endswith(".cli")]
    lines = [words for words in commands(tour, tmp_path) if words[0] == "-m"]
    assert len(trained) == 2
    assert len(lines) >= 6
    monkeypatch.chdir(tmp_path)
    for _, module, *words in [*trained, *ORDERS[order](lines)]:
        ends = pytest.raises(SystemExit) if "--print_config" in words else nullcontext()
        with ends as end:
            importlib.import_module(module).main(tiny(words))
        assert end is None or end.value.code == 0
    assert list(tmp_path.glob("lightning_logs/msflow/digits/*/samples_temperature0.9.png"))
    taken = re.findall("best checkpoint: (.*)", caplog.text)
    assert taken
    assert all(path.startswith("lightning_logs/msflow/digits/") for path in taken)


def test_models_that_ship_work_before_any_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = commands(blocks(text("README.md"), "bash")[2], tmp_path)
    assert len(lines) == 3
    for _, module, *words in lines:
        importlib.import_module(module).main([*words, "--n", "1"])
    assert list(tmp_path.glob("lightning_logs/msflow/digits-sample/*/samples_temperature1.png"))
    assert len(list(tmp_path.glob("lightning_logs/video_ode/*/*/predictions/*.gif"))) == 2


def test_commands_about_your_own_data_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i, mode in enumerate(20 * ["RGB", "L", "RGBA"]):
        (tmp_path / "FOLDER").mkdir(exist_ok=True)
        Image.effect_noise((40 + i, 50), 60).convert(mode).save(tmp_path / f"FOLDER/{i}.png")
    save_mp4((255 * torch.rand(24, 3, 48, 64)).byte(), tmp_path / "my.mp4", fps=12.0)
    lines = commands(blocks(sections("README.md")["Your own data"], "bash")[0], tmp_path)
    assert len(lines) == 5
    for _, module, *words in lines:
        configured = "--config" in words
        importlib.import_module(module).main(tiny(words) if configured else words)
    (table,) = tmp_path.glob("lightning_logs/msflow/images/*/predictions.csv")
    assert len(table.read_text().splitlines()) == 61
    (arrays,) = tmp_path.glob("lightning_logs/video_ode/*/*/predictions/my_*.npz")
    assert np.load(arrays)["times"].tolist() == np.arange(0, 20, 0.25).tolist()
    assert (tmp_path / "my_60fps.mp4").exists()


EXAMPLES = {name: part for name, part in sections(EXTENDING).items() if "```python" in part}


def files_of(example):
    found = [block for kind in ("python", "yaml") for block in blocks(example, kind)]
    return {block.partition("\n")[0].removeprefix("# "): block for block in found}


def test_there_are_five_examples_of_at_most_25_lines_in_at_most_two_files():
    assert len(EXAMPLES) == 5
    for name, example in EXAMPLES.items():
        files = files_of(example)
        assert 1 <= len(files) <= 2
        lines = [line for block in files.values() for line in block.splitlines()]
        code = [line for line in lines if line.strip() and not line.startswith("#")]
        assert len(code) <= 25, f"{name}: {len(code)} lines"


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run_from_the_page(name, tmp_path, monkeypatch, capfd):
    files = files_of(EXAMPLES[name])
    for file, block in files.items():
        (tmp_path / file).write_text(block, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (script,) = blocks(EXAMPLES[name], "bash")
    called = commands(script, tmp_path)
    assert called
    try:
        for _, module, *words in called:
            main = importlib.import_module(module).main
            main(tiny(words))
    finally:
        for file in files:
            sys.modules.pop(file.removesuffix(".py"), None)
    runs = list(tmp_path.glob("lightning_logs/**/last.ckpt"))
    assert len(runs) == 1
    if name == "Metric of frames":
        assert "brightness predicted" in capfd.readouterr().out
    if "sample" in script:
        assert list(tmp_path.glob("lightning_logs/**/samples_temperature1.png"))


LAWS = """
import importlib

def pytest_sessionstart(session):
    laws = importlib.import_module("tests.laws")
    names = vars(laws) | vars(importlib.import_module({module!r}))
    if isinstance(laws.{law_list}, dict):
        laws.{law_list}.update(eval("{{" + {line!r} + "}}", names))
    else:
        laws.{law_list}.append(eval({line!r}, names))
"""


@pytest.mark.parametrize("name", [name for name in EXAMPLES if "the line is" in EXAMPLES[name]])
def test_examples_obey_the_laws_by_the_line_on_the_page(name, tmp_path):
    example, (file,) = EXAMPLES[name], files_of(EXAMPLES[name])
    (tmp_path / file).write_text(files_of(example)[file], encoding="utf-8")
    about = r"law list is `(\w+)` \(the tests are in `([^`]+)`\); the line is\s+`([^`]+)`"
    ((law_list, tests, line),) = re.findall(about, example)
    plugin = LAWS.format(module=file.removesuffix(".py"), law_list=law_list, line=line)
    (tmp_path / "plugin.py").write_text(plugin, encoding="utf-8")
    only = re.search(r"\w+", line.removeprefix("SmallSet")).group()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "plugin", "-k", only, str(ROOT / tests)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert int(re.search(r"(\d+) passed", done.stdout).group(1)) > 10


# Names and paths ----------------------------------------------------------------------------


def exists(name):
    """Whether a dotted name can be imported; a call in brackets must have these arguments."""
    call = re.fullmatch(r"([\w.]+)\((.*)\)", name)
    dotted, options = call.groups() if call else (name, "")
    parts = dotted.split(".")
    for k in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:k]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[k:]:
            if not hasattr(found, attribute):
                return False
            found = getattr(found, attribute)
        arguments = re.findall(r"(\w+)=", options)
        return all(argument in inspect.signature(found).parameters for argument in arguments)
    return False


@cache
def functions_of(path):
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_links_lead_somewhere():
    wrong = []
    for page in [*PAGES, "CHANGELOG.md", "mimic/README.md"]:
        for target, anchor in re.findall(r"\]\(([^)#\s]*)(#[^)\s]*)?\)", prose(page)):
            if target.startswith(("http:", "https:")):
                continue
            path = (ROOT / page).parent / target if target else ROOT / page
            if not path.exists() or (anchor and anchor[1:] not in anchors(path)):
                wrong.append(f"{page}: {target}{anchor}")
    assert not wrong, wrong


def anchors(path):
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_paths_and_dotted_names_exist(page):
    wrong = []
    for span in code_spans(prose(page)):
        for path in re.findall(r"(?<![\w./])(?:\.ci|docs|tests|\w+)/[\w./*-]*", span):
            top = path.partition("/")[0]
            known = top in (*PACKAGES, "docs", "tests", ".ci")
            if known and "<" not in span and not list(ROOT.glob(path.rstrip("/"))):
                wrong.append(path)
        for name in re.findall(r"(?<![\w./])((?:common|msflow|video_ode|mimic)(?:\.\w+)+)", span):
            if not name.endswith((".py", ".md")) and not exists(name):
                wrong.append(name)
    assert not wrong, wrong


def test_files_in_the_tables_of_readmes_exist():
    for package in ("msflow", "video_ode"):
        for line in prose(f"{package}/README.md").splitlines():
            if line.startswith("| `"):
                for name in code_spans(line.split("|")[1]):
                    assert (ROOT / package / name).exists(), f"{package}/README.md: {name}"


def test_equations_name_functions_and_tests_that_exist():
    rows = [line.split(" | ") for line in text("docs/equations.md").splitlines() if "|" in line]
    rows = [row for row in rows if len(row) == 4 and row[0] != "| equation"]
    assert len(rows) > 20
    wrong, file, whole = [], "", ""
    for row in rows:
        for name in code_spans(row[2]):
            whole = whole.rpartition(".")[0] + name if name.startswith(".") else name
            if not exists(whole):
                wrong.append(whole)
        for name in code_spans(row[3]):
            path, _, test = name.partition("::")
            file = path or file
            if not (ROOT / file).exists() or (test and test not in functions_of(file)):
                wrong.append(f"{file}::{test}")
    for test in re.findall(r"`(test_\w+)`", prose("docs/equations.md")):
        if not any(test in functions_of(path) for path in ROOT.glob("tests/**/test_*.py")):
            wrong.append(test)
    assert not wrong, wrong


def test_new_names_in_the_changelog_exist():
    rows = re.findall(r"^\| `([\w.]+)` \| `([\w.]+)` \|$", text("CHANGELOG.md"), re.M)
    assert len(rows) > 20
    assert not [new for _, new in rows if new.startswith(PACKAGES) and not exists(new)]
    assert not [old for old, _ in rows if old.startswith(PACKAGES) and exists(old)]


# Pages --------------------------------------------------------------------------------------


def test_readmes_of_packages_are_short_and_show_a_picture():
    for package in ("msflow", "video_ode"):
        readme = text(f"{package}/README.md")
        assert len(readme.splitlines()) <= 150
        assert re.search(r"^!\[", readme, re.M)


def test_the_index_leads_to_every_page():
    links = re.findall(r"\]\(([^)#]+)\)", text("docs/index.md"))
    linked = {(ROOT / "docs" / link).resolve() for link in links}
    pages = {path for path in ROOT.glob("docs/**/*.md") if path.name != "index.md"}
    assert not pages - linked


def test_terms_of_the_glossary_are_sorted():
    terms = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", text("docs/glossary.md"), re.M)[2:]
    assert len(terms) > 30
    assert terms == sorted(terms, key=str.casefold)


def test_the_picture_is_that_of_its_script():
    drawn = runpy.run_path(str(ROOT / "docs" / "draw_architecture.py"))
    assert drawn["picture"]() == text("docs/architecture.svg")
    rooms = {name for row in drawn["ROOMS"] for name, _ in row}
    found = {path.stem for path in (ROOT / "common").iterdir() if path.name[0] not in "_."}
    assert rooms == found
    for *_, place in [*drawn["IMAGES"], *drawn["FRAMES"]]:
        assert (ROOT / place).exists()


def test_the_citation_is_complete():
    citation = yaml.safe_load(text("CITATION.cff"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    project = text("pyproject.toml")
    assert f'version = "{citation["version"]}"' in project
    assert f'license = "{citation["license"]}"' in project
    assert citation["authors"][0]["name"] in text("LICENSE")


CONFIGS = sorted(
    str(path.relative_to(ROOT))
    for package in ("msflow", "video_ode")
    for path in ROOT.glob(f"{package}/configs/**/*.yaml")
)


@pytest.mark.parametrize("config", CONFIGS)
def test_configurations_open_with_their_command_time_and_result(config, parse, tmp_path):
    lines = text(config).splitlines()
    head = list(itertools.takewhile(lambda line: line.startswith("#"), lines))
    assert all(len(line) <= 99 for line in lines)
    words = " ".join(line.removeprefix("#").strip().removesuffix("\\") for line in head)
    assert "Time: " in words
    assert "result" in words.lower()
    script = "\n".join(line[4:] for line in head if line.startswith("#   "))
    called = commands(script, tmp_path)
    assert any(config in words for words in called)
    for _, module, *rest in called:
        assert parse(module, rest)
