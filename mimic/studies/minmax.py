"""Study of the game between network and critic: which tricks of adversarial training help.

    python -m mimic.studies.minmax [--seeds 3] [--out lightning_logs/studies]

plays variants of the game of Predoc III, eq. 7.2 (chapter 7, feature 2) on two problems: a linear
encoder of Gaussian data, where the remaining total correlation is known exactly, and the last
layer of a network on digits, where it is audited.
"""

from pathlib import Path

from common.errors import check_counts, check_output
from common.experiments import Scores, compared_table, run_grid, write_report, write_results
from common.training.cli import run_command
from mimic.studies import OUT
from mimic.studies.closed_forms import encode
from mimic.studies.digits import BEGIN, LAST, HalvedDigits, evaluated, fitted
from mimic.studies.fitting import Settings

# The perceptron has to learn what the hybrid critic knows of Gaussian channels beforehand.
USUAL: Settings = {"critic": "perceptron"}
RATE = 1e-3
VARIANTS: dict[str, Settings] = {
    "alternating": {},
    "3 critic steps": {"n_critic": 3},
    "critic's rate × 4": {"critic_lr": 4 * RATE},
    "critic's rate / 4": {"critic_lr": RATE / 4},
    "mean of critics, 0.99": {"game": "mean critic"},
    "simultaneous": {"game": "simultaneous"},
    "DV": {"estimator": "dv"},
    "through joint samples alone": {"game": "joint route"},
    "hybrid critic": {"critic": None},
}
# Variants that only the callback has.
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
DIGITS_CHANGES = {"TC": ("tc_last", ".2f"), "Accuracy": ("accuracy", ".1f")}
EXACT_PANELS = {"exact TC, nats": "tc", "ms a step": "ms"}
DIGITS_PANELS = {"TC, nats": "tc_last", "test accuracy, %": "accuracy"}


def minmax(
    seeds: int = 3,
    out: Path = OUT,
    steps: int = 1000,
    epochs: int = 6,
    n_train: int = 2000,
    audit_steps: int = 2000,
) -> None:
    """Runs what is not done yet; writes `minmax.md`, and a `.csv` and a `.png` for each problem.

    Args:
        seeds: Number of runs of each row.
        out: Folder of the results.
        steps: Number of steps of the linear encoder.
        epochs: Number of epochs of training on digits.
        n_train: Number of digits to train on.
        audit_steps: Number of steps of each critic of the audit.
    """
    size = {"epochs": epochs, "n_train": n_train, "audit_steps": audit_steps}
    check_counts(1, seeds=seeds, steps=steps, **size)
    check_output(out)
    encoders: dict[str, Settings | None] = {"none": None}
    encoders |= {name: {"weight": 0.3, **USUAL, **v} for name, v in VARIANTS.items()}
    exact_rows = {name: {"steps": steps, "penalty": p} for name, p in encoders.items()}
    exact = run_grid(out / "minmax_exact", exact_rows, seeds, _encode)
    write_results(out / "minmax_exact", exact, EXACT_PANELS, "none", ["exact TC, nats"])
    networks: dict[str, Settings | None] = {"none": None}
    networks |= {name: at_last(v) for name, v in (VARIANTS | BY_STEP).items()}
    digit_rows = {name: {"penalty": penalty, **size} for name, penalty in networks.items()}
    digits = run_grid(out / "minmax_digits", digit_rows, seeds, _classify)
    write_results(out / "minmax_digits", digits, DIGITS_PANELS, "none")
    text = (
        f"Linear encoder of 16 Gaussian numbers to 8, {steps} steps, weight 0.3, {seeds} "
        "seeds.\n\n"
        f"{compared_table(exact, EXACT, 'game', 'alternating', {'TC': ('tc', '.4f')})}\n\n"
        f"Last layer of a network on {n_train} digits, {epochs} epochs, weight 0.1, {seeds} "
        "seeds; audited on 2500 test images.\n\n"
        f"{compared_table(digits, DIGITS, 'game', 'alternating', DIGITS_CHANGES)}"
    )
    write_report(out / "minmax.md", text)


def at_last(variant: Settings) -> Settings:
    """Settings of a variant at the last layer of the digits' network."""
    return {"layers": LAST, "weight": 0.1, **USUAL, **BEGIN} | variant


def _encode(settings: Settings, seed: int) -> Scores:
    scores = encode(settings["steps"], seed, settings["penalty"])
    return {**scores, "ms": 1000 * scores["cpu_seconds"] / settings["steps"]}


def _classify(settings: Settings, seed: int) -> Scores:
    fit = fitted(HalvedDigits(settings["n_train"]), settings, seed)
    return evaluated(fit, ["last"], settings["audit_steps"])


if __name__ == "__main__":
    run_command([minmax])
