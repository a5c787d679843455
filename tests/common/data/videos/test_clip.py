"""Batches of videos: choosing, joining and moving them, with shared times or with own times."""

import pytest
import torch
from pytorch_lightning.utilities import move_data_to_device

from common.data.videos.base import Clip, FieldScale, Observation, ObservedClips
from common.errors import InputError
from tests.common.data.field_sets import WaveData, Waves

SHARED = torch.arange(3.0)
OWN = torch.tensor([[0.0, 1.0, 2.0], [0.0, 0.5, 0.7], [0.0, 2.0, 9.0], [0.0, 1.0, 4.0]])


def clip(times, first=0, count=4):
    frames = torch.arange(count * 3).reshape(count, 3, 1, 1, 1).byte() + first
    mask = torch.rand(count, 3) < 0.5
    low = torch.arange(float(first), first + count)
    scale = FieldScale(low, low + 2, torch.rand(count, 3, 1, 1, 1))
    return Clip(frames, times, mask, torch.arange(first, first + count), scale)


def tensors(whole):
    return [*whole[:4], *whole.scale]


def equal(one, two):
    return all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(two), strict=True))


@pytest.mark.parametrize("times", [SHARED, OWN], ids=["shared times", "own times"])
@pytest.mark.parametrize("chosen", [slice(1, 3), [1, 2], range(1, 3), torch.tensor([1, 2])])
def test_selected_videos_keep_all_that_belongs_to_them(chosen, times):
    whole = clip(times)
    part = whole.select(chosen)
    expected = times if times.ndim == 1 else times[1:3]
    frames, _, mask, number, *scale = (x[1:3] for x in tensors(whole))
    assert equal(part, Clip(frames, expected, mask, number, FieldScale(*scale)))


@pytest.mark.parametrize("times", [SHARED, OWN], ids=["shared times", "own times"])
def test_selection_and_joining_undo_one_another(times):
    whole = clip(times)
    parts = [whole.select([k]) for k in range(4)]
    assert equal(Clip.join(parts), whole)
    assert equal(Clip.join([whole]), whole)


def test_clips_of_different_times_are_joined_with_times_of_their_own():
    later, own = clip(2 * SHARED), clip(OWN)
    for one, two in ((clip(SHARED), later), (clip(SHARED), own), (own, later)):
        joined = Clip.join([one, two])
        assert torch.equal(joined.times, torch.cat([one.own_times(), two.own_times()]))
        assert equal(joined.select(slice(4, 8)), two._replace(times=two.own_times()))


def test_own_times_are_one_row_a_video():
    assert torch.equal(clip(SHARED).own_times(), SHARED.expand(4, 3))
    assert torch.equal(clip(OWN).own_times(), OWN)


def test_clips_that_cannot_be_joined_are_refused():
    short = clip(OWN)
    short = short._replace(frames=short.frames[:, :2], times=short.times[:, :2])
    with pytest.raises(InputError, match=r"2 clips with \[2, 3\] frames; give"):
        Clip.join([clip(OWN), short])
    with pytest.raises(InputError, match=r"0 clips"):
        Clip.join([])


@pytest.mark.parametrize("move", [Clip.to, move_data_to_device], ids=["to", "Lightning"])
def test_a_clip_moves_as_a_whole(move):
    moved = move(clip(OWN), torch.device("meta"))
    assert isinstance(moved, Clip)
    assert all(x.is_meta for x in tensors(moved))


def test_fields_are_scaled_for_pictures_and_errors_but_bytes_are_not():
    fields = clip(SHARED)._replace(frames=10 * torch.rand(4, 3, 1, 1, 1))
    low, high, error = (x.reshape(4, -1, 1, 1, 1) for x in fields.scale)
    samples = torch.stack([fields.frames, -fields.frames])  # [s b t c h w]
    torch.testing.assert_close(fields.unit_range(samples), (samples - low) / (high - low))
    torch.testing.assert_close(fields.own_unit(samples), samples * error)
    pictures = fields._replace(scale=None)
    assert torch.equal(pictures.unit_range(samples), samples)
    grey = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 3, 1, 1, 1)
    assert pictures.unit_range(grey).flatten().tolist() == pytest.approx([0, 0.2, 1])
    assert torch.equal(pictures.own_unit(grey), pictures.unit_range(grey))


def test_a_set_may_serve_times_of_each_video():
    data = WaveData(n_frames=5, batch_size=4, observed=0.5)
    data.setup("fit")
    served = Clip.join(list(data.train_dataloader()))
    assert served.times.shape == (8, 5)
    assert len({tuple(row) for row in served.times.tolist()}) == 8
    clips = data.clips("train")
    assert torch.equal(served.times, clips.times(served.number.tolist()))
    assert torch.equal(served.frames, clips.frames(served.number.tolist()))
    assert served.frames.min() < -0.5


class Shores(Waves):
    """Waves, which don't count in the first column."""

    def scale(self, indices):
        error = torch.ones(len(indices), 1, 1, 1, 8)
        error[..., 0] = 0
        return FieldScale(torch.zeros(len(indices)), torch.ones(len(indices)), error)


def test_mirrored_fields_have_mirrored_scales():
    served = ObservedClips(Shores(3, 4), Observation(), 0, endless=False).__getitems__([1, 4])
    assert torch.equal(served.frames[0].flip(-1), served.frames[1])
    columns = served.scale.error[:, 0, 0, 0]
    assert columns.tolist() == [[0] + 7 * [1], 7 * [1] + [0]]
