"""Trains the module of test_plugin.py on two processes; run by the test there.

python tests/mimic/two_devices.py FILE
"""

import os
import sys
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Subset

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

from test_plugin import BATCH, fit, fresh, loader, plain, weights

from mimic import MiMIc

if __name__ == "__main__":
    module = fresh()
    penalty = plain(weight=0.3)
    examples, rank = loader().dataset, int(os.environ.get("LOCAL_RANK", 0))
    mine = DataLoader(Subset(examples, range(rank, len(examples), 2)), BATCH)
    options = {"devices": 2, "strategy": "ddp", "use_distributed_sampler": False}
    trainer = fit(module, [penalty], mine, max_steps=10, **options)
    critic = penalty.regularizers["net.body"].game.critics
    # Devices whose critics drifted apart would play two games.
    gathered = trainer.strategy.all_gather(torch.cat([p.flatten() for p in critic.parameters()]))
    # The default critic keeps statistics, and here the devices' batches aren't equal.
    penalty, size = MiMIc("net.body"), BATCH // (1 + rank)
    trainer = fit(fresh(), [penalty], DataLoader(examples, size), max_steps=10, **options)
    state = penalty.regularizers["net.body"].game.state_dict()
    numbers = torch.cat([x.flatten() for x in state.values() if torch.is_tensor(x)])
    uneven = trainer.strategy.all_gather(numbers)
    if trainer.is_global_zero:
        found = {"weights": weights(module), "critics": gathered, "uneven": uneven}
        torch.save(found, sys.argv[1])
    torch.distributed.destroy_process_group()  # a thread of gloo at exit may abort the process
