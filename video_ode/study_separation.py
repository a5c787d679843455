"""Studies of the separation: content and its invariance, and predictions between the pixels.

python -m video_ode.study_separation waves [--seeds 3]
python -m video_ode.study_separation swap [--seeds 3]
python -m video_ode.study_separation points FILE
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from common.data.fields.wave_set import WaveEq, wave_parameters, wave_sequence
from common.data.fields.waves import WaveSolver
from common.errors import InputError, check_counts, check_output
from common.experiments import (
    Columns,
    Results,
    Scores,
    compared_table,
    fit_and_test,
    markdown,
    run_grid,
    write_report,
)
from common.progress import Progress
from common.training.cli import run_command
from video_ode.cli import main
from video_ode.evaluation.baselines import COPY, MEAN
from video_ode.module import VideoPredictionModule
from video_ode.separation.model import Separation
from video_ode.study import table_scores

CONFIGS = Path(__file__).parent / "configs/separation"
WAVES, DIGITS = "separation_wave100_small.yaml", "separation_digits.yaml"
WITHOUT_S = "ablations/separation_without_s.yaml"
WITH, WITHOUT = "with S", "without S"
# MSE of 40 predicted frames of WaveEq-100, full size and training (Donà et al. 2021, table 1).
PUBLISHED = {WITH: 4.33e-5, WITHOUT: 1.33e-4}
SWAP = "model, content swap"
SWAP_COLUMNS = {
    "PSNR": ("psnr", ".2f"),
    "SSIM": ("ssim", ".3f"),
    "PSNR, swap": (f"{SWAP} psnr", ".2f"),
    "SSIM, swap": (f"{SWAP} ssim", ".3f"),
}
FINER = 2  # grid points per pixel in `points`


def waves(seeds: int = 3, out: Path = Path("lightning_logs/separation_waves")) -> None:
    """Trains WaveEq-100 with and without a content S; writes a table of the errors.

    Args:
        seeds: Number of runs of each row.
        out: Folder of the runs and of the table.
    """
    rows = {WITH: _row("with_s", WAVES), WITHOUT: _row("without_s", WAVES, WITHOUT_S)}
    columns = {"MSE, 40 frames": ("mse", ".2e"), "MSE, given frames": ("mse_given", ".2e")}
    results = _grid(out, rows, seeds)
    still = {row: results[WITH][0][f"{row} mse"] for row in (COPY, MEAN)}
    told = ", ".join(f"{row} {value:.2e}" for row, value in still.items())
    published = ", ".join(f"{row} {value:.2e}" for row, value in PUBLISHED.items())
    compared = {"MSE": ("mse", ".2e")}
    table = compared_table(results, columns, f"WaveEq-100, {seeds} seeds", WITH, compared)
    text = f"{table}\n\nBaselines: {told}. Published, full size and training: {published}."
    write_report(out / "waves.md", text)


def swap(seeds: int = 3, out: Path = Path("lightning_logs/separation_swap")) -> None:
    """Trains moving digits with and without the invariance of S; writes a table of the swaps.

    Args:
        seeds: Number of runs of each row.
        out: Folder of the runs and of the table.
    """
    free = ["--model.predictor.invariance", "0"]
    rows = {
        "with invariance": _row("invariant", DIGITS),
        "without": _row("free", DIGITS, options=free),
    }
    results = _grid(out, rows, seeds)
    compared: Columns = {"PSNR of a swap": (f"{SWAP} psnr", ".2f")}
    first = f"two digits, {seeds} seeds"
    table = compared_table(results, SWAP_COLUMNS, first, "with invariance", compared)
    write_report(out / "swap.md", table)


def points(
    ckpt_path: Path, n: int = 60, out: Path = Path("lightning_logs/separation_points.md")
) -> None:
    """Writes the errors of WaveEq predicted on its own grid and on one twice as fine.

    The model gets the given frames on its own grid; the truth is solved on the finer one.

    Args:
        ckpt_path: Checkpoint file of a separation with a decoder of points.
        n: Number of test sequences, at most 60; one video is cut out of each.
        out: File of the table.

    Raises:
        InputError: Another model.
    """
    check_counts(1, n=n)
    check_output(out, ".md")
    module = VideoPredictionModule.load_from_checkpoint(ckpt_path).eval()
    model = module.predictor
    if not isinstance(model, Separation) or tuple(model.shape or ()) != (1, 64, 64):
        raise InputError(f"{ckpt_path} holds no separation for WaveEq; give another file")
    with torch.no_grad():
        found = _predicted(model, _fine_waves(n), module.n_cond)
    predicted = slice(module.n_cond, None)
    rows = []
    for name, (video, truth) in found.items():
        error = (video - truth)[:, predicted].square().mean()
        rows.append([name, f"{truth.shape[-1]}", f"{float(error):.2e}"])
    write_report(out, markdown(["prediction", "points a side", "MSE"], rows))


def _fine_waves(n: int) -> Tensor:
    """Videos `[n t 1 h w]` of the first test sequences on the finer grid."""
    solver, data = WaveSolver(FINER), WaveEq()
    draws = wave_parameters(data.n_sequences, data.seed)[int(0.8 * data.n_sequences) :][:n]
    videos = []
    for k, (force, speed) in enumerate(Progress(draws, "Solving the wave equation")):
        frames = wave_sequence(solver, force, speed)
        start = 7 * k % (len(frames) - data.n_eval_frames + 1)  # all times are equally likely
        videos.append(torch.from_numpy(frames[start : start + data.n_eval_frames]))
    return torch.stack(videos)[:, :, None]


def _predicted(model: Separation, fine: Tensor, n_cond: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Predictions and truths `[b t c h w]` by name."""
    coarse = fine[..., ::FINER, ::FINER]
    times = torch.arange(float(fine.shape[1]))
    given = coarse[:, :n_cond]
    own = model.predict(given, times[:n_cond], times)[0]
    side = torch.arange(fine.shape[-1]) / FINER
    places = torch.cartesian_prod(side, side)
    between = model.predict_at(given, times[:n_cond], times, places).unflatten(3, (len(side),) * 2)
    # Point 2 i is pixel i, so that the last point lies beyond the last pixel, where all is still.
    wide = functional.pad(own.flatten(0, 2)[:, None], (0, 1, 0, 1), mode="replicate")
    size = [FINER * n + 1 for n in own.shape[-2:]]
    lines = functional.interpolate(wide, size, mode="bilinear", align_corners=True)
    enlarged = lines[:, 0, :-1, :-1].reshape(fine.shape)
    return {
        "on the grid of the training": (own, coarse),
        f"on a grid {FINER} times as fine": (between, fine),
        "the first one, interpolated bilinearly": (enlarged, fine),
        "last given frame of the finer grid": (fine[:, n_cond - 1, None].expand_as(fine), fine),
    }


def _row(name: str, *configs: str, options: Sequence[str] = ()) -> dict[str, Any]:
    """Settings of the runs of a row: name of their folders, configurations, and options."""
    return {"name": name, "configs": list(configs), "options": list(options)}


def _grid(out: Path, rows: Mapping[str, dict[str, Any]], seeds: int) -> Results:
    """Results of the runs of all rows."""
    check_output(out)

    def run(settings: Any, seed: int) -> Scores:
        configs = [CONFIGS / name for name in settings["configs"]]
        words = ["--seed_everything", str(seed), *settings["options"]]
        return table_scores(fit_and_test(main, configs, out / f"{settings['name']}_{seed}", words))

    return run_grid(out / "runs", rows, seeds, run)


if __name__ == "__main__":
    run_command([waves, swap, points])
