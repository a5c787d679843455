"""Methods of optical flow without learning."""

import numpy as np
import pytest
import torch

from common.errors import InputError
from video_ode.optical_flow.baselines import ilk, tvl1, zero_flow

METHODS = (zero_flow, tvl1, ilk)


def texture(right, down, channels=1, size=(48, 56)):
    """Smooth random waves, moved to the right and down by some pixels."""
    draws = np.random.default_rng(0)
    rows, columns = np.indices(size)
    waves = draws.uniform(-0.9, 0.9, (24, 2, channels)), draws.uniform(0, 6.28, (24, channels))
    phase = [
        np.tensordot(wave, [columns - right, rows - down], (0, 0)) + shift[:, None, None]
        for wave, shift in zip(*waves, strict=True)
    ]
    return torch.tensor(0.5 + 0.02 * np.sin(phase).sum(0)[None]).float().clamp(0, 1)


@pytest.mark.parametrize("method", [tvl1, ilk])
@pytest.mark.parametrize(("right", "down"), [(2, -1), (-1, 0)])
def test_a_translation_is_found(method, right, down):
    first, second = texture(0, 0), texture(right, down)
    assert torch.allclose(
        first.roll((down, right), (2, 3))[..., 4:-4, 4:-4], second[..., 4:-4, 4:-4]
    )
    flow = method(first, second)
    inside = flow[..., 10:-10, 10:-10] - torch.tensor([right, down])[:, None, None]
    assert inside.norm(dim=1).max() < 0.1


@pytest.mark.parametrize("method", METHODS)
def test_each_pair_has_its_flow_in_the_type_of_the_pictures(method):
    first = torch.cat([texture(0, 0, 3), texture(1, 1, 3)]).double()
    second = torch.cat([texture(1, 0, 3), texture(1, 2, 3)]).double()
    flow = method(first, second)
    assert (flow.shape, flow.dtype) == ((2, 2, 48, 56), torch.float64)
    alone = method(first[1:], second[1:])
    assert torch.equal(flow[1:], alone)
    assert method is not zero_flow or not flow.any()


@pytest.mark.parametrize("method", METHODS)
def test_colours_count_as_the_eye_sees_them(method):
    grey = texture(0, 0), texture(1, 0)
    assert torch.allclose(
        method(*(x.expand(-1, 3, -1, -1) for x in grey)), method(*grey), atol=1e-3
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 20), "equal shape"),
        (torch.rand(1, 2, 16, 16), torch.rand(1, 2, 16, 16), "1 or 3 channels"),
        (3 * torch.ones(1, 1, 16, 16), torch.rand(1, 1, 16, 16), "from 0 to 1"),
    ],
)
def test_other_pictures_are_refused(method, first, second, told):
    with pytest.raises(InputError, match=told):
        method(first, second)
