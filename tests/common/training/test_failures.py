"""A failure in training ends in a message that says what to do, or in a step that is left out."""

import errno
from functools import partial
from unittest.mock import Mock

import pytest
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Trainer
from torch import nn

from common.errors import InputError, RunError
from common.files import read_torch
from common.ode.evaluations import SolveError
from common.ode.solve import Solver
from common.training.callbacks.skip_bad_steps import SkipBadSteps
from common.training.failures import Diagnosis, explained
from common.training.system import AutomaticSystem
from tests.common.training.games import Numbers

SGD = partial(torch.optim.SGD, lr=0.1)


class Decay(AutomaticSystem):
    """The solution of `dz/dt = -w z` after a unit of time, with one bad batch.

    In the bad batch the field has a derivative that jumps everywhere, so that the solve itself
    succeeds and the solve of its adjoint fails.
    """

    def __init__(self, bad: int | None = None, error: Exception | None = None) -> None:
        super().__init__(SGD, None)
        self.w = nn.Parameter(torch.ones(()))
        self.bad, self.error = bad, error
        self.solver = Solver("dopri5", 1e-4, 1e-4, gradient="adjoint", max_evaluations=500)

    def training_step(self, batch, batch_idx):
        rough = 1e9 if batch_idx == self.bad and self.error is None else 0.0

        def field(t, y):
            return (-y[0] * self.w + 1e-6 * torch.sin(rough * y[0] * self.w),)

        loss = self.solver.end(field, (batch,), 0.0, 1.0, params=(self.w,)).state[0].sum()
        if batch_idx == self.bad and self.error is not None:
            return Failing.apply(loss, self.error)
        return loss


class Failing(torch.autograd.Function):
    """The identity, whose backward pass fails."""

    @staticmethod
    def forward(ctx, x, error):
        ctx.error = error
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise ctx.error


def fit(model, folder, *callbacks):
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=folder,
        callbacks=list(callbacks),
    )
    trainer.fit(model, datamodule=Numbers())
    return trainer


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (None, "more than 500 evaluations"),
        (AssertionError("underflow in dt 0.0"), "underflowed backward in time: raise rtol"),
        (SolveError("adjoint solve failed"), "adjoint solve failed"),
    ],
    ids=["rough field", "underflow", "other"],
)
def test_a_step_whose_adjoint_fails_is_explained_and_left_out(error, message, tmp_path):
    skip, model = SkipBadSteps(), Decay(bad=2, error=error)
    with pytest.warns(UserWarning, match=message):
        fit(model, tmp_path, skip)
    assert skip.skipped == {"model": 1}
    assert model.w.isfinite()
    assert model.w != 1


def test_other_errors_of_a_backward_pass_keep_their_trace(tmp_path):
    with pytest.raises(AssertionError, match="of its own"):
        fit(Decay(bad=0, error=AssertionError("of its own")), tmp_path, SkipBadSteps())


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")
def test_a_bad_step_is_said_and_its_batch_is_kept(tmp_path):
    with pytest.warns(UserWarning, match="step 2, epoch 0, batch 2 is skipped: .* norm nan"):
        trainer = fit(Decay(bad=2), tmp_path, SkipBadSteps())
    (path,) = tmp_path.glob("lightning_logs/*/bad_steps/step_2.pt")
    kept = read_torch(path)
    assert kept["place"] == "step 2, epoch 0, batch 2"
    assert kept["batch"].shape == (2, 3)
    assert trainer.global_step == 6
    with (
        pytest.raises(RunError, match="1 steps of the model in a row"),
        pytest.warns(UserWarning, match="is skipped"),
    ):
        fit(Decay(bad=2), tmp_path, SkipBadSteps(give_up_after=1))


def test_a_failure_leaves_its_place_and_trace_in_the_folder_of_the_run(tmp_path, capsys):
    with pytest.raises(ZeroDivisionError):
        fit(Decay(bad=1, error=ZeroDivisionError("by nothing")), tmp_path, Diagnosis())
    (path,) = tmp_path.glob("lightning_logs/*/failure.txt")
    text = path.read_text()
    assert text.startswith("step 1, epoch 0, batch 1, process 0")
    assert "ZeroDivisionError: by nothing" in text
    assert f"failed at step 1, epoch 0, batch 1; details: {path}" in capsys.readouterr().out


TRAINER = Mock(
    spec=Trainer,
    datamodule=Mock(batch_size=64),
    accumulate_grad_batches=2,
    loggers=[Mock(log_dir="/runs/version_3")],
)
CUDA = "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79 GiB"
CPU = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 80 bytes. Error code 12"


@pytest.mark.parametrize(
    ("error", "words", "status"),
    [
        (InputError("got it wrong"), ["got it wrong"], 2),
        (RunError("the disk is full"), ["the disk is full"], 1),
        (SolveError("stiff"), ["stiff"], 1),
        (MisconfigurationException("no such device\nand more"), ["no such device"], 2),
        (torch.OutOfMemoryError(CUDA),
         ["2.50 GiB more", "--data.batch_size 32", "accumulate_grad_batches 4"], 1),
        (RuntimeError(CPU), ["80 bytes more", "--data.batch_size 32"], 1),
        (MemoryError(), ["out of memory"], 1),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."),
         ["data.num_workers"], 1),
        (OSError(errno.EIO, "Input/output error", "/mnt/x.npy"), ["/mnt/x.npy", "mounted"], 1),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), ["/x: No space left"], 1),
        (OSError(errno.ENOSPC, "No space left on device"), ["/runs/version_3: No space left"], 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)  # fmt: skip
def test_known_failures_are_explained(error, words, status):
    message, code = explained(error, TRAINER)
    assert code == status
    assert all(word in message for word in words)
    assert "\n" not in message


def test_the_user_mistake_behind_another_error_is_told_and_bugs_are_not():
    wrapped = ValueError("does not validate")
    wrapped.__cause__ = InputError("too wide")
    assert explained(wrapped) == ("too wide", 2)
    assert explained(KeyError("x")) is None
    assert explained(ValueError("x")) is None
