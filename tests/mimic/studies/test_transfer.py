"""The study of transfer, at the size of a test."""

import csv

import pytest
import torch
from matplotlib.image import imread
from torch import nn

from mimic.studies import transfer as study
from mimic.studies.digits import PARTS, HalvedDigits, digit_network
from mimic.supervised.data.labelled import SmallDigits


def test_the_study_of_transfer_writes_tables_and_pictures(tmp_path, monkeypatch):
    monkeypatch.setitem(PARTS, "test", slice(2500, 2700))
    penalties = {name: study.COMPARED[name] for name in ("none", "MiMIc within classes")}
    monkeypatch.setattr(study, "COMPARED", penalties)
    study.transfer(seeds=1, out=tmp_path, epochs=1, n_train=256, steps=3)
    for source in study.DIRECTIONS:
        assert imread(tmp_path / f"transfer_{source}.png")[..., :3].std() > 0.02
        with (tmp_path / f"transfer_{source}.csv").open(newline="") as file:
            rows = {line["row"]: line for line in csv.DictReader(file)}
        assert list(rows) == [*penalties, study.UNTRAINED]
        assert rows[study.UNTRAINED]["as_it_is"] == ""
        for row in rows.values():
            # A regression on 50 images a class is far above chance whatever the features.
            assert 30 < float(row["probe_50"]) <= 100
    text = (tmp_path / "transfer.md").read_text()
    assert "| untrained | – |" in text
    assert "nan" not in text


@pytest.mark.parametrize("data", [HalvedDigits(), SmallDigits()], ids=lambda d: type(d).__name__)
@pytest.mark.parametrize("shots", study.SHOTS)
def test_few_images_are_as_many_of_each_class_and_of_those_for_training(data, shots):
    images, labels = study.few(data, shots, 0)
    assert labels.bincount().tolist() == [shots] * 10
    known = {(image.numpy().tobytes(), int(label)) for image, label in zip(
        data.images("train"), data.labels("train"), strict=True
    )}  # fmt: skip
    chosen = {(image.numpy().tobytes(), int(label)) for image, label in zip(
        images, labels, strict=True
    )}  # fmt: skip
    assert chosen <= known
    assert len(chosen) == len(images)
    other, _ = study.few(data, shots, 1)
    assert not torch.equal(images, other)


def test_fine_tuning_learns_and_leaves_the_network_as_it_was():
    data, network = HalvedDigits(), digit_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images, labels = study.few(data, 50, 0)
    tuned = study.fine_tuned(network, images, labels, 40, 0)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert study.accuracy(tuned, data) > 60 > study.accuracy(network, data) + 20


class Known(nn.Sequential):
    """Its last feature tells the class exactly."""

    def __init__(self, data):
        super().__init__(nn.Identity(), nn.Linear(10, 10))
        every = torch.cat([data.images(split) for split in ("train", "test")])
        classes = torch.cat([data.labels(split) for split in ("train", "test")])
        pairs = zip(every, classes, strict=True)
        self.classes = {image.numpy().tobytes(): int(label) for image, label in pairs}
        self[0].forward = self.told

    def told(self, images):
        as_bytes = (images * 255).round().byte()
        found = [self.classes[image.numpy().tobytes()] for image in as_bytes]
        return nn.functional.one_hot(torch.tensor(found), 10).float()


def test_a_probe_of_features_that_tell_the_class_is_never_wrong():
    data = SmallDigits()
    images, labels = study.few(data, 10, 0)
    assert study.probe(Known(data), images, labels, data) == 100
