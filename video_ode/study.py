"""The reduced study: which dynamics, and how many frames must be seen.

    python -m video_ode.study [--seeds 3] [--out lightning_logs/study]

trains and tests small models, each on the same data with several seeds, and writes two tables
beside the published figures of the same kind of experiment. A run that is done isn't done again.
"""

import csv
import statistics
from pathlib import Path
from typing import NamedTuple

from common.errors import check_counts
from common.training.cli import run_command
from video_ode.cli import main

CONFIGS = Path(__file__).parent / "configs"
OVERLAYS = CONFIGS / "srvp" / "ablations"
ABLATIONS = {"residual": None, "GRU": "srvp_gru", "MLP": "srvp_mlp", "without z": "srvp_without_z"}
SHARES, PATTERNS = (0.1, 0.2, 0.3, 0.5), ("regular", "random")
METRICS = (("psnr", ".2f"), ("ssim", ".4f"))

# PSNR / SSIM on stochastic Moving MNIST, two digits, 64 px, full training (SRVP slides).
PUBLISHED_SRVP = {
    "residual": "16.93 / 0.7799",
    "GRU": "15.80 / 0.7464",
    "MLP": "16.55 / 0.7694",
    "without z": "–",
}
# MSE × 100 on MuJoCo's hopper, 10, 20, 30 and 50 % of the points seen (Rubanova et al. 2019).
PUBLISHED_ODE = {
    "interpolation": ("0.360", "0.295", "0.300", "0.285"),
    "extrapolation": ("1.441", "1.400", "1.175", "1.258"),
}


class Run(NamedTuple):
    """One training and test.

    Attributes:
        name: Of its folder.
        configs: Stacked from left to right; the first names the run.
        options: More of the command line, for training and test.
    """

    name: str
    configs: list[Path]
    options: list[str]

    def table(self, out: Path) -> Path:
        """Where the test leaves its numbers, or would."""
        runs = out / self.name / self.configs[0].stem
        done = sorted(runs.glob("version_*/test_table.csv"))
        return done[-1] if done else runs / "version_0" / "test_table.csv"


def study(seeds: int = 3, out: Path = Path("lightning_logs/study")) -> None:
    """Runs what isn't done yet and writes `study.md`.

    Args:
        seeds: Runs of each setting.
        out: Folder of the runs and of the tables.
    """
    check_counts(1, seeds=seeds)
    for run in [run for seed in range(seeds) for run in [*srvp_runs(seed), *ode_runs(seed)]]:
        if not run.table(out).is_file():
            _execute(run, out)
    text = f"{srvp_table(out, seeds)}\n\n{ode_table(out, seeds)}\n"
    (out / "study.md").write_text(text)
    print(f"{text}\nstudy: {(out / 'study.md').resolve()}")


def srvp_runs(seed: int) -> list[Run]:
    """SRVP and its ablations."""
    base = CONFIGS / "srvp" / "study_srvp.yaml"
    return [
        Run(
            f"srvp_{name.replace(' ', '_')}_{seed}",
            [base] if overlay is None else [base, OVERLAYS / f"{overlay}.yaml"],
            ["--seed_everything", str(seed)],
        )
        for name, overlay in ABLATIONS.items()
    ]


def ode_runs(seed: int) -> list[Run]:
    """Latent ODEs that see a share of the frames, at regular or at random times."""
    return [
        Run(
            f"latent_ode_{pattern}_{round(100 * share)}_{seed}",
            [CONFIGS / "latent_ode" / "study_latent_ode.yaml"],
            [
                *("--seed_everything", str(seed)),
                *("--data.observed", str(share), "--data.pattern", pattern),
            ],
        )
        for pattern in PATTERNS
        for share in SHARES
    ]


def _execute(run: Run, out: Path) -> None:
    print(f"\n== {run.name}")
    files = [word for config in run.configs for word in ("--config", str(config))]
    root = ["--trainer.default_root_dir", str(out / run.name)]
    main(["fit", *files, *root, *run.options])
    main(["test", *files, *root, *run.options, "--ckpt_path", "last"])


def srvp_table(out: Path, seeds: int) -> str:
    """Mean ± standard deviation over the seeds, in Markdown."""
    lines = [
        f"| SRVP, {seeds} seeds | PSNR, best | SSIM, best | published, full size (PSNR / SSIM) |",
        "|---|---|---|---|",
    ]
    for i, name in enumerate(ABLATIONS):
        tables = [_rows(srvp_runs(seed)[i].table(out)) for seed in range(seeds)]
        cells = [_spread([t["model"][key] for t in tables], digits) for key, digits in METRICS]
        lines.append(f"| {name} | {' | '.join(cells)} | {PUBLISHED_SRVP[name]} |")
    base = _rows(srvp_runs(0)[0].table(out))
    for name, row in base.items():
        if name not in ("model", "average of samples"):
            cells = [f"{row[key]:{digits}}" for key, digits in METRICS]
            lines.append(f"| *{name}* | {' | '.join(cells)} | |")
    return "\n".join(lines)


def ode_table(out: Path, seeds: int) -> str:
    """PSNR inside and after the given time, by share of frames seen, in Markdown."""
    shares = " | ".join(f"{share:.0%}" for share in SHARES)
    lines = [f"| latent ODE, PSNR, {seeds} seeds | {shares} |", "|---|---|---|---|---|"]
    for part, key in (("interpolation", "psnr_given"), ("extrapolation", "psnr")):
        for k, pattern in enumerate(PATTERNS):
            cells = []
            for i in range(k * len(SHARES), (k + 1) * len(SHARES)):
                tables = [_rows(ode_runs(seed)[i].table(out)) for seed in range(seeds)]
                cells.append(_spread([table["model"][key] for table in tables], ".2f"))
            lines.append(f"| {part}, {pattern} times | {' | '.join(cells)} |")
        published = " | ".join(PUBLISHED_ODE[part])
        lines.append(f"| *{part}, published: MSE × 100 on MuJoCo* | {published} |")
    return "\n".join(lines)


def _rows(table: Path) -> dict[str, dict[str, float]]:
    with table.open(newline="") as file:
        return {
            row.pop("row"): {key: float(value) for key, value in row.items()}
            for row in csv.DictReader(file)
        }


def _spread(values: list[float], digits: str) -> str:
    mean = f"{statistics.mean(values):{digits}}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):{digits}}"


if __name__ == "__main__":
    run_command([study])
