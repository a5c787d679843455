"""Files as cameras and programs write them: time stamps, orientation, shape of pixels, kinds."""

import struct
import warnings
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image

from common.data.formats.footage import FrameFolder, FrameFormat
from common.data.formats.video_files import VideoFile, open_video
from common.data.formats.video_paths import videos_under
from common.data.videos.folder import VideoFolder
from common.errors import InputError
from tests.common.data.small_files import write_folder

FORMAT = FrameFormat(16, 24)
WHOLE = {"n_frames": 4, "val_fraction": 0.0, "test_fraction": 0.0}


def steps(count, size=(16, 24)):
    return [np.full((*size, 3), 10 * k % 250, np.uint8) for k in range(count)]


def corners(size=(16, 24)):
    """Top left red, top right green, bottom left blue, bottom right black."""
    picture = np.zeros((*size, 3), np.uint8)
    h, w = size[0] // 2, size[1] // 2
    picture[:h, :w, 0] = picture[:h, w:, 1] = picture[h:, :w, 2] = 255
    return picture


def write(path, frames, stamps=None, codec="libx264", fmt="yuv444p", aspect=None):
    """Video whose frames have these times in ms; None: 25 frames a second."""
    stamps = [40 * k for k in range(len(frames))] if stamps is None else stamps
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = fmt
        stream.codec_context.time_base = Fraction(1, 1000 if codec == "libx264" else 25)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for frame, stamp in zip(frames, stamps, strict=True):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=fmt)
            picture.pts = stamp if codec == "libx264" else stamp // 40
            picture.time_base = stream.codec_context.time_base
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def gif(path, frames, durations):
    pictures = [Image.fromarray(frame) for frame in frames]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations, loop=0)
    return path


# Times --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_time_stamps_are_the_times_of_a_video_with_a_variable_frame_rate(kind, tmp_path):
    video = VideoFile(write(tmp_path / f"a.{kind}", steps(6), [0, 40, 80, 200, 240, 280]), FORMAT)
    np.testing.assert_allclose(video.times(range(6)), [0, 1, 2, 5, 6, 7], atol=1e-6)
    np.testing.assert_allclose(video.times(range(2, 6, 2)), [0, 4], atol=1e-6)


def test_durations_are_the_times_of_a_gif(tmp_path):
    video = VideoFile(gif(tmp_path / "a.gif", steps(5), [50, 50, 150, 50, 50]), FORMAT)
    np.testing.assert_allclose(video.times(range(5)), [0, 1, 2, 5, 6], atol=1e-6)


@pytest.mark.parametrize(("kind", "step"), [("mp4", 40), ("mkv", 1000 / 30), ("mkv", 1000 / 24)])
def test_rounded_stamps_of_an_even_video_are_even_times(kind, step, tmp_path):
    stamps = [round(step * k) for k in range(40)]
    video = VideoFile(write(tmp_path / f"a.{kind}", steps(40), stamps), FORMAT)
    assert video.stamps is None
    assert video.times(range(3, 9, 2)).tolist() == [0, 2, 4]
    assert float(video.stream.rate) == pytest.approx(1000 / step, rel=1e-3)
    np.testing.assert_allclose(video.stream.seconds * 1000, stamps, atol=0.7)


@pytest.mark.parametrize("in_memory", [False, True])
def test_clips_have_the_times_of_their_frames(in_memory, tmp_path):
    write(tmp_path / "test" / "a.mp4", steps(8), [0, 40, 80, 120, 160, 280, 320, 360])
    write(tmp_path / "test" / "b.mp4", steps(8))
    data = VideoFolder(tmp_path, 16, in_memory=in_memory, batch_size=4, n_frames=4)
    data.setup("test")
    (batch,) = data.test_dataloader()
    own = torch.tensor([[0.0, 1, 2, 3], [0, 3, 4, 5], [0, 1, 2, 3], [0, 1, 2, 3]])
    torch.testing.assert_close(batch.times, own)
    every = VideoFolder(tmp_path, 16, every=2, n_frames=4).clips("test")
    torch.testing.assert_close(every.times([0]), torch.tensor([[0.0, 2, 4, 8]]))
    plain = VideoFolder(tmp_path, 16, timing="frames", n_frames=4).clips("test")
    assert plain.times([0, 1]).tolist() == [0, 1, 2, 3]


# Pictures -----------------------------------------------------------------------------------

# For each of the eight orientations of EXIF: what a viewer does, and the same as a display matrix.
SHOWN = {
    1: (lambda x: x, (1, 0, 0, 1)),
    2: (lambda x: x[:, ::-1], (-1, 0, 0, 1)),
    3: (lambda x: x[::-1, ::-1], (-1, 0, 0, -1)),
    4: (lambda x: x[::-1], (1, 0, 0, -1)),
    5: (lambda x: x.swapaxes(0, 1), (0, 1, 1, 0)),
    6: (lambda x: np.rot90(x, -1), (0, 1, -1, 0)),
    7: (lambda x: np.rot90(x, 2).swapaxes(0, 1), (0, -1, -1, 0)),
    8: (lambda x: np.rot90(x), (0, -1, 1, 0)),
}


@pytest.mark.parametrize("orientation", SHOWN)
def test_photos_are_turned_as_their_exif_says(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for k in (1, 2):
        Image.fromarray(corners()).save(tmp_path / f"{k}.png", exif=exif)
    expected = SHOWN[orientation][0](corners())
    found = FrameFolder(tmp_path, FrameFormat(*expected.shape[:2])).read(range(1))[0]
    assert (found == expected.transpose(2, 0, 1)).all()


@pytest.mark.parametrize("orientation", SHOWN)
def test_videos_are_turned_and_mirrored_as_their_display_matrix_says(orientation, tmp_path):
    transform, (a, b, c, d) = SHOWN[orientation]
    path = write(tmp_path / "a.mp4", [corners()] * 3)
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 44
    matrix = [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30]
    content[place : place + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(content)
    expected = transform(corners()).astype(float)
    found = VideoFile(path, FrameFormat(*expected.shape[:2])).read(range(1))[0]
    assert abs(found.transpose(1, 2, 0) - expected).mean() < 12  # H.264 is lossy


@pytest.mark.parametrize("aspect", [Fraction(2, 1), Fraction(1, 2)])
def test_pixels_that_are_no_squares_are_stretched(aspect, tmp_path):
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[8:24, 8:24] = 255  # shown, it is 32x16 or 8x16
    path = write(tmp_path / "a.mp4", [picture] * 3, aspect=aspect)
    shown = (32, 64) if aspect > 1 else (32, 16)
    whole = VideoFile(path, FrameFormat(*shown, 1)).read(range(1))[0, 0]
    assert abs((whole > 127).sum() - picture[..., 0].astype(bool).sum() * aspect) < 40
    square = VideoFile(path, FrameFormat(16, 16, 1)).read(range(1))[0, 0] > 127
    # The middle square of the shown picture: of 32 columns of 64, or of 16 rows of 32.
    assert square.any(0).sum() == (16 if aspect > 1 else 8)
    assert square.any(1).sum() == (8 if aspect > 1 else 16)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_show_black(mode):
    picture = Image.new("RGBA", (24, 16), (200, 200, 200, 255))
    picture.paste((255, 255, 255, 0), (0, 0, 12, 16))
    picture.paste((200, 200, 200, 128), (18, 0, 24, 16))
    pixels = FORMAT.convert(picture.convert(mode) if mode != "P" else picture.quantize(8))
    assert pixels[:, :, :10].max() < 8
    assert abs(pixels[:, :, 14:17].astype(int) - 200).max() < 12
    assert mode == "P" or abs(pixels[:, :, 20:].astype(int) - 100).max() < 12


# Kinds --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "codec"),
    [
        ("m4v", "mpeg4"),
        ("mpg", "mpeg1video"),
        ("ts", "mpeg2video"),
        ("flv", "flv"),
        ("3gp", "mpeg4"),
        ("wmv", "wmv2"),
    ],
)
def test_further_kinds_of_videos_are_read(kind, codec, tmp_path):
    write(tmp_path / f"a.{kind}", steps(12), codec=codec, fmt="yuv420p")
    clips = VideoFolder(tmp_path, (16, 24), **{**WHOLE, "n_frames": 12}).clips("train")
    assert clips.times([0]).tolist() == list(range(12))
    greys = clips.frames([0])[0].float().mean((1, 2, 3))
    assert (greys - 10 * torch.arange(12)).abs().max() < 5


@pytest.mark.parametrize("kind", ["webp", "bmp", "tif", "pgm", "jpeg"])
def test_further_kinds_of_images_are_read(kind, tmp_path):
    greys = [frame[..., 0] for frame in steps(4)] if kind == "pgm" else steps(4)
    write_folder(tmp_path / "v", greys, f"{{}}.{kind}")
    frames = VideoFolder(tmp_path, (16, 24), **WHOLE).clips("train").frames([0])
    assert (frames[0, :, 0, 8, 12].int() - 10 * torch.arange(4)).abs().max() < 3


def test_other_kinds_are_named(tmp_path):
    write_folder(tmp_path / "v", steps(4))
    (tmp_path / "v" / "img9.heic").write_bytes(b"of a phone")
    with pytest.warns(UserWarning, match=r"left out 1 files.*img9\.heic"):
        assert list(videos_under(tmp_path)) == ["v"]


def test_two_cameras_in_one_folder_are_two_videos(tmp_path):
    write_folder(tmp_path / "v", steps(12), "left{}.png")
    write_folder(tmp_path / "v", steps(10)[::-1], "right{}.PNG")
    write_folder(tmp_path / "v", steps(1), "cover{}.png")
    (tmp_path / "v" / "left.txt").write_text("notes")
    videos = videos_under(tmp_path)
    assert list(videos) == ["v/left*", "v/right*"]
    left, right = (open_video(path, FORMAT) for path in videos.values())
    assert left.read(range(12))[:, 0, 0, 0].tolist() == [10 * k for k in range(12)]
    assert right.read(range(10))[:, 0, 0, 0].tolist() == [10 * k for k in reversed(range(10))]


def test_an_animated_image_is_no_frame(tmp_path):
    write_folder(tmp_path / "v", steps(3))
    pictures = [Image.fromarray(frame) for frame in steps(3)]
    pictures[0].save(tmp_path / "v" / "img4.webp", save_all=True, append_images=pictures[1:])
    with pytest.raises(InputError, match=r"img4\.webp isn't a whole image .*several pictures"):
        FrameFolder(tmp_path / "v", FORMAT)


def test_sixteen_bits_of_a_pgm_are_scaled(tmp_path):
    pixels = (np.arange(16 * 24) * 170).astype(">u2").reshape(16, 24)
    (tmp_path / "1.pgm").write_bytes(b"P5 24 16 65535\n" + pixels.tobytes())
    found = FrameFolder(tmp_path, FrameFormat(16, 24, 1)).read(range(1))[0, 0]
    assert (found == pixels >> 8).all()


def test_a_file_without_its_index_is_incomplete(tmp_path):
    path = write(tmp_path / "a.mp4", steps(30))
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"moov") - 4])
    with pytest.raises(InputError, match=r"an incomplete file, without its index.*copy it again"):
        VideoFile(path, FORMAT)
    path.write_bytes(b"hello" * 100)
    with pytest.raises(InputError, match=r"can't be decoded \(Invalid data"):
        VideoFile(path, FORMAT)


def test_even_videos_raise_no_warning(tmp_path):
    write(tmp_path / "a.mp4", steps(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert VideoFolder(tmp_path, 16, **WHOLE).clips("train").times([0]).tolist() == [
            0,
            1,
            2,
            3,
        ]
