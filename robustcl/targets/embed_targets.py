"""Bring class vectors to the size of an embedding, without changing their cosines."""

import torch
from torch import Tensor
from torch.nn import functional

from robustcl.core.errors import InputError


def embed_targets(vectors: Tensor, size: int, *, seed: int = 0) -> Tensor:
    """Return unit vectors of another size with the same pairwise cosines.

    The vectors are written in the basis of their own span and turned by a random rotation, so
    that no coordinate of the embedding is singled out.

    Args:
        vectors: (K, D).
        size: d, at least the rank of the vectors.
        seed: Seed of the rotation.

    Returns:
        (K, d) unit rows in float32.

    Raises:
        InputError: When d is below the rank, or a vector is zero or not finite.
    """
    norms = vectors.double().norm(dim=1)
    if not bool((torch.isfinite(norms) & (norms > 0)).all()):
        raise InputError("a class vector is zero or not finite; give every class a direction")
    units = functional.normalize(vectors.double(), dim=1)
    left, values, _ = torch.linalg.svd(units, full_matrices=False)
    rank = int((values > 1e-9 * values[0]).sum())
    if rank > size:
        raise InputError(
            f"{len(units)} class vectors span {rank} dimensions but the embedding has {size}; "
            f"use an embedding of {rank} or more"
        )
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(size, rank, generator=generator, dtype=torch.float64)
    basis, _ = torch.linalg.qr(noise)
    return ((left * values)[:, :rank] @ basis.T).float()
