"""MSFlow: images as multi-scale continuous normalizing flows (Predoc III, chapter 6)."""

from typing import TYPE_CHECKING

from common import exported

if TYPE_CHECKING:
    from common.flows.cnf import CNF as CNF
    from common.flows.pixel import InkMap as InkMap
    from common.flows.pixel import Logit as Logit
    from common.flows.pyramid import HaarPyramid as HaarPyramid
    from common.flows.pyramid import UnimodularPyramid as UnimodularPyramid
    from common.ode.divergence import Exact as Exact
    from common.ode.divergence import Hutchinson as Hutchinson
    from common.ode.solve import Solver as Solver
    from msflow.flow import MultiScaleFlow as MultiScaleFlow
    from msflow.module import MultiScaleFlowModule as MultiScaleFlowModule
    from msflow.objectives import FlowMatching as FlowMatching
    from msflow.objectives import Likelihood as Likelihood

__getattr__, __dir__ = exported(
    __name__,
    {
        "common.flows.cnf": ["CNF"],
        "common.flows.pixel": ["InkMap", "Logit"],
        "common.flows.pyramid": ["HaarPyramid", "UnimodularPyramid"],
        "common.ode.divergence": ["Exact", "Hutchinson"],
        "common.ode.solve": ["Solver"],
        "msflow.flow": ["MultiScaleFlow"],
        "msflow.module": ["MultiScaleFlowModule"],
        "msflow.objectives": ["FlowMatching", "Likelihood"],
    },
)
