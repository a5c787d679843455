"""What holds for every set of images and videos in `tests/laws.py`."""

import itertools
import pickle
from importlib import import_module

import pytest
import torch
from jsonargparse import ArgumentError, ArgumentParser

from common.data.base import Data
from common.data.flow.base import FlowClip
from common.data.videos.base import Clip, VideoData
from tests.common.data.field_sets import WaveData
from tests.common.data.small_sets import FRAMES, in_memory
from tests.laws import IMAGE_SETS, VIDEO_SETS, SmallSet

STAGES = {"train": "fit", "val": "validate", "test": "test"}
WAVES = SmallSet(WaveData, in_memory(**FRAMES), fields=True)  # fields, with times of their own
VIDEOS, ALL = [*VIDEO_SETS, WAVES], [*IMAGE_SETS, *VIDEO_SETS, WAVES]


def over(sets):
    return pytest.mark.parametrize("small", sets, indirect=True, ids=lambda s: s.kind.__name__)


def trained(sets):
    return [s for s in sets if "train" in s.splits]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The arguments of each set, whose files are written once."""
    return {s.kind: s.arguments(tmp_path_factory.mktemp(s.kind.__name__)) for s in ALL}


@pytest.fixture
def small(request, written):
    return request.param, written[request.param.kind]


def build(small, **serving):
    entry, arguments = small
    return entry.kind(**(arguments | {"batch_size": 2} | serving))


def loader(data, split):
    data.setup(STAGES[split])
    return getattr(data, f"{split}_dataloader")()


def clip_of(batch):
    return batch.clip if isinstance(batch, FlowClip) else batch


def parts(batch):
    if isinstance(batch, FlowClip):
        return (*parts(batch.clip), *batch[1:])
    if not isinstance(batch, Clip):
        return (batch,)
    *tensors, scale = batch
    return (*tensors, *(() if scale is None else scale))


def pixels(batch):
    return parts(batch)[0]


def few(batches):
    """The first ones: the test sets of SRVP's protocol have a thousand clips."""
    return list(itertools.islice(batches, 6))


def same(one, two):
    if len(one) != len(two):
        return False
    one, two = ([tensor for batch in batches for tensor in parts(batch)] for batches in (one, two))
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


# Batches ------------------------------------------------------------------------------------


@over(ALL)
def test_the_shape_is_known_before_setup_and_is_that_of_every_split(small):
    data = build(small)
    shape = tuple(data.shape)
    for split in small[0].splits:
        frames = (data.length(split),) if isinstance(data, VideoData) else ()
        for batch in few(loader(data, split)):
            assert tuple(pixels(batch).shape[1:]) == (*frames, *shape)
            assert 1 <= len(pixels(batch)) <= 2


@over(ALL)
def test_pictures_are_bytes_and_fields_are_floats(small):
    expected = torch.float32 if small[0].fields else torch.uint8
    for split in small[0].splits:
        assert all(pixels(batch).dtype == expected for batch in few(loader(build(small), split)))


@over(VIDEOS)
def test_times_ascend_from_zero_and_the_first_frame_is_seen(small):
    for split, pattern in itertools.product(small[0].splits, ("random", "regular")):
        data = build(small, observed=0.5, pattern=pattern)
        n = data.length(split)
        for clip in map(clip_of, few(loader(data, split))):
            assert clip.times.shape == ((len(clip.frames), n) if small[0] is WAVES else (n,))
            assert clip.times.dtype == torch.float32
            assert (clip.times[..., 0] == 0).all()
            assert (clip.times.diff(dim=-1) > 0).all()
            assert clip.mask.shape == (len(clip.frames), n)
            assert clip.mask[:, 0].all()
            assert (clip.mask.sum(1) == max(1, round(0.5 * n))).all()
            assert clip.number.dtype == torch.int64


# Order --------------------------------------------------------------------------------------


@over(trained(ALL))
def test_seed_and_epoch_fix_the_training_batches(small, monkeypatch):
    def epochs(seed):
        monkeypatch.setenv("PL_GLOBAL_SEED", str(seed))
        training = loader(build(small), "train")
        return [few(training) for _ in range(2)]

    first, again, other = epochs(1), epochs(1), epochs(2)
    assert all(same(*pair) for pair in zip(first, again, strict=True))
    assert not same(*first)
    assert not same(first[0], other[0])


@over(trained(VIDEOS))
def test_an_epoch_shows_no_video_twice_and_an_endless_set_never_does(small):
    data = build(small)
    training = loader(data, "train")
    numbers = [torch.cat([clip_of(batch).number for batch in training]).tolist() for _ in range(2)]
    assert all(len(set(epoch)) == len(epoch) > 3 for epoch in numbers)
    assert data.endless != bool(set(numbers[0]) & set(numbers[1]))


@over(trained(ALL))
def test_a_resume_in_mid_epoch_serves_the_rest(small, tmp_path):
    training = loader(build(small), "train")
    list(training)  # the second epoch is the one to be interrupted
    batches = iter(training)
    next(batches), next(batches)
    torch.save(training.state_dict(), tmp_path / "state.pt")
    left = few(batches)
    resumed = loader(build(small), "train")
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert len(left) > 0
    assert same(few(resumed), left)


@over(ALL)
def test_the_order_of_evaluation_never_changes(small, monkeypatch):
    for split in set(small[0].splits) - {"train"}:
        passes = []
        for seed in (1, 2):
            monkeypatch.setenv("PL_GLOBAL_SEED", str(seed))
            evaluation = loader(build(small), split)
            passes += [few(evaluation), few(evaluation)]
        assert all(same(passes[0], others) for others in passes[1:])
        if isinstance(passes[0][0], Clip | FlowClip):
            numbers = torch.cat([clip_of(batch).number for batch in passes[0]])
            assert numbers.tolist() == list(range(len(numbers)))
        else:
            served = torch.cat(passes[0])
            assert torch.equal(served, build(small).images(split)[: len(served)])


@over([s for s in trained(ALL) if "flip" not in s.fixed])
def test_flip_mirrors_training_examples_and_no_others(small):
    for split in small[0].splits:
        plain, flipped = (few(loader(build(small, flip=flip), split)) for flip in (False, True))
        pairs = zip(map(pixels, plain), map(pixels, flipped), strict=True)
        changed, changeable = 0, 0
        for one, two in ((a, b) for batch in pairs for a, b in zip(*batch, strict=True)):
            assert torch.equal(one, two) or torch.equal(one.flip(-1), two)
            changed += not torch.equal(one, two)
            changeable += not torch.equal(one, one.flip(-1))  # small files may be grey all over
        assert bool(changed) == (split == "train" and bool(changeable))


@over(IMAGE_SETS)
def test_images_are_made_once(small):
    data = build(small)
    data.setup("fit")
    images = data.images("train")
    assert images.data_ptr() == data.images("train").data_ptr()
    assert images.data_ptr() == data.train_dataloader().dataset.images.data_ptr()


# Processes ----------------------------------------------------------------------------------


@over([s for s in ALL if s.kind.__name__ in ("EmbeddedPhotos", "MovingDigits", "VideoFolder")])
def test_workers_serve_the_same_batches(small):
    alone, helped = (loader(build(small, num_workers=n), "train") for n in (0, 2))
    for _ in range(2):
        assert same(few(alone), few(helped))


@over(ALL)
def test_a_data_module_can_be_pickled(small):
    data = build(small)
    split = small[0].splits[-1]
    before = pickle.loads(pickle.dumps(data))
    batches = few(loader(data, split))
    after = pickle.loads(pickle.dumps(data))
    assert same(few(loader(before, split)), batches)
    assert same(few(loader(after, split)), batches)


@over(ALL)
def test_data_sets_do_not_point_back_at_their_data_module(small):
    data = build(small)
    data.trainer = lambda: None  # nothing that holds it can be pickled
    for split in small[0].splits:
        again = pickle.loads(pickle.dumps(data.dataset(split)))
        assert same([again.__getitems__([1, 0])], [data.dataset(split).__getitems__([1, 0])])


# Arguments ----------------------------------------------------------------------------------

SERVING = {"batch_size": "int", "num_workers": "int", "flip": "bool"}
VIDEO_SERVING = {
    "n_frames": "int",
    "n_eval_frames": "int | null",
    "observed": "float",
    "pattern": "Literal['random', 'regular']",
}


def path_of(kind):
    return f"{kind.__module__}.{kind.__name__}"


def options(package, kind, capsys):
    """Type and description of each option in the command line's help."""
    with pytest.raises(SystemExit) as end:
        import_module(f"{package}.cli").main(["fit", "--data.help", path_of(kind)])
    assert end.value.code == 0
    told = capsys.readouterr().out.split("Help for")[1]
    words = [" ".join(text.split()) for text in told.split("\n  --data.")[1:]]
    found = {}
    for text in words:
        head, _, kind = text.rpartition("type: ")
        name, _, description = head.replace("(required, ", "(").partition(" ")
        found[name] = (kind.split(", default:")[0].rstrip(")"), description.removesuffix(" ("))
    return found


def parsed(kind, arguments):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Data, "data")
    given = {"data": {"class_path": path_of(kind), "init_args": arguments}}
    return parser.instantiate_classes(parser.parse_object(given)).data


@over([*IMAGE_SETS, *VIDEO_SETS])
def test_help_lists_all_arguments_with_types_and_descriptions(small, capsys):
    entry, arguments = small
    videos = issubclass(entry.kind, VideoData)
    found = options("video_ode" if videos else "msflow", entry.kind, capsys)
    expected = SERVING | (VIDEO_SERVING if videos else {})
    for name, kind in expected.items():
        if name not in entry.fixed:
            assert found[name][0] == kind
    assert set(arguments) <= set(found)
    assert not set(entry.fixed) & set(found)
    for name, (kind, description) in found.items():
        assert kind not in ("", "Any"), name
        assert len(description.split()) > 3, name


@over([*IMAGE_SETS, *VIDEO_SETS])
def test_types_are_checked_and_typing_errors_refused(small):
    entry, arguments = small
    data = parsed(entry.kind, arguments | {"batch_size": 3, "num_workers": 1})
    assert type(data) is entry.kind
    assert (data.batch_size, data.num_workers) == (3, 1)
    wrong = [("batch_size", "x"), ("num_workers", 0.5), ("bach_size", 3)]
    wrong += [(name, True) for name in entry.fixed]
    if issubclass(entry.kind, VideoData):
        wrong += [("pattern", "odd"), ("observed", "half"), ("n_frames", 2.5)]
    for name, value in wrong:
        with pytest.raises(ArgumentError, match=name):
            parsed(entry.kind, arguments | {name: value})


@over([*IMAGE_SETS, *VIDEO_SETS])
def test_python_refuses_unknown_arguments(small):
    for name in ("bach_size", *small[0].fixed):
        with pytest.raises(TypeError, match=name):
            build(small, **{name: 3})


@pytest.mark.parametrize("wrong", [("batch_size", "x"), ("bach_size", "3"), ("flip", "true")])
def test_the_command_line_refuses_what_does_not_fit(wrong, capsys):
    config = "video_ode/configs/srvp/srvp_digits.yaml"
    main = import_module("video_ode.cli").main
    with pytest.raises(SystemExit) as end:
        main(["fit", "--config", config, f"--data.{wrong[0]}", wrong[1]])
    assert end.value.code == 2
    assert wrong[0] in capsys.readouterr().err
