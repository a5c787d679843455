"""A model file gives back the model that was exported, and a stranger's file does nothing."""

import json
import struct
import sys

import pytest
import torch
from pytorch_lightning.cli import instantiate_module
from safetensors.torch import save

from common.errors import InputError
from common.training import checkpoints
from common.training.checkpoints import export, inspect, load_weights, read_checkpoint
from common.training.model_files import package_of, read_model_file, shipped_models
from msflow.module import MultiScaleFlowModule

FIELD = {
    "class_path": "common.nn.fields.ResidualField",
    "init_args": {"width": 4, "blocks": 1},
}
RECORD = {
    "_class_path": "msflow.module.MultiScaleFlowModule",
    "_instantiator": "pytorch_lightning.cli.instantiate_module",
    "flow": {
        "class_path": "msflow.flow.MultiScaleFlow",
        "init_args": {
            "shape": [1, 4, 4],
            "pixel_map": {"class_path": "common.flows.pixel.InkMap"},
            "pyramid": {
                "class_path": "common.flows.pyramid.UnimodularPyramid",
                "init_args": {"n_scales": 2},
            },
            "field": FIELD,
            "solver": {"method": "rk4", "step_size": 0.5},
        },
    },
    "objective": {"class_path": "msflow.objectives.FlowMatching"},
}


@pytest.fixture
def model():
    arguments = {k: v for k, v in RECORD.items() if k != "_instantiator"}
    made = instantiate_module(MultiScaleFlowModule, arguments)
    for weight in made.parameters():
        torch.nn.init.normal_(weight)
    return made.eval()


@pytest.fixture
def checkpoint(model, tmp_path):
    """Checkpoint of a small flow, in the folders of a run."""
    path = tmp_path / "small+long" / "version_0" / "checkpoints" / "best.ckpt"
    path.parent.mkdir(parents=True)
    (path.parents[1] / "config.yaml").write_text("seed_everything: 0")
    content = {"state_dict": model.state_dict(), "hyper_parameters": RECORD}
    content |= {"pytorch-lightning_version": "2.6.0", "global_step": 7, "epoch": 1}
    torch.save({**content, "optimizer_states": [{"state": torch.zeros(9)}]}, path)
    return path


def test_an_exported_model_is_the_model_of_the_checkpoint(model, checkpoint, tmp_path, capsys):
    single, half = str(tmp_path / "single.safetensors"), str(tmp_path / "half.safetensors")
    export(str(checkpoint), single, half=False)
    export(str(checkpoint), half, configuration="mine")
    for path in (single, half):
        back = MultiScaleFlowModule.load_from_checkpoint(path)
        for name, x in model.state_dict().items():
            exact = path == single or x.dim() < 2 or x.dtype != torch.float32
            torch.testing.assert_close(
                back.state_dict()[name], x if exact else x.half().float(), rtol=0, atol=0
            )
        load_weights(model, path)
        assert read_checkpoint(path)["hyper_parameters"] == RECORD
    assert read_model_file(single)["configuration"] == "small+long"
    assert read_model_file(half)["configuration"] == "mine"
    capsys.readouterr()
    inspect(half)
    told = capsys.readouterr().out
    for words in ("configuration mine", "step:        7, epoch 1", "weights only", "InkMap"):
        assert words in told


def test_numbers_beyond_half_precision_stay_single(model, checkpoint, tmp_path):
    path, content = tmp_path / "x.safetensors", torch.load(checkpoint, weights_only=True)
    name = "flow.scales.0.blocks.0.field.stem.weight"
    content["state_dict"][name][0] = 1e6
    torch.save(content, checkpoint)
    export(str(checkpoint), str(path))
    assert read_model_file(path)["state_dict"][name].dtype == torch.float32


def test_what_can_not_be_exported_is_refused(checkpoint, tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "bare.ckpt")
    with pytest.raises(InputError, match="no record from which"):
        export(str(tmp_path / "bare.ckpt"), str(tmp_path / "x.safetensors"))
    with pytest.raises(InputError, match="give a name that ends in"):
        export(str(checkpoint), str(tmp_path / "x.ckpt"))


WEIGHTS = {"w": torch.ones(3)}
EVIL = {"class_path": "payload_of_a_stranger.X"}


def with_record(text):
    return save(WEIGHTS, {"checkpoint": text})


def header(entry, size=12):
    text = json.dumps({"w": entry}).encode()
    return struct.pack("<Q", len(text)) + text + bytes(size)


STRANGE = {
    "empty": b"",
    "text": b"no weights here" * 10,
    "huge header": struct.pack("<Q", 1 << 40) + b"{}",
    "deep header": struct.pack("<Q", 200_000) + b"[" * 200_000,
    "short": with_record("{}")[:-4],
    "huge shape": header({"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 12]}),
    "outside": header({"dtype": "F32", "shape": [3], "data_offsets": [0, 1 << 40]}),
    "negative": header({"dtype": "F32", "shape": [-3], "data_offsets": [0, 12]}),
    "odd dtype": header({"dtype": "OBJECT", "shape": [3], "data_offsets": [0, 12]}),
    "weights alone": save(WEIGHTS),
    "no json": with_record("{hyper_parameters: !!python/object:os.system}"),
    "deep json": with_record("[" * 1_000_000),
    "huge number": with_record('{"epoch": %s}' % ("9" * 1_000_000)),
    "a text": with_record('"epoch"'),
    "a list": with_record('["hyper_parameters"]'),
    "record is a list": with_record('{"hyper_parameters": [1]}'),
    "class": with_record(json.dumps({"hyper_parameters": {"_class_path": EVIL["class_path"]}})),
    "optimizer": with_record(json.dumps({"hyper_parameters": {**RECORD, "optimizer": EVIL}})),
    "hidden": with_record(json.dumps({"hyper_parameters": {**RECORD, "x": json.dumps(EVIL)}})),
    "instantiator": with_record(json.dumps({"hyper_parameters": {"_instantiator": "os.system"}})),
    "version": with_record(
        json.dumps({"hyper_parameters": RECORD, "pytorch-lightning_version": ["x"]})
    ),
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_file_ends_in_one_clear_error_and_imports_nothing(name, tmp_path, monkeypatch):
    (tmp_path / "payload_of_a_stranger.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "strange.safetensors"
    path.write_bytes(STRANGE[name])
    with pytest.raises(InputError) as told:
        MultiScaleFlowModule.load_from_checkpoint(path)
    assert "strange.safetensors" in str(told.value)
    assert len(str(told.value)) < 700
    assert "payload_of_a_stranger" not in sys.modules


def test_models_that_ship_are_found_by_name(checkpoint, tmp_path, monkeypatch):
    package = tmp_path / "package"
    (package / "models").mkdir(parents=True)
    export(str(checkpoint), str(package / "models" / "tiny.safetensors"))
    assert list(shipped_models(package)) == ["tiny"]
    assert package_of(MultiScaleFlowModule).name == "msflow"
    monkeypatch.setattr(checkpoints, "package_of", lambda kind: package)
    found = MultiScaleFlowModule.pretrained("tiny")
    assert isinstance(found, MultiScaleFlowModule)
    assert not found.training
    with pytest.raises(InputError, match=r"no model teeny ships with package; give one of: tiny"):
        MultiScaleFlowModule.pretrained("teeny")
