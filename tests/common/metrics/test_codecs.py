import numpy as np
import pytest
import torch
from PIL import Image

from common.data.images.embedded import EmbeddedDigits, EmbeddedPhotos
from common.errors import InputError
from common.metrics import codecs
from common.metrics.codecs import codec_bits_per_dim


def some(channels, count):
    data = EmbeddedDigits() if channels == 1 else EmbeddedPhotos(32, crops_per_photo=count)
    return data.images("test")[:count]


def picture(image):
    """An image `[c h w]` for Pillow, by way of numpy."""
    pixels = np.ascontiguousarray(np.transpose(image.numpy(), (1, 2, 0)))
    return Image.fromarray(pixels.squeeze())


@pytest.mark.parametrize("channels", [1, 3])
def test_png_bits_are_those_of_the_files(channels, tmp_path):
    images = some(channels, 7)
    for k, image in enumerate(images):
        picture(image).save(tmp_path / f"{k}.png", optimize=True)
    size = sum(file.stat().st_size for file in tmp_path.glob("*.png"))
    assert codec_bits_per_dim(images)["png"] == pytest.approx(8 * size / images.numel())


@pytest.mark.parametrize("channels", [1, 3])
def test_webp_bits_are_those_of_files_that_give_the_images_back(channels, tmp_path):
    images, size = some(channels, 7), 0
    for k, image in enumerate(images):
        path = tmp_path / f"{k}.webp"
        picture(image).convert("RGB").save(path, lossless=True, quality=100, method=6)
        size += path.stat().st_size
        back = torch.from_numpy(np.asarray(Image.open(path)).copy()).movedim(-1, 0)
        assert (back == image).all()
    assert codec_bits_per_dim(images)["webp"] == pytest.approx(8 * size / images.numel())


@pytest.mark.parametrize("channels", [1, 3])
def test_montage_bits_are_those_of_the_pasted_sheet(channels, tmp_path):
    images = some(channels, 11)
    side = images.shape[-1]
    sheet = Image.new("RGB", (4 * side, 3 * side))
    for k, image in enumerate(images):
        sheet.paste(picture(image).convert("RGB"), (k % 4 * side, k // 4 * side))
    sheet.save(tmp_path / "sheet.webp", lossless=True, quality=100, method=6)
    size = (tmp_path / "sheet.webp").stat().st_size
    measured = codec_bits_per_dim(images)["webp_montage"]
    assert measured == pytest.approx(8 * size / images.numel())


@pytest.mark.parametrize(("height", "width", "count"), [(5, 2, 30), (40, 1, 12), (3, 60, 7)])
def test_montages_keep_every_pixel_within_the_limit(height, width, count, monkeypatch):
    monkeypatch.setattr(codecs, "WEBP_LIMIT", 64)
    images = torch.randint(1, 256, (count, 3, height, width), dtype=torch.uint8)
    sheets = codecs._montages(images)
    assert max(max(sheet.shape[1:]) for sheet in sheets) <= 64
    kept = torch.cat([sheet[sheet > 0] for sheet in sheets])
    assert kept.sort().values.equal(images.flatten().sort().values)


@pytest.mark.parametrize("count", [1, 2, 9, 10, 500])
def test_montage_is_nearly_square(count):
    (sheet,) = codecs._montages(torch.zeros(count, 1, 28, 28, dtype=torch.uint8))
    rows, columns = (side // 28 for side in sheet.shape[1:])
    assert 0 <= columns - rows <= 1
    assert rows * columns >= count > (rows - 1) * columns


def test_digits_cost_what_they_are_known_to_cost():
    bits = codec_bits_per_dim(some(1, 500), method=5)
    known = {"png": 2.83, "webp": 2.12, "webp_montage": 1.55}
    assert bits == {name: pytest.approx(value, rel=0.05) for name, value in known.items()}


@pytest.mark.parametrize(
    "shape", [(0, 1, 8, 8), (2, 2, 8, 8), (2, 4, 8, 8), (1, 1, 0, 8), (1, 1, 16384, 1)]
)
def test_images_that_cannot_be_written_are_refused(shape):
    with pytest.raises(InputError, match="got images of"):
        codec_bits_per_dim(torch.zeros(shape, dtype=torch.uint8))


@pytest.mark.parametrize("method", [-1, 7])
def test_methods_that_webp_does_not_know_are_refused(method):
    with pytest.raises(InputError, match=f"got method {method}"):
        codec_bits_per_dim(some(1, 1), method)
