"""The one-stage detector: predictions, responsibilities, loss, and that it learns."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from common.errors import InputError
from common.metrics.detection import AveragePrecision, Truths, box_iou
from video_ode.objects.detection.anchors import Predictions, generalized_iou, matches
from video_ode.objects.detection.train_detector import precisions, train
from video_ode.objects.detection.yolo import WEIGHTS, YOLO, YOLOv3


@pytest.fixture
def detector():
    return YOLO(width=4).eval()


def test_features_have_three_scales(detector):
    frames = torch.rand(2, 3, 32, 48)
    maps = detector.features(frames)
    for x, stride, channels in zip(maps, detector.strides, detector.channels, strict=True):
        assert x.shape == (2, channels, 32 // stride, 48 // stride)
    with pytest.raises(InputError, match="got frames of 40x48; YOLO needs sides that 16"):
        detector.features(torch.rand(1, 3, 40, 48))


def test_boxes_follow_the_equations_of_yolo(detector):
    maps = [
        torch.zeros(1, c, 32 // s, 48 // s)
        for c, s in zip(detector.channels, detector.strides, strict=True)
    ]
    for head in detector.heads:
        torch.nn.init.zeros_(head.weight)
        head.bias.data.view(3, -1)[:, :4] = torch.tensor([0.3, -0.2, 0.1, -0.4])
    boxes = detector.predictions(maps).boxes[0]
    first = 3 * 8 * 12  # of the second scale
    row, column, anchor = 1, 4, 2
    width, height = detector.anchors[1, anchor] * 32 * torch.tensor([0.1, -0.4]).exp()
    x, y = 8 * (column + torch.tensor(0.3).sigmoid()), 8 * (row + torch.tensor(-0.2).sigmoid())
    true = torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    torch.testing.assert_close(boxes[first + (row * 6 + column) * 3 + anchor], true)


def test_the_most_similar_anchor_at_the_centre_is_responsible(detector):
    maps = detector.features(torch.rand(1, 3, 64, 64))
    sizes, places = detector.anchors * 64, [x.shape[-2:] for x in maps]
    w, h = sizes[1, 0].tolist()
    objects = torch.tensor([[30 - w / 2, 20 - h / 2, 30 + w / 2, 20 + h / 2], [0.0, 0, 64, 64]])
    anchor, which = matches(objects, sizes, places, detector.strides)
    exact = 3 * 16 * 16 + (20 // 8 * 8 + 30 // 8) * 3
    assert dict(zip(anchor.tolist(), which.tolist(), strict=True))[exact] == 0
    assert set(which.tolist()) == {0, 1}  # the large one has an anchor too
    assert matches(objects[:0], sizes, places, detector.strides)[0].shape == (0,)


def test_generalized_iou_equals_the_definition():
    a = torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 1], [0, 0, 4, 4]])
    b = torch.tensor([[1.0, 1, 3, 3], [2, 0, 3, 1], [0, 0, 4, 4]])
    torch.testing.assert_close(generalized_iou(a, b), torch.tensor([1 / 7 - 2 / 9, -1 / 3, 1.0]))


def test_detections_are_what_the_predictions_say(detector, monkeypatch):
    boxes = torch.tensor([[[-5.0, 2, 10, 12], [-4, 2, 10, 12], [20, 20, 40, 40], [1, 1, 2, 2]]])
    logits = torch.tensor([[4.0, 2.0, 3.0, -9.0]])
    classes = torch.tensor([[[9.0, -9], [9, -9], [-9, 9], [9, -9]]])
    given = Predictions(boxes, logits, classes)
    monkeypatch.setattr(detector, "predictions", lambda features: given)
    (found,) = detector.detections([torch.zeros(1, 1, 8, 8)])
    assert found.boxes.tolist() == [[0, 2, 10, 12], [20, 20, 32, 32]]
    assert found.classes.tolist() == [0, 1]
    torch.testing.assert_close(found.scores, torch.tensor([4.0, 3.0]).sigmoid(), rtol=1e-3, atol=0)


def test_objects_to_ignore_neither_attract_nor_repel():
    detector = YOLO(width=4)
    maps = [x.detach().requires_grad_() for x in detector.features(torch.rand(1, 3, 32, 32))]
    box = torch.tensor([[8.0, 8, 24, 24]])
    none = torch.zeros(0, dtype=torch.int64)
    ignored = Truths(box, torch.ones(1, dtype=torch.int64), torch.ones(1, dtype=torch.bool))
    nothing = Truths(box[:0], none, none.bool())
    losses = [detector.loss(maps, [truth]) for truth in (ignored, nothing)]
    covered = box_iou(detector.predictions(maps).boxes[0], box, ignored.ignored)[:, 0] > 0.5
    assert covered.any()
    logits = detector.predictions(maps).objectness[0]
    missing = torch.nn.functional.softplus(logits[covered]).sum()
    torch.testing.assert_close(losses[1] - losses[0], missing)


def test_it_learns_to_find_squares():
    torch.manual_seed(0)
    detector = YOLO(classes=("square",), width=4)
    optimizer = torch.optim.Adam(detector.parameters(), 0.01)

    def scene():
        frame, size = torch.zeros(3, 32, 32), int(torch.randint(6, 14, ()))
        x, y = torch.randint(0, 32 - size, (2,)).tolist()
        frame[:, y : y + size, x : x + size] = torch.rand(3, 1, 1) * 0.5 + 0.5
        box = torch.tensor([[float(x), float(y), float(x + size), float(y + size)]])
        return frame, Truths(box, torch.zeros(1, dtype=torch.int64), torch.zeros(1).bool())

    for _ in range(80):
        frames, truths = zip(*(scene() for _ in range(16)), strict=True)
        loss = detector.loss(detector.features(torch.stack(frames)), truths)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    metric, frames = AveragePrecision(), [scene() for _ in range(40)]
    detector.eval()
    found = detector.detections(detector.features(torch.stack([frame for frame, _ in frames])))
    for detections, (_, truth) in zip(found, frames, strict=True):
        metric.update(detections, truth)
    assert metric.compute()["map50"] > 0.6


def darknet_file(path, network, version=(0, 2, 0)):
    """Weights of a network in darknet's format, written layer by layer."""
    head = 20 if version[0] * 10 + version[1] >= 2 else 16
    numbers = [x.flatten() for layer in network._layers() for x in layer]
    content = np.array(version, np.int32).tobytes() + bytes(head - 12)
    path.write_bytes(content + torch.cat(numbers).detach().numpy().tobytes())


def test_yolov3_has_the_published_weights_and_features():
    with torch.device("meta"):
        network = YOLOv3()
    assert 20 + 4 * sum(x.numel() for layer in network._layers() for x in layer) == 248_007_048
    assert sum(isinstance(x, torch.nn.Conv2d) for x in network.modules()) == 75
    assert len(network.classes) == 80
    assert network.channels == (256, 512, 1024)
    assert [head.out_channels for head in network.heads] == [255] * 3


def test_darknet_weights_stand_in_the_order_of_the_layers():
    network = YOLOv3(width=2)
    shapes = [[tuple(x.shape) for x in layer] for layer in network._layers()]
    assert len(shapes) == 75
    assert shapes[0] == [(2,)] * 4 + [(2, 3, 3, 3)]
    assert shapes[58] == [(255,), (255, 64, 1, 1)]  # layer 81 of the published description
    assert shapes[59] == [(16,)] * 4 + [(16, 32, 1, 1)]  # layer 84
    assert shapes[66] == [(255,), (255, 32, 1, 1)]  # layer 93
    assert shapes[74] == [(255,), (255, 16, 1, 1)]  # layer 105


@pytest.mark.parametrize("version", [(0, 1, 0), (0, 2, 5)])
def test_darknet_weights_come_back(version, tmp_path):
    networks = [YOLOv3(("a", "b"), width=2).eval() for _ in range(2)]
    for module in networks[0].modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    darknet_file(tmp_path / "a.weights", networks[0], version)
    networks[1].load_darknet(tmp_path / "a.weights")
    frames = torch.rand(1, 3, 64, 64)
    maps = [network.features(frames) for network in networks]
    for one, other, stride in zip(*maps, (8, 16, 32), strict=True):
        assert one.shape[-1] == 64 // stride
        assert torch.equal(one, other)
    found = [network.predictions(x) for network, x in zip(networks, maps, strict=True)]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_darknet_files_of_another_length_are_refused(tmp_path):
    network, path = YOLOv3(("a",), width=2), tmp_path / "a.weights"
    darknet_file(path, network)
    for content in (path.read_bytes()[:-4], path.read_bytes() + bytes(4), b"", b"12345"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"bytes, but a network of 1 classes needs"):
            network.load_darknet(path)
    with pytest.raises(InputError, match="found no file"):
        network.load_darknet(tmp_path / "nothing")


def test_the_weights_that_ship_find_pedestrians_and_cars_of_scenes_not_seen_in_training():
    assert WEIGHTS.stat().st_size < 2 * 2**20
    found = precisions(YOLO.pretrained(), n=40)
    assert found["map50"] > 0.85
    assert min(found["ap50"].values()) > 0.8


def test_training_writes_weights_that_come_back(tmp_path):
    path = tmp_path / "a.safetensors"
    train(steps=1, batch_size=4, out=str(path), n_test=2)
    weights = load_file(path)
    assert weights.keys() == YOLO().state_dict().keys()
    assert weights["heads.0.weight"].dtype == torch.float16
