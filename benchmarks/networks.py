"""Train the ten small networks of `benchmarks/ten_networks.py`.

Each trains in about a minute on one core, with a fixed seed. Weights go to a folder, never to git.

Run: python benchmarks/networks.py --cache DIR --data parquet:../shared/data/cifar10-jpeg75
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.ten_networks import CLASSES, NETWORKS, Network, build
from robustcl.certify import product
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import UnsupportedError
from robustcl.data import Dataset, load_data
from robustcl.data.views.options import DIGIT_VIEWS, ViewOptions
from robustcl.models.heads.fitting import fit_head
from robustcl.training import TrainRecipe, mixed_loss, rate, train_encoder
from robustcl.training.norm_penalty import NormProbe, estimated_layer_norm, log_norm_penalty

BATCH = 128
SHARPNESS = 10.0  # cosines times this are the logits of the cross-entropy on the sphere
MILD_VIEWS = ViewOptions(crop_scale=(0.5, 1.0), flip=0.5)  # strong ones need many epochs
TEST_IMAGES = 2000
RADIUS_IMAGES = 200


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
    return load_data(source, split=split, limit=limit, draw="first")


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
                    estimated_layer_norm(probes[-1])
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
