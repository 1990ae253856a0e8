"""Give every example its own randomness, so that results do not depend on batches or order."""

import hashlib
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from robustcl.core.errors import InputError


def check_seed(seed: int, name: str) -> None:
    """Refuse a seed that not every generator takes.

    Args:
        seed: The seed.
        name: Of the option, for the message.

    Raises:
        InputError: When it is negative or has more than 63 bits.
    """
    if not 0 <= seed < 2**63:
        raise InputError(f"{name} {seed} is not from 0 to 2^63 - 1; use a smaller one")


def example_seed(seed: int, index: int, purpose: str) -> int:
    """Mix a run's seed, an example's index and a purpose into one seed.

    Args:
        seed: Seed of the run.
        index: Index of the example in its data set.
        purpose: What the numbers are for, so that two methods never share noise.

    Returns:
        An integer in [0, 2^63).
    """
    text = f"{seed}/{index}/{purpose}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def example_noise(
    seeds: Sequence[int],
    shape: Sequence[int],
    *,
    kind: Literal["normal", "uniform"] = "normal",
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> Tensor:
    """Draw noise with one generator per example.

    The numbers are drawn on the CPU, so that they are the same on every device.

    Args:
        seeds: One seed per example, B of them.
        shape: Shape of one example's noise.
        kind: 'normal' for N(0, 1), 'uniform' for [-1, 1).
        dtype: Type of the result.
        device: Device of the result.

    Returns:
        (B, *shape) noise.
    """
    noise = torch.empty(len(seeds), *shape, dtype=dtype)
    for row, seed in zip(noise, seeds, strict=True):
        generator = torch.Generator().manual_seed(seed)
        if kind == "normal":
            row.normal_(generator=generator)
        else:
            row.uniform_(-1.0, 1.0, generator=generator)
    return noise.to(device)
