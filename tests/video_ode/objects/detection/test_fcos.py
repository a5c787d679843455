"""FCOS through the interface of detectors, against torchvision's own forward pass."""

import importlib.util

import pytest
import torch

from common.errors import InputError
from video_ode.objects.detection.fcos import FCOS

there = importlib.util.find_spec("torchvision") is not None


def fcos():
    if not there:
        pytest.skip("torchvision isn't installed")  # justified: optional; CI has it in .ci/run
    return FCOS


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return fcos()()


def test_detections_are_those_of_torchvision(detector):
    frames = torch.rand(2, 3, 128, 256)
    detector.net.head.classification_head.cls_logits.bias.data.fill_(-1.0)
    found = detector.detections(detector.features(frames), score=0.2, overlap=0.6)
    detector.net.transform.min_size, detector.net.transform.max_size = (128,), 256
    for one, true in zip(found, detector.net(list(frames)), strict=True):
        numbers = detector.numbers[true["labels"]]
        torch.testing.assert_close(one.boxes, true["boxes"][numbers >= 0])
        torch.testing.assert_close(one.scores, true["scores"][numbers >= 0])
        assert torch.equal(one.classes, numbers[numbers >= 0])
        assert len(one.boxes)


def test_the_features_have_the_told_shapes(detector):
    maps = detector.features(torch.rand(1, 3, 128, 128))
    shapes = [(256, 128 // stride, 128 // stride) for stride in detector.strides]
    assert [tuple(x.shape[1:]) for x in maps] == shapes
    assert len(detector.classes) == 80
    assert detector.numbers[:4].tolist() == [-1, 0, 1, 2]  # background, person, bicycle, car
    other = [x + 0.1 * torch.randn_like(x) for x in maps]
    assert detector.reading_loss(other, maps) > detector.reading_loss(maps, maps)
    with pytest.raises(InputError, match="got frames of 128x100; FCOS needs sides that 128"):
        detector.features(torch.rand(1, 3, 128, 100))


def test_classes_are_those_of_the_data():
    detector = fcos()(classes=("pedestrian", "rider", "car"))
    assert detector.classes == ("pedestrian", "rider", "car")
    assert detector.numbers[:4].tolist() == [-1, 0, -1, 2]


def test_other_weights_are_refused(detector, tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="holds no weights of FCOS"):
        FCOS(tmp_path / "other.pth")


@pytest.mark.skipif(there, reason="this is about its absence")
def test_without_torchvision_the_error_says_what_to_install():
    with pytest.raises(InputError, match=r"FCOS needs torchvision .*; install the release"):
        FCOS()
