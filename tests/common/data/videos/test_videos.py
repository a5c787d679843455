import gc
import struct
import sys
from concurrent.futures import ThreadPoolExecutor

import av
import numpy as np
import pytest
import torch
from PIL import Image

from common.data.formats.arrays import layout, mapped
from common.data.formats.records import masked_crc32c
from common.data.videos import embedded_clips
from common.data.videos.bair import BAIR
from common.data.videos.embedded_clips import SHOTS, EmbeddedClips
from common.data.videos.human36m import Human36M
from common.data.videos.kth import KTH
from common.data.videos.moving_mnist import MovingDigits
from common.data.videos.moving_mnist_files import MovingMNISTFile, SRVPTestSet
from common.errors import InputError
from tests.common.data.small_files import (
    example,
    masked,
    noise,
    record,
    robot,
    slow_crc32c,
    write_bair,
    write_human,
    write_kth,
    write_npy,
    write_srvp,
)

SPLITS = ("train", "val", "test")


def batch(data, split="test"):
    stage = {"train": "fit", "val": "validate", "test": "test"}[split]
    data.setup(stage)
    return next(iter(getattr(data, f"{split}_dataloader")()))


# Moving digits ------------------------------------------------------------------------------


@pytest.mark.parametrize("n_frames", [20, 15])
def test_the_standard_file_is_served_in_order(n_frames, tmp_path):
    pixels = noise(20, 7, 64, 64)
    data = MovingMNISTFile(write_npy(tmp_path / "a.npy", pixels), n_frames, batch_size=4)
    assert data.shape == (1, 64, 64)
    data.setup("test")
    served = list(data.test_dataloader())
    assert [b.frames.shape for b in served] == [(n, n_frames, 1, 64, 64) for n in (4, 3)]
    frames = torch.cat([b.frames for b in served])[:, :, 0].numpy()
    assert (frames == pixels[:n_frames].swapaxes(0, 1)).all()
    assert torch.cat([b.number for b in served]).tolist() == list(range(7))
    assert served[0].times.tolist() == list(range(n_frames))


def test_the_standard_file_is_not_read_into_memory(tmp_path):
    data = MovingMNISTFile(write_npy(tmp_path / "a.npy", noise(20, 3, 64, 64)))
    assert isinstance(data.clips("test").pixels, np.memmap)


@pytest.mark.parametrize("middle", [(), (1,)])
def test_the_file_of_srvp_comes_back_with_its_latents(middle, tmp_path):
    pixels = noise(30, 5, *middle, 64, 64)
    data = SRVPTestSet(write_srvp(tmp_path / "a.npz", pixels), batch_size=5)
    clip = batch(data)
    expected = pixels.reshape(30, 5, 1, 64, 64)[:25].swapaxes(0, 1)
    assert (clip.frames.numpy() == expected).all()
    latents = data.latents()
    assert latents.shape == (5, 25, 2, 4)
    assert latents[2, 3].ravel().tolist() == list(range((3 * 5 + 2) * 8, (3 * 5 + 3) * 8))


@pytest.mark.parametrize("stage", ["fit", "validate"])
@pytest.mark.parametrize("kind", [MovingMNISTFile, SRVPTestSet])
def test_the_test_files_are_for_testing_only(kind, stage, tmp_path):
    with pytest.raises(InputError, match=r"holds test videos only.*fit on other data"):
        kind(tmp_path / "a").setup(stage)


BAD_ARRAYS = {
    "another type": (noise(20, 2, 64, 64).astype(float), r"float64 of shape \(20, 2, 64, 64\)"),
    "another size": (noise(20, 2, 32, 32), r"uint8 of shape \(20, 2, 32, 32\)"),
    "one video": (noise(20, 64, 64), r"uint8 of shape \(20, 64, 64\)"),
    "too few frames": (
        noise(10, 2, 64, 64),
        r"videos of 10 frames, but data\.n_frames asks for 20",
    ),
}


@pytest.mark.parametrize(("pixels", "says"), BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_arrays_that_do_not_fit_are_named(pixels, says, tmp_path):
    plain = MovingMNISTFile(write_npy(tmp_path / "a.npy", pixels))
    zipped = SRVPTestSet(tmp_path / "a.npz", n_frames=20)
    np.savez(tmp_path / "a.npz", sequences=pixels)
    for data in (plain, zipped):
        with pytest.raises(InputError, match=says) as error:
            data.setup("test")
        assert str(data.path) in str(error.value)


@pytest.mark.parametrize("kind", [MovingMNISTFile, SRVPTestSet])
@pytest.mark.parametrize(
    "content", [b"", b"hello", b"PK\x03\x04 no archive", b"\x93NUMPY\x01\x00"]
)
def test_files_that_are_no_arrays_are_named(kind, content, tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.npy (isn't a whole array file|lacks)"):
        kind(path).setup("test")
    with pytest.raises(InputError, match="found no file"):
        kind(tmp_path / "nowhere").setup("test")


def test_several_threads_read_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", image=noise(3, 64, 64, 3))
    np.save(tmp_path / "a.npy", noise(3, 20, 1, 64, 64))

    def read(_):
        garbage = Garbage()
        garbage.me = garbage
        layout(tmp_path / "a.npz", "image")
        mapped(tmp_path / "a.npy")

    before = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(1e-6)  # let threads change places, and rubbish be collected, while
    gc.set_threshold(10, 2, 2)  # another thread parses the head of an array
    try:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(read, range(3200)))
    finally:
        sys.setswitchinterval(before[0])
        gc.set_threshold(*before[1])


class Garbage:
    """Object whose end runs Python code."""

    def __del__(self):
        sum(range(100))


@pytest.mark.parametrize("kind", [MovingMNISTFile, SRVPTestSet])
def test_pickles_are_not_opened(kind, tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object))
    np.savez(tmp_path / "a.npz", sequences=np.array([{}], dtype=object))
    path = tmp_path / ("a.npy" if kind is MovingMNISTFile else "a.npz")
    with pytest.raises(InputError, match=r"isn't a whole array file"):
        kind(path).setup("test")


def test_an_archive_without_sequences_says_so(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros(3))
    with pytest.raises(InputError, match=r"a\.npz lacks an array: .*sequences"):
        SRVPTestSet(tmp_path / "a.npz").setup("test")


# KTH ----------------------------------------------------------------------------------------


def kth_avi(path, frames):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "gray"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="gray")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def kth(tmp_path_factory):
    lengths = lambda name: 5 + int(name[-1])
    return write_kth(tmp_path_factory.mktemp("kth"), (3, 17, 20, 21, 22, 23, 24, 25), lengths)


def persons(paths):
    return {int(path.name[6:8]) for path in paths}


@pytest.mark.parametrize(
    ("protocol", "train", "test"),
    [("srvp", {3, 17, 20}, {21, 22, 23, 24, 25}), ("predrnn", {3}, {17, 20, 21, 22, 23, 24, 25})],
)
def test_persons_are_split_as_published(protocol, train, test, kth):
    data = KTH(kth, protocol, val_fraction=0.25)
    paths = {split: data.paths(split) for split in SPLITS}
    assert persons(paths["test"]) == test
    assert persons(paths["train"] + paths["val"]) == train
    assert len(paths["val"]) == 6 * len(train)
    assert len(set().union(*paths.values())) == 8 * 24
    assert KTH(kth, protocol, val_fraction=0.25).paths("val") == paths["val"]


def test_the_test_clips_are_those_that_srvp_draws(kth):
    clip_length = 4
    clips = KTH(kth, n_eval_frames=clip_length).clips("test")
    assert len(clips) == 1000
    draws = np.random.RandomState(42)
    for k in range(20):
        draws.randint(6)
        person, trial = draws.randint(21, 26), draws.randint(1, 5)
        start = draws.randint(5 + trial - clip_length + 1)
        expected = person * 8 + start + np.arange(clip_length)
        assert (clips.frames([k])[0].numpy() == expected[:, None, None, None]).all()


def test_the_other_protocol_places_its_own_clips(kth):
    data = KTH(kth, "predrnn", n_eval_frames=4, clips_per_video=1)
    assert len(data.clips("test")) == 7 * 24


def test_a_test_video_that_srvp_draws_and_is_missing_is_named(tmp_path):
    write_kth(tmp_path, (21,), lambda _: 4)
    with pytest.raises(InputError, match=r"need person2\d_[a-z]+_d\d, .* the 24 test videos"):
        KTH(tmp_path, n_frames=4, n_eval_frames=4).setup("test")


def test_original_files_are_squeezed_to_64_grey(tmp_path):
    frames = noise(6, 120, 160)
    kth_avi(tmp_path / "boxing" / "person22_boxing_d2_uncomp.avi", frames)
    data = KTH(tmp_path, "predrnn", n_frames=6, n_eval_frames=6)
    assert data.shape == (1, 64, 64)
    served = batch(data).frames[0, :, 0].numpy()
    expected = [Image.fromarray(f).resize((64, 64), Image.Resampling.LANCZOS) for f in frames]
    assert abs(served.astype(int) - np.stack(expected)).max() <= 1


def test_frame_folders_of_the_size_wanted_are_preferred(tmp_path):
    write_kth(tmp_path, (22,), lambda _: 2)
    kth_avi(tmp_path / "raw" / "boxing" / "person22_boxing_d2_uncomp.avi", noise(2, 120, 160))
    pick = lambda size: KTH(tmp_path, size=size).videos()["person22_boxing_d2"]
    assert pick(64).is_dir()
    assert pick(32).is_file()


def test_a_folder_without_kth_says_what_goes_there(tmp_path):
    with pytest.raises(InputError, match=r"no video of KTH in .*person.*\.avi"):
        KTH(tmp_path).setup("test")


# BAIR ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bair(tmp_path_factory):
    """The folder, and the videos `[n 30 64 64 3]` of its splits."""
    root = tmp_path_factory.mktemp("bair")
    pixels = {"train": noise(5, 30, 64, 64, 3), "test": noise(3, 30, 64, 64, 3, seed=1)}
    return write_bair(root, pixels), pixels


def test_the_checksum_is_crc32c():
    assert slow_crc32c(b"123456789") == 0xE3069283
    for data in (b"", b"\0" * 8, b"123456789", bytes(range(256))):
        assert struct.pack("<I", masked_crc32c(data)) == masked(data)


@pytest.mark.parametrize("camera", ["aux1", "main"])
def test_records_come_back_as_written(camera, bair):
    root, pixels = bair
    clip = batch(BAIR(root, camera))
    expected = torch.from_numpy(pixels["test"]).permute(0, 1, 4, 2, 3)
    assert (clip.frames == (expected if camera == "aux1" else 255 - expected)).all()


def test_the_folder_of_the_splits_will_do(bair):
    root = bair[0] / "softmotion30_44k"
    assert len(BAIR(root).clips("test")) == 3


def test_training_clips_are_runs_of_one_video(bair):
    root, pixels = bair
    data = BAIR(root, val_fraction=0.2)
    train, val = data.clips("train"), data.clips("val")
    assert (len(train), len(val)) == (4, 1)
    videos = pixels["train"].transpose(0, 1, 4, 2, 3)
    windows = {videos[v, s : s + 12].tobytes(): (v, s) for v in range(5) for s in range(19)}
    found = [windows[clip.numpy().tobytes()] for clip in train.frames(list(range(60)))]
    held = next(v for v in range(5) if (videos[v] == val.frames([0])[0].numpy()).all())
    assert {v for v, _ in found} == set(range(5)) - {held}
    assert len({s for _, s in found}) > 9


GOOD = robot(noise(30, 64, 64, 3), noise(30, 64, 64, 3))
FRAME = noise(64, 64, 3).tobytes()
BAD_RECORDS = {
    "no record file": (b"hello" * 100, "isn't a TFRecord file.*record 0"),
    "cut short": (GOOD + GOOD[:-7], "ends within record 1"),
    "cut in the head": (GOOD + GOOD[:5], "ends within record 1"),
    "another length": (GOOD + b"\1" + GOOD[1:], "head of record 1"),
    "not an example": (record(b"\xff" * 40), "record 0 of .* is damaged"),
    "no such camera": (
        record(example({"0/other": FRAME})),
        "camera aux1 for frame 0 and has none",
    ),
    "a small frame": (
        record(example({"0/image_aux1/encoded": FRAME[:-1]})),
        "12288 bytes .* has 12287 bytes",
    ),
}


@pytest.mark.parametrize(("content", "says"), BAD_RECORDS.values(), ids=BAD_RECORDS)
def test_records_that_are_wrong_are_named(content, says, tmp_path):
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "a.tfrecords").write_bytes(content)
    with pytest.raises(InputError, match=says) as error:
        batch(BAIR(tmp_path))
    assert "a.tfrecords" in str(error.value)


def test_robots_that_are_missing_or_too_short_are_told(tmp_path):
    with pytest.raises(InputError, match=r"no \*\.tfrecords in .*softmotion30_44k"):
        BAIR(tmp_path).setup("test")
    with pytest.raises(InputError, match=r"n_eval_frames 31; .* has 30"):
        BAIR(tmp_path, n_eval_frames=31)


# Human3.6M ----------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[np.savez, np.savez_compressed])
def human(request, tmp_path_factory):
    """The folder, and the videos `[t 64 64 3]` by name."""
    root, videos = tmp_path_factory.mktemp("human"), {}
    for folder, subjects in (("train", (1, 5, 6, 7, 8)), ("test", (9, 11))):
        actions, length = ("Eating", "Walking 1"), lambda subject: 30 + subject
        videos |= write_human(root / folder, subjects, actions, length, request.param)
    return root, videos


def test_subjects_and_the_test_clips_are_those_of_srvp(human):
    root, videos = human
    settings = {"n_frames": 3, "n_eval_frames": 4}
    data = Human36M(root, val_fraction=0.2, **settings)
    clips = data.clips("test")
    assert len(clips) == 1000
    names = sorted(name for name in videos if name.startswith(("S9-", "S11-")))
    draws = np.random.RandomState(42)
    for k in range(20):
        video = videos[names[draws.randint(4)]]
        start = draws.randint(len(video) - 25 + 1)
        expected = video[start : start + 25 : 8].transpose(0, 3, 1, 2)
        assert (clips.frames([k])[0].numpy() == expected).all()


def test_training_subjects_are_split_by_video(human):
    root, _ = human
    data = Human36M(root, val_fraction=0.2, n_frames=3, n_eval_frames=4)
    names = {split: {v.name for v in data.clips(split).footage} for split in ("train", "val")}
    assert (len(names["train"]), len(names["val"])) == (8, 2)
    assert not names["train"] & names["val"]


def test_times_count_frames_of_the_usual_rate(human):
    settings = {"n_frames": 3, "n_eval_frames": 3}
    assert Human36M(human[0], **settings).clips("train").times([0]).tolist() == [0, 1, 2]
    assert Human36M(human[0], every=4, **settings).clips("train").times([0]).tolist() == [
        0,
        0.5,
        1,
    ]


def test_a_broken_array_is_named_or_skipped_but_not_in_testing(tmp_path):
    names = [f"S{subject}-{letter}" for subject in (1, 9) for letter in "abcdef"]
    for name in names:
        np.savez(tmp_path / name, image=np.zeros((20, 64, 64, 3), np.uint8), subject=9)
    for name in ("S1-b", "S9-b"):
        path = tmp_path / f"{name}.npz"
        path.write_bytes(path.read_bytes()[:5000])
    settings = {"n_frames": 2, "n_eval_frames": 2, "val_fraction": 0.3}
    with pytest.raises(InputError, match=r"S9-b\.npz isn't a whole array file"):
        Human36M(tmp_path, **settings).setup("test")
    with pytest.warns(UserWarning, match=r"left out 1 of \d .* videos.*S1-b"):
        Human36M(tmp_path, strict=False, **settings).setup("fit")
    with (
        pytest.warns(UserWarning, match="S9-b"),
        pytest.raises(InputError, match="would not be SRVP's"),
    ):
        Human36M(tmp_path, strict=False, **settings).setup("test")
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match=r"no S.*npz of subjects \(1, 5, 6, 7, 8\)"):
        Human36M(tmp_path / "other").setup("fit")


# Embedded clips -----------------------------------------------------------------------------


@pytest.fixture
def numbered(tmp_path, monkeypatch):
    """A wheel whose videos show their frames' numbers, with noise that differs between them."""
    lengths = {"bikes.mp4": 250, "bigbuckbunny.mp4": 132, "carphone_pristine.mp4": 120}

    def video(name, height):
        pixels = np.zeros((lengths[name], height, 2 * height, 3), np.uint8)
        pixels[..., 0] = np.arange(lengths[name])[:, None, None]
        pixels[..., 1] = sorted(lengths).index(name)
        return pixels

    monkeypatch.setattr(embedded_clips, "_video", video)
    return sorted(lengths)


def test_no_frame_serves_two_splits_and_no_clip_runs_over_a_cut(numbered):
    shown = {}
    for split in SPLITS:
        clips = EmbeddedClips(16, n_frames=20).clips(split).frames(list(range(150)))
        middle = clips[:, :, :2, 8, 8].tolist()
        for clip in middle:
            (name,) = {numbered[v] for _, v in clip}
            first = clip[0][0]
            assert [k for k, _ in clip] == list(range(first, first + 20))
            assert any(n == name and a <= first <= e - 20 for n, a, e in SHOTS[split])
        shown[split] = {(v, k) for clip in middle for k, v in clip}
    assert not shown["train"] & shown["val"] | shown["train"] & shown["test"]
    assert not shown["val"] & shown["test"]
    assert {v for v, _ in shown["train"]} == {0, 1, 2}


def test_every_first_frame_of_a_shot_is_drawn(numbered):
    clips = EmbeddedClips(16, n_frames=20).clips("test").frames(list(range(500)))
    drawn = {tuple(k) for k in clips[:, 0, :2, 8, 8].tolist()}
    starts = {
        (k, numbered.index(name)) for name, a, e in SHOTS["test"] for k in range(a, e - 20 + 1)
    }
    assert drawn == starts


def test_the_wheel_has_the_frames_that_the_shots_name():
    ends = {"bikes.mp4": 250, "bigbuckbunny.mp4": 132, "carphone_pristine.mp4": 120}
    for name, count in ends.items():
        height, width = {"bikes.mp4": (16, 38)}.get(name, (16, None))
        video = embedded_clips._video(name, height)
        assert video.shape[:2] == (count, height)
        assert width in (None, video.shape[2])


def test_embedded_clips_are_the_same_again_and_show_content():
    settings = {"n_frames": 5, "clips_per_epoch": 30, "eval_clips": 9, "batch_size": 9}
    clips = [batch(EmbeddedClips(16, **settings), split) for split in ("val", "test")]
    again = [batch(EmbeddedClips(16, **settings), split) for split in ("val", "test")]
    for one, two in zip(clips, again, strict=True):
        assert one.frames.shape == (9, 5, 3, 16, 16)
        assert (one.frames == two.frames).all()
        assert one.frames.double().std((3, 4)).mean() > 20
        assert len({clip.numpy().tobytes() for clip in one.frames}) == 9


def test_embedded_flip_mirrors_training_clips_only():
    plain, flipped = (EmbeddedClips(16, n_frames=5, flip=f) for f in (False, True))
    one, two = (data.clips("train").frames(list(range(60))) for data in (plain, flipped))
    mirrored = (one != two).flatten(1).any(1)
    assert (two[mirrored] == one[mirrored].flip(-1)).all()
    assert 15 < mirrored.sum() < 45
    assert (plain.clips("val").frames([0]) == flipped.clips("val").frames([0])).all()


def test_clips_longer_than_every_shot_are_refused():
    assert len(EmbeddedClips(16, n_eval_frames=55).clips("test").shots) == 1
    with pytest.raises(InputError, match=r"n_eval_frames 56, but the longest test shot has 55"):
        EmbeddedClips(16, n_eval_frames=56).clips("test")


@pytest.mark.parametrize("bad", [{"size": 145}, {"clips_per_epoch": 0}, {"eval_clips": 0}])
def test_embedded_clips_that_cannot_be_are_refused(bad):
    with pytest.raises(InputError, match=f"{next(iter(bad))} {next(iter(bad.values()))}"):
        EmbeddedClips(**bad)


def test_swapped_videos_are_drawn_from_the_latents_and_digits_of_the_file(tmp_path):
    made = MovingDigits(n_frames=5, n_test=4)
    numbers, times = torch.arange(4), torch.arange(5.0)
    true = made.trajectories("test", numbers, times)
    places = made.motion.pixels(true.corners.numpy())
    latents = np.concatenate([places, true.velocities.numpy()], -1).swapaxes(0, 1)
    arrays = {
        "sequences": made.videos("test", numbers, times)[:, :, 0].transpose(0, 1).numpy(),
        "latents": latents,
        "digits": made.images("test")[true.digits.flatten(), 0].reshape(4, 2, 28, 28).numpy(),
    }
    np.savez(tmp_path / "a.npz", **arrays)
    data = SRVPTestSet(tmp_path / "a.npz", n_frames=5, batch_size=4)
    data.setup("test")
    (clip,) = data.test_dataloader()
    assert torch.equal(data.swapped(clip, numbers)[0], clip.frames)
    other = numbers.roll(1)
    expected = made.swapped(clip._replace(times=times), other)
    assert torch.equal(data.swapped(clip, other), expected)
    np.savez(tmp_path / "b.npz", **{**arrays, "digits": arrays["digits"][:3]})
    broken = SRVPTestSet(tmp_path / "b.npz", n_frames=5)
    with pytest.raises(InputError, match="holds digits of uint8"):
        broken.swapped(clip, other)
