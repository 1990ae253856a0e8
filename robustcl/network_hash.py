"""Tell one network from another by its numbers."""

import hashlib

from torch import nn


def network_hash(module: nn.Module) -> str:
    """Hash the names, shapes, types and values of all weights and buffers.

    Unlike the hash of a checkpoint it does not change when the file is written again.

    Args:
        module: The network, on any device.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        numbers = value.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {numbers.dtype.str} {numbers.shape}\n".encode())
        digest.update(numbers.tobytes())
    return digest.hexdigest()
