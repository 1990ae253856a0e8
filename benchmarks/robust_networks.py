"""Train two color networks on which AutoAttack is measured.

`adversarial` is a small ConvNet trained on perturbed images: neither weak nor fully robust.
`lipschitz` is 1-Lipschitz: patch convolutions and linear layers whose matrices stay orthogonal,
MaxMin between them, and a margin in the loss. Both train from a fixed seed on the training split
alone. Weights go to a folder, never to git.

Run: python benchmarks/robust_networks.py --cache DIR --data parquet:PATH
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from robustcl.core.classifier import Classifier
from robustcl.data import Dataset, load_data
from robustcl.models.encoders import MaxMin
from robustcl.training.optimizers import rate

CLASSES = 10
SHAPE = (3, 32, 32)
TEST_IMAGES = 1000


@dataclass(frozen=True)
class Recipe:
    """State how a network is trained.

    Args:
        eps: Linf budget of the perturbations that it is trained on; 0 for clean images.
        margin: Is subtracted from the score of the right class.
        sharpness: Factor of the scores in the cross-entropy.
        orthogonal: Whether the layers' matrices are kept orthogonal.
        epochs: Passes over the training images.
        images: Training images at most.
        batch_size: Images per step.
        learning_rate: Peak of the schedule.
        weight_decay: Decoupled weight decay of AdamW.
    """

    eps: float = 0.0
    margin: float = 0.0
    sharpness: float = 1.0
    orthogonal: bool = False
    epochs: int = 20
    images: int = 49_000
    batch_size: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4


def adversarial_layers() -> nn.Sequential:
    # Three convolutions of stride 2.
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 128, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128 * 4 * 4, CLASSES),
    )


def lipschitz_layers() -> nn.Sequential:
    # Kernels as large as the stride: orthogonal matrices on patches that do not overlap.
    network = nn.Sequential(
        nn.Conv2d(3, 64, 4, stride=4),
        MaxMin(),
        nn.Conv2d(64, 128, 2, stride=2),
        MaxMin(),
        nn.Conv2d(128, 256, 2, stride=2),
        MaxMin(),
        nn.Flatten(),
        nn.Linear(1024, 512),
        MaxMin(),
        nn.Linear(512, CLASSES),
    )
    for layer in matrices(network):
        nn.init.orthogonal_(layer.weight)
    return network


NETWORKS: dict[str, tuple[Callable[[], nn.Sequential], Recipe]] = {
    "adversarial": (adversarial_layers, Recipe(eps=8 / 255)),
    "lipschitz": (
        lipschitz_layers,
        # Of five pairs of margin and sharpness, the one with which PGD at L2 0.5 left most of 1,000
        # training images that were held out.
        Recipe(margin=1.0, sharpness=4.0, orthogonal=True, batch_size=256, weight_decay=0.0),
    ),
}


def load_or_train(name: str, *, data: str, cache: str | Path) -> Classifier:
    """Read a trained network from the cache, or train it and write it there.

    Args:
        name: A key of `NETWORKS`.
        data: Specification of 32x32 RGB images with 10 classes.
        cache: Folder of the weights; made where it is missing. Weights of another definition of
            the network are trained anew.

    Returns:
        The classifier, on the CPU and in eval mode.
    """
    layers, recipe = NETWORKS[name]
    torch.manual_seed(0)
    network = layers()
    classifier = Classifier.from_scores(network, image_shape=SHAPE).eval()
    place = Path(cache) / f"{name}.safetensors"
    stated = json.dumps({**asdict(recipe), "network": str(network)}, sort_keys=True)
    if place.exists() and _recipe_of(place) == stated:
        network.load_state_dict(load_file(place))
        return classifier
    _train(network, load_data(data, split="train", limit=recipe.images, draw="first"), recipe)
    place.parent.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(tensors, place, metadata={"recipe": stated})
    return classifier.eval()


def matrices(network: nn.Sequential) -> list[nn.Conv2d | nn.Linear]:
    # The layers with a matrix: a convolution's acts on patches.
    return [layer for layer in network if isinstance(layer, nn.Conv2d | nn.Linear)]


def _train(network: nn.Sequential, dataset: Dataset, recipe: Recipe) -> None:
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=recipe.weight_decay)
    images, labels = dataset.tensor(), torch.from_numpy(dataset.labels)
    per_epoch = len(images) // recipe.batch_size
    network.train()
    for epoch in range(recipe.epochs):
        order = torch.randperm(len(images), generator=generator)
        for step, rows in enumerate(
            order[: per_epoch * recipe.batch_size].split(recipe.batch_size)
        ):
            done = (epoch + step / per_epoch) / recipe.epochs
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * rate(done, 0.1)
            batch = _flipped(images[rows].float() / 255.0, generator)
            if recipe.eps:
                batch = _perturbed(network, batch, labels[rows], recipe, generator)
            loss = _loss(network(batch), labels[rows], recipe)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            if recipe.orthogonal:
                _orthogonalize(network, steps=1)
    if recipe.orthogonal:
        _orthogonalize(network, steps=10)
    network.eval()


def _loss(scores: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    own = functional.one_hot(labels, CLASSES)
    return functional.cross_entropy(recipe.sharpness * (scores - recipe.margin * own), labels)


def _perturbed(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    generator: torch.Generator,
) -> Tensor:
    # One signed step of 1.25 eps from a random point: Wong et al., Fast is better than free, 2020.
    start = recipe.eps * (2.0 * torch.rand(images.shape, generator=generator) - 1.0)
    points = (images + start).clamp(0.0, 1.0).requires_grad_()
    gradient = torch.autograd.grad(_loss(network(points), labels, recipe), points)[0]
    moved = points.detach() + 1.25 * recipe.eps * gradient.sign()
    return torch.clamp(moved, images - recipe.eps, images + recipe.eps).clamp(0.0, 1.0)


def _orthogonalize(network: nn.Sequential, *, steps: int) -> None:
    # Newton and Schulz: W (3 - W^T W) / 2 has singular values nearer to 1.
    with torch.no_grad():
        for layer in matrices(network):
            flat = layer.weight.flatten(1)
            wide = flat if flat.shape[0] <= flat.shape[1] else flat.T
            for _ in range(steps):
                wide = 1.5 * wide - 0.5 * (wide @ wide.T) @ wide
            flat = wide if flat.shape[0] <= flat.shape[1] else wide.T
            layer.weight.copy_(flat.reshape(layer.weight.shape))


def _flipped(images: Tensor, generator: torch.Generator) -> Tensor:
    chosen = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(chosen, images.flip(3), images)


def _recipe_of(place: Path) -> str:
    with safe_open(place, "pt") as file:
        return (file.metadata() or {}).get("recipe", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", required=True, help="folder of the weights")
    parser.add_argument("--data", required=True, help="32x32 RGB images, e.g. parquet:PATH")
    parser.add_argument("--only", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    options = parser.parse_args()
    for name in options.only:
        begun = time.process_time()
        classifier = load_or_train(name, data=options.data, cache=options.cache)
        seconds = time.process_time() - begun
        batch = next(iter(load_data(options.data, split="test").batches(TEST_IMAGES)))
        with torch.no_grad():
            right = float((classifier(batch.images).argmax(1) == batch.labels).double().mean())
        found = {"name": name, "test_accuracy": round(right, 4), "cpu_seconds": round(seconds, 1)}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
