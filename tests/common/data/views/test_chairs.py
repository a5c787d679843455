"""Chairs: which models, views and pixels are served, beside the released preparation."""

import numpy as np
import pytest
from PIL import Image

from common.data.views.chairs import Chairs
from common.errors import InputError
from tests.common.data.small_files import noise, write_chairs

MODELS = [f"model{k:02}" for k in range(20)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chairs")
    write_chairs(folder, MODELS)
    return folder


def numbers(data, split):
    clips = data.clips(split)
    return [int(video.read(range(1))[0, 0, 0, 0]) // 10 for video in clips.footage]


def test_models_are_split_as_published(root):
    order = list(MODELS)
    np.random.RandomState(42).shuffle(order)
    expected = [MODELS.index(model) for model in order]
    data = Chairs(root, val_fraction=0.0)
    assert numbers(data, "train") == expected[:17]
    assert numbers(data, "test") == expected[17:]
    held = Chairs(root / "rendered_chairs", val_fraction=0.2)
    assert sorted(numbers(held, "train") + numbers(held, "val")) == sorted(expected[:17])
    assert len(numbers(held, "val")) == 3


@pytest.mark.parametrize("every", [1, 3])
def test_the_first_view_follows_the_last(every, root):
    data = Chairs(root, n_eval_frames=5, every=every, clips_per_video=62, val_fraction=0.0)
    clips = data.clips("test")
    assert len(clips) == 3 * 62
    for start in (0, 1, 59, 61):
        green = clips.frames([start])[0, :, 1, 0, 0].tolist()
        assert green == [4 * ((start + every * k) % 62) for k in range(5)]


def test_pixels_are_those_of_the_released_preparation(tmp_path):
    write_chairs(tmp_path, "ab")
    folder = tmp_path / "rendered_chairs" / "b" / "renders"
    rendered = sorted(folder.iterdir())
    for k in (3, 4):
        Image.fromarray(noise(600, 600, 3, seed=k)).save(rendered[k])
    data = Chairs(tmp_path, val_fraction=0.0, n_frames=2)

    def views():
        (video,) = [v for s in ("train", "test") for v in data.clips(s).footage if "/b/" in v.name]
        return video.read(range(3, 5))

    ours = views()
    for k, path in enumerate(rendered):
        with Image.open(path) as image:
            middle = image.crop((100, 100, 500, 500)) if k in (3, 4) else image
            middle.resize((64, 64), resample=Image.LANCZOS).save(folder / f"{k}.png")
    for view, k in zip(ours, (3, 4), strict=True):
        with Image.open(folder / f"{k}.png") as image:
            assert (view == np.asarray(image).transpose(2, 0, 1)).all()
        rendered[k].unlink()  # from now on only the pictures that were made so can be read
    assert (views() == ours).all()


def test_wrong_folders_and_pictures_are_named(tmp_path):
    with pytest.raises(InputError, match=r"found 0 folders .*renders; unpack"):
        Chairs(tmp_path).setup("fit")
    write_chairs(tmp_path, "abc", views=61)
    with pytest.raises(InputError, match=r"renders has 61 rendered pictures, not 62"):
        Chairs(tmp_path).setup("test")
    write_chairs(tmp_path, "abc", side=65)
    data = Chairs(tmp_path, in_memory=True)
    with pytest.raises(InputError, match=r"\.png has \(65, 65\) pixels, not \(600, 600\) or"):
        data.setup("test")
    write_chairs(tmp_path, "abc")
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match=r"\.png isn't a whole picture"):
        data.setup("test")
