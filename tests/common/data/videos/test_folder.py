import warnings

import av
import numpy as np
import pytest
import torch
from PIL import Image

from common.data.formats import video_streams
from common.data.formats.footage import FrameFormat
from common.data.formats.video_files import VideoFile
from common.data.formats.video_paths import natural_sort_key
from common.data.videos.folder import VideoFolder
from common.data.videos.windows import evenly_spaced
from common.errors import InputError
from tests.common.data.small_files import write_folder

SPLITS = ("train", "val", "test")
LOSSLESS = {"codec": "ffv1", "fmt": "bgr0"}
# Key frames 25 apart, frames out of order between them.
SPARSE = {"codec": "libx264", "fmt": "yuv420p", "g": "25", "bf": "3", "sc_threshold": "0"}
OPEN = SPARSE | {"x264-params": "open-gop=1:scenecut=0"}
UNTIMED = {"codec": "mpeg4", "fmt": "yuv420p", "g": "20", "bf": "2", "sc_threshold": "1000000000"}


def write(path, frames, codec="ffv1", fmt="bgr0", rate=25, flags=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=flags or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = fmt
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=fmt)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def steps(count, size=(16, 16), start=0):
    """Frame k shows k everywhere."""
    return [np.full((*size, 3), start + k, np.uint8) for k in range(count)]


def bars(count, size=(48, 64)):
    """Frame k in 6 bars of black and white, bit by bit, which a lossy codec leaves readable."""
    return [
        np.repeat(255 * (k >> np.arange(6) & 1), [11, 11, 11, 11, 10, 10])[None, :, None]
        .astype(np.uint8)
        .repeat(size[0], 0)
        .repeat(3, 2)
        for k in range(count)
    ]


def read_bars(pixels):
    """The numbers of frames `[t c h w]`."""
    middles = np.array([5, 16, 27, 38, 49, 59])
    return ((pixels[:, 0, 24, middles] > 127) << np.arange(6)).sum(-1).tolist()


def noise(count, size=(48, 64), seed=0):
    draws = np.random.default_rng(seed)
    return [draws.integers(0, 256, (*size, 3), np.uint8) for _ in range(count)]


def values(clips, indices):
    return clips.frames(indices)[:, :, 0, 0, 0].tolist()


def collection(root, count=10, length=12):
    for k in range(count):
        write_folder(root / f"v{k:02}", steps(length, start=12 * k))
    return root


# Frames -------------------------------------------------------------------------------------

FILES = {
    "few key frames, mp4": ("a.mp4", SPARSE),
    "few key frames, mkv": ("a.mkv", SPARSE),
    "open groups": ("a.mp4", OPEN),
    "mov": ("a.mov", {"codec": "mpeg4", "fmt": "yuv420p"}),
    "no time stamps": ("a.avi", UNTIMED),
    "stamps that a seek mistakes": (
        "a.avi",
        {"codec": "mpeg2video", "fmt": "yuv420p", "g": "6", "bf": "2"},
    ),
    "motion jpeg": ("a.AVI", {"codec": "mjpeg", "fmt": "yuvj420p"}),
    "webm": ("a.webm", {"codec": "libvpx-vp9", "fmt": "yuv420p", "cpu-used": "8"}),
    "gif": ("a.gif", {"codec": "gif", "fmt": "rgb8"}),
    "lossless": ("a.mkv", LOSSLESS),
}


@pytest.mark.parametrize(("name", "how"), FILES.values(), ids=FILES)
def test_frame_k_is_frame_k_of_the_file_wherever_reading_begins(name, how, tmp_path, monkeypatch):
    video = VideoFile(write(tmp_path / name, bars(60), **how), FrameFormat(48, 64))
    assert len(video) == 60
    assert read_bars(video.read(range(60))) == list(range(60))
    for start in range(57):
        assert read_bars(video.read(range(start, start + 4))) == list(range(start, start + 4))
    assert read_bars(video.read(range(3, 58, 9))) == list(range(3, 58, 9))
    monkeypatch.setattr(video_streams, "MOST_BYTES", 3 * 48 * 64 * 7)  # of 7 frames
    backward = np.stack([np.array(image.convert("RGB")) for image in video.stream.backward()])
    assert read_bars(backward.transpose(0, 3, 1, 2)) == list(reversed(range(60)))


def test_reading_begins_at_the_key_frame_before(tmp_path, monkeypatch):
    video = VideoFile(write(tmp_path / "a.mp4", bars(60), **SPARSE), FrameFormat(48, 64))
    decoded = [number for number, _ in video.stream._from(55)]
    assert decoded == list(range(50, 60))


def test_pixels_come_back_exactly_from_a_lossless_file(tmp_path):
    frames = noise(5)
    video = VideoFile(write(tmp_path / "a.mkv", frames), FrameFormat(48, 64))
    assert (video.read(range(5)) == np.stack(frames).transpose(0, 3, 1, 2)).all()


def test_grey_is_that_of_pillow(tmp_path):
    frames = noise(3)
    video = VideoFile(write(tmp_path / "a.mkv", frames), FrameFormat(48, 64, channels=1))
    expected = [np.asarray(Image.fromarray(frame).convert("L")) for frame in frames]
    assert (video.read(range(3))[:, 0] == np.stack(expected)).all()


def test_colours_keep_their_channels(tmp_path):
    red = [np.full((48, 64, 3), (220, 40, 10), np.uint8)] * 4
    for name, how in (("a.mkv", LOSSLESS), ("a.mp4", SPARSE)):
        pixels = VideoFile(write(tmp_path / name, red, **how), FrameFormat(8, 8)).read(range(4))
        assert abs(pixels.mean((0, 2, 3)) - (220, 40, 10)).max() < 4


def test_sixteen_bits_are_scaled_not_clipped():
    ramp = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16)
    grey = FrameFormat(16, 16, channels=1).convert(Image.fromarray(ramp))
    assert (grey[0] == np.arange(256).reshape(16, 16)).all()


def test_scaling_down_does_not_alias():
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::2] = 255
    inside = FrameFormat(32, 32).convert(Image.fromarray(stripes))[..., 2:-2]
    assert abs(inside.astype(float) - 127.5).max() < 16


@pytest.mark.parametrize(("size", "shape"), [(20, (20, 20)), ((10, 40), (10, 40))])
def test_crops_are_central_or_none(size, shape):
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, 60:] = 255
    image[:10] = 77
    whole = FrameFormat(*shape, 1, "none").convert(Image.fromarray(image))[0]
    assert whole.shape == shape
    assert whole[-2, 0] == 0
    assert whole[-2, -1] == 255
    assert whole[0, 0] in range(70, 85)
    cut = FrameFormat(*shape, 1, "centre").convert(Image.fromarray(image))[0]
    assert cut.shape == shape
    # The middle 40x40, which has no white, or the middle 20x80, which has no stripe on top.
    assert (cut.max() < 90) == (shape == (20, 20))
    assert (cut[0, 0] < 20) == (shape == (10, 40))


@pytest.mark.parametrize("name", ["img{}.png", "{}.png", "2-img{:02}.PNG", "image-{:03}.jpg"])
def test_frames_of_a_folder_are_in_the_order_of_their_numbers(name, tmp_path):
    write_folder(tmp_path / "v", steps(12), name, first=95)
    (tmp_path / "v" / "notes1.txt").write_text("no frame")
    Image.new("RGB", (4, 4)).save(tmp_path / "v" / "cover.png")
    data = VideoFolder(tmp_path, 16, n_frames=12, val_fraction=0.0, test_fraction=0.0)
    assert values(data.clips("train"), [0]) == [list(range(12))]


def test_names_sort_by_the_numbers_in_them():
    names = ["img10", "img2", "a3b10", "a3b9", "img02", "x"]
    assert sorted(names, key=natural_sort_key)[:2] == ["a3b9", "a3b10"]
    assert natural_sort_key("img2") < natural_sort_key("img10") < natural_sort_key("x")


# Clips --------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 3])
def test_training_clips_are_runs_of_frames_with_every_start(every, tmp_path):
    write_folder(tmp_path / "v", steps(12))
    settings = {"n_frames": 4, "every": every, "val_fraction": 0.0, "test_fraction": 0.0}
    clips = VideoFolder(tmp_path, 16, **settings).clips("train")
    assert (clips.times([0]) == torch.arange(4) * every).all()
    served = values(clips, list(range(300)))
    assert all(np.diff(clip).tolist() == [every] * 3 for clip in served)
    last = 12 - 3 * every
    assert {clip[0] for clip in served} == set(range(last))
    counts = np.bincount([clip[0] for clip in served])
    assert counts.max() / counts.min() < 3
    assert values(clips, [7, 250]) == [served[7], served[250]]


def test_spread_places_reach_both_ends_without_overlap():
    for length, span in ((12, 4), (13, 4), (4, 4), (7, 4), (99, 10)):
        starts = evenly_spaced(length, span, None)
        assert len(starts) == length // span
        assert starts[0] == 0
        assert len(starts) == 1 or starts[-1] == length - span
        assert all(np.diff(starts) >= span)
    assert evenly_spaced(12, 4, 5) == [0, 2, 4, 6, 8]
    assert evenly_spaced(12, 4, 1) == [0]


@pytest.mark.parametrize(("count", "firsts"), [(None, [0, 4, 9]), (2, [0, 9]), (1, [0])])
def test_evaluation_clips_are_fixed_and_evenly_spaced(count, firsts, tmp_path):
    write_folder(tmp_path / "test" / "v", steps(13))
    data = VideoFolder(tmp_path, 16, n_frames=4, clips_per_video=count, batch_size=2)
    data.setup("test")
    for _ in range(2):
        served = [b.frames[:, :, 0, 0, 0] for b in data.test_dataloader()]
        assert torch.cat(served).tolist() == [list(range(k, k + 4)) for k in firsts]


def test_more_clips_than_places_are_not_doubled(tmp_path):
    write_folder(tmp_path / "test" / "v", steps(5))
    assert len(VideoFolder(tmp_path, 16, n_frames=4, clips_per_video=9).clips("test")) == 2


@pytest.mark.parametrize("num_workers", [0, 2])
def test_each_epoch_brings_other_clips(num_workers, tmp_path):
    collection(tmp_path)
    settings = {"n_frames": 4, "batch_size": 8, "num_workers": num_workers}
    data = VideoFolder(tmp_path, 16, **settings)
    data.setup("fit")
    loader = data.train_dataloader()
    epochs = [list(loader) for _ in range(2)]
    assert [len(batches) for batches in epochs] == [3, 3]
    for batches in epochs:
        frames = torch.cat([b.frames for b in batches])
        assert frames.shape == (24, 4, 3, 16, 16)
        firsts = frames[:, :, 0, 0, 0].long()
        assert (firsts.diff(dim=1) == 1).all()
        # Each of the eight videos three times.
        assert (
            torch.bincount(firsts[:, 0] // 12).sort(descending=True).values[:8].tolist() == [3] * 8
        )
    numbers = torch.cat([b.number for batches in epochs for b in batches])
    assert sorted(numbers.tolist()) == list(range(48))
    again = data.clips("train").frames(epochs[1][0].number.tolist())
    assert (again == epochs[1][0].frames).all()


@pytest.mark.parametrize("in_memory", [False, True])
def test_keeping_frames_in_memory_changes_nothing(in_memory, tmp_path):
    frames = noise(30)
    write(tmp_path / "test" / "a.mp4", frames, **SPARSE)
    data = VideoFolder(tmp_path, 16, n_frames=5, in_memory=in_memory)
    whole = VideoFile(tmp_path / "test" / "a.mp4", data.frame_format).read(range(30))
    served = data.clips("test").frames([0, 3]).numpy()
    assert (served == np.stack([whole[:5], whole[15:20]])).all()


def test_flip_mirrors_half_of_the_training_clips_and_nothing_else(tmp_path):
    left = steps(8)
    for frame in left:
        frame[:, 8:] = 200
    for split in ("train", "val"):
        write_folder(tmp_path / split / "v", left)
    plain, flipped = (
        VideoFolder(tmp_path, 16, n_frames=4, test_fraction=0.0, flip=f) for f in (False, True)
    )
    indices = list(range(200))
    one, two = (data.clips("train").frames(indices) for data in (plain, flipped))
    mirrored = (one != two).flatten(1).any(1)
    assert (two[mirrored] == one[mirrored].flip(-1)).all()
    assert 70 < mirrored.sum() < 130
    assert (flipped.clips("val").frames([0, 1]) == plain.clips("val").frames([0, 1])).all()


# Splits -------------------------------------------------------------------------------------


def test_splits_share_no_video_and_leave_none_out(tmp_path):
    collection(tmp_path, 20)
    data = VideoFolder(tmp_path, 16, val_fraction=0.2, test_fraction=0.1)
    paths = [data.paths(split) for split in SPLITS]
    assert [len(p) for p in paths] == [14, 4, 2]
    assert len(set().union(*paths)) == 20
    assert data.paths("val") == sorted(data.paths("val"))


def test_the_split_depends_on_names_and_seed_alone(tmp_path, monkeypatch):
    collection(tmp_path, 20)
    first = VideoFolder(tmp_path, 16).paths("val")
    torch.manual_seed(9)
    walk = __import__("os").walk
    backwards = lambda root, **how: ((a, b, c[::-1]) for a, b, c in reversed(list(walk(root))))
    monkeypatch.setattr("os.walk", backwards)
    assert VideoFolder(tmp_path, 16).paths("val") == first
    monkeypatch.undo()
    others = [VideoFolder(tmp_path, 16, split_seed=s).paths("val") for s in range(1, 6)]
    assert any(paths != first for paths in others)


def test_sub_folders_give_the_split(tmp_path):
    for split, start in (("train", 0), ("val", 100), ("test", 200)):
        write_folder(tmp_path / split / "deep" / "v", steps(5, start=start))
        write(tmp_path / split / "w.mkv", steps(5, start=start + 10))
    data = VideoFolder(tmp_path, 16, n_frames=5)
    for split, start in (("train", 0), ("val", 100), ("test", 200)):
        clips = data.clips(split)
        assert values(clips, [0, 1]) == [list(range(start + s, start + s + 5)) for s in (0, 10)]


def test_a_split_without_a_folder_is_drawn_from_the_others(tmp_path):
    collection(tmp_path / "train", 10)
    collection(tmp_path / "test", 3)
    data = VideoFolder(tmp_path, 16)
    paths = {split: data.paths(split) for split in SPLITS}
    assert [len(p) for p in paths.values()] == [9, 1, 3]
    assert all(path.parent.name == "test" for path in paths["test"])
    assert not set(paths["train"]) & set(paths["val"])


def test_testing_needs_the_test_videos_alone(tmp_path):
    write_folder(tmp_path / "test" / "v", steps(5))
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.mp4").write_bytes(b"broken")
    data = VideoFolder(tmp_path, 16, n_frames=5)
    data.setup("test")
    assert next(iter(data.test_dataloader())).frames.shape == (1, 5, 3, 16, 16)


def test_the_shape_is_known_before_setup(tmp_path):
    assert VideoFolder(tmp_path, (8, 24), 1).shape == (1, 8, 24)
    assert VideoFolder(tmp_path).shape == (3, 64, 64)


def test_images_beside_videos_and_hidden_files_do_not_count(tmp_path):
    write(tmp_path / "a.mkv", steps(5))
    write_folder(tmp_path, steps(3), "thumbnail{}.png")
    write_folder(tmp_path / ".cache", steps(3))
    (tmp_path / "._a.mkv").write_bytes(b"of a Mac")
    assert list(VideoFolder(tmp_path).videos()) == ["a.mkv"]


def test_linked_folders_are_followed_but_not_round_in_circles(tmp_path):
    write(tmp_path / "far" / "a.mkv", steps(3))
    root = tmp_path / "root"
    root.mkdir()
    (root / "near").symlink_to(tmp_path / "far")
    (root / "loop").symlink_to(root)
    assert list(VideoFolder(root).videos()) == ["near/a.mkv"]


# Errors -------------------------------------------------------------------------------------


def halved(path, *how, **options):
    write(path, *how, **options)
    content = path.read_bytes()
    path.write_bytes(content[: int(0.6 * len(content))])


FAST = {"flags": {"movflags": "faststart"}}
BAD = {
    "too short": (
        lambda p: write(p / "bad.mkv", steps(6)),
        r"bad\.mkv has 6 frames.*needs 7; lower",
    ),
    "a short folder": (lambda p: write_folder(p / "bad", steps(6)), r"bad has 6 frames.*needs 7"),
    "empty": (lambda p: (p / "bad.mp4").write_bytes(b""), r"bad\.mp4 can't be decoded"),
    "no video": (lambda p: (p / "bad.avi").write_bytes(b"hello" * 999), r"bad\.avi can't be"),
    "cut before the index": (
        lambda p: halved(p / "bad.mp4", noise(40), **SPARSE),
        r"bad\.mp4 can't be decoded \(an incomplete file.*copy it again",
    ),
    "cut after the index": (
        lambda p: halved(p / "bad.mp4", noise(40), **SPARSE, **FAST),
        r"bad\.mp4 (can't be decoded|is damaged at frame)",
    ),
    "cut avi": (lambda p: halved(p / "bad.avi", noise(40), **UNTIMED), r"bad\.avi is damaged"),
    "cut mkv": (
        lambda p: halved(p / "bad.mkv", noise(40)),
        r"bad\.mkv ends after 0\.\d+ s of the 1\.60 s",
    ),
    "a broken image": (
        lambda p: (write_folder(p / "bad", noise(9)) / "img5.png").write_bytes(b"\x89PNG"),
        r"img5\.png isn't a whole image",
    ),
    "a cut image": (
        lambda p: (f := write_folder(p / "bad", noise(9)) / "img5.png").write_bytes(
            f.read_bytes()[:3000]
        ),
        r"img5\.png isn't a whole image",
    ),
}


@pytest.mark.parametrize(("spoil", "says"), BAD.values(), ids=BAD)
def test_a_bad_video_among_good_ones_is_named(spoil, says, tmp_path):
    folder = tmp_path / "test"
    for k in range(3):
        write(folder / f"good{k}.mkv", steps(8, start=10 * k))
    spoil(folder)
    settings = {"n_frames": 4, "every": 2, "clips_per_video": 1}
    with pytest.raises(InputError, match=says) as error:
        VideoFolder(tmp_path, 16, **settings).setup("test")
    assert "data.strict false" in str(error.value)
    with pytest.warns(UserWarning, match=says) as caught:
        clips = VideoFolder(tmp_path, 16, strict=False, **settings).clips("test")
    assert len(caught) == 1
    assert "left out 1 of 4 test videos" in str(caught[0].message)
    assert values(clips, [0, 1, 2]) == [[0, 2, 4, 6], [10, 12, 14, 16], [20, 22, 24, 26]]


def test_good_videos_raise_no_warning(tmp_path):
    write(tmp_path / "test" / "a.mkv", steps(8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        VideoFolder(tmp_path, 16, n_frames=8, strict=False).clips("test")


def test_nothing_usable_is_refused_even_if_lenient(tmp_path):
    write(tmp_path / "test" / "a.mkv", steps(3))
    (tmp_path / "test" / "b.mp4").write_bytes(b"")
    with pytest.raises(InputError, match=r"none of the 2 test videos.*a\.mkv has 3.*b\.mp4"):
        VideoFolder(tmp_path, 16, n_frames=8, strict=False).clips("test")


def test_a_video_may_be_just_long_enough(tmp_path):
    write(tmp_path / "test" / "a.mkv", steps(7))
    clips = VideoFolder(tmp_path, 16, n_frames=4, every=2).clips("test")
    assert values(clips, [0]) == [[0, 2, 4, 6]]


def test_a_file_that_shrinks_after_setup_is_named(tmp_path):
    path = write(tmp_path / "a.mkv", steps(9))
    video = VideoFile(path, FrameFormat(16, 16))
    write(path, steps(4))
    with pytest.raises(InputError, match=r"a\.mkv had 9 frames when it was opened"):
        video.read(range(3, 7))


def test_a_file_without_pictures_is_named(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(InputError, match=r"a\.mp4 holds no video"):
        VideoFile(tmp_path / "a.mp4", FrameFormat(16, 16))


def test_an_empty_folder_says_what_goes_there(tmp_path):
    with pytest.raises(InputError, match=r"found no video in .*\.mp4.*\.png"):
        VideoFolder(tmp_path).setup("fit")


def test_a_folder_that_is_none_is_named(tmp_path):
    with pytest.raises(InputError, match=r"data\.root .*nowhere, which is no folder"):
        VideoFolder(tmp_path / "nowhere").setup("fit")


def test_too_few_videos_to_split_are_refused(tmp_path):
    collection(tmp_path, 2)
    with pytest.raises(InputError, match=r"none of the 2 videos .* for train; .*val_fraction"):
        VideoFolder(tmp_path).clips("train")
    with pytest.raises(InputError, match=r"none of the 2 videos .* for val"):
        VideoFolder(tmp_path, val_fraction=0.0).clips("val")


@pytest.mark.parametrize(
    "bad",
    [
        {"size": 0},
        {"size": (8, 0)},
        {"val_fraction": -0.1},
        {"val_fraction": 0.5, "test_fraction": 0.5},
        {"every": 0},
        {"clips_per_video": 0},
    ],
)
def test_settings_that_cannot_be_are_refused(bad, tmp_path):
    with pytest.raises(InputError, match=f"got {next(iter(bad))}"):
        VideoFolder(tmp_path, **bad)
