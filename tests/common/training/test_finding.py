"""A command finds the checkpoint and the configuration that its words stand for."""

import pytest
import torch
from safetensors.torch import save

from common.errors import InputError
from common.training.finding import find_checkpoint, with_configuration
from common.training.runs import run_name


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Folder of a package with two configurations, a model and a run."""
    home = tmp_path / "package"
    for name in ("configs/one.yaml", "configs/more/two.yaml", "models/one.safetensors"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("seed_everything: 0")
    model = save({"w": torch.ones(1)}, {"checkpoint": '{"configuration": "one+two"}'})
    (home / "models" / "one.safetensors").write_bytes(model)
    run = tmp_path / "runs" / "package" / "two" / "version_3"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text("seed_everything: 0")
    (run / "checkpoints" / "best.ckpt").touch()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return home


def test_a_model_brings_the_configurations_that_it_names(package):
    files = [str(package / "configs" / name) for name in ("one.yaml", "more/two.yaml")]
    expected = ["test", "--config", files[0], "--config", files[1]]
    for words in (["--ckpt_path", "one"], ["--ckpt_path=one"]):
        given = with_configuration(["test", *words, "--n", "3"], package / "configs")
        assert given == [*expected, *words, "--n", "3"]
    own = ["test", "--config", "one.yaml", "--ckpt_path", "one"]
    assert with_configuration(own, package / "configs") == [*own[:2], files[0], *own[3:]]


def test_a_checkpoint_brings_the_configuration_and_the_root_of_its_run(package, tmp_path):
    run = tmp_path / "runs" / "package" / "two" / "version_3"
    words = ["predict", "--ckpt_path", "../runs/package/two/version_3/checkpoints/best.ckpt"]
    given = with_configuration(words, package / "configs")
    options = ["--config", str(run / "config.yaml")]
    options += ["--trainer.default_root_dir", str(tmp_path / "runs")]
    assert given == ["predict", *options, *words[1:]]
    assert run_name([run / "config.yaml"]) == "two"
    assert run_name(["config.yaml"]) == "config"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], r"sample needs --config FILE; package/configs has more/two.yaml, one.yaml. Or"),
        (["--ckpt_path"], "needs --config FILE"),
        (["--ckpt_path", "best"], "needs --config FILE"),
        (["--ckpt_path", "oen"], r"no file oen; give best, last, the path .* ships \(one\)"),
        (["--ckpt_path", "x.ckpt"], "needs --config FILE"),
    ],
)
def test_without_a_known_checkpoint_the_configuration_is_asked_for(words, message, package):
    (package.parent / "elsewhere" / "x.ckpt").touch()
    with pytest.raises(InputError, match=message):
        with_configuration(["sample", *words], package / "configs")


def test_a_file_comes_before_a_model_of_its_name(package, tmp_path):
    folder, model = tmp_path / "runs" / "package" / "two", package / "models" / "one.safetensors"
    assert find_checkpoint("one", folder, package, "test", None) == str(model)
    (tmp_path / "elsewhere" / "one").touch()
    assert find_checkpoint("one", folder, package, "test", None) == "one"
    assert find_checkpoint(None, folder, package, "fit", None) is None
    with pytest.raises(InputError, match=r"test needs --ckpt_path: best, last, .* ships \(one\)"):
        find_checkpoint(None, folder, package, "test", None)
    with pytest.raises(InputError, match=r"no last.ckpt in the runs of .*two: fit first, or"):
        find_checkpoint("last", folder, package, "test", None)
