"""What `from msflow import …` and `from video_ode import …` give, and the models that ship."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from pytorch_lightning.cli import instantiate_module
from torch import nn

import msflow.cli
import video_ode.cli
from common.training.checkpoints import read_checkpoint
from common.training.system import System
from msflow import MultiScaleFlow, MultiScaleFlowModule
from video_ode import SRVP, LatentODE, VideoPredictionModule

ROOT = Path(__file__).parents[1]
SHIPPED = sorted(path.relative_to(ROOT) for path in ROOT.glob("*/models/*.safetensors"))
MOST_BYTES = 5_000_000


@pytest.mark.parametrize("package", ["msflow", "video_ode"])
def test_all_exported_names_load_and_are_known_to_type_checkers(package):
    module = importlib.import_module(package)
    names = dir(module)
    assert all(getattr(module, name).__name__ == name for name in names)
    imports = [
        alias.asname
        for node in ast.walk(ast.parse((ROOT / package / "__init__.py").read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    assert sorted(filter(None, imports)) == names
    with pytest.raises(AttributeError, match="has no attribute 'Flow'"):
        module.Flow  # noqa: B018


def test_the_packages_load_without_the_libraries():
    code = "import sys, msflow, video_ode; assert not {'torch', 'numpy'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


PRESETS = {
    "msflow/digits.yaml": lambda: MultiScaleFlow.small((1, 28, 28)),
    "msflow/photos.yaml": lambda: MultiScaleFlow.small((3, 32, 32)),
    "video_ode/latent_ode/latent_ode_digits.yaml": lambda: LatentODE.small((1, 32, 32)),
    "video_ode/srvp/srvp_digits.yaml": lambda: SRVP.small((1, 32, 32)),
}


def settings(model):
    """Shapes of the weights, and every plain setting of every module, by name."""
    shapes = {name: tuple(x.shape) for name, x in model.state_dict().items()}
    own = {
        f"{name}.{key}": described(value)
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if not (key.startswith("_") or isinstance(value, torch.Tensor | nn.Module))
    }
    return shapes, own


def described(value):
    """Text that is equal for equal settings, whatever objects hold them."""
    value = list(value) if isinstance(value, tuple) else value
    inner = vars(value) if hasattr(value, "__dict__") and not callable(value) else {}
    text = f"{type(value).__name__} {inner}" if inner else repr(value)
    return re.sub(r" at 0x\w+", "", text)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_the_models_of_the_shipped_configurations(name):
    package, _, file = name.partition("/")
    config = yaml.safe_load((ROOT / package / "configs" / file).read_text())["model"]
    record = {"_class_path": config["class_path"], **config["init_args"]}
    made = instantiate_module(System, record)
    model = made.flow if package == "msflow" else made.predictor
    (shapes, own), (wanted_shapes, wanted) = settings(PRESETS[name]()), settings(model)
    assert shapes == wanted_shapes
    assert own == wanted


@pytest.mark.parametrize("side", [1, 7, 10, 28, 64, 100])
def test_the_small_flow_fits_images_of_any_size(side):
    flow = MultiScaleFlow.small((3, side, 2 * side))
    assert flow.dims_of(len(flow.scales) - 1) == flow.dims


@pytest.mark.parametrize("path", SHIPPED, ids=str)
def test_shipped_models_load_in_one_line_and_name_their_configuration(path):
    package = path.parts[0]
    kind = {"msflow": MultiScaleFlowModule, "video_ode": VideoPredictionModule}[package]
    model = kind.pretrained(path.stem)
    assert not model.training
    assert all(bool(p.isfinite().all()) for p in model.parameters())
    name = read_checkpoint(ROOT / path)["configuration"]
    (config,) = ROOT.glob(f"{package}/configs/**/{name}.yaml")
    assert config.is_file()


def test_shipped_models_are_small():
    assert sum((ROOT / path).stat().st_size for path in SHIPPED) <= MOST_BYTES


@pytest.mark.parametrize("path", SHIPPED, ids=str)
def test_shipped_models_work_from_any_folder_without_a_configuration(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--ckpt_path", path.stem]
    if path.parts[0] == "msflow":
        msflow.cli.main(["sample", *words, "--n", "2"])
        run = tmp_path / "lightning_logs/msflow/digits-sample/version_0"
        assert (run / "samples_temperature1.png").is_file()
        return
    video_ode.cli.main(["predict", *words, "--n", "1", "--formats", "[png]", "--data.n_test", "2"])
    runs = tmp_path / "lightning_logs" / "video_ode" / f"{path.stem}-predict" / "version_0"
    assert len(list(runs.glob("predictions/*.png"))) == 1
