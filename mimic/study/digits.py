"""What the studies on digits share: the images, the network, its training and its audit."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.data.base import Split
from common.typing import Integers as Classes
from common.typing import Pixels
from mimic.audit import TotalCorrelationAudit
from mimic.critics import HybridCritic, MLPCritic
from mimic.data.labelled import ClassData, LabelledDigits
from mimic.module import SupervisedModule
from mimic.networks import SmallCNN
from mimic.plugin import MiMIc
from mimic.study.grid import Numbers
from mimic.study.training import quiet_trainer, seeded, tested, trained
from mimic.tasks import Classification

Settings = dict[str, Any]

PARTS: dict[Split, slice] = {
    "train": slice(2000),
    "val": slice(2000, 2500),
    "test": slice(2500, 5000),
}

# Before the ReLU: behind it most of a sample is zeros, of which critics learn less.
FIRST, MIDDLE, LAST = "network.conv1.norm", "network.conv2.norm", "network.features.linear"
LAYERS = {"first": FIRST, "middle": MIDDLE, "last": LAST}
# Few channels, as total correlations far above 10 nats can't be told apart from samples.
WIDTHS, HIDDEN, KERNEL = (8, 16), 16, 7
# The critic learns for an epoch before its estimate counts.
BEGIN: Settings = {"warmup_steps": 31, "ramp_steps": 31}


class HalvedDigits(LabelledDigits):
    """The embedded digits, half of them for testing, as an audit needs many: 2000, 500, 2500.

    Args:
        n_train: So many of those for training.
        batch_size: Images per step.
    """

    def __init__(self, n_train: int = 2000, batch_size: int = 64) -> None:
        super().__init__(batch_size)
        self.n_train = n_train

    def images(self, split: Split) -> Pixels:
        every = [super(HalvedDigits, self).images(part) for part in PARTS]
        return self._part(torch.cat(every), split)

    def labels(self, split: Split) -> Classes:
        every = [super(HalvedDigits, self).labels(part) for part in PARTS]
        return self._part(torch.cat(every), split)

    def _part(self, every: Tensor, split: Split) -> Tensor:
        part = every[PARTS[split]]
        return part[: self.n_train] if split == "train" else part


class Fitted(NamedTuple):
    """A network that was trained.

    Attributes:
        module: What trained it.
        network: The network.
        data: What it was trained on.
        ms: Of processor time for a step of training, validation included.
    """

    module: SupervisedModule
    network: SmallCNN
    data: ClassData
    ms: float


def digit_network() -> SmallCNN:
    """An untrained one."""
    return SmallCNN((1, 28, 28), 10, WIDTHS, HIDDEN, KERNEL)


def fitted(data: ClassData, settings: Settings, seed: int) -> Fitted:
    """Trains a network on digits.

    Args:
        data: The digits.
        settings: `epochs`, and `penalty`: the arguments of `MiMIc`, or none.
        seed: Of network, order and penalty.
    """
    seeded(seed)
    network = digit_network()
    begin = time.process_time()
    module, trainer = trained(
        network, Classification(10), data, penalties(settings["penalty"], seed), settings["epochs"]
    )
    # Processor time, as other work on the machine doesn't count there.
    ms = 1000 * (time.process_time() - begin) / max(1, trainer.global_step)
    return Fitted(module, network, data, ms)


def penalties(settings: Settings | None, seed: int) -> list[MiMIc]:
    """The callback of these arguments, or none; a critic may be given as `perceptron`."""
    if settings is None:
        return []
    options = dict(settings)
    if options.get("critic") == "perceptron":
        options["critic"] = MLPCritic
    return [MiMIc(**options, seed=seed)]


def judged(fit: Fitted, layers: Sequence[str], steps: int) -> Numbers:
    """What the network does on test images, and what a step of its training took.

    `accuracy` and `ece` are in percent, `gap` is the cross-entropy of test less that of training
    images, `dead` counts channels that are the same on all of them, behind their ReLU, `tc_<key>`
    are total correlations, `tc_within` is that of the last layer within classes.

    Args:
        fit: The network.
        layers: Keys of `LAYERS` to audit.
        steps: Of each critic of the audit.
    """
    audits = {key: _audit(LAYERS[key], steps) for key in layers}
    within = TotalCorrelationAudit(LAST, n_classes=10, labels="labels", steps=steps)
    logged = tested(fit.module, quiet_trainer([*audits.values()]), fit.data)
    tested(fit.module, quiet_trainer([within]), fit.data)
    return {
        "accuracy": 100 * logged["test/accuracy"],
        "ece": 100 * logged["test/ece"],
        "gap": logged["test/loss"] - _loss(fit, "train"),
        "dead": float(dead_channels(fit)),
        "ms": fit.ms,
        **{f"tc_{key}": _value(audit) for key, audit in audits.items()},
        "tc_within": _value(within),
    }


def _audit(layer: str, steps: int) -> TotalCorrelationAudit:
    # A perceptron for maps: much of a picture is ground, where no channel varies, and of such
    # channels their covariance says little.
    critic = HybridCritic if layer == LAST else MLPCritic
    return TotalCorrelationAudit(layer, reduce="per_location", critic=critic, steps=steps)


def _value(audit: TotalCorrelationAudit) -> float:
    (measured,) = audit.measured.values()
    return measured.value


def dead_channels(fit: Fitted) -> int:
    """Channels behind a ReLU, of all layers, that are the same on every test image."""
    x, count = fit.data.images("test") / 255, 0
    with torch.no_grad():
        for layer in fit.network[:-1].eval():
            x = torch.cat([layer(part) for part in x.split(500)])
            z = x.transpose(0, 1).flatten(1)
            count += int((z.amax(1) == z.amin(1)).sum())
    return count


def on_images(network: nn.Module, images: Pixels) -> Tensor:
    """Outputs for images as bytes, in evaluation mode."""
    was = network.training
    network.eval()
    with torch.no_grad():
        outputs = torch.cat([network(part / 255) for part in images.split(500)])
    network.train(was)
    return outputs


def _loss(fit: Fitted, split: Split) -> float:
    outputs = on_images(fit.network, fit.data.images(split))
    return float(F.cross_entropy(outputs, fit.data.labels(split)))
