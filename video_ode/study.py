"""Small study of latent dynamics, and of missing frames.

    python -m video_ode.study [--seeds 3] [--out lightning_logs/study]

trains and tests small models, each with several seeds on the same data. It writes two tables that
also have the published figures of similar experiments. Finished runs are kept.
"""

import csv
from pathlib import Path
from typing import Any

from common.errors import check_output
from common.experiments import (
    Results,
    Scores,
    fit_and_test,
    markdown,
    mean_std,
    results_table,
    run_grid,
    write_csv,
    write_report,
)
from common.training.cli import run_command
from video_ode.cli import main
from video_ode.evaluation.report import MODEL

CONFIGS = Path(__file__).parent / "configs"
SRVP, LATENT_ODE = "srvp/study_srvp.yaml", "latent_ode/study_latent_ode.yaml"
ABLATIONS = {"residual": None, "GRU": "srvp_gru", "MLP": "srvp_mlp", "without z": "srvp_without_z"}
SHARES, PATTERNS = (0.1, 0.2, 0.3, 0.5), ("regular", "random")
BASELINES = ("copy of last given", "mean of given", "constant velocity")
SRVP_COLUMNS = {"PSNR, best": ("psnr", ".2f"), "SSIM, best": ("ssim", ".4f")}
ODE_PARTS = {"interpolation": "psnr_given", "extrapolation": "psnr"}

# PSNR / SSIM on stochastic Moving MNIST, two digits, 64 px, full training (SRVP slides).
PUBLISHED_SRVP = {
    "residual": "16.93 / 0.7799",
    "GRU": "15.80 / 0.7464",
    "MLP": "16.55 / 0.7694",
    "without z": "–",
}
# MSE × 100 on MuJoCo's hopper, 10, 20, 30 and 50 % of points observed (Rubanova et al. 2019).
PUBLISHED_ODE = {
    "interpolation": ("0.360", "0.295", "0.300", "0.285"),
    "extrapolation": ("1.441", "1.400", "1.175", "1.258"),
}


def study(seeds: int = 3, out: Path = Path("lightning_logs/study")) -> None:
    """Runs all runs that are not finished yet; writes `study.md` and a CSV file of each table.

    Args:
        seeds: Number of runs of each setting.
        out: Folder of the runs and of the tables.
    """
    check_output(out)

    def run(settings: Any, seed: int) -> Scores:
        return _run(settings, seed, out)

    srvp = run_grid(out / "srvp", srvp_rows(), seeds, run)
    ode = run_grid(out / "latent_ode", ode_rows(), seeds, run)
    write_csv(out / "srvp.csv", srvp)
    write_csv(out / "latent_ode.csv", ode)
    write_report(out / "study.md", f"{srvp_table(srvp, seeds)}\n\n{ode_table(ode, seeds)}")


def srvp_rows() -> dict[str, dict[str, Any]]:
    """Settings of the runs of SRVP and its ablations, by name."""
    overlays = {name: [] if file is None else [file] for name, file in ABLATIONS.items()}
    return {
        name: {
            "name": f"srvp_{name.replace(' ', '_')}",
            "configs": [SRVP, *(f"srvp/ablations/{file}.yaml" for file in files)],
            "options": [],
        }
        for name, files in overlays.items()
    }


def ode_rows() -> dict[str, dict[str, Any]]:
    """Settings of latent ODEs that observe a share of the frames, at regular or random times."""
    return {
        f"{pattern}, {share:.0%}": {
            "name": f"latent_ode_{pattern}_{round(100 * share)}",
            "configs": [LATENT_ODE],
            "options": ["--data.observed", str(share), "--data.pattern", pattern],
        }
        for pattern in PATTERNS
        for share in SHARES
    }


def srvp_table(results: Results, seeds: int) -> str:
    """Markdown table of SRVP and its ablations, with baselines and published figures."""
    first, *lines = results_table(results, SRVP_COLUMNS, f"SRVP, {seeds} seeds").splitlines()
    published = [f" {PUBLISHED_SRVP[name]} |" for name in results]
    lines = [f"{line}{more}" for line, more in zip(lines, [" --- |", *published], strict=True)]
    base = results["residual"][0]
    for name in BASELINES:
        cells = [f"{base[f'{name} {key}']:{form}}" for key, form in SRVP_COLUMNS.values()]
        lines.append(f"| *{name}* | {' | '.join(cells)} | |")
    return "\n".join([f"{first} published, full size (PSNR / SSIM) |", *lines])


def ode_table(results: Results, seeds: int) -> str:
    """Markdown table of PSNR by share of observed frames, during and after the given part."""
    rows = []
    for part, key in ODE_PARTS.items():
        for pattern in PATTERNS:
            runs = [results[f"{pattern}, {share:.0%}"] for share in SHARES]
            cells = [mean_std([run[key] for run in of_share], ".2f") for of_share in runs]
            rows.append([f"{part}, {pattern} times", *cells])
        rows.append([f"*{part}, published: MSE × 100 on MuJoCo*", *PUBLISHED_ODE[part]])
    head = [f"latent ODE, PSNR, {seeds} seeds", *(f"{share:.0%}" for share in SHARES)]
    return markdown(head, rows)


def _run(settings: Any, seed: int, out: Path) -> Scores:
    """Scores of one training and test; the scores of baselines are named `<baseline> <score>`."""
    configs = [CONFIGS / path for path in settings["configs"]]
    options = ["--seed_everything", str(seed), *settings["options"]]
    run = fit_and_test(main, configs, out / f"{settings['name']}_{seed}", options)
    return table_scores(run)


def table_scores(run: Path) -> Scores:
    """Scores in the table of a test; those of other rows than the model begin with their names.

    Args:
        run: The run's folder.
    """
    scores: Scores = {}
    with (run / "test_table.csv").open(newline="") as file:
        for record in csv.DictReader(file):
            row = record.pop("row")
            prefix = "" if row == MODEL else f"{row} "
            scores |= {f"{prefix}{key}": float(value) for key, value in record.items()}
    return scores


if __name__ == "__main__":
    run_command([study])
