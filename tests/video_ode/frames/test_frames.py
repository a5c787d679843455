from functools import partial

import pytest
import torch

from common.errors import InputError
from video_ode.frames.dcgan import DCGANDecoder, DCGANEncoder
from video_ode.frames.small import SmallDecoder, SmallEncoder
from video_ode.frames.sprites import SpriteDecoder
from video_ode.frames.vgg import VGGDecoder, VGGEncoder

PAIRS = {"dcgan": (DCGANEncoder, DCGANDecoder), "vgg": (VGGEncoder, VGGDecoder)}
# Of the networks that SRVP was published with: channels, decoder's input, encoder, decoder.
PUBLISHED = {"dcgan": (1, 276, 3_804_160, 5_016_448), "vgg": (3, 306, 8_686_784, 13_278_144)}


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize(
    "size", [(28, 28), (32, 32), (48, 48), (64, 64), (128, 128), (36, 64), (64, 36), (72, 128)]
)
@pytest.mark.parametrize("skips", [False, True])
def test_any_size_that_halves_comes_back(kind, size, skips):
    encode, decode = PAIRS[kind]
    shape = (3, *size)
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


@pytest.mark.parametrize("shape", [(1, 30, 32), (1, 22, 64), (1, 44, 44), (1, 7, 7), (1, 64, 63)])
def test_other_sizes_are_refused(shape):
    with pytest.raises(InputError, match=f"{shape[1]}x{shape[2]}"):
        DCGANEncoder(shape)


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 28, 28), (1, 64, 64), (1, 36, 64)])
@pytest.mark.parametrize("decode", [SmallDecoder, SpriteDecoder])
def test_small_networks_keep_the_shape_and_learn(shape, decode):
    encoder, decoder = SmallEncoder(shape, widths=(4, 8), code_size=10), decode(shape, 10)
    codes, _ = encoder(torch.rand(4, *shape))
    frames = decoder(codes)
    assert codes.shape == (4, 10)
    assert frames.shape == (4, *shape)
    assert 0 <= frames.min() < frames.max() <= 1
    frames.square().sum().backward()
    for p in (*encoder.parameters(), *decoder.parameters()):
        assert p.grad.abs().max() > 0


def test_a_sprite_is_shifted_bilinearly(double):
    decoder = SpriteDecoder((1, 32, 32), 3, size=6)
    decoder.paint[0].weight.data.zero_()  # whatever the code, the same sprite
    decoder.place.weight.data = torch.tensor([[1.0, 0, 0], [0, 1, 0]]) / decoder.reach
    decoder.place.bias.data.zero_()
    shifts = torch.tensor([[0.0, 0.0], [4.0, -3.0], [0.5, 0.0]])
    frames = decoder(torch.cat([shifts, torch.zeros(3, 1)], 1))[:, 0]
    still, moved, between = -(1 - frames).log() - decoder.BACKGROUND
    assert still[:13].abs().max() < 1e-12  # six pixels in the middle of 32
    torch.testing.assert_close(moved, still.roll((4, -3), (0, 1)))
    torch.testing.assert_close(between, (still + still.roll(1, 0)) / 2)


def test_content_draws_the_sprites_and_motion_places_them(double):
    decoder = SpriteDecoder((1, 32, 32), 5, size=6, content_size=3)
    codes = torch.cat([torch.randn(3).expand(2, 3), torch.randn(2, 2)], 1)
    one, other = decoder(codes)
    assert not torch.equal(one, other)
    ink = [-(1 - frame).log().sum() for frame in (one, other)]
    torch.testing.assert_close(*ink)  # the same sprite elsewhere
    with pytest.raises(InputError, match="content_size 5 for codes of 5 numbers"):
        SpriteDecoder((1, 32, 32), 5, content_size=5)


def test_a_painter_draws_the_sprites():
    painter = partial(DCGANDecoder, width=4)
    decoder = SpriteDecoder((1, 32, 32), 5, content_size=3, painter=painter)
    decoder.place.weight.data.zero_()
    decoder.place.bias.data.zero_()
    codes = torch.randn(6, 5)
    black, centre = torch.zeros(6, 32, 32), slice(8, 24)
    black[:, centre, centre] = decoder.eval().paint(codes[:, :3])[:, 0]
    torch.testing.assert_close(decoder(codes)[:, 0], black, rtol=0, atol=0.004)
    two = SpriteDecoder((3, 32, 32), 5, sprites=2, painter=painter)
    assert two(codes).shape == (6, 3, 32, 32)


def test_ink_of_sprites_adds_up_below_white():
    decoder = SpriteDecoder((1, 32, 32), 4, sprites=3)
    frames = decoder(torch.randn(5, 4))
    assert 0.5 < frames.max() < 1


@pytest.mark.parametrize("decode", [SmallDecoder, SpriteDecoder])
def test_decoders_without_skips_say_so(decode):
    with pytest.raises(InputError, match="DCGANDecoder or VGGDecoder"):
        decode((1, 32, 32), 8, True)


def test_frames_that_cannot_be_halved_are_refused():
    with pytest.raises(InputError, match="halved 3 times"):
        SmallEncoder((1, 28, 28))
