"""Tiny models of each package, as the `model:` part of a configuration."""

from textwrap import indent

FIELD = "{class_path: common.nn.mlp.MLPField, init_args: {width: 8}}"
DCGAN = "class_path: video_ode.frames.dcgan.DCGAN"
ENCODER = f"{{{DCGAN}Encoder, init_args: {{width: 4, code_size: 8}}}}"
DECODER = f"{{{DCGAN}Decoder, init_args: {{width: 4}}}}"
FRAMES = f"""
  shape: [1, 16, 16]
  encoder: {ENCODER}
  decoder: {DECODER}"""
PREDICTORS = {
    "latent_ode": f"""
class_path: video_ode.latent_ode.model.LatentODE
init_args: {FRAMES}
  recurrent:
    class_path: video_ode.latent_ode.encoders.ODERNNEncoder
    init_args: {{hidden: 8, field: {FIELD}}}
  dynamics:
    class_path: video_ode.dynamics.ode.NeuralODE
    init_args: {{field: {FIELD}, solver: {{method: rk4, step_size: 1.0}}}}
  latent_size: 6
  growth: 0.5""",
    "srvp": f"""
class_path: video_ode.srvp.model.SRVP
init_args: {FRAMES}
  dynamics:
    class_path: video_ode.dynamics.residual.ResidualEuler
    init_args: {{field: {FIELD}}}
  y_size: 4
  z_size: 3
  n_inference: 3
  hidden: 8
  prior_width: 8""",
    "separation": f"""
class_path: video_ode.separation.model.Separation
init_args:
  shape: [1, 16, 16]
  content: {ENCODER}
  motion: {ENCODER}
  decoder: {DECODER}
  dynamics:
    class_path: video_ode.dynamics.residual.ResidualBlocks
    init_args: {{field: {FIELD}}}
  n_given: 3""",
    "svg": f"""
class_path: video_ode.svg.model.SVG
init_args: {FRAMES}
  hidden: 8""",
}
FLOW = """
model:
  class_path: msflow.module.MultiScaleFlowModule
  init_args:
    flow:
      shape: [1, 28, 28]
      pixel_map: {class_path: common.flows.pixel.InkMap}
      pyramid: {class_path: common.flows.pyramid.UnimodularPyramid, init_args: {n_scales: 3}}
      field: {class_path: common.nn.fields.ResidualField, init_args: {width: 4, blocks: 1}}
      solver: {method: rk4, step_size: 0.5}
    objective: {class_path: msflow.objectives.FlowMatching}
    optimizer: {class_path: torch.optim.Adam, init_args: {lr: 0.01}}
    statistics_images: 100
"""
NETWORK = """
model:
  class_path: mimic.supervised.module.SupervisedModule
  init_args:
    network: {class_path: SmallCNN, init_args: {widths: [4, 4], hidden: 8}}
    task: {class_path: Classification}
"""


def video(name):
    """Model of videos with one of the predictors."""
    return f"""
model:
  class_path: video_ode.module.VideoPredictionModule
  init_args:
    n_cond: 3
    predictor:{indent(PREDICTORS[name], 6 * " ")}
"""
