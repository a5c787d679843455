import pytest
import torch

from common.errors import InputError
from video_ode.frames import DCGANDecoder, DCGANEncoder, VGGDecoder, VGGEncoder

PAIRS = {"dcgan": (DCGANEncoder, DCGANDecoder), "vgg": (VGGEncoder, VGGDecoder)}
# Of the networks that SRVP was published with: channels, decoder's input, encoder, decoder.
PUBLISHED = {"dcgan": (1, 276, 3_804_160, 5_016_448), "vgg": (3, 306, 8_686_784, 13_278_144)}


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("size", [28, 32, 48, 64, 128])
@pytest.mark.parametrize("skips", [False, True])
def test_any_size_that_halves_comes_back(kind, size, skips):
    encode, decode = PAIRS[kind]
    shape = (3, size, size)
    encoder, decoder = encode(shape, width=4, code_size=10), decode(shape, 10, skips, width=4)
    codes, features = encoder(torch.rand(2, *shape))
    frames = decoder(codes, features if skips else ())
    assert codes.shape == (2, 10)
    assert frames.shape == (2, *shape)
    assert 0 < frames.min() < frames.max() < 1


@pytest.mark.parametrize("kind", PAIRS)
def test_weights_are_as_many_as_published(kind):
    channels, code, *counts = PUBLISHED[kind]
    encode, decode = PAIRS[kind]
    nets = encode((channels, 64, 64)), decode((channels, 64, 64), code, kind == "vgg")
    assert [sum(p.numel() for p in net.parameters()) for net in nets] == counts


@pytest.mark.parametrize("shape", [(1, 30, 32), (1, 20, 24), (1, 36, 36), (1, 7, 7)])
def test_other_sizes_are_refused(shape):
    with pytest.raises(InputError, match=f"{shape[1]}x{shape[2]}"):
        DCGANEncoder(shape)
