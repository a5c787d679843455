"""Video by continuous latent dynamics: prediction at any times (Predoc III, chapters 4 and 5)."""

from typing import TYPE_CHECKING

from common import exported

if TYPE_CHECKING:
    from common.data.videos.base import Clip as Clip
    from common.ode.solve import Solver as Solver
    from video_ode.dynamics.ode import NeuralODE as NeuralODE
    from video_ode.dynamics.sde import NeuralSDE as NeuralSDE
    from video_ode.latent_ode.model import LatentODE as LatentODE
    from video_ode.module import VideoPredictionModule as VideoPredictionModule
    from video_ode.optical_flow.estimator import FlowEstimator as FlowEstimator
    from video_ode.separation.model import Separation as Separation
    from video_ode.srvp.model import SRVP as SRVP
    from video_ode.svg.model import SVG as SVG

__getattr__, __dir__ = exported(
    __name__,
    {
        "common.data.videos.base": ["Clip"],
        "common.ode.solve": ["Solver"],
        "video_ode.dynamics.ode": ["NeuralODE"],
        "video_ode.dynamics.sde": ["NeuralSDE"],
        "video_ode.latent_ode.model": ["LatentODE"],
        "video_ode.module": ["VideoPredictionModule"],
        "video_ode.optical_flow.estimator": ["FlowEstimator"],
        "video_ode.separation.model": ["Separation"],
        "video_ode.srvp.model": ["SRVP"],
        "video_ode.svg.model": ["SVG"],
    },
)
