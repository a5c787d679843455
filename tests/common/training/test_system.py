"""Systems with several optimisers have what automatic optimisation has; the oracle is a loop."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Trainer

from common.errors import InputError
from common.training.callbacks.checkpointing import BestCheckpoint, LastCheckpoint
from common.training.callbacks.random_state import RandomState
from common.training.callbacks.skip_bad_steps import SkipBadSteps
from common.training.schedules import Schedule
from common.training.system import System
from mimic.supervised.module import SupervisedModule
from msflow.module import MultiScaleFlowModule
from tests.common.training.games import Game, Numbers, Still
from video_ode.module import VideoPredictionModule


def fit(game, folder, data=None, resume=None, callbacks=(), **options):
    settings = {
        "max_epochs": 2,
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": folder,
        **options,
    }
    trainer = Trainer(callbacks=[RandomState(), *callbacks], **settings)
    torch.manual_seed(7)
    trainer.fit(game, datamodule=data or Numbers(), ckpt_path=resume, weights_only=True)
    return trainer


def new_game(**settings):
    torch.manual_seed(3)
    return Game(**settings)


def weights(game):
    return [p.detach().clone() for p in game.parameters()]


def assert_equal(a, b):
    for x, y in zip(weights(a), weights(b), strict=True):
        assert (x == y).all()


def batches_of(data, epochs):
    data.setup("fit")
    loader = data.train_dataloader()  # each pass is another epoch
    return [batch for _ in range(epochs) for batch in loader]


def played_by_hand(game, batches, rate=lambda step: 0.1, clip=None, every=1):
    """The same game as a plain loop: the critic steps first, then the generator if it is due."""
    torch.manual_seed(7)
    for turn, batch in enumerate(batches):
        for name, module in (("critic", game.critic), ("generator", game.generator)):
            if name == "generator" and turn % every:
                continue
            game.zero_grad()
            noise = torch.randn_like(batch)
            gap = game.critic(batch).mean() - game.critic(game.generator(noise)).mean()
            loss = gap if name == "generator" else -gap
            (loss + 0.1 * game.critic.weight.square().sum()).backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(module.parameters(), clip)
            step = turn if name == "critic" else turn // every
            with torch.no_grad():
                for p in module.parameters():
                    p -= rate(step) * p.grad


@pytest.mark.parametrize("settings", [{}, {"clip": 0.05}, {"every": 3}])
def test_steps_are_those_of_a_plain_loop(settings, tmp_path):
    game, by_hand = new_game(**settings), new_game(**settings)
    batches = batches_of(Numbers(), 2)
    fit(game, tmp_path)
    played_by_hand(by_hand, batches, **settings)
    for ours, theirs in zip(weights(game), weights(by_hand), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_each_player_has_its_schedule_over_its_own_steps(tmp_path):
    game, by_hand = new_game(decay="linear"), new_game()
    fit(game, tmp_path)
    schedule = Schedule(decay="linear")
    played_by_hand(by_hand, batches_of(Numbers(), 2), lambda step: 0.1 * schedule.factor(step, 12))
    for ours, theirs in zip(weights(game), weights(by_hand), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_progress_counts_batches_not_steps(tmp_path):
    game = new_game()
    trainer = fit(game, tmp_path)
    assert trainer.global_step == 24  # of two players over 12 batches
    expected = [(name, i / 12) for i in range(12) for name in ("critic", "generator")]
    assert game.seen == expected


def test_progress_counts_batches_under_max_steps_too(tmp_path):
    game = new_game()
    fit(game, tmp_path, max_epochs=-1, max_steps=8)
    assert game.seen[-1] == ("generator", 3 / 4)


def test_accumulation_is_a_larger_batch(tmp_path):
    torch.manual_seed(3)
    small = Still(accumulate=3)
    torch.manual_seed(3)
    large = Still()
    fit(small, tmp_path, Numbers(batch_size=2))
    fit(large, tmp_path, Numbers(batch_size=6))
    for ours, theirs in zip(weights(small), weights(large), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_two_devices_play_the_game_of_the_larger_batch(tmp_path):
    script, result = Path(__file__).parent / "two_devices.py", tmp_path / "result.pt"
    subprocess.run([sys.executable, str(script), str(result)], check=True, timeout=300)
    found = torch.load(result, weights_only=True)
    torch.manual_seed(3)
    large = Still()
    trainer = fit(large, tmp_path, Numbers(count=12, batch_size=4), max_epochs=1)
    assert found["steps"] == trainer.global_step == 6
    first, second = found["weights"]
    assert (first == second).all()
    torch.testing.assert_close(first, torch.cat([w.flatten() for w in weights(large)]))


def test_batches_left_over_at_the_end_of_an_epoch_make_a_turn(tmp_path):
    game = new_game(accumulate=4)
    trainer = fit(game, tmp_path)  # 6 batches an epoch: 4 and 2
    assert trainer.global_step == 2 * 2 * 2
    assert int(game.turns) == 4


def test_a_bad_step_is_skipped_for_its_player_alone(tmp_path):
    skip, game = SkipBadSteps(), new_game(failing=3)
    noted = {}

    class Note(RandomState):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            noted.setdefault(batch_idx, [weights(pl_module.critic), weights(pl_module.generator)])

    with pytest.warns(UserWarning, match="left out: solve failed"):
        trainer = fit(game, tmp_path, callbacks=[skip, Note()], max_epochs=1)
    (critic, generator), (same_critic, other_generator) = noted[0], noted[1]
    assert all((a == b).all() for a, b in zip(critic, same_critic, strict=True))
    assert not all((a == b).all() for a, b in zip(generator, other_generator, strict=True))
    assert skip.skipped == {"critic": 1}
    logged = trainer.callback_metrics
    assert logged["train/skipped_steps/critic"] == 1
    assert logged["train/skipped_steps/generator"] == 0
    assert logged["train/gradient_norm/critic"] > 0
    assert logged["train/gradient_norm/generator"] > 0


@pytest.mark.parametrize("settings", [{}, {"accumulate": 2, "every": 2, "decay": "cosine"}])
@pytest.mark.parametrize("stop", [4, 10, 14])
def test_a_game_resumes_exactly(settings, stop, tmp_path):
    whole = new_game(**settings)
    steps = fit(whole, tmp_path / "whole").global_step
    broken = new_game(**settings)
    stop = max(2, stop * steps // 24)

    class Plug(LastCheckpoint):
        def _save_checkpoint(self, trainer, filepath):
            super()._save_checkpoint(trainer, filepath)
            if trainer.global_step >= stop:
                raise KeyboardInterrupt

    last = Plug(every_n_train_steps=1)
    last.dirpath = str(tmp_path)
    with pytest.raises(SystemExit):
        fit(broken, tmp_path, callbacks=[last])
    resumed = Game(**settings)
    trainer = fit(resumed, tmp_path / "again", resume=tmp_path / "last.ckpt")
    assert trainer.global_step == steps
    assert_equal(resumed, whole)


def test_the_best_and_the_last_are_kept_and_rebuild_the_system(tmp_path):
    best, last = BestCheckpoint("val/gap"), LastCheckpoint(every_n_train_steps=3)
    for callback in (best, last):
        callback.dirpath = str(tmp_path)
    game = new_game()
    fit(game, tmp_path, callbacks=[best, last])
    assert {path.name for path in tmp_path.glob("*.ckpt")} == {"best.ckpt", "last.ckpt"}
    again = Game.load_from_checkpoint(tmp_path / "last.ckpt")
    assert_equal(again, game)


def test_steps_that_pass_over_a_multiple_are_saved(tmp_path):
    saved = []

    class Note(LastCheckpoint):
        def _save_checkpoint(self, trainer, filepath):
            saved.append(trainer.global_step)
            super()._save_checkpoint(trainer, filepath)

    last = Note(every_n_train_steps=5)
    last.dirpath = str(tmp_path)
    fit(new_game(), tmp_path, callbacks=[last], max_epochs=1)
    assert saved == [6, 10, 12]  # past 5, at 10, and at the epoch's end


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"accumulate": 0}, "accumulate 0"), ({"clip": 0.0}, "clip 0"), ({"clip": -1.0}, "clip -1")],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Game(**settings)


def test_every_system_is_a_system():
    for kind in (Game, SupervisedModule, MultiScaleFlowModule, VideoPredictionModule):
        assert issubclass(kind, System)
