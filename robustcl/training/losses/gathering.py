"""Gather embeddings of all processes, with their gradient."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from robustcl.core.errors import InputError


class _Gather(torch.autograd.Function):
    # Every process computes the whole loss, so the gradient of a process's own rows is the sum of
    # what all processes find for them.
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.count = len(rows)
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        start = dist.get_rank() * ctx.count
        return total[start : start + ctx.count]


def gather_embeddings(rows: Tensor, *, gradient: bool = True) -> Tensor:
    """Stack the rows of all processes, those of rank 0 first.

    With `gradient`, a loss of all rows has on each process P times its gradient by that process's
    rows, where P is the number of processes: averaging the gradients of weights over processes, as
    DistributedDataParallel does, then equals one process with the whole batch. Without it the
    others' rows are constants; where a loss treats both sides of a pair alike that halves the
    gradient of pairs across processes, before the average.

    Args:
        rows: (B, ...) this process's rows; B is the same on every process.
        gradient: Whether gradients flow to the other processes.

    Returns:
        (P B, ...); the rows themselves where torch.distributed is not in use.

    Raises:
        InputError: When processes have different shapes.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return rows
    shape = torch.tensor(rows.shape, device=rows.device)
    shapes = [torch.empty_like(shape) for _ in range(dist.get_world_size())]
    dist.all_gather(shapes, shape)
    if any(not torch.equal(other, shape) for other in shapes):
        found = [tuple(other.tolist()) for other in shapes]
        raise InputError(f"processes have embeddings of shapes {found}; give each the same batch")
    if gradient and rows.requires_grad:
        gathered = _Gather.apply(rows)
        assert isinstance(gathered, Tensor)
        return gathered
    parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, rows.detach().contiguous())
    parts[dist.get_rank()] = rows
    return torch.cat(parts)
