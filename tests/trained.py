"""Small networks trained on digits within a second, by seed."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from robustcl.core.classifier import Classifier
from robustcl.data import load_data
from robustcl.models.encoders import small_convnet

SHAPE = (1, 8, 8)


@cache
def digits(split: str) -> tuple[Tensor, Tensor]:
    data = load_data("digits", split="train" if split == "train" else "test", seed=0)
    batch = data.batch(range(len(data)))
    return batch.images, batch.labels


@cache
def trained(activation: Callable[[], nn.Module], *, seed: int = 0, epochs: int = 12) -> nn.Module:
    """A ConvNet with this activation throughout, in eval mode; the last layer gives ten scores."""
    images, labels = digits("train")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = small_convnet(channels=1, image_size=8, width=8, embedding_size=32)
        parts = [activation() if isinstance(part, nn.ReLU) else part for part in layers]
        network = nn.Sequential(*parts, activation(), nn.Linear(32, 10))
        optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
        for _ in range(epochs):
            for rows in torch.randperm(len(images)).split(64):
                loss = nn.functional.cross_entropy(network(images[rows]), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    for weight in network.parameters():
        weight.grad = None
    return network.eval()


def scored(network: nn.Module) -> Classifier:
    return Classifier.from_scores(network, image_shape=SHAPE).eval()
