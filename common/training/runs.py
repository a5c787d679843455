"""Run folders: `lightning_logs/<package>/<configuration>/<run>`, each written by one training.

A run begins when its training does: a command that is refused before leaves no folder behind.
"""

import fcntl
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.cli import SaveConfigCallback
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

from common.errors import InputError, check_output
from common.files import is_file

CHECKPOINTS, CONFIGURATION = "checkpoints", "config.yaml"
_locks: dict[Path, TextIO] = {}


def run_name(configs: Sequence[str | Path]) -> str:
    """Name of a configuration that is stacked from files: their names, joined by `+`.

    The `config.yaml` of a run has the name of the run's configuration.
    """
    names = (
        path.parent.parent.name if _is_of_run(path) else path.stem for path in map(Path, configs)
    )
    return "+".join(names) or "unnamed"


def configuration_of(checkpoint: str | Path) -> Path | None:
    """File `config.yaml` of the run that a checkpoint belongs to. None: it belongs to no run."""
    path = Path(os.path.abspath(checkpoint)).parent.parent / CONFIGURATION
    return path if _is_of_run(path) else None


def _is_of_run(path: Path) -> bool:
    return is_file(path) and path.name == CONFIGURATION and (path.parent / CHECKPOINTS).is_dir()


def checked_root(root: str | Path) -> Path:
    """Root folder of the runs.

    Raises:
        InputError: It can't be a folder, or nothing can be written into it.
    """
    if not str(root).strip():
        raise InputError(
            f"got trainer.default_root_dir {str(root)!r}; give a folder, such as runs"
        )
    check_output(root, name="trainer.default_root_dir")
    return Path(root)


def checked_id(run_id: str | None) -> str | None:
    """Name of the run's folder: the given one, or that of the SLURM job. None: the next version.

    Raises:
        InputError: The name can't be that of a folder.
    """
    if run_id is None and SLURMEnvironment.detect():
        array, job = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_JOB_ID", "")
        return f"job_{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else f"job_{job}"
    if run_id is not None and not re.fullmatch(r"[\w][\w.+-]{0,100}", run_id):
        raise InputError(f"got run_id {run_id[:40]!r}; give letters, digits, or any of _ . + -")
    return run_id


def newest_checkpoint(runs: Path, which: str, run_id: str | None = None) -> Path | None:
    """Checkpoint `best` or `last` that was written last, in one run or in all runs of a folder."""
    name = f"{CHECKPOINTS}/{which}.ckpt"
    # The second training of a job is in a folder such as `job_5-2`.
    folders = [run_id or "*"]
    if run_id is not None and run_id.startswith("job_"):
        folders.append(f"{run_id}-*")
    found = [path for folder in folders for path in runs.glob(f"{folder}/{name}")]
    # `version_10` comes after `version_9` if both are of the same moment.
    age = lambda p: (p.stat().st_mtime_ns, len(p.parts[-3]), p.parts[-3])
    return max((p for p in found if p.is_file()), key=age, default=None)


def run_of(checkpoint: str, runs: Path) -> Path | None:
    """Folder of the run that a checkpoint belongs to. None: it's none of these runs."""
    run = Path(os.path.abspath(checkpoint)).parent.parent  # not that of a linked folder
    return run if run.parent == Path(os.path.abspath(runs)) else None


def lock(folder: Path) -> None:
    """Keeps all other trainings out of a run's folder until `release_locks` or the process ends.

    Raises:
        InputError: Another process trains in this folder.
    """
    folder = Path(os.path.abspath(folder))  # the same key for a relative path
    if getattr(rank_zero_only, "rank", 0) != 0 or folder in _locks:
        return
    file = (folder / ".lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        owner = file.read().strip() or "another process"
        file.close()
        raise InputError(
            f"the run {folder} is in training by {owner}; wait for its end, or start a new run "
            "without --ckpt_path"
        ) from error
    file.truncate(0)
    file.write(f"process {os.getpid()} on {os.uname().nodename}\n")
    file.flush()
    _locks[folder] = file


def release_locks() -> None:
    """Lets other trainings into the folders that this process has locked."""
    while _locks:
        file = _locks.popitem()[1]
        fcntl.flock(file, fcntl.LOCK_UN)
        file.close()


# Data workers are copies of the process: they would keep the lock after it was killed.
os.register_at_fork(after_in_child=lambda: [file.close() for file in _locks.values()])


class RunLogger(TensorBoardLogger):
    """TensorBoard logger whose folder begins with the training.

    Args:
        save_dir: Folder of the package's runs.
        name: Name of the configuration.
        version: Name of the run. None: the next `version_<k>`.
        exists: Whether the run has begun already, as that of a test or of a resumed training.
        waits: Whether nothing is written before `begin`.
    """

    def __init__(
        self,
        save_dir: str,
        name: str,
        version: str | None = None,
        exists: bool = True,
        waits: bool = False,
    ) -> None:
        super().__init__(save_dir, name, version, default_hp_metric=False)
        self._exists, self._waits = exists, waits

    @property
    def experiment(self) -> Any:
        # The folder is made when something is written, not when Lightning asks for the writer.
        return _Silent() if self._waits else _Later(lambda: super(RunLogger, self).experiment)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: `RunLog` logs the settings, and `config.yaml` keeps them."""

    @rank_zero_only
    def save(self) -> None:
        """Writes what was logged, without Lightning's `hparams.yaml`: there is `config.yaml`."""
        self.experiment.flush()

    def begin(self) -> None:
        """Makes the folder of a new run and locks it. To be called by one process.

        Raises:
            InputError: The run exists, or another process trains in it.
        """
        folder = Path(self.log_dir)
        folder.parent.mkdir(parents=True, exist_ok=True)
        while not self._exists:
            try:
                folder.mkdir()
                self._exists = True
            except FileExistsError:  # another process was faster
                self._version = self._next_after(folder)
                folder = Path(self.log_dir)
        lock(folder)
        self._waits = False

    def _next_after(self, folder: Path) -> int | str:
        if isinstance(self._version, int):
            return self._get_next_version()
        if not folder.name.startswith("job_"):
            raise InputError(f"the run {folder} exists; go on with --ckpt_path last, or rename it")
        job, _, count = folder.name.partition("-")
        return f"{job}-{int(count or 1) + 1}"


class _Later:
    """Writer that is made when it is used."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __getattr__(self, name: str) -> Any:
        return getattr(self._make(), name)


class _Silent:
    """Writer that writes nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


class BeginRun(SaveConfigCallback):
    """Callback that begins the run with the training: its folder, lock, `config.yaml` and logs."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Does nothing: at this time the command may still be refused."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.loggers:
            return
        logger, self.config = trainer.logger, self.config.clone()
        if isinstance(logger, RunLogger):
            before = Path(logger.log_dir) / CHECKPOINTS
            if trainer.is_global_zero:
                logger.begin()
            logger._version = trainer.strategy.broadcast(logger.version)
            callbacks: list[Any] = trainer.checkpoint_callbacks
            for callback in callbacks:
                if Path(getattr(callback, "dirpath", None) or "") == before:
                    callback.dirpath = str(Path(logger.log_dir) / CHECKPOINTS)
            self.config.trainer.logger = None
        # What this command made of the configuration isn't part of it.
        self.config.ckpt_path = self.config.run_id = None
        self.config.allow_changes = False
        self.config.pop("weights_only", None)  # an option of Lightning's own subcommands only
        super().setup(trainer, pl_module, "fit")
