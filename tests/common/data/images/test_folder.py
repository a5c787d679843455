"""Folders of one's own images."""

import os
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from common.data.formats.footage import FrameFormat
from common.data.formats.image_files import images_under, read_image
from common.data.images.folder import ImageFolder, check_memory
from common.errors import InputError
from tests.common.data.mixed_images import write_mixed
from tests.common.data.small_files import noise

SPLITS = ("train", "val", "test")
H, W = 12, 20
PIXELS, ALPHA = noise(H, W, 3), noise(H, W, seed=1)
DEEP = (noise(H, W).astype(np.uint16) << 8) + noise(H, W, seed=2)


def read(path, size=(H, W), channels=3, crop="none", **options):
    return read_image(path, FrameFormat(*size, channels, crop, **options))[0].transpose(1, 2, 0)


def written(folder, image, name="a.png", **options):
    folder.mkdir(parents=True, exist_ok=True)
    image.save(folder / name, **options)
    return folder / name


# Modes --------------------------------------------------------------------------------------


def over(colour, alpha, behind):
    share = alpha[..., None] / 255
    return colour * share + behind * (1 - share)


def palette():
    image = Image.fromarray(ALPHA % 4, "P")
    image.putpalette([0, 0, 0, 255, 0, 0, 9, 99, 199, 255, 255, 255])
    return image, np.array([[0, 0, 0], [255, 0, 0], [9, 99, 199], [255] * 3])[ALPHA % 4]


def cmyk():
    inks = noise(H, W, 4)
    return Image.fromarray(inks, "CMYK"), (255.0 - inks[..., :3]) * (255 - inks[..., 3:]) / 255


BINARY = ALPHA > 127
GREY = ALPHA[..., None].repeat(3, 2)
MODES = {
    "RGB": (Image.fromarray(PIXELS), PIXELS, "a.png", {}),
    "L": (Image.fromarray(ALPHA), GREY, "a.png", {}),
    "1": (Image.fromarray(BINARY), 255 * BINARY[..., None].repeat(3, 2), "a.png", {}),
    "1 tiff": (Image.fromarray(BINARY), 255 * BINARY[..., None].repeat(3, 2), "a.tif", {}),
    "P": (*palette(), "a.png", {}),
    "P bmp": (*palette(), "a.bmp", {}),
    "CMYK": (*cmyk(), "a.tif", {}),
    "RGBA": (
        Image.fromarray(np.dstack([PIXELS, ALPHA])), over(PIXELS, ALPHA, 0), "a.png", {}),
    "RGBA webp": (
        Image.fromarray(np.dstack([PIXELS, ALPHA | 1])), over(PIXELS, ALPHA | 1, 0), "a.webp",
        {"lossless": True, "exact": True}),
    "LA": (
        Image.fromarray(np.dstack([PIXELS[..., 0], ALPHA]), "LA"),
        over(PIXELS[..., :1].repeat(3, 2), ALPHA, 0), "a.png", {}),
    "P with a clear colour": (
        palette()[0], palette()[1] * (ALPHA % 4 != 3)[..., None], "a.png", {"transparency": 3}),
    "RGB with a clear colour": (
        Image.fromarray(PIXELS), PIXELS * (PIXELS[0, 0] != PIXELS).any(2)[..., None], "a.png",
        {"transparency": tuple(PIXELS[0, 0].tolist())}),
    "16 bits": (Image.fromarray(DEEP), (DEEP >> 8)[..., None].repeat(3, 2), "a.png", {}),
    "16 bits tiff": (Image.fromarray(DEEP), (DEEP >> 8)[..., None].repeat(3, 2), "a.tif", {}),
    "16 bits pgm": (Image.fromarray(DEEP), (DEEP >> 8)[..., None].repeat(3, 2), "a.pgm", {}),
    "gif": (Image.fromarray(ALPHA), GREY, "a.gif", {
        "save_all": True, "append_images": [Image.fromarray(255 - ALPHA)]}),
    "pages": (Image.fromarray(PIXELS), PIXELS, "a.tiff", {
        "save_all": True, "append_images": [Image.new("L", (3, 4))]}),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*'mode' parameter:DeprecationWarning")
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_gives_the_pixels_that_numpy_computes(mode, tmp_path):
    image, expected, name, options = MODES[mode]
    path = written(tmp_path, image, name, **options)
    assert abs(read(path) - expected).max() <= 1
    weights = np.array([0.299, 0.587, 0.114])  # of Rec. 601
    assert abs(read(path, channels=1)[..., 0] - expected @ weights).max() <= 2


def chunk(kind, content):
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def test_sixteen_bits_of_three_colours_are_scaled(tmp_path):
    deep = DEEP[..., None] ^ np.array([0, 256, 4096], np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    head = struct.pack(">2I5B", W, H, 16, 2, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*p) for p in parts))
    assert (read(tmp_path / "a.png") == deep >> 8).all()


def test_the_background_is_seen_through_transparent_pixels(tmp_path):
    path = written(tmp_path, Image.fromarray(np.dstack([PIXELS, ALPHA])))
    found = read(path, background="white")
    assert abs(found - over(PIXELS, ALPHA, 255)).max() <= 1
    data = ImageFolder(tmp_path, (H, W), background="white", predict="all")
    data.setup("predict")
    assert (next(iter(data.predict_dataloader()))[0].permute(1, 2, 0).numpy() == found).all()


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_image_upright(orientation, ending, tmp_path):
    exif = Image.Exif()
    exif[0x112] = orientation
    lossless = {"lossless": True} if ending == "webp" else {}
    path = written(tmp_path, Image.fromarray(PIXELS), f"a.{ending}", exif=exif, **lossless)
    stored = np.asarray(Image.open(path)) if ending == "jpg" else PIXELS
    seen = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.swapaxes(0, 1),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(stored),
    }[orientation]
    assert (read(path, seen.shape[:2]) == seen).all()


# Sizes --------------------------------------------------------------------------------------


def waves(height, width):
    """Smooth picture of floats."""
    y, x = np.mgrid[:height, :width] / min(height, width)
    return np.stack([128 + 100 * np.sin(7 * x + k) * np.cos(5 * y - k) for k in range(3)], 2)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_large_images_become_block_means(name, tmp_path):
    picture = waves(512, 768)
    path = written(tmp_path, Image.fromarray(picture.round().astype(np.uint8)), name)
    means = picture.reshape(32, 16, 48, 16, 3).mean((1, 3))
    assert abs(read(path, (32, 48)) - means).max() < 3


def test_stripes_do_not_alias(tmp_path):
    stripes = np.zeros((640, 640, 3), np.uint8)
    stripes[:, ::2] = 255
    for name in ("a.png", "a.jpg"):
        inside = read(written(tmp_path, Image.fromarray(stripes), name), (32, 32))[:, 2:-2]
        assert abs(inside.astype(float) - 127.5).max() < 16


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (3, 2), (7, 900)])
def test_images_of_any_shape_fill_the_size(shape, tmp_path):
    Image.new("RGB", shape, (9, 99, 199)).save(tmp_path / "a.png")
    for crop in ("centre", "random", "none"):
        data = ImageFolder(tmp_path, (8, 24), crop=crop, val_fraction=0.0, test_fraction=0.0)
        images = data.images("train")
        assert images.shape == (1, 3, 8, 24)
        assert (images == torch.tensor([9, 99, 199])[:, None, None]).all()


# Crops --------------------------------------------------------------------------------------


def places(images):
    """Left, right, top and bottom border of each crop of `ramps`, in its pixels."""
    across, down = images[:, 0].float().mean(1), images[:, 1].float().mean(2)
    ends = [(line[:, 2], line[:, -3]) for line in (across, down)]
    return [end.numpy() for pair in ends for end in pair]


def ramps(height, width):
    """Each pixel tells its place."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.dstack([x, y, 0 * x]).astype(np.uint8))


def test_centre_crops_are_central(tmp_path):
    written(tmp_path, ramps(100, 200))
    images = ImageFolder(tmp_path, 20, val_fraction=0.0, test_fraction=0.0).images("train")
    left, right, top, bottom = places(images)
    assert abs(left + right - 199) < 1.5
    assert abs(top + bottom - 99) < 1.5
    assert abs(right - left - 15 * 5) < 1.5  # five pixels of the image for each one


def test_random_crops_lie_inside_and_differ_and_evaluation_has_none(tmp_path):
    for split in SPLITS:
        written(tmp_path / split, ramps(100, 200))
    data = ImageFolder(tmp_path, 20, crop="random", crops_per_image=200)
    left, right, top, bottom = places(data.images("train"))
    side = (right - left) * 20 / 15
    assert abs(side - (bottom - top) * 20 / 15).max() < 4
    assert side.min() > 45
    assert side.max() < 105
    assert side.std() > 10
    assert np.corrcoef(left, top)[0, 1] < 0.5
    assert data.names("train") == ["train/a.png"] * 200
    again = ImageFolder(tmp_path, 20, crop="random", crops_per_image=200)
    assert torch.equal(again.images("train"), data.images("train"))
    central = ImageFolder(tmp_path, 20)
    assert torch.equal(data.images("val"), central.images("val"))
    data.setup("predict"), central.setup("predict")
    served = [torch.cat(list(x.predict_dataloader())) for x in (data, central)]
    assert len(served[0]) == 3
    assert torch.equal(*served)


# Splits -------------------------------------------------------------------------------------


def named(names, **options):
    """Data set of files that nobody reads."""
    data = ImageFolder(".", **options)
    data.__dict__["files"] = dict.fromkeys(sorted(names))
    return data


NAMES = [f"album{k % 7}/{k}.png" for k in range(2000)]


def test_splits_share_no_image_and_have_their_shares():
    splits = named(NAMES, val_fraction=0.2, test_fraction=0.1).split()
    assert sorted(name for names in splits.values() for name in names) == sorted(NAMES)
    assert all(names == sorted(names) for names in splits.values())
    assert abs(len(splits["val"]) - 400) < 4 * 18
    assert abs(len(splits["test"]) - 200) < 4 * 14


def test_added_and_removed_images_move_no_other_ones():
    whole, part = named(NAMES).split(), named(NAMES[500:]).split()
    for split in SPLITS:
        assert set(part[split]) == set(whole[split]) & set(NAMES[500:])


def test_the_split_depends_on_names_and_seed_alone():
    assert named(NAMES[::-1]).split() == named(NAMES).split()
    assert named(NAMES, split_seed=1).split() != named(NAMES).split()
    accents = (["e\u0301/1.png"], ["\u00e9/1.png"])  # on a Mac and elsewhere
    shares = [named(names)._share(names[0]) for names in accents]
    assert shares[0] == shares[1]


def test_a_share_of_the_test_images_leaves_those_of_validation():
    fewer = named(NAMES, test_fraction=0.1).split()
    other = named(NAMES, val_fraction=0.3, test_fraction=0.1).split()
    assert other["test"] == fewer["test"]
    assert set(fewer["val"]) < set(other["val"])


def test_sub_folders_give_the_split():
    names = [*NAMES, "val/deep/a.png", "test/b.png", "train/c.png"]
    splits = named(names).split()
    assert splits["val"] == ["val/deep/a.png"]
    assert splits["test"] == ["test/b.png"]
    assert len(splits["train"]) == 2001
    splits = named([*NAMES, "test/b.png"]).split()
    assert len(splits["val"]) > 100
    assert splits["test"] == ["test/b.png"]


def test_no_split_of_a_few_images_is_empty():
    for k in range(20):
        splits = named(NAMES[k : k + 3], split_seed=k).split()
        assert [len(splits[split]) for split in SPLITS] == [1, 1, 1]
    assert named(NAMES[:4], val_fraction=0.0, test_fraction=0.0).split()["val"] == []


def test_a_split_without_images_says_what_to_change(tmp_path):
    written(tmp_path, ramps(9, 9))
    with pytest.raises(InputError, match=r"none of the 1 images .* left for val; .*val_fraction"):
        ImageFolder(tmp_path).setup("fit")


# Folders ------------------------------------------------------------------------------------


def test_images_of_all_folders_are_found_and_nothing_else(tmp_path):
    for name in ("a.PNG", "deep/er/b.png", ".hidden/c.png", "._d.png"):
        written((tmp_path / name).parent, ramps(4, 4), name.rpartition("/")[2])
    (tmp_path / "notes.txt").write_text("no image")
    assert list(images_under(tmp_path)) == ["a.PNG", "deep/er/b.png"]


def test_images_of_a_kind_that_is_not_read_are_named(tmp_path):
    written(tmp_path, ramps(4, 4))
    (tmp_path / "phone.HEIC").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"left out 1 files .*phone\.HEIC; convert them"):
        assert list(images_under(tmp_path)) == ["a.png"]


def test_links_are_followed_but_not_round_in_circles(tmp_path):
    written(tmp_path / "far", ramps(4, 4))
    root = tmp_path / "root"
    root.mkdir()
    (root / "near").symlink_to(tmp_path / "far")
    (root / "loop").symlink_to(root)
    (tmp_path / "far" / "back").symlink_to(root)
    (tmp_path / "alias").symlink_to(root)
    for given in (root, tmp_path / "alias"):
        assert list(images_under(given)) == ["near/a.png"]


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    written(tmp_path, ramps(4, 4))
    (tmp_path / "locked").mkdir()
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.warns(UserWarning, match=r"left out .*locked: Permission denied"):
        assert list(images_under(tmp_path)) == ["a.png"]


def test_a_folder_without_images_says_what_goes_there(tmp_path):
    with pytest.raises(InputError, match=r"found no image in .*; put files there \(\.png "):
        ImageFolder(tmp_path).setup("fit")
    with pytest.raises(InputError, match=r"data\.root .*nowhere, which is no folder"):
        ImageFolder(tmp_path / "nowhere").setup("fit")


# Broken files -------------------------------------------------------------------------------


def bomb(path):
    Image.new("L", (4, 4)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">2I", 60000, 60000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)


def cut(path):
    Image.fromarray(noise(50, 50, 3)).save(path)
    path.write_bytes(path.read_bytes()[:-200])


BAD = {
    "empty": (lambda p: (p / "bad.png").write_bytes(b""), "no image of a kind"),
    "text": (lambda p: (p / "bad.jpg").write_text("<html>404</html>"), "no image of a kind"),
    "bomb": (lambda p: bomb(p / "bad.png"), "3600000000 pixels"),
    "cut png": (lambda p: cut(p / "bad.png"), "truncated"),
    "cut jpg": (lambda p: cut(p / "bad.jpg"), "truncated"),
    "cut webp": (lambda p: cut(p / "bad.webp"), "."),
    "cut gif": (lambda p: cut(p / "bad.gif"), "truncated"),
    "cut tif": (lambda p: cut(p / "bad.tif"), "."),
    "cut bmp": (lambda p: cut(p / "bad.bmp"), "truncated"),
    "pipe": (lambda p: os.mkfifo(p / "bad.png"), "no file"),
    "broken link": (lambda p: (p / "bad.png").symlink_to(p / "gone.png"), "no file"),
    "PostScript": (
        lambda p: (p / "bad.png").write_bytes(b"%!PS-Adobe-3.0\n%%BoundingBox: 0 0 9 9\n"),
        "no image of a kind"),
    "floats": (
        lambda p: Image.fromarray(np.ones((4, 4), np.float32)).save(p / "bad.tif"),
        "floats of unknown range"),
    "32 bits": (
        lambda p: Image.fromarray(np.full((4, 4), -7, np.int32)).save(p / "bad.tif"),
        "integers of 32 bits"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("spoil", "says"), BAD.values(), ids=BAD)
def test_a_bad_file_among_good_ones_is_named(spoil, says, tmp_path):
    for k in range(3):
        written(tmp_path / "test", Image.new("RGB", (5, 5), (k, k, k)), f"good{k}.png")
    spoil(tmp_path / "test")
    with pytest.raises(InputError, match=rf"1 of 4 .*test/bad\.\w+ \(.*{says}") as error:
        ImageFolder(tmp_path, 8).setup("test")
    assert "data.strict false" in str(error.value)
    data = ImageFolder(tmp_path, 8, strict=False)
    with pytest.warns(UserWarning, match=rf"left out 1 of 4 .*bad\.\w+ \(.*{says}"):
        data.setup("test")
    assert data.images("test")[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert data.names("test") == [f"test/good{k}.png" for k in range(3)]


def test_the_first_of_many_bad_files_of_all_splits_are_named_in_one_error(tmp_path):
    names = write_mixed(tmp_path, 30, broken=8)
    with pytest.raises(InputError, match=r"read 8 of 30 images .*and 3 more; repair or remove"):
        ImageFolder(tmp_path, 8).setup("fit")
    data = ImageFolder(tmp_path, 8, strict=False)
    with pytest.warns(UserWarning, match=r"left out 8 of 30 images .*and 3 more$"):
        data.setup("predict")
    assert data._ready("predict").names == names


def test_good_files_raise_no_warning(tmp_path):
    write_mixed(tmp_path, 24)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ImageFolder(tmp_path, 8, strict=False).setup("fit")


def test_nothing_usable_is_refused_even_if_lenient(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"no image can be read: 1 of 1 .*a\.png"):
        ImageFolder(tmp_path, strict=False).setup("predict")


def test_images_that_would_fill_the_memory_are_refused_before_they_are_read():
    with pytest.raises(InputError, match=r"10\d* images of 3 x 64 x 64.* GB of memory; lower"):
        check_memory(10**12, (3, 64, 64))
    check_memory(1, (3, 64, 64))


# Prediction ---------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["all", "train", "val", "test"])
def test_prediction_reads_the_wanted_images(part, tmp_path):
    names = write_mixed(tmp_path, 40)
    data = ImageFolder(tmp_path, 8, predict=part, batch_size=16)
    data.setup("predict")
    wanted = names if part == "all" else data.names(part)
    served = torch.cat(list(data.predict_dataloader()))
    assert data._ready("predict").names == wanted
    for image, name in zip(served, wanted, strict=True):
        assert (image.numpy() == read_image(tmp_path / name, data.frame_format)[0]).all()


@pytest.mark.parametrize(
    "bad",
    [
        {"size": 0},
        {"size": (8, 0)},
        {"val_fraction": -0.1},
        {"val_fraction": 0.5, "test_fraction": 0.5},
        {"val_fraction": float("nan")},
        {"crops_per_image": 0},
        {"crops_per_image": 2},
    ],
)
def test_settings_that_cannot_be_are_refused(bad, tmp_path):
    with pytest.raises(InputError, match=f"got {next(iter(bad))}"):
        ImageFolder(tmp_path, **bad)
