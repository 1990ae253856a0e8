"""Compute hashes of bytes and networks."""

import hashlib
import json
from collections.abc import Mapping

import torch
from torch import Tensor, nn


def checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    """Hash a description together with the names, types, shapes and numbers of all tensors.

    All that a reader takes from the file enters, and nothing else: the file may be written again
    in another layout.

    Args:
        text: The description, as it stands in the file.
        tensors: By name.

    Returns:
        SHA-256 in 64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, value in [("", None), *sorted(tensors.items())]:
        kind = None if value is None else [str(value.dtype), list(value.shape)]
        content = text.encode() if value is None else raw_bytes(value)
        # Lengths come first, so that two files with the same bytes in other places differ.
        digest.update(json.dumps([name, kind, len(content)]).encode() + b"\n")
        digest.update(content)
    return digest.hexdigest()


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
        kind, numbers = _kind(value), raw_bytes(value)
        digest.update(f"{name} {kind} {tuple(value.shape)}\n".encode())
        digest.update(numbers)
    return digest.hexdigest()


def raw_bytes(value: Tensor) -> bytes:
    """Return the bytes of a tensor of any type, those that NumPy lacks included.

    Args:
        value: On any device.

    Returns:
        Its numbers in row-major order.
    """
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _kind(value: Tensor) -> str:
    try:
        return torch.empty((), dtype=value.dtype).numpy().dtype.str
    except TypeError:  # as bfloat16
        return str(value.dtype)
