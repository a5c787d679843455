"""The wave equation, beside the published solver and exact solutions."""

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from torchdiffeq import odeint

from common.data.fields.waves import DECAY, FRAME_TIME, WaveSolver, disc, second_derivative

SPEED, FORCE = 370.0, 12.0


def slices(w, axis):
    """The stencil as it is published: nothing in two lines at each end."""
    w = w.transpose(axis, 0)
    out = torch.zeros_like(w)
    out[2:-2] = (-w[:-4] - w[4:]) / 12 + (w[1:-3] + w[3:-1]) * 4 / 3 - w[2:-2] * 5 / 2
    return out.transpose(axis, 0)


def published(speed, force, n_frames, source):
    def rate(t, state):
        w, v = state
        push = force * torch.exp(-20 * t) * torch.from_numpy(source)
        return torch.stack([v, speed**2 * (slices(w, 0) + slices(w, 1)) + push])

    times = torch.arange(n_frames, dtype=torch.float64) / 1000
    zero = torch.zeros(2, 64, 64, dtype=torch.float64)
    return odeint(rate, zero, times, method="rk4").transpose(0, 1).numpy()


def solved(solver, speed, force, n_frames):
    path = solver.evolve(speed, force, n_frames)
    return np.stack([solver.fields(path[:, part]) for part in (0, 1)])


def largest(x):
    return np.abs(x).max()


def test_the_source_is_the_published_disc():
    rows, columns = np.nonzero(disc())
    assert len(rows) == 69
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (28, 36, 28, 36)
    assert np.array_equal(disc(2)[::2, ::2], disc())


@pytest.mark.parametrize("seed", [None, 3])
def test_frames_are_those_of_the_stencil_and_rk4(seed):
    # A source without symmetry too, which reaches into the lines that stay 0 in our solver only.
    source = disc() if seed is None else np.zeros((64, 64))
    if seed is not None:
        source[2:62, 2:62] = np.random.default_rng(seed).normal(size=(60, 60))
    expected = published(SPEED, FORCE, 150, source)
    ours = solved(WaveSolver(source=source), SPEED, FORCE, 150)
    for one, two in zip(ours, expected, strict=True):
        assert largest(one - two) < 1e-9 * largest(two)


def test_the_stencil_has_order_four_in_space():
    errors = []
    for per_unit in (2, 4, 8):
        x = np.arange(1, 61 * per_unit) / per_unit - 30.5
        bump = np.exp(-(x**2) / 32)  # 0 at the walls, up to 5e-13
        exact = (x**2 / 16**2 - 1 / 16) * bump
        errors.append(largest(second_derivative(len(x), per_unit) @ bump - exact))
    assert np.log2(errors[:-1]) - np.log2(errors[1:]) == pytest.approx([4, 4], abs=0.1)


def test_steps_have_order_four_in_time():
    errors = []
    for steps in (4, 8, 16):
        solver = WaveSolver(steps=steps)
        path = solver.evolve(SPEED, FORCE, 21)[-1, :, 20, 20]
        stiffness, drive = SPEED**2 * solver.stiffness[20, 20], solver.drive[20, 20]
        matrix = np.array([[0, 1, 0], [-stiffness, 0, drive], [0, 0, -DECAY]])
        exact = expm(20 * FRAME_TIME * matrix) @ [0, 0, FORCE]
        errors.append(largest(path - exact[:2]))
    assert np.log2(errors[:-1]) - np.log2(errors[1:]) == pytest.approx([4, 4], abs=0.3)


def test_waves_of_two_sources_add_up():
    left, right = np.zeros((64, 64)), np.zeros((64, 64))
    left[20:24, 30:40], right[50, 9:12] = 1, -2
    one, two, both = (
        solved(WaveSolver(source=source), SPEED, force, 60)
        for source, force in ((left, 3.0), (right, 5.0), (3 * left + 5 * right, 1.0))
    )
    assert largest(one + two - both) < 1e-12 * largest(both)


def test_energy_comes_from_the_source_alone():
    solver = WaveSolver()
    w, v = solver.evolve(SPEED, FORCE, 700).swapaxes(0, 1)
    energy = ((v**2 + SPEED**2 * solver.stiffness * w**2) / 2).sum((1, 2))
    assert energy[0] == 0
    assert largest(energy[500:] / energy[500] - 1) < 1e-3  # the source is e⁻¹⁰ of its first value
    assert energy[500] > 0


def test_the_finer_grid_shows_the_same_waves():
    coarse, fine = (solved(WaveSolver(r), SPEED, FORCE, 100)[0] for r in (1, 2))
    assert fine.shape == (100, 128, 128)
    assert not fine[:, :3].any()
    assert not fine[:, 124:].any()
    same = np.corrcoef(fine[40:, ::2, ::2].ravel(), coarse[40:].ravel())[0, 1]
    shifted = np.corrcoef(fine[40:, 1::2, 1::2].ravel(), coarse[40:].ravel())[0, 1]
    assert same > 0.99
    assert same > shifted
