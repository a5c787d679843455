"""Runs of a small flow in processes of their own, to be killed, stopped and resumed.

The processes are forked from a server that has the libraries loaded, so a start takes a fraction
of a second. `command` gives the same run as words of the real command line.
"""

import multiprocessing
import os
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import torch

from common.files import read_torch
from tests.tiny import FLOW

CONFIG = f"""{FLOW}
data: {{class_path: EmbeddedDigits, init_args: {{batch_size: 8}}}}
last: {{every_n_train_steps: 1}}
trainer:
  accelerator: cpu
  max_epochs: 4
  limit_train_batches: 40
  limit_val_batches: 2
  enable_progress_bar: false
  enable_model_summary: false
  log_every_n_steps: 1
"""


def server():
    """Context of processes that start with the libraries loaded."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["msflow.cli", "tests.harness"])
    return context


def words(root, *options, subcommand="fit"):
    """Arguments of a run whose folders are below `root`."""
    config = Path(root).parent / "small.yaml"
    if not config.exists():
        config.write_text(CONFIG)
    return [
        *(subcommand, "--config", str(config), "--trainer.default_root_dir", str(root)),
        *options,
    ]


def command(root, *options, subcommand="fit"):
    """The same run as a command of the shell."""
    return [sys.executable, "-m", "msflow.cli", *words(root, *options, subcommand=subcommand)]


def run_here(arguments, log):
    """Runs the command line in this process, with its output in a file."""
    from msflow.cli import main

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    torch.set_num_threads(1)
    os.chdir(Path(log).parent)
    sys.argv = ["msflow"]
    with open(log, "a", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        main(arguments)


def start(context, root, *options):
    """Process that trains; its output is in the file `<root>.log`."""
    process = context.Process(target=run_here, args=(words(root, *options), f"{root}.log"))
    process.start()
    return process


def run_folder(root):
    return Path(root) / "msflow" / "small" / "version_0"


def last(root):
    return run_folder(root) / "checkpoints" / "last.ckpt"


def step_of(root):
    return read_torch(last(root))["global_step"]


def same_weights(root, other):
    """Whether two runs ended with weights that are equal to the bit."""
    one, two = (read_torch(last(r))["state_dict"] for r in (root, other))
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def breaking(step, at=11):
    """A training step that raises at its `at`-th call."""
    calls = []

    def broken(self, batch, batch_idx):
        calls.append(batch_idx)
        if len(calls) == at:
            raise RuntimeError("pulled the plug")
        return step(self, batch, batch_idx)

    return broken
