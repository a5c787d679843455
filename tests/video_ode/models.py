"""Small models that the tests share."""

from functools import partial

import torch

from common.nn.mlp import MLPField
from common.ode.solve import Solver
from video_ode.dynamics.ode import NeuralODE
from video_ode.dynamics.residual import ResidualBlocks, ResidualEuler
from video_ode.frames.dcgan import DCGANDecoder, DCGANEncoder
from video_ode.frames.vgg import VGGDecoder, VGGEncoder
from video_ode.latent_ode.encoders import GRUEncoder
from video_ode.latent_ode.model import LatentODE
from video_ode.separation.model import Separation
from video_ode.srvp.model import SRVP
from video_ode.svg.model import SVG

SHAPE = (1, 16, 16)
DCGAN = (partial(DCGANEncoder, width=4, code_size=8), partial(DCGANDecoder, width=4))
VGG = (partial(VGGEncoder, width=4, code_size=8), partial(VGGDecoder, width=4))
FIELD = partial(MLPField, width=16)


def video(frames, n=3, shape=SHAPE):
    return torch.rand(n, frames, *shape)


def every(frames, n=3):
    """Times and mask of whole videos."""
    return torch.arange(float(frames)), torch.ones(n, frames, dtype=torch.bool)


def srvp(architecture=DCGAN, steps=1, dynamics=None, **settings):
    dynamics = dynamics or partial(ResidualEuler, field=FIELD, steps=steps)
    sizes = dict(y_size=4, z_size=3, n_inference=3, hidden=8, prior_width=8)
    return SRVP(SHAPE, *architecture, dynamics, **{**sizes, **settings})


def latent_ode(recurrent=None, dynamics=None, **settings):
    solver = Solver("rk4", step_size=0.5)
    dynamics = dynamics or partial(NeuralODE, field=FIELD, solver=solver)
    recurrent = recurrent or partial(GRUEncoder, hidden=8)
    return LatentODE(SHAPE, DCGAN[0], recurrent, DCGAN[1], dynamics, latent_size=6, **settings)


def separation(architecture=DCGAN, dynamics=None, **settings):
    encoder, decoder = architecture
    dynamics = dynamics or partial(ResidualBlocks, field=FIELD, blocks=2)
    networks = dict(motion=encoder, decoder=decoder, dynamics=dynamics, content=encoder)
    return Separation(SHAPE, **{**networks, "n_given": 2, **settings})


def svg(**settings):
    return SVG(SHAPE, *DCGAN, **{"z_size": 3, "hidden": 8, **settings})
