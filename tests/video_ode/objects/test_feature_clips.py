"""Features on the disk: equal to the extractor's, computed once, and never half written."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from common.errors import InputError, RunError
from tests.video_ode.objects.small import small_clips, small_detector, small_drives
from video_ode.objects import feature_clips
from video_ode.objects.extractor import fingerprint
from video_ode.objects.feature_clips import FeatureClips


def batches(data, split="val"):
    data.setup({"train": "fit", "val": "fit", "test": "test"}[split])
    return list(getattr(data, f"{split}_dataloader")())


def folders(path):
    return sorted(p.name for p in path.iterdir())


def test_features_are_those_of_the_frames(tmp_path):
    data, detector = small_clips(tmp_path), small_detector()
    (batch,) = batches(data)
    (plain,) = batches(small_drives(batch_size=2))
    for x, y in zip(batch.videos.clip[:4], plain.clip[:4], strict=True):
        assert torch.equal(x.expand_as(y) if x.ndim == y.ndim else x[0], y)
    with torch.no_grad():
        features = detector.features(plain.clip.frames.flatten(0, 1) / 255)
    for x, y in zip(batch.features, features, strict=True):
        torch.testing.assert_close(x.float().flatten(0, 1), y, rtol=1e-3, atol=1e-3)
    n = plain.tracks.ids.shape[2]
    for x, y in zip(batch.videos.tracks, plain.tracks, strict=True):
        assert torch.equal(x[:, :, :n], y)
    assert (batch.videos.tracks.ids[:, :, n:] == -1).all()


def test_features_are_computed_once(tmp_path, monkeypatch):
    first = batches(small_clips(tmp_path))[0]
    made = folders(tmp_path)
    monkeypatch.setattr(feature_clips, "_write", lambda *_: pytest.fail("computed again"))
    again = batches(pickle.loads(pickle.dumps(small_clips(tmp_path))))[0]
    for x, y in zip(first.features, again.features, strict=True):
        assert torch.equal(x, y)
    assert folders(tmp_path) == made
    assert len(made) == 2  # training and validation


@pytest.mark.parametrize("change", ["weights", "scenes", "number", "frames"])
def test_what_made_them_is_part_of_the_name(change, tmp_path):
    batches(small_clips(tmp_path))
    before = folders(tmp_path)
    options = {"scenes": {"lighting": "night"}, "number": {"n_val": 3}, "frames": {"n_frames": 4}}
    data = small_clips(tmp_path, **options.get(change, {}))
    if change == "weights":
        next(data.extractor.parameters()).data.flatten()[0] += 1e-3
    batches(data)
    assert len(folders(tmp_path)) > len(before)


def test_a_stop_in_the_middle_leaves_no_features(tmp_path, monkeypatch):
    data = small_clips(tmp_path)
    extract, calls = data.extractor.features, []

    def broken(frames):
        calls.append(None)
        if len(calls) == 3:
            raise OSError("No space left on device")
        return extract(frames)

    monkeypatch.setattr(data.extractor, "features", broken)
    with pytest.raises(RunError, match=r"can't write .*features_train_.*No space left"):
        batches(data, "train")
    assert not list(tmp_path.glob("features_train_*/*.npy"))
    assert len(batches(data, "train")) == 2


def test_a_damaged_file_is_written_again(tmp_path):
    whole = batches(small_clips(tmp_path))[0]
    (folder,) = tmp_path.glob("features_val_*")
    path = folder / "features_1.npy"
    path.write_bytes(path.read_bytes()[:-100])
    for x, y in zip(batches(small_clips(tmp_path))[0].features, whole.features, strict=True):
        assert torch.equal(x, y)
    (folder / "ids.npy").unlink()
    assert torch.equal(
        batches(small_clips(tmp_path))[0].videos.tracks.ids, whole.videos.tracks.ids
    )


def test_a_batch_can_be_cut_and_moved(tmp_path):
    (batch,) = batches(small_clips(tmp_path))
    one = batch.select([1]).to("cpu")
    assert torch.equal(one.features[0], batch.features[0][1:])
    assert one.clip.number.tolist() == [1]
    assert len(one.videos.tracks.ids) == 1


def test_videos_without_boxes_are_refused(tmp_path):
    data = FeatureClips(small_drives(tracks=False), small_detector(), str(tmp_path))
    with pytest.raises(InputError, match="such as DrivingScenes with tracks: true"):
        data.setup("fit")


def test_an_extractor_is_needed(tmp_path):
    data = FeatureClips(small_drives(), cache=str(tmp_path))
    with pytest.raises(InputError, match="no extractor"):
        data.setup("fit")
    with pytest.raises(InputError, match="Linear, which has no feature extractor"):
        data.attach(torch.nn.Linear(1, 1))


def test_every_device_takes_the_extractor_of_the_system(tmp_path):
    system = torch.nn.Module()
    system.extractor = small_detector()
    data = FeatureClips(small_drives(), cache=str(tmp_path), batch_size=2)
    data.trainer = SimpleNamespace(lightning_module=system)  # of a device that prepares no data
    data.setup("test")
    assert len(data.dataset("test")) == 2


def test_a_fingerprint_sees_every_weight():
    network, other = small_detector(), small_detector()
    assert fingerprint(network) == fingerprint(other)
    other.state_dict()["stem.0.1.running_mean"][0] += np.finfo(np.float32).eps
    assert fingerprint(network) != fingerprint(other)
