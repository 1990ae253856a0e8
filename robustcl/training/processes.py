"""Share training among the processes that torchrun starts."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from robustcl.core.errors import InputError
from robustcl.records.ranks import own_device, rank_count


def rank_and_count() -> tuple[int, int]:
    """Return this process's number and how many there are.

    Returns:
        (0, 1) where torch.distributed is not in use.
    """
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


@contextmanager
def joined_processes(device: str) -> Iterator[str]:
    """Join the processes that torchrun has started, and leave them at the end.

    Args:
        device: What the user asked for; 'cuda' becomes the GPU of this process.

    Yields:
        The device to train on.
    """
    if rank_count() < 2 or dist.is_initialized():
        yield device
        return
    device = own_device(device)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def check_divisible(size: int, what: str) -> None:
    """Refuse a batch that processes cannot share evenly.

    Args:
        size: Images in it.
        what: Its name, for the message.

    Raises:
        InputError: When there is a rest.
    """
    _, count = rank_and_count()
    if size % count:
        raise InputError(f"{what} {size} is not a multiple of the {count} processes; change it")


def own_rows(rows: Tensor) -> Tensor:
    """Return this process's part of a batch.

    Args:
        rows: (B, ...) the whole batch, B a multiple of the number of processes.

    Returns:
        (B / P, ...), the parts in the order of the ranks.
    """
    rank, count = rank_and_count()
    return rows if count == 1 else rows.chunk(count)[rank]


def mean_gradients(weights: Iterable[Tensor]) -> None:
    """Average gradients over processes, in place.

    Args:
        weights: Of the model, the same on every process.
    """
    _, count = rank_and_count()
    if count == 1:
        return
    for weight in weights:
        if weight.grad is not None:
            dist.all_reduce(weight.grad)
            weight.grad.div_(count)


def same_everywhere(number: float) -> float:
    """Return the number of the first process, so that no clock divides the processes.

    Args:
        number: This process's number.

    Returns:
        That of rank 0.
    """
    if rank_and_count()[1] == 1:
        return number
    on_gpu = dist.get_backend() == "nccl"
    shared = torch.tensor(number, dtype=torch.float64, device="cuda" if on_gpu else "cpu")
    dist.broadcast(shared, src=0)
    return float(shared)
