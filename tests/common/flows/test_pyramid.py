"""Laws of the pyramids."""

import pytest
import torch

from common.errors import InputError
from common.flows.pyramid import HaarPyramid, LaplacianPyramid, UnimodularPyramid

pytestmark = pytest.mark.usefixtures("double")

PYRAMIDS = {
    "unimodular": (lambda: UnimodularPyramid(3), (3, 16, 8)),
    "haar": (lambda: HaarPyramid(3), (2, 8, 8)),
    "single": (lambda: HaarPyramid(1), (1, 5, 7)),
    "laplacian": (lambda: LaplacianPyramid([4, 8, 16]), (3, 16, 16)),
    "uneven laplacian": (lambda: LaplacianPyramid([3, 13, 32]), (1, 32, 32)),
}


@pytest.fixture(params=PYRAMIDS)
def case(request):
    make, shape = PYRAMIDS[request.param]
    return make(), shape


def test_merging_undoes_splitting(case):
    pyramid, shape = case
    images = pyramid.images(torch.rand(2, *shape))
    levels = pyramid.split(images)
    x = levels[0].detail
    for s in range(1, pyramid.n_scales):
        torch.testing.assert_close(pyramid.context(x, s), levels[s].context)
        x = pyramid.merge(x, levels[s].detail, s)
    torch.testing.assert_close(x, images[-1])


def test_shapes_are_foretold(case):
    pyramid, shape = case
    levels = pyramid.split(pyramid.images(torch.rand(2, *shape)))
    for level, foretold in zip(levels, pyramid.shapes(shape), strict=True):
        assert tuple(level.detail.shape[1:]) == foretold.detail
        channels = 0 if level.context is None else level.context.shape[1]
        assert channels == foretold.context_channels
        if level.context is not None:
            assert level.context.shape[2:] == level.detail.shape[2:]


def test_only_exact_pyramids_keep_the_number_of_dimensions(case):
    pyramid, shape = case
    dims = sum(torch.Size(level.detail).numel() for level in pyramid.shapes(shape))
    assert (dims == torch.Size(shape).numel()) == pyramid.exact


@pytest.mark.parametrize("pyramid", [UnimodularPyramid(3), HaarPyramid(3)])
def test_splitting_preserves_volume(pyramid):
    def flat(x):
        return torch.cat([level.detail.flatten() for level in pyramid.split([x])])

    jacobian = torch.autograd.functional.jacobian(flat, torch.rand(1, 1, 4, 4)).reshape(16, 16)
    torch.testing.assert_close(jacobian.slogdet().logabsdet, torch.tensor(0.0), atol=1e-9, rtol=0)


def test_haar_keeps_the_energy():
    x = torch.randn(2, 3, 8, 8)
    energy = sum(level.detail.square().sum() for level in HaarPyramid(4).split([x]))
    torch.testing.assert_close(energy, x.square().sum())


def test_unimodular_matrix_is_mrcnfs():
    c = 2 ** (2 / 3)
    inverse = torch.tensor([[c, c, c, 4], [c, -c, -c, 4], [-c, c, -c, 4], [-c, -c, c, 4]]) / 4
    torch.testing.assert_close(UnimodularPyramid().matrix @ inverse, torch.eye(4))
    assert torch.linalg.det(UnimodularPyramid().matrix) == pytest.approx(1.0)


def test_coarse_unimodular_image_is_the_block_mean():
    x = torch.rand(2, 3, 8, 8)
    coarse = UnimodularPyramid(2).split([x])[0].detail
    torch.testing.assert_close(coarse, torch.nn.functional.avg_pool2d(x, 2))


def test_laplacian_images_are_functions_of_the_finest_and_stay_in_range():
    levels = torch.randint(0, 256, (2, 3, 32, 32)).double()
    images = LaplacianPyramid([3, 13, 32]).images(levels)
    assert [tuple(x.shape[2:]) for x in images] == [(3, 3), (13, 13), (32, 32)]
    assert all(x.min() >= 0 and x.max() <= 255 for x in images)
    flat = LaplacianPyramid([3, 13, 32]).images(torch.full((1, 1, 32, 32), 7.0))
    assert all(torch.allclose(x, torch.tensor(7.0)) for x in flat)


@pytest.mark.parametrize(
    ("pyramid", "shape", "message"),
    [
        (UnimodularPyramid(4), (1, 28, 28), "28 × 28 pixels can't be halved 3 times.*n_scales"),
        (LaplacianPyramid([4, 8]), (1, 28, 28), "finest size is 8 but images are 28 × 28"),
    ],
)
def test_images_that_do_not_fit_are_refused(pyramid, shape, message):
    with pytest.raises(InputError, match=message):
        pyramid.shapes(shape)


def test_pyramids_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="got n_scales 0; give 1 or more"):
        HaarPyramid(0)
    with pytest.raises(ValueError, match="must grow"):
        LaplacianPyramid([8, 8])
