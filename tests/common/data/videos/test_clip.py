"""Batches of videos: choosing, joining and moving them, with shared times or with own times."""

import pytest
import torch
from pytorch_lightning.utilities import move_data_to_device

from common.data.videos.base import Clip
from common.errors import InputError
from tests.common.data.fields import WaveData

SHARED = torch.arange(3.0)
OWN = torch.tensor([[0.0, 1.0, 2.0], [0.0, 0.5, 0.7], [0.0, 2.0, 9.0], [0.0, 1.0, 4.0]])


def clip(times, first=0, count=4):
    frames = torch.arange(count * 3).reshape(count, 3, 1, 1, 1).byte() + first
    mask = torch.rand(count, 3) < 0.5
    return Clip(frames, times, mask, torch.arange(first, first + count))


def equal(one, two):
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("times", [SHARED, OWN], ids=["shared times", "own times"])
@pytest.mark.parametrize("chosen", [slice(1, 3), [1, 2], range(1, 3), torch.tensor([1, 2])])
def test_selected_videos_keep_all_that_belongs_to_them(chosen, times):
    whole = clip(times)
    part = whole.select(chosen)
    expected = times if times.ndim == 1 else times[1:3]
    assert equal(part, Clip(whole.frames[1:3], expected, whole.mask[1:3], whole.number[1:3]))


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
    short = Clip(*(x[:, :2] if x.ndim > 1 else x for x in clip(OWN)))
    with pytest.raises(InputError, match=r"2 clips with \[2, 3\] frames; give"):
        Clip.join([clip(OWN), short])
    with pytest.raises(InputError, match=r"0 clips"):
        Clip.join([])


@pytest.mark.parametrize("move", [Clip.to, move_data_to_device], ids=["to", "Lightning"])
def test_a_clip_moves_as_a_whole(move):
    moved = move(clip(OWN), torch.device("meta"))
    assert isinstance(moved, Clip)
    assert all(x.is_meta for x in moved)


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
