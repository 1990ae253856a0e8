"""Two processes equal one with the whole batch, in values and in gradients."""

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from robustcl.losses import nt_xent, sup_con
from robustcl.training import gather_embeddings

LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 2, 2])


def whole() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5))
    return network, torch.randn(8, 6), torch.randn(8, 6)


def loss_of(first: torch.Tensor, second: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return nt_xent(first, second, temperature=0.2) + sup_con(first, second, labels)


def gradients(network: nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def worker(rank: int, port: int, place: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    found = {}
    for gradient in (True, False):
        network, first, second = whole()
        parallel = nn.parallel.DistributedDataParallel(network)
        rows = slice(4 * rank, 4 * rank + 4)
        pair = parallel(torch.cat([first[rows], second[rows]])).chunk(2)
        first, second = (gather_embeddings(view, gradient=gradient) for view in pair)
        loss = loss_of(first, second, gather_embeddings(LABELS[rows]))
        loss.backward()
        found[gradient] = loss.detach(), gradients(network)
    try:
        gather_embeddings(torch.zeros(2 + rank, 3))
        refused = False
    except ValueError:
        refused = True
    torch.save({"found": found, "refused": refused}, f"{place}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    place = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(worker, args=(port, str(place)), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]
    return [torch.load(Path(place) / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_two_processes_equal_one(results: list[dict]) -> None:
    network, first, second = whole()
    loss = loss_of(*network(torch.cat([first, second])).chunk(2), LABELS)
    loss.backward()
    for rank in range(2):
        value, slope = results[rank]["found"][True]
        assert torch.allclose(value, loss, atol=1e-6)
        assert torch.allclose(slope, gradients(network), atol=1e-6)


def test_a_stopped_gradient_is_another_one(results: list[dict]) -> None:
    # training.md, traps: keys without gradient change it, so that is an explicit option.
    value, slope = results[0]["found"][False]
    assert torch.equal(value, results[0]["found"][True][0])
    wanted = results[0]["found"][True][1]
    assert float(slope.norm()) < 0.75 * float(wanted.norm())


def test_unequal_batches_are_refused(results: list[dict]) -> None:
    assert all(result["refused"] for result in results)


def test_one_process_gathers_itself() -> None:
    rows = torch.ones(3, 2, requires_grad=True)
    assert gather_embeddings(rows) is rows
