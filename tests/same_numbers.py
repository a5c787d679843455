"""Losses and weights of every shipped configuration after a few steps, to compare two versions.

    python tests/same_numbers.py record before.json    # with the old code
    python tests/same_numbers.py compare before.json   # with the new code: equal to the bit

Each configuration trains three steps and is tested on one batch through its command line, on small
stand-ins where its data must be downloaded. Compare on one machine only: other processors round
differently.
"""

import hashlib
import json
import os
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

sys.path[0] = str(Path(__file__).parents[1])  # in this folder tests/common would hide common
from tests.test_configs import ABLATIONS, CONFIGS, ROOT, arguments, base_of  # noqa: E402

STEPS = 3
SMALL = {
    "msflow": ["--model.statistics_images", "50", "--model.n_draws", "1"],
    "video_ode": ["--model.n_samples", "2", "--model.n_val_samples", "2"],
    "mimic": [],
}


class Recorder(Callback):
    """Keeps the loss of every step, a hash of the weights and all logged numbers."""

    found: ClassVar[dict[str, Any]] = {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any
    ) -> None:
        self.found.setdefault("losses", []).append(float(outputs["loss"]))
        digest = hashlib.sha256()
        for parameter in pl_module.parameters():
            digest.update(parameter.detach().contiguous().numpy().tobytes())
        self.found["weights"] = digest.hexdigest()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.found["fit"] = numbers(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "test":
            self.found["test"] = numbers(trainer)


def numbers(trainer: Trainer) -> dict[str, float]:
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def run(configs: list[Path], folder: Path) -> dict[str, Any]:
    """What one configuration gives, a stack of overlays included."""
    Recorder.found = {}
    package = configs[0].parts[0]
    given = [*arguments(configs, folder), *SMALL[package]]
    given += ["--trainer.callbacks+", "__main__.Recorder"]
    given += ["--trainer.max_steps", str(STEPS), "--trainer.max_epochs", "-1"]
    given += ["--trainer.val_check_interval", "1.0", "--trainer.check_val_every_n_epoch", "1"]
    for stage in ("train", "val", "test"):
        given += [f"--trainer.limit_{stage}_batches", str(STEPS if stage == "train" else 1)]
    given += ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
    main = import_module(f"{package}.cli").main
    main(["fit", *given])
    main(["test", *given, "--ckpt_path", "last"])
    return Recorder.found


def record() -> dict[str, Any]:
    torch.set_num_threads(1)
    results = {}
    stacks = [[config] for config in CONFIGS] + [[base_of(path), path] for path in ABLATIONS]
    for stack in stacks:
        with tempfile.TemporaryDirectory() as folder:
            results[f"{stack[0].parts[0]} {stack[-1].stem}"] = run(stack, Path(folder))
    return results


def differences(before: Any, after: Any, place: str = "") -> list[str]:
    """What was there before and is other now; new entries are no difference."""
    if isinstance(before, dict) and isinstance(after, dict):
        parts = [differences(value, after.get(k), f"{place} {k}") for k, value in before.items()]
        return [line for part in parts for line in part]
    same = before == after or (before != before and after != after)  # NaN is itself here
    return [] if same else [f"{place.strip()}: {before} before, {after} now"]


if __name__ == "__main__":
    os.chdir(ROOT)
    command, file = sys.argv[1], Path(sys.argv[2]).resolve()
    results = record()
    if command == "record":
        file.write_text(json.dumps(results, indent=1))
    else:
        found = differences(json.loads(file.read_text()), results)
        print("\n".join(found) or f"equal: {len(results)} configurations")
        sys.exit(bool(found))
