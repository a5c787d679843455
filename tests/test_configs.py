"""Every configuration that ships takes a step through the real command line."""

from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(path.relative_to(ROOT) for path in ROOT.glob("*/configs/*.yaml"))
ABLATIONS = sorted(path.relative_to(ROOT) for path in ROOT.glob("*/configs/ablations/*.yaml"))
EMBEDDED = "common.data.embedded_clips.EmbeddedClips"
CLIPS = ["--data", EMBEDDED, "--data.n_frames", "12", "--data.n_eval_frames", "16"]
# Sets that the user downloads are replaced by embedded ones of the same shape.
DATA = {
    "cifar10": ["--data", "common.data.embedded.EmbeddedPhotos", "--data.crops_per_photo", "20"],
    "srvp_mmnist": ["--data.root", "null"],
    "srvp_mmnist_deterministic": ["--data.root", "null"],
    "srvp_kth": [*CLIPS, "--data.channels", "1"],
    "srvp_human36m": CLIPS,
    "srvp_bair": CLIPS,
}
OPTIONS = {
    "msflow": ["--model.statistics_images", "50"],
    "video_ode": ["--model.n_val_samples", "1"],
}


def take_a_step(configs, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    package = configs[0].parts[0]
    options = {
        "trainer.default_root_dir": tmp_path,
        "trainer.fast_dev_run": 1,
        "trainer.accelerator": "cpu",
        "trainer.precision": "32-true",
        "data.batch_size": 4,
        "data.num_workers": 0,
    }
    files = [word for config in configs for word in ("--config", str(config))]
    given = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    data = DATA.get(configs[0].stem, [])
    import_module(f"{package}.cli").main(["fit", *files, *data, *given, *OPTIONS[package]])


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_config_takes_one_step(config, tmp_path, monkeypatch):
    take_a_step([config], tmp_path, monkeypatch)


@pytest.mark.parametrize("ablation", ABLATIONS, ids=str)
def test_ablation_takes_one_step(ablation, tmp_path, monkeypatch):
    base = ablation.parents[1] / f"{ablation.stem.split('_')[0]}_digits.yaml"
    take_a_step([base, ablation], tmp_path, monkeypatch)
