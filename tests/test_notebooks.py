"""The notebooks run from the first cell to the last one, and say what their text promises."""

import json
from pathlib import Path

import pytest
import pytorch_lightning  # noqa: F401  it sets up its log when it is imported

NOTEBOOKS = Path(__file__).parents[1] / "docs/notebooks"


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs a notebook in an empty folder; returns its variables."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")

    def run(name):
        cells = json.loads((NOTEBOOKS / name).read_text())["cells"]
        variables = {"__name__": "__main__"}
        for cell in cells:
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), name, "exec"), variables)
        return variables

    return run


def test_all_notebooks_are_tested():
    names = {path.name for path in NOTEBOOKS.glob("*.ipynb")}
    assert names == {"images.ipynb", "mimic.ipynb", "video.ipynb"}


def test_images(run):
    found = run("images.ipynb")
    assert found["trainer"].global_step == 20
    digit, noise = found["bits"].tolist()
    assert 0.3 < digit < 2.5 < noise


def test_video(run):
    found = run("video.ipynb")
    assert found["trainer"].global_step == 10
    asked, frames, video = found["asked"], found["frames"], found["video"]
    for time, frame in zip(asked.tolist(), frames, strict=True):
        if time == int(time):
            error = (frame - video[0, int(time)] / 255).square().mean()
            assert float(error) < 0.03  # 15 dB; without motion it is about 0.06
    assert len(frames) == 13


def test_mimic(run):
    found = run("mimic.ipynb")
    results = found["results"]
    assert results["with MiMIc"].value < results["without"].value
    assert all(found["accuracies"][name] > 0.9 for name in results)
