"""Audits say what a closed form says, of data that nothing was trained on."""

import copy
import inspect
import math
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import pytorch_lightning as pl
import torch
from jsonargparse import ArgumentParser
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from common.errors import InputError, check_words
from mimic import (
    MiMIc,
    MiMIcRegularizer,
    TotalCorrelationAudit,
    measure_total_correlation,
    mutual_information,
)
from mimic.critic.terms import Decomposition
from mimic.features.layers import Catcher, find_layers
from mimic.studies.distributions import Equicorrelated

QUICK = {"steps": 300, "noise": 0.0}


def pair(n, rho):
    x = torch.randn(n, 2)
    return torch.stack([x[:, 0], rho * x[:, 0] + (1 - rho**2) ** 0.5 * x[:, 1]], 1)


@pytest.mark.parametrize("rho", [0.0, 0.6, 0.9])
def test_gaussians(rho):
    found = measure_total_correlation(5 * pair(8000, rho) + 1, **QUICK)
    truth = -0.5 * math.log(1 - rho**2)
    assert found.value == pytest.approx(truth, abs=0.04)
    assert 0 <= found.error < 0.03


def test_what_no_pair_shows():
    bits = torch.randint(2, (6000, 2))
    z = torch.cat([bits, bits.sum(1, keepdim=True) % 2], 1) + 0.1 * torch.randn(6000, 3)
    assert measure_total_correlation(z, **QUICK).value == pytest.approx(math.log(2), rel=0.07)


def test_noise_makes_copies_finite():
    """Of two copies with noise of variance s² each: a pair correlated by 1 / (1 + s²)."""
    x = torch.randn(8000, 1)
    found = measure_total_correlation(x.expand(-1, 2), steps=400, noise=0.3)
    rho = 1 / 1.09
    assert found.value == pytest.approx(-0.5 * math.log(1 - rho**2), rel=0.07)


def test_within_classes():
    labels = torch.randint(4, (8000,))
    z = labels[:, None] + pair(8000, 0.6)
    truth = -0.5 * math.log(1 - 0.36)
    found = measure_total_correlation(z, labels, 4, **QUICK)
    assert found.value == pytest.approx(truth, abs=0.04)
    assert measure_total_correlation(z, **QUICK).value > 2 * truth


def test_few_samples_of_independent_channels_show_nothing():
    """A critic that overfits would say less than nothing: its best state is kept."""
    found = measure_total_correlation(torch.randn(300, 16), steps=400)
    assert found.value == pytest.approx(0, abs=0.1)


def test_positions_of_an_image_stay_on_one_side():
    """Were they parted, the critic would have seen what it is judged on."""
    images = torch.randn(60, 1, 6).expand(-1, 20, -1).reshape(1200, 6)
    found = measure_total_correlation(images, positions=20, steps=400, noise=0.01)
    assert found.value < 1


def test_the_global_state_and_the_features_are_left_alone():
    z = torch.randn(500, 3)
    state, before = torch.get_rng_state(), z.clone()
    once, again = (measure_total_correlation(z, steps=20) for _ in range(2))
    assert once == again
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(before, z)


@pytest.mark.parametrize(
    ("z", "options", "message"),
    [
        (torch.randn(10, 3), {}, "got 10 samples"),
        (torch.randn(81, 3), {"positions": 2}, "all positions of each"),
        (torch.randn(50, 3), {"groups": [0, 1]}, "2 groups for 3 channels"),
        (torch.randn(50, 3), {"labels": torch.arange(50), "n_classes": 2}, "from 0 to 49"),
        (torch.full((50, 3), math.nan), {}, "aren't finite"),
        (torch.randn(50, 3), {"labels": torch.zeros(50)}, "both labels and n_classes"),
        (torch.randn(50, 3), {"n_classes": 2}, "both labels and n_classes"),
    ],
)
def test_unfit_samples_are_refused(z, options, message):
    with pytest.raises(InputError, match=message):
        measure_total_correlation(z, **options)


def test_small_samples_of_independent_channels_share_little():
    """The best state of a critic is chosen on so many samples that chance doesn't choose it."""
    for seed in range(5):
        torch.manual_seed(seed)
        assert abs(measure_total_correlation(torch.randn(40, 4), seed=seed).value) < 0.7


def test_few_samples_of_many_channels():
    """The critic that is kept is one of before it knew its samples by heart."""
    for seed in range(3):
        z = Equicorrelated(16, 2.0).draw(500, torch.Generator().manual_seed(seed))
        assert 1 < measure_total_correlation(z, noise=0.0, steps=300, seed=seed).value < 2.5


def test_mutual_information_of_numbers():
    x, y = pair(8000, 0.8).T
    assert mutual_information(x, y, **QUICK).value == pytest.approx(TRUTH, abs=0.05)


def test_mutual_information_of_vectors():
    """Of two Gaussian vectors whose numbers are correlated in pairs."""
    z = torch.stack([pair(20_000, 0.7) for _ in range(3)], 1)
    found = mutual_information(z[..., 0], z[..., 1], steps=800, lr=1e-3, noise=0.0)
    assert found.value == pytest.approx(-1.5 * math.log(1 - 0.49), rel=0.06)


@pytest.mark.parametrize("decomposition", ["line", "tree"])
def test_decompositions_measure_the_same(decomposition):
    z = torch.cat([pair(6000, 0.7), pair(6000, 0.5)], 1)
    truth = -0.5 * math.log((1 - 0.49) * (1 - 0.25))
    found = measure_total_correlation(z, decomposition=decomposition, **QUICK)
    assert found.value == pytest.approx(truth, abs=0.05)


def test_the_error_is_the_spread():
    """Rows of one image aren't independent of one another."""
    found = []
    for seed in range(8):
        torch.manual_seed(seed)
        z = pair(200, 0.9).repeat_interleave(8, 0) + 0.1 * torch.randn(1600, 2)
        found.append(measure_total_correlation(z, positions=8, steps=150, seed=seed))
    spread = torch.tensor([f.value for f in found]).std().item()
    assert 0.5 * spread < sum(f.error for f in found) / 8 < 2.5 * spread


class Net(pl.LightningModule):
    """Puts the data through unchanged, so that what they share is known."""

    def __init__(self):
        super().__init__()
        self.first, self.same, self.scale = nn.Linear(2, 2), nn.Identity(), nn.Linear(2, 1)
        with torch.no_grad():
            self.first.weight.copy_(torch.eye(2))

    def step(self, batch, batch_idx, dataloader_idx=0):
        return self.scale(self.same(self.first(batch[0]))).square().mean()

    training_step = validation_step = test_step = step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def batches(n=3000, size=500):
    z = pair(n, 0.8)
    return DataLoader(TensorDataset(z, torch.arange(n) % 2), batch_size=size)


def trainer(*callbacks, **options):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    off = {"logger": False, "enable_checkpointing": False, **quiet}
    return pl.Trainer(accelerator="cpu", max_epochs=2, callbacks=list(callbacks), **off, **options)


TRUTH = -0.5 * math.log(1 - 0.64)


def test_audit_of_test_data():
    audit = TotalCorrelationAudit("same", **QUICK)
    run = trainer(audit)
    run.test(Net(), batches(), verbose=False)
    logged = {key: float(value) for key, value in run.logged_metrics.items()}
    assert logged["audit/same/tc"] == pytest.approx(TRUTH, abs=0.06)
    assert logged["audit/same/tc_gaussian"] == pytest.approx(TRUTH, abs=0.06)
    assert audit.measured["same"].value == pytest.approx(logged["audit/same/tc"])


def test_audit_at_the_end_of_training_beside_the_plugin():
    audit = TotalCorrelationAudit(["same", "scale"], samples=1000, steps=20)
    with pytest.raises(InputError, match="audit of layer scale: got a feature of 1"):
        trainer(audit).fit(Net(), batches(), batches())
    audit = TotalCorrelationAudit("same", samples=1000, **QUICK)
    net = Net()
    trainer(MiMIc("first", weight=0.0), audit).fit(net, batches(), batches())
    assert audit.measured["same"].value == pytest.approx(TRUTH, abs=0.15)
    assert not net.same._forward_hooks


@pytest.mark.parametrize(("every", "times"), [(None, 1), (1, 2), (3, 0)])
def test_audits_come_when_they_should(every, times, monkeypatch):
    audit, seen = TotalCorrelationAudit("same", every_n_epochs=every, steps=2), []
    monkeypatch.setattr(
        audit,
        "_finish",
        lambda *args, finish=audit._finish: (seen.append(bool(audit._kept)), finish(*args)),
    )
    trainer(audit).fit(Net(), batches(100, 50), batches(100, 50))
    assert seen.count(True) == times


def test_of_several_validations_the_last_is_audited(monkeypatch):
    audit, steps = TotalCorrelationAudit("same", steps=2), []
    measure = audit._measure
    monkeypatch.setattr(
        audit, "_measure", lambda *args: steps.append(run.global_step) or measure(*args)
    )
    run = trainer(audit, val_check_interval=0.3)
    run.fit(Net(), batches(500, 50), batches(100, 50))
    assert steps == [10 + 9]


def test_every_loader_is_audited_by_itself():
    audit = TotalCorrelationAudit("same", **QUICK)
    run, other = trainer(audit), DataLoader(TensorDataset(torch.randn(3000, 2)), batch_size=500)
    run.test(Net(), [batches(), other], verbose=False)
    logged = run.logged_metrics
    assert logged["audit/same/tc/dataloader_idx_0"] == pytest.approx(TRUTH, abs=0.06)
    assert logged["audit/same/tc/dataloader_idx_1"] == pytest.approx(0, abs=0.03)
    assert set(audit.measured) == {"same/dataloader_idx_0", "same/dataloader_idx_1"}


def test_calls_after_a_batch_are_no_part_of_the_audit():
    class Busy(Net):
        def on_test_batch_end(self, outputs, batch, batch_idx, dataloader_idx=0):
            self.same(torch.randn(7, 3, 4))  # another size

    audit = TotalCorrelationAudit("same", **QUICK)
    trainer(audit).test(Busy(), batches(), verbose=False)
    assert audit.measured["same"].value == pytest.approx(TRUTH, abs=0.06)


def test_two_audits_of_a_layer_have_names_of_their_own():
    within = {"labels": 1, "n_classes": 2}
    audits = [
        TotalCorrelationAudit("same", steps=2, name=n, **o) for n, o in (("a", {}), ("b", within))
    ]
    run = trainer(*audits)
    run.test(Net(), batches(), verbose=False)
    for audit in audits:
        logged = run.logged_metrics[f"{audit.name}/same/tc"]
        assert logged == pytest.approx(audit.measured["same"].value)


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_layers_that_cannot_be_measured_are_no_reason_to_lose_a_run(value):
    audit, net = TotalCorrelationAudit("same", **QUICK), Net()
    nn.init.constant_(net.first.weight, value)
    with pytest.warns(
        UserWarning, match="no audit of layer same: (all 2 channels are|got samples)"
    ):
        trainer(audit).test(net, batches(), verbose=False)
    assert not audit.measured


def test_audit_doesnt_change_training():
    results = []
    for callbacks in ([], [TotalCorrelationAudit("same", every_n_epochs=1, steps=5)]):
        torch.manual_seed(0)
        net = Net()
        shuffled = DataLoader(pair(200, 0.5)[:, None], batch_size=20, shuffle=True)
        trainer(*callbacks).fit(net, shuffled, batches(100, 50))
        results.append(copy.deepcopy(net.scale.weight))
    assert torch.equal(*results)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_classes": 3}, "needs both"),
        ({"samples": 5}, "; give 40 or more"),
        ({"layers": "sane"}, "no layer 'sane'; there are, for instance, same"),
        ({"labels": 5, "n_classes": 2}, "without 5; change labels"),
    ],
)
def test_misuse_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        trainer(TotalCorrelationAudit(**{"layers": "same", **options})).test(Net(), batches())


# Layers -------------------------------------------------------------------------------------


@pytest.fixture
def model():
    block = lambda: nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    return nn.ModuleDict({"layer1": block(), "layer2": block(), "head": nn.Linear(2, 2)})


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (["layer1"], ["layer1"]),
        (["layer*"], ["layer1", "layer2"]),
        (["layer*.0"], ["layer1.0", "layer2.0"]),
        (["head", "layer[12].1"], ["head", "layer1.1", "layer2.1"]),
    ],
)
def test_layers_by_name_and_glob(asked, found, model):
    assert list(find_layers(model, asked)) == found


def test_layers_by_module(model):
    assert find_layers(model, [model["layer2"][0]]) == {"layer2.0": model["layer2"][0]}


def test_names_inside_compiled_modules_stay(model):
    model["layer1"] = torch.compile(model["layer1"])
    assert list(find_layers(model, ["layer1.0"])) == ["layer1.0"]


def test_catcher_keeps_every_call_while_it_is_asked_to(model):
    catcher = Catcher(find_layers(model, ["head"]))
    x = torch.randn(3, 2)
    model["head"](x)
    catcher.start()
    outputs = [model["head"](x), model["head"](2 * x)]
    kept = catcher.stop()["head"]
    model["head"](x)
    assert all(map(torch.equal, kept, outputs))
    assert len(kept) == 2
    catcher.remove()
    assert not model["head"]._forward_hooks


def test_entries_of_outputs(model):
    lstm = nn.LSTM(2, 3)
    holder = nn.ModuleDict({"lstm": lstm})
    catcher = Catcher(find_layers(holder, ["lstm"]), select=0)
    catcher.start()
    output, _ = lstm(torch.randn(5, 2))
    (kept,) = catcher.stop()["lstm"]
    assert torch.equal(kept, output)
    output.zero_()
    assert kept.abs().min() > 0
    other = Catcher(find_layers(holder, ["lstm"]))
    other.start()
    with pytest.raises(InputError, match="the output of layer lstm is a tuple, not a tensor"):
        lstm(torch.randn(5, 2))


class Named(NamedTuple):
    z: torch.Tensor
    other: int


@dataclass(frozen=True)
class Frozen:
    z: torch.Tensor


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda z: (1, z), 1),
        (lambda z: [z, 2], 0),
        (lambda z: {"z": z}, "z"),
        (lambda z: Named(z, 3), "z"),
        (lambda z: Named(z, 3), 0),
        (Frozen, "z"),
    ],
)
def test_what_follows_gets_the_same_with_a_copy_of_the_entry(make, key):
    class Layer(nn.Module):
        def forward(self, x):
            return make(2 * x)

    layer = nn.ModuleDict({"layer": Layer()})
    catcher = Catcher(find_layers(layer, ["layer"]), select=key)
    catcher.start()
    x = torch.randn(3, 2)
    output = layer["layer"](x)
    assert type(output) is type(make(x))
    taken = (
        getattr(output, key) if isinstance(output, Named | Frozen) and key == "z" else output[key]
    )
    assert torch.equal(taken, 2 * x)
    taken.zero_()
    assert torch.equal(catcher.stop()["layer"][0], 2 * x)


def test_the_gaussian_part_has_the_noise_of_the_audit():
    audit = TotalCorrelationAudit("same", steps=1, noise=0.5)
    run = trainer(audit)
    run.test(Net(), batches(), verbose=False)
    rho = 0.8 / 1.25
    found = float(run.logged_metrics["audit/same/tc_gaussian"])
    assert found == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.03)


def test_padding_does_not_count():
    class Padded(Net):
        def step(self, batch, batch_idx, dataloader_idx=0):
            return self.scale(self.same(self.first(batch[0]))).square().mean()

        test_step = step

    z = pair(1000, 0.8)[:, None]
    tokens = torch.cat([z, torch.full_like(z, 100) * torch.randn(1000, 1, 1)], 1)
    mask = torch.tensor([True, False]).expand(1000, 2)
    audit = TotalCorrelationAudit("first", mask=1, steps=20, noise=0.0)
    trainer(audit).test(
        Padded(), DataLoader(TensorDataset(tokens, mask), batch_size=500), verbose=False
    )
    assert audit.measured["first"].value == pytest.approx(TRUTH, abs=0.15)


def test_wrong_options_are_refused_before_training():
    with pytest.raises(TypeError, match="stpes"):
        TotalCorrelationAudit("same", stpes=5)
    for name in ("steps", "shuffles"):
        with pytest.raises(InputError, match=f"{name} 0; give 1 or more"):
            TotalCorrelationAudit("same", **{name: 0})
    with pytest.raises(InputError, match=r"lr 0\.0; give more than 0"):
        TotalCorrelationAudit("same", lr=0.0)
    with pytest.raises(InputError, match="'lines'; give one of direct, line, tree"):
        check_words(("direct", Decomposition), ("lines", Decomposition))


@pytest.mark.parametrize(
    ("callback", "takes"),
    [(TotalCorrelationAudit, measure_total_correlation), (MiMIc, MiMIcRegularizer)],
)
def test_the_command_line_finds_the_options_and_their_defaults(callback, takes):
    parser = ArgumentParser()
    parser.add_class_arguments(callback, "callback")
    found = parser.parse_args(["--callback.layers=same"]).callback
    own = inspect.signature(callback).parameters
    options = {
        name: parameter.default
        for name, parameter in inspect.signature(takes).parameters.items()
        if name not in own and parameter.default is not inspect.Parameter.empty
    }
    assert len(options) >= 7
    assert {name: found.get(name) for name in options} == options


@pytest.mark.parametrize(
    "options",
    [{"max_epochs": -1, "max_steps": 3}, {"max_epochs": 3, "check_val_every_n_epoch": 2}],
)
def test_the_last_validation_is_audited_however_training_ends(options):
    audit, quiet = TotalCorrelationAudit("same", steps=2), {"enable_progress_bar": False}
    off = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    run = pl.Trainer(accelerator="cpu", callbacks=[audit], **off, **quiet, **options)
    run.fit(Net(), batches(150, 50), batches(100, 50))
    assert "same" in audit.measured


def test_an_audit_that_never_came_says_so():
    with pytest.warns(UserWarning, match="the audit measured nothing"):
        trainer(TotalCorrelationAudit("same", steps=2)).fit(Net(), batches(100, 50))


def test_within_classes_the_gaussian_part_is_too():
    labels = torch.arange(3000) % 2
    z = 6 * labels[:, None] + torch.randn(3000, 2)
    audit = TotalCorrelationAudit("same", labels=1, n_classes=2, **QUICK)
    run = trainer(audit)
    run.test(Net(), DataLoader(TensorDataset(z, labels), batch_size=500), verbose=False)
    assert abs(float(run.logged_metrics["audit/same/tc_gaussian"])) < 0.01
    assert abs(float(run.logged_metrics["audit/same/tc"])) < 0.05


def test_parts_with_two_names_have_both(model):
    model["alias"] = model["head"]
    assert list(find_layers(model, ["alias"])) == ["alias"]
    assert list(find_layers(model, ["head"])) == ["head"]


def test_too_few_samples_are_no_reason_to_lose_a_run():
    audit = TotalCorrelationAudit("same", **QUICK)
    with pytest.warns(UserWarning, match="no audit of layer same: got 15 samples"):
        trainer(audit).test(Net(), batches(15, 5), verbose=False)
    assert not audit.measured
