"""Weights that ship with the project, in half precision as safetensors."""

from pathlib import Path
from typing import TypeVar

from safetensors.torch import load_file, save_file
from torch import nn

from common.files import written_whole

Network = TypeVar("Network", bound=nn.Module)


def with_weights(network: Network, path: Path) -> Network:
    """The network with the weights of a file of `write_weights`, in evaluation mode."""
    network.load_state_dict({name: x.float() for name, x in load_file(path).items()})
    return network.eval()


def write_weights(network: nn.Module, path: str | Path) -> None:
    """Writes the weights of a network in half precision, as safetensors."""
    state = {
        name: (x.half() if x.is_floating_point() else x).contiguous()
        for name, x in network.state_dict().items()
    }
    with written_whole(path) as file:
        save_file(state, file)
