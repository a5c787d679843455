"""Checkpoint files from a stranger, each a way to attack or to break what loads it.

The law: whatever is done with such a file, no tripwire is touched, and the file either loads or
ends in one clear error.
"""

import builtins
import functools
import io
import json
import os
import pickle
import random
import shutil
import struct
import subprocess
import tarfile
import webbrowser
import zipfile
import zlib

import numpy as np
import torch

from tests.evil_names import Runs, named, put
from tests.evil_records import callbacks, keys, loops, optimizers, published, records, weights

IMPORTED = (
    "from pathlib import Path\nPath({marker!r}).touch()\nclass X: pass\ndef run(*_, **__): pass\n"
)


def saved(content, **options):
    torch.save(content, file := io.BytesIO(), **options)
    return file.getvalue()


def repacked(file, edit):
    """The zip file with entries that a function makes of their short names and contents."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(file)) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = edit(name.partition("/")[2], old.read(name))
            if content is not None:
                new.writestr(name, content)
    return target.getvalue()


def evil_checkpoints(good, folder):
    """Writes the files, and all that they refer to, into a scratch folder.

    Args:
        good: Checkpoint of this project, at the end of training.
        folder: Scratch folder, which becomes the working folder and a folder of modules.

    Returns:
        Argument for a loader, most often the path of a file, by the name of the case.
    """
    base = torch.load(good, weights_only=True)
    files, markers = folder / "files", folder / "markers"
    files.mkdir(parents=True)
    (folder / "payload_pkg").mkdir()
    for name in ("payload_mod", "é_payload", "payload_pkg/__init__", "payload_pkg/sub"):
        marker = str(markers / name.replace("/", "."))
        (folder / f"{name}.py").write_text(IMPORTED.format(marker=marker))
    spec = {"class_path": "payload_mod.X"}
    (folder / "sub.yaml").write_text("class_path: payload_mod.X\n")
    (folder / "sub.json").write_text(json.dumps(spec))
    torch.save({"x": Runs(os.system, f"touch {markers}/second_pickle")}, folder / "second.pkl")
    program(folder / "program.pt", markers / "program")
    groups = (
        pickles,
        broken,
        named,
        records,
        weights,
        keys,
        callbacks,
        optimizers,
        loops,
        published,
    )
    cases = {}
    for content in (group(base, folder) for group in groups):
        for name, made in content.items():
            path = files / f"{name}.ckpt"
            path.write_bytes(made if isinstance(made, bytes) else saved(made))
            assert name not in cases, name
            cases[name] = str(path)
    for name, before in {"damaged": "pickle_in_extra", "missing": "pickle_legacy_format"}.items():
        path = files / f"previous_of_{name}.ckpt"
        shutil.copy(cases[before], f"{path}.previous")
        if name == "damaged":
            shutil.copy(cases["truncated_50"], path)
        cases[f"previous_of_{name}"] = str(path)
    return {**cases, **odd_paths(good, folder)}


def program(path, marker):
    """Writes a TorchScript program that makes a file as soon as it is loaded."""

    class Program(torch.nn.Module):
        def __init__(self, path):
            super().__init__()
            self.path, self.mark = path, torch.zeros(1)

        @torch.jit.export
        def __getstate__(self):
            return (self.path, self.training)

        @torch.jit.export
        def __setstate__(self, state: tuple[str, bool]):
            self.path, self.training = state[0], state[1]
            self.mark = torch.from_file(state[0], True, 1)

        def forward(self, x: torch.Tensor):
            return x

    torch.jit.script(Program(str(marker))).save(str(path))


def pickles(base, folder):
    """Code in a pickle, in every place and every format."""

    def runs(name):
        return Runs(os.system, f"touch {folder}/markers/{name}")

    first = next(iter(base["state_dict"]))
    places = {
        "extra": ("extra",),
        "weight": ("state_dict", first),
        "state_dict": ("state_dict",),
        "hyper_parameter": ("hyper_parameters", "optimizer"),
        "hyper_parameters": ("hyper_parameters",),
        "callback": ("callbacks", next(iter(base["callbacks"]))),
        "optimizer_state": ("optimizer_states", 0),
        "loop": ("loops", "fit_loop"),
        "version": ("pytorch-lightning_version",),
    }
    marker, second = str(folder / "markers" / "pickle"), str(folder / "second.pkl")
    calls = {
        "open": Runs(open, marker, "w"),
        "exec": Runs(exec, f"open({marker!r}, 'w')"),
        "eval": Runs(eval, f"open({marker!r}, 'w')"),
        "popen": Runs(subprocess.Popen, ["touch", marker]),
        "remove": Runs(os.remove, str(folder / "victim.txt")),
        "rmtree": Runs(shutil.rmtree, str(folder / "victims")),
        "browser": Runs(webbrowser.open, "http://127.0.0.1:9/"),
        "getattr": Runs(getattr, dict, "fromkeys"),
        "import": Runs(builtins.__import__, "payload_mod"),
        "torch_load": Runs(functools.partial(torch.load, weights_only=False), second),
        "jit_load": Runs(torch.jit.load, str(folder / "program.pt")),
    }
    evil = {**base, "extra": runs("pickle_format")}
    array = np.array([runs("pickle_numpy")], dtype=object)
    np.save(numpy := io.BytesIO(), array, allow_pickle=True)
    np.savez(npz := io.BytesIO(), state_dict=array)
    found = b"cpayload_mod\nX\n."
    tarred = io.BytesIO()
    with tarfile.open(fileobj=tarred, mode="w") as tar:
        sys_info = {"protocol_version": 1000, "little_endian": True, "type_sizes": {"int": 4}}
        parts = {"sys_info": pickle.dumps(sys_info, 2), "pickle": pickle.dumps(evil["extra"], 2)}
        zero = pickle.dumps(0, 2)
        parts |= {"storages": zero + pickle.dumps([], 2), "tensors": zero}
        for name, content in {**parts, "../victim.txt": b"dead"}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    traversal = io.BytesIO(saved(base))
    with zipfile.ZipFile(traversal, "a") as archive:
        for name in ("../victim.txt", "archive/../../victim.txt", f"{folder}/victim.txt"):
            archive.writestr(name, "dead")
    nested = io.BytesIO()
    with zipfile.ZipFile(nested, "w") as archive:
        archive.writestr("good.ckpt", saved(evil))
    return {
        **{f"pickle_in_{name}": put(base, runs(name), *at) for name, at in places.items()},
        **{f"pickle_{name}": {**base, "extra": call} for name, call in calls.items()},
        "pickle_alone": saved(runs("pickle_alone")),
        "pickle_legacy_format": saved(evil, _use_new_zipfile_serialization=False),
        "pickle_plain": pickle.dumps(evil),
        "pickle_protocol_0": pickle.dumps({"state_dict": {}, "x": evil["extra"]}, 0),
        "pickle_protocol_5": saved(evil, pickle_protocol=5),
        "pickle_of_a_global": pickle.dumps({"state_dict": {}})[:-1] + found,
        "pickle_of_a_global_in_zip": repacked(
            saved(base), lambda n, c: found if n == "data.pkl" else c
        ),
        "pickle_numpy": numpy.getvalue(),
        "pickle_numpy_zip": npz.getvalue(),
        "pickle_numpy_in_torch": {**base, "extra": array},
        "pickle_torchscript": (folder / "program.pt").read_bytes(),
        "pickle_tar": tarred.getvalue(),
        "zip_traversal": traversal.getvalue(),
        "zip_nested": nested.getvalue(),
    }


@functools.cache
def bombs(size=9 << 28):
    """Small files that ask for more than 2 GB."""
    block = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = bytes(1 << 20)
    deflated = block.compress(zeros) + block.flush(zlib.Z_FULL_FLUSH)

    class Repeating:
        compress = staticmethod(lambda data: deflated)
        flush = staticmethod(lambda: b"\x03\x00")

    def bomb(entry):
        small, target = saved({"state_dict": {"x": torch.zeros(4)}}), io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(small)) as old, zipfile.ZipFile(target, "w") as new:
            for name in old.namelist():
                info = zipfile.ZipInfo(name)
                if not name.endswith(entry):
                    new.writestr(info, old.read(name))
                    continue
                info.compress_type = zipfile.ZIP_DEFLATED
                with new.open(info, "w", force_zip64=True) as file:
                    file._compressor = Repeating
                    for _ in range(size >> 20):
                        file.write(zeros)
        return target.getvalue()

    return {
        "bomb_zip_weights": bomb("data/0"),
        "bomb_zip_pickle": bomb("data.pkl"),
        "bomb_bytearray": saved({"state_dict": {}, "x": Runs(bytearray, size)}),
        "bomb_tensor": saved({"state_dict": {"x": Runs(torch.Tensor, size)}}),
        "bomb_size": saved({"state_dict": {"x": Runs(torch.Tensor, 1 << 50)}}),
    }


def broken(base, folder):
    """Files that are damaged, or of another format."""
    good, shaken = saved(base), {}
    for seed in range(8):
        chance = random.Random(seed)

        def flip(name, content, chance=chance):
            content = bytearray(content)
            for _ in range(4 if name == "data.pkl" else 0):
                content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            return bytes(content)

        shaken[f"flipped_pickle_{seed}"] = repacked(good, flip)
    middle, wrong = bytearray(good), bytearray(good)
    middle[len(good) // 2 : len(good) // 2 + 64] = bytes(x ^ 255 for x in good[:64])
    wrong[-22:-10] = bytes(12)

    def entry(suffix, content):
        change = content if callable(content) else lambda old: content
        return repacked(good, lambda name, old: change(old) if name == suffix else old)

    deep = {"list": (b"]" * 20000, b"a" * 19999), "dict": (b"}K\x00" * 20000 + b"N", b"s" * 20000)}
    deep["mixed"] = (b"]}K\x00" * 10000 + b"N", b"sa" * 10000)
    shown = saved(put(base, "@@DEEP@@", "hyper_parameters", "optimizer"))
    word = b"X" + struct.pack("<I", 8) + b"@@DEEP@@"
    twice = io.BytesIO(good)
    with zipfile.ZipFile(twice, "a") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"state_dict": 3}, 2))
    return {
        **{f"truncated_{n}": good[: len(good) * n // 100] for n in (10, 50, 90, 99)},
        **shaken,
        **bombs(),
        **{
            f"deep_{kind}": repacked(
                shown,
                lambda n, c, ops=ops: c.replace(word, b"".join(ops)) if n == "data.pkl" else c,
            )
            for kind, ops in deep.items()
        },
        "flipped_middle": bytes(middle),
        "flipped_directory": bytes(wrong),
        "empty": b"",
        "text": b"This is no checkpoint.\n" * 100,
        "yaml": b"model:\n  class_path: payload_mod.X\n",
        "png": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
        "gzip": zlib.compress(good),
        "safetensors": struct.pack("<Q", 1 << 40) + b'{"x":{"dtype":"F32"}}',
        "zip_empty": b"PK\x05\x06" + bytes(18),
        "zip_storage_short": entry("data/0", lambda old: old[: len(old) // 2]),
        "zip_storage_missing": entry("data/0", None),
        "zip_without_pickle": entry("data.pkl", None),
        "zip_pickle_empty": entry("data.pkl", b""),
        "zip_byteorder": entry("byteorder", b"evil"),
        "zip_version": entry(".format_version", b"99999999999999999999"),
        "zip_twice": twice.getvalue(),
    }


def odd_paths(good, folder):
    """Paths that name no regular file."""
    loop = folder / "loop.ckpt"
    loop.symlink_to(loop)
    return {
        "path_http": "http://127.0.0.1:9/evil.ckpt",
        "path_https": "https://127.0.0.1:9/evil.ckpt",
        "path_file_scheme": f"file://{good}",
        "path_s3": "s3://bucket/evil.ckpt",
        "path_hub": "hub:owner/evil",
        "path_hf": "hf://owner/evil.ckpt",
        "path_registry": "registry:evil",
        "path_chain": f"simplecache::file://{good}",
        "path_zip_chain": f"zip://x::{good}",
        "path_folder": str(folder),
        "path_null": "/dev/null",
        "path_zero": "/dev/zero",
        "path_nul_byte": f"{good}\0.ckpt",
        "path_empty": "",
        "path_blank": " ",
        "path_long": "/" + "a" * 5000,
        "path_loop": str(loop),
        "path_missing": str(folder / "missing.ckpt"),
        "path_through_a_file": f"{good}/x.ckpt",
        "path_shell": f"$(touch {folder}/markers/shell)",
        "path_control": "\x1b]0;owned\x07\n\n\n\n\n\n\n\n.ckpt",
    }
