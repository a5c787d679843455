"""Studies of multi-scale flows: the accuracy of solvers, and two objectives against time.

python -m msflow.study solvers FILE
python -m msflow.study objectives [--seeds 3]
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from common.data.images.embedded import EmbeddedDigits
from common.errors import check_counts, check_output
from common.experiments import (
    Scores,
    fit_and_test,
    markdown,
    results_table,
    run_grid,
    write_report,
)
from common.flows.pixel import bits_per_dim
from common.ode.solve import Solver
from common.training.cli import run_command
from common.typing import Pixels
from msflow.cli import main
from msflow.flow import MultiScaleFlow
from msflow.module import MultiScaleFlowModule

CONFIGS = Path(__file__).parent / "configs"
REFERENCE = Solver("rk4", step_size=1 / 64)
SOLVERS = [
    *(Solver("rk4", step_size=1 / steps) for steps in (2, 4, 8, 16)),
    *(Solver("midpoint", step_size=1 / steps) for steps in (8, 32)),
    *(Solver("bosh3", rtol=tol, atol=tol) for tol in (1e-2, 1e-3, 1e-4)),
    *(Solver("dopri5", rtol=tol, atol=tol) for tol in (1e-2, 1e-3, 1e-5)),
]
COLUMNS = {
    "test bpd": ("bpd", ".3f"),
    "seconds to 1.63 bpd (val)": ("seconds_to_1.63", ".0f"),
    "largest solver error": ("solver_error", ".4f"),
    "steps": ("steps", ".0f"),
    "skipped steps": ("skipped", ".0f"),
}


def solvers(ckpt_path: Path, n: int = 16, out: Path = Path("lightning_logs/solvers.md")) -> None:
    """Writes a table of the solvers' errors on a trained flow of digits, in double precision.

    The errors are against rk4 with 64 steps and the same noise.

    Args:
        ckpt_path: Checkpoint file of a flow.
        n: Number of test images, and of samples.
        out: File of the table.
    """
    check_counts(1, n=n)
    check_output(out, ".md")
    flow = MultiScaleFlowModule.load_from_checkpoint(ckpt_path).flow.double()
    data = EmbeddedDigits()
    data.setup("test")
    images = data.images("test")[:n]
    truth = _measured(flow, images, REFERENCE)
    rows = []
    for solver in SOLVERS:
        found = _measured(flow, images, solver)
        gradient = (found.gradient - truth.gradient).norm() / truth.gradient.norm()
        grey = (found.samples.double() - truth.samples.double()).abs().mean()
        rows.append(
            [
                str(solver),
                f"{found.evaluations}",
                f"{float((found.bits - truth.bits).mean()):+.5f}",
                f"{float((found.bits - truth.bits).abs().mean()):.5f}",
                f"{float(gradient):.1e}",
                f"{float(grey):.3f}",
            ]
        )
    numbers = ["bias, bits/dim", "error, bits/dim"]
    errors = ["error of the gradient", "error of samples, grey levels"]
    write_report(out, markdown(["solver", "NFE", *numbers, *errors], rows))


class _Measured(NamedTuple):
    """Bits, gradient and samples of a flow with a solver, and its number of evaluations."""

    bits: Tensor
    gradient: Tensor
    samples: Pixels
    evaluations: int


def _measured(flow: MultiScaleFlow, images: Pixels, solver: Solver) -> _Measured:
    solver = replace(solver, gradient="checkpoint")  # many steps in double precision
    torch.manual_seed(0)
    bits = bits_per_dim(flow.log_prob(images, solver), flow.dims)
    blocks = [block for scale in flow.scales for block in scale.blocks]
    evaluations = sum(block.evaluations.forward for block in blocks)
    gradients = torch.autograd.grad(bits.mean(), list(flow.parameters()), allow_unused=True)
    gradient = torch.cat([g.flatten() for g in gradients if g is not None])
    torch.manual_seed(0)
    return _Measured(bits.detach(), gradient, flow.sample(len(images), solver=solver), evaluations)


def objectives(seeds: int = 3, out: Path = Path("lightning_logs/objectives")) -> None:
    """Trains digits by likelihood and by flow matching; writes a table.

    The curves are in the TensorBoard files of the runs.

    Args:
        seeds: Number of runs of each objective.
        out: Folder of the runs and of the table.
    """
    check_output(out)
    rows = {"likelihood": "digits_likelihood.yaml", "flow matching": "digits.yaml"}

    def run(settings: Any, seed: int) -> Scores:
        options = ["--seed_everything", str(seed)]
        return _scores(fit_and_test(main, [CONFIGS / settings], out / f"{seed}", options))

    results = run_grid(out / "runs", rows, seeds, run)
    write_report(out / "objectives.md", results_table(results, COLUMNS, f"digits, {seeds} seeds"))


def _scores(folder: Path) -> Scores:
    """Scores of a run from its TensorBoard files."""
    # The test begins at step 0 again, which would purge the events of the training.
    events = EventAccumulator(str(folder), {"scalars": 0}, purge_orphaned_data=False)
    events.Reload()
    tags = set(events.Tags()["scalars"])

    def values(tag: str) -> list[Any]:
        return list(events.Scalars(tag)) if tag in tags else []

    start = events.FirstEventTimestamp()
    passed = [e.wall_time - start for e in values("val/bpd") if e.value <= 1.63]
    errors = [
        e.value for stage in ("train", "val", "test") for e in values(f"{stage}/solver_error")
    ]
    return {
        "bpd": values("test/bpd")[-1].value,
        "seconds_to_1.63": min(passed, default=float("nan")),
        "solver_error": max(errors),
        "steps": 1.0 + max(event.step for tag in tags for event in values(tag)),
        "skipped": max((e.value for e in values("train/skipped_steps")), default=0.0),
    }


if __name__ == "__main__":
    run_command([solvers, objectives])
