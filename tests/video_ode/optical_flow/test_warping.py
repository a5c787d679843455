"""The warping ODE on velocity fields whose motion is known in closed form."""

import math

import numpy as np
import pytest
import torch

from common.errors import InputError
from common.nn.warping import sampled
from common.ode.solve import Solver
from video_ode.optical_flow.warping import (
    CoordinateWarping,
    RepeatedWarping,
    inside,
    pixel_places,
)

SIDE = 96
CENTRE = (SIDE - 1) / 2
ANGLE = math.radians(12)  # in a unit of time


def texture(x, y):
    """Sum of 24 waves of up to 0.45 radians per pixel, at any places."""
    draw = np.random.default_rng(0)
    total = torch.zeros_like(x)
    for _ in range(24):
        a, b = draw.uniform(-0.45, 0.45, 2)
        total = total + torch.sin(a * x + b * y + draw.uniform(0, 2 * np.pi))
    return total / 24


def frame(move=lambda x, y: (x, y)):
    x, y = pixel_places(torch.zeros(1, 1, SIDE, SIDE, dtype=torch.float64))[0]
    return texture(*move(x, y))[None, None]


def turned(angle):
    """Map of a point to where it was before a rotation by the angle about the centre."""

    def before(x, y):
        x, y = x - CENTRE, y - CENTRE
        c, s = math.cos(angle), math.sin(angle)
        return c * x + s * y + CENTRE, -s * x + c * y + CENTRE

    return before


def rotation(t, places):
    x, y = (places - CENTRE).unbind(1)
    return ANGLE * torch.stack([-y, x], 1)


def scaling(t, places):
    return 0.2 * (places - CENTRE)


def disc(share=0.7):
    x, y = pixel_places(torch.zeros(1, 1, SIDE, SIDE))[0] - CENTRE
    return x.square() + y.square() < (share * SIDE / 2) ** 2


def psnr(found, true):
    spread = true.max() - true.min()
    mse = (found - true)[..., disc()].square().mean()
    return float(10 * torch.log10(spread**2 / mse))


def epe(displacement, before):
    x, y = pixel_places(torch.zeros(1, 1, SIDE, SIDE, dtype=torch.float64))[0]
    true = torch.stack(before(x, y)) - torch.stack([x, y])
    return float((displacement - true).norm(dim=0)[disc()].mean())


def solved(method, steps, velocity=rotation, times=(1.0,)):
    warping = CoordinateWarping(Solver(method=method, step_size=1 / steps))
    return warping(frame(), velocity, 0.0, torch.tensor(times))


def test_euler_has_order_one_and_rk4_reaches_the_floor():
    errors = [epe(solved("euler", n).displacement[0, 0], turned(ANGLE)) for n in (1, 2, 4, 8, 16)]
    slope = np.polyfit(np.log([1, 2, 4, 8, 16]), np.log(errors), 1)[0]
    assert -1.05 < slope < -0.95
    assert errors[0] == pytest.approx(0.485, rel=0.02)  # the value of the facts
    assert epe(solved("rk4", 2).displacement[0, 0], turned(ANGLE)) < 1e-5


def test_one_sample_stays_sharp_where_repeated_warps_blur():
    true = frame(turned(ANGLE))
    once = psnr(solved("rk4", 16).frames[0, 0], true[0])
    repeated = RepeatedWarping(16)(frame(), rotation, 0.0, torch.tensor([1.0])).frames[0, 0]
    assert once > 50
    assert 28 < psnr(repeated, true[0]) < 36
    assert psnr(frame()[0], true[0]) < 20  # without a warp


@pytest.mark.parametrize("time", [0.25, 1.0, -0.5])
def test_times_between_frames_and_before_are_reached(time):
    found = solved("rk4", 4, times=(time,))
    assert epe(found.displacement[0, 0], turned(time * ANGLE)) < 1e-4
    assert psnr(found.frames[0, 0], frame(turned(time * ANGLE))[0]) > 50


def test_scaling_has_its_closed_form():
    def before(x, y):
        return tuple(CENTRE + math.exp(-0.2) * (p - CENTRE) for p in (x, y))

    found = solved("rk4", 4, scaling)
    assert epe(found.displacement[0, 0], before) < 1e-5
    assert psnr(found.frames[0, 0], frame(before)[0]) > 50


def test_a_velocity_that_changes_with_time():
    def accelerated(t, places):
        return torch.stack([6 * t.expand_as(places[:, 0]), torch.zeros_like(places[:, 0])], 1)

    found = solved("rk4", 4, accelerated, times=(0.5, 1.0)).displacement[0]
    torch.testing.assert_close(found[0, 0], torch.full_like(found[0, 0], -0.75))
    torch.testing.assert_close(found[1, 0], torch.full_like(found[1, 0], -3.0))


@pytest.mark.parametrize(
    "warping", [CoordinateWarping(Solver(method="euler", step_size=1.0)), RepeatedWarping()]
)
def test_a_translation_by_whole_pixels_is_a_roll(warping):
    image = torch.rand(2, 3, 9, 12)

    def right_and_down(t, places):
        return torch.tensor([3.0, 2.0])[:, None, None].expand_as(places)

    found = warping(image, right_and_down, 4.0, torch.tensor([5.0]))
    true = image.roll((2, 3), (-2, -1))
    torch.testing.assert_close(found.frames[:, 0, :, 2:, 3:], true[..., 2:, 3:])
    valid = torch.zeros(9, 12, dtype=torch.bool)
    valid[2:, 3:] = True
    assert torch.equal(found.valid, valid.expand(2, 1, 9, 12))


def test_there_and_back_is_the_identity():
    places = pixel_places(torch.zeros(1, 1, 8, 8, dtype=torch.float64))
    solver = Solver(method="rk4", step_size=0.1)

    def field(t, p):
        x, y = (p / 4).unbind(1)
        return torch.stack([torch.sin(y + t), torch.cos(x - t)], 1)

    away = solver.end(lambda t, s: (field(t, s[0]),), (places,), 0.0, 1.0).state[0]
    back = solver.end(lambda t, s: (field(t, s[0]),), (away,), 1.0, 0.0).state[0]
    torch.testing.assert_close(back, places, rtol=0, atol=1e-5)


def test_gradients_reach_frame_and_velocity(double):
    image = torch.rand(1, 1, 5, 6, requires_grad=True)
    speed = torch.tensor(0.3, requires_grad=True)
    warping = CoordinateWarping(Solver(method="rk4", step_size=0.5))

    def warp(image, speed):
        def field(t, places):
            return speed * torch.stack([1 + 0 * places[:, 0], 0.1 * places[:, 0]], 1)

        return warping(image, field, 0.0, torch.tensor([1.0])).frames

    assert torch.autograd.gradcheck(warp, (image, speed))


def test_sampling_takes_pixel_centres():
    image = torch.rand(1, 2, 4, 5)
    torch.testing.assert_close(sampled(image, pixel_places(image)), image)
    middle = sampled(image, torch.tensor([[[[1.5]], [[2.0]]]]))
    torch.testing.assert_close(middle[0, :, 0, 0], image[0, :, 2, 1:3].mean(1))
    line = torch.rand(1, 1, 1, 3)  # a side of one pixel divides by nothing
    torch.testing.assert_close(sampled(line, pixel_places(line)), line)
    assert inside(torch.tensor([[[4.0]], [[3.1]]]), 4, 5).tolist() == [[False]]


def test_other_times_are_refused():
    warping = CoordinateWarping(Solver(method="euler", step_size=1.0))
    for times in (torch.zeros(0), torch.tensor([math.nan])):
        with pytest.raises(InputError, match="got times"):
            warping(torch.rand(1, 1, 4, 4), rotation, 0.0, times)
    with pytest.raises(InputError, match="steps"):
        RepeatedWarping(0)
