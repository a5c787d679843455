"""Losses and metrics against scikit-learn and numpy."""

import numpy as np
import pytest
import torch
from sklearn import metrics as oracle

from common.errors import InputError
from mimic.supervised.tasks import Classification, FactorRegression, Segmentation


def measured(task, output, labels, batches=3):
    metrics = task.metrics()
    for part, truth in zip(output.chunk(batches), labels.chunk(batches), strict=True):
        metrics.update(task.estimate(part), task.target(truth))
    return {name: float(value) for name, value in metrics.compute().items()}


def calibration_error(probabilities, labels, bins=15):
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    parts = [places == i for i in range(bins) if (places == i).any()]
    gaps = [abs(right[p].mean() - confidence[p].mean()) * p.mean() for p in parts]
    return sum(gaps)


@pytest.mark.parametrize("scale", [0.3, 4.0])
def test_classification_is_judged_as_by_scikit_learn(scale):
    task, labels = Classification(4), torch.randint(4, (90,))
    logits = scale * (torch.randn(90, 4) + 2 * torch.eye(4)[labels])
    probabilities = logits.softmax(1).numpy()
    found = measured(task, logits, labels)
    expected = oracle.log_loss(labels, probabilities, labels=range(4))
    assert float(task.loss(logits, labels)) == pytest.approx(expected, abs=1e-5)
    assert found["accuracy"] == pytest.approx(
        oracle.accuracy_score(labels, task.answer(logits)), abs=1e-6
    )
    assert found["ece"] == pytest.approx(
        calibration_error(probabilities, labels.numpy()), abs=1e-5
    )


def test_logits_that_look_like_probabilities_are_not_taken_for_them():
    logits = torch.tensor([[0.0, 1.0], [0.9, 0.1]])
    expected = calibration_error(logits.softmax(1).numpy(), np.array([1, 0]))
    found = measured(Classification(2), logits, torch.tensor([1, 0]), batches=1)
    assert found["ece"] == pytest.approx(expected, abs=1e-6)


def test_a_smoothed_label_is_shared_by_all_classes():
    logits, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 2, 0])
    wanted = 0.7 * torch.eye(3)[labels] + 0.3 / 3
    expected = -(wanted * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(
        Classification(3, label_smoothing=0.3).loss(logits, labels), expected
    )


SIZES = (3, 6, 32)


def every_class():
    return torch.cartesian_prod(*map(torch.arange, SIZES))


def test_targets_of_equally_frequent_classes_are_standardised_and_evenly_spaced():
    targets = FactorRegression(SIZES).target(every_class())
    torch.testing.assert_close(targets.mean(0), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(targets.var(0, correction=0), torch.ones(3), rtol=0, atol=1e-5)
    for factor, size in enumerate(SIZES):
        levels = targets[:, factor].unique(sorted=True)
        line = torch.linspace(-1, 1, size) * levels[-1]
        torch.testing.assert_close(levels[:size], line, rtol=0, atol=1e-5)


def test_regression_is_judged_as_by_scikit_learn():
    task, labels = FactorRegression(SIZES), every_class()
    targets = task.target(labels)
    output = targets + torch.tensor([0.1, 0.5, 1.0]) * torch.randn_like(targets)
    found = measured(task, output, labels)
    mse = oracle.mean_squared_error(targets, output)
    assert float(task.loss(output, labels)) == pytest.approx(mse, rel=1e-5)
    assert found["mse"] == pytest.approx(mse, rel=1e-5)
    assert found["r2"] == pytest.approx(oracle.r2_score(targets, output), rel=1e-5)
    assert measured(task, torch.zeros_like(targets), labels)["mse"] == pytest.approx(1, abs=1e-5)


def test_the_answer_to_the_targets_is_the_classes():
    task, labels = FactorRegression(SIZES), every_class()
    torch.testing.assert_close(task.answer(task.target(labels)), labels.float())


@pytest.fixture
def pixels():
    """Logits and labels of six small images: a tenth ignored, and a class that never comes."""
    logits, labels = torch.randn(6, 5, 7, 8), torch.randint(4, (6, 7, 8))
    logits[:, 4] -= 100
    labels[torch.rand(labels.shape) < 0.1] = 255
    return logits, labels


def test_segmentation_is_judged_as_by_scikit_learn(pixels):
    logits, labels = pixels
    task, kept = Segmentation(5), labels != 255
    answers = task.answer(logits)[kept]
    found = measured(task, logits, labels)
    assert found["miou"] == pytest.approx(
        oracle.jaccard_score(labels[kept], answers, average="macro"), abs=1e-6
    )
    assert found["accuracy"] == pytest.approx(
        oracle.accuracy_score(labels[kept], answers), abs=1e-6
    )
    probabilities = logits.double().softmax(1).movedim(1, -1)[kept]
    expected = oracle.log_loss(labels[kept], probabilities, labels=range(5))
    assert float(task.loss(logits, labels)) == pytest.approx(expected, rel=1e-5)


def test_the_whole_set_is_counted_and_not_the_mean_of_its_images(pixels):
    logits, labels = pixels
    once = measured(Segmentation(5), logits, labels, batches=1)
    assert measured(Segmentation(5), logits, labels, batches=6) == pytest.approx(once)


def test_ignored_pixels_have_no_gradient_and_nothing_but_them_no_loss(pixels):
    logits, labels = pixels
    logits.requires_grad_()
    Segmentation(5).loss(logits, labels).backward()
    moved = (logits.grad != 0).any(1)
    assert torch.equal(moved, labels != 255)
    nothing = Segmentation(5).loss(logits, torch.full_like(labels, 255))
    assert float(nothing.detach()) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Classification(1), "n_classes 1"),
        (lambda: Classification(3, label_smoothing=1.0), r"label_smoothing 1\.0"),
        (lambda: Segmentation(1), "n_classes 1"),
        (lambda: FactorRegression((3, 1)), r"factor_sizes \[3, 1\]"),
        (lambda: FactorRegression(()), r"factor_sizes \[\]"),
    ],
)
def test_impossible_tasks_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("task", "shape"),
    [
        (Classification(3), (4, 2)),
        (FactorRegression((3, 4)), (4,)),
        (FactorRegression((3, 4)), (4, 3)),
        (Segmentation(3), (4, 5)),
    ],
)
def test_labels_of_another_task_are_refused(task, shape):
    with pytest.raises(InputError, match=f"{type(task).__name__} needs"):
        task.loss(torch.zeros(4, task.n_out), torch.zeros(shape, dtype=torch.long))
