"""The study of temporal generators: its rows, and one small run of it."""

import pytest
import yaml
from PIL import Image

from video_ode import study_gan
from video_ode.dynamics.deconvolution import Deconvolution1d
from video_ode.dynamics.recurrent import GRU


def test_rows_are_those_of_section_4():
    assert len(study_gan.fields("TGAN")) == len(study_gan.fields("MoCoGAN")) == 4
    assert study_gan.fields("TGANv2") == {}
    for gan in study_gan.FILES:
        assert len(study_gan.families(gan)) == 7


@pytest.mark.parametrize("gan", ["TGAN", "MoCoGAN"])
def test_equal_parameters_are_equal(gan):
    size, width = study_gan.SIZE, study_gan.EQUAL[gan]
    original = {"TGAN": Deconvolution1d(size, 0, (64, 32, 16)), "MoCoGAN": GRU(size, 0, size)}
    count = sum(p.numel() for p in original[gan].parameters())
    assert abs(2 * size * width + width + size - count) <= size


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Configurations of the study with a few videos."""
    folder = tmp_path / "configs"
    (folder / "ablations").mkdir(parents=True)
    for name in {
        study_gan.DIGITS,
        *(name for names in study_gan.FILES.values() for name in names),
    }:
        config = yaml.safe_load((study_gan.CONFIGS / name).read_text())
        if "data" in config:
            config["data"]["init_args"] |= {"n_train": 8, "n_val": 4, "n_test": 6, "batch_size": 4}
            config["trainer"] |= {"max_epochs": 1, "enable_progress_bar": False}
            config["evaluation"]["n_generated"] = 6
        (folder / name).write_text(yaml.safe_dump(config))
    monkeypatch.setattr(study_gan, "CONFIGS", folder)
    return tmp_path / "study"


def test_the_study_trains_every_kind_of_gan_and_writes_its_table(tiny, monkeypatch):
    kept = {
        "TGAN": "ODE of order 2",
        "SparseTGAN": "ODE, one layer",
        "MoCoGAN": "original",
        "TGANv2": "SDE",
    }
    families = study_gan.families
    monkeypatch.setattr(study_gan, "fields", lambda gan: {})
    monkeypatch.setattr(study_gan, "families", lambda gan: {kept[gan]: families(gan)[kept[gan]]})
    study_gan.motions(seeds=1, out=tiny)
    lines = (tiny / "motions.md").read_text().splitlines()
    assert len(lines) == 2 + 4
    cells = [line.split(" | ") for line in lines[2:]]
    assert cells[0][0] == "| TGAN, ODE of order 2"
    assert cells[0][3] == f"{3 * 17 * 16 + 16 * 16:,}"  # two maps of z0, and f of z and z′
    assert cells[2][3] == "1,632"
    assert all("nan" not in cell and "–" not in cell for row in cells for cell in row)
    with Image.open(tiny / "motions_families.gif") as grid:
        assert grid.n_frames == study_gan.FRAMES
    for ending in (".csv", ".png"):
        assert (tiny / f"motions_families{ending}").stat().st_size > 100


def test_digits_stand_beside_an_untrained_generator_and_the_controls(tiny):
    study_gan.digits(seeds=1, out=tiny)
    lines = (tiny / "digits.md").read_text().splitlines()
    names = [line.split(" | ")[0].strip("| *") for line in lines[2:6]]
    assert names == [
        "trained",
        "untrained",
        "real videos, frames shuffled",
        "real videos, other half",
    ]
    distances = [float(line.split(" | ")[1]) for line in lines[2:6]]
    assert distances[1] > distances[3] > 0
