"""Studies of the warping ODE: a rotation, driving scenes, and real clips.

python -m video_ode.study_flow rotation
python -m video_ode.study_flow scenes [--seeds 3]
python -m video_ode.study_flow clips [--seeds 3]
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.errors import check_output
from common.experiments import (
    Columns,
    Scores,
    fit_and_test,
    markdown,
    results_table,
    run_grid,
    write_report,
)
from common.metrics.flow import end_point_error
from common.ode.solve import Solver
from common.training.cli import run_command
from video_ode.cli import main
from video_ode.optical_flow.evaluation import BASELINES
from video_ode.optical_flow.warping import (
    CoordinateWarping,
    RepeatedWarping,
    Warping,
    pixel_places,
)
from video_ode.study import table_scores

CONFIGS = Path(__file__).parent / "configs/optical_flow"
SIDE, ANGLE = 96, math.radians(12)  # of the rotating picture
WAVES, HIGHEST = 24, 0.45  # number of waves of its texture, and radians per pixel of the shortest
STEPS = (1, 2, 4, 8, 16, 32, 64)
SCENES: Columns = {
    "EPE": ("epe", ".3f"),
    "EPE, all pixels": ("epe_all", ".3f"),
    "outliers": ("f1_all", ".3f"),
    "within 1 px": ("within_1px", ".3f"),
    "PSNR of the middle frame": ("psnr", ".2f"),
}
CLIPS: Columns = {
    "PSNR of the middle frame": ("psnr", ".2f"),
    "SSIM of the middle frame": ("ssim", ".4f"),
}


def rotation(out: Path = Path("lightning_logs/flow_rotation.md")) -> None:
    """Writes the errors of the solvers on a picture that turns by 12 degrees, in closed form.

    Args:
        out: File of the table.
    """
    check_output(out, ".md")
    rows = []
    for steps in STEPS:
        euler, rk4 = (Solver(method, step_size=1 / steps) for method in ("euler", "rk4"))
        solvers = (RepeatedWarping(steps), CoordinateWarping(euler), CoordinateWarping(rk4))
        (repeated, _), *traced = map(_rotation_errors, solvers)
        cells = [cell for psnr, epe in traced for cell in (f"{psnr:.1f}", f"{epe:.1e}")]
        rows.append([str(steps), f"{repeated:.1f}", *cells])
    head = ["steps", "repeated warps: PSNR", "Euler: PSNR", "EPE", "RK4: PSNR", "EPE"]
    write_report(out, markdown(head, rows))


def scenes(seeds: int = 3, out: Path = Path("lightning_logs/flow_scenes")) -> None:
    """Trains optical flow on driving scenes without its truth; writes a table of the errors.

    Args:
        seeds: Number of runs.
        out: Folder of the runs and of the table.
    """
    _compared("flow_scenes.yaml", SCENES, seeds, out)


def clips(seeds: int = 3, out: Path = Path("lightning_logs/flow_clips")) -> None:
    """Trains frame interpolation on real clips; writes a table of the held-out middle frames.

    Args:
        seeds: Number of runs.
        out: Folder of the runs and of the table.
    """
    _compared("flow_clips.yaml", CLIPS, seeds, out)


def _compared(config: str, columns: Columns, seeds: int, out: Path) -> None:
    """Table of the runs of a configuration, with the baselines of its test."""
    check_output(out)

    def run(settings: Any, seed: int) -> Scores:
        words = ["--seed_everything", str(seed)]
        return table_scores(fit_and_test(main, [CONFIGS / settings], out / f"run_{seed}", words))

    results: Mapping[str, Any] = run_grid(out / "runs", {"warping ODE": config}, seeds, run)
    rows = dict(results)
    for row in BASELINES:
        first = results["warping ODE"][0]  # the same for all seeds
        scores = {key: first[f"{row} {key}"] for key, _ in columns.values()}
        rows[row] = [scores] * seeds
    write_report(out / "table.md", results_table(rows, columns, f"{seeds} seeds"))


def _rotation_errors(warping: Warping) -> tuple[float, float]:
    """PSNR in dB and end-point error in pixels of the rotation, within 0.7 of the half side."""
    pixels = pixel_places(torch.zeros(1, 1, SIDE, SIDE, dtype=torch.float64))
    middle = (SIDE - 1) / 2
    x, y = pixels[0] - middle
    c, s = math.cos(ANGLE), math.sin(ANGLE)
    before = torch.stack([c * x + s * y, c * y - s * x])[None] + middle
    near = (x.square() + y.square()).sqrt() < 0.7 * SIDE / 2

    def turning(time: Tensor, places: Tensor) -> Tensor:
        x, y = (places - middle).unbind(1)
        return ANGLE * torch.stack([-y, x], 1)

    found = warping(_texture(pixels), turning, 0.0, torch.ones(1))
    truth = _texture(before)
    error = (found.frames[:, 0] - truth)[..., near].square().mean()
    psnr = 10 * torch.log10((truth.max() - truth.min()) ** 2 / error)
    epe = end_point_error(found.displacement[:, 0], before - pixels)[..., near].mean()
    return float(psnr), float(epe)


def _texture(places: Tensor) -> Tensor:
    """Sum of random waves at places `[1 2 h w]`, `[1 1 h w]`."""
    draw = np.random.default_rng(0)
    total = torch.zeros_like(places[:, :1])
    for _ in range(WAVES):
        across, down = draw.uniform(-HIGHEST, HIGHEST, 2)
        phase = draw.uniform(0, 2 * math.pi)
        total = total + torch.sin(across * places[:, :1] + down * places[:, 1:] + phase)
    return total


if __name__ == "__main__":
    run_command([rotation, scenes, clips])
