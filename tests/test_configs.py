"""Every configuration that ships takes a step through the real command line."""

import pickle
import re
import tomllib
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from tests.common.data.mixed_images import write_mixed
from tests.common.data.small_files import taxi, write_taxi

ROOT = Path(__file__).parents[1]
EVERY = sorted(path.relative_to(ROOT) for path in ROOT.glob("*/configs/**/*.yaml"))
CONFIGS = [path for path in EVERY if path.parent.name != "ablations"]
ABLATIONS = [path for path in EVERY if path.parent.name == "ablations"]
PHOTOS = "EmbeddedPhotos"
CLIPS = [
    *("--data", "EmbeddedClips"),
    *("--data.n_frames", "12", "--data.n_eval_frames", "16"),
]
UCF101 = ["--data", "EmbeddedClips", "--data.n_frames", "16", "--data.n_eval_frames", "16"]
# The published network takes a minute for a step on a CPU.
SMALL_TGANV2 = [
    *("--data.size", "128", "--model.generator.shape", "[3,128,128]"),
    *("--model.generator.width", "16", "--model.generator.blocks", "[[16,16,8],[8],[8],[8]]"),
    "--model.critics",
    "[{class_path: video_ode.gan.tganv2.TGANv2Critic, "
    "init_args: {shape: [3, 128, 128], widths: [4, 8, 8, 8, 8]}}]",
]
SMALL_FLOW = ["--model.flow.field.width", "8", "--model.flow.solver.step_size", "0.5"]
WAVES = ["--data.n_sequences", "10", "--data.cache", "{folder}", "--data.clips_per_video", "2"]
SEA = ["--data", "SyntheticSea", "--data.cache", "{folder}"]
DRIVES = [
    *("--data.cache", "{folder}", "--data.videos.size", "[32,32]"),
    *("--data.videos.n_train", "4", "--data.videos.n_val", "2"),
]
# Sets that the user downloads are replaced by embedded ones of the same shape, or by a few noisy
# images in files of the same format; sets that are drawn first are made small.
DATA = {
    "msflow/cifar10": ["--data", PHOTOS, "--data.crops_per_photo", "20"],
    "msflow/images": ["--data.root", "{images}", *SMALL_FLOW],
    "msflow/images_large": ["--data.root", "{images}", *SMALL_FLOW],
    "video_ode/srvp_mmnist": ["--data.root", "null"],
    "video_ode/srvp_mmnist_deterministic": ["--data.root", "null"],
    "video_ode/srvp_kth": [*CLIPS, "--data.channels", "1"],
    "video_ode/srvp_human36m": CLIPS,
    "video_ode/srvp_bair": CLIPS,
    "video_ode/decoder": [
        *("--data.cache", "{folder}"),
        *("--data.videos.n_train", "4", "--data.videos.n_val", "2"),
    ],
    "video_ode/separation_mmnist": ["--data.root", "null"],
    "video_ode/separation_chairs": CLIPS,
    "video_ode/separation_taxibj": ["--data.root", "{taxis}"],
    "video_ode/separation_sst": [*SEA, "--data.days", "200", "--data.n_zones", "3"],
    "video_ode/separation_sea": ["--data.cache", "{folder}", "--data.days", "200"],
    "video_ode/separation_wave": WAVES,
    "video_ode/separation_wave100": WAVES,
    "video_ode/separation_wave100_small": WAVES,
    "video_ode/separation_wave_points": WAVES,
    "video_ode/feature_ode_segmentation": DRIVES,
    "video_ode/tgan_ucf101": UCF101,
    "video_ode/mocogan_ucf101": UCF101,
    "video_ode/tganv2_ucf101": [*UCF101, *SMALL_TGANV2],
    "video_ode/feature_ode": DRIVES,
    "video_ode/flow_scenes": ["--data.size", "[32,32]"],
    "video_ode/warping_prediction": ["--data.size", "[32,32]"],
    "video_ode/study_features": DRIVES,
    "mimic/cifar10": ["--data.root", "{folder}"],
    "mimic/scenes": ["--data.n_train", "16", "--data.n_val", "8"],
    "mimic/sprites": ["--data.n_train", "64", "--data.n_val", "8", "--data.n_test", "8"],
}
OPTIONS = {
    "msflow": ["--model.statistics_images", "50"],
    "video_ode": ["--model.n_val_samples", "1"],
    "mimic": [],
}


def write_cifar10(folder):
    draw = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        pixels = draw.integers(0, 256, (10, 3072), np.uint8)
        batch = {b"data": pixels, b"labels": list(range(10))}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=4))


def arguments(configs, folder):
    """Words of the command line: a small run of stacked configurations, with its data at hand."""
    package, base = configs[0].parts[0], configs[0].stem
    options = {
        "trainer.default_root_dir": folder,
        "trainer.accelerator": "cpu",
        "trainer.precision": "32-true",
        "data.batch_size": 4,
        "data.num_workers": 0,
    }
    files = [word for config in configs for word in ("--config", str(config))]
    given = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    data = DATA.get(f"{package}/{base}", [])
    if "{taxis}" in data:
        write_taxi(folder, taxi((8, 8, 8, 40)))
    if base == "cifar10":
        write_cifar10(folder)
    if "{images}" in data:
        write_mixed(folder, 24)
    data = [re.sub("{folder}|{taxis}|{images}", str(folder), word) for word in data]
    return [*files, *given, *data]


def take_a_step(configs, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    package = configs[0].parts[0]
    others = ("gan", "objects", "optical_flow")  # most have no samples in validation
    options = [] if configs[0].parent.name in others else OPTIONS[package]
    given = [*arguments(configs, tmp_path), "--trainer.fast_dev_run", "1", *options]
    import_module(f"{package}.cli").main(["fit", *given])


def base_of(ablation):
    """The configuration of the longest name that the ablation's begins with.

    Else `<first word>_digits`.
    """
    candidates = [
        config
        for config in CONFIGS
        if config.parent == ablation.parents[1] and ablation.stem.startswith(f"{config.stem}_")
    ]
    digits = ablation.parents[1] / f"{ablation.stem.split('_')[0]}_digits.yaml"
    return max(candidates, key=lambda config: len(config.stem), default=digits)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_config_takes_one_step(config, tmp_path, monkeypatch):
    take_a_step([config], tmp_path, monkeypatch)


@pytest.mark.parametrize("ablation", ABLATIONS, ids=str)
def test_ablation_takes_one_step(ablation, tmp_path, monkeypatch):
    take_a_step([base_of(ablation), ablation], tmp_path, monkeypatch)


@pytest.mark.parametrize("package", ["msflow", "video_ode", "mimic"])
def test_shipped_configurations_are_found_from_any_folder(package, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = next(path for path in CONFIGS if path.parts[0] == package)
    for name in (config, config.relative_to(package, "configs")):
        with pytest.raises(SystemExit) as end:
            import_module(f"{package}.cli").main(["fit", f"--config={name}", "--print_config"])
        assert end.value.code == 0
        assert "class_path" in capsys.readouterr().out


def test_every_configuration_is_part_of_the_wheel():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = settings["package-data"]["*"]
    packages = [ROOT / pattern.rstrip("*") for pattern in settings["packages"]["find"]["include"]]
    packed = {path for p in packages for pattern in patterns for path in p.glob(pattern)}
    assert {ROOT / path for path in EVERY} <= packed
