"""The LightningModule with Lightning's own trainer, on tiny labelled sets."""

import pytest
import torch
from pytorch_lightning import Trainer
from torch import nn
from torch.nn import functional as F

from common.errors import InputError
from mimic.supervised.data.labelled import LabelledData, LabelledStack
from mimic.supervised.module import SupervisedModule
from mimic.supervised.networks import Coder, ResNet, SmallCNN, SmallSegmenter
from mimic.supervised.tasks import Classification, FactorRegression, Segmentation


class Noise(LabelledData):
    """Random images, whose labels are random as well."""

    def __init__(self, shape, label_shape=(), n_classes=3):
        super().__init__(batch_size=4)
        self.shape, self.label_shape, self.n_classes = shape, label_shape, n_classes

    @property
    def classes(self):
        return (self.n_classes,) * 2 if self.label_shape == (2,) else self.n_classes

    def dataset(self, split):
        images = torch.randint(0, 256, (10, *self.shape), dtype=torch.uint8)
        return LabelledStack(images, torch.randint(3, (10, *self.label_shape)))


SHAPE = (3, 16, 16)
SYSTEMS = {
    "classes": (lambda: SmallCNN(SHAPE, 3, (4, 4), 5), lambda: Classification(3), ()),
    "resnet": (lambda: ResNet(SHAPE, 3, (1, 1), 4), lambda: Classification(3), ()),
    "factors": (lambda: Coder(SHAPE, 2, 3, (4, 4), 5), lambda: FactorRegression((3, 3)), (2,)),
    "pixels": (lambda: SmallSegmenter(SHAPE, 3, 4), lambda: Segmentation(3), (16, 16)),
}
METRICS = {
    "classes": {"accuracy", "ece"},
    "resnet": {"accuracy", "ece"},
    "factors": {"mse", "r2"},
    "pixels": {"miou", "accuracy"},
}


def trainer(tmp_path, **options):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return Trainer(default_root_dir=tmp_path, accelerator="cpu", **quiet, **options)


def system(name):
    network, task, label_shape = SYSTEMS[name]
    return SupervisedModule(network(), task()), Noise(SHAPE, label_shape)


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_task_is_trained_and_judged(name, tmp_path):
    module, data = system(name)
    before = [p.detach().clone() for p in module.parameters()]
    fit = trainer(tmp_path, fast_dev_run=True)
    fit.fit(module, data)
    assert {"train/loss", "val/loss", *(f"val/{m}" for m in METRICS[name])} <= {
        *fit.logged_metrics
    }
    assert all(not torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    (found,) = fit.test(module, data, verbose=False)
    assert set(found) == {"test/loss", *(f"test/{m}" for m in METRICS[name])}
    (answers,) = fit.predict(module, data)
    assert answers.shape == (4, *data.label_shape)


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_task_is_trained_in_half_precision(name, tmp_path):
    module, data = system(name)
    fit = trainer(tmp_path, fast_dev_run=True, precision="bf16-mixed")
    fit.fit(module, data)
    assert fit.logged_metrics["train/loss"].isfinite()
    (answers,) = fit.predict(module, data)
    assert answers.isfinite().all()


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_checkpoint_comes_back_and_answers_alike(name, tmp_path):
    module, data = system(name)
    fit = trainer(tmp_path, max_epochs=1)
    fit.fit(module, data)
    path = tmp_path / "model.ckpt"
    fit.save_checkpoint(path)
    network, task, _ = SYSTEMS[name]
    again = SupervisedModule.load_from_checkpoint(path, network=network(), task=task())
    pixels = torch.randint(0, 256, (5, *SHAPE), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(again.eval()(pixels), module.eval()(pixels))


def test_the_logged_numbers_are_those_of_the_whole_set(tmp_path):
    module, data = system("classes")
    judge = trainer(tmp_path)
    (found,) = judge.test(module, data, verbose=False)
    images, labels = data._ready("test").images.images, data._ready("test").labels
    with torch.no_grad():
        logits = module.eval().network(images.float() / 255)
    expected = float(F.cross_entropy(logits, labels))
    assert found["test/loss"] == pytest.approx(expected, rel=1e-5)
    right = float((logits.argmax(1) == labels).float().mean())
    assert found["test/accuracy"] == pytest.approx(right)


def test_metrics_start_anew_in_every_epoch(tmp_path):
    module, data = system("classes")
    judge = trainer(tmp_path)
    once, again = (judge.validate(module, data, verbose=False)[0] for _ in range(2))
    assert once == again


def test_bytes_become_numbers_in_the_unit_interval():
    module = SupervisedModule(nn.Identity(), Classification(3))
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 1, 1, 3)
    torch.testing.assert_close(module(pixels).flatten(), torch.tensor([0.0, 0.2, 1.0]))


def test_any_network_will_do(tmp_path):
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3))
    trainer(tmp_path, fast_dev_run=True).fit(
        SupervisedModule(network, Classification(3)), Noise(SHAPE)
    )


def test_a_network_of_other_outputs_than_the_task_needs_is_refused():
    with pytest.raises(InputError, match="network of 4 outputs, Classification needs 3"):
        SupervisedModule(SmallCNN(n_out=4), Classification(3))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("classes", Noise((1, 16, 16)), "images are 1 × 16 × 16 but the network .* 3 × 16 × 16"),
        ("classes", Noise(SHAPE, n_classes=4), "labels have 4 classes"),
        ("factors", Noise(SHAPE, (2,), n_classes=4), r"labels have \(4, 4\) classes"),
        ("pixels", Noise(SHAPE), r"labels of shape \[4\], Segmentation needs \[b h w\]"),
    ],
)
def test_data_that_do_not_fit_are_refused(name, data, message, tmp_path):
    module, _ = system(name)
    with pytest.raises(InputError, match=message):
        trainer(tmp_path, fast_dev_run=True).fit(module, data)
