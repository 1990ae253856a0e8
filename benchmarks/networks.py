"""Train ten small networks on which certificates are compared.

They differ in family (dense, convolutional, residual with BatchNorm, GELU, MaxMin), depth, head
(prototypes, linear probe with offsets, scores as they are), loss and regularization. Each trains
in about a minute on one core, with a fixed seed. Weights go to a folder, never to git. All is in
one file, above the usual length, so that it runs as a script.

Run: python benchmarks/networks.py --cache DIR --data parquet:../shared/data/cifar10-jpeg75
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from certify import product
from robustcl import UnsupportedError
from robustcl.classifier import Classifier, Encoder
from robustcl.data import Dataset, load_data
from robustcl.encoders import MaxMin, small_convnet
from robustcl.fit_head import fit_head
from robustcl.heads import LinearHead, PrototypeHead
from robustcl.training import TrainRecipe, mixed_loss, rate, train_encoder
from robustcl.training.log_norm_penalty import NormProbe, layer_norm, log_norm_penalty
from robustcl.views.simclr_views import DIGIT_VIEWS, ViewOptions

CLASSES = 10
BATCH = 128
SHARPNESS = 10.0  # cosines times this are the logits of the cross-entropy on the sphere
MILD_VIEWS = ViewOptions(crop_scale=(0.5, 1.0), flip=0.5)  # strong ones need many epochs
TEST_IMAGES = 2000
RADIUS_IMAGES = 200
SHAPES = {"digits": (1, 8, 8), "color": (3, 32, 32)}


class Residual(nn.Module):
    """relu(shortcut(x) + conv-bn-relu-conv-bn(x))."""

    def __init__(self, channels: int, out: int, *, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *_convolution(channels, out, nn.ReLU, stride=stride, normalized=True),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, features: Tensor) -> Tensor:
        """Return the next features."""
        return torch.relu(self.shortcut(features) + self.branch(features))


@dataclass(frozen=True)
class Network:
    """State how a network is built and trained.

    Args:
        description: One line for tables.
        backbone: Makes the layers, with fresh weights.
        data: 'digits' (8x8 gray) or 'color' (32x32 RGB).
        head: 'scores': the network's outputs as they are; 'prototype' or 'linear': a head fitted
            on its embedding on the unit sphere.
        loss: 'cross_entropy', or 'contrastive' (NT-Xent and SupCon).
        epochs: Passes over the training images.
        images: Training images at most.
        learning_rate: Peak of the schedule.
        weight_decay: Decoupled weight decay of AdamW.
        penalty: Weight of log(product of layer norms) - log(mean |h|).
        mean: Input mean, all channels.
        std: Input standard deviation, all channels.
    """

    description: str
    backbone: Callable[[], nn.Sequential]
    data: Literal["digits", "color"]
    head: Literal["scores", "prototype", "linear"]
    loss: Literal["cross_entropy", "contrastive"] = "cross_entropy"
    epochs: int = 30
    images: int = 20_000
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    penalty: float = 0.0
    mean: float = 0.0
    std: float = 1.0


def _dense(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _convolution(
    channels: int,
    out: int,
    activation: Callable[[], nn.Module],
    *,
    stride: int = 1,
    normalized: bool = False,
) -> list[nn.Module]:
    layer = nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=not normalized)
    return [layer, *([nn.BatchNorm2d(out)] if normalized else []), activation()]


def _chain(
    *plan: tuple[int, int],
    outputs: int,
    channels: int = 3,
    size: int = 32,
    activation: Callable[[], nn.Module] = nn.ReLU,
    normalized: bool = False,
) -> nn.Sequential:
    # Convolutions of (channels, stride), then one linear layer on all that is left.
    layers: list[nn.Module] = []
    for out, stride in plan:
        layers += _convolution(channels, out, activation, stride=stride, normalized=normalized)
        channels, size = out, (size + stride - 1) // stride
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * size * size, outputs))


def _orthogonal(network: nn.Sequential) -> nn.Sequential:
    for layer in network:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.orthogonal_(layer.weight)
    return network


def _resnet() -> nn.Sequential:
    return nn.Sequential(
        *_convolution(3, 16, nn.ReLU, stride=2, normalized=True),
        Residual(16, 16, stride=1),
        Residual(16, 32, stride=2),
        Residual(32, 32, stride=2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 32),
    )


DEEP = ((16, 2), (16, 1), (16, 1), (32, 2), (32, 1), (32, 1), (32, 1), (32, 2), (32, 1))
SHALLOW = ((16, 2), (32, 2), (32, 2))
NETWORKS: dict[str, Network] = {
    "digits-dense2": Network(
        "2 linear layers, 32 ReLU; scores, cross-entropy, weight decay",
        lambda: _dense(64, 32, CLASSES),
        "digits",
        "scores",
        weight_decay=1e-2,
        epochs=60,
    ),
    "digits-dense3": Network(
        "3 linear layers, 32 + 24 ReLU; prototypes, SupCon + NT-Xent",
        lambda: _dense(64, 32, 24, 16),
        "digits",
        "prototype",
        "contrastive",
        epochs=100,
    ),
    "digits-conv2": Network(
        "2 convolutions and a linear layer, ReLU; linear probe, SupCon + NT-Xent, norm penalty",
        lambda: small_convnet(channels=1, image_size=8, width=16, embedding_size=32),
        "digits",
        "linear",
        "contrastive",
        epochs=100,
        penalty=0.2,
    ),
    "digits-maxmin": Network(
        "2 convolutions and a linear layer, MaxMin; prototypes, cross-entropy, norm penalty",
        lambda: _orthogonal(
            _chain((16, 1), (16, 2), outputs=32, channels=1, size=8, activation=MaxMin)
        ),
        "digits",
        "prototype",
        epochs=60,
        penalty=0.15,
    ),
    "color-dense3": Network(
        "3 linear layers, 128 + 64 ReLU; scores, cross-entropy, weight decay, norm penalty",
        lambda: _dense(3072, 128, 64, CLASSES),
        "color",
        "scores",
        epochs=10,
        learning_rate=1e-3,
        weight_decay=1e-2,
        penalty=0.02,
        images=50_000,
    ),
    "color-conv4": Network(
        "3 convolutions and a linear layer, ReLU; prototypes, SupCon + NT-Xent, norm penalty",
        lambda: _chain(*SHALLOW, outputs=64),
        "color",
        "prototype",
        "contrastive",
        epochs=11,
        penalty=0.02,
    ),
    "color-conv10": Network(
        "9 convolutions with BatchNorm and a linear layer, ReLU; scores, cross-entropy",
        lambda: _chain(*DEEP, outputs=CLASSES, normalized=True),
        "color",
        "scores",
        epochs=4,
        weight_decay=1e-2,
        mean=0.47,
        std=0.25,
        images=50_000,
    ),
    "color-resnet": Network(
        "ResNet of 3 blocks with BatchNorm, ReLU; prototypes, cross-entropy on the sphere",
        _resnet,
        "color",
        "prototype",
        epochs=4,
        weight_decay=1e-2,
        mean=0.47,
        std=0.25,
        images=50_000,
    ),
    "color-gelu4": Network(
        "3 convolutions and a linear layer, GELU; linear probe, cross-entropy, weight decay",
        lambda: _chain(*SHALLOW, outputs=32, activation=nn.GELU),
        "color",
        "linear",
        epochs=10,
        weight_decay=0.1,
        images=50_000,
    ),
    "color-maxmin4": Network(
        "3 convolutions and a linear layer, MaxMin; scores, cross-entropy, norm penalty",
        lambda: _orthogonal(_chain(*SHALLOW, outputs=CLASSES, activation=MaxMin)),
        "color",
        "scores",
        epochs=6,
        penalty=0.1,
        images=50_000,
    ),
}


def build(name: str, *, seed: int = 0) -> Classifier:
    """Build a network with fresh weights and, where it has one, a random head.

    Args:
        name: A key of `NETWORKS`.
        seed: Seed of the weights.

    Returns:
        The classifier, in eval mode.
    """
    network = NETWORKS[name]
    torch.manual_seed(seed)
    shape, mean, std = SHAPES[network.data], (network.mean,), (network.std,)
    backbone = network.backbone()
    if network.head == "scores":
        return Classifier.from_scores(backbone, image_shape=shape, mean=mean, std=std).eval()
    encoder = Encoder(backbone, image_shape=shape, mean=mean, std=std)
    last = backbone[-1]
    assert isinstance(last, nn.Linear)
    weight = torch.randn(CLASSES, last.out_features)
    linear = network.head == "linear"
    head = LinearHead(weight, torch.randn(CLASSES)) if linear else PrototypeHead(weight)
    return Classifier(encoder, head).eval()


def load_or_train(name: str, *, data: str, cache: str | Path) -> Classifier:
    """Read a trained network from the cache, or train it and write it there.

    Args:
        name: A key of `NETWORKS`.
        data: Specification of 32x32 RGB images with 10 classes, for the color networks; those of
            digits ignore it.
        cache: Folder of the weights, one per data set; made where it is missing. Weights of
            another definition of the network are trained anew.

    Returns:
        The classifier, on the CPU and in eval mode.
    """
    place = Path(cache) / f"{name}.safetensors"
    classifier = build(name)
    if place.exists() and _recipe_of(place) == _recipe(name):
        classifier.load_state_dict(load_file(place))
        return classifier
    classifier = train(name, split_of(name, data, "train", NETWORKS[name].images))
    place.parent.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.contiguous() for key, value in classifier.state_dict().items()}
    save_file(tensors, place, metadata={"recipe": _recipe(name)})
    return classifier


def split_of(name: str, data: str, split: str, limit: int) -> Dataset:
    # The first images that a network is trained or tested on.
    source = "digits" if NETWORKS[name].data == "digits" else data
    return load_data(source, split=split, limit=limit)


def train(name: str, dataset: Dataset) -> Classifier:
    # From a fixed seed; the classifier is in eval mode.
    network, classifier = NETWORKS[name], build(name)
    encoder = classifier.encoder
    if network.loss == "contrastive":
        recipe = TrainRecipe(
            epochs=network.epochs,
            batch_size=256,
            learning_rate=network.learning_rate,
            weight_decay=network.weight_decay,
            loss=mixed_loss(0.8),
            log_norm_penalty=network.penalty,
            views=MILD_VIEWS if network.data == "color" else DIGIT_VIEWS,
        )
        train_encoder(encoder, dataset, recipe, progress=False)
    else:
        _cross_entropy(encoder, dataset, network)
    if network.head == "scores":
        return classifier.eval()
    return fit_head(encoder, dataset, kind=network.head)


def _cross_entropy(encoder: Encoder, dataset: Dataset, network: Network) -> None:
    generator = torch.Generator().manual_seed(0)
    readout = _readout(encoder, network)
    probes = _probes(encoder, generator) if network.penalty else ()
    parameters = [*encoder.parameters(), *readout.parameters()]
    optimizer = torch.optim.AdamW(parameters, weight_decay=network.weight_decay)
    images, labels = dataset.tensor(), torch.from_numpy(dataset.labels)
    per_epoch = len(images) // BATCH
    encoder.train()
    for epoch in range(network.epochs):
        order = torch.randperm(len(images), generator=generator)
        for step, rows in enumerate(order[: per_epoch * BATCH].split(BATCH)):
            done = (epoch + step / per_epoch) / network.epochs
            for group in optimizer.param_groups:
                group["lr"] = network.learning_rate * rate(done, 0.1)
            raw = encoder(_flipped(images[rows].float() / 255.0, network, generator))
            loss = functional.cross_entropy(readout(raw), labels[rows])
            if probes:
                loss = loss + network.penalty * log_norm_penalty(raw, probes)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    encoder.eval()


class _Sphere(nn.Module):
    """Scaled linear scores of h / |h|, from which the fitted head takes over after training."""

    def __init__(self, width: int, *, offsets: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(width, CLASSES, bias=offsets)

    def forward(self, raw: Tensor) -> Tensor:
        """Return (B, K) logits."""
        weight = functional.normalize(self.linear.weight, dim=1)
        points = functional.normalize(raw, dim=1)
        return SHARPNESS * functional.linear(points, weight, self.linear.bias)


def _readout(encoder: Encoder, network: Network) -> nn.Module:
    if network.head == "scores":
        return nn.Identity()
    return _Sphere(encoder.backbone[-1].out_features, offsets=network.head == "linear")  # pyright: ignore


def _probes(encoder: Encoder, generator: torch.Generator) -> tuple[NormProbe, ...]:
    # As `norm_probes`, but also through layers such as MaxMin; the penalty is only a regularizer.
    probes, value = [], torch.zeros(1, *encoder.image_shape)
    with torch.no_grad():
        for layer in encoder.backbone.children():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                guess = torch.randn(value.shape, generator=generator)
                probes.append(NormProbe(layer, guess / guess.norm()))
                for _ in range(20):
                    layer_norm(probes[-1])
            value = layer(value)
    return tuple(probes)


def _flipped(images: Tensor, network: Network, generator: torch.Generator) -> Tensor:
    if network.data == "digits":
        return images
    chosen = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    mirrored = torch.where(chosen, images.flip(3), images)
    return mirrored.contiguous(memory_format=torch.channels_last)


def _recipe(name: str) -> str:
    # What decides the weights; the backbone as torch prints it.
    options = {**vars(NETWORKS[name]), "backbone": str(NETWORKS[name].backbone())}
    del options["description"]
    return json.dumps(options, sort_keys=True)


def _recipe_of(place: Path) -> str:
    with safe_open(place, "pt") as file:
        return (file.metadata() or {}).get("recipe", "")


def _row(name: str, data: str, cache: str) -> dict[str, object]:
    begun = time.perf_counter()
    classifier = load_or_train(name, data=data, cache=cache)
    seconds = time.perf_counter() - begun
    test = split_of(name, data, "test", TEST_IMAGES)
    batch = test.batch(range(len(test)))
    with torch.no_grad():
        right = float((classifier(batch.images).argmax(1) == batch.labels).double().mean())
    try:
        radius = product(classifier, batch.images[:RADIUS_IMAGES]).radius.median().item()
    except UnsupportedError as error:
        print(f"{name}: {error}")
        radius = None
    kinds = (nn.Conv2d, nn.Linear)
    return {
        "name": name,
        "description": NETWORKS[name].description,
        "parameters": sum(weight.numel() for weight in classifier.parameters()),
        "layers": sum(isinstance(part, kinds) for part in classifier.modules()),
        "test_accuracy": round(right, 4),
        "seconds": round(seconds, 1),
        "median_product_radius": radius,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", required=True, help="folder of the weights")
    parser.add_argument("--data", required=True, help="32x32 RGB images, e.g. parquet:PATH")
    parser.add_argument("--only", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    options = parser.parse_args()
    for name in options.only:
        print(json.dumps(_row(name, options.data, options.cache)), flush=True)


if __name__ == "__main__":
    main()
