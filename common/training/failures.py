"""Failures in training: what went wrong, at which step, and what to do about it."""

import errno
import re
import traceback
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback, LightningModule, Trainer

from common.errors import InputError, RunError
from common.files import written_whole
from common.ode.solve import SolveError

MOUNT_ERRORS = (errno.EIO, errno.ESTALE, errno.ENOENT, errno.ENOTCONN, errno.EHOSTDOWN)


def explained(error: BaseException, trainer: Trainer | None = None) -> tuple[str, int] | None:
    """Message for the user and exit status: 2 for a mistake of the user, 1 for another failure.

    Args:
        error: Error that ended the program.
        trainer: Trainer, for the step and the batch size. None: not known.

    Returns:
        None: an error of the program, whose traceback should be seen.
    """
    for cause in _causes(error):
        if isinstance(cause, InputError):
            return str(cause), 2
        if isinstance(cause, SolveError | RunError):
            return str(cause), 1
    text = str(error)
    first = text.strip().partition("\n")[0]
    if isinstance(error, MisconfigurationException):
        return first, 2
    if _while_restoring(error):
        reason = f"{type(error).__name__}: {first}"[:300]
        return f"the checkpoint can't be resumed with this configuration ({reason})", 2
    if "DataLoader worker" in text and ("exited" in text or "killed" in text):
        return f"{first}; often the memory was full: lower data.num_workers or data.batch_size", 1
    if _out_of_memory(error):
        return _memory_advice(first, trainer), 1
    if isinstance(error, OSError) and error.errno is not None:
        where = f"{error.filename}: " if error.filename else ""
        lost = "; is its disk still mounted?" if error.errno in MOUNT_ERRORS else ""
        return f"{where}{error.strerror}{lost}", 1
    return None


class Diagnosis(Callback):
    """Callback that writes `failure.txt` into the run's folder if an error ends the training."""

    def __init__(self) -> None:
        self.place = ""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.place = (
            f"step {trainer.global_step}, epoch {trainer.current_epoch}, batch {batch_idx}"
        )

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        folder = Path(trainer.loggers[0].log_dir or "") if trainer.loggers else None
        if not (self.place and isinstance(exception, Exception) and folder and folder.is_dir()):
            return
        trace = "".join(traceback.format_exception(exception))
        path = folder / "failure.txt"
        try:
            with written_whole(path) as file:
                file.write_text(f"{self.place}, process {trainer.global_rank}\n\n{trace}")
        except OSError:
            return  # of a full disk, for example, which is the failure itself
        print(f"failed at {self.place}; details: {path.resolve()}", flush=True)


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


def _memory_advice(reason: str, trainer: Trainer | None) -> str:
    size = getattr(getattr(trainer, "datamodule", None), "batch_size", None)
    asked = re.search(r"(tried to allocate|Tried to allocate) ([\d.]+ \w+)", reason)
    what = f"out of memory ({asked[2]} more were asked for)" if asked else "out of memory"
    if not size or size < 2 or trainer is None:
        return f"{what}: take a smaller model or smaller images"
    parts = 2 * trainer.accumulate_grad_batches
    return (
        f"{what} with batch_size {size}: give --data.batch_size {size // 2} "
        f"--trainer.accumulate_grad_batches {parts}, for the same number of examples in each step"
    )
