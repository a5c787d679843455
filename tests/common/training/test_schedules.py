"""Learning rates: linear up, then constant, the cosine or a line."""

import math

import pytest

from common.training.schedules import Schedule


def test_warm_up_is_linear_and_then_constant():
    factors = [Schedule(warmup_steps=4).factor(step, math.inf) for step in range(6)]
    assert factors == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_cosine_runs_from_one_to_final():
    schedule = Schedule(warmup_steps=10, decay="cosine", final=0.1)
    assert schedule.factor(10, 110) == 1.0
    assert schedule.factor(60, 110) == pytest.approx(0.55)
    assert schedule.factor(110, 110) == pytest.approx(0.1)
    assert schedule.factor(500, 110) == pytest.approx(0.1)


def test_line_falls_after_the_hold():
    schedule = Schedule(decay="linear", hold_steps=1_000_000)
    total = 1_100_000
    assert schedule.factor(999_999, total) == 1.0
    assert schedule.factor(1_050_000, total) == pytest.approx(0.5)
    assert schedule.factor(total, total) == 0.0


def test_rate_drops_at_milestones():
    schedule = Schedule(warmup_steps=2, milestones=(0.5, 0.75), drop=0.2)
    factors = [schedule.factor(step, 8) for step in range(8)]
    assert factors == pytest.approx([0.5, 1, 1, 1, 0.2, 0.2, 0.04, 0.04])
    assert Schedule(milestones=(0.5,)).factor(10**9, math.inf) == 1.0
