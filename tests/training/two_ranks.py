"""What each of two processes does."""

import os

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from robustcl.core.classifier import Encoder
from robustcl.data import Dataset
from robustcl.models.encoders import small_convnet
from robustcl.training import TrainRecipe, train_encoder
from robustcl.training.losses import gather_embeddings, nt_xent, sup_con

ROBUST = (
    "penalty:weight=.02",
    "noise:sigma=.1,consistency=1",
)
LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 2, 2])


def whole() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5))
    return network, torch.randn(8, 6), torch.randn(8, 6)


def loss_of(first: torch.Tensor, second: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return nt_xent(first, second, temperature=0.2) + sup_con(first, second, labels)


def gradients(network: nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def trained(robust: str = "") -> torch.Tensor:
    # Every loss that looks beyond its own images: pairs, labeled batch, thresholds, prototypes.
    generator = np.random.default_rng(0)
    labels = np.arange(96) % 3
    images = generator.integers(0, 256, (96, 8, 8, 1), dtype=np.uint8)
    images[labels == 1] //= 2
    recipe = TrainRecipe(
        loss="simclr+suncet+filter:class_prior=.1,confidence=.8,action=attract",
        labels=0.5,
        epochs=2,
        batch_size=32,
        labeled_batch=6,
        optimizer="sgd",
        learning_rate=0.05,
        log_norm_penalty=0.0 if robust else 0.1,
        robust=robust,
    )
    torch.manual_seed(0)
    backbone = small_convnet(channels=1, image_size=8, width=8, embedding_size=16)
    encoder = Encoder(backbone, image_shape=(1, 8, 8))
    train_encoder(encoder, Dataset("random", images, labels), recipe, progress=False)
    return torch.cat([value.detach().flatten() for value in encoder.state_dict().values()])


def worker(rank: int, port: int, place: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    found = {}
    for gradient in (True, False):
        network, first, second = whole()
        rows = slice(4 * rank, 4 * rank + 4)
        pair = network(torch.cat([first[rows], second[rows]])).chunk(2)
        first, second = (gather_embeddings(view, gradient=gradient) for view in pair)
        loss = loss_of(first, second, gather_embeddings(LABELS[rows]))
        loss.backward()
        mean = gradients(network) / 2  # as DistributedDataParallel does, which is slow to import
        dist.all_reduce(mean)
        found[gradient] = loss.detach(), mean
    try:
        gather_embeddings(torch.zeros(2 + rank, 3))
        refused = False
    except ValueError:
        refused = True
    results = {"trained": trained(), **{robust: trained(robust) for robust in ROBUST}}
    torch.save({"found": found, "refused": refused, **results}, f"{place}/{rank}.pt")
    dist.destroy_process_group()
