"""Every configuration that ships takes a step through the real command line."""

from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(path.relative_to(ROOT) for path in ROOT.glob("*/configs/*.yaml"))
# Sets that the user downloads are replaced by photographs of the same shape.
DATA = {
    "cifar10": ["--data", "common.data.embedded.EmbeddedPhotos", "--data.crops_per_photo", "20"],
}


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_config_takes_one_step(config, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    main = import_module(f"{config.parts[0]}.cli").main
    options = {
        "config": config,
        "trainer.default_root_dir": tmp_path,
        "trainer.fast_dev_run": 1,
        "trainer.accelerator": "cpu",
        "data.batch_size": 4,
        "model.statistics_images": 50,
    }
    given = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    main(["fit", *given[:2], *DATA.get(config.stem, []), *given[2:]])
