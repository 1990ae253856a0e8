"""Call a network and leave it as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def unchanged(network: nn.Module) -> Iterator[None]:
    """Undo on exit what calls change: modes, buffers, attributes, and torch's random generators.

    Lists and objects that a network fills are not emptied.

    Args:
        network: The network.

    Yields:
        Nothing.
    """
    parts = list(network.modules())
    modes = [(part, part.training) for part in parts]
    plain = [part for part in parts if not isinstance(part, torch.jit.ScriptModule)]
    attributes = [(part, _attributes(part), dict(part._buffers)) for part in plain]
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    places = {weight.device for weight in network.parameters() if weight.is_cuda}
    try:
        with torch.random.fork_rng(devices=list(places)):
            yield
    finally:
        for part, kept, entries in attributes:
            for name in set(_attributes(part)) - set(kept):
                del part.__dict__[name]
            part.__dict__.update(kept)
            part._buffers.clear()
            part._buffers.update(entries)
        for part, training in modes:
            part.training = training
        _restore(buffers)


def _attributes(part: nn.Module) -> dict[str, object]:
    return {name: value for name, value in vars(part).items() if not name.startswith("_")}


def _restore(buffers: list[tuple[Tensor, Tensor]]) -> None:
    with torch.inference_mode(False), torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
