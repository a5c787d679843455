"""Studies of video GANs: temporal generators (Gordon & Parde 2020, section 4), and digits.

    python -m video_ode.study_gan motions [--seeds 3] [--gans "[TGAN, SparseTGAN]"]
    python -m video_ode.study_gan digits [--seeds 3]

`motions` trains small GANs on a moving digit and writes two tables: networks of the vector field
(section 4.1), and families and orders of differential equations (section 4.2). `digits` trains
`tgan_digits.yaml` and compares it with an untrained generator and with controls. Finished runs are
kept.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from common.data.videos.base import Clip
from common.errors import check_output
from common.experiments import (
    Scores,
    fit_and_test,
    results_table,
    run_grid,
    write_report,
    write_results,
)
from common.training.cli import run_command
from video_ode.cli import main
from video_ode.evaluation.files.media import save_gif
from video_ode.evaluation.generation import HALF, SHUFFLED
from video_ode.evaluation.pictures import animation, generated_scene
from video_ode.evaluation.rows import Row
from video_ode.gan.module import VideoGANModule
from video_ode.predictor import to_pixels
from video_ode.study import table_scores

GAN = Literal["TGAN", "SparseTGAN", "MoCoGAN", "TGANv2"]
CONFIGS = Path(__file__).parent / "configs/gan"
FILES: dict[str, list[str]] = {
    "TGAN": ["study_gan.yaml"],
    "SparseTGAN": ["study_gan.yaml", "ablations/study_gan_sparse.yaml"],
    "MoCoGAN": ["study_gan.yaml", "ablations/study_gan_mocogan.yaml"],
    "TGANv2": ["study_gan.yaml", "ablations/study_gan_tganv2.yaml"],
}
DIGITS = "tgan_digits.yaml"
# Widths with which the two layers of f have as many weights as the original generator.
EQUAL = {"TGAN": 383, "MoCoGAN": 49}
FRAMES, SIZE = 8, 16
STEP = 1 / (FRAMES - 1)  # a frame, if a clip takes the time from 0 to 1
SOLVER = {"method": "rk4", "step_size": STEP}
DISTANCE, SCORE = "digit_frechet_video", "digit_inception_score"
MEASURED = {"Fréchet distance": (DISTANCE, ".2f"), "Inception score": (SCORE, ".2f")}
COLUMNS = {
    **MEASURED,
    "parameters of G_t": ("parameters", ",.0f"),
    "evaluations of f": ("evaluations", ".0f"),
    "turns a second": ("turns", ".1f"),
}
Spec = dict[str, Any]  # class and arguments, as in a configuration


def motions(
    seeds: int = 3,
    gans: Sequence[GAN] = ("TGAN", "SparseTGAN", "MoCoGAN", "TGANv2"),
    out: Path = Path("lightning_logs/study_gan"),
) -> None:
    """Runs the ablation of the temporal generator; writes `motions.md`.

    Beside it are `motions_fields` and `motions_families`: the numbers of every run (.csv), a
    figure of them (.png), and videos of the first seed, a line for each row (.gif).

    Args:
        seeds: Number of runs of each row.
        gans: GANs whose temporal generator is replaced. Section 4.1 has TGAN and MoCoGAN only.
            SparseTGAN is TGAN against a critic of three sparse frames.
        out: Folder of the runs and of the table.
    """
    check_output(out)

    def run(settings: Any, seed: int) -> Scores:
        return _run(settings, seed, out)

    parts = []
    tables = (("f(x)", fields, "fields"), ("family and order", families, "families"))
    for title, rows, file in tables:
        found = {f"{gan}, {name}": spec for gan in gans for name, spec in rows(gan).items()}
        if found:
            results = run_grid(out / "runs", _settings(found), seeds, run)
            parts.append(results_table(results, COLUMNS, f"{title}, {seeds} seeds"))
            path = out / f"motions_{file}"
            panels = {heading: key for heading, (key, _) in MEASURED.items()}
            write_results(path, results, panels, base=next(iter(found)))
            save_gif(animation([_videos(name, out) for name in found]), path.with_suffix(".gif"))
    write_report(out / "motions.md", "\n\n".join(parts))


def digits(seeds: int = 3, out: Path = Path("lightning_logs/study_gan")) -> None:
    """Trains a GAN of a moving digit; writes `digits.md`, with its controls.

    Args:
        seeds: Number of runs.
        out: Folder of the runs and of the table.
    """
    check_output(out)
    rate = "--model.init_args.{}_optimizer.init_args.lr"
    still = [rate.format("generator"), "0", rate.format("critic"), "0"]
    short = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1"]
    rows = {"trained": [], "untrained": [*still, *short]}

    def run(options: Any, seed: int) -> Scores:
        words = ["--seed_everything", str(seed), *options]
        folder = out / f"digits_{'untrained' if options else 'trained'}_{seed}"
        return table_scores(fit_and_test(main, [CONFIGS / DIGITS], folder, words))

    results = run_grid(out / "digits", rows, seeds, run)
    for name in (SHUFFLED, HALF):
        keys = {key: f"{name} {key}" for key, _ in MEASURED.values()}
        results[f"*{name}*"] = [
            {key: scores[found] for key, found in keys.items()} for scores in results["trained"]
        ]
    write_report(out / "digits.md", results_table(results, MEASURED, f"{seeds} seeds"))


def fields(gan: GAN) -> dict[str, Spec | None]:
    """Vector fields of an ODE of first order, by name (section 4.1)."""
    if gan not in EQUAL:
        return {}
    two = {"layers": 2, "activation": "tanh"}
    return {
        "ODE, one layer": ode(gan),
        "ODE, two layers": ode(gan, width=SIZE, **two),
        "ODE, parameters of the original": ode(gan, width=EQUAL[gan], **two),
        "ODE, one layer, pre-encoder": _spec(
            "pre_encoded.PreEncoded", dynamics=ode(gan), width=64, layers=2
        ),
    }


def families(gan: GAN) -> dict[str, Spec | None]:
    """Families and orders of differential equations, by name (section 4.2)."""
    higher = dict(field=_field(gan), solver=SOLVER)
    made = {"original": None, "ODE, one layer": ode(gan)}
    for order in (2, 3):
        made[f"ODE of order {order}"] = _timed(
            "higher_order.HigherOrderODE", order=order, **higher
        )
        made[f"ODE of order {order}, f of the highest derivative"] = _timed(
            "higher_order.HigherOrderODE", order=order, inputs="highest", **higher
        )
    step = {"class_path": "common.ode.sde.EulerMaruyama", "init_args": {"step_size": STEP / 2}}
    sde = dict(drift=_field(gan), diffusion=_field(gan), positive=False)
    return {**made, "SDE": _timed("sde.NeuralSDE", solver=step, **sde)}


def ode(gan: GAN, **field: Any) -> Spec:
    """Settings of an ODE of first order."""
    return _timed("ode.NeuralODE", field=_field(gan, **field), solver=SOLVER)


def turns_a_second(module: VideoGANModule) -> float:
    """Turns a second: losses and gradients of critics and generator, the median of five."""
    shape = module.generator.shape
    assert shape is not None
    clip = Clip(
        torch.randint(256, (16, FRAMES, *shape), dtype=torch.uint8),
        torch.arange(float(FRAMES)),
        torch.ones(16, FRAMES, dtype=torch.bool),
        torch.arange(16),
    )
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        for player in module.players():
            module.loss(player, clip)[0].backward()
        seconds.append(time.perf_counter() - begin)
    return 1 / sorted(seconds)[2]


def _run(settings: Mapping[str, Any], seed: int, out: Path) -> Scores:
    """Trains and tests one GAN, and counts what its temporal generator costs."""
    configs = [CONFIGS / name for name in settings["configs"]]
    words = ["--seed_everything", str(seed)]
    if settings["dynamics"] is not None:
        option = "--model.init_args.generator.init_args.dynamics"
        words += [option, json.dumps(settings["dynamics"])]
    folder = fit_and_test(main, configs, out / f"{settings['name']}_{seed}", words)
    module = VideoGANModule.load_from_checkpoint(folder / "checkpoints" / "last.ckpt")
    dynamics = module.generator.dynamics
    with torch.no_grad():
        module.eval().generate(1, torch.arange(float(FRAMES)))
    return {
        **table_scores(folder),
        "parameters": float(sum(p.numel() for p in dynamics.parameters())),
        "evaluations": float(dynamics.evaluations.forward),
        "turns": turns_a_second(module.train()),
    }


def _videos(name: str, out: Path) -> Sequence[Row]:
    """Six generated videos of a row, by its first seed."""
    folder = out / f"{_file_name(name)}_0"
    path = max(folder.glob("*/*/*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime)
    torch.manual_seed(0)
    with torch.no_grad():
        module = VideoGANModule.load_from_checkpoint(path).eval()
        videos = module.generate(6, torch.arange(float(FRAMES)))
    return generated_scene(list(to_pixels(videos))).panels


def _file_name(name: str) -> str:
    return name.replace(", ", "_").replace(" ", "_")


def _settings(rows: Mapping[str, Spec | None]) -> dict[str, Spec]:
    return {
        name: {
            "name": _file_name(name),
            "configs": FILES[name.partition(",")[0]],
            "dynamics": spec,
        }
        for name, spec in rows.items()
    }


def _spec(class_path: str, **arguments: Any) -> Spec:
    return {"class_path": f"video_ode.dynamics.{class_path}", "init_args": arguments}


def _timed(class_path: str, **arguments: Any) -> Spec:
    """Settings of dynamics whose time goes from 0 to 1 in a clip, as in the paper."""
    dynamics = _spec(class_path, **arguments)
    return _spec("time_scaled.TimeScaled", dynamics=dynamics, frames=FRAMES - 1)


def _field(gan: GAN, **options: Any) -> Spec:
    given = {"layers": 1, "last_activation": "tanh", **options}
    if gan == "TGANv2":
        return _spec("fields.ConvField", **given)
    xavier = {"init": "xavier", "gain": 2**0.5}
    return {"class_path": "common.nn.mlp.MLPField", "init_args": {**given, **xavier}}


if __name__ == "__main__":
    run_command([motions, digits])
