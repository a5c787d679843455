"""Failures in training: what went wrong, at which step, and what to do about it."""

import errno
import re
import traceback
from pathlib import Path

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn

from common.errors import InputError, RunError, reason
from common.files import written_whole
from common.ode.evaluations import SolveError

MOUNT_ERRORS = (errno.EIO, errno.ESTALE, errno.ENOENT, errno.ENOTCONN, errno.EHOSTDOWN)


def explained(
    error: BaseException, trainer: Trainer | None = None, model: nn.Module | None = None
) -> tuple[str, int] | None:
    """Message for the user and exit status: 2 for a mistake of the user, 1 for another failure.

    Args:
        error: Error that ended the program.
        trainer: Trainer, for the batch size. None: not known.
        model: Model, whose weights may be NaN. None: not known.

    Returns:
        None: an error of the program, whose traceback should be seen, or no error, such as the end
        by a signal.
    """
    for cause in _causes(error):
        if isinstance(cause, InputError):
            return str(cause), 2
        if isinstance(cause, SolveError | RunError):
            return str(cause), 1
    return _recognised(error, trainer, model) if isinstance(error, Exception) else None


class Diagnosis(Callback):
    """Callback that writes `failure.txt` into the run's folder if an error ends the training."""

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        folder = _run_folder(trainer)
        begun = trainer.training and trainer.fit_loop.batch_idx >= 0
        if not (begun and isinstance(exception, Exception) and folder and folder.is_dir()):
            return
        place = place_of(trainer)
        trace = "".join(traceback.format_exception(exception))
        path = folder / "failure.txt"
        try:
            with written_whole(path) as file:
                file.write_text(f"{place}, process {trainer.global_rank}\n\n{trace}")
        except OSError:
            return  # of a full disk, for example, which is the failure itself
        print(f"failed at {place}; details: {path.resolve()}", flush=True)


def place_of(trainer: Trainer) -> str:
    """Step, epoch and batch of a training, in words."""
    batch = trainer.fit_loop.batch_idx
    return f"step {trainer.global_step}, epoch {trainer.current_epoch}, batch {batch}"


def _run_folder(trainer: Trainer) -> Path | None:
    folder = trainer.loggers[0].log_dir if trainer.loggers else None
    return Path(folder) if folder else None


def _recognised(
    error: Exception, trainer: Trainer | None, model: nn.Module | None
) -> tuple[str, int] | None:
    """Message and exit status for an error of a library. None: it isn't a known failure."""
    text, first = str(error), reason(error)
    if isinstance(error, MisconfigurationException):
        return first, 2
    if _while_restoring(error):
        return (
            "the checkpoint can't be resumed with this configuration "
            f"({type(error).__name__}: {first[:300]}); take the one of its training, or another "
            "checkpoint"
        ), 2
    if "DataLoader worker" in text and ("exited" in text or "killed" in text):
        return f"{first}; often the memory was full: lower data.num_workers or data.batch_size", 1
    if _out_of_memory(error):
        return _memory_advice(first, trainer), 1
    if isinstance(error, OSError) and error.errno is not None:
        # TensorBoard's errors of a full disk don't name a file.
        place = error.filename or (_run_folder(trainer) if trainer else None)
        where = f"{place}: " if place else ""
        lost = error.errno in MOUNT_ERRORS
        advice = "is its disk still mounted?" if lost else "check its rights and the space left"
        return f"{where}{error.strerror}; {advice}", 1
    if model is not None and not all(bool(p.isfinite().all()) for p in model.parameters()):
        return f"the weights are NaN or infinite ({first}); take an earlier checkpoint", 1
    return None


def _causes(error: BaseException | None) -> list[BaseException]:
    """The error, and those that led to it; jsonargparse wraps errors of optional arguments."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        wrapped = isinstance(error, ValueError | TypeError)
        error = error.__cause__ or (error.__context__ if wrapped else None)
    return found


def _while_restoring(error: BaseException) -> bool:
    """True if the error was raised while Lightning restored the state of a checkpoint."""
    codes = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(
        code.co_filename.endswith("checkpoint_connector.py")
        and code.co_name.lstrip("_").startswith(("restore", "resume"))
        for code in codes
    )


def _out_of_memory(error: BaseException) -> bool:
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or "can't allocate memory" in str(error)


def _memory_advice(text: str, trainer: Trainer | None) -> str:
    size = getattr(getattr(trainer, "datamodule", None), "batch_size", None)
    asked = re.search(r"(tried to allocate|Tried to allocate) ([\d.]+ \w+)", text)
    what = f"out of memory ({asked[2]} more were asked for)" if asked else "out of memory"
    if not size or size < 2 or trainer is None:
        return f"{what}: take a smaller model or smaller images"
    parts = 2 * trainer.accumulate_grad_batches
    return (
        f"{what} with batch_size {size}: give --data.batch_size {size // 2} "
        f"--trainer.accumulate_grad_batches {parts}, for the same number of examples in each step"
    )
