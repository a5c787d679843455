"""The networks: their published sizes, their layers' names and shapes, and where gradients go."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from common.errors import InputError
from mimic.supervised.networks import BasicBlock, Coder, ResNet, SmallCNN, SmallSegmenter

NETWORKS = {
    "SmallCNN": lambda: SmallCNN((1, 12, 14), 5, widths=(4, 6), hidden=7),
    "ResNet": lambda: ResNet((3, 9, 8), 5, blocks=(1, 2, 1), width=4),
    "Coder": lambda: Coder((1, 16, 12), 5, n_codes=3, widths=(4, 6), hidden=7),
    "SmallSegmenter": lambda: SmallSegmenter((3, 16, 24), 5, width=4),
}


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def layer_outputs(network, images, names):
    found = {}
    for name in names:
        layer = network.get_submodule(name)
        layer.register_forward_hook(
            lambda module, inputs, output, name=name: found.update({name: tuple(output.shape)})
        )
    network(images)
    return found


@pytest.fixture(params=NETWORKS)
def network(request):
    return NETWORKS[request.param]()


# He et al. 2016, table 6: 0.27, 0.46, 0.66, 0.85 and 1.7 million.
@pytest.mark.parametrize(
    ("n", "count"), [(3, 269722), (5, 464154), (7, 658586), (9, 853018), (18, 1727962)]
)
def test_resnets_have_the_papers_parameters_and_layers(n, count):
    network = ResNet(blocks=(n, n, n))
    assert parameters(network) == count
    weighted = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(weighted) == 6 * n + 2


def test_the_small_network_has_the_parameters_counted_by_hand():
    convolutions = 25 * 1 * 32 + 25 * 32 * 64
    norms = 2 * (32 + 64)
    dense = (64 * 7 * 7 + 1) * 64 + (64 + 1) * 10
    assert parameters(SmallCNN()) == convolutions + norms + dense


@pytest.mark.parametrize(
    ("network", "shapes"),
    [
        (
            SmallCNN(),
            {"conv1": (32, 14, 14), "conv2": (64, 7, 7), "features": (64,), "head": (10,)},
        ),
        (
            ResNet(),
            {
                "conv1": (16, 32, 32),
                "layer1": (16, 32, 32),
                "layer2": (32, 16, 16),
                "layer3": (64, 8, 8),
                "pool": (64,),
                "head": (10,),
            },
        ),
        (Coder(), {"conv1": (16, 16, 16), "conv3": (64, 4, 4), "code": (10,), "head": (5,)}),
        (
            SmallSegmenter(),
            {
                "encoder.layer1": (16, 24, 32),
                "encoder.layer2": (32, 12, 16),
                "encoder.layer3": (64, 6, 8),
                "encoder.layer4": (64, 6, 8),
                "decoder.aspp": (64, 6, 8),
                "decoder.low": (16, 24, 32),
                "head": (7, 24, 32),
            },
        ),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, nn.Module) else "",
)
def test_layers_have_the_names_and_shapes_that_the_docstring_says(network, shapes):
    found = layer_outputs(network, torch.rand(2, *network.shape), shapes)
    assert found == {name: (2, *shape) for name, shape in shapes.items()}


def test_gradients_reach_every_parameter(network):
    network(torch.rand(4, *network.shape)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_an_image_is_answered_as_it_would_be_alone(network):
    images = torch.rand(3, *network.shape)
    network.eval()
    alone = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(network(images), alone, rtol=1e-4, atol=1e-5)


def test_a_single_image_can_be_trained_on(network):
    # The norm inside the pooled branch of DeepLabV3+ makes this impossible elsewhere.
    assert network(torch.rand(1, *network.shape)).isfinite().all()


def test_a_block_whose_last_norm_is_nought_passes_what_it_got():
    x = torch.randn(2, 3, 5, 6)
    block = BasicBlock(3, 5, stride=2)
    nn.init.zeros_(block.norm2.weight)
    expected = torch.cat([x[:, :, ::2, ::2].relu(), torch.zeros(2, 2, 3, 3)], 1)
    assert torch.equal(block(x), expected)


def test_the_codes_determine_the_outputs_linearly():
    network = NETWORKS["Coder"]().eval()
    images = torch.rand(6, *network.shape)
    codes = network.encode(images)
    assert codes.shape == (6, 3)
    torch.testing.assert_close(network(images), F.linear(codes, *network.head.parameters()))


def test_codes_have_either_sign():
    codes = Coder(n_codes=50).encode(torch.rand(20, 1, 32, 32))
    assert (codes < 0).any()
    assert (codes > 0).any()


@pytest.mark.parametrize("size", [(16, 24), (17, 30), (40, 8)])
def test_every_pixel_is_labelled_whatever_the_size(size):
    assert NETWORKS["SmallSegmenter"]()(torch.rand(2, 3, *size)).shape == (2, 5, *size)


def test_the_whole_image_is_one_of_the_views_at_the_bottleneck():
    pyramid = NETWORKS["SmallSegmenter"]().decoder.aspp.eval()
    x = torch.rand(1, 16, 12, 12, requires_grad=True)
    pyramid(x)[..., 0, 0].sum().backward()
    # A corner sees its neighbours at the atrous rates and, through the mean, all the rest.
    assert (x.grad != 0).any(1).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SmallCNN((1, 3, 28)), r"images of 3 × 28, of which 2 halvings leave nothing"),
        (lambda: SmallCNN(kernel=4), "kernel 4"),
        (lambda: SmallCNN(widths=()), r"widths \[\]"),
        (lambda: ResNet((3, 2, 2), blocks=(1, 1, 1)), "2 halvings"),
        (lambda: ResNet(blocks=(1, 0)), r"blocks \[1, 0\]"),
        (lambda: Coder((1, 4, 4)), "3 halvings"),
        (lambda: SmallSegmenter((3, 7, 64)), "7 × 64"),
    ],
)
def test_images_too_small_and_odd_numbers_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("network", [SmallCNN(), ResNet()], ids=["SmallCNN", "ResNet"])
def test_layers_can_be_sliced(network):
    x = torch.rand(4, *network.shape)
    network.eval()
    assert torch.equal(network[-1](network[:-1](x)), network(x))
