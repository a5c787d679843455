"""Lists of the classes that inherit the laws: whoever adds a class adds one line here.

The comment over each list names the tests that state the laws.
"""

from functools import partial

import torch

from common.flows.base import Compose
from common.flows.pixel import Logit
from common.ode.solve import Solver
from tests.common.flows import bijections
from tests.video_ode import models
from video_ode.dynamics.ode import NeuralODE
from video_ode.dynamics.recurrent import GRU, MLPDynamics
from video_ode.dynamics.residual import ResidualEuler
from video_ode.dynamics.sde import NeuralSDE

# tests/common/ode/test_solve.py: the order of each method.
SOLVERS = {
    "euler": 1,
    "midpoint": 2,
    "heun2": 2,
    "heun3": 3,
    "rk4": 4,
    "fehlberg2": 2,
    "adaptive_heun": 2,
    "bosh3": 3,
    "dopri5": 5,
    "dopri8": 8,
}

# tests/common/flows/test_bijections.py: how to make one, how to draw images for it, and the number
# of channels of its context.
BIJECTIONS = {
    "logit": (lambda: Logit(0.05), torch.rand, 0),
    "ink map": (bijections.ink_map, bijections.half_ground, 0),
    "standardize": (bijections.standardize, torch.randn, 0),
    "cnf": (bijections.cnf, torch.randn, 0),
    "conditional cnf": (lambda: bijections.cnf(3), torch.randn, 3),
    "composed": (
        lambda: Compose(
            [Logit(1e-3), bijections.standardize(), bijections.cnf(3), bijections.cnf(3)]
        ),
        torch.rand,
        3,
    ),
}

# tests/video_ode/dynamics/test_laws.py: from a field factory to a dynamics factory.
DYNAMICS = {
    "ode": lambda field: partial(NeuralODE, field=field, solver=Solver("rk4", step_size=0.25)),
    "adaptive ode": lambda field: partial(
        NeuralODE, field=field, solver=Solver("dopri5", rtol=1e-8, atol=1e-8)
    ),
    "residual": lambda field: partial(ResidualEuler, field=field, steps=4),
    "mlp": lambda field: partial(MLPDynamics, field=field),
    "gru": lambda field: GRU,
    "sde": lambda field: partial(
        NeuralSDE, drift=field, diffusion=field, step_size=0.25, prior_drift=field
    ),
}

# tests/video_ode/test_predictor.py: small predictors of frames of `models.SHAPE`.
PREDICTORS = {"latent_ode": models.latent_ode, "srvp": models.srvp, "svg": models.svg}
