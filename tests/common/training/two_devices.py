"""Plays the game of games.py on two processes; run by test_system.py.

python tests/common/training/two_devices.py FILE
"""

import sys
from pathlib import Path

import torch
from pytorch_lightning import Trainer

sys.path[0] = str(Path(__file__).parents[3])

from tests.common.training.games import Numbers, Still  # noqa: E402

if __name__ == "__main__":
    torch.manual_seed(3)
    game = Still()
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp_find_unused_parameters_true",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(game, datamodule=Numbers(count=12, batch_size=2))
    weights = torch.cat([p.detach().flatten() for p in game.parameters()])
    gathered = trainer.strategy.all_gather(weights)
    if trainer.is_global_zero:
        torch.save({"weights": gathered, "steps": trainer.global_step}, sys.argv[1])
    torch.distributed.destroy_process_group()  # a thread of gloo at exit may abort the process
