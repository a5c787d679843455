"""Command line of all packages: LightningCLI with safer rules for checkpoints and clearer errors.

A run has the name of its configuration. Its folder is
`lightning_logs/<package>/<configuration>/version_<k>`, with `checkpoints/best.ckpt` and
`checkpoints/last.ckpt`.
"""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import Namespace, auto_cli
from pytorch_lightning import Callback, LightningDataModule, Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from torch import distributed

from common import progress, signals
from common.errors import InputError, reason
from common.training import library_messages, runs  # noqa: F401
from common.training.callbacks.checkpointing import BestCheckpoint, LastCheckpoint
from common.training.callbacks.display import display
from common.training.callbacks.function_evaluations import FunctionEvaluations
from common.training.callbacks.random_state import RandomState
from common.training.callbacks.run_log import RunLog
from common.training.callbacks.settings import Settings, flattened
from common.training.callbacks.skip_bad_steps import SkipBadSteps
from common.training.checkpoints import CheckpointFiles
from common.training.failures import Diagnosis, explained
from common.training.finding import find_checkpoint, with_configuration
from common.training.parser import Parser, versions
from common.training.system import System


class CommandLine(LightningCLI):
    """Command line of a package: LightningCLI with the rules of this project.

    - `--ckpt_path` loads weights and nothing else: the hyper-parameters of the checkpoint don't
      override the command line, and no class that the checkpoint names is imported.
    - `--ckpt_path last` and `--ckpt_path best` mean the checkpoint of this configuration that was
      written last; `fit` with `last` continues in the folder of its run, with any other checkpoint
      it begins a new run. The name of a model that ships with the package means its file.
    - A command without configuration takes that of its checkpoint's run or model file.
    - Checkpoints are local files and load with `weights_only=True`.

    Args:
        args: Arguments of LightningCLI.
        package: Folder of the package; its name is part of the path of its runs.
        kwargs: Arguments of LightningCLI.
    """

    def __init__(self, *args: Any, package: Path, **kwargs: Any) -> None:
        self.package = package
        super().__init__(*args, **kwargs)

    def _parse_ckpt_path(self) -> None:
        """Does nothing: Lightning would override arguments by hyper-parameters of a checkpoint."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(BestCheckpoint, "best")
        parser.add_lightning_class_args(LastCheckpoint, "last")
        parser.add_lightning_class_args(SkipBadSteps, "skip")
        parser.add_argument(
            "--run_id",
            type=str | None,
            help="Name of the run's folder. None: version_<k>, or the number of the SLURM job.",
        )
        parser.add_argument(
            "--allow_changes",
            type=bool,
            default=False,
            help="Resume a training although its settings have changed.",
        )

    def before_instantiate_classes(self) -> None:
        config, fitting = self.config[self.subcommand], self.subcommand == "fit"
        root = config.trainer.default_root_dir
        root = runs.checked_root("lightning_logs" if root is None else root)
        files = [str(path) for path in config.config or [] if path is not None]
        folder = root / self.package.name / runs.run_name(files)
        run_id = runs.checked_id(config.run_id)
        wanted = config.get("ckpt_path")
        # The job of a cluster resumes its own run, and tests the runs of other jobs.
        one = run_id if fitting else config.run_id
        path = find_checkpoint(wanted, folder, self.package, str(self.subcommand), one)
        config.ckpt_path = path
        # Results are written to the folder of their run. Training begins a new run, or goes on
        # with the last checkpoint of one.
        run = runs.run_of(path, folder) if path and (wanted == "last" or not fitting) else None
        if fitting and run is not None:
            runs.lock(run)
        elif fitting and config.run_id is not None and (folder / config.run_id).exists():
            raise InputError(
                f"the run {folder / config.run_id} exists; go on with --ckpt_path last, or give "
                "another run_id"
            )
        if not fitting:
            self.save_config_callback = None  # config.yaml of a run stays that of its training
        if config.trainer.logger in (None, True):
            arguments = Namespace(
                save_dir=str(folder.parent),
                name=folder.name if fitting or run else f"{folder.name}-{self.subcommand}",
                version=run.name if run else run_id if fitting else None,
                exists=not fitting or run is not None,
                waits=fitting,
            )
            logger = f"{runs.RunLogger.__module__}.{runs.RunLogger.__name__}"
            config.trainer.logger = Namespace(class_path=logger, init_args=arguments)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        settings = self.config_init[self.subcommand]
        plugins = settings.trainer.plugins or []
        plugins = [*plugins] if isinstance(plugins, list | tuple) else [plugins]
        plugins.append(CheckpointFiles())
        settings.trainer.callbacks = display(settings.trainer)
        try:
            trainer = super().instantiate_trainer(plugins=plugins, **kwargs)
        except (ValueError, TypeError, RuntimeError) as error:
            raise InputError(f"trainer: {reason(error)}") from error
        self._dump_config()
        allowed = settings.get("allow_changes", False)
        values = flattened(self.config_dump)
        own = [Settings(values, allowed), Diagnosis(), RunLog(values), *trainer.callbacks]  # type: ignore[attr-defined]
        # The run begins before any other callback writes into its folder.
        own.sort(key=lambda callback: not isinstance(callback, runs.BeginRun))
        trainer.callbacks = own  # type: ignore[attr-defined]
        # Lightning's handler of SIGTERM communicates between processes, at any time, and may hang.
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        return trainer

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            super()._run_subcommand(subcommand)
        except BaseException as error:
            _end_children(self.trainer)
            told = explained(error, self.trainer, self.model)
            if told is not None:
                _end_with(*told, error)
            raise


def run(
    data: type[LightningDataModule],
    configs: Path,
    args: list[str] | None = None,
    command_line: type[CommandLine] = CommandLine,
    trainer: type[Trainer] = Trainer,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Runs the command line of a package, for any `System`.

    A mistake of the user ends the program with one message.

    Args:
        data: Base class of the data sets that a configuration may name.
        configs: Folder of the package's configurations.
        args: Arguments. None: the arguments of the process.
        command_line: Class that parses the arguments.
        trainer: Trainer class, whose methods are the subcommands.
        callbacks: Callbacks of every run, in addition to those of the configuration.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    environment = dict(os.environ)
    with _reported_mistakes(), signals.caught():
        try:
            command_line(
                System,
                data,
                package=configs.parent,
                subclass_mode_model=True,
                subclass_mode_data=True,
                auto_configure_optimizers=False,
                seed_everything_default=0,
                save_config_callback=runs.BeginRun,
                save_config_kwargs={"overwrite": True},
                trainer_class=trainer,
                parser_class=Parser,
                parser_kwargs={"version": versions()},
                trainer_defaults={"callbacks": [RandomState(), FunctionEvaluations(), *callbacks]},
                args=with_configuration(arguments, configs),
            )
        finally:
            runs.release_locks()
            _end_communication()
            # Lightning leaves LOCAL_RANK, with which another run in this process would wait for
            # processes that nobody starts.
            os.environ.clear()
            os.environ.update(environment)


def run_command(
    functions: list[Callable[..., Any]] | dict[str, Callable[..., Any]],
    args: list[str] | None = None,
) -> None:
    """Runs one of several functions, or the only one, with arguments of the command line.

    Args:
        functions: Subcommands; the signature of each defines its arguments. One function in a list
            is the command itself.
        args: Arguments. None: the arguments of the process.
    """
    single = isinstance(functions, list) and len(functions) == 1
    components: Any = functions[0] if single else functions  # type: ignore[index]
    with _reported_mistakes():
        auto_cli(components, args=args, parser_class=Parser, version=versions())


@contextmanager
def _reported_mistakes() -> Iterator[None]:
    """Context in which a mistake of the user ends the program with one message."""
    before, threading.excepthook = threading.excepthook, _thread_failed
    try:
        yield
    except Exception as error:
        told = explained(error)
        if told is None:
            raise
        _end_with(*told, error)
    finally:
        threading.excepthook = before
        progress.reset()


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    """Tells what ended a thread, such as TensorBoard's on a full disk; the run hears of it too."""
    told = explained(failure.exc_value) if failure.exc_value else None
    if told is None:
        threading.__excepthook__(failure)
    else:
        sys.stderr.write(f"warning: {told[0]}\n")


def _end_with(message: str, status: int, error: BaseException) -> NoReturn:
    sys.stderr.write(f"error: {message}\n")  # at once, whatever the threads write
    raise SystemExit(status) from error


def _end_communication() -> None:
    """Ends the threads of gloo; Lightning leaves them, and one at exit may abort the process."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _end_children(trainer: Trainer) -> None:
    """Ends the processes of the other devices, which would wait for this one."""
    started = getattr(trainer.strategy.launcher, "procs", [])
    children = list(started)
    started.clear()  # Lightning's observer would kill this process because of their status
    for child in children:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(2)  # a process that stops by itself, for the same reason
        child.kill()
