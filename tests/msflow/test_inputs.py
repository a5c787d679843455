"""Images of the wrong kind: the same answer as for their bytes, or one clear error."""

from functools import cache

import pytest
import torch

from common.errors import InputError
from common.ode.divergence import Hutchinson
from msflow.module import MultiScaleFlowModule
from msflow.objectives import FlowMatching, Likelihood
from tests.msflow import flows

PIXELS = torch.randint(0, 256, (4, 1, 4, 4), dtype=torch.uint8)
SHARES = PIXELS / 255
NAN = SHARES.clone()
NAN[1, 0, 2, 3] = torch.nan

SAME = {
    "floats in [0, 1]": SHARES,
    "half precision": SHARES.half(),
    "double precision": SHARES.double(),
    "numpy bytes": PIXELS.numpy(),
    "numpy floats": SHARES.numpy(),
    "a list of images": list(PIXELS),
    "labels beside": (PIXELS, torch.arange(4)),
    "labels beside, as a list": [PIXELS, torch.arange(4)],
}
REFUSED = {
    "floats from 0 to 255": (PIXELS.float(), "got floats from"),
    "floats in [-1, 1]": (2 * SHARES - 1, "got floats from"),
    "floats between grey levels": (SHARES * 0.9 + 0.0513, "between the grey levels"),
    "integers": (PIXELS.long(), "type torch.int64"),
    "channels last": (PIXELS.movedim(1, -1), "channels last"),
    "no batch axis": (PIXELS[0], "at least one image"),
    "an axis of time": (PIXELS[None], "at least one image"),
    "another size": (torch.zeros(4, 1, 8, 8, dtype=torch.uint8), "4 x 4"),
    "another number of channels": (torch.zeros(4, 3, 4, 4, dtype=torch.uint8), "1 x 4 x 4"),
    "NaN": (NAN, "NaN or infinite"),
    "an empty batch": (PIXELS[:0], "at least one image"),
    "words": (["a", "b"], "no array of numbers"),
    "another device": (PIXELS.to("meta"), "on meta, but the model is on cpu"),
}


@pytest.fixture(autouse=True, scope="module")
def made():
    """The models, which draw their weights, before any test sets a seed."""
    return [module(), module(Likelihood)]


@cache
def module(objective=FlowMatching):
    flow = flows.make_flow(divergence=Hutchinson(), steps=1)
    return MultiScaleFlowModule(flow, objective(), n_draws=1)


def statistics(x):
    flow = flows.make_flow(steps=1)
    flow.fit_statistics(x)
    return flow.scales[1].detail.mean


ENTRIES = {
    "log_prob": lambda x: module().flow.log_prob(x),
    "likelihoods": lambda x: module().flow.likelihoods(x, dequantization="midpoint").total,
    "solver_error": lambda x: module().flow.solver_error(x),
    "fit_statistics": statistics,
    "module": lambda x: module()(x),
    "training by flow matching": lambda x: module().training_step(x, 0),
    "training by likelihood": lambda x: module(Likelihood).training_step(x, 0),
    "predict_step": lambda x: module().predict_step(x, 0),
}
quiet = pytest.mark.filterwarnings("ignore:You are trying to `self.log")


@quiet
@pytest.mark.parametrize("kind", SAME)
@pytest.mark.parametrize("entry", ENTRIES)
def test_images_of_any_kind_have_the_answer_of_their_bytes(entry, kind, monkeypatch):
    monkeypatch.setattr("random.random", lambda: 0.5)
    answers = []
    for x in (PIXELS, SAME[kind]):
        torch.manual_seed(0)
        answers.append(ENTRIES[entry](x))
    assert torch.equal(*answers)


@quiet
@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("entry", ENTRIES)
def test_other_images_end_in_one_clear_error(entry, kind):
    x, words = REFUSED[kind]
    with pytest.raises(InputError, match=words):
        ENTRIES[entry](x)


@pytest.mark.parametrize("arguments", [{"n": 0}, {"n": -1}, {"n": 2, "temperature": -1.0}])
def test_samples_need_a_number_and_a_temperature(arguments):
    for model in (module(), module().flow):
        with pytest.raises(InputError, match=r"got (n|temperature) -?[01]"):
            model.sample(**arguments)
