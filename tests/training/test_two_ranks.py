"""Two processes equal one with the whole batch, in values and in gradients."""

import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp

from robustcl.training.losses import gather_embeddings
from tests.training.two_ranks import LABELS, ROBUST, gradients, loss_of, trained, whole, worker


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
    first, second = network(torch.cat([first, second])).chunk(2)
    loss = loss_of(first, second, LABELS)
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


def test_training_in_two_processes_equals_one(results: list[dict]) -> None:
    assert torch.equal(results[0]["trained"], results[1]["trained"])
    assert torch.allclose(results[0]["trained"], trained(), atol=1e-4)


@pytest.mark.parametrize("robust", ROBUST)
def test_robust_training_in_two_processes_equals_one(results: list[dict], robust: str) -> None:
    assert torch.equal(results[0][robust], results[1][robust])
    assert torch.allclose(results[0][robust], trained(robust), atol=1e-4)
    assert not torch.allclose(results[0][robust], results[0]["trained"], atol=1e-2)
