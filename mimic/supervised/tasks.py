"""Tasks with labels: a loss for training and metrics for evaluation."""

import abc

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanSquaredError, MetricCollection, R2Score
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassJaccardIndex,
)

from common.errors import InputError, check_counts


class Task(nn.Module, abc.ABC):
    """Meaning of the outputs of a network.

    Attributes:
        n_out: Number of outputs that a network needs.
        classes: Number of classes of a label, or of each factor.
        labels_like: Description of the labels in messages.
    """

    n_out: int
    classes: int | tuple[int, ...]
    labels_like: str

    @abc.abstractmethod
    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """Loss that training minimises, the mean over the batch."""

    @abc.abstractmethod
    def metrics(self) -> MetricCollection:
        """New metrics by name, to be updated with `estimate(output)` and `target(labels)`."""

    def estimate(self, output: Tensor) -> Tensor:
        """Estimate that the metrics compare with the target; by default the answer."""
        return self.answer(output)

    def target(self, labels: Tensor) -> Tensor:
        """Labels as the metrics see them."""
        return labels

    @abc.abstractmethod
    def answer(self, output: Tensor) -> Tensor:
        """Labels that the network predicts."""

    def _check(self, labels: Tensor, fits: bool) -> None:
        if not fits:
            raise InputError(
                f"got labels of shape {list(labels.shape)}, {type(self).__name__} needs "
                f"{self.labels_like}; change model.task or the data"
            )


class Classification(Task):
    """One of `n_classes` for each image: cross-entropy in nats; accuracy and calibration error.

    `ece` is the expected calibration error: the mean of |accuracy - confidence| over 15 bins of
    equal width of the confidence, weighted by the number of images in a bin (Guo et al. 2017,
    eq. 3).

    Args:
        n_classes: Number of classes.
        label_smoothing: Share of the label that is spread evenly over all classes, in training
            and in the logged losses.
    """

    labels_like = "[b], a class for each image"

    def __init__(self, n_classes: int = 10, label_smoothing: float = 0.0) -> None:
        super().__init__()
        check_counts(2, n_classes=n_classes)
        if not 0 <= label_smoothing < 1:
            raise InputError(f"got label_smoothing {label_smoothing}; give 0 up to less than 1")
        self.n_out = self.classes = n_classes
        self.label_smoothing = label_smoothing

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        self._check(labels, labels.ndim == 1)
        return F.cross_entropy(output, labels, label_smoothing=self.label_smoothing)

    def metrics(self) -> MetricCollection:
        accuracy = MulticlassAccuracy(self.n_out, average="micro")
        ece = MulticlassCalibrationError(self.n_out, n_bins=15)
        return MetricCollection({"accuracy": accuracy, "ece": ece})

    def estimate(self, output: Tensor) -> Tensor:
        # Not the logits: torchmetrics would take those within [0, 1] for probabilities.
        return output.float().softmax(1)

    def answer(self, output: Tensor) -> Tensor:
        return output.argmax(1)


class FactorRegression(Task):
    """The class of every factor as a number: mean squared error; `mse` and `r2`.

    Class c of a factor with m classes is the number (c - (m - 1) / 2) / sqrt((m² - 1) / 12): from
    -1 to 1 in even steps, divided by their standard deviation. If all classes are equally
    frequent, the targets have mean 0 and variance 1, so that all factors count alike and the
    answer 0 has an `mse` of 1. `r2` is the coefficient of determination, 1 at best, the mean over
    factors. Factors without an order (such as shape) are numbered too.

    Args:
        factor_sizes: Number of classes of each factor, the columns of the labels.
    """

    def __init__(self, factor_sizes: tuple[int, ...]) -> None:
        super().__init__()
        if not factor_sizes or min(factor_sizes) < 2:
            raise InputError(
                f"got factor_sizes {list(factor_sizes)}; give at least one factor, and two "
                "classes or more for each"
            )
        self.n_out, self.classes = len(factor_sizes), tuple(factor_sizes)
        self.labels_like = f"[b {self.n_out}], the classes of the factors {list(factor_sizes)}"
        sizes = torch.tensor(factor_sizes, dtype=torch.get_default_dtype())
        self.register_buffer("middle", (sizes - 1) / 2, persistent=False)
        self.register_buffer("scale", ((sizes**2 - 1) / 12).sqrt(), persistent=False)
        self.middle: Tensor
        self.scale: Tensor

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        self._check(labels, labels.ndim == 2 and labels.shape[1] == self.n_out)
        return F.mse_loss(output, self.target(labels))

    def metrics(self) -> MetricCollection:
        return MetricCollection({"mse": MeanSquaredError(), "r2": R2Score()})

    def estimate(self, output: Tensor) -> Tensor:
        return output.to(self.scale)

    def target(self, labels: Tensor) -> Tensor:
        """Numbers of the classes, `[b k]`."""
        return (labels - self.middle) / self.scale

    def answer(self, output: Tensor) -> Tensor:
        """Classes as fractions, `[b k]`."""
        return output * self.scale + self.middle


class Segmentation(Task):
    """One of `n_classes` for each pixel: cross-entropy in nats; mean IoU and pixel accuracy.

    `miou` is the mean over classes of intersection over union, both counted over the whole set;
    classes that occur neither in labels nor in answers are left out.

    Args:
        n_classes: Number of classes.
        ignore: Label of pixels that do not count.
    """

    labels_like = "[b h w], a class for each pixel"

    def __init__(self, n_classes: int = 7, ignore: int = 255) -> None:
        super().__init__()
        check_counts(2, n_classes=n_classes)
        self.n_out = self.classes = n_classes
        self.ignore = ignore

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        self._check(labels, labels.ndim == 3)
        total = F.cross_entropy(output, labels, ignore_index=self.ignore, reduction="sum")
        # The mean of no pixels would be NaN.
        return total / (labels != self.ignore).sum().clamp(min=1)

    def metrics(self) -> MetricCollection:
        miou = MulticlassJaccardIndex(self.n_out, ignore_index=self.ignore)
        accuracy = MulticlassAccuracy(self.n_out, average="micro", ignore_index=self.ignore)
        return MetricCollection({"miou": miou, "accuracy": accuracy})

    def answer(self, output: Tensor) -> Tensor:
        return output.argmax(1)
