"""The plug-in is the loss written in by hand, whatever Lightning does around it."""

import copy
import random
import subprocess
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from common.errors import InputError
from mimic import MiMIc, MiMIcRegularizer, TotalCorrelationAudit
from mimic.critic.critics import MLPCritic
from mimic.critic.estimators import log_mean_exp
from mimic.features.rows import Reduction
from mimic.features.shuffling import shuffle_channels

ROOT = Path(__file__).parents[2]
STEPS, BATCH = 20, 32


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.Tanh())
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.body(x))


class Module(pl.LightningModule):
    """A user's module: it knows nothing of the penalty."""

    def __init__(self):
        super().__init__()
        self.net = Net()

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = nn.functional.cross_entropy(self.net(x), y)
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class AsDictionary(Module):
    def training_step(self, batch, batch_idx):
        return {"loss": super().training_step(batch, batch_idx), "extra": 1}


class ByHand(Module):
    """The same loss with eq. 7.2's term written in, and its critic trained, line by line."""

    def __init__(self, weight):
        super().__init__()
        self.weight, self.calls = weight, 0
        with torch.random.fork_rng():
            torch.manual_seed(0)
            critic = MLPCritic(range(8))
        self.critic = [critic]  # out of the sight of the network's optimiser
        self.ascent = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.5, 0.9), fused=True)

    def training_step(self, batch, batch_idx):
        x, y = batch
        code = self.net.body(x)
        task = nn.functional.cross_entropy(self.net.head(code), y)
        generator = generator_of(self.calls)
        self.calls += 1
        z = code - code.mean(0)
        z = z / z.square().mean(0).sqrt()
        critic = self.critic[0]
        noisy = (z + 0.1 * torch.randn(z.shape, generator=generator)).detach()
        self.ascent.zero_grad()
        (-donsker_varadhan(critic, noisy, generator)).backward()
        self.ascent.step()
        noisy = z + 0.1 * torch.randn(z.shape, generator=generator)
        frozen = copy.deepcopy(critic).requires_grad_(False)
        return task + self.weight * donsker_varadhan(frozen, noisy, generator)


def donsker_varadhan(critic, z, generator):
    joint, shuffled = critic(torch.cat([z, shuffle_channels(z, generator=generator)])).chunk(2)
    return joint.mean() - log_mean_exp(shuffled)


def generator_of(call, seed=0, rank=0):
    """The plug-in's documented source of draws: seed, call and rank alone."""
    number = random.Random(f"{seed}/{call}/{rank}").getrandbits(63)
    return torch.Generator().manual_seed(number)


def loader(n=STEPS * BATCH, batch=BATCH):
    draws = torch.Generator().manual_seed(1)
    x = torch.randn(n, 6, generator=draws)
    return DataLoader(TensorDataset(x, x[:, :3].argmax(1)), batch_size=batch)


def fit(module, callbacks=(), batches=None, ckpt_path=None, **options):
    defaults = {"max_steps": STEPS, "logger": False, "enable_checkpointing": False}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    options = {"accelerator": "cpu", **defaults, **quiet, **options}
    trainer = pl.Trainer(callbacks=list(callbacks), **options)
    batches = batches or loader()
    data = batches if isinstance(batches, dict) else {"train_dataloaders": batches}
    trainer.fit(module, **data, ckpt_path=ckpt_path, weights_only=True)
    return trainer


def fresh(kind=Module, *args):
    torch.manual_seed(3)
    return kind(*args)


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.net.parameters()])


def plain(**options):
    return MiMIc("net.body", estimator="dv", critic=MLPCritic, **options)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("kind", [Module, AsDictionary])
def test_twenty_steps_are_those_of_the_loss_written_by_hand(accumulate, kind):
    steps = {"max_steps": STEPS // accumulate, "accumulate_grad_batches": accumulate}
    ours, theirs, without = fresh(kind), fresh(ByHand, 0.3), fresh()
    fit(ours, [plain(weight=0.3)], **steps)
    fit(theirs, **steps)
    fit(without, **steps)
    assert (weights(ours) - weights(theirs)).abs().max() == 0
    assert (weights(ours) - weights(without)).abs().max() > 1e-4


def test_two_devices_take_the_step_of_the_mean_gradient(tmp_path):
    """The oracle is one process that holds both halves and averages by hand."""
    script, result = Path(__file__).parent / "two_devices.py", tmp_path / "result.pt"
    subprocess.run([sys.executable, script, result], check=True, cwd=ROOT, timeout=300)
    found = torch.load(result)
    module = fresh(ByHand, 0.3)
    descent, critic = module.configure_optimizers(), module.critic[0]
    x, y = loader().dataset.tensors
    for step in range(10):
        halves = []
        for rank in range(2):
            mine = slice(rank + 2 * BATCH * step, rank + 2 * BATCH * (step + 1), 2)
            code = module.net.body(x[mine])
            task = nn.functional.cross_entropy(module.net.head(code), y[mine])
            z = code - code.mean(0)
            z = z / z.square().mean(0).sqrt()
            generator = generator_of(step, rank=rank)
            halves.append((task, z, generator))
        module.ascent.zero_grad()
        for _, z, generator in halves:
            noisy = (z + 0.1 * torch.randn(z.shape, generator=generator)).detach()
            (-donsker_varadhan(critic, noisy, generator) / 2).backward()
        module.ascent.step()
        frozen = copy.deepcopy(critic).requires_grad_(False)
        descent.zero_grad()
        for task, z, generator in halves:
            noisy = z + 0.1 * torch.randn(z.shape, generator=generator)
            ((task + 0.3 * donsker_varadhan(frozen, noisy, generator)) / 2).backward()
        descent.step()
    assert (found["weights"] - weights(module)).abs().max() <= 1e-6
    assert torch.equal(found["critics"][0], found["critics"][1])
    assert torch.equal(found["uneven"][0], found["uneven"][1])


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_half_precision_leaves_the_critic_in_single(precision):
    module, penalty = fresh(), MiMIc("net.body", weight=0.3)
    fit(module, [penalty], precision=precision, max_steps=5)
    assert weights(module).isfinite().all()
    game = penalty.regularizers["net.body"].game
    assert {p.dtype for p in game.critics.parameters()} == {torch.float32}


def test_scaled_gradients_are_those_of_the_whole_loss(monkeypatch):
    """What a gradient scaler multiplies, as under 16-mixed, includes the penalty."""
    ours, theirs = fresh(), fresh(ByHand, 0.3)
    seen = []
    for module in (ours, theirs):
        losses = []
        monkeypatch.setattr(
            module,
            "backward",
            lambda loss, *args, kept=losses: (kept.append(loss * 1024), (loss * 1024).backward()),
        )
        monkeypatch.setattr(
            module,
            "on_before_optimizer_step",
            lambda optimizer: [
                p.grad.div_(1024) for g in optimizer.param_groups for p in g["params"]
            ],
        )
        fit(module, [plain(weight=0.3)] if module is ours else [])
        seen.append(torch.stack(losses))
    assert torch.equal(*seen)
    assert torch.equal(weights(ours), weights(theirs))


def test_stopped_and_resumed_is_uninterrupted(tmp_path):
    def penalties():
        return [
            MiMIc("net.body", weight=0.3, warmup_steps=3, ramp_steps=9, estimator="mine"),
            MiMIc("net.head", weight=0.1, n_critic=2),
        ]

    epoch = loader(n=STEPS // 2 * BATCH)
    whole, half, rest = fresh(), fresh(), Module()
    saved = pl.callbacks.ModelCheckpoint(tmp_path, "half", save_on_train_epoch_end=True)
    two, one = ({"max_steps": -1, "max_epochs": n} for n in (2, 1))
    fit(whole, penalties(), epoch, **two)
    fit(half, [*penalties(), saved], epoch, enable_checkpointing=True, **one)
    torch.manual_seed(77)  # whatever the global state is
    trainer = fit(rest, penalties(), epoch, tmp_path / "half.ckpt", **two)
    assert trainer.global_step == STEPS
    assert torch.equal(weights(rest), weights(whole))


def test_nothing_is_left_behind():
    module = fresh()
    step = module.training_step
    fit(module, [MiMIc("net.body"), MiMIc(["net.head"])])
    assert module.training_step == step
    assert not any(layer._forward_hooks for layer in module.modules())


def test_a_wrapped_step_stays_wrapped():
    """Another tool's wrapper on the instance is put back, in whatever order callbacks leave."""
    module, calls = fresh(), []
    method = module.training_step

    def wrapper(batch, batch_idx):
        calls.append(batch_idx)
        return method(batch, batch_idx)

    module.training_step = wrapper
    fit(module, [MiMIc("net.body"), MiMIc("net.head"), MiMIc("net.body.0")])
    assert module.training_step is wrapper
    assert len(calls) == STEPS


def test_several_layers_are_the_sum_of_several_callbacks():
    both, each = fresh(), fresh()
    fit(both, [MiMIc({"net.body": 0.2, "net.head": 0.1})])
    fit(each, [MiMIc("net.body", weight=0.2), MiMIc("net.head", weight=0.1)])
    assert torch.allclose(weights(both), weights(each), atol=1e-6)


def test_the_global_random_state_is_left_alone():
    with_it, without = fresh(), fresh()
    fit(with_it, [MiMIc("net.body", weight=0.0)])
    after = torch.rand(3)
    fit(without)
    assert torch.equal(weights(with_it), weights(without))
    fresh(), fit(fresh())
    assert torch.equal(torch.rand(3), after)


def test_warmup_trains_critics_only():
    module, without, penalty = fresh(), fresh(), MiMIc("net.body", weight=0.5, warmup_steps=STEPS)
    fit(module, [penalty])
    fit(without)
    assert torch.equal(weights(module), weights(without))
    assert penalty.regularizers["net.body"].calls == STEPS


def test_share_grows_after_the_warmup():
    penalty = MiMIc("net.body", warmup_steps=2, ramp_steps=3)
    shares = []
    for penalty.batches in range(8):
        shares.append(penalty.share())
    assert shares == [0, 0, 0.25, 0.5, 0.75, 1, 1, 1]


def test_cap_bounds_the_gradient_at_the_layer():
    """Belghazi et al. 2018, section 5.3: no larger than the task's gradient there."""
    norms = {}
    for cap in (None, 0.5):
        module = fresh()
        gradients = []

        class Watching(Module):
            def __init__(self):
                super().__init__()
                # Stands before the plug-in's hook, so it sees what that sees.
                self.net.body.register_forward_hook(lambda *call: setattr(self, "code", call[2]))

            def backward(self, loss, kept=gradients):
                x = torch.autograd.grad(loss, self.code, retain_graph=True)[0]
                kept.append(x)
                loss.backward()

        torch.manual_seed(3)
        module = Watching()
        fit(module, [MiMIc("net.body", weight=1000.0, cap=cap)], max_steps=1)
        torch.manual_seed(3)
        module = Watching()
        fit(module, max_steps=1)
        total, task = gradients
        norms[cap] = ((total - task).norm() / task.norm()).item()
    assert norms[None] > 10
    assert norms[0.5] == pytest.approx(0.5, rel=1e-3)


def test_compiled_module_is_penalised_the_same(tmp_path):
    """Hooks stand before anything is traced, so the compiled network shows its features too."""

    class Compiled(Module):
        def configure_model(self):
            self.compiled = torch.compile(self.net, backend="aot_eager")

        def training_step(self, batch, batch_idx):
            x, y = batch
            return nn.functional.cross_entropy(self.compiled(x), y)

    ours, eager = fresh(Compiled), fresh()
    fit(ours, [MiMIc("net.body", weight=0.3)], max_steps=5)
    fit(eager, [MiMIc("net.body", weight=0.3)], max_steps=5)
    assert torch.allclose(weights(ours), weights(eager), atol=1e-6)


# Misuse ------------------------------------------------------------------------------------


class Unused(Module):
    def __init__(self):
        super().__init__()
        self.other = nn.Linear(6, 4)


class ByHandOptimised(Module):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Module, {"layers": "net.bodi"}, "no layer 'net.bodi'; there are, for instance, net.body"),
        (Module, {"layers": "net.layer*"}, "no layer 'net.layer[*]'"),
        (Module, {"layers": [nn.Linear(2, 2)]}, "a Linear that is no part of the Module"),
        (Unused, {"layers": "other"}, "layer other was not called in this step"),
        (Module, {"layers": "net.body", "labels": 7, "n_classes": 3}, "without 7; change labels"),
        (Module, {"layers": "net.body", "labels": 1, "n_classes": 2}, "must be 0 to 1"),
        (Module, {"layers": "net.body.1", "penalty": "orthogonality"}, "no matrix of its own"),
        (ByHandOptimised, {"layers": "net.body"}, "use MiMIcRegularizer"),
        (Module, {"layers": "net", "select": "features"}, "without 'features'; change select"),
    ],
)
def test_misuse_is_refused(kind, options, message):
    with pytest.raises(InputError, match=message):
        fit(fresh(kind), [MiMIc(**options)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_classes": 10}, "needs their number, and where in a batch"),
        ({"labels": 1}, "needs their number, and where in a batch"),
        ({"subset": 2, "group": 2}, "subset chooses single channels"),
        ({"penalty": "hsic", "n_classes": 10, "labels": 1}, "no form within classes"),
        ({"n_critic": 0}, "1 or more"),
        ({"cap": 0.0}, "got cap .*; give more than 0"),
        ({"weight": -1.0}, "got weight .*; give 0 or more"),
    ],
)
def test_wrong_options_are_refused_at_once(options, message):
    with pytest.raises(InputError, match=message):
        MiMIc("net.body", **options)


def test_unknown_options_are_refused_at_once():
    with pytest.raises(TypeError, match="wieght"):
        MiMIc("net.body", wieght=0.1)


def test_a_batch_of_one_is_refused():
    with pytest.raises(InputError, match=r"a batch of 1.*drop_last"):
        fit(fresh(), [MiMIc("net.body")], loader(n=33, batch=1))


class Odd(Module):
    """Its second batch is constant, and its third one passes the layer by."""

    def training_step(self, batch, batch_idx):
        x = torch.zeros_like(batch[0]) if batch_idx == 1 else batch[0]
        code = x[:, :3] if batch_idx == 2 else self.net(x)
        return (self.net.head.weight.sum() + code).square().mean()


def test_one_odd_batch_ends_no_run():
    """A constant layer, one that is passed by, and a last batch of one image get no penalty."""
    ours, without = fresh(Odd), fresh(Odd)
    penalty = MiMIc("net.body", weight=0.0)
    batches = loader(n=4 * BATCH + 1)
    with pytest.warns(UserWarning, match="no penalty on layer net.body in a batch.*constant"):
        trainer = fit(ours, [penalty], batches, max_steps=-1, max_epochs=1)
    fit(without, batches=batches, max_steps=-1, max_epochs=1)
    assert penalty.skipped == {"net.body": 3}
    assert trainer.logged_metrics["mimic/net.body/skipped"] == 3
    assert torch.equal(weights(ours), weights(without))


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_layers_need_the_kind_that_keeps_gradients(reentrant):
    class Checkpointed(Module):
        def training_step(self, batch, batch_idx):
            x, y = batch
            code = checkpoint(self.net.body, x.requires_grad_(), use_reentrant=reentrant)
            return nn.functional.cross_entropy(self.net.head(code), y)

    ours, theirs = fresh(Checkpointed), fresh()
    if reentrant:
        with pytest.raises(InputError, match="give it use_reentrant=False"):
            fit(ours, [MiMIc("net.body")])
        return
    for module in (ours, theirs):
        fit(module, [MiMIc("net.body", weight=0.3)])
    assert torch.allclose(weights(ours), weights(theirs), atol=1e-6)


def test_labels_may_be_nested():
    class Nested(Module):
        def training_step(self, batch, batch_idx):
            return super().training_step((batch[0], batch[1]["y"]), batch_idx)

    x, y = loader().dataset.tensors
    batches = DataLoader([(a, {"y": b}) for a, b in zip(x, y, strict=True)], batch_size=BATCH)
    ours, theirs = fresh(Nested), fresh()
    fit(ours, [MiMIc("net.body", n_classes=3, labels="1.y")], batches)
    fit(theirs, [MiMIc("net.body", n_classes=3, labels=1)])
    assert torch.equal(weights(ours), weights(theirs))


def test_a_step_that_takes_the_iterator_has_no_labels():
    class Iterating(Module):
        def training_step(self, dataloader_iter):
            (x, y), _, _ = next(dataloader_iter)
            return nn.functional.cross_entropy(self.net(x), y)

    ours, theirs = fresh(Iterating), fresh()
    for module in (ours, theirs):
        fit(module, [MiMIc("net.body", weight=0.3)])
    assert torch.equal(weights(ours), weights(theirs))
    with pytest.raises(InputError, match="takes the loader's iterator"):
        fit(fresh(Iterating), [MiMIc("net.body", n_classes=3, labels=1)])


def test_padding_does_not_count():
    z = torch.randn(32, 5, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(5) < torch.arange(32)[:, None] % 4 + 1
    rows = Reduction()(z, mask=mask).z
    assert torch.allclose(rows[1], z[1, :2].mean(0))
    padded = z.masked_fill(~mask[..., None], torch.nan)
    assert MiMIcRegularizer()(padded, mask=mask) == MiMIcRegularizer()(z, mask=mask)
    with pytest.raises(InputError, match="a mask needs reduce pool"):
        Reduction("per_location")(z, mask=mask)


def test_constant_features_are_refused():
    class Flat(Module):
        def training_step(self, batch, batch_idx):
            return self.net(torch.zeros_like(batch[0])).square().mean()

    with pytest.raises(InputError, match=r"all 8 channels are constant.*collapsed"):
        fit(fresh(Flat), [MiMIc("net.body")])


def test_dead_channels_are_counted():
    module, penalty = fresh(), MiMIc("net.body")
    with torch.no_grad():
        module.net.body[0].weight[:3] = 0
    with pytest.warns(UserWarning, match="net.body has 3 dead channels"):
        fit(module, [penalty], max_steps=STEPS, limit_train_batches=1, max_epochs=1)


def test_within_classes_needs_labels_by_hand_too():
    with pytest.raises(ValueError, match="needs the labels"):
        MiMIcRegularizer(n_classes=3)(torch.randn(8, 4))


# Users' modules are of many kinds ---------------------------------------------------------------


class OneArgument(Module):
    def training_step(self, batch):
        return super().training_step(batch, 0)


class LeavesOut(Module):
    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return None if batch_idx % 2 else loss


class InPlace(Module):
    def __init__(self):
        super().__init__()
        self.net.body[1] = nn.ReLU(inplace=True)


class Holding(Module):
    """Its hyper-parameters hold the very network that the hooks are on."""

    def __init__(self, net=None):
        super().__init__()
        self.save_hyperparameters()
        self.net = net or Net()


def test_a_step_of_one_argument_is_called_with_one():
    ours, theirs = fresh(OneArgument), fresh()
    fit(ours, [MiMIc("net.body")])
    fit(theirs, [MiMIc("net.body")])
    assert torch.equal(weights(ours), weights(theirs))


def test_batches_that_are_left_out_stay_so():
    module, penalty = fresh(LeavesOut), MiMIc("net.body")
    fit(module, [penalty], max_steps=-1, max_epochs=1)
    assert penalty.batches == STEPS // 2


def test_what_follows_may_work_in_place():
    """The penalty is on the layer's own output, as if the next one didn't write over it."""
    module, same = fresh(InPlace), fresh(InPlace)
    same.net.body[1] = nn.ReLU()
    for each in (module, same):
        fit(each, [MiMIc("net.body.0", weight=0.3, cap=1.0)])
    assert torch.equal(weights(module), weights(same))


def test_checkpoints_of_what_holds_the_hooks_can_be_written(tmp_path, monkeypatch):
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)  # the command line sets it
    saved = pl.callbacks.ModelCheckpoint(tmp_path, "last", save_on_train_epoch_end=True)
    module = fresh(Holding, fresh(Net))
    fit(module, [MiMIc("net.body"), saved], max_epochs=1, enable_checkpointing=True)
    found = torch.load(tmp_path / "last.ckpt", weights_only=False)
    net = found["hyper_parameters"]["net"]
    assert net(torch.randn(4, 6)).shape == (4, 3)


def test_frozen_layers_are_refused():
    module = fresh()
    module.net.body.requires_grad_(False)
    with pytest.raises(InputError, match=r"has no gradient.*frozen"):
        fit(module, [MiMIc("net.body")])


def test_two_penalties_on_one_layer_have_names_of_their_own(tmp_path):
    penalties = [
        MiMIc("net.body", weight=0.1),
        MiMIc("net.body", name="decov", penalty="covariance"),
    ]
    trainer = fit(fresh(), penalties)
    assert {"mimic/net.body/penalty", "decov/net.body/penalty"} <= set(trainer.logged_metrics)


def test_another_module_gets_critics_of_its_own():
    penalty = MiMIc("net.body", warmup_steps=STEPS)
    fit(fresh(), [penalty])
    used = penalty.regularizers["net.body"]
    fit(fresh(), [penalty])
    assert penalty.regularizers["net.body"] is not used
    assert penalty.batches == STEPS


class Validating(Module):
    def validation_step(self, batch, batch_idx):
        with torch.no_grad():
            self.log("val/loss", self.training_step(batch, batch_idx))


def test_a_training_step_that_validation_calls_stays_itself():
    module, without, penalty = fresh(Validating), fresh(Validating), MiMIc("net.body", weight=0.0)
    runs = [
        fit(
            each, callbacks, batches={"train_dataloaders": loader(), "val_dataloaders": loader(64)}
        )
        for each, callbacks in ((module, [penalty]), (without, []))
    ]
    assert penalty.batches == STEPS
    assert len({float(run.callback_metrics["val/loss"]) for run in runs}) == 1


def test_copies_of_the_network_are_not_penalised():
    class Teacher(Module):
        def on_fit_start(self):
            self.teacher = [copy.deepcopy(self.net)]

        def training_step(self, batch, batch_idx):
            with torch.no_grad():
                self.teacher[0](batch[0])
            return super().training_step(batch, batch_idx)

    taught, alone = fresh(Teacher), fresh()
    for module in (taught, alone):
        fit(module, [MiMIc("net.body", weight=0.3)])
    assert torch.equal(weights(taught), weights(alone))


def test_the_weight_of_a_name_counts_before_that_of_a_glob():
    exact = {"net.body": 0.5, "net.*": 0.1}
    for layers in (exact, dict(reversed(exact.items()))):
        penalty, module = MiMIc(layers), fresh()
        penalty.setup(pl.Trainer(logger=False, accelerator="cpu"), module, "fit")
        found = {name: weight for name, (_, weight) in penalty._layer_of.items()}
        assert found == {"net.body": 0.5, "net.head": 0.1}


def test_caps_of_several_layers_look_at_the_task_alone(monkeypatch):
    tasks = []

    def capped(task, penalty, features, cap):
        tasks.append(task)
        return task.new_ones(())

    monkeypatch.setattr("mimic.plugin._capped", capped)
    fit(fresh(), [MiMIc(["net.body", "net.head"], cap=1.0)], max_steps=1)
    assert tasks[0] is tasks[1]


def test_a_convolution_in_time_has_its_channels_first():
    class InTime(Module):
        def __init__(self):
            super().__init__()
            self.net.body = nn.Sequential(nn.Unflatten(1, (2, 3)), nn.Conv1d(2, 4, 1))
            self.net.head = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))

    penalty, audit = MiMIc("net.body.1"), TotalCorrelationAudit("net.body.1", steps=2)
    module = fresh(InTime)
    module.validation_step = module.training_step
    fit(module, [penalty, audit], {"train_dataloaders": loader(), "val_dataloaders": loader(64)})
    assert penalty.regularizers["net.body.1"].game.n_channels == 4
    assert audit._reductions["net.body.1"](torch.randn(50, 4, 3)).z.shape == (50, 4)


class ChannelsLast(nn.Module):
    """Linear layer of the last axis, as in a Swin block; or of axis 1, as in a ConvNeXt block."""

    def __init__(self, back: bool = False) -> None:
        super().__init__()
        self.first, self.linear, self.back = nn.Conv2d(2, 2, 1), nn.Linear(2, 6), back

    def forward(self, x):
        x = self.linear(self.first(x).movedim(1, -1))
        return x.movedim(-1, 1) if self.back else x


@pytest.mark.parametrize(
    ("layer", "shape", "axis"),
    [
        (nn.Sequential(nn.Conv1d(2, 6, 1), nn.BatchNorm1d(6), nn.ReLU()), (4, 2, 32), 1),
        (nn.Sequential(nn.Conv1d(2, 6, 1), nn.ReLU(), nn.Dropout()), (4, 2, 6), 1),
        (nn.Sequential(nn.Linear(2, 6), nn.LayerNorm(6), nn.GELU()), (4, 5, 2), 2),
        (ChannelsLast(), (4, 2, 3, 5), 3),
        (ChannelsLast(back=True), (4, 2, 3, 5), 1),
        (nn.Conv2d(2, 6, 1), (4, 2, 6, 6), 1),
        (nn.ReLU(), (4, 2, 3, 5), 1),
        (nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), (4, 5, 6), 2),
    ],
)
def test_the_last_part_with_channels_tells_their_axis(layer, shape, axis):
    feature = layer(torch.randn(shape))
    rows = Reduction().of(layer)(feature)
    others = [i for i in range(1, feature.ndim) if i != axis]
    assert torch.allclose(rows.z, feature.mean(others), atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(nn.ReLU(), (4, 6, 32)), (nn.Conv1d(2, 6, 1), (4, 5, 7)), (ChannelsLast(), (4, 6, 3, 6))],
)
def test_an_axis_that_the_layer_does_not_tell_is_asked_for(layer, shape):
    feature = torch.randn(shape)
    with pytest.raises(ValueError, match=r"doesn't tell which axis has.*give channel_dim"):
        Reduction().of(layer)(feature)
    assert Reduction(channel_dim=1).of(layer)(feature).z.shape == shape[:2]


def test_the_channels_are_said_once(caplog):
    with caplog.at_level("INFO"):
        fit(fresh(), [MiMIc("net.body")])
    assert [r.message for r in caplog.records if "channels" in r.message] == [
        "layer net.body: 8 channels of single numbers"
    ]
    assert Reduction().describe(torch.randn(4, 16, 8, 9)) == "16 channels of shape [8, 9]"


def test_nothing_is_kept_after_a_step():
    module, penalty, kept = fresh(), MiMIc("net.body"), []

    class Look(pl.Callback):
        def on_train_batch_end(self, *args):
            kept.extend(penalty._catcher.stop()["net.body"])

    fit(module, [penalty, Look()])
    assert not kept


@pytest.mark.gpu
def test_overflow_in_half_precision_leaves_the_critic_whole():
    module, penalty = fresh(), MiMIc("net.body", weight=0.3)
    fit(module, [penalty], precision="16-mixed", accelerator="gpu", devices=1)
    critic = penalty.regularizers["net.body"].game
    assert all(p.isfinite().all() for p in critic.parameters())
    assert weights(module).isfinite().all()
