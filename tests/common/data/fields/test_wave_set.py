"""WaveEq and WaveEq-100, beside the published ones, and the cache of computed sets."""

import os

import numpy as np
import pytest
import torch

from common.data.fields.wave_set import WaveEq, WaveEq100, wave_parameters
from common.data.fields.waves import WaveSolver
from common.errors import InputError, RunError


def videos(data, split):
    """All videos of a split, as they are in the file."""
    return [video.read(range(150)) for video in data.clips(split).footage]


def test_forces_and_speeds_are_drawn_as_published():
    np.random.seed(42)  # noqa: NPY002
    expected = [(np.random.uniform(1, 30), np.random.uniform(300, 400)) for _ in range(5)]  # noqa: NPY002
    assert wave_parameters(5, 42).tolist() == [list(pair) for pair in expected]


def test_frames_are_every_second_one_between_the_extremes_of_all(tmp_path):
    data = WaveEq(n_sequences=5, cache=tmp_path)
    (video,) = videos(data, "test")
    force, speed = wave_parameters(5, 42)[4]
    solver = WaveSolver()
    w = solver.fields(solver.evolve(speed, force, 300)[:, 0])
    expected = (w - w.min()) / (w.max() - w.min())
    assert video.shape == (150, 1, 64, 64)
    assert video.dtype == np.float32
    assert np.abs(video[:, 0] - expected[::2]).max() < 1e-6


def test_the_splits_share_out_all_sequences_and_all_windows(tmp_path):
    data = WaveEq(n_sequences=20, val_fraction=0.25, clips_per_video=126, cache=tmp_path)
    counts = {split: len(videos(data, split)) for split in ("train", "val", "test")}
    assert counts == {"train": 12, "val": 4, "test": 4}
    served = np.concatenate([videos(data, split) for split in counts])
    assert len({video.tobytes() for video in served}) == 20
    assert len(data.clips("train")) == 12 * 126
    assert {start.frame for start in data.clips("test").starts} == set(range(150 - 45 + 1))


def test_the_published_pixels_are_those_of_all_sequences(tmp_path):
    np.random.seed(42)  # noqa: NPY002
    rows, columns = (np.random.randint(64, size=100) for _ in range(2))  # noqa: NPY002
    few, whole = (kind(n_sequences=5, cache=tmp_path) for kind in (WaveEq100, WaveEq))
    assert few.places().tolist() == np.stack([rows, columns], 1).tolist()
    for split in ("train", "test"):
        for one, two in zip(videos(few, split), videos(whole, split), strict=True):
            assert one.shape == (150, 1, 1, 100)
            assert (one[:, 0, 0] == two[:, 0, rows, columns]).all()
    assert few.file().stat().st_size < 1e6


def test_the_finer_set_shows_the_same_sequences(tmp_path):
    coarse, fine = (WaveEq(2, resolution=r, cache=tmp_path) for r in (1, 2))
    assert fine.shape == (1, 128, 128)
    one, two = videos(coarse, "test")[0], videos(fine, "test")[0][..., ::2, ::2]
    persistence = np.square(one[50:] - one[49]).mean()
    assert np.square(one - two)[50:].mean() < 0.1 * persistence


def test_clips_are_parts_of_the_sequences(tmp_path):
    data = WaveEq(n_sequences=5, every=2, batch_size=2, cache=tmp_path, n_eval_frames=30)
    data.setup("test")
    clip = next(iter(data.test_dataloader()))
    assert clip.scale is None
    assert clip.times.tolist() == list(range(0, 60, 2))
    whole = videos(data, "test")[0]
    assert torch.equal(clip.frames[0], torch.from_numpy(whole[:60:2]))
    assert torch.equal(clip.frames[1], torch.from_numpy(whole[91::2]))


def test_a_file_that_is_cut_off_while_it_is_used_is_named(tmp_path):
    data = WaveEq(n_sequences=5, cache=tmp_path)
    clips = data.clips("test")
    data.file().write_bytes(data.file().read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"waves_.*\.npy isn't a whole array file"):
        clips.frames([len(clips) - 1])


# Cache --------------------------------------------------------------------------------------


def test_sequences_are_computed_once_in_the_users_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = WaveEq100(n_sequences=2)
    data.prepare_data()
    (path,) = (tmp_path / "dynamical_vision").iterdir()
    assert path == data.file()
    made = path.stat().st_mtime_ns
    WaveEq100(n_sequences=2).prepare_data()
    assert path.stat().st_mtime_ns == made
    others = [{"seed": 1}, {"n_points": 5}, {"n_sequences": 3}, {"resolution": 2}]
    assert len({WaveEq100(**{"n_sequences": 2} | other).file() for other in others}) == 4


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", "half", "other type"])
def test_a_damaged_file_is_made_again(damage, tmp_path):
    data = WaveEq100(n_sequences=2, cache=tmp_path)
    path = data.file()
    whole = path.read_bytes()
    if damage == "other type":
        np.save(path, np.zeros((2, 150, 1, 1, 100)))
    else:
        path.write_bytes(whole[: len(whole) // 2] if damage == "half" else damage)
    assert data.file() == path
    assert path.read_bytes() == whole


def test_a_break_leaves_no_file(tmp_path, monkeypatch):
    def evolve(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(WaveSolver, "evolve", evolve)
    with pytest.raises(RunError, match=r"can't write .*waves_.*\.npy: .*No space left"):
        WaveEq(cache=tmp_path).prepare_data()
    assert not os.listdir(tmp_path)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"got cache .*file; give a path in a folder"):
        WaveEq(cache=tmp_path / "file").prepare_data()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"n_sequences": 1}, "n_sequences 1; give 2 or more"),
        ({"resolution": 0}, "resolution 0; give 1 or more"),
        ({"seed": -1}, "seed -1; give 0 or more"),
        ({"val_fraction": 1.0}, "val_fraction 1.0; give"),
        ({"n_sequences": 2}, "leaves none for train"),
        ({"n_sequences": 5, "n_frames": 200}, "has 150 frames, data.n_frames 200"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, told, tmp_path):
    with pytest.raises(InputError, match=told):
        WaveEq100(cache=tmp_path, **arguments).setup("fit")
