"""The reduced study: every run once, in folders of its own, and tables of means over seeds."""

import csv
from itertools import pairwise

import pytest

from common.errors import InputError
from common.training.runs import run_name
from video_ode import study as study_module
from video_ode.study import BASELINES, CONFIGS, ode_rows, srvp_rows, study


@pytest.fixture
def calls(monkeypatch):
    """Command lines of the study, whose test writes a table of made-up numbers."""
    called = []

    def main(words):
        called.append(words)
        if words[0] != "test":
            return
        root = words[words.index("--trainer.default_root_dir") + 1]
        seed = int(words[words.index("--seed_everything") + 1])
        configs = [after for word, after in pairwise(words) if word == "--config"]
        run = study_module.Path(root) / "video_ode" / run_name(configs) / "version_0"
        run.mkdir(parents=True)
        with (run / "test_table.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["row", "psnr", "psnr_given", "ssim"])
            writer.writeheader()
            for row in ("model", *BASELINES):
                psnr = 20 + seed if row == "model" else 15
                writer.writerow({"row": row, "psnr": psnr, "psnr_given": 25, "ssim": 0.5})

    monkeypatch.setattr(study_module, "main", main)
    return called


def test_every_configuration_exists_and_is_run_with_every_seed(calls, tmp_path):
    study(seeds=2, out=tmp_path)
    tests = [words for words in calls if words[0] == "test"]
    assert len(tests) == 2 * (len(srvp_rows()) + len(ode_rows())) == 24
    assert len({words[words.index("--trainer.default_root_dir") + 1] for words in tests}) == 24
    for row in (*srvp_rows().values(), *ode_rows().values()):
        assert all((CONFIGS / path).is_file() for path in row["configs"])


def test_finished_runs_are_not_repeated(calls, tmp_path):
    study(seeds=1, out=tmp_path)
    done = len(calls)
    study(seeds=2, out=tmp_path)
    assert len(calls) == 2 * done


def test_tables_hold_means_over_seeds_baselines_and_published_figures(calls, tmp_path, capsys):
    study(seeds=3, out=tmp_path)
    lines = (tmp_path / "study.md").read_text().splitlines()
    head = "| SRVP, 3 seeds | PSNR, best | SSIM, best | published, full size (PSNR / SSIM) |"
    assert lines[:2] == [head, "| --- | --- | --- | --- |"]
    assert "| GRU | 21.00 ± 1.00 | 0.5000 ± 0.0000 | 15.80 / 0.7464 |" in lines
    assert "| *mean of given* | 15.00 | 0.5000 | |" in lines
    assert "| latent ODE, PSNR, 3 seeds | 10% | 20% | 30% | 50% |" in lines
    assert f"| extrapolation, random times |{' 21.00 ± 1.00 |' * 4}" in lines
    assert f"| interpolation, regular times |{' 25.00 ± 0.00 |' * 4}" in lines
    assert str(tmp_path / "study.md") in capsys.readouterr().out
    assert (tmp_path / "srvp.csv").is_file()


def test_no_seed_is_refused(tmp_path):
    with pytest.raises(InputError, match="got seeds 0"):
        study(seeds=0, out=tmp_path)
