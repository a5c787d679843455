"""Command line of all packages: LightningCLI with safer rules for checkpoints and clearer errors.

A run has the name of its configuration file. Its folder is `lightning_logs/<name>/version_<k>`,
with `checkpoints/best.ckpt` and `checkpoints/last.ckpt`.
"""

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jsonargparse import Namespace, auto_cli
from pytorch_lightning import Callback, LightningDataModule, Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn

from common.errors import InputError
from common.ode.solve import SolveError
from common.training.callbacks.function_evaluations import FunctionEvaluations
from common.training.callbacks.random_state import RandomState
from common.training.callbacks.skip_bad_steps import SkipBadSteps
from common.training.checkpoints import BestCheckpoint, LastCheckpoint
from common.training.system import System

warnings.filterwarnings("ignore", message=r".*does not have many workers")
warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")
warnings.filterwarnings("ignore", message=r".*exists and is not empty")
warnings.filterwarnings("ignore", message=r".*'set_vital' is deprecated")
warnings.filterwarnings("ignore", message=r".*WeightAveraging callback, but loading a checkpoint")
warnings.filterwarnings("ignore", category=DeprecationWarning, module="jsonargparse")


class _Parser(LightningArgumentParser):
    """Parser whose errors come without eighty lines of usage before them."""

    def print_usage(self, file: Any = None) -> None:
        print(f"usage: {self.prog} [options]", file=file)


class CommandLine(LightningCLI):
    """Command line of a package: LightningCLI with the rules of this project.

    - `--ckpt_path` loads weights and nothing else: the hyper-parameters of the checkpoint don't
      override the command line, and no class that the checkpoint names is imported.
    - `--ckpt_path last` and `--ckpt_path best` mean the checkpoints of the newest run of this
      configuration; `fit` with `last` continues in the folder of that run.
    - Checkpoints are local files and load with `weights_only=True`.
    """

    def _parse_ckpt_path(self) -> None:
        """Does nothing: Lightning would override arguments by hyper-parameters of a checkpoint."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(BestCheckpoint, "best")
        parser.add_lightning_class_args(LastCheckpoint, "last")
        parser.add_lightning_class_args(SkipBadSteps, "skip")

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        trainer = config.trainer
        name = Path(str(config.config[0])).stem if config.config else "unnamed"
        runs = Path(trainer.default_root_dir or "lightning_logs") / name
        fitting, wanted = self.subcommand == "fit", config.get("ckpt_path")
        if wanted in ("best", "last"):
            config.ckpt_path = self._newest_checkpoint(runs, wanted, required=not fitting)
        elif wanted is not None and not Path(wanted).is_file():
            raise InputError(f"there is no checkpoint file {wanted}; give a path, best or last")
        elif wanted is None and not fitting:
            raise InputError(
                f"{self.subcommand} needs --ckpt_path: best, last or the path of a file"
            )
        if not fitting:
            self.save_config_callback = None  # config.yaml of a run stays that of its training
        # Results are written to the folder of their run; only training begins a new run.
        version = None
        if config.ckpt_path and (wanted in ("best", "last") or not fitting):
            run = Path(config.ckpt_path).resolve().parent.parent
            if run.parent == runs.resolve():
                version = run.name
            else:
                name = f"{name}-{self.subcommand}"
        if "weights_only" in config:
            config.weights_only = True
        if trainer.logger in (None, True):
            arguments = Namespace(save_dir=str(runs.parent), name=name, version=version)
            trainer.logger = Namespace(
                class_path="pytorch_lightning.loggers.TensorBoardLogger", init_args=arguments
            )

    @staticmethod
    def _newest_checkpoint(runs: Path, which: str, required: bool) -> str | None:
        versions = [path for path in runs.glob("version_*") if path.name[8:].isdigit()]
        newest = max(versions, key=lambda path: int(path.name[8:]), default=runs)
        path = newest / "checkpoints" / f"{which}.ckpt"
        if path.is_file():
            rank_zero_info(f"{which} checkpoint: {path}")
            return str(path)
        missing = f"no {which}.ckpt in the newest run of {runs}"
        if required:
            raise InputError(f"{missing}: fit first, or give the path of a file")
        rank_zero_warn(f"{missing}: training starts from the beginning")
        return None


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
    # Code in a checkpoint is never run, even where Lightning by itself would allow it.
    os.environ.setdefault("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")
    with _reported_mistakes():
        _check_config_is_given(arguments, configs)
        command_line(
            System,
            data,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            seed_everything_default=0,
            save_config_kwargs={"overwrite": True},
            trainer_class=trainer,
            parser_class=_Parser,
            trainer_defaults={"callbacks": [RandomState(), FunctionEvaluations(), *callbacks]},
            args=args,
        )


def run_command(functions: list[Callable[..., None]], args: list[str] | None = None) -> None:
    """Runs one of several functions, or the only one, with arguments of the command line.

    Args:
        functions: Subcommands; the signature of each defines its arguments.
        args: Arguments. None: the arguments of the process.
    """
    with _reported_mistakes():
        auto_cli(functions if len(functions) > 1 else functions[0], args=args)


@contextmanager
def _reported_mistakes() -> Iterator[None]:
    """Context in which a mistake of the user ends the program with one message."""
    try:
        yield
    except (ValueError, SolveError) as error:
        mistake = _mistake_in(error)
        if mistake is None:
            raise
        print(f"error: {mistake}", file=sys.stderr)
        raise SystemExit(2) from error


def _mistake_in(error: BaseException | None) -> BaseException | None:
    """Error for the user among the causes of an error. None: there is none.

    jsonargparse wraps such an error if the argument may also be None.
    """
    while error is not None and not isinstance(error, InputError | SolveError):
        error = error.__cause__ or error.__context__
    return error


def _check_config_is_given(arguments: list[str], configs: Path) -> None:
    if not arguments or arguments[0].startswith("-"):
        return
    given = {argument.split("=")[0] for argument in arguments[1:]}
    asks_for_help = any(argument.endswith(".help") for argument in given)
    if not asks_for_help and not given & {"-c", "--config", "-h", "--help", "--print_config"}:
        files = (p for p in _relative(configs).glob("**/*.yaml") if p.parent.name != "ablations")
        shipped = "\n".join(f"  {path}" for path in sorted(files))
        raise InputError(f"{arguments[0]} needs --config FILE; the package has these:\n{shipped}")


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
