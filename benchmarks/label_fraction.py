"""What a little label information does to contrastive training: arms, label fractions and seeds.

SimCLR against + SuNCEt, SupCon, the false-negative filter and semantic targets, with 0, 1, 10 and
100 % of the labels. All arms have the same network, images, views, batches, optimizer and epochs;
temperatures are those of the papers and every weight is 1: nothing was tuned. One JSON line per
run, with one entry per epoch; a run that is already in the file is not repeated, so the study goes
on where it was cut. `label_fraction_summary.py` turns the lines into verdicts.

kNN accuracy (k = 20) and linear accuracy are on test images. The bank of kNN has the labels of all
training images, also where the losses saw few. 'linear@0.1' is a logistic regression on the
embeddings of the 10 % that this seed labels, and so on. The images are re-encoded as JPEG of
quality 75, so figures are not comparable with the literature to the decimal.

Run: OMP_NUM_THREADS=1 python benchmarks/label_fraction.py --data parquet:DIR --out FILE.jsonl
     (--profile cpu: 54 runs, about 45 minutes on one free core; gpu: ResNet-18, all images)
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.provenance import provenance, record
from robustcl.core.classifier import Encoder
from robustcl.core.modules import eval_mode
from robustcl.data import Dataset, label_subset, load_data
from robustcl.data.views import COLOR_VIEWS
from robustcl.models.encoders import cifar_resnet18
from robustcl.models.heads import knn, linear
from robustcl.models.heads.fitting import embed_images
from robustcl.training import Files, TrainRecipe, train_encoder

FRACTIONS = (0.01, 0.1, 1.0)
NEIGHBORS = 20
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)


@dataclass(frozen=True)
class Arm:
    """State what is trained.

    Args:
        loss: As in `TrainRecipe`.
        labels: Fractions of labels it is trained with.
        targets: As in `TrainRecipe`.
    """

    loss: str
    labels: tuple[float, ...] = FRACTIONS
    targets: str = "simplex"


ARMS: dict[str, Arm] = {
    "simclr": Arm("simclr:temperature=0.5", (0.0,)),
    # What SupCon is without labels: its temperature alone changes much.
    "simclr tau=0.1": Arm("simclr:temperature=0.1", (0.0,)),
    "filter": Arm("filter:temperature=0.5,class_prior=0.1,action=drop", (0.0,)),
    "suncet": Arm("simclr:temperature=0.5+suncet:temperature=0.1"),
    "supcon": Arm("supcon:temperature=0.1"),
    "filter+labels": Arm("filter:temperature=0.5,class_prior=0.1,action=attract,confidence=0.9"),
    "semantic simplex": Arm("simclr:temperature=0.5+semantic:temperature=0.1"),
    "semantic taxonomy": Arm("simclr:temperature=0.5+semantic:temperature=0.1", targets="taxonomy"),
}


def small_network() -> nn.Module:
    """Build three strided convolutions with BatchNorm and a linear layer.

    Returns:
        Images (B, 3, 32, 32) to (B, 64).
    """
    layers: list[nn.Module] = []
    for before, after in ((3, 16), (16, 32), (32, 64)):
        layers.append(nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False))
        layers += [nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 16, 64))


@dataclass(frozen=True)
class Profile:
    """State the size of the study.

    Args:
        network: Makes the backbone, with fresh weights.
        images: Training images.
        test_images: Test images.
        recipe: What all arms share.
        every: Epochs between two kNN accuracies.
        seeds: Seeds of weights, order, views and the choice of labels.
    """

    network: Callable[[], nn.Module]
    images: int
    test_images: int
    recipe: TrainRecipe
    every: int
    seeds: tuple[int, ...] = (0, 1, 2)


PROFILES = {
    "cpu": Profile(
        small_network,
        images=5000,
        test_images=2000,
        recipe=TrainRecipe(epochs=30, batch_size=128, learning_rate=2e-3, views=COLOR_VIEWS),
        every=2,
    ),
    "gpu": Profile(
        cifar_resnet18,
        images=50_000,
        test_images=10_000,
        recipe=TrainRecipe(
            epochs=100,
            batch_size=512,
            optimizer="sgd",
            learning_rate=0.06,
            weight_decay=5e-4,
            views=COLOR_VIEWS,
            autocast=True,
        ),
        every=5,
    ),
}


def run_one(
    name: str,
    labels: float,
    seed: int,
    profile: Profile,
    data: tuple[Dataset, Dataset],
    device: str,
) -> dict:
    """Train one arm with one fraction and one seed, and measure along the way.

    Args:
        name: A key of `ARMS`.
        labels: Fraction of labels.
        seed: Of everything.
        profile: The size.
        data: Training and test images.
        device: cpu, cuda, ...

    Returns:
        Plain values.
    """
    train, test = data
    arm = ARMS[name]
    recipe = replace(
        profile.recipe,
        loss=arm.loss,
        labels=labels,
        targets=arm.targets,
        seed=seed,
        label_seed=seed,
    )
    torch.manual_seed(seed)
    encoder = Encoder(profile.network(), image_shape=train.image_shape, mean=MEAN, std=STD)
    begun = time.process_time()

    def observe(encoder: Encoder, epoch: int) -> dict[str, float]:
        row = {"cpu_seconds": time.process_time() - begun}
        if epoch % profile.every == 0 or epoch == recipe.epochs:
            with eval_mode(encoder):
                bank, queries = (_points(encoder, part, device) for part in data)
            encoder.to(device)
            row["knn_test"] = _knn(bank, queries, train, test)
            if epoch == recipe.epochs:
                row |= _linear(bank, queries, data, seed)
        return row

    files = Files(measure_every=1)
    log = train_encoder(
        encoder, train, recipe, device=device, files=files, progress=False, observe=observe
    )
    return {
        "arm": name,
        "labels": labels,
        "seed": seed,
        "recipe": recipe.to_dict(),
        "images": len(train),
        "test_images": len(test),
        "seconds": log.seconds,
        "cpu_seconds": time.process_time() - begun,
        "rows": [{key: round(value, 5) for key, value in row.items()} for row in log.rows],
    }


def _points(encoder: Encoder, part: Dataset, device: str) -> Tensor:
    return embed_images(encoder, part, batch_size=500, device=device)


def _knn(bank: Tensor, queries: Tensor, train: Dataset, test: Dataset) -> float:
    labels = torch.from_numpy(train.labels)
    head = knn(bank, labels, num_classes=train.num_classes, k=NEIGHBORS)
    return _accuracy(head, queries, test)


def _linear(
    bank: Tensor, queries: Tensor, data: tuple[Dataset, Dataset], seed: int
) -> dict[str, float]:
    train, test = data
    classes, found = train.num_classes, {}
    for share in FRACTIONS:
        rows = label_subset(train.labels, share, num_classes=classes, seed=seed)
        head = linear(bank[rows], torch.from_numpy(train.labels[rows]), num_classes=classes)
        found[f"linear@{share:g}"] = _accuracy(head, queries, test)
    return found


def _accuracy(head: nn.Module, queries: Tensor, test: Dataset) -> float:
    guesses = head(nn.functional.normalize(queries, dim=1)).argmax(dim=1)
    return float((guesses == torch.from_numpy(test.labels)).float().mean())


def done_already(place: Path | None) -> set[tuple[str, float, int, str]]:
    """Read which runs a file holds.

    Args:
        place: The file.

    Returns:
        Arm, fraction, seed and profile of each.
    """
    if place is None or not place.exists():
        return set()
    lines = [json.loads(line) for line in place.read_text().splitlines()]
    return {(line["arm"], line["labels"], line["seed"], line["profile"]) for line in lines}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--profile", choices=[*PROFILES], default="cpu")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--arms", nargs="+", choices=[*ARMS], default=[*ARMS])
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--epochs", type=int, help="a miniature, to try the script")
    options = parser.parse_args()
    profile, name = PROFILES[options.profile], options.profile
    if options.epochs:
        name = f"{name}, {options.epochs} epochs"
        profile = replace(profile, recipe=replace(profile.recipe, epochs=options.epochs))
    data = (
        load_data(options.data, split="train", limit=profile.images, draw="first"),
        load_data(options.data, split="test", limit=profile.test_images, draw="first"),
    )
    skip = done_already(options.out)
    # Seed by seed, so that an interrupted study has every arm.
    for seed in options.seeds or profile.seeds:
        for arm in options.arms:
            for labels in ARMS[arm].labels:
                if (arm, labels, seed, name) in skip:
                    continue
                result = run_one(arm, labels, seed, profile, data, options.device)
                origin = provenance(hidden=(options.data, str(options.out)))
                record({**result, "profile": name, **origin}, options.out)


if __name__ == "__main__":
    main()
