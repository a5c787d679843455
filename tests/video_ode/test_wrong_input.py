"""Laws of all entries of all video models: any kind of input gives the right answer or an error.

The right answer is that of the same frames as floats in [0, 1].
"""

import numpy as np
import pytest
import torch
from pytorch_lightning import Trainer
from torch.utils.data import DataLoader

from common.errors import InputError
from tests.laws import PREDICTORS
from tests.stubs.video_gan import LatentGenerator
from tests.video_ode import models
from video_ode.dynamics.recurrent import GRU
from video_ode.evaluation.protocol import Evaluation
from video_ode.module import VideoPredictionModule

T, N_COND = 5, 3
BYTES = (torch.arange(3 * T * 256) * 37).byte().reshape(3, T, 1, 16, 16)
UNIT = BYTES / 255
TIMES, MASK = torch.arange(float(T)), torch.ones(3, T, dtype=torch.bool)
RIGHT = {
    "bytes": BYTES,
    "numpy bytes": BYTES.numpy(),
    "numpy doubles": UNIT.double().numpy(),
    "list": UNIT.tolist(),
    "list of tensors": list(BYTES),
    "half precision": UNIT.half(),
    "labels beside": (BYTES, torch.tensor([1, 2, 3])),
}
WRONG = {
    "floats from 0 to 255": (BYTES.float(), "got floats from 0 to 255"),
    "floats from -1 to 1": (2 * UNIT - 1, "got floats from -1"),
    "integers": (BYTES.int(), "torch.int32"),
    "channels last": (BYTES.movedim(2, -1), "channels last"),
    "no batch axis": (BYTES[0], r"\(5, 1, 16, 16\); give \(videos, times"),
    "another size": (BYTES[..., :12, :], "for 1 x 16 x 16"),
    "another number of channels": (BYTES.repeat(1, 1, 3, 1, 1), "for 1 x 16 x 16"),
    "NaN": (UNIT.where(UNIT < 0.9, torch.nan), "NaN"),
    "no video": (BYTES[:0], "at least one video"),
    "another device": (BYTES.to("meta"), "on meta, but the model is on cpu"),
}
ENTRIES = {
    "predict": lambda model, x: model.predict(x, TIMES, TIMES + 2),
    "loss": lambda model, x: model.loss(x, TIMES, MASK, N_COND, 1.0)[0],
    "scores": lambda model, x: torch.stack([*model.scores(x, TIMES, MASK, N_COND).values()]),
}
ENTRIES_OF_SEPARATING = {
    "swap": lambda model, x: model.with_content(BYTES, TIMES, TIMES, 1, model.content_of(x)),
    "swap's motion": lambda model, x: model.with_content(
        x, TIMES, TIMES, 1, model.content_of(BYTES)
    ),
    "interpolate": lambda model, x: model.interpolate(x, BYTES, TIMES, TIMES, [0.5]),
    "interpolate's other": lambda model, x: model.interpolate(BYTES, x, TIMES, TIMES, [0.5]),
}
CASES = [(model, entry) for model in PREDICTORS for entry in ENTRIES]
CASES.remove(("separation", "scores"))  # it has no likelihood
CASES += [(model, entry) for model in ("srvp", "separation") for entry in ENTRIES_OF_SEPARATING]


@pytest.fixture(params=CASES, ids=lambda case: " ".join(case))
def entry(request):
    """Function from a video to the result of an entry, with the same random numbers each time."""
    name, entry = request.param
    torch.manual_seed(0)
    model = PREDICTORS[name]().eval()

    def called(video):
        torch.manual_seed(1)
        return {**ENTRIES, **ENTRIES_OF_SEPARATING}[entry](model, video).detach()

    return called


@pytest.mark.parametrize("kind", RIGHT)
def test_every_kind_gives_the_answer_of_floats(entry, kind):
    tolerance = 1e-3 if kind == "half precision" else 1e-6
    torch.testing.assert_close(entry(RIGHT[kind]), entry(UNIT), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", WRONG)
def test_every_other_kind_gives_one_clear_error(entry, kind):
    video, message = WRONG[kind]
    with pytest.raises(InputError, match=message):
        entry(video)


@pytest.mark.parametrize("name", PREDICTORS)
def test_times_and_masks_may_be_arrays_and_lists(name):
    model = PREDICTORS[name]().eval()
    found = []
    for convert in (
        lambda x: x,
        lambda x: x.numpy(),
        lambda x: x.double().numpy(),
        torch.Tensor.tolist,
    ):
        torch.manual_seed(1)
        found.append(model.predict(BYTES, convert(TIMES), convert(TIMES + 1), 1, MASK.numpy()))
    assert all(torch.equal(found[0], other) for other in found[1:])


@pytest.mark.parametrize("name", PREDICTORS)
def test_one_frame_is_predicted_at_its_own_time(name):
    model = PREDICTORS[name]().eval()
    n = {"srvp": 3, "separation": 2}.get(name, 1)  # the frames that they infer from
    assert model.predict(BYTES[:, :n], TIMES[:n], [0.0]).shape == (1, 3, 1, 1, 16, 16)


def test_swaps_and_interpolations_need_pairs():
    model = models.srvp().eval()
    with pytest.raises(InputError, match="2 contents for 3 videos"):
        model.with_content(BYTES, TIMES, TIMES, 1, model.content_of(BYTES[:2]))
    with pytest.raises(InputError, match="1 other videos for 3"):
        model.interpolate(BYTES, BYTES[:1], TIMES, TIMES, [0.5])
    with pytest.raises(InputError, match="shares"):
        model.interpolate(BYTES, BYTES, TIMES, TIMES, [0.5, 1.5])
    with pytest.raises(InputError, match="got 2 frames, but SRVP infers from n_inference 3"):
        model.content_of(BYTES[:, :2])


def trained(batch):
    module = VideoPredictionModule(models.svg(), N_COND)
    trainer = Trainer(fast_dev_run=True, accelerator="cpu", logger=False,
                      enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    torch.manual_seed(1)
    served = DataLoader([batch], batch_size=None)
    trainer.fit(module, served, served)
    loss = float(trainer.callback_metrics["train/loss"])
    trainer.test(module, served, verbose=False)
    return loss


@pytest.mark.parametrize(
    "kind", ["numpy bytes", "list of tensors", "half precision", "labels beside"]
)
def test_training_steps_take_batches_without_times(kind):
    torch.manual_seed(0)
    expected = trained(UNIT)
    torch.manual_seed(0)
    assert trained(RIGHT[kind]) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("kind", [kind for kind in WRONG if kind != "another device"])
def test_training_steps_refuse_other_batches(kind):
    video, message = WRONG[kind]
    with pytest.raises(InputError, match=message):
        trained(video)


def test_the_evaluation_needs_clips():
    trainer = Trainer(fast_dev_run=True, accelerator="cpu", logger=False,
                      callbacks=[Evaluation()], enable_progress_bar=False)  # fmt: skip
    with pytest.raises(InputError, match="Evaluation needs clips"):
        trainer.test(VideoPredictionModule(models.svg(), N_COND), DataLoader([UNIT], None))


def test_training_steps_refuse_short_videos():
    with pytest.raises(InputError, match="videos of 2 frames, n_cond is 3"):
        trained(BYTES[:, :2])


@pytest.mark.parametrize(
    ("n", "times", "message"),
    [
        (0, TIMES, "got n 0"),
        (2, TIMES.flip(0), "ascending"),
        (2, [0.0, 1, 1], "all finite and different"),
        (2, [], "give at least one"),
        (2, [0.0, np.nan], "finite"),
    ],
)
def test_generators_refuse_wrong_requests(n, times, message):
    generator = LatentGenerator((1, 16, 16), GRU)
    assert generator.generate(2, TIMES.numpy()).shape == (2, T, 1, 16, 16)
    with pytest.raises(InputError, match=message):
        generator.generate(n, times)
