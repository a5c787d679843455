"""Contents of checkpoints from a stranger: what they name, hold and claim."""

import copy
import math
import os
from collections import Counter, OrderedDict
from functools import partial

import torch

from common.nn.mlp import MLPField
from tests.evil_names import Runs, Shadowed, put
from video_ode.dynamics.residual import ResidualEuler
from video_ode.frames.dcgan import DCGANDecoder, DCGANEncoder
from video_ode.srvp.convert import to_published
from video_ode.srvp.model import SRVP


def records(base, folder):
    """Values that are no plain data, or much data, or turn in circles."""
    circle, ring = [], {}
    circle.append(circle)
    ring["x"] = ring
    laughs = "\n".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else 'x'}]" for i in range(12)
    )
    values = {
        "circle_of_lists": circle,
        "circle_of_dicts": ring,
        "yaml_laughs": laughs,
        "huge_letters": "a" * 10_000_000,
        "huge_dotted": "payload_mod." * 900_000,
        "huge_yaml": "[a, " * 2_500_000,
        "huge_json": '{"class_path":' * 700_000,
        "huge_number": "9" * 5_000_000,
        "integer_of_a_million_digits": 10**1_000_000,
        "bytes": b"\0\xff payload_mod.X",
        "surrogate": "\ud800.payload_mod.X",
        "nan": math.nan,
        "inf": -math.inf,
        "negative": -(1 << 70),
        "size": torch.Size((1, 2)),
        "dtype": torch.float64,
        "device": torch.device("cpu"),
        "tensor": torch.zeros(3),
        "ordered": OrderedDict(class_path="torch.optim.Adam"),
        "counter": Counter("class_path"),
        "set": {"payload_mod.X"},
        "complex": 1j,
        "true": True,
        "list": [],
        "text": "",
    }
    cases = {
        f"record_{n}": put(base, v, "hyper_parameters", "optimizer") for n, v in values.items()
    }
    for name in ("circle_of_dicts", "bytes", "nan", "size", "tensor", "list", "text", "huge_yaml"):
        cases[f"record_is_{name}"] = {**base, "hyper_parameters": values[name]}
    arguments = put(base, 1, "hyper_parameters", "payload_mod.X")
    arguments["hyper_parameters"] |= {"self": 1, 3: 4, None: 5, ("a",): 6, "a" * 1_000_000: 7}
    return cases | {
        "record_shadowed": {**base, "hyper_parameters": Shadowed(base["hyper_parameters"])},
        "record_odd_keys": arguments,
        "record_huge_key": put(base, 1, "hyper_parameters", "a.b" * 3_000_000),
    }


class Rebuilt:
    """Tensor of any size and stride, pickled with the storage of another one."""

    def __init__(self, tensor, offset, size, stride):
        self.arguments = tensor.storage(), offset, size, stride, False, OrderedDict()

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, self.arguments


def weights(base, folder):
    """Weights of other kinds, and state dictionaries that are none."""
    state = base["state_dict"]
    name, x = next((n, w) for n, w in state.items() if w.ndim > 1)
    shape, one = tuple(x.shape), torch.zeros(1)
    ones = tuple(1 for _ in shape)
    single = {
        "meta": torch.empty(shape, device="meta"),
        "sparse": torch.zeros(shape).to_sparse(),
        "quantized": torch.quantize_per_tensor(x.float(), 0.1, 0, torch.qint8),
        "nested": torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
        "complex": x.to(torch.complex64),
        "integer": x.to(torch.int64),
        "boolean": x.bool(),
        "half": x.half(),
        "float8": x.to(torch.float8_e4m3fn),
        "nan": torch.full(shape, math.nan),
        "inf": torch.full(shape, -math.inf),
        "parameter": torch.nn.Parameter(x),
        "stride_0": torch.zeros(ones).expand(shape),
        "huge_stride_0": torch.zeros(1, 1).expand(1 << 20, 1 << 20),
        "stride_out_of_bounds": Rebuilt(one, 0, shape, tuple(1 << 20 for _ in shape)),
        "offset_out_of_bounds": Rebuilt(one, 1 << 30, shape, ones),
        "negative_offset": Rebuilt(one, -64, (1,), (1,)),
        "negative_stride": Rebuilt(torch.zeros(99), 50, (9,), (-4,)),
        "negative_size": Rebuilt(one, 0, (-1,), (1,)),
        "size_is_text": Rebuilt(one, 0, ("a",), (1,)),
        "scalar": torch.tensor(1.0),
        "no_elements": torch.zeros(0),
        "other_shape": torch.zeros(*shape, 2),
        "number": 3.0,
        "none": None,
        "text": "payload_mod.X",
        "list": x.tolist(),
        "dict": {"class_path": "payload_mod.X"},
    }
    cases = {f"weight_{kind}": put(base, w, "state_dict", name) for kind, w in single.items()}
    versions = copy.copy(state)
    modules = {n.rpartition(".")[0] for n in state}
    versions._metadata = {m: {"version": "x", "assign_to_params_buffers": 3} for m in modules}
    whole = {
        "shadowed": Shadowed(state),
        "metadata": versions,
        "metadata_list": OrderedDict(state),
        "empty": {},
        "list": list(state.values()),
        "none": None,
        "text": "x",
        "number": 3,
        "tensor": x,
        "integer_keys": dict(enumerate(state.values())),
        "odd_keys": {**state, 3: x, None: x, ("a",): x},
        "dotted_keys": {**state, "__class__": x, "a.__init__.b": x, "../../victim.txt": x},
        "long_keys": {**state, "a" * 10_000_000: x},
        "control_keys": {**state, "\x1b]0;owned\x07\n\n\n\n\n\n\n": x},
        "many_keys": {**state, **{f"w{i}": one for i in range(20_000)}},
        "one_missing": {n: w for n, w in state.items() if n != name},
        "renamed": {f"module.{n}": w for n, w in state.items()},
        "other_model": torch.nn.Linear(2, 3).state_dict(),
        "all_nan": {n: w * math.nan if w.is_floating_point() else w for n, w in state.items()},
        "all_complex": {n: w.to(torch.complex64) for n, w in state.items()},
        "all_one_storage": {n: one[0].to(w.dtype).expand(w.shape) for n, w in state.items()},
    }
    whole["metadata_list"]._metadata = ["x"]
    cases |= {f"weights_{kind}": {**base, "state_dict": s} for kind, s in whole.items()}
    return cases | {
        "top_list": [base],
        "top_none": None,
        "top_tensor": x,
        "top_weights_alone": state,
        "top_ordered": OrderedDict(base),
        "top_empty": {},
        "top_text_keys_missing": {3: 4},
        "top_shadowed": Shadowed(base),
    }


def keys(base, folder):
    """Checkpoints without one of the keys, or with one of another type."""
    cases = {}
    odd = {"none": None, "number": 3, "text": "payload_mod.X", "list": [1], "dict": {"x": {}}}
    odd |= {"empty": {}, "float": math.nan, "negative": -7}
    for key in (*base, "hyper_parameters"):
        cases[f"without_{key}"] = {k: v for k, v in base.items() if k != key}
        for kind, value in odd.items():
            cases[f"{key}_is_{kind}"] = {**base, key: value}
    versions = ("999.0", "0.0.1", "0.7.6", "1.5.0", "abc", "", "1.0\n\x1b[2J", "9" * 100_000)
    for i, version in enumerate((*versions, (2, 6), b"2.6.6", 2.6)):
        cases[f"version_{i}"] = {**base, "pytorch-lightning_version": version}
    old = {"checkpoint_callback_best_model_path": f"{folder}/victim.txt", "global_step": "x"}
    old |= {
        "early_stop_callback_wait": "x",
        "early_stop_callback_patience": {},
        "amp_scaling_state": 3,
    }
    cases["version_migrated"] = {**base, **old, "pytorch-lightning_version": "0.9.0"}
    cases["precision_state"] = {**base, "native_amp_scaling_state": {"x": 1}, "MixedPrecision": 3}
    return cases


def callbacks(base, folder):
    """Records of callbacks that lie: above all, about the files that are to be replaced."""
    cases, callbacks = {}, base["callbacks"]
    own = next(c["dirpath"] for c in callbacks.values() if "dirpath" in c)
    up = os.path.relpath(folder, own)
    targets = {
        "parents": f"{own}/{up}/victim.ckpt",
        "text": f"{own}/{up}/victim.txt",
        "absolute": f"{folder}/victim.ckpt",
        "relative": "victim.ckpt",
        "folder": f"{own}/{up}/victims",
        "inside": f"{own}/notes.txt",
        "own_folder": f"{own}/.",
        "scheme": f"file://{folder}/victim.ckpt",
        "remote": "http://127.0.0.1:9/victim.ckpt",
        "null": f"{own}/a\0b.ckpt",
        "long": f"{own}/{'a' * 5000}.ckpt",
        "home": "~/victim.ckpt",
        "number": 3,
        "none": None,
        "list": [f"{folder}/victim.ckpt"],
    }
    for name, target in targets.items():
        cases[f"callbacks_victim_{name}"] = _aimed(base, target, own)
        cases[f"callbacks_victim_{name}_dirpath"] = _aimed(base, target, f"{own}/{up}")
    odd = {"none": None, "number": 3, "list": [], "empty": {}, "text": "x", "dict": {"x": 1}}
    short = {key: key.partition("{")[0].lower() for key in callbacks}
    for key, state in callbacks.items():
        for kind, value in odd.items():
            cases[f"callback_{short[key]}_is_{kind}"] = put(base, value, "callbacks", key)
        for part in state:
            for kind in ("none", "number", "dict"):
                changed = put(base, odd[kind], "callbacks", key, part)
                cases[f"callback_{short[key]}_{part}_is_{kind}"] = changed
    cases["callbacks_unknown"] = put(base, {"x": 1}, "callbacks", "payload_mod.X{'a': 1}")
    cases["callbacks_odd_keys"] = {**base, "callbacks": {**callbacks, 3: {}, None: None}}
    cases["random_torch_short"] = put(base, torch.zeros(3), "callbacks", "RandomState", "torch")
    for i, python in enumerate(([3, [1] * 625, None], [3, [1 << 90] * 625, "x"], ["x", [], 0])):
        cases[f"random_python_{i}"] = put(base, python, "callbacks", "RandomState", "python")
    return cases


def optimizers(base, folder):
    """States of optimisers and schedules that don't fit."""
    cases, adam = {}, base["optimizer_states"][0]
    group = adam["param_groups"][0]

    def filled(value):
        return {k: dict.fromkeys(state, value) for k, state in adam["state"].items()}

    huge = torch.zeros(1, 1).expand(1 << 20, 1 << 20)
    groups = {
        "text_rate": {"lr": "x"},
        "nan_rate": {"lr": math.nan},
        "lost_parameters": {"params": [99]},
        "no_parameters": {"params": None},
        "flags": {"fused": True, "capturable": True},
        "betas": {"betas": 3},
        "hidden": {"__class__": "x", "step": 3},
    }
    states = {
        "of_sgd": {"state": {}, "param_groups": [{"params": group["params"], "lr": 1.0}]},
        "without_groups": {"state": {}},
        "two_groups": {**adam, "param_groups": [group, group]},
        "other_shapes": {**adam, "state": filled(torch.zeros(7))},
        "huge_stride_0": {**adam, "state": filled(huge)},
        "text": {**adam, "state": filled("x")},
        "state_is_list": {**adam, "state": [1]},
        "state_is_empty": {**adam, "state": {}},
        "odd_state_keys": {**adam, "state": {"x": 3, None: 4, **adam["state"]}},
        **{k: {**adam, "param_groups": [{**group, **g}]} for k, g in groups.items()},
    }
    for name, state in states.items():
        cases[f"optimizer_{name}"] = {**base, "optimizer_states": [state]}
    cases["optimizer_none_at_all"] = {**base, "optimizer_states": []}
    cases["optimizer_twice"] = {**base, "optimizer_states": [adam, adam]}
    rates = {"step": 5, "get_lr": 5, "optimizer": None, "base_lrs": "x", "last_epoch": "x"}
    rates |= {"lr_lambdas": [{"x": 1}], "_step_count": None, "load_state_dict": 3}
    for key, value in rates.items():
        cases[f"schedule_{key}"] = put(base, value, "lr_schedulers", 0, key)
    cases["schedule_none_at_all"] = {**base, "lr_schedulers": []}
    return cases


def loops(base, folder):
    """Records of the progress of training that lie."""
    cases, loop = {}, ("loops", "fit_loop")
    odd = {"none": None, "number": 3, "dict": {"x": 1}}
    for key in base["loops"]["fit_loop"]:
        for kind in ("none", "number", "dict"):
            cases[f"loop_{key}_is_{kind}"] = put(base, odd[kind], *loop, key)
    current = (*loop, "epoch_progress", "current")
    for kind, value in {"far": 10**12, "negative": -5, "text": "x"}.items():
        for key in ("processed", "completed", "ready"):
            cases[f"loop_epoch_{key}_{kind}"] = put(base, value, *current, key)
    loader = (*loop, "state_dict", "combined_loader")
    for key in base["loops"]["fit_loop"]["state_dict"]["combined_loader"][0]:
        for kind, value in {"far": 10**9, "text": "x", "dict": {"x": 1}}.items():
            cases[f"loader_{key}_{kind}"] = put(base, value, *loader, 0, key)
    cases["loader_none"] = put(base, [None], *loader)
    cases["loader_three"] = put(base, [{}, {}, {}], *loader)
    return cases


def _aimed(base, target, dirpath):
    """Checkpoint whose records of files all name a target, as one that is to be replaced."""
    new = copy.deepcopy(base)
    for key, record in new["callbacks"].items():
        if "best_model_path" in record:
            worst = torch.tensor(-math.inf if "'max'" in key else math.inf)
            names = ("best_model_path", "kth_best_model_path", "last_model_path")
            record |= dict.fromkeys(names, target)
            best = {} if isinstance(target, list) else {target: worst}
            record |= {"best_k_models": best, "best_model_score": worst, "kth_value": worst}
            record["dirpath"] = dirpath
    return new


def published(base, folder):
    """Files in the format that the authors of SRVP published."""
    one = torch.zeros(1, 1)
    encoder = DCGANEncoder((1, 64, 64), width=2, code_size=4)
    assert encoder.code_size == 4
    model = SRVP(
        (1, 64, 64),
        partial(DCGANEncoder, width=2, code_size=4),
        partial(DCGANDecoder, width=2),
        partial(ResidualEuler, field=partial(MLPField, width=4, layers=4)),
        y_size=3,
        z_size=2,
        n_inference=2,
        hidden=4,
        prior_width=4,
    )
    good = to_published(model.state_dict())
    lies = {
        "huge_field": ("dynamics.module.0.0.weight", one.expand(50_000, 50_000)),
        "huge_code": ("w_proj.0.weight", one.expand(1 << 20, 1 << 20)),
        "huge_state": ("w_inf.0.weight", one.expand(1 << 20, 4)),
        "no_channels": ("encoder.conv.0.0.weight", torch.zeros(0, 0, 4, 4)),
        "scalar": ("w_proj.0.weight", torch.tensor(1.0)),
        "vector": ("encoder.conv.0.0.weight", torch.zeros(3)),
        "no_code": ("w_proj.0.weight", torch.zeros(0, 0)),
        "text": ("q_z.weight", "payload_mod.X"),
        "none": ("q_z.weight", None),
        "complex": ("q_z.weight", good["q_z.weight"].to(torch.complex64)),
        "other_shape": ("q_z.weight", torch.zeros(4, 5)),
        "meta": ("q_z.bias", good["q_z.bias"].to("meta")),
        "integer_key": (3, one),
        "extra": ("a.__class__", one),
    }
    cases = {f"published_{kind}": {**good, name: w} for kind, (name, w) in lies.items()}
    missing = (
        "q_z.weight",
        "w_proj.0.weight",
        "dynamics.module.0.0.weight",
        "decoder.conv.0.0.weight",
    )
    for i, name in enumerate(missing):
        cases[f"published_without_{i}"] = {n: w for n, w in good.items() if n != name}
    evil = {**good, "x": Runs(os.system, f"touch {folder}/markers/published")}
    return {"published_good": good, "published_pickle": evil, **cases}
