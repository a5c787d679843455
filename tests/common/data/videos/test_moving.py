import math
import struct
from itertools import combinations

import numpy as np
import pytest
import torch
from skimage.transform import rotate

from common.data.draws import uniform
from common.data.images.embedded import EmbeddedDigits
from common.data.videos.balls import BouncingBalls
from common.data.videos.moving_mnist import MovingDigits
from common.data.videos.rotating_digits import RotatingDigits
from common.errors import InputError

SPLITS = ("train", "val", "test")
KINDS = [
    ("toronto", False),
    ("svg", False),
    ("svg", True),
    ("srvp", False),
    ("srvp", True),
]
SETS = {
    **{f"{kind} {chance}": lambda k=kind, c=chance, **a: MovingDigits(k, c, **a)
       for kind, chance in KINDS},
    "balls": BouncingBalls,
    "rotating": RotatingDigits,
}  # fmt: skip


@pytest.fixture(params=SETS.values(), ids=SETS)
def build(request):
    return request.param


def first(n):
    return torch.arange(n)


def states(trajectories):
    return [part for part in trajectories if part.is_floating_point()]


# Random numbers -----------------------------------------------------------------------------


def test_uniform_numbers_have_their_moments_and_no_correlation_with_neighbours():
    n = 400_000
    index = np.arange(n)
    drawn = uniform(index, 2, seed=3, stream=5)
    neighbours = {
        "index": uniform(index + 1, 2, seed=3, stream=5)[:, 0],
        "draw": drawn[:, 1],
        "stream": uniform(index, 2, seed=3, stream=6)[:, 0],
        "seed": uniform(index, 2, seed=4, stream=5)[:, 0],
    }
    u = drawn[:, 0]
    assert u.min() >= 0
    assert u.max() < 1
    for k in range(1, 5):  # moments 1 / (k + 1), variances of their means below 1 / (2 k + 1) n
        assert abs((u**k).mean() - 1 / (k + 1)) < 4 / math.sqrt((2 * k + 1) * n)
    assert np.bincount((100 * u).astype(int)).std() < 1.5 * math.sqrt(n / 100)
    for name, other in neighbours.items():
        assert abs(np.corrcoef(u, other)[0, 1]) < 4 / math.sqrt(n), name


# The generators against plain loops, from the same random numbers ---------------------------


class Chance:
    """The numbers of one digit of one video, in the order of `VideoDraws`."""

    def __init__(self, split, number, digit, n_digits):
        self.seed, self.number = SPLITS.index(split), np.array([number])
        self.digit, self.n_digits = digit, n_digits

    def __call__(self, each, stream):
        drawn = uniform(self.number, self.n_digits * each, self.seed, stream)
        return drawn[0, self.digit * each :][:each].tolist()

    def later(self, frame, event):
        block, place = divmod(frame, 16)
        return self(32, 2 + 65536 * block + event)[2 * place :][:2]


def toronto_path(chance, n_frames, free, speed, stochastic):
    y, x, turn = chance(3, 1)
    vy, vx = math.sin(2 * math.pi * turn), math.cos(2 * math.pi * turn)
    path = []
    for _ in range(n_frames):
        y, x = y + 0.1 * vy, x + 0.1 * vx
        if y <= 0:
            y, vy = 0, -vy
        if y >= 1:
            y, vy = 1, -vy
        if x <= 0:
            x, vx = 0, -vx
        if x >= 1:
            x, vx = 1, -vx
        path.append((free * y, free * x))
    return path


def any_velocity(drawn, speed):
    return [int((2 * speed + 1) * u) - speed for u in drawn]


def svg_path(chance, n_frames, free, speed, stochastic):
    drawn = chance(4, 1)
    s, v = [int(free * u) for u in drawn[:2]], any_velocity(drawn[2:], speed)
    path = []
    for frame in range(n_frames):
        for axis in (0, 1):
            if 0 <= s[axis] < free:
                continue
            low = s[axis] < 0
            s[axis] = 0 if low else free - 1
            if stochastic:
                drawn = chance.later(frame - 1, axis)
                v = any_velocity(drawn, speed)
                away = 1 + int(speed * drawn[axis])
                v[axis] = away if low else -away
            else:
                v[axis] = -v[axis]
        path.append(tuple(s))
        s = [s[0] + v[0], s[1] + v[1]]
    return path


def srvp_path(chance, n_frames, free, speed, stochastic):
    drawn = chance(4, 1)
    s, v = [int((free + 1) * u) for u in drawn[:2]], any_velocity(drawn[2:], speed)
    path = [tuple(s)]
    for frame in range(n_frames - 1):
        left = 1.0
        for event in range(100):
            waits = [
                ((free if v[a] > 0 else 0) - s[a]) / v[a] if v[a] else math.inf for a in (0, 1)
            ]
            wait = min(waits)
            if wait >= left - 1e-9:
                break
            hit = [a for a in (0, 1) if waits[a] < wait + 1e-9]
            walls = [free if v[a] > 0 else 0 for a in (0, 1)]
            s = [s[a] + wait * v[a] for a in (0, 1)]
            left -= wait
            if stochastic:
                v = any_velocity(chance.later(frame, event), speed)
            for a in hit:
                s[a] = walls[a]
                v[a] = abs(v[a]) if walls[a] == 0 else -abs(v[a])
        s = [s[a] + left * v[a] for a in (0, 1)]
        path.append(tuple(s))
    return path


PATHS = {"toronto": toronto_path, "svg": svg_path, "srvp": srvp_path}


def painted(kind, pictures, paths, canvas):
    """Frames `[t canvas canvas]`, digit by digit; what lies outside the canvas is cut off."""
    frames = np.zeros((len(paths[0]), canvas, canvas))
    for picture, path in zip(pictures, paths, strict=True):
        side = len(picture)
        for frame, corner in zip(frames, path, strict=True):
            whole = [math.floor(c) if kind == "toronto" else round(round(c, 6)) for c in corner]
            for i in range(side):
                for j in range(side):
                    y, x = whole[0] + i, whole[1] + j
                    if picture[i, j] and 0 <= y < canvas and 0 <= x < canvas:
                        values = frame[y, x], float(picture[i, j])
                        frame[y, x] = max(values) if kind == "toronto" else min(sum(values), 255)
    return frames.astype(np.uint8)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(("canvas", "side"), [(64, None), (24, 14)], ids=["64 px", "24 px"])
@pytest.mark.parametrize(("kind", "stochastic"), KINDS)
def test_videos_are_those_of_a_plain_loop(kind, stochastic, canvas, side, split):
    data = MovingDigits(kind, stochastic, n_digits=2, canvas=canvas, digit=side, n_frames=24)
    numbers = torch.tensor([7, 10_004, 12])
    corners, _, digits = data.trajectories(split, numbers)
    frames = data.clips(split).frames(numbers.tolist())
    assert frames.shape == (3, 24, 1, canvas, canvas)
    speed = max(1, round(canvas / 16))
    for k, number in enumerate(numbers.tolist()):
        chances = [Chance(split, number, d, 2) for d in (0, 1)]
        paths = [PATHS[kind](c, 24, canvas - data.digit, speed, stochastic) for c in chances]
        np.testing.assert_allclose(corners[k].transpose(0, 1), paths, atol=1e-9)
        pictures = data.images(split)[digits[k], 0].numpy()
        assert (frames[k, :, 0].numpy() == painted(kind, pictures, paths, canvas)).all()


def test_training_digits_are_drawn_uniformly():
    digits = MovingDigits().trajectories("train", first(20_000), torch.zeros(1)).digits
    counts = digits.flatten().bincount(minlength=4000).double()
    assert len(counts) == 4000
    assert float(counts.var() / counts.mean()) == pytest.approx(1, rel=0.1)  # Poisson


# Laws of the motion -------------------------------------------------------------------------


def test_reflected_paths_are_triangle_waves():
    data = MovingDigits("srvp", n_frames=100)
    start = data.trajectories("val", first(50), torch.zeros(1))
    times = torch.arange(0, 99, 0.37).double()
    unfolded = start.corners + start.velocities * times[:, None, None]
    # The start may be on the border, with the velocity already turned round: still the same wave.
    wave = 36 - ((unfolded % 72) - 36).abs()
    torch.testing.assert_close(data.trajectories("val", first(50), times).corners, wave)


@pytest.mark.parametrize(("kind", "stochastic"), KINDS)
def test_digits_stay_on_the_canvas_and_move_continuously(kind, stochastic):
    data = MovingDigits(kind, stochastic, n_digits=3)
    times = torch.arange(0, 30, 0.125)
    corners = data.trajectories("train", first(40), times).corners
    free = 64 - data.digit
    assert corners.min() == 0
    assert corners.max() == free - (kind == "svg")
    assert corners.diff(dim=1).abs().max() <= 0.5 + 1e-9
    assert data.videos("train", first(4), times).amax((-1, -2)).min() > 200  # always to be seen


def test_speed_of_stochastic_digits_changes_at_collisions_only():
    data = MovingDigits("srvp", stochastic=True)
    corners, velocities, _ = data.trajectories("train", first(100), torch.arange(50).float())
    changed = (velocities[:, 1:] != velocities[:, :-1]).any(-1)
    straight = corners[:, :-1] + velocities[:, :-1]
    out = ((straight < 0) | (straight > 36)).any(-1)
    assert (changed <= out).all()
    assert changed.double().sum() > 0.8 * out.double().sum()
    assert velocities.abs().max() == 4


def plain_balls(place, velocity, radius, canvas, n_frames, steps):
    """Balls moved in tiny steps, checked for collisions after each."""
    path = [place.copy()]
    for _ in range(n_frames - 1):
        for _ in range(steps):
            place = place + velocity / steps
            low, high = place < radius, place > canvas - radius
            velocity = np.where(low, abs(velocity), np.where(high, -abs(velocity), velocity))
            for i, j in combinations(range(len(place)), 2):
                line = place[j] - place[i]
                distance = math.hypot(*line)
                closing = (velocity[i] - velocity[j]) @ line
                if distance < 2 * radius and closing > 0:
                    velocity[i] -= closing * line / distance**2
                    velocity[j] += closing * line / distance**2
        path.append(place.copy())
    return np.array(path)


def test_balls_are_where_tiny_steps_lead_to():
    data = BouncingBalls(speed=1.5, n_frames=16)
    balls = data.trajectories("train", first(3))
    for centres, velocities in zip(*balls, strict=True):
        start = centres[0].numpy(), velocities[0].numpy()
        path = plain_balls(*start, 3.84, 32, 16, steps=1000)
        np.testing.assert_allclose(centres, path, atol=0.05)
    assert (balls.velocities[:, 0] != balls.velocities[:, -1]).any(-1).any(-1).all()


def test_balls_keep_their_energy_and_their_distance():
    data = BouncingBalls(n_balls=4, radius=3.0, speed=2.0)
    centres, velocities = data.trajectories("test", first(50), torch.arange(0, 40, 0.3))
    energy = velocities.square().sum(-1).mean(-1)
    torch.testing.assert_close(energy, torch.full_like(energy, 4.0))
    assert centres.min() >= 3 - 1e-9
    assert centres.max() <= 29 + 1e-9
    for i, j in combinations(range(4), 2):
        assert (centres[:, :, i] - centres[:, :, j]).norm(dim=-1).min() >= 6 - 1e-9


def test_balls_collide_with_exchange_of_momentum():
    data = BouncingBalls(n_balls=2, radius=5.0, speed=1.0)
    _, velocities = data.trajectories("train", first(400), torch.tensor([0.0, 1.0]))
    before, after = velocities.unbind(1)
    kept = before.sum(1), after.sum(1)
    changed = (before != after).all(-1).all(-1)
    alike = torch.isclose(*kept).all(-1)
    # Both balls meeting walls within one frame is rare; two meeting each other is not.
    assert alike[changed].double().mean() > 0.8
    assert changed.sum() > 10


# Serving ------------------------------------------------------------------------------------


def test_a_video_depends_on_its_number_alone(build):
    data = build()
    clips = data.clips("train")
    whole = clips.frames([5, 123_456, 3, 77])
    torch.testing.assert_close(clips.frames([77, 5]), whole[[3, 0]])
    torch.testing.assert_close(build().clips("train").frames([123_456]), whole[[1]])
    assert whole.dtype == torch.uint8
    assert whole.shape == (4, data.n_frames, *data.shape)


def test_fractional_times_keep_the_frames_at_whole_ones(build):
    data = build(frame_step=0.25, n_eval_frames=80, n_test=20)
    coarse = build(n_frames=20, n_test=20)
    assert data.times("train").tolist() == list(range(data.n_frames))
    torch.testing.assert_close(data.times("test"), torch.arange(80) / 4)
    whole = data.clips("test").frames([2, 19])[:, ::4]
    torch.testing.assert_close(whole, coarse.clips("test").frames([2, 19]))
    fine = states(data.trajectories("test", first(5)))
    for a, b in zip(fine, states(coarse.trajectories("test", first(5))), strict=True):
        assert (a[:, ::4] == b).all()


@pytest.mark.parametrize("towards", [0.0, 9.0])
def test_times_of_whole_frames_may_be_inexact(build, towards):
    times = torch.arange(1.0, 4.0)
    nearly = times.nextafter(torch.tensor(towards))
    assert (nearly != times).all()
    ours, exact = (build().videos("train", first(8), t) for t in (nearly, times))
    torch.testing.assert_close(ours, exact)


def test_every_epoch_shows_new_videos(build):
    data = build(n_train=12, n_frames=2, batch_size=4, pattern="regular")
    data.setup("fit")
    loader = data.train_dataloader()
    epochs = [list(loader) for _ in range(3)]
    for e, clips in enumerate(epochs):
        numbers = torch.cat([clip.number for clip in clips])
        assert sorted(numbers.tolist()) == list(range(12 * e, 12 * e + 12))
    shown = {frames.numpy().tobytes() for clips in epochs for c in clips for frames in c.frames}
    assert len(shown) == 36


def test_splits_differ(build):
    a, b, c = (build().clips(split).frames([0, 1, 2]) for split in SPLITS)
    assert not any((x == y).flatten(1).all(1).any() for x, y in ((a, b), (b, c), (a, c)))


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("n_digits", [1, 2, 3])
def test_each_evaluation_digit_is_shown_once_before_any_twice(n_digits, split):
    data = MovingDigits(n_digits=n_digits)
    digits = data.trajectories(split, first(1000), torch.zeros(1)).digits.flatten()
    assert sorted(digits[:500].tolist()) == list(range(500))
    assert sorted(digits[500:1000].tolist()) == list(range(500))
    assert digits[:500].tolist() != digits[500:1000].tolist()


def test_masks_come_through_the_loader():
    data = MovingDigits(observed=0.5, n_frames=10, n_val=6, batch_size=3, num_workers=1)
    data.setup("fit")
    val = list(data.val_dataloader())
    assert [clip.number.tolist() for clip in val] == [[0, 1, 2], [3, 4, 5]]
    assert (torch.cat([clip.mask for clip in val]).sum(1) == 5).all()
    assert torch.cat([clip.mask for clip in val])[:, 0].all()
    assert val[0].times.tolist() == list(range(10))
    even = MovingDigits(observed=0.25, n_frames=2, n_eval_frames=8, frame_step=0.25,
                        pattern="regular", n_val=3)  # fmt: skip
    even.setup("validate")
    (clip,) = even.val_dataloader()
    assert clip.mask[0].nonzero().flatten().tolist() == [0, 4]


# Pictures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["svg", "srvp"])
def test_drawing_between_pixels_is_plain_at_whole_ones(kind):
    fine, plain = (MovingDigits(kind, subpixel=s) for s in (True, False))
    # At times with fractions the bilinear drawing is at work in every frame.
    times = torch.arange(40) / 2
    a, b = (data.videos("test", first(8), times)[:, ::2] for data in (fine, plain))
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kind", ["toronto", "srvp"])
def test_drawing_between_pixels_keeps_ink_and_moves_its_centre_with_the_digit(kind):
    data = MovingDigits(kind, n_digits=1, subpixel=True)
    times = torch.arange(0, 10, 0.3)
    frames = data.videos("train", first(10), times)[:, :, 0].double()
    corners = data.trajectories("train", first(10), times).corners[:, :, 0]
    ink = frames.sum((-1, -2))
    torch.testing.assert_close(ink, ink.mean(1, keepdim=True).expand_as(ink), rtol=2e-3, atol=0)
    pixels = torch.arange(64.0).double()
    centre = torch.stack([(frames.sum(-1) @ pixels) / ink, (frames.sum(-2) @ pixels) / ink], -1)
    within = centre - corners
    assert (within - within.mean(1, keepdim=True)).abs().max() < 0.05


def test_digits_shrink_to_the_means_of_areas_and_grow_bilinearly():
    images = EmbeddedDigits().images("val")[:20]
    small = images.double().unflatten(-1, (14, 2)).unflatten(-3, (14, 2)).mean((-1, -3))
    large = torch.nn.functional.interpolate(images.double(), (32, 32), mode="bilinear")
    for expected in (small, large):
        ours = MovingDigits(digit=expected.shape[-1]).images("val")[:20]
        assert (ours - expected).abs().max() <= 1


def test_a_ball_has_the_area_of_its_disc():
    data = BouncingBalls(n_balls=1, radius=6.0)
    times = torch.arange(0, 20, 0.3)
    frames = data.videos("train", first(5), times)[:, :, 0].double() / 255
    ink = frames.sum((-1, -2))
    torch.testing.assert_close(ink, torch.full_like(ink, 36 * math.pi), rtol=0.01, atol=0)
    centres = data.trajectories("train", first(5), times).centres[:, :, 0]
    pixels = torch.arange(32).double() + 0.5
    torch.testing.assert_close((frames.sum(-1) @ pixels) / ink, centres[..., 0], atol=0.02, rtol=0)
    torch.testing.assert_close((frames.sum(-2) @ pixels) / ink, centres[..., 1], atol=0.02, rtol=0)


def test_digits_turn_as_scikit_image_turns_them():
    data = RotatingDigits()
    times = torch.tensor([0.0, 0.3, 5.0, 11.7])
    angles, digits = data.trajectories("train", first(5), times)
    frames = data.videos("train", first(5), times)[:, :, 0].numpy().astype(int)
    for k, digit in enumerate(digits):
        image = data.images("train")[digit, 0].numpy().astype(float)
        theirs = [rotate(image, a, order=1) for a in angles[k].rad2deg().tolist()]
        assert abs(frames[k] - np.stack(theirs)).max() <= 1


def test_a_full_turn_and_quarter_turns_give_the_picture_back():
    data = RotatingDigits(speed=2 * math.pi / 16)
    frames = data.videos("train", first(20), torch.arange(17.0) * 1.0)[:, :, 0].int()
    assert (frames[:, 16] - frames[:, 0]).abs().max() <= 1
    assert (frames[:, 4] - frames[:, 0].rot90(1, (1, 2))).abs().max() <= 1


def test_only_the_digits_asked_for_turn():
    data = RotatingDigits(digits=[3])
    assert [len(data.images(split)) for split in SPLITS] == [
        int((EmbeddedDigits().labels(split) == 3).sum()) for split in SPLITS
    ]
    threes = EmbeddedDigits().images("test")[EmbeddedDigits().labels("test") == 3]
    assert (data.images("test") == threes).all()


# Baselines ----------------------------------------------------------------------------------


def served(data, split="test"):
    data.setup(split)
    return next(iter(data.test_dataloader()))


@pytest.mark.parametrize(("kind", "stochastic"), KINDS)
def test_the_baseline_goes_straight_on_and_leaves_the_canvas(kind, stochastic):
    data = MovingDigits(kind, stochastic, batch_size=4, n_frames=16)
    clip = served(data)
    baseline = data.baselines(clip, 6)["constant velocity"]
    assert (baseline[:, :6] == clip.frames[:, :6]).all()
    corners, velocities, digits = data.trajectories("test", clip.number)
    for k in range(4):
        at, v = corners[k, 5].numpy(), velocities[k, 5].numpy()
        paths = [[at[d] + n * v[d] for n in range(1, 11)] for d in (0, 1)]
        pictures = data.images("test")[digits[k], 0].numpy()
        expected = painted(kind, pictures, paths, 64)
        assert (baseline[k, 6:, 0].numpy() == expected).all()


def test_the_baseline_of_balls_is_right_until_they_collide():
    data = BouncingBalls(batch_size=50, n_test=50)
    clip = served(data)
    baseline = data.baselines(clip, 5)["constant velocity"]
    velocities = data.trajectories("test", clip.number).velocities
    free = (velocities[:, 4] == velocities[:, 7]).flatten(1).all(1)
    assert 5 < free.sum() < 50
    assert (baseline[:, :5] == clip.frames[:, :5]).all()
    assert ((baseline[free, :8].int() - clip.frames[free, :8].int()).abs() <= 1).all()
    assert (baseline[:, 5:] != clip.frames[:, 5:]).any()


@pytest.mark.parametrize("n_cond", [0, 21])
def test_baselines_from_no_or_too_many_frames_are_refused(n_cond):
    data = MovingDigits(batch_size=2)
    with pytest.raises(InputError, match=f"got n_cond {n_cond} of 20 frames"):
        data.baselines(served(data), n_cond)


# Files and errors ---------------------------------------------------------------------------


def test_digits_come_from_the_files_of_mnist(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (140, 28, 28), np.uint8)
    for name, pixels in (("train", noise[:100]), ("t10k", noise[100:])):
        header = struct.pack(">4I", 2051, *pixels.shape)
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
    data = MovingDigits(root=tmp_path)
    images = {split: data.images(split)[:, 0].numpy() for split in SPLITS}
    assert {split: len(found) for split, found in images.items()} == {
        "train": 95, "val": 5, "test": 40
    }  # fmt: skip
    assert (images["test"] == noise[100:]).all()
    seen = {i.tobytes() for i in (*images["train"], *images["val"])}
    assert seen == {i.tobytes() for i in noise[:100]}


def test_missing_files_are_named_at_setup(tmp_path):
    with pytest.raises(InputError, match="train-images-idx3-ubyte"):
        MovingDigits(root=tmp_path).setup("fit")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: MovingDigits("toronto", stochastic=True), "stochastic with toronto"),
        (lambda: MovingDigits(n_digits=0), "got n_digits 0"),
        (lambda: MovingDigits(canvas=28), "digit of 28 px on a canvas of 28"),
        (lambda: MovingDigits(digit=0), "digit of 0 px"),
        (lambda: MovingDigits("srvp", speed=2.5), r"got speed 2\.5.*whole px"),
        (lambda: MovingDigits("toronto", speed=-0.1), r"got speed -0\.1"),
        (lambda: MovingDigits(frame_step=0.0), r"got frame_step 0\.0"),
        (lambda: MovingDigits(n_test=0), "got n_test 0"),
        (lambda: MovingDigits(n_frames=1), "got n_frames 1"),
        (lambda: BouncingBalls(n_balls=0), "got n_balls 0"),
        (lambda: BouncingBalls(radius=16.0), r"got radius 16\.0 on a canvas of 32"),
        (lambda: BouncingBalls(n_balls=9), "got 9 balls .* hardly fit"),
        (lambda: RotatingDigits(digits=[]), r"got digits \[\]"),
        (lambda: RotatingDigits(digits=[3, 10]), "10"),
        (lambda: MovingDigits().trajectories("test", torch.tensor([-1])), "video number -1"),
        (lambda: MovingDigits().videos("test", first(1), torch.tensor([-0.5])), r"times \[-0\.5"),
    ],
)
def test_what_cannot_be_is_refused(make, says):
    with pytest.raises(InputError, match=says):
        make()


def test_an_unknown_generator_is_refused():
    build = getattr(MovingDigits.__init__, "__wrapped__", MovingDigits.__init__)
    with pytest.raises(InputError, match="got generator bair; choose one of toronto, svg, srvp"):
        build(object.__new__(MovingDigits), "bair")
