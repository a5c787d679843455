"""Finding of what a command names: configurations, and checkpoints of runs or shipped models."""

import os
from pathlib import Path

from pytorch_lightning.utilities import rank_zero_info, rank_zero_only, rank_zero_warn

from common.errors import InputError
from common.files import is_file, shown
from common.training import runs
from common.training.model_files import CONFIGURATION, ENDING, read_model_file, shipped_models

CHECKPOINT = "DYNAMICAL_VISION_CHECKPOINT"  # variable for the processes of other devices
NEWEST = ("best", "last")


def find_checkpoint(
    wanted: str | None, folder: Path, package: Path, subcommand: str, run_id: str | None
) -> str | None:
    """Path of the checkpoint that a command asks for. None: `fit` starts from nothing.

    Args:
        wanted: `best`, `last`, a path or the name of a shipped model. None: not given.
        folder: Folder of the runs of this configuration.
        package: Folder of the package, whose models ship with it.
        subcommand: Subcommand.
        run_id: Name of the run in which `best` and `last` are looked for. None: all runs.

    Raises:
        InputError: There is no such checkpoint, or none is given and the subcommand needs one.
    """
    fitting, models = subcommand == "fit", shipped_models(package)
    if wanted is None and not fitting:
        raise InputError(f"{subcommand} needs --ckpt_path: {_choices(models, *NEWEST)}")
    if wanted not in NEWEST:
        return None if wanted is None else str(_file(wanted, models))
    told = os.environ.pop(CHECKPOINT, None)
    if told is not None and getattr(rank_zero_only, "rank", 0) > 0:
        return told  # by the process that started this one
    found = runs.newest_checkpoint(folder, wanted, run_id)
    if found is not None:
        rank_zero_info(f"{wanted} checkpoint: {found}")
        os.environ[CHECKPOINT] = str(found)
        return str(found)
    missing = f"no {wanted}.ckpt in the runs of {folder / run_id if run_id else folder}"
    if not fitting:
        raise InputError(f"{missing}: fit first, or give {_choices(models)}")
    rank_zero_warn(
        f"{missing}: training starts from the beginning; --run_id NAME continues another run"
    )
    return None


def with_configuration(arguments: list[str], configs: Path) -> list[str]:
    """Arguments in which every configuration is a path.

    A configuration that ships with the package is found from any folder. Without any, the
    command takes that of its checkpoint: of the run, or the one that a model file names.

    Args:
        arguments: Arguments of the command line.
        configs: Folder of the package's configurations.

    Raises:
        InputError: A subcommand has no configuration, or names no checkpoint that there is.
    """
    if not arguments or arguments[0].startswith("-"):
        return arguments
    given = {argument.split("=")[0] for argument in arguments[1:]}
    asks_for_help = any(argument.endswith(".help") for argument in given)
    if not asks_for_help and not given & {"-c", "--config", "-h", "--help", "--print_config"}:
        implied = _implied(arguments[1:], configs)
        if not implied:
            raise InputError(f"{arguments[0]} needs --config FILE; {_known(configs)}")
        return [arguments[0], *implied, *arguments[1:]]
    found = list(arguments)
    for i, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if option in ("-c", "--config") and equals:
            found[i] = f"{option}={_shipped(value, configs)}"
        elif option in ("-c", "--config") and i + 1 < len(arguments):
            found[i + 1] = _shipped(arguments[i + 1], configs)
    return found


def _implied(arguments: list[str], configs: Path) -> list[str]:
    """Options that name the configuration of the given checkpoint, and the root of its run."""
    asked = [
        value if equals else following
        for argument, following in zip(arguments, [*arguments, ""][1:], strict=True)
        for option, equals, value in [argument.partition("=")]
        if option == "--ckpt_path"
    ]
    if not asked or asked[-1] in ("", *NEWEST):
        return []
    path = _file(asked[-1], shipped_models(configs.parent))
    if path.suffix == ENDING:
        known = {file.stem: file for file in configs.glob("**/*.yaml")}
        names = str(read_model_file(path).get(CONFIGURATION)).split("+")
        if not known.keys() >= set(names):
            return []
        return [word for name in names for word in ("--config", str(known[name]))]
    own = runs.configuration_of(path)
    if own is None:
        return []
    # <root>/<package>/<configuration>/<run>/config.yaml
    package, root = own.parents[2], own.parents[3]
    options = ["--config", str(own)]
    if package.name == configs.parent.name:
        options += ["--trainer.default_root_dir", str(root)]
    return options


def _file(wanted: str, models: dict[str, Path]) -> Path:
    """File of a checkpoint that is given by its path or by the name of a shipped model."""
    if is_file(wanted):
        return Path(wanted)
    if wanted not in models:
        raise InputError(f"there is no file {shown(wanted)}; give {_choices(models, *NEWEST)}")
    return models[wanted]


def _choices(models: dict[str, Path], *first: str) -> str:
    """Text that lists the values of `--ckpt_path`, for a message."""
    ways = [*first, "the path of a file"]
    ways += [f"a model that ships ({', '.join(models)})"] if models else []
    return " or ".join(filter(None, [", ".join(ways[:-1]), ways[-1]]))


def _known(configs: Path) -> str:
    """Text that lists the configurations and the models of a package, for a message."""
    files = (p for p in configs.glob("**/*.yaml") if p.parent.name != "ablations")
    names = ", ".join(sorted(str(path.relative_to(configs)) for path in files))
    package, models = configs.parent, ", ".join(shipped_models(configs.parent))
    trained = f". Or --ckpt_path with a model that ships ({models})" if models else ""
    return f"{package.name}/configs has {names}{trained}"


def _shipped(name: str, configs: Path) -> str:
    """Path of a configuration file: as given, or in the installed package."""
    places = (Path(name), configs.parents[1] / name, configs / name)
    return next((str(place) for place in places if is_file(place)), name)
