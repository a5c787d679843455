"""The study of the game between network and critic: which of the tricks of GANs it needs.

    python -m mimic.study.minmax [--seeds 3] [--out lightning_logs/mimic_study]

plays variants of the game of Predoc III, eq. 7.2 (chapter 7, feature 2), on two problems: a
linear encoder of Gaussian data, where what is left of the total correlation is known exactly, and
the last layer of a network on digits, where it is audited. A run that is done isn't done again.
"""

from functools import partial
from pathlib import Path
from typing import Any

from common.errors import check_counts
from common.training.cli import run_command
from mimic.critics import MLPCritic
from mimic.evidence.demos import Penalty, encode
from mimic.regularizer import MiMIcRegularizer
from mimic.results import show
from mimic.study.digits import BEGIN, LAST, HalvedDigits, Settings, fitted, judged
from mimic.study.grid import Numbers, Results, run_grid, table
from mimic.study.report import against, dots, write_csv

# The perceptron has to learn what the hybrid critic knows of Gaussian channels beforehand.
GAME: Settings = {"critic": "perceptron"}
RATE = 1e-3
GAMES: dict[str, Settings] = {
    "alternating": {},
    "3 critic steps": {"n_critic": 3},
    "critic's rate × 4": {"critic_lr": 4 * RATE},
    "critic's rate / 4": {"critic_lr": RATE / 4},
    "mean of critics, 0.99": {"critic_ema": 0.99},
    "simultaneous": {"scheme": "simultaneous"},
    "DV": {"estimator": "dv"},
    "through joint samples alone": {"route": "joint"},
    "hybrid critic": {"critic": None},
}
# Those that only the callback has.
BY_STEP: dict[str, Settings] = {
    "no warm-up": {"warmup_steps": 0, "ramp_steps": 0},
    "gradient capped at 1": {"cap": 1.0},
}
EXACT = {
    "exact TC, nats": ("tc", ".4f"),
    "mse of the task": ("mse", ".4f"),
    "deviation of a code": ("deviation", ".2f"),
    "ms a step": ("ms", ".2f"),
}
DIGITS = {
    "TC, nats": ("tc_last", ".2f"),
    "TC within classes": ("tc_within", ".2f"),
    "accuracy, %": ("accuracy", ".1f"),
    "ECE, %": ("ece", ".1f"),
    "dead channels": ("dead", ".1f"),
    "ms a step": ("ms", ".0f"),
}


def minmax(
    seeds: int = 3,
    out: Path = Path("lightning_logs/mimic_study"),
    steps: int = 1000,
    epochs: int = 6,
    n_train: int = 2000,
    audit_steps: int = 2000,
) -> None:
    """Runs what isn't done yet; writes `minmax.md`, and a `.csv` and a `.png` for each problem.

    Args:
        seeds: Runs of each row.
        out: Folder of the results.
        steps: Of the linear encoder.
        epochs: Of training on digits.
        n_train: Digits to train on.
        audit_steps: Of each critic of the audit.
    """
    common = {"epochs": epochs, "n_train": n_train, "audit_steps": audit_steps}
    check_counts(1, steps=steps, **common)
    exact = run_grid(out / "minmax_exact", _exact_rows(steps), seeds, _encode)
    rows = {
        name: {"penalty": penalty, **common}
        for name, penalty in [
            ("none", None),
            *((n, _at_last(**GAME, **BEGIN) | g) for n, g in (GAMES | BY_STEP).items()),
        ]
    }
    digits = run_grid(out / "minmax_digits", rows, seeds, _classify)
    _show(out, "minmax_exact", exact, {"exact TC, nats": "tc", "ms a step": "ms"})
    _show(out, "minmax_digits", digits, {"TC, nats": "tc_last", "test accuracy, %": "accuracy"})
    text = (
        f"Linear encoder of 16 Gaussian numbers to 8, {steps} steps, weight 0.3, {seeds} "
        "seeds.\n\n"
        f"{table(exact, EXACT, 'game')}\n\n"
        f"TC less that of alternating: {against(exact, 'alternating', 'tc', '.4f')}.\n\n"
        f"Last layer of a network on {n_train} digits, {epochs} epochs, weight 0.1, {seeds} "
        "seeds; audited on 2500 test images.\n\n"
        f"{table(digits, DIGITS, 'game')}\n\n"
        f"TC less that of alternating: {against(digits, 'alternating', 'tc_last', '.2f')}.\n\n"
        "Accuracy less that of alternating: "
        f"{against(digits, 'alternating', 'accuracy', '.1f')}."
    )
    show(out / "minmax.md", text)


def _exact_rows(steps: int) -> dict[str, Settings]:
    rows: dict[str, Settings] = {"none": {"steps": steps, "options": None}}
    for name, game in GAMES.items():
        rows[name] = {"steps": steps, "options": {"weight": 0.3, **GAME, **game}}
    return rows


def _at_last(**options: Any) -> Settings:
    return {"layers": LAST, "weight": 0.1, **options}


def _encode(settings: Settings, seed: int) -> Numbers:
    encoded = encode(settings["steps"], seed, _penalty(settings["options"]))
    ms = 1000 * encoded.seconds / settings["steps"]
    return {"tc": encoded.tc, "mse": encoded.mse, "deviation": encoded.deviation, "ms": ms}


def _penalty(settings: Settings | None) -> Penalty | None:
    if settings is None:
        return None
    options = {key: value for key, value in settings.items() if key not in ("weight", "critic")}
    critic = MLPCritic if settings["critic"] == "perceptron" else None
    return Penalty(settings["weight"], partial(MiMIcRegularizer, critic=critic, **options))


def _classify(settings: Settings, seed: int) -> Numbers:
    fit = fitted(HalvedDigits(settings["n_train"]), settings, seed)
    return judged(fit, ["last"], settings["audit_steps"])


def _show(out: Path, name: str, results: Results, panels: dict[str, str]) -> None:
    write_csv(out / f"{name}.csv", results)
    log = [heading for heading, key in panels.items() if key == "tc"]
    dots(results, panels, "none", log).savefig(out / f"{name}.png", dpi=120)


if __name__ == "__main__":
    run_command([minmax])
