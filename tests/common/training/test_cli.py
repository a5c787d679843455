"""Commands made of functions: arguments reach them, and mistakes end them with one message."""

import errno
import os
import threading
from importlib import metadata

import pytest

from common.errors import InputError, check_counts
from common.training.cli import run_command
from msflow.cli import main


def times(a: int, b: int = 2) -> None:
    """A product.

    Args:
        a: One.
        b: Another.
    """
    check_counts(1, a=a, b=b)
    print(a * b)


def broken(word: str = "x") -> None:
    """Fails of itself.

    Args:
        word: What it says.
    """
    raise ValueError(word)


def wrapped() -> None:
    """Fails because of what was given."""
    try:
        raise InputError("got it wrong")
    except InputError as error:
        raise ValueError("can't be done") from error


def test_one_function_is_the_command_and_several_are_subcommands(capsys):
    run_command([times], ["3", "--b", "4"])
    run_command([times, broken], ["times", "5"])
    assert capsys.readouterr().out.split() == ["12", "10"]


@pytest.mark.parametrize(
    ("functions", "args", "message"),
    [
        ([times], ["3", "--b", "0"], "error: got b 0; give 1 or more\n"),
        ([wrapped], [], "error: got it wrong\n"),
    ],
)
def test_mistakes_of_the_user_end_it_with_one_message(functions, args, message, capsys):
    with pytest.raises(SystemExit) as end:
        run_command(functions, args)
    assert end.value.code == 2
    assert capsys.readouterr().err == message


def test_other_errors_keep_their_trace():
    with pytest.raises(ValueError, match="its own"):
        run_command([broken], ["--word", "its own"])


def in_a_thread(full: bool) -> None:
    """Fails in a thread, as TensorBoard's does on a full disk.

    Args:
        full: Whether the disk is full; otherwise the program is wrong.
    """

    def write():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "logs") if full else KeyError("x")

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()


def test_known_failures_of_threads_are_warnings_and_others_keep_their_trace(capsys):
    run_command([in_a_thread], ["true"])
    told = "warning: logs: No space left on device; check its rights and the space left\n"
    assert capsys.readouterr().err == told
    before = threading.excepthook
    run_command([in_a_thread], ["false"])
    assert threading.excepthook is before
    assert "KeyError: 'x'" in capsys.readouterr().err


@pytest.mark.parametrize("functions", [[times], [times, broken], {"times": times}])
def test_versions(functions, capsys):
    with pytest.raises(SystemExit) as end:
        run_command(functions, ["--version"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert f"dynamical-vision {metadata.version('dynamical-vision')}, torch " in shown


def test_options_of_functions_cannot_be_abbreviated(capsys):
    for functions, args in (([in_a_thread], []), ([times, in_a_thread], ["in_a_thread"])):
        with pytest.raises(SystemExit) as end:
            run_command(functions, [*args, "--ful", "true"])
        assert end.value.code == 2
    assert "full" in capsys.readouterr().err


FIT = ("fit", "--config", "msflow/configs/digits.yaml", "--print_config")


@pytest.mark.parametrize(
    ("option", "value", "meant"),
    [
        ("--model", "MultiScaleFlowModul", "MultiScaleFlowModule"),
        ("--model.flow.field", "ResidualFeld", "ResidualField"),
        ("--model.optimizer", "Adamm", "Adam"),
        ("--model.optimizer", "torch.optim.Adamm", "Adam"),
        ("--data", "EmbeddedDigitz", "EmbeddedDigits"),
        ("--data", "common.data.images.embeded.EmbeddedDigits", "embedded"),
        ("--trainer.callbacks", "SampleGrd", "SampleGrid"),
        ("--trainer.logger", "TensorBordLogger", "TensorBoardLogger"),
        ("--data.batch_siz", "3", "batch_size"),
        ("--trainer.max_ep", "3", "--trainer.max_epochs"),
        ("--model.flow.solver.meth", "rk4", "solver.method"),
    ],
)
def test_typos_and_abbreviations_are_answered_with_what_is_known(option, value, meant, capsys):
    with pytest.raises(SystemExit) as end:
        main([*FIT, option, value])
    assert end.value.code == 2
    assert f"did you mean {meant}" in capsys.readouterr().err


def test_packages_tell_their_versions(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert "pytorch-lightning 2." in capsys.readouterr().out
