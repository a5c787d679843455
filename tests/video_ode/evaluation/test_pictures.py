import io

import av
import numpy as np
import pytest
import torch
from PIL import Image

from video_ode.evaluation.files.media import gif, save_gif, save_mp4, save_png
from video_ode.evaluation.pictures import animation, enlarged, scene, strip
from video_ode.evaluation.rows import BACKGROUND, COLOURS, HEIGHT, Row


def video(t=6, c=1, h=12, w=12, top=256):
    return torch.randint(0, top, (t, c, h, w), dtype=torch.uint8)


def row(frames, kind="true"):
    return Row(frames, [kind] * len(frames))


def played(data):
    """The frames of a GIF `[t h w 3]` and how long each is shown, in ms."""
    image = Image.open(io.BytesIO(data))
    frames, durations = [], []
    for i in range(image.n_frames):
        image.seek(i)
        frames.append(np.array(image.convert("RGB")))
        durations.append(image.info["duration"])
    assert image.info["loop"] == 0
    return np.stack(frames), durations


def contains(picture, colour):
    return bool((picture.movedim(-3, -1) == torch.tensor(colour)).all(-1).any())


def test_enlarging_repeats_pixels():
    x = video()
    theirs = np.kron(x.numpy(), np.ones((1, 1, 3, 3), np.uint8))
    np.testing.assert_array_equal(enlarged(x, 3).numpy(), theirs)


def test_gif_gives_few_colours_back_unchanged():
    frames = animation([[row(video(top=200)), row(video(top=200), "given")]], zoom=1)
    read, _ = played(gif(frames))
    np.testing.assert_array_equal(read, frames.movedim(1, -1).numpy())


def test_gif_of_every_grey_and_the_borders_is_within_a_level():
    greys = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    frames = torch.cat([greys, greys.flip(-1)])
    rows = [row(frames, kind) for kind in ("given", "predicted")]
    picture = animation([rows], zoom=1)
    read, _ = played(gif(picture))
    wanted = picture.movedim(1, -1).numpy().astype(int)
    assert np.abs(read - wanted).max() <= 1
    coloured = (wanted != wanted[..., :1]).any(-1)
    np.testing.assert_array_equal(read[coloured], wanted[coloured])


def test_gif_does_not_flicker_where_nothing_moves():
    """Colours beyond a palette: what is equal in two frames stays equal."""
    still = torch.randint(0, 256, (1, 3, 40, 40), dtype=torch.uint8)
    frames = still.repeat(5, 1, 1, 1)
    frames[:, :, :, :8] = torch.randint(0, 256, (5, 3, 40, 8), dtype=torch.uint8)
    read, _ = played(gif(frames))
    assert (read[:, :, 8:] == read[:1, :, 8:]).all()
    smooth = torch.linspace(0, 255, 40).byte()
    ramp = torch.stack([smooth.expand(40, 40), smooth.expand(40, 40).T, still[0, 0] // 8 + 90])
    read, _ = played(gif(torch.stack([ramp, ramp.flip(-1)])))
    error = np.abs(read[0].astype(int) - ramp.movedim(0, -1).numpy())
    assert error.mean() < 12


@pytest.mark.parametrize("fps", [4.0, 8.0, 16.0, 30.0, 50.0])
def test_gif_plays_at_the_speed_that_was_asked(fps):
    frames = video(40, 3)
    read, durations = played(gif(frames, fps))
    assert len(read) == 40
    assert sum(durations) == pytest.approx(1000 * 40 / fps, abs=10)
    assert min(durations) >= 20


def test_gif_is_no_faster_than_viewers_play():
    _, durations = played(gif(video(10, 3), 200.0))
    assert durations == [20] * 10


def test_equal_frames_of_a_gif_keep_their_time():
    _, durations = played(gif(video(1).expand(5, 3, -1, -1), 10.0))
    assert sum(durations) == 500


@pytest.mark.parametrize("size", [(64, 48), (33, 47)])
def test_mp4_has_even_sides_the_frames_and_their_speed(tmp_path, size):
    h, w = size
    level = torch.linspace(20, 230, 12).byte()[:, None, None, None]
    frames = level.expand(12, 3, h, w).contiguous()
    path = save_mp4(frames, tmp_path / "deep" / "x.mp4", 12.5)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate) == pytest.approx(12.5)
        read = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(stream)])
    assert read.shape == (12, h + h % 2, w + w % 2, 3)
    inside = read[:, : h - 2, : w - 2].astype(int)
    assert np.abs(inside - frames[..., : h - 2, : w - 2].movedim(1, -1).numpy()).max() <= 5


def test_png_is_the_picture(tmp_path):
    picture = strip([row(video()), row(video(), "given")])
    read = np.array(Image.open(save_png(picture, tmp_path / "deep" / "x.png")))
    np.testing.assert_array_equal(read, picture.movedim(0, -1).numpy())


def test_strip_has_a_line_a_row_and_time_to_the_right():
    """One pixel a frame, so that a panel is 9 px: border and gap of 2 on each side."""
    times = torch.arange(4, dtype=torch.uint8)[:, None, None, None] * 10 + 100
    rows = [row(times), Row(times + 1, ["given", "given", "predicted", "predicted"])]
    picture = strip(rows, zoom=1)
    assert picture.shape == (3, 2 * 9 + 8, 4 * 9 + 8)
    centres = picture[:, 8::9, 8::9][:, :2, :4]
    assert (centres == centres[:1]).all()
    assert centres[0].tolist() == [[100, 110, 120, 130], [101, 111, 121, 131]]
    for i, kind in enumerate(rows[1].kinds):
        assert picture[:, 8 + 9, 8 + 9 * i - 2].tolist() == list(COLOURS[kind])


def test_strip_of_many_frames_shows_some_evenly():
    frames = torch.arange(11, dtype=torch.uint8)[:, None, None, None]
    picture = strip([row(frames)], columns=5, zoom=1)
    assert picture.shape[-1] == 4 * 9 + 8
    assert picture[0, 8, 8::9][:4].tolist() == [0, 3, 6, 9]


def test_animation_puts_panels_side_by_side_and_videos_below():
    a, b, c, d = (torch.full((3, 1, 1, 1), k, dtype=torch.uint8) for k in (10, 20, 30, 40))
    frames = animation([[row(a), row(b)], [row(c), row(d)]], zoom=1)
    assert frames.shape == (3, 3, 2 * 9 + 8, 2 * 9 + 8)
    assert frames[1, 0, 8::9, 8::9][:2, :2].tolist() == [[10, 20], [30, 40]]


def test_colour_and_blank_frames():
    frames = video(2, c=3, top=120)
    picture = strip([Row(frames, ["true", "none"])], zoom=1)
    panel = 12 + 8
    inside = picture[:, 4 + 4 : 4 + 4 + 12, :]
    torch.testing.assert_close(inside[..., 8:20], frames[0])
    assert (inside[..., 8 + panel : 20 + panel] == BACKGROUND).all()


TIMES = torch.arange(6.0)


def numbered(n=6):
    return torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2)


def look(at, seen=(True, True, True)):
    at = torch.tensor(at)
    samples = torch.zeros(2, len(at), 1, 2, 2, dtype=torch.uint8)
    return scene(numbered(), TIMES, torch.tensor(seen), at, samples)


def shown(row):
    pairs = zip(row.frames[:, 0, 0, 0].tolist(), row.kinds, strict=True)
    return [None if kind == "none" else level for level, kind in pairs]


def test_scene_at_the_clips_own_times():
    found = look([0.0, 1, 2, 3, 4, 5])
    assert shown(found.context) == [0, 1, 2, None, None, None]
    assert shown(found.truth) == shown(found.known) == [0, 1, 2, 3, 4, 5]
    assert found.samples[1].kinds == ["given"] * 3 + ["predicted"] * 3
    assert len(found.panels) == 4
    assert len(found.rows) == 3


def test_scene_between_before_and_after():
    found = look([-1.0, 0.5, 2, 2.5, 4.75, 5, 5.5])
    assert shown(found.context) == [None, 0, 2, None, None, None, None]
    assert shown(found.truth) == [None, 0, 2, 2, 4, 5, None]
    assert shown(found.known) == [None, None, 2, None, None, 5, None]
    kinds = ["predicted", "given", "given", "predicted", "predicted", "predicted", "predicted"]
    assert found.samples[0].kinds == kinds


def test_scene_backwards_and_with_rounded_times():
    found = look([3.00001, 1.99999, 1.0])
    assert shown(found.known) == [3, 2, 1]
    assert shown(found.context) == [None, 2, 1]


def test_context_shows_only_what_was_seen():
    found = look([0.0, 1, 1.5, 2], seen=(True, False, True))
    assert shown(found.context) == [0, None, None, 2]
    assert shown(found.known) == [0, 1, None, 2]
    assert found.known.kinds == ["given", "true", "none", "given"]


def test_saved_gif_is_the_gif(tmp_path):
    frames = video(3, 3)
    assert save_gif(frames, tmp_path / "deep" / "x.gif", 5.0).read_bytes() == gif(frames, 5.0)


@pytest.mark.parametrize("kind", ["given", "predicted", "true"])
def test_borders_tell_the_kind(kind):
    picture = strip([row(video(2, top=40), kind)])
    assert contains(picture, COLOURS[kind])
    assert not contains(picture, COLOURS["given" if kind != "given" else "predicted"])


def test_labels_and_times_stand_beside_frames_that_stay_as_they_were():
    rows = [
        Row(video(4), ["given", "given", "true", "true"], "truth"),
        Row(video(4), ["predicted"] * 4),
    ]
    bare = strip([row._replace(label="") for row in rows], zoom=2)
    picture = strip(rows, zoom=2, times=[0.0, 0.5, 1.0, 1.5])
    height, width = bare.shape[1] - 8, bare.shape[2] - 8
    inside = picture[:, 4 + HEIGHT : 4 + HEIGHT + height, -4 - width : -4]
    torch.testing.assert_close(inside, bare[:, 4:-4, 4:-4])
    assert (picture[:, 4 : 4 + HEIGHT] > 150).any()  # the times
    assert (picture[:, 4 + HEIGHT :, : -4 - width] > 150).any()  # the label
    legend = picture[:, -4 - HEIGHT :].int()
    for kind in ("given", "predicted", "true"):  # thin letters are nearly of the colour
        assert (legend - torch.tensor(COLOURS[kind])[:, None, None]).abs().amax(0).min() < 40


def test_the_time_of_an_animation_goes_on_and_the_labels_stay():
    found = look([0.0, 0.5, 1.0])
    frames = animation([found.panels], times=[found.times])
    titles = frames[:, :, 4 : 4 + HEIGHT, 4:-4].int()
    changed = (titles - titles[0]).abs().amax((0, 1, 2)).nonzero()
    width = titles.shape[-1] // len(found.panels)
    assert changed.min() > 3 * width  # in the last panel only
    for k in range(len(found.panels)):
        assert (titles[..., k * width : (k + 1) * width - 60] > 150).any()


def test_a_label_that_is_too_long_is_cut():
    long = Row(video(1, h=4, w=4), ["true"], "a very long label of a row")
    plain = animation([[Row(long.frames, long.kinds)]], zoom=1)
    assert animation([[long]], zoom=1).shape[-1] == plain.shape[-1]
