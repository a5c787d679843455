"""Study of the prediction of a detector's features (Predoc III, sections 5.1 and 5.3.1).

    python -m video_ode.study_features [--seeds 3]

It trains small predictors of features, each with one line of the configuration changed, and
writes a table of what the detector reads from the predicted features. Finished runs are kept.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.errors import check_output
from common.experiments import Scores, compared_table, fit_and_test, run_grid, write_report
from common.training.cli import run_command
from video_ode.cli import main
from video_ode.evaluation.baselines import COPY
from video_ode.objects.detection.detector import VELOCITY
from video_ode.objects.evaluation import TRUE
from video_ode.study import table_scores

CONFIGS = Path(__file__).parent / "configs/objects"
STUDY = "study_features.yaml"
ODE = "ODE"
FIELD = {"class_path": "video_ode.dynamics.fields.ConvField", "init_args": {"width": 32}}
SDE = {
    "class_path": "video_ode.dynamics.sde.NeuralSDE",
    "init_args": {
        "drift": FIELD,
        "diffusion": FIELD,
        "scale": 0.1,
        "solver": {
            "class_path": "common.ode.sde.EulerMaruyama",
            "init_args": {"step_size": 0.5},
        },
    },
}
DECODER = {
    "class_path": "video_ode.objects.decoders.convolutional.ConvolutionalDecoder",
    "init_args": {"shape": [3, 128, 128], "channels": 64, "scale": 8, "width": 16},
}
DYNAMICS = "--model.predictor.init_args.dynamics"
ROWS: Mapping[str, Sequence[str]] = {
    ODE: (),
    "GRU in its place": (DYNAMICS, "video_ode.dynamics.recurrent.ConvGRU"),
    "SDE in its place": (DYNAMICS, json.dumps(SDE)),
    "Gaussian likelihood": ("--model.loss", "video_ode.objects.losses.GaussianLikelihood"),
    "adversarial loss": ("--model.critic", "video_ode.objects.losses.FeatureCritic"),
    "loss of what is read": ("--model.reading_weight", "1"),
    "six later frames": ("--data.videos.n_frames", "9"),
    "key frames": ("--data.videos.n_frames", "9", "--model.skip", "2"),
    "frames decoded too": ("--model.decoder", json.dumps(DECODER)),
}
COLUMNS = {
    f"{heading}, +{k}": (f"{name}_{k}", ".3f")
    for heading, name in (
        ("mAP50", "map50"),
        ("agreement", "agreement50"),
        ("feature error", "feature_error"),
    )
    for k in (3, 6)
}


def study(seeds: int = 3, out: Path = Path("lightning_logs/study_features")) -> None:
    """Runs the study, and writes `features.md`.

    Args:
        seeds: Number of runs of each row.
        out: Folder of the runs, of the features and of the table.
    """
    check_output(out)

    def run(options: Any, seed: int) -> Scores:
        name = next(name for name, row in ROWS.items() if list(row) == list(options))
        words = ["--seed_everything", str(seed), "--data.cache", str(out / "features"), *options]
        folder = out / f"{name.replace(' ', '_')}_{seed}"
        return table_scores(fit_and_test(main, [CONFIGS / STUDY], folder, words))

    results = run_grid(out / "runs", {name: list(row) for name, row in ROWS.items()}, seeds, run)
    compared = {"mAP50 after 6 frames": ("map50_6", ".3f")}
    for row in (COPY, VELOCITY, TRUE):
        first = results[ODE][0]  # the same for all seeds
        keys = [key for key, _ in COLUMNS.values()]
        results[f"*{row}*"] = [{key: first[f"{row} {key}"] for key in keys}] * seeds
    table = compared_table(results, COLUMNS, f"{seeds} seeds", ODE, compared)
    write_report(out / "features.md", table)


if __name__ == "__main__":
    run_command([study])
