"""Common parts of the studies on digits: images, network, training and audit."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from pytorch_lightning import seed_everything
from torch import Tensor, nn
from torch.nn import functional as F

from common.data.base import Split
from common.experiments import Scores
from common.typing import Integers, Pixels
from mimic.audit import TotalCorrelationAudit
from mimic.critic.critics import HybridCritic, MLPCritic
from mimic.studies.fitting import Settings, penalties, tested, trained
from mimic.supervised.data.labelled import ClassData, LabelledDigits
from mimic.supervised.module import SupervisedModule
from mimic.supervised.networks import SmallCNN
from mimic.supervised.tasks import Classification

PARTS: dict[Split, slice] = {"train": slice(2000), "val": slice(2000, 2500)}
PARTS["test"] = slice(2500, 5000)

# Before the ReLU: behind it most of a sample is zeros, of which critics learn less.
FIRST, MIDDLE, LAST = "network.conv1.norm", "network.conv2.norm", "network.features.linear"
LAYERS = {"first": FIRST, "middle": MIDDLE, "last": LAST}
# Few channels, as total correlations far above 10 nats cannot be told apart from samples.
WIDTHS, HIDDEN, KERNEL = (8, 16), 16, 7
# The critic learns for an epoch before its estimate counts.
BEGIN: Settings = {"warmup_steps": 31, "ramp_steps": 31}
WITHIN: Settings = {"n_classes": 10, "labels": "labels"}


def at(layer: str, weight: float, penalty: str) -> Settings:
    """Settings of a baseline at a layer."""
    return {"layers": layer, "weight": weight, "penalty": penalty}


# Penalties at the last layer that several studies compare.
AT_LAST: dict[str, Settings] = {
    "MiMIc": {"layers": LAST, "weight": 0.1, **BEGIN},
    "MiMIc within classes": {"layers": LAST, "weight": 0.1, **WITHIN, **BEGIN},
    "covariance": at(LAST, 0.003, "covariance"),
    "VCReg": at(LAST, 0.003, "vcreg"),
}


class HalvedDigits(LabelledDigits):
    """The embedded digits, half of them for testing, as an audit needs many: 2000, 500, 2500.

    Args:
        n_train: Number of the digits for training to use.
        **serving: Options of `Data`.
    """

    def __init__(self, n_train: int = 2000, **serving: Any) -> None:
        super().__init__(**serving)
        self.n_train = n_train

    def images(self, split: Split) -> Pixels:
        every = [super(HalvedDigits, self).images(part) for part in PARTS]
        return self._part(torch.cat(every), split)

    def labels(self, split: Split) -> Integers:
        every = [super(HalvedDigits, self).labels(part) for part in PARTS]
        return self._part(torch.cat(every), split)

    def _part(self, every: Tensor, split: Split) -> Tensor:
        part = every[PARTS[split]]
        return part[: self.n_train] if split == "train" else part


class Fitted(NamedTuple):
    """A trained network.

    Attributes:
        module: LightningModule that trained the network.
        network: The network.
        data: Data that it was trained on.
        ms: Processor time of a training step, validation included, in milliseconds.
    """

    module: SupervisedModule
    network: SmallCNN
    data: ClassData
    ms: float


def digit_network() -> SmallCNN:
    """An untrained network."""
    return SmallCNN((1, 28, 28), 10, WIDTHS, HIDDEN, KERNEL)


def fitted(data: ClassData, settings: Settings, seed: int) -> Fitted:
    """Trains a network on digits.

    Args:
        data: The digits.
        settings: `epochs`, and `penalty`: the arguments of `MiMIc`, or None.
        seed: Seed of network, order and penalty.
    """
    seed_everything(seed, verbose=False)
    network = digit_network()
    begin = time.process_time()
    callbacks = penalties(settings["penalty"], seed)
    module, trainer = trained(network, Classification(10), data, callbacks, settings["epochs"])
    # Processor time, as other work on the machine does not count there.
    ms = 1000 * (time.process_time() - begin) / max(1, trainer.global_step)
    return Fitted(module, network, data, ms)


def evaluated(fit: Fitted, layers: Sequence[str], steps: int) -> Scores:
    """Scores of a network on test images.

    `accuracy` and `ece` are in percent; `gap` is the cross-entropy of test images less that of
    training images; `dead` is the number of channels that are the same on all images behind their
    ReLU; `tc_<key>` are total correlations and `tc_within` that of the last layer within classes,
    in nats; `ms` is the processor time of a training step.

    Args:
        fit: The network.
        layers: Keys of `LAYERS` to audit.
        steps: Number of steps of each critic of the audit.
    """
    audits = {key: _audit(LAYERS[key], steps) for key in layers}
    within = TotalCorrelationAudit(LAST, n_classes=10, labels="labels", steps=steps)
    logged = tested(fit.module, fit.data, [*audits.values()])
    outputs = on_images(fit.network, fit.data.images("train"))
    tested(fit.module, fit.data, [within])
    return {
        "accuracy": 100 * logged["test/accuracy"],
        "ece": 100 * logged["test/ece"],
        "gap": logged["test/loss"] - float(F.cross_entropy(outputs, fit.data.labels("train"))),
        "dead": float(dead_channels(fit)),
        "ms": fit.ms,
        **{f"tc_{key}": _value(audit) for key, audit in audits.items()},
        "tc_within": _value(within),
    }


def _audit(layer: str, steps: int) -> TotalCorrelationAudit:
    # A perceptron for maps: much of a picture is background, where no channel varies, and of such
    # channels the covariance says little.
    critic = HybridCritic if layer == LAST else MLPCritic
    return TotalCorrelationAudit(layer, reduce="per_location", critic=critic, steps=steps)


def _value(audit: TotalCorrelationAudit) -> float:
    (measured,) = audit.measured.values()
    return measured.value


def dead_channels(fit: Fitted) -> int:
    """Number of channels behind a ReLU, in all layers, that are the same on every test image."""
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
