"""Checkpoints whose hyper-parameters name what is to be imported or called."""

import copy
import functools
import json
from collections import OrderedDict

CUT = object()  # value that stands for the absence of its key


class Runs:
    """Object whose pickle calls a function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


class Shadowed:
    """Mapping whose methods are numbers, once it is unpickled."""

    def __init__(self, items):
        self.items = items

    def __reduce__(self):
        names = ("get", "items", "keys", "values", "pop", "setdefault", "update", "copy")
        return OrderedDict, (), dict.fromkeys(names, 5), None, iter(list(self.items.items()))


def put(base, value, *keys):
    """Copy of a checkpoint with another value, or without one, at the end of the keys."""
    new = copy.deepcopy(base)
    part = functools.reduce(lambda part, key: part[key], keys[:-1], new)
    if value is CUT:
        del part[keys[-1]]
    else:
        part[keys[-1]] = value
    return new


def named(base, folder):
    """Hyper-parameters that name what is to be imported or called."""
    touch = f"touch {folder}/markers/named"
    system = {"class_path": "common.training.runs.os.system", "init_args": {"command": touch}}
    load = {"f": str(folder / "second.pkl"), "weights_only": False}
    hub = {"repo_or_dir": str(folder), "model": "x", "source": "local"}
    payload = {"class_path": "payload_mod.X"}
    escaped = '{"class_path": "\\u0070ayload_mod\\u002eX"}'
    linear = {"in_features": 1, "out_features": 1, "device": payload}
    walks = {  # class path: arguments
        "os.system": {"command": touch},
        "posix.system": {"command": touch},
        "subprocess.Popen": {"args": ["touch", str(folder / "markers" / "popen")]},
        "common.training.cli.os.system": {"command": touch},
        "common.training.cli.os.popen": {"cmd": touch},
        "common.training.cli.sys.exit": {"status": 0},
        "common.training.runs.os.remove": {"path": str(folder / "victim.txt")},
        "torch.nn.modules.module.torch.load": load,
        "torch.optim.optimizer.torch.hub.load": hub,
        "torch.nn.modules.module.torch.jit.load": {"f": str(folder / "program.pt")},
        "torch.optim.swa_utils.torch.load": load,
        "torch.nn.init.zeros_": {"tensor": None},
        "common.training.cli.Namespace": {},
        "common.training.checkpoints.Path": {"args": ["victim.txt"]},
        "common.training.trust.importlib.import_module": {"name": "payload_mod"},
        "common.training.cli.run": {"data": None, "configs": "."},
        "common.training.cli.CommandLine": {"args": ["fit"]},
        "common.data.images.files.pickle.load": {"file": "second.pkl"},
        "payload_pkg.sub.X": {},
        "antigravity.fly": {},
        "this.s": {},
        "turtledemo.__main__.main": {},
        "webbrowser.open": {"url": "http://127.0.0.1:9/"},
        "urllib.request.urlopen": {"url": "http://127.0.0.1:9/"},
        "builtins.eval": {"source": "1"},
        "common": {},
        "common.": {},
        ".common.x": {},
        "common..training": {},
        "": {},
        ".": {},
        "Adam": {},
        "X": {},
        "payload_mod.X\0": {},
        "payload_mod.X\n": {},
        "torch.optim.Adam\npayload_mod.X": {},
        "torch.optim.Adam.__init__.__globals__": {},
        "torch.optim.Adam.step": {},
        "\x1b[2J\x1b]0;owned\x07.X": {},
    }
    specs = {
        "system": {**system, "class_path": "posix.system"},
        "system_walk": system,
        "torch_load_walk": {
            "class_path": "common.training.checkpoints.torch.load",
            "init_args": load,
        },
        "function_of_ours": {
            "class_path": "common.experiments.write_report",
            "init_args": {"path": str(folder / "markers" / "report.md"), "text": "x"},
        },
        "class_of_a_payload": payload,
        "main": {"class_path": "__main__.Payload"},
        "non_ascii": {"class_path": "é_payload.X"},
        "json_string": json.dumps(payload),
        "json_string_escaped": escaped,
        "yaml_flow": "{class_path: payload_mod.X}",
        "yaml_flow_escaped": '{class_path: "payload_mod\\x2eX"}',
        "yaml_block": "class_path: payload_mod.X\ninit_args: {}\n",
        "yaml_block_escaped": 'class_path: "payload_mod\\x2eX"',
        "yaml_anchor": "a: &a {class_path: payload_mod.X}\nb: *a\n",
        "yaml_python_tag": "!!python/object/apply:os.system ['touch markers/tag']",
        "yaml_document": "---\nclass_path: payload_mod.X\n...\n",
        "leading_space": " \n " + json.dumps(payload),
        "tabs": "\t" + json.dumps(payload, indent="\t"),
        "byte_order_mark": "\ufeff" + json.dumps(payload),
        "file_yaml": "sub.yaml",
        "file_json": str(folder / "sub.json"),
        "file_scheme": f"file://{folder}/sub.yaml",
        "file_http": "http://127.0.0.1:9/sub.yaml",
        "file_checkpoint": str(folder / "second.pkl"),
        "in_list": [payload],
        "in_tuple": (payload, (escaped,)),
        "in_key": {escaped: 1, "payload_mod.X": 2},
        "nested": {"class_path": "torch.nn.Linear", "init_args": linear},
        "in_dict_kwargs": {"class_path": "torch.nn.Identity", "dict_kwargs": {"x": payload}},
        "path_is_a_number": {"class_path": 3},
        "path_is_a_list": {"class_path": ["payload_mod.X"]},
        "path_is_none": {"class_path": None},
        "path_is_bytes": {"class_path": b"payload_mod.X"},
        "path_is_a_spec": {"class_path": payload},
        "init_args_is_text": {"class_path": "torch.nn.Identity", "init_args": escaped},
        "bare_init_args": {"init_args": payload},
    }
    optimizer = ("hyper_parameters", "optimizer")

    def carried(spec):
        """An argument of any type, of a trusted class: jsonargparse makes what it names."""
        carrier = {"class_path": "torch.optim.Optimizer", "init_args": {"defaults": {"x": spec}}}
        return put(base, carrier, *optimizer)

    cases = {}
    for name, args in walks.items():
        word = "".join(c if c.isalnum() or c in "._" else "~" for c in name) or "nothing"
        cases[f"names_walk_{word}"] = carried({"class_path": name, "init_args": args})
        cases[f"names_direct_{word}"] = put(
            base, {"class_path": name, "init_args": args}, *optimizer
        )
    for name, spec in specs.items():
        cases[f"names_{name}"] = carried(spec)
        cases[f"names_direct_{name}"] = put(base, spec, *optimizer)
    other = carried(system)["hyper_parameters"]["optimizer"]
    bare = put(base, CUT, *optimizer)
    lists = {
        "_class_path": (
            *("payload_mod.X", "common.training.system.System", "torch.nn.Linear"),
            *("common.training.cli.os.system", 3, "", ["x"], None),
        ),
        "_instantiator": ("os.system", "payload_mod.run", "common.training.cli.run", 3, ["x"]),
    }
    for key, values in lists.items():
        for i, value in enumerate(values):
            cases[f"names_{key}_{i}"] = put(base, value, "hyper_parameters", key)
    for key in ("hparams", "module_arguments"):
        cases[f"names_in_{key}"] = {**bare, key: {"optimizer": other}}
        cases[f"names_{key}_is_text"] = {**base, key: "payload_mod.X"}
    for i, value in enumerate(("optimizer", "payload_mod.X", 3, ["x"])):
        cases[f"names_hparams_name_{i}"] = {**base, "hparams_name": value}
        cases[f"names_hparams_type_{i}"] = {**base, "hparams_type": value}
    network = {"class_path": "common.metrics.video.I3DFeatures"}
    network["init_args"] = {"weights": str(folder / "program.pt")}
    fid = {"class_path": "common.metrics.frechet.InceptionFeatures"}
    fid["init_args"] = {"weights": str(folder / "second.pkl")}
    for name, value in {"i3d": network, "fid": fid, "linear": specs["nested"]}.items():
        cases[f"names_{name}"] = put(base, value, "hyper_parameters", "network")
    trust = {"trusted": ["payload_mod"], "weights_only": False, "hparams_file": "sub.yaml"}
    trust |= {"strict": False, "checkpoint_path": str(folder / "second.pkl")}
    evil = carried(payload)
    evil["hyper_parameters"].update(trust)
    cases["names_trust_in_record"] = evil
    cases["names_trust_in_checkpoint"] = {**carried(payload), **trust}
    cases["names_in_datamodule"] = {**base, "datamodule_hyper_parameters": {"root": system}}
    return cases
